-- Settings of applying: what they take, and what this version refuses.
\set VERBOSITY default
select name, setting, unit, context, vartype, min_val, max_val, enumvals from pg_settings
 where name in ('spock.apply_change_logging', 'spock.log_verbosity', 'spock.exception_logging', 'spock.check_all_uc_indexes',
    'spock.read_retry_count', 'spock.exception_replay_queue_size', 'spock.output_delay', 'spock.log_origin_change')
 order by name;
set spock.apply_change_logging = 'verbose';
set spock.apply_change_logging = 'everything';
set spock.log_verbosity = 'debug1';
alter system set spock.exception_logging = 'none';
alter system set spock.exception_logging = 'all';
alter system set spock.read_retry_count = 5;
alter system set spock.read_retry_count = 10;
alter system set spock.read_retry_count = 101;
alter system set spock.exception_replay_queue_size = '4MB';
alter system set spock.exception_replay_queue_size = '8MB';
-- The words for a range with a unit differ between majors.
\set VERBOSITY sqlstate
alter system set spock.output_delay = 60001;
