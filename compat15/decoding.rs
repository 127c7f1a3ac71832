//! Output plugin and logical decoding on PostgreSQL 15.
