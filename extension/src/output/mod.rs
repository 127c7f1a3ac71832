//! Publisher: decoded WAL to messages. Never imports `apply`, `conflict`, `sync` or `worker`; the two sides meet only in `spock_core::wire`.
