//! Spock: multi-master replication for PostgreSQL.
