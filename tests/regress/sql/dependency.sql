-- What memberships need cannot be dropped without CASCADE.
\set VERBOSITY default
create extension spock;
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
create function is_eu(text) returns boolean language sql immutable as $$ select $1 = 'eu' $$;
create function same_text(text, text) returns boolean language sql immutable as $$ select $1 = $2 $$;
create operator === (function = same_text, leftarg = text, rightarg = text);
create type mood as enum ('good', 'bad');
create table t (id int primary key, region text, kind text, feeling mood, free int);
create sequence s;
select spock.repset_add_table('default', 't', columns := '{id,region,kind,feeling,free}', row_filter := 'is_eu(region) and kind === ''a'' and feeling = ''good''');
select spock.repset_add_table('default_insert_only', 't', row_filter := 'is_eu(region)');
select spock.repset_add_seq('default', 's');
select s.set_name, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), d.deptype
  from spock.depend d join spock.replication_set s on s.set_id = d.objid order by 1, 2;
-- Refused, each membership named.
drop table t;
drop sequence s;
drop function is_eu(text);
drop operator === (text, text);
alter table t drop column region;
alter table t drop column id, drop column kind;
-- A column that is only listed, or not used at all, can go.
alter table t drop column free;
select count(*) from spock.replication_set_table;
-- CASCADE takes the memberships along.
begin;
alter table t drop column kind cascade;
select s.set_name from spock.replication_set_table join spock.replication_set s using (set_id) order by 1;
rollback;
begin;
drop function is_eu(text) cascade;
select count(*) from spock.replication_set_table;
select count(*) from spock.depend;
rollback;
begin;
drop table t cascade;
select count(*) from spock.replication_set_table;
rollback;
begin;
drop sequence s cascade;
select count(*) from spock.replication_set_seq;
select count(*) from spock.sequence_state;
rollback;
-- What was decided elsewhere is carried out.
begin;
set local session_replication_role = replica;
drop table t;
rollback;
-- Nothing has changed.
select count(*) from spock.replication_set_table;
-- A schema with a member in it.
create schema app;
create table app.a (id int primary key);
select spock.repset_add_table('default', 'app.a');
drop schema app;
drop schema app cascade;
-- Others' objects are no concern of ours.
create function unused() returns int language sql as 'select 1';
drop function unused();
-- Dropping the extension is not hindered.
drop extension spock cascade;
drop table t;
