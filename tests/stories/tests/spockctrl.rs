//! `spockctrl` as it is installed: a cluster from nothing, a node more, a node less, and what goes wrong on the way.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::{Mesh, Node, Stop};

/// In the configuration of every node; the servers ask for none.
const PASSWORD: &str = "s3cret-word";
/// As the program takes it for the time of a change.
const LOCK: &str = "select pg_advisory_lock(1399877475, 1)";

/// The program with a configuration for the nodes of a mesh, and all that it printed.
struct Ctl {
    program: PathBuf,
    dir: PathBuf,
    said: RefCell<String>,
}

/// What a run gave.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ctl {
    fn of(mesh: &Mesh) -> Self {
        let first = &mesh.nodes()[0];
        let (program, dir) = (first.prefix().root().join("bin/spockctrl"), first.dir().join("ctl"));
        fs::create_dir_all(&dir).expect("a directory for the configuration");
        let node = |node: &Node| {
            let (name, host, port) = (node.name(), node.dir().display(), node.port());
            format!(
                r#"{{"node_name":"{name}","postgres":{{"postgres_ip":"{host}","postgres_port":{port},"postgres_user":"postgres",
                "postgres_password":"{PASSWORD}","postgres_db":"postgres"}}}}"#
            )
        };
        let nodes: Vec<String> = mesh.nodes().iter().map(node).collect();
        let text = format!(r#"{{"spock-nodes":[{}]}}"#, nodes.join(","));
        fs::write(dir.join("spockctrl.json"), text).expect("the configuration");
        Self { program, dir, said: RefCell::default() }
    }

    #[track_caller]
    fn run(&self, words: &[&str], code: i32) -> Said {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.dir.join("spockctrl.json")).args(["--verbose", "3"]).args(words);
        command.env("XDG_STATE_HOME", &self.dir);
        let out = command.output().expect("spockctrl runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = Said { code: out.status.code(), stdout: text(&out.stdout), stderr: text(&out.stderr) };
        self.said.borrow_mut().push_str(&format!("{}{}", said.stdout, said.stderr));
        assert_eq!(said.code, Some(code), "spockctrl {}\n{}{}", words.join(" "), said.stdout, said.stderr);
        if code != 0 && code != 2 {
            assert!(said.stderr.contains("error: "), "{words:?}: {}", said.stderr);
        }
        said
    }

    /// Writes a workflow file with these steps; gives its path.
    fn file(&self, steps: &[String]) -> String {
        let path = self.dir.join("steps.json");
        let text = format!(r#"{{"workflow_name":"w","description":"d","steps":[{}]}}"#, steps.join(","));
        fs::write(&path, text).expect("a workflow");
        path.to_str().expect("a path").to_owned()
    }

    /// The run that a kept failure says can be resumed.
    #[track_caller]
    fn kept_run(&self, words: &[&str]) -> String {
        let said = self.run(words, 7);
        let run = said.stderr.split("--resume ").nth(1).and_then(|rest| rest.split_whitespace().next());
        run.unwrap_or_else(|| panic!("no run to resume: {}", said.stderr)).to_owned()
    }

    /// Everything printed, and everything in its journals.
    fn all(&self) -> String {
        let mut all = self.said.borrow().clone();
        for entry in fs::read_dir(self.dir.join("spockctrl")).expect("journals") {
            all.push_str(&fs::read_to_string(entry.expect("a journal").path()).expect("a journal"));
        }
        all
    }
}

fn servers(names: &[&str]) -> Mesh {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Mesh::with(&MeshOptions { names, stage: Stage::Servers, ..MeshOptions::default() })
}

