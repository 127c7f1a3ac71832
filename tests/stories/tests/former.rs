//! Two nodes as the C edition leaves them: rows of every catalog, a slot, an origin and the file of progress, written with
//! plain SQL and bytes, with no function of ours.
//!
//! Ids, names and layouts are those that the C edition gives: `n1` is 49708, `n2` is 26863, the slot of `sub_n1_n2` in
//! database `postgres` is `spk_postgres_n1_sub_n1_n2`.

use std::fs;
use std::path::Path;

use spock_mesh::story::must;
use spock_mesh::topology::literal;
use spock_mesh::{Mesh, Node, Stop};

/// Name of the slot on `n1` and of the origin on `n2`.
pub const SLOT: &str = "spk_postgres_n1_sub_n1_n2";
/// What the last applied transaction says it was committed at.
pub const APPLIED_AT: &str = "2026-03-01 12:00:00.123456+00";
/// Version number of the file of progress.
const PROGRESS_FILE_VERSION: u32 = 202_508_251;

/// A version of the C edition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Progress in a table, subscriptions numbered by a hash of their names.
    V5_0_11,
    /// Progress in shared memory and a file, subscriptions numbered by a sequence.
    V6_0_0,
}

impl Release {
    /// As `extversion` has it.
    pub fn version(self) -> &'static str {
        match self {
            Self::V5_0_11 => "5.0.11",
            Self::V6_0_0 => "6.0.0",
        }
    }

    /// Number of the subscription.
    pub fn subscription(self) -> &'static str {
        match self {
            Self::V5_0_11 => "3848008564",
            Self::V6_0_0 => "1",
        }
    }
}

/// Makes `n1` a provider and `n2` its subscriber, in step at the slot's position. Ten rows each are on both, but the tenth
/// was deleted on `n2` alone: a second copy would bring it back.
pub fn populate(mesh: &Mesh, release: Release) {
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    for node in [n1, n2] {
        node.sql(&format!("create extension spock version '{}'", release.version()))
            .sql("create table acct (id int primary key, balance int); create table event (id bigint, by text)")
            .sql("create sequence ticket")
            .sql("insert into acct select n, n from generate_series(1, 10) n; insert into event select -n, 'kept' from generate_series(1, 10) n")
            .sql("security label for spock on column acct.balance is 'spock.delta_apply'");
        samples(node);
    }
    n2.sql("delete from acct where id = 10");
    provider(n1);
    subscriber(n2, n1, release);
}

/// What the C edition's sample scripts create in schema `spock`, beside the extension. Bodies are of no interest.
fn samples(node: &Node) {
    node.sql("create procedure spock.sync_event(node_dsn text, verb boolean, inout sync_lsn pg_lsn default null) language plpgsql as $$ begin end $$")
        .sql("create procedure spock.add_node(src_node_name text, src_dsn text, new_node_name text, new_node_dsn text, verb boolean default false, new_node_location text default 'NY', new_node_country text default 'USA', new_node_info jsonb default '{}') language plpgsql as $$ begin end $$")
        .sql("create procedure spock.remove_node(target_node_name text, target_node_dsn text, verbose_mode boolean default true) language plpgsql as $$ begin end $$")
        .sql("create function spock.gen_sub_name(provider_node text, subscriber_node text) returns text language sql as $$ select 'sub_' || $1 || '_' || $2 $$")
        .sql("create function spock.sync_timeout() returns int language sql as $$ select 180 $$")
        .sql("create function spock.version_to_array(text) returns int[] language sql as $$ select string_to_array($1, '.')::int[] $$")
        .sql("create function spock.wait_subscription(remote_node_name name, report_it boolean default false, timeout interval default '0', delay real default 1) returns bigint language sql as $$ select 0::bigint $$")
        .sql("create view public.my_tables as select nspname, relname from spock.tables where set_name is not null")
        .sql("create role reader")
        .sql("grant usage on schema spock to reader; grant select on spock.node to reader");
}

fn provider(n1: &Node) {
    n1.sql("insert into spock.node values (49708, 'n1', 'here', 'DE', '{\"tiebreaker\": \"7\"}')")
        .sql(&format!("insert into spock.node_interface values (1001, 'n1', 49708, {})", literal(&n1.dsn())))
        .sql("insert into spock.local_node values (49708, 1001)")
        .sql("insert into spock.replication_set values (101, 49708, 'default', true, true, true, true), (102, 49708, 'default_insert_only', true, false, false, true), (103, 49708, 'ddl_sql', true, false, false, false)")
        // A serialized expression cannot be typed in; the server makes the same one for a CHECK constraint.
        .sql("alter table acct add constraint filter check (balance >= 0)")
        .sql("insert into spock.replication_set_table select 101, conrelid, null, conbin from pg_constraint where conname = 'filter'")
        .sql("alter table acct drop constraint filter")
        .sql("insert into spock.replication_set_table values (102, 'event', null, null)")
        .sql("insert into spock.depend select 'spock.replication_set_table'::regclass, 101, 'acct'::regclass::oid::bigint::int, 'pg_class'::regclass, 'acct'::regclass, 0, 'n'")
        .sql("insert into spock.replication_set_seq values (101, 'ticket'); insert into spock.sequence_state values ('ticket'::regclass, 1000, 1000)")
        .sql(&format!("select pg_create_logical_replication_slot('{SLOT}', 'spock_output')"));
}

