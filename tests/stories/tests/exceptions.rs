//! A remote transaction that cannot be applied: what arrives of it, what the exception log says, what comes after it.

use spock_mesh::mesh::MeshOptions;
use spock_mesh::{Mesh, Node};

const STATUS: &str = "select status from spock.sub_show_status('sub_n1_n2')";
/// The rows of the log in their order, without those of a subscription that was disabled.
const ACTIONS: &str = "select string_agg(concat_ws(' ', command_counter, operation, table_name), ', '
                                         order by retry_errored_at, command_counter)
                       from spock.exception_log where operation <> 'SUB_DISABLE'";

/// Two nodes with the table `good`.
pub fn mesh(behaviour: &str, logging: &str) -> Mesh {
    mesh_with(behaviour, logging, &[])
}

fn mesh_with(behaviour: &str, logging: &str, more: &[(&str, &str)]) -> Mesh {
    let usual = [("spock.exception_behaviour", behaviour), ("spock.exception_logging", logging)];
    let settings = usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let names = vec!["n1".to_owned(), "n2".to_owned()];
    Mesh::with(&MeshOptions { names, settings, ..MeshOptions::default() }).with_table("good (id int primary key)")
}

/// Something that n2 cannot apply, and what makes it applicable.
struct Cause {
    /// The table that it is about, on the provider.
    table: &'static str,
    /// How n2 differs. `None`: it does not have the table.
    here: Option<&'static str>,
    statement: &'static str,
    /// For the second row of the log.
    logged: &'static str,
    sqlstate: &'static str,
    repair: &'static str,
}

const CAUSES: [Cause; 6] = [
    Cause {
        table: "checked (id int primary key, bal int)",
        here: Some("alter table checked add constraint positive check (bal > 0)"),
        statement: "insert into checked values (1, -1)",
        logged: "INSERT checked",
        sqlstate: "23514",
        repair: "alter table checked drop constraint positive",
    },
    Cause {
        table: "absent (id int primary key)",
        here: None,
        statement: "insert into absent values (1)",
        logged: "INSERT absent",
        sqlstate: "42P01",
        repair: "create table absent (id int primary key)",
    },
    Cause {
        table: "wider (id int primary key, note text)",
        here: Some("alter table wider drop column note"),
        statement: "insert into wider values (1, 'x')",
        logged: "INSERT wider",
        sqlstate: "42703",
        repair: "alter table wider add column note text",
    },
    Cause {
        table: "triggered (id int primary key)",
        here: Some(
            "create function refuse() returns trigger language plpgsql as 'begin raise exception ''not here''; end';
             create trigger refuses before insert on triggered for each row execute function refuse();
             alter table triggered enable always trigger refuses",
        ),
        statement: "insert into triggered values (1)",
        logged: "INSERT triggered",
        sqlstate: "P0001",
        repair: "drop trigger refuses on triggered",
    },
    Cause {
        table: "stricter (id int primary key)",
        here: Some("alter table stricter add column must int not null"),
        statement: "insert into stricter values (1)",
        logged: "INSERT stricter",
        sqlstate: "23502",
        repair: "alter table stricter alter column must drop not null",
    },
    Cause {
        table: "emptied (id int primary key)",
        here: None,
        statement: "truncate emptied",
        logged: "TRUNCATE emptied",
        sqlstate: "42P01",
        repair: "create table emptied (id int primary key)",
    },
];

impl Cause {
    fn name(&self) -> &str {
        self.table.split(' ').next().unwrap_or_default()
    }

    /// Sends a transaction with a good row before and one after it.
    fn send(&self, mesh: &Mesh, first: usize) {
        let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
        n1.sql(&format!("create table {}", self.table));
        if let Some(here) = self.here {
            n2.sql(&format!("create table {}", self.table)).sql(here);
        }
        n1.sql(&format!("select spock.repset_add_table('default', '{}')", self.name()));
        n1.sql(&format!(
            "begin; insert into good values ({first}); {}; insert into good values ({}); commit",
            self.statement,
            first + 1
        ));
    }