#[test]
fn a_node_is_added_after_a_failed_step_and_removed_again() {
    let mesh = servers(&["n1", "n2", "n3"]);
    let ctl = Ctl::of(&mesh);
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    n1.sql("create table item (id int primary key, made text)");
    n1.sql("insert into item select n, 'n1' from generate_series(1, 100) n");
    n1.sql("create extension spock");
    ctl.run(&["node", "create", "n1", "--dsn", "@n1"], 0);
    // Another definition is refused, and what was there before the run is not undone.
    let other = ctl.file(&[r#"{"spock":{"node":"n1","command":"CREATE NODE","description":"another",
        "args":["--node_name=n1","--dsn=host=elsewhere"],"undo":[{"spock":{"node":"n1","command":"DROP NODE",
        "description":"the node","args":["--node_name=n1"]}}]}}"#
        .to_owned()]);
    ctl.run(&["-w", &other], 5);
    n1.reads("select count(*) from spock.node", "1");
    let again = ctl.run(&["node", "create", "n1", "--dsn", "@n1", "--format", "json"], 0);
    assert!(again.stdout.contains(r#""outcome":"unchanged""#), "{}", again.stdout);
    ctl.run(&["node", "create", "--node=n1", "--node_name=n1", "--dsn=host=elsewhere"], 5);
    ctl.run(&["repset", "add-table", "default", "item", "--node", "n1"], 0);

    // Two nodes, then a third: first only a plan, then refused because it is not empty.
    let add = |new| ["workflow", "run", "add-node", "--new", new, "--source", "n1", "--nodes", "n1,n2,n3"];
    ctl.run(&["workflow", "run", "add-node", "--new", "n2", "--source", "n1", "--nodes", "n1,n2"], 0);
    n2.sql("insert into item values (101, 'n2')");
    n1.comes_to_read("select count(*) from item", "101");
    let plan = ctl.run(&[&add("n3")[..], &["--dry-run"]].concat(), 0);
    assert!(plan.stdout.contains("spock.node_create"), "{}", plan.stdout);
    n3.reads("select to_regclass('spock.node') is null", "t");
    n3.sql("create table in_the_way (id int)");
    ctl.run(&add("n3"), 5);
    n3.sql("drop table in_the_way");

    // A slot of that name is not what the run wants: everything so far is undone.
    let foreign = "select pg_create_logical_replication_slot('spk_postgres_n2_sub_n2_n3', 'pgoutput')";
    n2.sql(foreign);
    ctl.run(&add("n3"), 1);
    n3.reads("select (select count(*) from spock.local_node) + (select count(*) from spock.subscription)", "0");
    // Kept, it goes on where it stopped.
    n2.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots where plugin = 'pgoutput'")
        .sql(foreign);
    let run = ctl.kept_run(&[&add("n3")[..], &["--keep"]].concat());
    n2.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots where plugin = 'pgoutput'");
    n2.sql("insert into item values (102, 'n2')");
    ctl.run(&["workflow", "run", "--resume", &run], 0);
    n3.sql("insert into item values (103, 'n3')");
    n1.comes_to_read("select count(*) from item", "103");
    n2.comes_to_read("select count(*) from item", "103");
    n3.comes_to_read("select count(*) from item", "103");
    mesh.same_everywhere("item");
    ctl.run(&["workflow", "run", "check"], 0);
    let list = ctl.run(&["sub", "list", "--node", "n3", "--format=json"], 0);
    assert!(list.stdout.contains("sub_n1_n3"), "{}", list.stdout);

    // One at a time.
    let mut other = n1.connect("postgres").expect("a session");
    other.run(LOCK).expect("the lock");
    let refused = ctl.run(&["workflow", "run", "remove-node", "--node", "n3"], 5);
    assert!(refused.stderr.contains("another spockctrl"), "{}", refused.stderr);
    other.run("select pg_advisory_unlock_all()").expect("unlocked");
    ctl.run(&["workflow", "run", "remove-node", "--node", "n3"], 0);
    for node in [n1, n2] {
        node.reads("select string_agg(node_name, ',' order by node_name) from spock.node", "n1,n2");
    }
    n3.reads("select count(*) from spock.node", "0");
    ctl.run(&["workflow", "run", "uncross-wire", "--nodes", "n1,n2"], 0);
    mesh.everywhere("drop extension spock");
    assert!(!ctl.all().contains(PASSWORD), "a password was printed or kept");
}

#[test]
fn a_run_ends_with_the_code_that_says_how() {
    let mesh = servers(&["n1", "n2"]);
    let ctl = Ctl::of(&mesh);
    ctl.run(&["workflow", "run", "cross-wire"], 0);
    // A file of the former program, with its spellings.
    let file = ctl.dir.join("w.json");
    let text = r#"{"workflow_name": "w", "description": "d", "steps": [
        {"spock": {"node": "n1", "command": "CREATE REPSET", "description": "a set", "args": ["--set_name=own",
            "--replicate_insert=true", "--replicate_update=true", "--replicate_delete=true", "--replicate_truncate='t'"],
            "on_success": {}, "on_failure": {}}},
        {"sql": {"node": "n1", "command": "SQL", "description": "marker", "args": ["--sql=SELECT spock.sync_event();"]}},
        {"sql": {"node": "n2", "command": "SQL", "description": "wait", "args":
            ["--sql=CALL spock.wait_for_sync_event(true, 'n1', '$n1.sync_event'::pg_lsn, 60);"]}}]}"#;
    fs::write(&file, text).expect("a workflow");
    let file = file.to_str().expect("a path").to_owned();
    let said = ctl.run(&["-w", &file], 0);
    assert!(said.stdout.contains("[Step - 03] wait [OK]"), "{}", said.stdout);
    let never = text.replace("'$n1.sync_event'", "'FFFFFFFF/0'").replace(", 60)", ", 1)");
    fs::write(&file, never).expect("a workflow");
    let late = ctl.run(&["-w", &file], 6);
    assert!(!late.stderr.contains("--resume"), "{}", late.stderr);
    fs::write(&file, text.replace("CREATE REPSET", "CREATE SET")).expect("a workflow");
    let invalid = ctl.run(&["-w", &file], 3);
    assert!(invalid.stderr.contains("w.json:2:45: steps[0].spock.command"), "{}", invalid.stderr);

    for (words, code) in [
        (&["version"][..], 0),
        (&["node", "create", "--help"], 0),
        (&["node", "status", "n1"], 0),
        (&["sql", "n1", "select 1"], 0),
        (&["sql", "n1", "select 1/0"], 1),
        (&["sql", "n1", "select 1/0", "--ignore-errors"], 0),
        (&["node", "dorp", "n1"], 2),
        (&["sub", "create", "s", "dsn", "-n", "n1", "--forward_origins=now()"], 2),
        (&["node", "list", "--node", "n9"], 3),
        (&["wait-for-sync-event", "--node", "n2", "--origin", "n1", "--lsn", "FFFFFFFF/0", "--timeout", "1"], 6),
        (&["config", "check", "--connect"], 0),
    ] {
        ctl.run(words, code);
    }
    // A check that finds something, and a part of a cluster that is not to be taken apart.
    ctl.run(&["sub", "disable", "sub_n1_n2", "--node", "n2"], 0);
    let found = ctl.run(&["workflow", "run", "check", "--timeout", "1"], 1);
    assert!(!found.stderr.contains("--resume"), "{}", found.stderr);
    let part = ctl.run(&["workflow", "run", "uncross-wire", "--nodes", "n1"], 5);
    assert!(part.stderr.contains("subscribes to n2"), "{}", part.stderr);
    ctl.run(&["sub", "drop", "sub_n2_n1", "--node", "n1"], 0);
    let part = ctl.run(&["workflow", "run", "uncross-wire", "--nodes", "n1"], 5);
    assert!(part.stderr.contains("slots of nodes that do not take part: spk_postgres_n1_sub_n1_n2"), "{}", part.stderr);
    ctl.run(&["workflow", "run", "check", "--nodes", "n1,n1"], 2);
    let words = [OsStr::new("sql"), OsStr::from_bytes(b"\xff")];
    let out = Command::new(&ctl.program).args(words).output().expect("spockctrl runs");
    assert_eq!(out.status.code(), Some(2), "{}", String::from_utf8_lossy(&out.stderr));
    mesh.node("n2").stop(Stop::Fast).expect("n2 stops");
    ctl.run(&["sql", "n2", "select 1"], 4);
    ctl.run(&["sql", "n2", "select 1", "--ignore-errors"], 4);
    ctl.run(&["config", "check", "--connect"], 4);
    // The lost node is cleared away on the other one, once nobody streams to it.
    mesh.node("n1")
        .comes_to_read("select count(*) from pg_replication_slots where plugin = 'spock_output' and active", "0");
    ctl.run(&["workflow", "run", "remove-node", "--node", "n2", "--force"], 0);
    let n1 = mesh.node("n1");
    n1.reads("select string_agg(node_name, ',') from spock.node", "n1")
        .reads("select count(*) from pg_replication_slots where plugin = 'spock_output'", "0");
    assert!(!ctl.all().contains(PASSWORD), "a password was printed or kept");
}

