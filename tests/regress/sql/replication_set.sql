-- Replication sets: members, and what is refused as one.
\set VERBOSITY sqlstate
create extension spock;
create table acct (id int primary key, bal int);
-- Without a node there is no set.
select spock.repset_add_table('default', 'acct');
select spock.node_create('n1', 'dbname=postgres');
-- Adding.
select spock.repset_add_table('default', 'acct');
select set_name, relname from spock.tables order by relname, set_name;
select spock.repset_add_table('default', 'acct');
select spock.repset_add_table('nothing', 'acct');
select spock.repset_add_table(null, 'acct');
select spock.repset_add_table('default', null);
-- Kinds of tables that cannot replicate.
create temp table passing (id int primary key);
select spock.repset_add_table('default', 'passing');
create unlogged table unlogged (id int primary key);
select spock.repset_add_table('default', 'unlogged');
create view looking as select 1 as id;
select spock.repset_add_table('default', 'looking');
select spock.repset_add_table('default', 'pg_class');
select spock.repset_add_table('default', 'spock.node');
-- No key: only where neither updates nor deletes are sent.
create table keyless (what text);
select spock.repset_add_table('default', 'keyless');
select spock.repset_add_table('default_insert_only', 'keyless');
create table full_identity (what text);
alter table full_identity replica identity full;
select spock.repset_add_table('default', 'full_identity');
-- Partitions come along.
create table part (id int primary key) partition by range (id);
create table part_1 partition of part for values from (0) to (10);
create table part_2 partition of part for values from (10) to (20);
select spock.repset_add_table('default', 'part');
select set_name, relname from spock.tables where relname like 'part%' order by relname;
select spock.repset_remove_table('default', 'part');
select set_name, relname from spock.tables where relname like 'part%' order by relname;
-- All tables of schemas; those that cannot be members are named and left out.
create schema app;
create table app.one (id int primary key);
create table app.two (id int primary key);
create table app.keyless (what text);
select spock.repset_add_all_tables('default', '{app}');
select set_name, nspname, relname from spock.tables where nspname = 'app' order by relname;
select spock.repset_add_all_tables('default', '{app,app}');
select spock.repset_add_all_tables('default', '{no_such_schema}');
-- Removing.
select spock.repset_remove_table('default', 'app.one');
select spock.repset_remove_table('default', 'app.one');
select set_name, relname from spock.tables where nspname = 'app' order by relname;
-- A member is dropped with CASCADE only, and then leaves its sets.
drop table app.two;
drop table app.two cascade;
select count(*) from spock.replication_set_table t where not exists (select from pg_class where oid = t.set_reloid);
-- A rolled back addition was none.
begin;
select spock.repset_add_table('default_insert_only', 'app.one');
rollback;
select set_name, relname from spock.tables where relname = 'one';
