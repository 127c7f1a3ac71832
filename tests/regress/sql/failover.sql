-- Slots that outlive their server: settings, and what a server shows that is no standby.
\set VERBOSITY default
select name, setting, unit, context, vartype, min_val, max_val, enumvals from pg_settings
 where name in ('spock.primary_dsn', 'spock.synchronize_slot_names', 'spock.drop_extra_slots', 'spock.pg_standby_slot_names',
    'spock.standby_slots_min_confirmed', 'spock.missing_standby_slots', 'spock.failover_slots_naptime',
    'spock.failover_slots_feedback_naptime')
 order by name;
-- Filters.
alter system set spock.synchronize_slot_names = 'one', 'name:two', 'name_like:spk\_%', 'plugin:spock_output';
alter system set spock.synchronize_slot_names = 'nmae:one';
alter system set spock.synchronize_slot_names = 'name:one:two';
alter system set spock.synchronize_slot_names = 'plugin:';
alter system set spock.synchronize_slot_names = 'one two';
alter system set spock.pg_standby_slot_names = 'one', 'two';
alter system set spock.pg_standby_slot_names = 'one,';
alter system set spock.missing_standby_slots = 'ignore';
alter system reset all;
-- A slot that is waited for and one that is copied mean something to the server itself on 18.
select name, extra_desc like 'No effect%' = (current_setting('server_version_num')::int >= 180000) as says_where_it_counts
  from pg_settings
 where name ~ '^spock\.(primary_dsn|synchronize_slot|drop_extra|pg_standby|standby_slots|missing_standby|failover_slots)'
 order by name;
-- The way to the primary may hold a password.
create role reader;
set role reader;
select count(*) from pg_settings where name = 'spock.primary_dsn';
\set VERBOSITY sqlstate
show spock.primary_dsn;
\set VERBOSITY default
reset role;
drop role reader;
-- Not a standby: nothing is copied.
create extension spock;
select * from spock.failover_slot_status();