fn subscriber(n2: &Node, n1: &Node, release: Release) {
    let sub = release.subscription();
    let lsn = position(n1);
    n2.sql("insert into spock.node values (49708, 'n1', 'here', 'DE', '{\"tiebreaker\": \"7\"}'), (26863, 'n2', null, null, null)")
        .sql(&format!("insert into spock.node_interface values (1001, 'n1', 49708, {}), (1002, 'n2', 26863, {})", literal(&n1.dsn()), literal(&n2.dsn())))
        .sql("insert into spock.local_node values (26863, 1002)")
        .sql("insert into spock.replication_set values (201, 26863, 'default', true, true, true, true), (202, 26863, 'default_insert_only', true, false, false, true), (203, 26863, 'ddl_sql', true, false, false, false)")
        .sql(&format!("insert into spock.subscription (sub_id, sub_name, sub_origin, sub_target, sub_origin_if, sub_target_if, sub_slot_name, sub_replication_sets, sub_skip_schema, sub_created_at) values ({sub}, 'sub_n1_n2', 49708, 26863, 1001, 1002, '{SLOT}', '{{default,default_insert_only,ddl_sql}}', '{{legacy,\"Old one\"}}', '2026-01-01')"))
        .sql(&format!("insert into spock.local_sync_status values ('f', {sub}, null, null, 'r', '0/0'), ('d', {sub}, 'public', 'acct', 'r', '{lsn}')"))
        .sql("insert into spock.resolutions (node_name, log_time, relname, conflict_type, conflict_resolution) values ('n2', now(), 'public.acct', 'insert_exists', 'keep_local')")
        .sql(&format!("select pg_replication_origin_create('{SLOT}')"))
        .sql(&format!("select pg_replication_origin_advance('{SLOT}', '{lsn}')"));
    match release {
        Release::V5_0_11 => {
            n2.sql(&format!("insert into spock.progress values (26863, 49708, '{APPLIED_AT}', '{lsn}', '{lsn}', now(), true)"))
                .sql("insert into spock.resolutions (node_name, log_time, conflict_type) values ('n2', now(), 'update_update'), ('n2', now(), 'update_delete'), ('n2', now(), 'delete_delete')");
        }
        Release::V6_0_0 => {
            n2.sql("select nextval('spock.sub_id_generator')")
                .sql("insert into spock.reserved_object values ('audit', 'schema', true, true, false)");
        }
    }
}

/// Where the slot is: both nodes are in step there.
pub fn position(n1: &Node) -> String {
    n1.query_one(&format!("select confirmed_flush_lsn from pg_replication_slots where slot_name = '{SLOT}'"))
}

/// Stops the server; what lies in the data directory afterwards is what the C edition leaves there.
pub fn stop_as_former(node: &Node, release: Release, position: &str) {
    let facts = node.query_one("select system_identifier, (select oid from pg_database where datname = current_database()), (extract(epoch from timestamptz '2026-03-01 12:00:00.123456+00' - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint from pg_control_system()");
    let [system, database, applied_at] = facts.split('|').collect::<Vec<_>>()[..] else { panic!("{facts}") };
    must(node.stop(Stop::Fast));
    let dir = node.data().join("spock");
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("it is ours");
    }
    if release == Release::V6_0_0 {
        fs::create_dir(&dir).expect("the data directory is writable");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let (high, low) = position.split_once('/').expect("a position");
        let hex = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
        let lsn = hex(high) << 32 | hex(low);
        let path = dir.join("resource.dat");
        fs::write(&path, progress_file(number(system), number(database) as u32, number(applied_at), lsn))
            .expect("it can be written");
        for made in [&dir, &path] {
            must(node.hand_over(made));
        }
    }
}

/// The system identifier in a file of progress, and its only record: database, node, provider, position of the last commit.
pub fn progress_record(path: &Path) -> (u64, String) {
    let file = fs::read(path).expect("a clean stop writes it");
    assert_eq!(file.len(), 24 + 72, "one record");
    let small = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let large = |at: usize| u64::from_ne_bytes(file[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!((small(0), small(20)), (PROGRESS_FILE_VERSION, 1), "version and number of records");
    let lsn = large(24 + 32);
    (large(8), format!("{}|{}|{}|{:X}/{:X}", small(24), small(28), small(32), lsn >> 32, lsn & 0xffff_ffff))
}

/// One record for `n2` from `n1`: the header has 24 bytes, a record 72, numbers are in native order, aligned as in C.
fn progress_file(system: u64, database: u32, applied_at: u64, lsn: u64) -> Vec<u8> {
    let mut file = Vec::new();
    let mut put = |offset: usize, bytes: &[u8]| {
        file.resize(file.len().max(offset + bytes.len()), 0);
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &PROGRESS_FILE_VERSION.to_ne_bytes());
    put(8, &system.to_ne_bytes());
    put(16, &0_u16.to_ne_bytes());
    put(20, &1_u32.to_ne_bytes());
    for (offset, id) in [(0, database), (4, 26863), (8, 49708)] {
        put(24 + offset, &id.to_ne_bytes());
    }
    for (offset, number) in [(16, applied_at), (24, applied_at), (32, lsn), (40, lsn), (48, lsn), (56, applied_at)] {
        put(24 + offset, &number.to_ne_bytes());
    }
    put(24 + 64, &[1]);
    put(24 + 71, &[0]);
    file
}
