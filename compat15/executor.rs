//! Executor and table access on PostgreSQL 15.
