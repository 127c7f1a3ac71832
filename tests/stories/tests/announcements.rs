//! What nodes announce of how far they are, so that tombstones can go: only while somebody asks, only to who understands it.
//! The point `ANNOUNCEMENT_PROBE` makes a manager take one sample as if it held tombstones, and log what becomes of it. No story
//! removes a key: then managers ask by themselves, at a moment of their own.

use spock_mesh::story::must;
use spock_mesh::wait::{Deadline, Probe, wait_until};
use spock_mesh::{Mesh, Node};

/// Ids that follow from the names.
const N3: &str = "9057";
const N2: &str = "26863";

/// Takes a sample on `node` until it is dropped from the configuration again.
struct Sampled<'n> {
    node: &'n Node,
    log_from: usize,
}

impl<'n> Sampled<'n> {
    fn on(node: &'n Node) -> Self {
        let sampled = Self { node, log_from: node.log().len() };
        must(node.set("spock.fault_point", "ANNOUNCEMENT_PROBE"));
        must(node.reload());
        sampled.comes_to_say("sampled");
        sampled
    }

    fn has_said(&self, what: &str) -> bool {
        self.node.log()[self.log_from..].contains(&format!("announcement probe: {what}"))
    }

    #[track_caller]
    fn comes_to_say(&self, what: &str) {
        let name = self.node.name();
        must(wait_until(Deadline::story(), &format!("the sample on {name} to be {what:?}"), || {
            Ok(if self.has_said(what) {
                Probe::Ready(())
            } else {
                Probe::NotYet(self.node.log()[self.log_from..].to_owned())
            })
        }));
    }

    #[track_caller]
    fn end(self) {
        must(self.node.unset("spock.fault_point"));
        must(self.node.reload());
        self.comes_to_say("off");
    }
}

/// A slot that nobody else reads: every announcement since it was made can be seen in it.
fn watch(node: &Node) {
    node.sql("select pg_create_logical_replication_slot('watch', 'spock_output')");
}

/// What our plugin sends a client of these versions for everything since [`watch`].
fn sent(node: &Node, max_proto_version: u32, more: &str) -> String {
    format!(
        "pg_logical_slot_peek_binary_changes('watch', null, null, 'expected_encoding', '{}', 'min_proto_version', '4',
         'max_proto_version', '{max_proto_version}', 'startup_params_format', '1', 'spock_version_num', '70000',
         'spock.replication_set_names', 'default' {more})",
        node.query_one("select getdatabaseencoding()")
    )
}

/// Announcements in the WAL of `node` since [`watch`]. Each is a batch of its own: position, length, type byte.
fn announced(node: &Node) -> u32 {
    let stream = sent(node, 6, ", 'spock.announcements', '1'");
    let count =
        node.query_one(&format!("select count(*) from {stream} where length(data) > 12 and get_byte(data, 12) = 65"));
    count.parse().expect("a number")
}

#[track_caller]
fn comes_to_announce(node: &Node) {
    must(wait_until(Deadline::story(), &format!("{} to announce", node.name()), || {
        let count = announced(node);
        Ok(if count > 0 { Probe::Ready(()) } else { Probe::NotYet(count.to_string()) })
    }));
}

fn three() -> Mesh {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table("t (id int primary key, what text)");
    mesh.nodes().iter().for_each(watch);
    mesh.node("n1").sql("insert into t select n, 'row' from generate_series(1, 10) n");
    mesh.settle();
    mesh
}

