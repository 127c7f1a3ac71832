//! SQL in, expected output out: one test for each file of `tests/regress/sql`.

use std::path::PathBuf;

use spock_mesh::regress;
use spock_mesh::story::{must, prefix_under_test};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../regress")
}

macro_rules! scripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                must(regress::check(&prefix_under_test(), &directory(), stringify!($name)));
            }
        )*

        #[test]
        fn every_script_is_run() {
            let mut listed = vec![$(stringify!($name)),*];
            listed.sort_unstable();
            assert_eq!(must(regress::names(&directory())), listed, "tests/stories/tests/regress.rs lists the scripts");
        }
    };
}

scripts! {
    connection_options
    ddl
    delta
    dependency
    digest
    failover
    install
    membership
    node
    options
    pause
    repair_mode
    readonly
    replication_set
    roles
    security_label
    sequences
    settings
    slots
    subscription
    subscription_stats
    surface
    table_data
}
