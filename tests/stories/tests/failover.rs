//! A provider is lost and its physical standby takes over: subscribers go on from the copies of their slots.

use spock_mesh::story::skipped;
use spock_mesh::wait::{Deadline, Probe, wait_until};
use spock_mesh::writer::Writer;
use spock_mesh::{Mesh, Node, Stop};

const SUBSCRIPTION: &str = "sub_n1_n2";

/// Quick rounds, so that a story does not wait for them.
const QUICK: [(&str, &str); 2] =
    [("spock.failover_slots_naptime", "50ms"), ("spock.failover_slots_feedback_naptime", "50ms")];

/// From 18 on the server copies slots itself.
fn native(mesh: &Mesh) -> bool {
    mesh.node("n1").prefix().major().0 >= 18
}

/// Two nodes that do not subscribe yet, and a standby of the first.
fn with_standby(settings: &[(&str, &str)]) -> Mesh {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table_in("default_insert_only", "event (id bigint)");
    let mut all = QUICK.to_vec();
    if native(&mesh) {
        all.push(("sync_replication_slots", "on"));
    }
    all.extend(settings);
    mesh.standby_of("n1", "s1", &all)
}

/// Output of `n1` waits for the standby.
fn hold_back(mesh: &Mesh) {
    let setting = if native(mesh) { "synchronized_standby_slots" } else { "spock.pg_standby_slot_names" };
    set(mesh.node("n1"), setting, "standby_s1");
}

fn set(node: &Node, setting: &str, value: &str) {
    spock_mesh::story::must(node.set(setting, value));
    spock_mesh::story::must(node.reload());
    node.comes_to_read(&format!("select current_setting('{setting}')"), value);
}

/// Waits until the standby has a copy of the slot that outlives a promotion. A copy becomes good at a record of the
/// primary that lists running transactions; a checkpoint writes one.
fn comes_to_be_ready(mesh: &Mesh, slot: &str) {
    let ask = if native(mesh) {
        format!("select synced and not temporary from pg_replication_slots where slot_name = '{slot}'")
    } else {
        format!("select ready from spock.failover_slot_status() where slot_name = '{slot}'")
    };
    let made = wait_until(Deadline::story(), &format!("slot {slot} to be ready on the standby"), || {
        mesh.node("n1").execute("checkpoint")?;
        let got = mesh.node("s1").execute(&ask)?.to_string();
        Ok(if got == "t" { Probe::Ready(()) } else { Probe::NotYet(format!("{got:?}")) })
    });
    spock_mesh::story::must(made);
}

/// The subscription of `n2` goes on at the promoted standby.
fn turn_to_standby(mesh: &Mesh) {
    let dsn = mesh.node("s1").dsn();
    mesh.node("n2").sql(&format!("select spock.node_add_interface('n1', 'standby', '{dsn}')"));
    mesh.node("n2").sql(&format!("select spock.sub_alter_interface('{SUBSCRIPTION}', 'standby')"));
    mesh.node("n2")
        .comes_to_read(&format!("select status from spock.sub_show_status('{SUBSCRIPTION}')"), "replicating");
}

fn events(node: &Node, first: u64) -> Writer {
    Writer::start(node, first, |n| format!("insert into event values ({n})"))
}

#[test]
fn subscribers_go_on_at_a_promoted_standby_and_nothing_is_lost_or_repeated() {
    let mesh = with_standby(&[]);
    // What the primary acknowledges is on the standby, so that it must be there afterwards.
    set(mesh.node("n1"), "synchronous_standby_names", "s1");
    hold_back(&mesh);
    // A slot that nobody reads must not keep the others waiting.
    mesh.node("n1").sql("select pg_create_logical_replication_slot('aaa_unread', 'pgoutput')");
    let before = events(mesh.node("n1"), 1);
    before.wait_for_more(50);
    mesh.subscribe("n2", "n1", "");
    let slot = mesh.slot_of("n2", SUBSCRIPTION);
    if mesh.node("n1").prefix().major().0 >= 17 {
        mesh.node("n1").reads(&format!("select failover from pg_replication_slots where slot_name = '{slot}'"), "t");
    }
    comes_to_be_ready(&mesh, &slot);
    before.wait_for_more(200);
    mesh.node("n1").kill();
    let before = before.finish();
    mesh.node("s1").promote();
    if native(&mesh) {
        set(mesh.node("s1"), "synchronized_standby_slots", "");
    }
    turn_to_standby(&mesh);
    let after = events(mesh.node("s1"), 1_000_001);
    after.wait_for_more(100);
    let after = after.finish();
    mesh.settle_between("s1", "n2", SUBSCRIPTION);
    before.check_exactly_once(mesh.node("s1"), "select id from event where id <= 1000000");
    after.check_exactly_once(mesh.node("n2"), "select id from event where id > 1000000");
    // Rows of before the subscription are on the provider only; from its first row on n2 has each one once.
    let rows = "select count(*), count(distinct id), sum(id) from event where id >= {}";
    let first = mesh.node("n2").query_one("select min(id) from event");
    let rows = rows.replace("{}", &first);
    let there = mesh.node("s1").query_one(&rows);
    mesh.node("n2").reads(&rows, &there);
    if !native(&mesh) {
        mesh.node("s1").reads("select count(*) from spock.failover_slot_status()", "0");
        assert!(!mesh.node("s1").data().join("spock/failover_slots").exists(), "slots are the server's own now");
    }
}

