-- Functions of a single node that no other file is about: what they answer, and what they refuse.
\set VERBOSITY default
\set SHOW_CONTEXT never
create extension spock;
select spock.get_country();
set spock.country = 'LV';
alter system set spock.country = 'LV';
alter system reset spock.country;
select spock.spock_version(), spock.spock_version_num(), spock.spock_max_proto_version(), spock.spock_min_proto_version();
-- Names that other nodes compute as well.
select spock.spock_gen_slot_name('postgres', 'test_provider', 'test_subscription');
select spock.spock_gen_slot_name('pgedge', 'n1', 'sub_n1_n2');
select spock.spock_gen_slot_name('DB.x', 'n 1', repeat('a', 17)::name);
-- Checksums.
select spock.md5_agg_sfunc('', 1), spock.md5_agg() within group (order by n) = md5(md5(md5('1') || '2') || '3') from generate_series(1, 3) n;
-- Nothing but a trigger.
select spock.reserved_object_guard();
-- Interfaces.
select spock.node_create('n1', 'dbname=postgres') > 0 as made;
select spock.node_add_interface('absent', 'second', 'dbname=postgres');
select spock.node_add_interface('n1', 'second', 'no = dsn = at all');
select spock.node_add_interface('n1', 'second', '');
select spock.node_add_interface('n1', 'second', 'dbname=postgres host=db2') > 0 as made;
select spock.node_add_interface('n1', 'second', 'dbname=postgres host=db3');
select spock.node_drop_interface('absent', 'second');
select spock.node_drop_interface('n1', 'third');
select spock.node_drop_interface('n1', 'n1');
select spock.node_drop_interface('n1', 'second');
select if_name, if_dsn from spock.node_interface;
-- Sets.
select spock.repset_create('extra', replicate_update := false, replicate_delete := false) > 0 as made;
select spock.repset_create('extra');
select spock.repset_create('');
create table keyless (id int);
create table keyed (id int primary key, what text);
select spock.repset_add_table('extra', 'keyless'), spock.repset_add_table('extra', 'keyed', columns := '{id}');
select spock.repset_alter('extra', replicate_update := true);
select spock.repset_alter('absent', replicate_update := true);
select spock.repset_alter(null);
select spock.repset_alter('extra', replicate_truncate := false) > 0 as altered;
select replicate_insert, replicate_update, replicate_delete, replicate_truncate from spock.replication_set where set_name = 'extra';
select nspname, relname, att_list, has_row_filter, relkind, relispartition from spock.repset_show_table('keyed', '{extra}');
select nspname, relname, att_list, has_row_filter, relkind, relispartition from spock.repset_show_table('keyed', '{default}');
select * from spock.repset_show_table('keyed', '{absent}');
select * from spock.repset_show_table(0, '{extra}');
select spock.repset_drop('absent');
select spock.repset_drop('absent', true), spock.repset_drop('extra');
select count(*) from spock.replication_set_table;
select count(*) from spock.depend;
-- Unknown columns, partitions that are there already, tables that cannot be members: refused, each by name.
select spock.repset_add_table('default', 'keyed', columns := '{id,absent}');
create table part (id int primary key) partition by range (id);
create table part_1 partition of part for values from (0) to (10);
select spock.repset_add_table('default', 'part_1');
select spock.repset_add_table('default', 'part_1');
select spock.repset_add_table('default', 'part');
select spock.repset_add_table('default', 'part');
select set_reloid from spock.replication_set_table order by set_reloid::text;
select spock.repset_add_table('default', 'keyless');
create unlogged table fleeting (id int primary key);
create temp table passing (id int primary key);
select spock.repset_add_table('default', 'fleeting');
-- The number in the name of its schema is the session's.
do $$ begin
    perform spock.repset_add_table('default', 'passing');
exception when others then
    raise notice '%', regexp_replace(sqlerrm, 'pg_temp_\d+', 'pg_temp');
end $$;
select spock.repset_add_table('default', 'pg_catalog.pg_class');
select spock.repset_add_table('default', 'information_schema.sql_features');
select spock.repset_add_table('default_insert_only', 'spock.queue');
select spock.repset_add_seq('default', 'keyed');
select spock.repset_add_all_tables('default', '{absent}');
select spock.repset_add_all_tables('absent', '{public}');
select spock.repset_add_all_tables('default', null) is null as nothing;
select spock.repset_add_all_tables('default', '{NULL}');
select count(*) from spock.replication_set_table;
-- Subscriptions that are not there.
select spock.sub_alter_interface('absent', 'n1');
select spock.sub_alter_skiplsn('absent', '0/1');
select spock.sub_alter_sync('absent');
select spock.sub_resync_table('absent', 'keyed');
select spock.sub_add_repset('absent', 'default');
select spock.sub_remove_repset('absent', 'default');
select spock.sub_alter_options('absent', '{}');
select * from spock.sub_show_table('absent', 'keyed');
select spock.table_wait_for_sync('absent', 'keyed');
-- What is not a table is told apart.
select spock.table_wait_for_sync('absent', 'keyed_pkey');
