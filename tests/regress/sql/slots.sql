-- What a provider knows of its subscribers' slots, and maintenance.
\set VERBOSITY terse
create extension spock;
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
-- Waiting for slots: only ours in this database count, and there must be one.
\set VERBOSITY sqlstate
select spock.wait_slot_confirm_lsn(null, null);
select spock.wait_slot_confirm_lsn('spk_a', null);
select slot_name from pg_create_physical_replication_slot('spk_physical');
select pg_create_logical_replication_slot('foreign', 'pgoutput') is not null as made;
select spock.wait_slot_confirm_lsn('spk_physical', '0/1');
select spock.wait_slot_confirm_lsn('foreign', '0/1');
select spock.wait_slot_confirm_lsn(null, '0/1');
select pg_create_logical_replication_slot('spk_a', 'spock_output') is not null as made;
select spock.wait_slot_confirm_lsn('spk_a', '0/1');
select spock.wait_slot_confirm_lsn(null, '0/0');
-- Nobody confirms: the wait can be cancelled.
create table t (id int primary key, at timestamptz);
set statement_timeout = '100ms';
select spock.wait_slot_confirm_lsn('spk_a', null);
reset statement_timeout;
-- The position is fixed first: the server itself may write WAL at any time.
select pg_current_wal_lsn() as here \gset
select pg_replication_slot_advance('spk_a', :'here') is not null as moved;
select spock.wait_slot_confirm_lsn('spk_a', :'here');
-- Where this node was at some time. The slot keeps WAL since its last move.
select pg_drop_replication_slot('spk_a'), pg_drop_replication_slot('foreign');
select pg_create_logical_replication_slot('spk_a', 'spock_output') is not null as made;
select clock_timestamp() as before \gset
insert into t values (1, clock_timestamp());
select pg_current_wal_lsn() as lsn_1, clock_timestamp() as time_1 \gset
insert into t values (2, clock_timestamp());
select pg_current_wal_lsn() as lsn_2, clock_timestamp() as time_2 \gset
insert into t values (3, clock_timestamp());
select spock.get_lsn_from_commit_ts('spk_a', :'before') is null as cannot_tell;
select spock.get_lsn_from_commit_ts('spk_a', :'time_1') between (select restart_lsn from pg_replication_slots where slot_name = 'spk_a') and :'lsn_1' as first;
select spock.get_lsn_from_commit_ts('spk_a', :'time_2') between :'lsn_1'::pg_lsn + 1 and :'lsn_2' as second;
select spock.get_lsn_from_commit_ts('spk_a', now() + '1h') > :'lsn_2' as third;
-- What others committed here does not count.
select pg_replication_origin_create('elsewhere') > 0 as made;
select pg_replication_origin_session_setup('elsewhere');
begin;
select pg_replication_origin_xact_setup('0/AB', now() + '10min');
insert into t values (4, clock_timestamp());
commit;
select pg_replication_origin_session_reset();
select spock.get_lsn_from_commit_ts('spk_a', now() + '1h') <= pg_current_wal_lsn() as third;
select spock.get_lsn_from_commit_ts('spk_a', null) is null as nothing;
select spock.get_lsn_from_commit_ts('no_such_slot', now());
select spock.get_lsn_from_commit_ts('spk_physical', now());
select spock.get_lsn_from_commit_ts('spk_a', 'infinity') is not null as all;
-- The slot is free again, also after an error that was caught.
do $$ begin perform spock.get_lsn_from_commit_ts('spk_physical', now()); exception when others then null; end $$;
select spock.get_lsn_from_commit_ts('spk_a', 'infinity') is not null as all;
select pg_drop_replication_slot('spk_a'), pg_drop_replication_slot('spk_physical');
-- History of conflicts. In one transaction: the manager deletes what is too old as well.
begin;
insert into spock.resolutions (node_name, log_time) select 'n1', now() - make_interval(days => n, mins => 1) from generate_series(1, 200) n;
select spock.cleanup_resolutions(0), spock.cleanup_resolutions(-1);
select spock.cleanup_resolutions();
commit;
select spock.cleanup_resolutions(10);
select count(*) from spock.resolutions;
show spock.resolutions_retention_days;
-- Rights.
create role nobody;
grant usage on schema spock to nobody;
grant execute on all functions in schema spock to nobody;
set role nobody;
select spock.get_lsn_from_commit_ts('spk_a', now());
select spock.slot_enable_failover();
select spock.terminate_active_transactions();
select spock.cleanup_resolutions();
reset role;
select proname from pg_proc where pronamespace = 'spock'::regnamespace and proname ~ '^(slot_enable|terminate|cleanup|pause|resume)'
   and has_function_privilege('public', oid, 'execute');
select spock.terminate_active_transactions();
