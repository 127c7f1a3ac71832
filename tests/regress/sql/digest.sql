-- spock.table_digest: the same for the same rows, whatever the settings and the shape of the table; and errors of spock.diff and spock.repair.
\pset format unaligned
\set VERBOSITY terse
create extension spock;
create type mood as enum ('sad', 'ok');
create domain positive as int check (value > 0);
create type pair as (a int, b text);
create table t (id int primary key, f float8, f4 real, n numeric, ts timestamp, tz timestamptz, d date, iv interval, b bytea, m money,
    txt text, ch char(5), js json, jb jsonb, arr text[], r int4range, e mood, dom positive, c pair, u uuid, reg regclass, big text, bo boolean);
insert into t select n, n / 3.0, n / 7.0, n * 1.10, timestamp '2026-01-02 03:04:05.678901' + n * interval '1 day',
    timestamptz '2026-07-02 03:04:05.678901+00' + n * interval '1 h', date '2026-01-02' + n, n * interval '1 mon 2 days 3:04:05.5',
    decode(lpad(to_hex(n), 4, '0'), 'hex'), (n * 1.5)::numeric::money, 'x' || n, 'c', '{"a":  1}', '{"b": 2, "a": [1, null]}',
    array['a b', null, '"'], int4range(n, n + 5), 'ok', n, row(n, 'z, "y"')::pair, '00000000-0000-0000-0000-000000000001', 'pg_class', repeat('big' || n, 5000), n % 2 = 0
  from generate_series(1, 50) n;
insert into t (id, f) values (51, 'NaN'), (52, '-infinity'), (53, null);
select rows, digest from spock.table_digest('t') \gset before_
-- The same on every major.
select :before_rows as rows, :'before_digest' as digest;
-- Settings.
set datestyle = 'German'; set intervalstyle = 'sql_standard'; set timezone = 'Asia/Kathmandu'; set extra_float_digits = -5;
set bytea_output = 'escape'; set quote_all_identifiers = on; set standard_conforming_strings = off; set search_path = pg_temp, public;
set escape_string_warning = off;
select digest = :'before_digest' as same from spock.table_digest('public.t');
-- They are as they were afterwards, also after an error.
select current_setting('datestyle') as datestyle, current_setting('search_path') as path;
select spock.table_digest('pg_views');
select current_setting('datestyle') as datestyle, current_setting('search_path') as path;
-- A temporary type or table of a built-in's name changes nothing.
create temporary table pg_class (id int);
create domain pg_temp.text as int;
select digest = :'before_digest' as same from spock.table_digest('public.t');
reset all;
drop domain pg_temp.text;
drop table pg_temp.pg_class;
-- Physical order, dropped and added columns, storage, order of columns, partitions.
create table other (like t);
alter table other add column gone int default 7;
alter table other alter column big set storage external, alter column txt set storage plain;
insert into other select *, 1 from t order by id desc;
alter table other drop column gone;
update other set id = id;
select digest = :'before_digest' as same from spock.table_digest('other');
create table turned (bo boolean, id int, txt text);
create table straight (id int, txt text, bo boolean);
insert into turned select bo, id, txt from t;
insert into straight select id, txt, bo from t order by random();
select a.digest = b.digest as same, c.digest = b.digest as by_names
  from spock.table_digest('turned') a, spock.table_digest('straight') b, spock.table_digest('t', '{txt,bo,id}') c;
create table parted (id int, txt text, bo boolean) partition by hash (id);
create table parted_0 partition of parted for values with (modulus 2, remainder 0);
create table parted_1 partition of parted for values with (modulus 2, remainder 1);
insert into parted select * from straight;
select a.digest = b.digest as same from spock.table_digest('parted') a, spock.table_digest('straight') b;
-- Tables that inherit are tables of their own; a generated column is each node's own business.
create table child () inherits (straight);
insert into child values (999, 'child', true);
alter table turned add column twice int generated always as (id * 2) stored;
select a.digest = b.digest as same from spock.table_digest('turned') a, spock.table_digest('straight') b;
select count(distinct digest) from (select * from spock.table_digest('turned') union all select * from spock.table_digest('turned', '{id,twice}')) x;
-- What must change it: NULL or '', a row twice, where a value ends, the sign of zero, a name.
create table one (a text, b text);
create function digest_of(variadic rows text[]) returns text language plpgsql as $$
begin
    truncate one;
    execute 'insert into one values ' || array_to_string(rows, ',');
    return (select digest from spock.table_digest('one'));
