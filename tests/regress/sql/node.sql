-- Nodes: made, looked at, refused, dropped.
\set VERBOSITY sqlstate
create extension spock;
select spock.node_info();
-- NULL is refused, not passed over in silence.
select spock.node_create(null, 'dbname=postgres');
select spock.node_create('n1', null);
select count(*) from spock.node;
-- The id is a hash of the name, known to other nodes.
select spock.node_create(node_name := 'n1', dsn := 'dbname=postgres', location := 'Riga', country := 'LV', info := '{"tiebreaker": 3}');
select node_id, node_name, location, country, info from spock.node;
select if_name, if_nodeid, if_id from spock.node_interface;
select node_id, node_name, sysid = (select system_identifier::text from pg_control_system()) as same_sysid, dbname, replication_sets, location, country, info from spock.node_info();
select set_name, set_id, replicate_insert, replicate_update, replicate_delete, replicate_truncate from spock.replication_set order by set_name;
-- One node per database, one name per node.
select spock.node_create('n1', 'dbname=postgres');
select spock.node_create('n2', 'dbname=postgres');
-- Names and settings that cannot work.
select spock.node_drop('n1');
select spock.node_create('', 'dbname=postgres');
select spock.node_create('n1', 'dbname=postgres', info := '{"tiebreaker": "high"}');
select spock.node_create('n1', 'this is = no = connection string');
select count(*) from spock.node;
-- A creation that is rolled back leaves nothing.
begin;
select spock.node_create('n1', 'dbname=postgres');
rollback;
select (select count(*) from spock.node), (select count(*) from spock.local_node), (select count(*) from spock.replication_set);
-- Dropping.
select spock.node_create('n1', 'dbname=postgres');
select spock.node_drop('nobody');
select spock.node_drop('nobody', true);
select spock.node_drop('n1');
select (select count(*) from spock.node), (select count(*) from spock.local_node), (select count(*) from spock.replication_set), (select count(*) from spock.node_interface);
-- Ids that other editions compute for the same names.
select name, spock.node_create(name, 'dbname=postgres') as id, spock.node_drop(name) from unnest('{n2,n3,n4,test_provider,test_subscriber}'::name[]) name;
-- Somebody without rights.
create role visitor;
grant usage on schema spock to visitor;
set role visitor;
select spock.node_create('n9', 'dbname=postgres');
reset role;
select count(*) from spock.node;