    /// What the log says when the whole transaction is left out.
    fn all_actions(&self) -> String {
        format!("1 INSERT good, 2 {}, 3 INSERT good", self.logged)
    }
}

fn message_is(node: &Node, operation: &str, sqlstate: &str) {
    let ask = format!(
        "select string_agg(distinct substring(error_message from '^.SQLSTATE (.....)'), ',')
         from spock.exception_log where command_counter = 2 and operation = split_part('{operation}', ' ', 1)"
    );
    node.reads(&ask, sqlstate);
}

#[test]
fn d21_in_discard_mode_only_the_change_that_fails_is_left_out_and_is_recorded() {
    let mesh = mesh("discard", "all");
    let n2 = mesh.node("n2");
    for cause in &CAUSES {
        cause.send(&mesh, 1);
        mesh.settle();
        n2.reads(ACTIONS, &format!("2 {}", cause.logged));
        n2.reads("select string_agg(id::text, ',' order by id) from good", "1,2");
        message_is(n2, cause.logged, cause.sqlstate);
        n2.sql("delete from spock.exception_log");
        mesh.node("n1").sql("delete from good");
        mesh.settle();
    }
    n2.reads(STATUS, "replicating");
    n2.comes_to_log("leaves out 1 of 3 changes of transaction");
    // What the user chose to leave out is found by comparing.
    n2.sql("select spock.repset_add_table('default', 'checked')");
    mesh.node("n1").reads("select key, side from spock.diff('n2', 'checked')", "{\"id\": 1}|local only");
}

#[test]
fn in_transdiscard_mode_the_transaction_is_left_out_and_every_action_is_logged() {
    let mesh = mesh("transdiscard", "all");
    let n2 = mesh.node("n2");
    for cause in &CAUSES {
        cause.send(&mesh, 1);
        mesh.node("n1").sql("insert into good values (7)");
        mesh.settle();
        n2.reads(ACTIONS, &cause.all_actions());
        n2.reads("select string_agg(id::text, ',' order by id) from good", "7");
        message_is(n2, cause.logged, cause.sqlstate);
        n2.reads(
            "select bool_and(error_message like '%command_counter 2%') from spock.exception_log where command_counter <> 2",
            "t",
        );
        n2.sql("delete from spock.exception_log");
        mesh.node("n1").sql("delete from good");
        mesh.settle();
    }
    n2.reads(STATUS, "replicating");
    n2.comes_to_log("leaves out all of 3 changes of transaction");
}

#[test]
fn in_sub_disable_mode_the_transaction_is_logged_and_sent_again_after_the_repair() {
    let mesh = mesh("sub_disable", "all");
    let n2 = mesh.node("n2");
    for (n, cause) in CAUSES.iter().enumerate() {
        cause.send(&mesh, 10 * n);
        n2.comes_to_read(STATUS, "disabled");
        n2.reads(ACTIONS, &cause.all_actions());
        message_is(n2, cause.logged, cause.sqlstate);
        n2.reads(
            "select count(*) from spock.exception_log
             where operation = 'SUB_DISABLE' and command_counter = 4 and error_message ~ 'skip_lsn = [0-9A-F]+/[0-9A-F]+'",
            "1",
        );
        n2.reads(&format!("select count(*) from good where id >= {}", 10 * n), "0");
        n2.sql(cause.repair).sql("delete from spock.exception_log").sql("select spock.sub_enable('sub_n1_n2')");
        n2.comes_to_read(STATUS, "replicating");
        mesh.settle();
        n2.reads(&format!("select count(*) from good where id >= {}", 10 * n), "2");
        n2.reads("select count(*) from spock.exception_log", "0");
    }
    mesh.same_everywhere("good");
}

