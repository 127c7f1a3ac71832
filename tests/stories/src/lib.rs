//! Scenarios on real servers, one behaviour a test: see `tests/`. The verbs are in spock-mesh.
//!
//! `SPOCK_TEST_PREFIX` names the installed server, `SPOCK_TEST_SERVER` says whether it is `patched` or `stock`;
//! `cargo xtask test` sets both. A story that cannot run on that server prints one line `SKIPPED name: reason`.
