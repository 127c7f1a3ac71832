/* Spock 6.0.0 to 7.0.0: from the C edition to this one. Above the last line stands what tables need; the last line is
   replaced, when the extension is installed, by the functions, views and privileges of spock--7.0.0.sql, each statement as
   CREATE OR REPLACE. So nothing that depends on a function or view has to be dropped, and an upgraded database has exactly
   the functions of a new one. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit

CREATE INDEX depend_reference_idx ON spock.depend (refclassid, refobjid);

CREATE TABLE spock.tombstone (
    relation oid NOT NULL,
    key_hash bigint,
    removed_by xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()
);

CREATE INDEX tombstone_relation_idx ON spock.tombstone (relation, key_hash);

\functions_and_views
