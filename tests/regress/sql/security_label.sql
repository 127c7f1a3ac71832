-- Security labels of provider spock: on columns only, any text, so that dumps of older databases restore.
\pset format unaligned
\set VERBOSITY sqlstate
create extension spock;
create table t (id int primary key, n int);
create view v as select * from t;
security label for spock on column t.n is 'spock.delta_apply';
security label for spock on column v.n is 'any text';
select objtype, objname, provider, label from pg_seclabels order by objname collate "C";
security label for spock on column t.n is null;
select count(*) from pg_seclabels;
-- Nothing but columns.
security label for spock on table t is 'x';
security label for spock on function spock.spock_version() is 'x';
security label for spock on schema spock is 'x';
security label for spock on role postgres is 'x';
security label for spock on table t is null;
-- A column that is not there.
security label for spock on column t.missing is 'x';
