-- Hiding changes of a transaction from subscribers.
\set VERBOSITY terse
create extension spock;
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
create table t (id int primary key);
select spock.repset_add_table('default', 't');
select slot_name from pg_create_logical_replication_slot('s', 'spock_output');
-- Letters of the messages of one transaction: Begin, Origin, coMmit order (L), Relation, Insert, Truncate, Commit.
create function sent() returns text language sql as $$
    select string_agg(chr(get_byte(data, 0)), '' order by place)
      from pg_logical_slot_get_binary_changes('s', null, null, 'expected_encoding', 'UTF8', 'min_proto_version', '4',
        'max_proto_version', '4', 'startup_params_format', '1', 'spock_version_num', '50011', 'spock.forward_origins', '', 'spock.replication_set_names', 'default')
        with ordinality c (lsn, xid, data, place) where get_byte(data, 0) <> ascii('S')
$$;
insert into t values (1);
select sent();
-- The setting cannot be set by hand; it follows the calls, to the end of the transaction.
set spock.replication_repair_mode = on;
begin;
insert into t values (2);
select spock.repair_mode(true) > '0/0' as marked;
show spock.replication_repair_mode;
insert into t values (3);
truncate t;
select spock.repair_mode(false) > '0/0' as marked;
show spock.replication_repair_mode;
insert into t values (4);
commit;
select sent();
begin;
select spock.repair_mode(true) > '0/0' as marked;
insert into t values (5);
commit;
show spock.replication_repair_mode;
insert into t values (6);
select sent();
-- NULL is false; what is rolled back takes the mode along.
begin;
savepoint a;
select spock.repair_mode(true) > '0/0' as marked;
rollback to a;
show spock.replication_repair_mode;
insert into t values (7);
select spock.repair_mode(null) > '0/0' as marked;
commit;
select sent();
-- Not for everybody.
create role nobody_in_particular;
grant usage on schema spock to nobody_in_particular;
set role nobody_in_particular;
select spock.repair_mode(true);
reset role;
drop owned by nobody_in_particular;
drop role nobody_in_particular;
select pg_drop_replication_slot('s');
