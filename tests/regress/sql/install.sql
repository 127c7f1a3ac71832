-- The extension: what CREATE EXTENSION makes, versions, capabilities.
\pset format unaligned
create extension spock;
select extname, extversion, nspname, extrelocatable from pg_extension e join pg_namespace n on n.oid = extnamespace where extname = 'spock';
select spock.spock_version(), spock.spock_version_num(), spock.spock_max_proto_version() >= 5 as speaks_5, spock.spock_min_proto_version();
-- Capabilities of the server: which exist is the contract, whether they are there depends on the server.
select * from spock.server_capabilities() limit 0;
select count(*) > 0 as some from spock.server_capabilities();
-- Tables and their columns.
select c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end, ', ' order by a.attnum)
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'spock'::regnamespace and c.relkind = 'r'
group by c.relname order by c.relname collate "C";
-- Tables that logical decoding reads under a historic snapshot.
select relname from pg_class where relnamespace = 'spock'::regnamespace and reloptions @> '{user_catalog_table=true}' order by relname collate "C";
-- Nobody but the owner may create in the schema, and others cannot look into it.
select nspacl from pg_namespace where nspname = 'spock';
-- Functions and settings: tests/contract.
-- No node yet.
\set VERBOSITY sqlstate
\set SHOW_CONTEXT never
select * from spock.node_info();
\echo :SQLSTATE
-- The schema stays: the server made it, not the script.
drop extension spock;
select count(*) from pg_namespace where nspname = 'spock';
create extension spock version '0.0';
\echo :SQLSTATE