#[test]
fn a_promoted_standby_that_lacks_what_was_applied_is_refused_also_after_it_wrote_on() {
    let mesh = with_standby(&[]);
    mesh.subscribe("n2", "n1", "");
    let slot = mesh.slot_of("n2", SUBSCRIPTION);
    comes_to_be_ready(&mesh, &slot);
    spock_mesh::story::must(mesh.node("s1").stop(Stop::Fast));
    mesh.node("n1").sql("insert into event select n from generate_series(1, 100) n");
    mesh.settle_between("n1", "n2", SUBSCRIPTION);
    mesh.node("n1").kill();
    mesh.node("s1").start_again();
    mesh.node("s1").promote();
    mesh.node("s1").reads("select count(*) from event", "0");
    // Its WAL goes beyond what n2 has applied: without a look at timelines these rows would be taken for known.
    mesh.node("s1").sql("insert into event select n from generate_series(1001, 3000) n");
    let dsn = mesh.node("s1").dsn();
    mesh.node("n2").sql(&format!("select spock.node_add_interface('n1', 'standby', '{dsn}')"));
    mesh.node("n2").sql(&format!("select spock.sub_alter_interface('{SUBSCRIPTION}', 'standby')"));
    let error =
        format!("select last_error like 'the provider lacks changes%' from spock.sub_worker_status('{SUBSCRIPTION}')");
    mesh.node("n2").comes_to_read(&error, "t");
    mesh.node("n2").reads("select count(*), max(id) from event", "100|100");
}

#[test]
fn d26_a_subscribers_standby_goes_on_exactly_where_its_primary_was() {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table_in("default_insert_only", "event (id bigint)");
    let mesh = mesh.standby_of("n2", "s2", &QUICK);
    mesh.subscribe("n2", "n1", "");
    // What an asynchronous standby lacks is confirmed all the same, and does not come again.
    set(mesh.node("n2"), "synchronous_standby_names", "s2");
    let writer = events(mesh.node("n1"), 1);
    writer.wait_for_more(150);
    mesh.node("n2").sql("checkpoint");
    writer.wait_for_more(150);
    mesh.node("n2").kill();
    mesh.node("s2").promote();
    mesh.node("s2")
        .comes_to_read(&format!("select status from spock.sub_show_status('{SUBSCRIPTION}')"), "replicating");
    writer.wait_for_more(50);
    // And once more through a crash: recovery of the promoted server keeps the progress as well.
    mesh.node("s2").kill();
    writer.wait_for_more(50);
    mesh.node("s2").start_again();
    let ledger = writer.finish();
    mesh.settle_between("n1", "s2", SUBSCRIPTION);
    ledger.check_exactly_once(mesh.node("s2"), "select id from event");
}

