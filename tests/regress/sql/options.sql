-- sub_alter_options: what it takes and what it refuses.
\set VERBOSITY terse
create extension spock;
select spock.node_create('n1', 'dbname=postgres') > 0 as created;
select spock.sub_alter_options('nothing', '{}');
-- Rows as sub_create would write them: there is no second server here.
insert into spock.node (node_id, node_name) values (1, 'n2');
insert into spock.node_interface (if_id, if_name, if_nodeid, if_dsn) values (1, 'n2', 1, 'dbname=none');
insert into spock.subscription (sub_id, sub_name, sub_origin, sub_target, sub_origin_if, sub_target_if, sub_enabled, sub_slot_name,
    sub_replication_sets)
  select n, 'sub_' || n, 1, node_id, 1, node_local_interface, false, 'slot_' || n, '{default}' from spock.local_node, generate_series(1, 2) n;
-- Nothing to do.
select spock.sub_alter_options('sub_1', '{}');
select spock.sub_alter_options('sub_1', null);
-- Bad input: one error, and nothing is changed.
select spock.sub_alter_options('sub_1', '[]');
select spock.sub_alter_options('sub_1', '"all"');
select spock.sub_alter_options('sub_1', '{"forward_origins": "all"}');
select spock.sub_alter_options('sub_1', '{"forward_origins": [1]}');
select spock.sub_alter_options('sub_1', '{"forward_origins": [null]}');
select spock.sub_alter_options('sub_1', '{"forward_origins": ["n3"]}');
select spock.sub_alter_options('sub_1', '{"apply_delay": 5}');
select spock.sub_alter_options('sub_1', '{"apply_delay": "soon"}');
select spock.sub_alter_options('sub_1', '{"skip_schema": {}}');
select spock.sub_alter_options('sub_1', '{"skip_schema": ["app"], "unknown": true}');
select sub_forward_origins, sub_apply_delay, sub_skip_schema from spock.subscription where sub_name = 'sub_1';
-- All at once, and back.
select spock.sub_alter_options('sub_1', '{"forward_origins": ["all", "all"], "apply_delay": "1 min 5 s", "skip_schema": ["app", "App"]}');
select sub_forward_origins, sub_apply_delay, sub_skip_schema from spock.subscription where sub_name = 'sub_1';
select spock.sub_alter_options('sub_1', '{"forward_origins": [], "apply_delay": "0", "skip_schema": []}');
select sub_forward_origins, sub_apply_delay, sub_skip_schema from spock.subscription where sub_name = 'sub_1';
-- Forwarding goes with no other enabled subscription.
begin;
update spock.subscription set sub_enabled = true;
select spock.sub_alter_options('sub_1', '{"forward_origins": ["all"]}');
rollback;
begin;
update spock.subscription set sub_enabled = true where sub_name = 'sub_1';
select spock.sub_alter_options('sub_1', '{"forward_origins": ["all"]}');
select spock.sub_enable('sub_2');
rollback;
-- sub_create looks at the value before it looks at the network.
select spock.sub_create('sub_3', 'host=nowhere dbname=none', forward_origins := '{n3}');