/// A constraint that is looked at when the transaction commits.
const AT_COMMIT: &str = "
    create function refuse() returns trigger language plpgsql as 'begin raise exception ''not here''; end';
    create constraint trigger late after insert on late deferrable initially deferred for each row
        execute function refuse();
    alter table late enable always trigger late";

#[test]
fn a_failure_at_commit_leaves_the_whole_transaction_out_in_both_discarding_modes() {
    for mode in ["discard", "transdiscard"] {
        let mesh = mesh(mode, "all").with_table("late (id int primary key)");
        mesh.node("n2").sql(AT_COMMIT);
        mesh.node("n1").sql("begin; insert into good values (1); insert into late values (1); commit");
        mesh.node("n1").sql("insert into good values (2)");
        mesh.settle();
        mesh.node("n2").reads("select string_agg(id::text, ',') from good", "2");
        mesh.node("n2").reads(ACTIONS, "1 INSERT good, 2 INSERT late");
        // No single action is to blame: each row has the error.
        mesh.node("n2").reads(
            &format!("select bool_and(error_message like '{mode}: %P0001%not here') from spock.exception_log"),
            "t",
        );
        mesh.node("n2").reads(STATUS, "replicating");
    }
}

#[test]
fn a_failure_at_commit_disables_the_subscription_and_can_be_repaired() {
    let mesh = mesh("sub_disable", "discard").with_table("late (id int primary key)");
    let n2 = mesh.node("n2");
    n2.sql(AT_COMMIT);
    mesh.node("n1").sql("begin; insert into good values (1); insert into late values (1); commit");
    n2.comes_to_read(STATUS, "disabled");
    n2.reads(ACTIONS, "1 INSERT good, 2 INSERT late");
    n2.reads("select count(*) from good", "0");
    n2.sql("drop trigger late on late").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.settle();
    n2.reads("select (select id from good), (select id from late)", "1|1");
}

#[test]
fn without_logging_what_is_left_out_is_named_in_the_server_log() {
    for (mode, kept) in [("discard", "1,2,3"), ("transdiscard", "3")] {
        let mesh = mesh(mode, "none");
        let n2 = mesh.node("n2");
        CAUSES[0].send(&mesh, 1);
        mesh.node("n1").sql("insert into good values (3)");
        mesh.settle();
        n2.reads("select string_agg(id::text, ',' order by id) from good", kept);
        n2.reads("select count(*) from spock.exception_log", "0");
        n2.comes_to_log("changes of transaction");
        n2.comes_to_log("violates check constraint \"positive\"");
        // What was left out stays left out when the server has lost its memory.
        n2.kill();
        n2.start_again();
        mesh.settle();
        n2.reads("select string_agg(id::text, ',' order by id) from good", kept);
    }
}

#[test]
fn without_logging_a_disabled_subscription_is_still_recorded() {
    let mesh = mesh("sub_disable", "none");
    let n2 = mesh.node("n2");
    CAUSES[0].send(&mesh, 1);
    n2.comes_to_read(STATUS, "disabled");
    n2.reads("select string_agg(operation, ',') from spock.exception_log", "SUB_DISABLE");
}

#[test]
fn the_logged_position_leaves_the_transaction_out() {
    let mesh = mesh("sub_disable", "all");
    let n2 = mesh.node("n2");
    CAUSES[0].send(&mesh, 1);
    mesh.node("n1").sql("insert into good values (3)");
    n2.comes_to_read(STATUS, "disabled");
    let lsn = n2.query_one(
        "select substring(error_message from 'skip_lsn = ([0-9A-F/]+)') from spock.exception_log
         where operation = 'SUB_DISABLE'",
    );
    n2.sql(&format!("select spock.sub_alter_skiplsn('sub_n1_n2', '{lsn}')"))
        .sql("select spock.sub_enable('sub_n1_n2')");
    mesh.settle();
    n2.reads("select string_agg(id::text, ',') from good", "3");
    n2.reads(STATUS, "replicating");
}

