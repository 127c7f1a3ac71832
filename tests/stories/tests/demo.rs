//! What `cargo xtask demo` shows: the manual's and the README's first command.

use spock_mesh::demo::{self, DemoOptions};
use spock_mesh::story::{must, prefix_under_test, server_under_test};

#[test]
fn the_demo_ends_with_equal_nodes_and_says_so() {
    let prefix = prefix_under_test().root().to_path_buf();
    let options =
        DemoOptions { prefix, nodes: 2, seconds: 3, keep: false, server_kind: server_under_test(), progress: &|_| {} };
    let report = must(demo::run(&options));
    let text = report.to_string();
    assert!(report.good(), "{text}");
    assert!(report.nodes.iter().map(|node| node.transactions).sum::<u64>() > 0, "nothing was written: {text}");
    for shown in ["every committed transaction on every node once: yes", "nodes equal: yes"] {
        assert!(text.contains(shown), "{shown:?} in {text}");
    }
}
