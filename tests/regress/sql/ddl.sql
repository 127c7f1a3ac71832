-- Statements that define something: given to replicate_ddl, and captured.
\set VERBOSITY terse
create extension spock;
select spock.replicate_ddl('create table t (id int)');
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
create role alice;
create role bob;
grant usage on schema spock to bob;
grant create on schema public to alice, bob;
-- Each argument is checked on its own, and nothing is left behind.
\set VERBOSITY sqlstate
select spock.replicate_ddl('create table t (id int)', '{nothing}');
select spock.replicate_ddl('create table t (id int)', array['ddl_sql', null]);
select spock.replicate_ddl('create table t (id int)', search_path := 'a b');
select spock.replicate_ddl('create table t (id int)', role := 'nobody_here');
select spock.replicate_ddl('create tabel t (id int)');
select spock.replicate_ddl(null::text);
set role bob;
select spock.replicate_ddl('create table t (id int)', role := 'alice');
reset role;
\set VERBOSITY terse
-- Only what defines something.
select spock.replicate_ddl('insert into t values (1)');
select spock.replicate_ddl('create table t (id int); select 1');
select spock.replicate_ddl('truncate t');
select spock.replicate_ddl('set search_path = public');
select spock.replicate_ddl('begin');
select spock.replicate_ddl('vacuum');
select spock.replicate_ddl('create index concurrently i on spock.queue (queued_at)');
select to_regclass('t'), count(*) from spock.queue;
-- What may be done, and as whom.
set role bob;
select spock.replicate_ddl('create table bobs (id int)');
reset role;
grant alice to bob;
set role bob;
select spock.replicate_ddl('create table alices (id int)', '{}', '', 'alice');
select spock.replicate_ddl('create table public.alices (id int)', '{}', '', 'alice');
reset role;
select spock.replicate_ddl(array['create table t (id int primary key)', 'create view "V w" as select * from t'], '{default,ddl_sql}', '"$user", public,Mixed,"Mixed"');
select relname, relowner::regrole from pg_class where relname in ('bobs', 'alices', 't', 'V w') order by 1;
select role, replication_sets, message_type, message from spock.queue order by queued_at;
show search_path;
-- Both are rolled back together.
begin;
select spock.replicate_ddl('create table gone (id int)');
rollback;
select to_regclass('gone'), count(*) from spock.queue;
drop table bobs, alices;
drop table t cascade;
-- Captured.
set spock.enable_ddl_replication = on;
set spock.include_ddl_repset = on;
create temp table q as select max(queued_at) as at from spock.queue;
create view captured as select role, replication_sets as sets, message_type as type, message #>> '{}' as text
  from spock.queue where queued_at > (select at from q) order by queued_at;
create view sets as select relname, set_name from spock.tables where set_name is not null order by 1, 2;
create table keyed (id int primary key); create table bare (id int);
create table if not exists keyed (id int primary key);
create unlogged table unlogged (id int primary key);
create table made as select 1 as id;
create schema s create table inner_table (id int primary key) create view inner_view as select 1;
set role bob;
create table bobs (id int);
reset role;
set search_path = '';
create table public.pathless (id int);
set search_path = "$user", public;
table captured;
table sets;
-- Sets follow.
alter table bare add primary key (id);
alter table keyed replica identity full;
alter table unlogged set logged;
table sets;
select spock.repset_create('mine', true, false, false, false) > 0 as created;
select spock.repset_add_table('mine', 'bobs'), spock.repset_remove_table('default_insert_only', 'bobs');
create table if not exists bobs (id int);
alter table bobs add primary key (id);
select set_name from spock.tables where relname = 'bobs';
-- An index that identifies rows can go, too.
create table indexed (id int not null); create unique index indexed_idx on indexed (id);
alter table indexed replica identity using index indexed_idx;
select set_name from spock.tables where relname = 'indexed';
drop index indexed_idx;
select set_name from spock.tables where relname = 'indexed';
drop table indexed;
create schema reserved;
select spock.reserved_object_add('reserved', 'schema', p_replicate_ddl := false);
alter table pathless set schema reserved;
create table reserved.t (id int primary key);
create table reserved.d (id int default 1, check (id > 0));
drop table reserved.d;
comment on table reserved.t is 'x';
grant select on reserved.t to bob;
create function reserved.f() returns int language sql as 'select 1';
comment on function reserved.f() is 'x';
grant execute on function reserved.f() to bob;
comment on role bob is 'x';
alter function reserved.f() rename to g;
create index on reserved.t (id);
drop schema reserved cascade;
table sets;
-- What stays here.
create temp table tt (id int);
alter table tt add column v int;
drop table tt;
-- From functions.
do $$ begin create table in_do (id int); end $$;
set spock.allow_ddl_from_functions = on;
do $$ begin create table in_do_2 (id int); end $$;
-- Denied.
set spock.deny_all_ddl = on;
create table denied (id int);
reset spock.deny_all_ddl;
-- Members go with CASCADE implied.
drop table bare;
set spock.enable_ddl_replication = off;
drop table unlogged;
drop table unlogged cascade;