/// A step on n1 with further members.
fn sql(text: &str, more: &str) -> String {
    format!(r#"{{"sql":{{"node":"n1","command":"SQL","description":"{}","args":["--sql={text}"]{more}}}}}"#, text.len())
}

#[test]
fn a_workflow_does_no_more_than_it_was_allowed_and_says() {
    let mesh = servers(&["n1"]);
    let ctl = Ctl::of(&mesh);
    let n1 = mesh.node("n1");
    // Options that would have no effect, and a mistyped word with a password in it.
    n1.sql("create extension spock");
    ctl.run(&["node", "create", "n1", "--dsn", "@n1"], 0);
    ctl.run(&["--dry-run", "node", "drop", "n1"], 2);
    ctl.run(&["--dry-run", "workflow", "run", "uncross-wire"], 2);
    n1.reads("select count(*) from spock.node", "1");
    ctl.run(&["sub", "create", &format!("--colour=host=h password={PASSWORD}")], 2);

    // A shell step inside another step.
    let touched = ctl.dir.join("touched");
    let shell = format!(r#"{{"shell":{{"command":"touch {}","description":"d"}}}}"#, touched.display());
    for member in ["undo", "on_failure"] {
        let file = ctl.file(&[sql("select 1/0", &format!(r#","{member}":[{shell}]"#))]);
        ctl.run(&["workflow", "run", &file], 2);
        assert!(!touched.exists());
        ctl.run(&["workflow", "run", &file, "--allow-shell"], 1);
        assert!(touched.exists());
        fs::remove_file(&touched).expect("it is there");
    }

    // What a text leaves open is not done, and in nobody's way.
    let open = ctl.run(&["sql", "n1", "begin; create table lost (id int)"], 1);
    assert!(open.stderr.contains("leave a transaction open"), "{}", open.stderr);
    let file = ctl.file(&[
        sql("begin; create table lost (id int)", r#","ignore_errors":true"#),
        sql("begin; select 1/0", r#","ignore_errors":true,"retries":1,"retry_delay":0"#),
        sql("begin; create table kept (id int); commit", ""),
    ]);
    ctl.run(&["workflow", "run", &file], 0);
    n1.reads("select to_regclass('lost') is null and to_regclass('kept') is not null", "t");

    // A resumed run does not take a masked result for the result.
    let file = ctl.file(&[
        sql("select 'host=h password=unsaid' as dsn", r#","name":"ask""#),
        sql("create table begun (id int)", ""),
        sql("select 1/length(replace($ask.dsn, 'host=h password=unsaid', ''))", ""),
    ]);
    let run = ctl.kept_run(&["workflow", "run", &file, "--keep"]);
    let masked = ctl.run(&["workflow", "run", "--resume", &run], 7);
    assert!(masked.stderr.contains("secret in it") && masked.stderr.contains("--from"), "{}", masked.stderr);
    let all = ctl.all();
    assert!(!all.contains(PASSWORD) && !all.contains("unsaid"), "a password was printed or kept");
}

#[test]
fn cross_wiring_copies_the_tables_of_its_source() {
    let mesh = servers(&["n1", "n2"]);
    let ctl = Ctl::of(&mesh);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("create table item (id int primary key)").sql("insert into item select generate_series(1, 10)");
    let cross = ["workflow", "run", "cross-wire", "--source", "n1"];
    ctl.run(&cross, 0);
    n2.reads("select count(*) from item", "10");
    n2.sql("insert into item values (11)");
    n1.comes_to_read("select count(*) from item", "11");
    ctl.run(&["workflow", "run", "uncross-wire"], 0);

    // The source is a node by itself, and a table is in no set: that is for the operator to say.
    n2.sql("drop table item");
    n1.sql(&format!("select spock.node_create('n1', '{}')", n1.dsn()));
    n1.sql("create table other (id int primary key)");
    ctl.run(&["repset", "add-table", "default", "item", "--node", "n1"], 0);
    let said = ctl.run(&cross, 0);
    assert!(said.stderr.contains("1 tables are in no replication set"), "{}", said.stderr);
    n2.reads("select count(*) from item", "11");
    n1.reads("select count(*) from spock.tables where set_name is null", "1");

    // A server that would refuse to stream is refused before anything is changed, where servers can refuse it.
    ctl.run(&["workflow", "run", "uncross-wire"], 0);
    if n1.prefix().lists_output_plugins() {
        n1.set("output_plugin_libraries", "pgoutput").expect("set");
        n1.reload().expect("reloaded");
        n1.comes_to_read("show output_plugin_libraries", "pgoutput");
        let said = ctl.run(&cross, 5);
        assert!(said.stderr.contains("output_plugin_libraries"), "{}", said.stderr);
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_server_that_does_not_answer() {
    let mesh = servers(&["n1"]);
    let ctl = Ctl::of(&mesh);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let config = ctl.dir.join("silent.json");
    let node = format!(r#"{{"node_name":"n1","dsn":"host=127.0.0.1 port={port} user=u","connect_timeout":600}}"#);
    fs::write(&config, format!(r#"{{"spock-nodes":[{node}]}}"#)).expect("the configuration");
    let (accepted, comes) = mpsc::channel();
    thread::spawn(move || accepted.send(silent.accept()));
    let mut command = Command::new(&ctl.program);
    command.arg("--config").arg(&config).args(["sql", "n1", "select 1"]).stderr(Stdio::piped());
    let child = command.spawn().expect("spockctrl runs");
    let _open = comes.recv_timeout(Duration::from_secs(60)).expect("it connects").expect("a connection");
    // The shell's own: a small system has no other.
    let kill = format!("kill -INT {}", child.id());
    let killed = Command::new("sh").args(["-c", &kill]).status().expect("a shell runs");
    assert!(killed.success());
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
}
