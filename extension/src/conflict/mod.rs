//! Conflicts as they are recorded and counted. Who wins is decided by `spock_core::merge`.