end $$;
select count(distinct d), count(*) from unnest(array[digest_of('(null, null)'), digest_of($$('', null)$$), digest_of($$(null, '')$$), digest_of($$('', '')$$),
    digest_of($$('a', 'bc')$$), digest_of($$('ab', 'c')$$), digest_of($$('a,bc', null)$$), digest_of($$('a', 'bc')$$, $$('a', 'bc')$$),
    digest_of($$('a', 'b')$$, $$('c', 'd')$$), digest_of($$('a', 'd')$$, $$('c', 'b')$$)]) d;
select digest_of($$('a', 'b')$$, $$('c', 'd')$$) = digest_of($$('c', 'd')$$, $$('a', 'b')$$) as order_counts_not;
truncate one;
select rows, digest from spock.table_digest('one') \gset empty_
alter table one rename b to c;
select digest <> :'empty_digest' as names_count, rows from spock.table_digest('one');
create table zero (z float8);
insert into zero values ('0');
select digest from spock.table_digest('zero') \gset zero_
update zero set z = '-0';
select digest <> :'zero_digest' as signs_count from spock.table_digest('zero');
create table bare ();
insert into bare default values;
select rows from spock.table_digest('bare');
-- Bad arguments.
\set VERBOSITY default
select spock.table_digest(null);
select spock.table_digest(0);
select spock.table_digest('t', '{id,nothing}');
select spock.table_digest('t', '{id,null}');
-- What diff and repair say.
select * from spock.diff('n2', 't');
select spock.node_create('n1', 'host=db1 password=geheim') > 0 as created;
select * from spock.diff(null, 't');
select * from spock.diff('n2', null);
select * from spock.diff('n2', 't', max_rows => 0);
select * from spock.diff('n2', 't', timeout => -1);
select * from spock.diff('n2', 't');
select * from spock.diff('n1', 't');
insert into spock.node (node_id, node_name) values (7, 'n2');
select * from spock.diff('n2', 't');
select * from spock.diff('n2', 'pg_views');
select * from spock.repair('n2', 't', prefer => 'mine');
begin;
select * from spock.repair('n2', 't');
rollback;
begin isolation level repeatable read;
select * from spock.diff('n2', 't');
rollback;
set spock.readonly = 'user';
select * from spock.repair('n2', 't');
reset spock.readonly;
-- A version is written only where a repair is under way.
select spock.apply_version('t', 'insert', '{id}', '{60}', null, null, now(), 7);
set session_replication_role = replica;
select spock.apply_version('t', 'insert', '{id}', '{60}', null, null, now(), 7);
select spock.apply_version('t', 'insert', '{id}', '{60}', null, null, now(), 70000);
select spock.apply_version('t', 'update', '{id}', '{60}', '{60}', null, now(), 7);
select spock.apply_version('spock.node', 'delete', '{}', null, '{7}', '3', now(), 7);
-- In a transaction that is not a local one, then no more.
select pg_replication_origin_create('spock_repair_' || oid) > 0 as made from pg_database where datname = current_database();
begin;
select spock.apply_version('t', 'insert', '{id,txt,f}', '{60,NULL,0.1}', null, null, '2001-02-03 04:05:06.000007+00', 7);
select spock.apply_version('t', 'insert', '{id}', '{61}', null, null, '2001-02-03 04:05:06.000008+00', 7);
rollback;
begin;
select spock.apply_version('t', 'insert', '{id,txt,f}', '{60,NULL,0.1}', null, null, '2001-02-03 04:05:06.000007+00', 7);
select spock.apply_version('t', 'insert', '{id}', '{60}', null, null, '2001-02-03 04:05:06.000007+00', 7);
commit;
reset session_replication_role;
insert into t (id) values (62);
select t.id, t.f, o.roident, o."timestamp" = '2001-02-03 04:05:06.000007+00' as stamped from t, pg_xact_commit_timestamp_origin(t.xmin) o where id >= 60 order by id;
select pg_replication_origin_drop('spock_repair_' || oid) from pg_database where datname = current_database();
-- Roles: the caller's rights on the table count.
\set VERBOSITY sqlstate
create role alice login in role spock_admin;
create role bob login in role spock_monitor;
create role carol login;
grant usage on schema spock to carol;
set role bob;
select spock.table_digest('t');
select * from spock.diff('n2', 't');
select * from spock.repair('n2', 't');
select spock.apply_version('t', 'insert', '{id}', '{70}', null, null, now(), 7);
reset role;
grant select (id, txt) on t to bob;
alter table t enable row level security;
create policy few on t using (id <= 10);
set role bob;
select rows from spock.table_digest('t', '{id,txt}');
select rows from spock.table_digest('t', '{id,f}');
set role alice;
select spock.apply_version('t', 'insert', '{id}', '{70}', null, null, now(), 7);
select * from spock.repair('n2', 't', dry_run => true);
set role carol;
select * from spock.diff('n2', 't');
select rows from spock.table_digest('turned');
reset role;