#[test]
fn the_log_has_the_rows_that_were_sent_and_the_row_that_is_here() {
    let mesh = mesh("discard", "discard")
        .with_table("acct (id int primary key, bal int, note text, own int generated always as (id + 1) stored)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into acct values (1, 1, 'old \"row\"')");
    mesh.settle();
    n2.sql("alter table acct add constraint positive check (bal > 0)").sql("alter table acct add column local bool");
    n1.sql("begin; insert into good values (1); update acct set bal = -1, note = null where id = 1; commit");
    n1.sql("insert into acct values (2, -2, 'new')");
    mesh.settle();
    let value = |column: &str| {
        format!(
            "select string_agg(concat_ws(' ', e->>'attname', e->>'atttype', e->>'value'), ', ')
             from spock.exception_log, jsonb_array_elements({column}) e where operation = 'UPDATE'"
        )
    };
    n2.reads(&value("local_tup"), "id int4 1, bal int4 1, note text old \"row\", local bool");
    n2.reads(&value("remote_new_tup"), "id int4 1, bal int4 -1, note text, local bool");
    n2.reads(&value("remote_old_tup"), "");
    // Who wrote the row that is here, and when; nothing of it for a row that is not.
    n2.reads(
        "select operation, local_origin = remote_origin, local_commit_ts < remote_commit_ts, local_tup is null
         from spock.exception_log order by operation desc",
        "UPDATE|t|t|f\nINSERT|||t",
    );
    n2.reads(
        "select bool_and(remote_origin = (select node_id from spock.node where node_name = 'n1') and remote_xid > 0
                         and remote_commit_ts between now() - interval '10 minutes' and now() + interval '1 minute'
                         and table_schema = 'public' and table_name = 'acct' and ddl_statement is null)
         from spock.exception_log",
        "t",
    );
}

#[test]
fn a_row_for_a_table_that_is_missing_is_in_the_log_with_its_values() {
    let mesh = mesh("transdiscard", "all");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("create table absent (id int primary key, note text, at timestamptz)");
    n1.sql("select spock.repset_add_table('default', 'absent')");
    n1.sql("insert into absent values (1, 'a', '2026-01-02 03:04:05+00')");
    mesh.settle();
    n2.reads(
        "select table_schema, table_name, remote_new_tup->0->>'value', remote_new_tup->1->>'value',
                (remote_new_tup->2->>'value')::timestamptz = '2026-01-02 03:04:05+00', remote_new_tup->2->>'atttype'
         from spock.exception_log",
        "public|absent|1|a|t|timestamptz",
    );
}

