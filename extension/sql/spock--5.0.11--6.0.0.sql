/* Spock 5.0.11 to 6.0.0: progress moves from a table to shared memory, subscriptions are numbered by a sequence, conflicts
   have other names, schemas and extensions can be reserved. New functions and views come with 7.0.0. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit

DROP FUNCTION spock.convert_column_to_int8(regclass, smallint);
DROP FUNCTION spock.convert_sequence_to_snowflake(regclass);
DROP FUNCTION spock.wait_for_apply_worker(bigint, integer);

-- What the table says is taken over: an upgrade that is rolled back leaves nothing that the next one would not merge.
CREATE FUNCTION spock.adopt_progress(node_id oid, remote_node_id oid, remote_commit_ts timestamptz, remote_lsn pg_lsn,
    remote_insert_lsn pg_lsn, last_updated_ts timestamptz, updated_by_decode boolean) RETURNS void
AS 'MODULE_PATHNAME', 'spock_adopt_progress' LANGUAGE c VOLATILE STRICT;

SELECT spock.adopt_progress(p.node_id, p.remote_node_id, p.remote_commit_ts, p.remote_lsn, p.remote_insert_lsn,
                            p.last_updated_ts, p.updated_by_decode)
  FROM spock.progress p;

DROP FUNCTION spock.adopt_progress(oid, oid, timestamptz, pg_lsn, pg_lsn, timestamptz, boolean);
DROP VIEW spock.lag_tracker;
DROP TABLE spock.progress;

-- Subscriptions that are there keep their numbers, which are hashes.
CREATE SEQUENCE spock.sub_id_generator
    AS integer MINVALUE 1 START WITH 1 MAXVALUE 2147483647 CYCLE
    OWNED BY spock.subscription.sub_id;

UPDATE spock.resolutions
   SET conflict_type = CASE conflict_type
           WHEN 'update_update' THEN 'update_exists'
           WHEN 'update_delete' THEN 'update_missing'
           ELSE 'delete_missing'
       END
 WHERE conflict_type IN ('update_update', 'update_delete', 'delete_delete');

CREATE INDEX ON spock.resolutions (log_time);

CREATE TABLE spock.reserved_object (
    name name NOT NULL,
    kind text NOT NULL CHECK (kind IN ('schema', 'extension')),
    exclude_from_dump boolean NOT NULL DEFAULT true,
    block_in_repset boolean NOT NULL DEFAULT true,
    replicate_ddl boolean,
    builtin boolean NOT NULL DEFAULT false,
    PRIMARY KEY (name, kind),
    CONSTRAINT reserved_object_replicate_ddl_kind CHECK ((kind = 'schema') = (replicate_ddl IS NOT NULL))
) WITH (user_catalog_table = true);

INSERT INTO spock.reserved_object (name, kind, exclude_from_dump, block_in_repset, replicate_ddl, builtin) VALUES
    ('spock', 'schema', true, true, true, true),
    ('spock', 'extension', true, true, NULL, true),
    ('snowflake', 'schema', true, true, true, true),
    ('snowflake', 'extension', true, true, NULL, true),
    ('lolor', 'schema', true, false, true, true),
    ('lolor', 'extension', true, false, NULL, true),
    ('pgedge_ace', 'schema', true, true, false, true);

SELECT pg_catalog.pg_extension_config_dump('spock.reserved_object', 'WHERE NOT builtin');