#[test]
fn a_sample_is_stable_once_all_others_have_announced_it_and_nothing_is_written_before_or_after() {
    let mesh = three();
    let n1 = mesh.node("n1");
    n1.sql("update t set what = 'new' where id = 1");
    mesh.node("n2").sql("update t set what = 'new' where id = 2");
    mesh.settle();
    for node in mesh.nodes() {
        assert_eq!(announced(node), 0, "{}: nobody holds tombstones", node.name());
    }
    let sampled = Sampled::on(n1);
    sampled.comes_to_say("stable");
    assert!(!sampled.has_said("unknown"), "{}", n1.log());
    for node in mesh.nodes() {
        assert!(announced(node) > 0, "{}: one asks, all answer", node.name());
    }
    sampled.end();
    // A question of another node makes every manager look again: what n1 asked for is answered, and nobody repeats it.
    let before = announced(n1);
    Sampled::on(mesh.node("n2")).comes_to_say("stable");
    assert!(announced(n1) > before, "n1 answers n2");
    mesh.settle();
    let asked_by_n2 = mesh.nodes().iter().map(announced).collect::<Vec<_>>();
    assert!(asked_by_n2.iter().all(|count| *count <= 12), "a few announcements for each question: {asked_by_n2:?}");
    mesh.same_everywhere("t");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn nothing_is_stable_while_a_node_is_away() {
    let mesh = three();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.kill();
    n1.sql("update t set what = 'new' where id = 1");
    let sampled = Sampled::on(n1);
    sampled.comes_to_say("waits for node");
    comes_to_announce(mesh.node("n3"));
    assert!(!sampled.has_said("stable"), "n2 may have written something older");
    n2.start_again();
    sampled.comes_to_say("stable");
    mesh.settle();
    mesh.same_everywhere("t");
}

#[test]
fn a_node_that_is_not_read_makes_every_verdict_unknown() {
    let mesh = three();
    let n1 = mesh.node("n1");
    mesh.cut("n1", "n3");
    n1.sql("update t set what = 'new' where id = 1");
    let sampled = Sampled::on(n1);
    sampled.comes_to_say(&format!("unknown because of node {N3}: a subscription to it is disabled"));
    mesh.heal("n1", "n3");
    sampled.end();
    Sampled::on(n1).comes_to_say("stable");
    mesh.settle();
    mesh.same_everywhere("t");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn where_changes_are_forwarded_announcements_prove_nothing() {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table("t (id int primary key, what text)");
    mesh.subscribe("n2", "n1", "").subscribe("n1", "n2", ", forward_origins := '{all}'");
    let sampled = Sampled::on(mesh.node("n1"));
    sampled.comes_to_say(&format!("unknown because of node {N2}: a subscription to it takes forwarded changes"));
    mesh.logs_hold_nothing_unexpected(&[]);
}

/// The one that will never say how far it is comes before the other in the order of ids, and after it.
#[test]
fn who_cannot_say_how_far_it_is_does_not_hide_who_is_away() {
    for (forwarding, away, id) in [("n2", "n3", N3), ("n3", "n2", N2)] {
        let mesh = three();
        let n1 = mesh.node("n1");
        mesh.cut("n1", away);
        n1.sql(&format!("select spock.sub_alter_options('sub_{forwarding}_n1', '{{\"forward_origins\": [\"all\"]}}')"));
        n1.sql("update t set what = 'new' where id = 1");
        let sampled = Sampled::on(n1);
        sampled.comes_to_say(&format!("unknown because of node {id}: a subscription to it is disabled"));
        assert!(!sampled.has_said("stable"), "{}", n1.log());
        mesh.logs_hold_nothing_unexpected(&[]);
    }
}

#[test]
fn an_announcement_counts_once_every_subscription_to_the_node_has_passed_it() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key)");
    mesh.everywhere("select spock.repset_create('later')");
    let mesh = mesh.with_table_in("later", "u (id int primary key)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    watch(n2);
    n1.sql(&format!(
        "select spock.sub_create('second', '{}', replication_sets := '{{later}}', apply_delay := '1 day')",
        n2.dsn().replace('\'', "''")
    ));
    n1.comes_to_read("select status from spock.sub_show_status('second')", "replicating");
    // The second subscription stands here for a day.
    n2.sql("insert into u values (1)").sql("insert into t values (1)");
    let sampled = Sampled::on(n1);
    sampled.comes_to_say(&format!("waits for node {N2}"));
    comes_to_announce(n2);
    mesh.settle_between("n2", "n1", "sub_n2_n1");
    assert!(!sampled.has_said("stable"), "the first subscription alone has heard it");
    // What the node has for it would come once it is enabled again.
    n1.sql("select spock.sub_disable('second')");
    sampled.comes_to_say(&format!("unknown because of node {N2}: a subscription to it is disabled"));
    n1.sql("select spock.sub_drop('second')");
    sampled.comes_to_say("stable");
}

#[test]
fn only_who_has_asked_for_announcements_gets_them() {
    let mesh = three();
    let n1 = mesh.node("n1");
    n1.sql("update t set what = 'new' where id = 1");
    let sampled = Sampled::on(n1);
    sampled.comes_to_say("stable");
    sampled.end();
    assert!(announced(n1) > 0, "they are in the WAL");
    let asks = ", 'spock.announcements', '1'";
    // The type byte stands behind a position in 5, behind that and a length in 6.
    for (version, more, at) in [(4, asks, 0), (5, asks, 8), (6, "", 12)] {
        let stream = sent(n1, version, more);
        n1.reads(
            &format!("select count(*) from {stream} where length(data) > {at} and get_byte(data, {at}) = 65"),
            "0",
        );
        n1.reads(
            &format!("select count(*) from {stream} where position('spock.announcements'::bytea in data) > 0"),
            "0",
        );
        n1.reads(&format!("select count(*) > 1 from {stream}"), "t");
    }
    let granted = sent(n1, 6, asks);
    n1.reads(&format!("select count(*) from {granted} where position('spock.announcements'::bytea in data) > 0"), "1");
    mesh.logs_hold_nothing_unexpected(&[]);
}
