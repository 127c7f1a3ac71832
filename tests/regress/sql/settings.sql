-- Settings of applying: what they take, and what they refuse.
\set VERBOSITY default
select name, setting, unit, context, vartype, min_val, max_val, enumvals from pg_settings
 where name in ('spock.apply_change_logging', 'spock.log_verbosity', 'spock.exception_behaviour', 'spock.exception_logging',
    'spock.check_all_uc_indexes', 'spock.read_retry_count', 'spock.exception_replay_queue_size',
    'spock.restart_delay_on_exception', 'spock.output_delay', 'spock.log_origin_change', 'spock.park_max_transactions',
    'spock.park_max_size')
 order by name;
set spock.apply_change_logging = 'verbose';
set spock.apply_change_logging = 'everything';
set spock.log_verbosity = 'debug1';
-- Remote transactions that cannot be applied.
alter system set spock.exception_behaviour = 'discard';
alter system set spock.exception_behaviour = 'transdiscard';
alter system set spock.exception_behaviour = 'sub_disable';
alter system set spock.exception_behaviour = 'park';
alter system set spock.exception_behaviour = 'ignore';
alter system set spock.park_max_transactions = 1;
alter system set spock.park_max_size = '2GB';
alter system set spock.exception_logging = 'none';
alter system set spock.exception_logging = 'discard';
alter system set spock.exception_logging = 'all';
alter system set spock.exception_logging = 'some';
set spock.exception_behaviour = 'discard';
set spock.exception_logging = 'none';
alter system set spock.restart_delay_on_exception = '10s';
set spock.restart_delay_on_exception = 0;
-- The whole range of settings that have nothing to do here.
alter system set spock.read_retry_count = 0;
alter system set spock.read_retry_count = 100;
alter system set spock.read_retry_count = 101;
alter system set spock.exception_replay_queue_size = 0;
alter system set spock.exception_replay_queue_size = '8MB';
alter system set spock.exception_replay_queue_size = 2097151;
-- The words for a range with a unit differ between majors.
\set VERBOSITY sqlstate
alter system set spock.exception_replay_queue_size = 2097152;
alter system set spock.restart_delay_on_exception = -1;
alter system set spock.output_delay = 60001;
alter system set spock.park_max_transactions = 0;
alter system set spock.park_max_size = 0;
alter system set spock.park_max_size = '1kB';
alter system reset all;
