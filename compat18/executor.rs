//! Executor and table access on PostgreSQL 18.
