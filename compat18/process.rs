//! Processes, latches, signals and shared memory on PostgreSQL 18.
