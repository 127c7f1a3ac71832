-- spock_admin may run what changes something; spock_monitor may look, and nothing else; neither sees secrets.
\pset format unaligned
\set VERBOSITY sqlstate
create extension spock;
select rolname, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles where rolname like 'spock%' order by 1;
create table acct (id int primary key);
create role alice login in role spock_admin;
create role bob login in role spock_monitor;
create role carol login;
-- An administrator.
set role alice;
select spock.node_create('n1', 'host=db1 user=u password=geheim dbname=postgres');
select spock.node_add_interface('n1', 'second', 'host=db2 password=geheim');
select spock.repset_create('extra');
select spock.reserved_object_add('audit', 'schema');
update spock.reserved_object set replicate_ddl = false where name = 'audit';
insert into spock.reserved_object (name, kind, builtin) values ('mine', 'extension', true);
delete from spock.reserved_object where name = 'spock';
select spock.reserved_object_remove('audit', 'schema');
insert into spock.pii (pii_schema, pii_table, pii_column) values ('public', 'acct', 'id');
select spock.reset_channel_stats();
select if_name from spock.node_interface order by 1;
select if_dsn from spock.node_interface;
update spock.node set location = 'x';
drop table spock.pii;
-- A monitor.
set role bob;
select node_name, location from spock.node;
select node_name from spock.node_info();
select sub_name, sub_enabled from spock.subscription;
select * from spock.sub_show_status();
select * from spock.progress;
select * from spock.lag_tracker;
select * from spock.clock_skew;
select * from spock.channel_summary_stats;
select * from spock.channel_table_stats;
select * from spock.get_apply_worker_status();
select set_name from spock.replication_set order by 1;
select nspname, relname, set_name from spock.tables;
select if_id is not null as there, if_name, if_nodeid from spock.node_interface order by 2;
select count(conflict_type) from spock.resolutions;
select count(operation) from spock.exception_log;
select count(message_type) from spock.queue;
-- No connection strings, values of rows or commands.
select * from spock.node_interface;
select if_dsn from spock.node_interface;
select local_tuple from spock.resolutions;
select remote_new_tup from spock.exception_log;
select error_message from spock.exception_log;
select ddl_statement from spock.exception_log;
select message from spock.queue;
select * from spock.pii;
-- No changes.
select spock.node_create('n2', 'x');
select spock.node_drop('n1');
select spock.node_add_interface('n1', 'third', 'x');
select spock.repset_create('more');
select spock.repset_add_table('default', 'acct');
select spock.sub_create('s', 'host=nowhere');
select spock.sync_event();
select spock.reset_channel_stats();
select spock.reserved_object_add('audit', 'schema');
select spock.reserved_object_remove('spock', 'schema');
insert into spock.queue values (now(), 'postgres', null, 'Q', '""');
update spock.subscription set sub_enabled = false;
delete from spock.node;
-- Anybody else cannot even name our objects.
set role carol;
select spock.spock_version();
select * from spock.node;
reset role;
-- Privileges that come with the extension do not come with a dump: creating it makes them.
select count(*) > 0 as kept from pg_init_privs where initprivs::text like '%spock_monitor%';
-- Roles stay when the extension goes, and are used again.
drop extension spock;
select count(*) from pg_roles where rolname in ('spock_admin', 'spock_monitor');
create extension spock;
set role bob;
select count(*) from spock.node;