/// What the synchronous standby of the subscriber does not have is not confirmed: once it takes over, it is sent again.
#[test]
fn d26_nothing_that_was_confirmed_is_missing_on_a_standby_that_was_behind() {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table_in("default_insert_only", "event (id bigint)");
    let mesh = mesh.standby_of("n2", "s2", &QUICK);
    let (n1, n2, s2) = (mesh.node("n1"), mesh.node("n2"), mesh.node("s2"));
    mesh.subscribe("n2", "n1", "");
    set(n2, "synchronous_standby_names", "s2");
    n1.sql("insert into event values (1)");
    mesh.settle_between("n1", "n2", SUBSCRIPTION);
    spock_mesh::story::must(s2.stop(Stop::Fast));
    let slot = mesh.slot_of("n2", SUBSCRIPTION);
    let confirmed = format!("select confirmed_flush_lsn from pg_replication_slots where slot_name = '{slot}'");
    let before = n1.query_one(&confirmed);
    n1.sql("insert into event select n from generate_series(2, 100) n");
    n2.comes_to_read("select count(*) from event", "100");
    // Also a new worker, which begins behind these rows, does not confirm them.
    n2.sql("set synchronous_commit = local; select spock.sub_disable('sub_n1_n2')")
        .sql("set synchronous_commit = local; select spock.sub_enable('sub_n1_n2')");
    let told = "select remote_insert_lsn is not null and status = 'running'
                  from spock.progress, spock.sub_worker_status('sub_n1_n2')";
    n2.comes_to_read(told, "t");
    n1.sql("insert into event values (101)");
    n2.comes_to_read("select count(*) from event", "101");
    n1.reads(&confirmed, &before);
    n2.kill();
    spock_mesh::story::must(s2.unset("synchronous_standby_names"));
    s2.start_again();
    s2.reads("select count(*) from event", "1");
    s2.promote();
    s2.comes_to_read(&format!("select status from spock.sub_show_status('{SUBSCRIPTION}')"), "replicating");
    mesh.settle_between("n1", "s2", SUBSCRIPTION);
    s2.reads("select count(*), count(distinct id) from event", "101|101");
}

/// The slot that keeps vacuum away is not on the standby, the dead row is.
#[test]
fn what_a_primary_deleted_is_remembered_on_its_standby() {
    let sub = "sub_n2_n1";
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table("t (id int primary key, v text)").standby_of("n1", "s1", &QUICK);
    let (n1, n2, s1) = (mesh.node("n1"), mesh.node("n2"), mesh.node("s1"));
    mesh.subscribe("n1", "n2", "");
    n2.sql("insert into t values (1, 'old'), (2, 'old')");
    mesh.settle_between("n2", "n1", sub);
    n1.sql(&format!("select spock.sub_disable('{sub}')"));
    n2.sql("update t set v = 'older'");
    let before = n1.query_one("select pg_snapshot_xmin(pg_current_snapshot())");
    n1.sql("delete from t where id = 1");
    s1.comes_to_read("select count(*) from t", "1");
    n1.kill();
    s1.promote();
    s1.comes_to_read(
        &format!(
            "select xmin::text::bigint <= {before} from pg_replication_slots where slot_name = 'spock_tombstones'"
        ),
        "t",
    );
    s1.sql("vacuum t").sql(&format!("select spock.sub_enable('{sub}')"));
    mesh.settle_between("n2", "s1", sub);
    s1.reads("select * from t", "2|older");
}

/// On 15 to 17 output is held back by the extension. Gives none where the server does it.
fn holding(name: &str) -> Option<Mesh> {
    let mesh = with_standby(&[]);
    if native(&mesh) {
        skipped(name, "the server itself holds output back here (synchronized_standby_slots)");
        return None;
    }
    mesh.subscribe("n2", "n1", "");
    mesh.node("n1").sql("insert into event values (1)");
    mesh.node("n2").comes_to_read("select count(*) from event", "1");
    hold_back(&mesh);
    mesh.node("n1").sql("insert into event values (2)");
    mesh.node("n2").comes_to_read("select count(*) from event", "2");
    Some(mesh)
}

/// The sender to `n2` has come to a row that it holds back.
fn comes_to_wait(mesh: &Mesh) {
    mesh.node("n1").comes_to_read(
        "select wait_event_type from pg_stat_activity a join pg_replication_slots s on s.active_pid = a.pid
          where s.slot_type = 'logical'",
        "Extension",
    );
}

#[test]
fn a_subscriber_gets_nothing_that_the_standby_does_not_have() {
    let Some(mesh) = holding("a_subscriber_gets_nothing_that_the_standby_does_not_have") else { return };
    spock_mesh::story::must(mesh.node("s1").stop(Stop::Fast));
    mesh.node("n1").sql("insert into event values (3)");
    comes_to_wait(&mesh);
    mesh.node("n2").reads("select count(*) from event", "2");
    mesh.node("s1").start_again();
    mesh.node("n2").comes_to_read("select count(*) from event", "3");
    // Not even one of two need confirm, one of two suffices, two of two are one too many.
    spock_mesh::story::must(mesh.node("s1").stop(Stop::Fast));
    mesh.node("n1").sql("insert into event values (4)");
    comes_to_wait(&mesh);
    set(mesh.node("n1"), "spock.standby_slots_min_confirmed", "0");
    mesh.node("n2").comes_to_read("select count(*) from event", "4");
    set(mesh.node("n1"), "spock.standby_slots_min_confirmed", "-1");
    mesh.node("n1").sql("insert into event values (5)");
    comes_to_wait(&mesh);
    mesh.node("n2").reads("select count(*) from event", "4");
    set(mesh.node("n1"), "spock.pg_standby_slot_names", "");
    mesh.node("n2").comes_to_read("select count(*) from event", "5");
}

