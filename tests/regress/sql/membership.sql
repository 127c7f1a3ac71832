-- Partitions in replication sets, and what row filters and column lists are refused for.
\set VERBOSITY terse
create extension spock;
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
create table part (id int primary key, region text, gone int) partition by range (id);
create table part_1 partition of part for values from (0) to (10);
-- This one numbers its columns in another way.
create table part_2 (gone int, region text, extra int, id int primary key);
alter table part_2 drop column extra;
alter table part attach partition part_2 for values from (10) to (20);
create table other (id int primary key);
-- The parent alone, then its partitions with its columns and its filter.
select spock.repset_add_table('default', 'part', columns := '{id,region}', row_filter := 'region = ''eu''', include_partitions := false);
select spock.repset_add_table('ddl_sql', 'part', include_partitions := false);
select spock.repset_add_partition(null);
select spock.repset_add_partition('other');
select spock.repset_add_partition('part', 'other');
select spock.repset_add_partition('part', 'part_1');
select spock.repset_add_partition('part');
select spock.repset_add_partition('part');
select s.set_name, m.set_reloid, m.set_att_list, pg_get_expr(m.set_row_filter, m.set_reloid) as filter
  from spock.replication_set_table m join spock.replication_set s using (set_id) order by 1, 2::text;
select spock.repset_remove_partition('part', 'part_2');
select spock.repset_remove_partition('part', 'part_2');
select spock.repset_remove_partition('part', 'other');
select spock.repset_remove_partition('part');
select spock.repset_remove_partition('other');
select spock.repset_remove_partition(null);
-- A filter of its own.
select spock.repset_add_partition('part', 'part_2', 'id < 15');
select pg_get_expr(set_row_filter, set_reloid) from spock.replication_set_table where set_reloid = 'part_2'::regclass;
-- A table in no set.
create table alone (id int primary key) partition by range (id);
create table alone_1 partition of alone for values from (0) to (10);
select spock.repset_add_partition('alone');
-- A partition that could not be a member is refused, and nothing changes.
create table bare (id int, what text) partition by range (id);
create unlogged table bare_1 (id int, what text);
alter table bare attach partition bare_1 for values from (0) to (10);
select spock.repset_add_table('default_insert_only', 'bare');
select count(*) from spock.replication_set_table where set_reloid in ('bare'::regclass, 'bare_1'::regclass);
-- Other kinds of relations.
create foreign data wrapper nowhere;
create server nowhere foreign data wrapper nowhere;
create foreign table away (id int) server nowhere;
create materialized view frozen as select 1 as id;
create index other_idx on other (id);
select spock.repset_add_table('default_insert_only', 'away');
select spock.repset_add_table('default_insert_only', 'frozen');
select spock.repset_add_table('default_insert_only', 'other_idx');
select spock.repset_add_table('default_insert_only', 'part_id_seq');
select spock.repset_add_table('default_insert_only', 0);
-- Filters.
create function volatile_filter(int) returns boolean language sql volatile as 'select $1 > 0';
create table f (id int primary key, region text, twice int generated always as (id * 2) stored);
select spock.repset_add_table('default', 'f', row_filter := 'volatile_filter(id)');
select spock.repset_add_table('default', 'f', row_filter := 'random() < 0.5');
select spock.repset_add_table('default', 'f', row_filter := 'other.id = 1');
select spock.repset_add_table('default', 'f', row_filter := 'exists (select from other)');
select spock.repset_add_table('default', 'f', row_filter := 'nothing = 1');
select spock.repset_add_table('default', 'f', row_filter := 'region');
select spock.repset_add_table('default', 'f', row_filter := 'id > 1; drop table f');
select spock.repset_add_table('default', 'f', row_filter := 'id > 1 from other');
select spock.repset_add_table('default', 'f', row_filter := 'count(*) > 1');
select spock.repset_add_table('default', 'f', row_filter := '');
-- Column lists.
select spock.repset_add_table('default', 'f', columns := '{region}');
select spock.repset_add_table('default', 'f', columns := '{id,nothing}');
select spock.repset_add_table('default', 'f', columns := '{id,twice}');
select spock.repset_add_table('default', 'f', columns := '{id,id}');
select spock.repset_add_table('default', 'f', columns := '{id,NULL}');
select count(*) from spock.replication_set_table where set_reloid = 'f'::regclass;
