-- Columns that count: what is refused when they are set up.
\pset format unaligned
\set VERBOSITY terse
create extension spock;
create domain amount as int;
create table t (id int primary key, n int not null, r real not null, f float8 not null, x text not null, a amount not null, m int, g int generated always as (n + 1) stored not null, "Odd ""name" numeric not null);
create table nokey (n int not null);
create table late (id int primary key deferrable, n int not null);
create table parts (id int primary key, n int not null) partition by range (id);
create view v as select * from t;
-- Sums of floating-point numbers depend on the order.
select spock.delta_apply('t', 'r');
\set VERBOSITY default
select spock.delta_apply('t', 'f');
\set VERBOSITY terse
select spock.delta_apply('t', 'x');
select spock.delta_apply('t', 'a');
select spock.delta_apply('t', 'g');
-- A column that can be NULL stays as it is.
select spock.delta_apply('t', 'm');
select spock.delta_apply('t', 'id');
select spock.delta_apply('t', 'absent');
select spock.delta_apply('t', null);
select spock.delta_apply(4711::regclass, 'n');
select spock.delta_apply('nokey', 'n');
select spock.delta_apply('late', 'n');
select spock.delta_apply('parts', 'n');
select spock.delta_apply('v', 'n');
alter table t replica identity nothing;
select spock.delta_apply('t', 'n');
-- With whole old rows in the WAL it works on every server.
alter table t replica identity full;
select spock.delta_apply('t', 'n'), spock.delta_apply('t', 'Odd "name');
select spock.delta_apply('t', 'n', true), spock.delta_apply('t', 'Odd "name', true);
select spock.delta_apply('t', 'n', true);
-- It is for the owner.
create role somebody;
grant usage on schema spock to somebody;
set role somebody;
select spock.delta_apply('t', 'n');
reset role;
revoke usage on schema spock from somebody;
drop role somebody;
