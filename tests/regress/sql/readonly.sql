-- A node on which ordinary users cannot write.
\set VERBOSITY terse
create extension spock;
show spock.readonly;
set spock.readonly = 'nothing';
create role plain login;
create table t (id int primary key, what text default 'w');
grant all on t to plain;
grant create on schema public to plain;
create sequence s;
grant all on s to plain;
create function as_superuser() returns void language sql security definer as 'insert into t values (100)';
set role plain;
create function as_plain() returns bigint language sql security definer as 'select count(*) from t';
create temp table mine (id int);
reset role;
prepare before_it as insert into t values (101);
set spock.readonly = 'local';
show spock.readonly;
-- Superusers go on, also through a function that runs as somebody else.
insert into t values (1);
begin;
select as_plain();
insert into t values (2);
commit;
-- Others read, and use temporary tables.
set role plain;
select * from t order by id;
insert into mine values (1);
explain (costs off) insert into t values (3);
-- They do not write, in whatever way they try.
\set VERBOSITY sqlstate
insert into t values (3);
update t set what = 'x';
delete from t;
truncate t;
create table u ();
select nextval('s');
\copy t from /dev/null
do $$ begin insert into t values (3); end $$;
execute before_it;
select as_superuser();
with gone as (delete from t returning *) select count(*) from gone;
select * from t for update;
begin;
set transaction read write;
insert into t values (3);
rollback;
begin read write;
savepoint a;
insert into t values (3);
rollback to a;
insert into t values (3);
rollback;
set session characteristics as transaction read write;
insert into t values (3);
reset default_transaction_read_only;
set spock.readonly = off;
-- Who has been a plain user in a transaction stays one to its end.
begin;
select count(*) from t;
reset role;
insert into t values (3);
rollback;
reset role;
insert into t values (4);
-- What a user asks for stands.
begin read only;
insert into t values (5);
rollback;
-- A session of its own.
reset spock.readonly;
alter role plain set search_path = public;
alter database postgres set spock.readonly = 'user';
\c - plain
insert into t values (6);
set spock.readonly = off;
\c - postgres
insert into t values (7);
alter database postgres reset spock.readonly;
\c - plain
insert into t values (8);
\c - postgres
select id from t order by id;
