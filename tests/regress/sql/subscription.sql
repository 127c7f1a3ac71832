-- Subscriptions: bad input. What works is told in the stories.
\set VERBOSITY sqlstate
create extension spock;
-- No node yet.
select spock.sub_create('s', 'dbname=nowhere');
select * from spock.sub_show_status();
select spock.node_create('n1', :'dsn');
select * from spock.sub_show_status();
select spock.sub_show_status('nothing');
-- Names: lower case letters, digits and underscores, and neither none nor too many.
select spock.sub_create('', :'dsn');
select spock.sub_create('With-Capitals', :'dsn');
-- Nobody listens there.
select spock.sub_create('s', 'host=/nonexistent port=1 dbname=postgres');
select spock.sub_create('s', 'no = connection = string');
-- A node does not subscribe to itself.
select spock.sub_create('s', :'dsn');
-- Copies or not, a node does not subscribe to itself.
select spock.sub_create('s', :'dsn', synchronize_structure := true);
select spock.sub_create('s', :'dsn', synchronize_data := true);
-- Unknown subscriptions.
select spock.sub_enable('nothing');
select spock.sub_disable('nothing');
select spock.sub_drop('nothing');
select spock.sub_drop('nothing', true);
select spock.sub_wait_for_sync('nothing');
-- NULL does nothing.
select spock.sub_create(null, :'dsn') is null as nothing;
select spock.sub_drop(null) is null as nothing;
select count(*) from spock.subscription;
-- What a person reads: a message that says what is wrong, and never a password.
\set VERBOSITY default
\set SHOW_CONTEXT never
select spock.sub_create('s', 'host=/nonexistent port=1 dbname=postgres password=tops3cret');
select spock.sub_create('s', 'password=tops3cret no = connection = string');
