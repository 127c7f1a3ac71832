/* Spock 5.0.6 to 5.0.7. The new sync_event and wait_for_sync_event, and pause and resume of apply
   workers, come with 7.0.0. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit

-- The bytes in this column have always been those of an array. Rewriting it would read them as text.
LOCK TABLE spock.subscription IN ACCESS EXCLUSIVE MODE;

UPDATE pg_catalog.pg_attribute
   SET atttypid = 'pg_catalog.text[]'::pg_catalog.regtype, attndims = 1
 WHERE attrelid = 'spock.subscription'::pg_catalog.regclass
   AND attname = 'sub_skip_schema'
   AND atttypid = 'pg_catalog.text'::pg_catalog.regtype;

-- Statistics of the column compare values of the former type.
DELETE FROM pg_catalog.pg_statistic
 WHERE starelid = 'spock.subscription'::pg_catalog.regclass
   AND staattnum = (SELECT attnum FROM pg_catalog.pg_attribute
                     WHERE attrelid = starelid AND attname = 'sub_skip_schema');

DROP FUNCTION spock.sync_event();
DROP PROCEDURE spock.wait_for_sync_event(oid, pg_lsn, integer);
DROP PROCEDURE spock.wait_for_sync_event(name, pg_lsn, integer);
