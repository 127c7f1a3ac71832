/* Spock 6.0.0 to 7.0.0: from the C edition to this one. Above the last line stands what tables need; the last line is
   replaced, when the extension is installed, by the functions, views and privileges of spock--7.0.0.sql, each statement as
   CREATE OR REPLACE. So nothing that depends on a function or view has to be dropped, but on spock.sub_show_status, and an
   upgraded database has exactly the functions of a new one. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit

-- It has one column more at its end.
DROP FUNCTION spock.sub_show_status(name);

CREATE INDEX depend_reference_idx ON spock.depend (refclassid, refobjid);

CREATE TABLE spock.tombstone (
    relation oid NOT NULL,
    key_hash bigint,
    removed_by xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    displaced boolean NOT NULL DEFAULT false
);

CREATE INDEX tombstone_relation_idx ON spock.tombstone (relation, key_hash);

-- What is left of columns that count of removed rows: what was added after a row was removed here, by changes older than that
-- (removed_by: the transaction that removed the row, 0: there was none), and that an UPDATE has brought a row back (no values).
CREATE TABLE spock.counter_rest (
    relation oid NOT NULL,
    key_hash bigint NOT NULL,
    removed_by bigint NOT NULL,
    first boolean NOT NULL,
    row_columns smallint[],
    row_values text[],
    written_by xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()
);

CREATE INDEX counter_rest_relation_idx ON spock.counter_rest (relation, key_hash);

-- Versions of rows that a part of a transaction wrote, where the server cannot keep them (origin 0: this node).
CREATE TABLE spock.row_version (
    written_by xid8 PRIMARY KEY,
    commit_ts timestamptz NOT NULL,
    origin oid NOT NULL,
    kept_since timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- Rows that are kept out of their tables as long as newer rows hold their values in unique indexes. Columns are numbers.
CREATE TABLE spock.displaced_row (
    displaced_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation regclass NOT NULL,
    key_hash bigint,
    row_columns smallint[] NOT NULL,
    row_values text[] NOT NULL,
    version_time timestamptz NOT NULL,
    version_origin oid NOT NULL,
    version_xid bigint NOT NULL,
    index_name text NOT NULL,
    displaced_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

CREATE INDEX displaced_row_relation_idx ON spock.displaced_row (relation, key_hash);

-- Versions of the rows that these are displaced for: the server forgets them, and the order of all of them must stay.
CREATE TABLE spock.holder_version (
    relation regclass NOT NULL,
    key_hash bigint NOT NULL,
    version_time timestamptz NOT NULL,
    version_origin oid NOT NULL,
    PRIMARY KEY (relation, key_hash)
);

-- Transactions that are put aside whole, and their messages in parts.
CREATE TABLE spock.parked_transaction (
    parked_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sub_id oid NOT NULL,
    remote_origin oid NOT NULL,
    remote_xid bigint NOT NULL,
    remote_commit_lsn pg_lsn NOT NULL,
    remote_commit_ts timestamptz NOT NULL,
    parked_at timestamptz NOT NULL,
    tried_at timestamptz,
    format integer NOT NULL,
    bytes bigint NOT NULL,
    changes bigint NOT NULL,
    waits_for bigint[] NOT NULL,
    blocks text NOT NULL CHECK (blocks IN ('keys', 'tables', 'everything')),
    blocked_tables text[] NOT NULL,
    cause_sqlstate text,
    cause_message text NOT NULL,
    cause_relation text,
    touched bytea NOT NULL
);

CREATE INDEX parked_transaction_sub_idx ON spock.parked_transaction (sub_id, parked_id);

CREATE TABLE spock.parked_content (
    parked_id bigint NOT NULL,
    part integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (parked_id, part)
);

\functions_and_views
