-- Connection parameters for every connection to a node, and other settings of operation.
\set VERBOSITY terse
create extension spock;
show spock.extra_connection_options;
\set VERBOSITY default
alter system set spock.extra_connection_options = 'keepalives_idle=7 passfile=/secret/place';
alter system set spock.extra_connection_options = 'keepalives_idle=7 password=Tops3cret';
alter system set spock.extra_connection_options = 'nothing=1 password=Tops3cret';
alter system set spock.extra_connection_options = 'postgresql://u:Tops3cret@host/db';
alter system set spock.extra_connection_options = 'password=''Tops3cret';
alter system set spock.extra_connection_options = 'dbname=elsewhere';
alter system set spock.extra_connection_options = 'sslmode=prefer replication=database';
alter system set spock.extra_connection_options = 'application_name=x';
\set VERBOSITY terse
select pg_reload_conf();
\c
select setting from pg_show_all_settings() where name = 'spock.extra_connection_options' and setting <> '';
create role nobody;
set role nobody;
\set VERBOSITY sqlstate
show spock.extra_connection_options;
\set VERBOSITY terse
select count(*) from pg_settings where name = 'spock.extra_connection_options';
reset role;
alter system reset spock.extra_connection_options;
set spock.extra_connection_options = '';
-- Others.
show spock.sync_timeout;
\set VERBOSITY sqlstate
set spock.sync_timeout = -1;
\set VERBOSITY terse
set spock.sync_timeout = '3min';
show spock.sync_timeout;
show spock.channel_counters;
set spock.channel_counters = off;
show spock.stats_max_entries;
set spock.stats_max_entries = 5;
