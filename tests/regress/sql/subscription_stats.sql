-- Conflicts counted by subscription. Counting itself: stories.
\set VERBOSITY terse
create extension spock;
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
select * from spock.get_subscription_stats(4711);
select * from spock.get_subscription_stats(0);
select spock.reset_subscription_stats(4711);
select spock.reset_subscription_stats();
select * from spock.get_subscription_stats(4711);
\set VERBOSITY sqlstate
select * from spock.get_subscription_stats(null);
select spock.reset_subscription_stats(0);
create role nobody;
grant usage on schema spock to nobody;
set role nobody;
select spock.reset_subscription_stats();
reset role;
select spock.node_drop('n1');
select spock.reset_subscription_stats();
