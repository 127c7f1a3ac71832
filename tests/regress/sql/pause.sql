-- Holding apply workers, and what a joining node asks of its provider.
\set VERBOSITY terse
create extension spock;
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
-- Without workers there is nobody to wait for.
select spock.apply_workers_paused();
select spock.pause_apply_workers();
select spock.apply_workers_paused();
select spock.pause_apply_workers();
select spock.resume_apply_workers();
select spock.apply_workers_paused();
select spock.resume_apply_workers();
-- A hold is the session's, not the transaction's, and ends with the session.
begin;
select spock.pause_apply_workers();
rollback;
select spock.apply_workers_paused();
\c
select spock.apply_workers_paused();
-- Rights.
create role nobody;
grant usage on schema spock to nobody;
create role joiner replication;
grant usage on schema spock to joiner;
grant execute on function spock.pause_apply_workers(), spock.resume_apply_workers() to joiner;
set role nobody;
select spock.pause_apply_workers();
select spock.resume_apply_workers();
reset role;
grant execute on function spock.pause_apply_workers(), spock.resume_apply_workers() to nobody;
set role nobody;
select spock.pause_apply_workers();
reset role;
set role joiner;
select spock.pause_apply_workers(), spock.resume_apply_workers();
reset role;
-- The setting.
show spock.pause_timeout;
\set VERBOSITY sqlstate
set spock.pause_timeout = 0;
\set VERBOSITY terse
set spock.pause_timeout = '2min';
show spock.pause_timeout;
-- A provider without providers of its own still tells where the slot is.
select * from spock.read_peer_progress('no_such_slot', 1, 2);
select pg_create_logical_replication_slot('a_slot', 'spock_output') is not null as made;
select count(*), bool_and(lsn is not null), bool_and(snapshot = '') from spock.read_peer_progress('a_slot', 1, 2);
select pg_drop_replication_slot('a_slot');
select count(*) from spock.read_peer_progress(null, 1, 2);
-- One that has some tells about each but the one that asks.
insert into spock.node values (11, 'p1'), (12, 'p2');
insert into spock.node_interface values (21, 'p1', 11, 'host=p1'), (22, 'p2', 12, 'host=p2');
insert into spock.subscription (sub_id, sub_name, sub_origin, sub_target, sub_origin_if, sub_target_if, sub_enabled, sub_slot_name)
  select 31 + n, 's' || n, 11 + n, l.node_id, 21 + n, l.node_local_interface, false, 'slot_' || n
    from spock.local_node l, generate_series(0, 1) n;
select pg_replication_origin_create('slot_0') > 0 as made, pg_replication_origin_create('slot_1') > 0 as made;
select pg_replication_origin_advance('slot_1', '0/ABCD');
select lsn, snapshot, dbid = (select oid from pg_database where datname = current_database()) as db,
       node_id = (select node_id from spock.local_node) as own, remote_node_id, remote_commit_ts, remote_commit_lsn,
       remote_insert_lsn, received_lsn, last_updated_ts, updated_by_decode
  from spock.read_peer_progress('a_slot', (select node_id from spock.local_node), 99);
select remote_node_id from spock.read_peer_progress('a_slot', (select node_id from spock.local_node), 12);
