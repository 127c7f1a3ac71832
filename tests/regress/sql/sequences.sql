-- Sequences in replication sets.
\set VERBOSITY terse
create extension spock;
create sequence s;
select spock.repset_add_seq('default', 's');
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
-- What cannot be a member.
create table t (id serial primary key);
create unlogged table u (id int generated always as identity);
create temp sequence passing;
create view v as select 1 as last_value;
select spock.repset_add_seq('default', 't');
select spock.repset_add_seq('default', 'v');
\set VERBOSITY sqlstate
select spock.repset_add_seq('default', 'passing');
\set VERBOSITY terse
select spock.repset_add_seq('default', 'pg_class');
select spock.repset_add_seq('default', 'spock.sub_id_generator');
select spock.repset_add_seq('default', 0);
select spock.repset_add_seq('nothing', 's');
-- Members, and the state that goes with them.
select nextval('s') from generate_series(1, 5);
select spock.repset_add_seq('default', 's');
select spock.repset_add_seq('default', 's');
select spock.repset_add_seq('ddl_sql', 's', true);
select s.set_name, m.set_seqoid from spock.replication_set_seq m join spock.replication_set s using (set_id) order by 1, 2;
select seqoid::regclass, cache_size from spock.sequence_state;
select replication_sets, message_type, message from spock.queue where replication_sets = '{ddl_sql}';
-- Pushing a value tells every set of the sequence.
select nextval('s');
select spock.sync_seq('s');
select seqoid::regclass, cache_size, last_value from spock.sequence_state;
select replication_sets, message_type, message from spock.queue where message->>'last_value' = '1006' order by queued_at desc limit 1;
select spock.sync_seq('t');
select spock.sync_seq('t_id_seq');
-- Descending, and at its end.
create sequence down increment -3 minvalue -1000 maxvalue -1;
select spock.repset_add_seq('default', 'down'), spock.sync_seq('down');
select last_value from spock.sequence_state where seqoid = 'down'::regclass;
-- Whole schemas.
create schema app;
create sequence app.a;
create unlogged table app.not_logged (id serial);
select spock.repset_add_all_seqs('default', '{app,app}');
select spock.repset_add_all_seqs('default', '{spock}');
select spock.repset_add_all_seqs('default', '{nothing}');
select set_seqoid from spock.replication_set_seq where set_seqoid::text like 'app.%' order by set_seqoid::text;
-- A member goes with CASCADE only.
drop sequence app.a;
drop sequence app.a cascade;
-- Leaving.
select spock.repset_remove_seq('default', 's');
select spock.repset_remove_seq('default', 's');
select count(*) from spock.sequence_state where seqoid = 's'::regclass;
select spock.repset_remove_seq('ddl_sql', 's');
select count(*) from spock.sequence_state where seqoid = 's'::regclass;
select spock.sync_seq('s');
select spock.repset_remove_seq('default', 'down');
select count(*) from spock.replication_set_seq;
select count(*) from spock.depend;