#[test]
fn rows_that_the_log_cannot_hold_as_jsonb_are_logged_without_values() {
    let mesh = mesh("transdiscard", "all").with_table("docs (id int primary key, doc json)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql("alter table docs add constraint never check (id < 0)");
    n1.sql("insert into docs values (1, '\"\\u0000\"')").sql("insert into good values (1)");
    mesh.settle();
    n2.reads("select operation, table_name, remote_new_tup is null from spock.exception_log", "INSERT|docs|t");
    n2.reads("select id from good", "1");
}

#[test]
fn nothing_is_left_out_while_the_log_cannot_be_written() {
    for (mode, kept, logged) in [("discard", "1,2", 1), ("transdiscard", "", 3)] {
        let mesh = mesh_with(mode, "all", &[("spock.restart_delay_default", "100ms")]);
        let n2 = mesh.node("n2");
        n2.sql("alter table spock.exception_log add constraint full_up check (false) not valid");
        CAUSES[0].send(&mesh, 1);
        // It goes on trying, with growing pauses.
        n2.comes_to_read("select attempts >= 3 from spock.sub_worker_status('sub_n1_n2')", "t");
        n2.reads("select count(*) from good", "0");
        n2.sql("alter table spock.exception_log drop constraint full_up");
        mesh.settle();
        // That the log failed does not count against the transaction.
        n2.reads("select string_agg(id::text, ',' order by id) from good", kept);
        n2.reads("select count(*) from spock.exception_log", &logged.to_string());
        message_is(n2, CAUSES[0].logged, CAUSES[0].sqlstate);
    }
}

#[test]
fn queued_commands_are_left_out_and_logged_as_any_action() {
    for (mode, logged) in [("discard", "2 DDL"), ("transdiscard", "1 INSERT queue, 2 DDL")] {
        let mesh = mesh(mode, "all");
        let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
        let unknown = "insert into spock.queue values (now(), 'postgres', '{default}', '?', '{\"what\": 1}')";
        n1.sql("create sequence counter");
        for (sql, said) in [("select spock.repset_add_seq('default', 'counter', true)", "counter"), (unknown, "what")] {
            n1.sql(sql).sql("insert into good values (1)");
            mesh.settle();
            n2.reads(ACTIONS, logged);
            n2.reads(
                &format!(
                    "select ddl_user, ddl_statement like '%{said}%', table_name is null
                     from spock.exception_log where operation = 'DDL'"
                ),
                "postgres|t|t",
            );
            n2.reads("select id from good", "1");
            n2.sql("delete from spock.exception_log");
            n1.sql("delete from good");
            mesh.settle();
        }
        n2.reads(STATUS, "replicating");
    }
}

#[test]
fn a_command_that_succeeds_in_a_second_attempt_is_logged_as_executed_if_all_is_asked_for() {
    for (logging, logged) in [("all", "1 INSERT checked, 3 DDL"), ("discard", "1 INSERT checked")] {
        let mesh = mesh("discard", logging);
        let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
        n1.sql("create table checked (id int primary key)").sql("select spock.repset_add_table('default', 'checked')");
        n2.sql("create table checked (id int primary key check (id < 0))");
        for node in [n1, n2] {
            node.sql("create sequence counter");
        }
        n1.sql(
            "begin; insert into checked values (1); select spock.repset_add_seq('default', 'counter', true); commit",
        );
        mesh.settle();
        n2.reads(ACTIONS, logged);
        let executed = "select count(*) from spock.exception_log where error_message = 'discard: statement executed'";
        n2.reads(executed, if logging == "all" { "1" } else { "0" });
        n2.comes_to_log("leaves out 1 of 3 changes of transaction");
    }
}

#[test]
fn tables_that_could_not_be_emptied_are_all_named() {
    let mesh = mesh("transdiscard", "discard");
    let n1 = mesh.node("n1");
    for name in ["one", "other"] {
        n1.sql(&format!("create table {name} (id int)"));
        n1.sql(&format!("select spock.repset_add_table('default_insert_only', '{name}')"));
    }
    n1.sql("select spock.repset_alter('default_insert_only', replicate_truncate := true)").sql("truncate one, other");
    mesh.settle();
    mesh.node("n2").reads(
        "select operation, table_schema, table_name from spock.exception_log",
        "TRUNCATE||\"public\".\"one\", \"public\".\"other\"",
    );
}

#[test]
fn a_statement_that_fails_is_in_the_log_as_it_was_or_quoted_when_it_was_not_tried() {
    for (mode, quoted) in [("discard", "f"), ("transdiscard", "t"), ("sub_disable", "t")] {
        let mesh = mesh(mode, "all");
        let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
        n2.sql("create table twice (id int)");
        n1.sql("begin; insert into good values (1); select spock.replicate_ddl('create table public.twice (id int)'); commit");
        n2.comes_to_read("select count(*) from spock.exception_log where operation = 'DDL'", "1");
        n2.reads(
            "select ddl_statement like '%create table public.twice (id int)%', left(ddl_statement, 1) = '\"', ddl_user,
                    error_message from spock.exception_log where operation = 'DDL'",
            &format!("t|{quoted}|postgres|[SQLSTATE 42P07] relation \"twice\" already exists"),
        );
        n2.reads("select count(*) from good", if mode == "discard" { "1" } else { "0" });
    }
}
