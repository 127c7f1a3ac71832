//! Processes: supervisor, manager, apply worker; the shared table of who runs.