#[test]
fn a_listed_slot_that_does_not_exist_is_warned_about_and_waited_for_unless_told_otherwise() {
    let name = "a_listed_slot_that_does_not_exist_is_warned_about_and_waited_for_unless_told_otherwise";
    let Some(mesh) = holding(name) else { return };
    let deadline = Deadline::story();
    set(mesh.node("n1"), "spock.pg_standby_slot_names", "standby_s1, gone");
    mesh.node("n1").sql("insert into event values (3)");
    mesh.node("n1").comes_to_log("replication slot \"gone\" of \"spock.pg_standby_slot_names\" does not exist");
    comes_to_wait(&mesh);
    mesh.node("n2").reads("select count(*) from event", "2");
    set(mesh.node("n1"), "spock.missing_standby_slots", "ignore");
    mesh.node("n2").comes_to_read("select count(*) from event", "3");
    // A sender whose own slot is listed does not wait for itself, and waits again once it is not.
    let own = mesh.slot_of("n2", SUBSCRIPTION);
    set(mesh.node("n1"), "spock.missing_standby_slots", "wait");
    set(mesh.node("n1"), "spock.pg_standby_slot_names", &format!("gone, {own}"));
    mesh.node("n1").sql("insert into event values (4)");
    mesh.node("n2").comes_to_read("select count(*) from event", "4");
    set(mesh.node("n1"), "spock.pg_standby_slot_names", "gone");
    mesh.node("n1").sql("insert into event values (5)");
    comes_to_wait(&mesh);
    mesh.node("n2").reads("select count(*) from event", "4");
    let warnings = mesh.node("n1").log().matches("does not exist or is invalidated").count();
    let minutes = usize::try_from(deadline.waited().as_secs() / 60).expect("a short story") + 1;
    assert!(warnings <= 2 * minutes, "{warnings} warnings of two senders within {minutes} minutes");
}

#[test]
fn a_primary_that_holds_output_back_can_be_stopped() {
    let Some(mesh) = holding("a_primary_that_holds_output_back_can_be_stopped") else { return };
    spock_mesh::story::must(mesh.node("s1").stop(Stop::Immediate));
    mesh.node("n1").sql("insert into event values (3)");
    comes_to_wait(&mesh);
    mesh.node("n1").restart_fast();
    mesh.node("s1").start_again();
    mesh.node("n2").comes_to_read("select count(*) from event", "3");
    assert!(mesh.node("n1").log().contains("the server stops while a transaction waits"), "it was not killed");
}

/// Stories of the worker of 15 to 17.
fn copying(name: &str, settings: &[(&str, &str)]) -> Option<Mesh> {
    let mesh = with_standby(settings);
    if native(&mesh) {
        mesh.node("s1").reads("select count(*) from spock.failover_slot_status()", "0");
        skipped(name, "the server itself copies slots here (sync_replication_slots)");
        return None;
    }
    Some(mesh)
}

/// What a subscriber does: come to the end of WAL.
fn advance(mesh: &Mesh, slot: &str) {
    mesh.node("n1").sql("checkpoint");
    mesh.node("n1").sql(&format!("select pg_replication_slot_advance('{slot}', pg_current_wal_flush_lsn())"));
}

fn slots(node: &Node) -> String {
    node.query_one(
        "select string_agg(slot_name, ',' order by slot_name) from pg_replication_slots where slot_type = 'logical'",
    )
}

