-- table_data_filtered: the rows of a table that a subscriber of some sets is to have.
\set VERBOSITY terse
create extension spock;
create table t (id int primary key, gone text, region text, twice int generated always as (id * 2) stored, late text default 'l');
insert into t (id, gone, region) select n, 'x', case n % 3 when 0 then 'eu' when 1 then 'us' end from generate_series(1, 9) n;
select count(*) from spock.table_data_filtered(null::t, 't', '{default}');
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
select spock.repset_create('east') > 0 as created, spock.repset_create('low') > 0 as created;
select spock.repset_add_table('east', 't', row_filter := 'region = ''eu''');
select spock.repset_add_table('low', 't', row_filter := 'id < 3 and late is not null and twice < 6 and t is distinct from null');
-- Any filter is enough, and a membership without one takes every row.
select id, region from spock.table_data_filtered(null::t, 't', '{east}') order by id;
select id, region from spock.table_data_filtered(null::t, 't', '{low}') order by id;
select id, region from spock.table_data_filtered(null::t, 't', '{east,low}') order by id;
select spock.repset_add_table('default', 't');
select count(*) from spock.table_data_filtered(null::t, 't', '{east,low,default}');
-- A set without the table adds nothing; a table in no set is copied whole by whoever asks.
select count(*) from spock.table_data_filtered(null::t, 't', '{east,ddl_sql}');
select count(*) from spock.table_data_filtered(null::t, 't', '{ddl_sql}');
select count(*) from spock.table_data_filtered(null::t, 't', '{}');
-- Columns that are gone, that came later, and computed ones.
alter table t drop column gone;
alter table t add column later int default 7;
select * from spock.table_data_filtered(null::t, 't', '{east}') order by id;
copy (select id, region, late, later from spock.table_data_filtered(null::t, 't', '{low}') order by id) to stdout;
-- More rows than work_mem holds.
set work_mem = '64kB';
insert into t (id, region) select n, 'eu' from generate_series(10, 20000) n;
select count(*), sum(id) from spock.table_data_filtered(null::t, 't', '{east}');
reset work_mem;
-- A partitioned table gives the rows of its partitions, one that is inherited from only its own.
create table part (region text, id int) partition by range (id);
create table part_1 partition of part for values from (0) to (10);
create table part_2 (id int, extra text, region text);
alter table part_2 drop column extra;
alter table part attach partition part_2 for values from (10) to (20);
insert into part values ('eu', 1), ('us', 2), ('eu', 11), ('us', 12);
select spock.repset_create('parts', true, false, false) > 0 as created;
select spock.repset_add_table('parts', 'part', row_filter := 'region = ''eu''');
select * from spock.table_data_filtered(null::part, 'part', '{parts}') order by id;
select * from spock.table_data_filtered(null::part_2, 'part_2', '{parts}') order by id;
create table base (id int);
create table derived () inherits (base);
insert into base values (1);
insert into derived values (2);
select * from spock.table_data_filtered(null::base, 'base', '{parts}');
-- The meaning of a filter does not depend on the caller's search path.
create schema trap;
create function trap.never(text, text) returns boolean language sql immutable as 'select false';
create operator trap.= (leftarg = text, rightarg = text, function = trap.never);
set search_path = trap, pg_catalog, public;
select count(*) from spock.table_data_filtered(null::t, 't', '{east}');
reset search_path;
-- The caller's rights count.
create role reader;
grant usage on schema spock to reader;
set role reader;
select count(*) from spock.table_data_filtered(null::t, 't', '{east}');
reset role;
grant select on t to reader;
alter table t enable row level security;
create policy few on t using (id < 7);
set role reader;
select id from spock.table_data_filtered(null::t, 't', '{east}') order by id;
reset role;
-- Bad arguments.
\set VERBOSITY sqlstate
select spock.table_data_filtered(null::t, null, '{east}');
select spock.table_data_filtered(null::t, 't', null);
select spock.table_data_filtered(null::int, 't', '{east}');
select spock.table_data_filtered(null::part, 't', '{east}');
select spock.table_data_filtered(null::t, 't', '{nothing}');
select spock.table_data_filtered(null::t, 0, '{east}');
select spock.table_data_filtered(null, 't', '{east}');
select case when id < 3 then (spock.table_data_filtered(null::t, 't', '{east}')).id end from t;
drop schema trap cascade;
