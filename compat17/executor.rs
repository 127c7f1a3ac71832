//! Executor and table access on PostgreSQL 17.