#[test]
fn only_wanted_slots_are_copied_and_only_copies_are_dropped() {
    let name = "only_wanted_slots_are_copied_and_only_copies_are_dropped";
    let Some(mesh) = copying(name, &[("spock.synchronize_slot_names", "name:one, name_like:like\\\\_%")]) else {
        return;
    };
    let (n1, s1) = (mesh.node("n1"), mesh.node("s1"));
    let own = n1.prefix().major().0 >= 16;
    if own {
        // The primary logs what a slot on a standby waits for.
        let session = s1.connect("postgres");
        let maker = std::thread::spawn(move || {
            session
                .map(|mut session| session.run("select pg_create_logical_replication_slot('own', 'pgoutput')").is_ok())
        });
        let made = wait_until(Deadline::story(), "a slot of a user on the standby", || {
            n1.execute("select pg_log_standby_snapshot()")?;
            Ok(if maker.is_finished() { Probe::Ready(()) } else { Probe::NotYet("being made".into()) })
        });
        spock_mesh::story::must(made);
        assert!(maker.join().is_ok_and(|made| made.is_ok_and(|made| made)), "the user's slot was made");
    }
    for slot in ["one", "like_two", "likethree", "four"] {
        n1.sql(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
        advance(&mesh, slot);
    }
    for slot in ["one", "like_two"] {
        let made = wait_until(Deadline::story(), &format!("a copy of {slot}"), || {
            n1.execute("checkpoint")?;
            n1.execute(&format!("select pg_replication_slot_advance('{slot}', pg_current_wal_flush_lsn())"))?;
            let got =
                s1.execute(&format!("select ready from spock.failover_slot_status() where slot_name = '{slot}'"))?;
            let got = got.to_string();
            Ok(if got == "t" { Probe::Ready(()) } else { Probe::NotYet(format!("{got:?}")) })
        });
        spock_mesh::story::must(made);
    }
    let with_own = |copies: &str| if own { format!("{copies},own") } else { copies.to_owned() };
    assert_eq!(slots(s1), with_own("like_two,one"));
    // A restart forgets neither which slots are copies nor which are not.
    s1.restart_fast();
    n1.sql("select pg_drop_replication_slot('one')");
    s1.comes_to_log("dropped replication slot \"one\"");
    assert_eq!(slots(s1), with_own("like_two"));
    set(s1, "spock.drop_extra_slots", "off");
    n1.sql("select pg_drop_replication_slot('like_two')");
    s1.comes_to_read("select count(*) from spock.failover_slot_status() where slot_name is not null", "0");
    assert_eq!(slots(s1), with_own("like_two"));
    set(s1, "spock.drop_extra_slots", "on");
    s1.comes_to_log("dropped replication slot \"like_two\"");
    if own {
        n1.sql("select pg_create_logical_replication_slot('own', 'pgoutput')");
        set(s1, "spock.synchronize_slot_names", "own");
        s1.comes_to_read("select state from spock.failover_slot_status() where slot_name = 'own'", "name_taken");
        n1.sql("select pg_drop_replication_slot('own')");
        s1.comes_to_read("select count(*) from spock.failover_slot_status() where slot_name = 'own'", "0");
        assert_eq!(slots(s1), "own");
    }
}

#[test]
fn an_unproven_slot_does_not_outlive_a_promotion() {
    let name = "an_unproven_slot_does_not_outlive_a_promotion";
    let Some(mesh) = copying(name, &[("spock.synchronize_slot_names", "")]) else { return };
    let (n1, s1) = (mesh.node("n1"), mesh.node("s1"));
    n1.sql("select pg_create_logical_replication_slot('unread', 'pgoutput')").sql("insert into event values (1)");
    s1.comes_to_read("select count(*) from event", "1");
    // The slot needs rows that the standby does not keep for it, and nobody moves it on.
    set(s1, "spock.synchronize_slot_names", "unread");
    let state = "select state, ready from spock.failover_slot_status() where slot_name = 'unread'";
    s1.comes_to_read(state, "waits_for_subscriber|f");
    n1.kill();
    s1.promote();
    s1.comes_to_read("select count(*) from pg_replication_slots where slot_name = 'unread'", "0");
}

#[test]
fn what_keeps_the_worker_from_copying_is_shown() {
    let Some(mesh) = copying("what_keeps_the_worker_from_copying_is_shown", &[("hot_standby_feedback", "off")]) else {
        return;
    };
    let s1 = mesh.node("s1");
    let state = "select state from spock.failover_slot_status() where slot_name is null";
    s1.comes_to_read(state, "no_feedback");
    set(s1, "hot_standby_feedback", "on");
    s1.comes_to_read(state, "following");
    set(s1, "spock.synchronize_slot_names", "");
    s1.comes_to_read(state, "no_filter");
    set(s1, "spock.synchronize_slot_names", "name_like:%%");
    set(s1, "spock.primary_dsn", "host=/nowhere dbname=postgres password=secret");
    s1.comes_to_read(state, "unreachable");
    set(s1, "spock.primary_dsn", "");
    s1.comes_to_read(state, "following");
    if s1.prefix().major().0 == 17 {
        set(s1, "sync_replication_slots", "on");
        s1.comes_to_read(state, "native");
    }
    let log = s1.log();
    // The server itself tells of changed settings.
    let told =
        log.lines().find(|line| line.contains("secret") && !line.contains("parameter \"spock.primary_dsn\" changed"));
    assert_eq!(told, None, "no password in what the worker says");
    mesh.node("n1").reads("select count(*) from spock.failover_slot_status()", "0");
}
