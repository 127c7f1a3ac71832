/* Spock 7.0.0: install script, written by hand. Tables, columns, constraint names, function signatures and C symbols are
   a public contract: databases made by the C edition are upgraded in place, and nodes of both editions work together. */

\echo Use "CREATE EXTENSION spock" to load this file. \quit

-- Nodes -----------------------------------------------------------------------------------------------------------------

CREATE TABLE spock.node (
    node_id oid NOT NULL PRIMARY KEY,
    node_name name NOT NULL UNIQUE,
    location text,
    country text,
    info jsonb
) WITH (user_catalog_table = true);

CREATE TABLE spock.node_interface (
    if_id oid NOT NULL PRIMARY KEY,
    if_name name NOT NULL,
    if_nodeid oid REFERENCES spock.node (node_id) ON UPDATE CASCADE,
    if_dsn text NOT NULL,
    UNIQUE (if_nodeid, if_name)
);

CREATE TABLE spock.local_node (
    node_id oid PRIMARY KEY REFERENCES spock.node (node_id),
    node_local_interface oid NOT NULL REFERENCES spock.node_interface (if_id)
);

CREATE TABLE spock.subscription (
    sub_id oid NOT NULL PRIMARY KEY,
    sub_name name NOT NULL UNIQUE,
    sub_origin oid NOT NULL REFERENCES spock.node (node_id) ON UPDATE CASCADE,
    sub_target oid NOT NULL REFERENCES spock.node (node_id) ON UPDATE CASCADE,
    sub_origin_if oid NOT NULL REFERENCES spock.node_interface (if_id),
    sub_target_if oid NOT NULL REFERENCES spock.node_interface (if_id),
    sub_enabled boolean NOT NULL DEFAULT true,
    sub_slot_name name NOT NULL,
    sub_replication_sets text[],
    sub_forward_origins text[],
    sub_apply_delay interval NOT NULL DEFAULT '0',
    sub_force_text_transfer boolean NOT NULL DEFAULT false,
    sub_skip_lsn pg_lsn NOT NULL DEFAULT '0/0',
    sub_skip_schema text[],
    sub_created_at timestamptz
);

CREATE SEQUENCE spock.sub_id_generator
    AS integer MINVALUE 1 START WITH 1 MAXVALUE 2147483647 CYCLE
    OWNED BY spock.subscription.sub_id;

CREATE TABLE spock.local_sync_status (
    sync_kind "char" NOT NULL CHECK (sync_kind IN ('i', 's', 'd', 'f')),
    sync_subid oid NOT NULL REFERENCES spock.subscription (sub_id),
    sync_nspname name,
    sync_relname name,
    sync_status "char" NOT NULL,
    sync_statuslsn pg_lsn NOT NULL,
    UNIQUE (sync_subid, sync_nspname, sync_relname)
);

-- Replication sets ------------------------------------------------------------------------------------------------------

CREATE TABLE spock.replication_set (
    set_id oid NOT NULL PRIMARY KEY,
    set_nodeid oid NOT NULL REFERENCES spock.node (node_id) ON UPDATE CASCADE,
    set_name name NOT NULL,
    replicate_insert boolean NOT NULL DEFAULT true,
    replicate_update boolean NOT NULL DEFAULT true,
    replicate_delete boolean NOT NULL DEFAULT true,
    replicate_truncate boolean NOT NULL DEFAULT true,
    UNIQUE (set_nodeid, set_name)
) WITH (user_catalog_table = true);

CREATE TABLE spock.replication_set_table (
    set_id oid NOT NULL,
    set_reloid regclass NOT NULL,
    set_att_list text[],
    set_row_filter pg_node_tree,
    PRIMARY KEY (set_id, set_reloid)
) WITH (user_catalog_table = true);

CREATE TABLE spock.replication_set_seq (
    set_id oid NOT NULL,
    set_seqoid regclass NOT NULL,
    PRIMARY KEY (set_id, set_seqoid)
) WITH (user_catalog_table = true);

CREATE TABLE spock.sequence_state (
    seqoid oid NOT NULL PRIMARY KEY,
    cache_size integer NOT NULL,
    last_value bigint NOT NULL
) WITH (user_catalog_table = true);

CREATE TABLE spock.depend (
    classid oid NOT NULL,
    objid oid NOT NULL,
    objsubid integer NOT NULL,
    refclassid oid NOT NULL,
    refobjid oid NOT NULL,
    refobjsubid integer NOT NULL,
    deptype "char" NOT NULL
) WITH (user_catalog_table = true);

CREATE INDEX depend_reference_idx ON spock.depend (refclassid, refobjid);

CREATE TABLE spock.queue (
    queued_at timestamptz NOT NULL,
    role name NOT NULL,
    replication_sets text[],
    message_type "char" NOT NULL,
    message json NOT NULL
);

CREATE TABLE spock.pii (
    id integer GENERATED ALWAYS AS IDENTITY,
    pii_schema text NOT NULL,
    pii_table text NOT NULL,
    pii_column text NOT NULL,
    PRIMARY KEY (id)
) WITH (user_catalog_table = true);

-- Conflicts and exceptions ----------------------------------------------------------------------------------------------

CREATE TABLE spock.resolutions (
    id integer GENERATED ALWAYS AS IDENTITY,
    node_name name NOT NULL,
    log_time timestamptz NOT NULL,
    relname text,
    idxname text,
    conflict_type text,
    conflict_resolution text,
    local_origin integer,
    local_tuple text,
    local_xid xid,
    local_timestamp timestamptz,
    remote_origin integer,
    remote_tuple text,
    remote_xid xid,
    remote_timestamp timestamptz,
    remote_lsn pg_lsn,
    PRIMARY KEY (id, node_name)
) WITH (user_catalog_table = true);

CREATE INDEX ON spock.resolutions (log_time);

CREATE TABLE spock.exception_log (
    remote_origin oid NOT NULL,
    remote_commit_ts timestamptz NOT NULL,
    command_counter integer NOT NULL,
    retry_errored_at timestamptz NOT NULL,
    remote_xid bigint NOT NULL,
    local_origin oid,
    local_commit_ts timestamptz,
    table_schema text,
    table_name text,
    operation text,
    local_tup jsonb,
    remote_old_tup jsonb,
    remote_new_tup jsonb,
    ddl_statement text,
    ddl_user text,
    error_message text NOT NULL,
    PRIMARY KEY (remote_origin, remote_commit_ts, command_counter, retry_errored_at)
) WITH (user_catalog_table = true);

CREATE TABLE spock.exception_status (
    remote_origin oid NOT NULL,
    remote_commit_ts timestamptz NOT NULL,
    retry_errored_at timestamptz NOT NULL,
    remote_xid bigint NOT NULL,
    status text NOT NULL,
    resolved_at timestamptz,
    resolution_details jsonb,
    PRIMARY KEY (remote_origin, remote_commit_ts, retry_errored_at)
) WITH (user_catalog_table = true);

CREATE TABLE spock.exception_status_detail (
    remote_origin oid NOT NULL,
    remote_commit_ts timestamptz NOT NULL,
    command_counter integer NOT NULL,
    retry_errored_at timestamptz NOT NULL,
    remote_xid bigint NOT NULL,
    status text NOT NULL,
    resolved_at timestamptz,
    resolution_details jsonb,
    PRIMARY KEY (remote_origin, remote_commit_ts, command_counter, retry_errored_at),
    FOREIGN KEY (remote_origin, remote_commit_ts, retry_errored_at) REFERENCES spock.exception_status
) WITH (user_catalog_table = true);

-- Removed keys of which no dead row tells: of rows that were not here (by hash), and of emptied tables (no hash).
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

-- Reserved schemas and extensions ---------------------------------------------------------------------------------------

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

-- Functions, views and privileges: upgrade scripts end with this part, too ------------------------------------------------
-- Every statement from here on can run again: xtask turns CREATE into CREATE OR REPLACE.

-- Reserved schemas and extensions ---------------------------------------------------------------------------------------

CREATE FUNCTION spock.reserved_object_guard() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.builtin THEN
        RAISE EXCEPTION 'cannot % built-in reserved % "%"', lower(TG_OP), OLD.kind, OLD.name;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER reserved_object_guard BEFORE UPDATE OR DELETE ON spock.reserved_object
    FOR EACH ROW EXECUTE FUNCTION spock.reserved_object_guard();

CREATE FUNCTION spock.reserved_object_add(p_name name, p_kind text, p_exclude_from_dump boolean DEFAULT true,
    p_block_in_repset boolean DEFAULT true, p_replicate_ddl boolean DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ddl boolean := CASE WHEN p_kind = 'schema' THEN coalesce(p_replicate_ddl, true) END;
BEGIN
    -- Rows of a user catalog table cannot be the target of ON CONFLICT.
    UPDATE spock.reserved_object
       SET exclude_from_dump = p_exclude_from_dump, block_in_repset = p_block_in_repset, replicate_ddl = ddl
     WHERE name = p_name AND kind = p_kind;
    IF NOT FOUND THEN
        INSERT INTO spock.reserved_object (name, kind, exclude_from_dump, block_in_repset, replicate_ddl)
        VALUES (p_name, p_kind, p_exclude_from_dump, p_block_in_repset, ddl);
    END IF;
END
$$;

CREATE FUNCTION spock.reserved_object_remove(p_name name, p_kind text) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM spock.reserved_object WHERE name OPERATOR(pg_catalog.=) p_name AND kind OPERATOR(pg_catalog.=) p_kind
$$;

-- Versions and capabilities ---------------------------------------------------------------------------------------------

CREATE FUNCTION spock.spock_version() RETURNS text
AS 'MODULE_PATHNAME', 'spock_version' LANGUAGE c;

CREATE FUNCTION spock.spock_version_num() RETURNS integer
AS 'MODULE_PATHNAME', 'spock_version_num' LANGUAGE c;

CREATE FUNCTION spock.spock_max_proto_version() RETURNS integer
AS 'MODULE_PATHNAME', 'spock_max_proto_version' LANGUAGE c;

CREATE FUNCTION spock.spock_min_proto_version() RETURNS integer
AS 'MODULE_PATHNAME', 'spock_min_proto_version' LANGUAGE c;

CREATE FUNCTION spock.server_capabilities(OUT capability text, OUT present boolean, OUT detail text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_server_capabilities' LANGUAGE c STABLE;

-- On a standby: the worker that copies the primary's logical slots (slot_name is NULL), and each of these slots.
CREATE FUNCTION spock.failover_slot_status(OUT slot_name name, OUT state text, OUT ready boolean, OUT restart_lsn pg_lsn,
    OUT confirmed_lsn pg_lsn, OUT since timestamptz) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_failover_slot_status' LANGUAGE c VOLATILE;

-- Removed keys that are remembered: vacuum keeps rows that were deleted by kept_from or later, since kept_since; relations
-- from which keys were removed (NULL: all count as such); rows of spock.tombstone; the node that is waited for.
CREATE FUNCTION spock.tombstone_status(OUT kept_from bigint, OUT kept_since timestamptz, OUT relations bigint,
    OUT written bigint, OUT waits_for oid) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_tombstone_status' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.get_country() RETURNS text
LANGUAGE sql AS $$ SELECT pg_catalog.current_setting('spock.country') $$;

-- Nodes and their interfaces --------------------------------------------------------------------------------------------

CREATE FUNCTION spock.node_create(node_name name, dsn text, location text DEFAULT NULL, country text DEFAULT NULL,
    info jsonb DEFAULT NULL) RETURNS oid
AS 'MODULE_PATHNAME', 'spock_create_node' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.node_drop(node_name name, ifexists boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_drop_node' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.node_add_interface(node_name name, interface_name name, dsn text) RETURNS oid
AS 'MODULE_PATHNAME', 'spock_alter_node_add_interface' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.node_drop_interface(node_name name, interface_name name) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_node_drop_interface' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.node_info(OUT node_id oid, OUT node_name text, OUT sysid text, OUT dbname text,
    OUT replication_sets text, OUT location text, OUT country text, OUT info jsonb) RETURNS record
AS 'MODULE_PATHNAME', 'spock_node_info' LANGUAGE c STABLE STRICT;

-- Subscriptions ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION spock.sub_create(subscription_name name, provider_dsn text,
    replication_sets text[] DEFAULT '{default,default_insert_only,ddl_sql}', synchronize_structure boolean DEFAULT false,
    synchronize_data boolean DEFAULT false, forward_origins text[] DEFAULT '{}', apply_delay interval DEFAULT '0',
    force_text_transfer boolean DEFAULT false, enabled boolean DEFAULT true, skip_schema text[] DEFAULT '{}') RETURNS oid
AS 'MODULE_PATHNAME', 'spock_create_subscription' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_drop(subscription_name name, ifexists boolean DEFAULT false) RETURNS oid
AS 'MODULE_PATHNAME', 'spock_drop_subscription' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_enable(subscription_name name, immediate boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_subscription_enable' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_disable(subscription_name name, immediate boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_subscription_disable' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_alter_interface(subscription_name name, interface_name name) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_subscription_interface' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_add_repset(subscription_name name, replication_set name) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_subscription_add_replication_set' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_remove_repset(subscription_name name, replication_set name) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_subscription_remove_replication_set' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_alter_skiplsn(subscription_name name, lsn pg_lsn) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_subscription_skip_lsn' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_alter_options(subscription_name name, options jsonb) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_subscription_options' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_alter_sync(subscription_name name, truncate boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_subscription_synchronize' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_resync_table(subscription_name name, relation regclass, truncate boolean DEFAULT true) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_alter_subscription_resynchronize_table' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sub_show_status(subscription_name name DEFAULT NULL, OUT subscription_name text, OUT status text,
    OUT provider_node text, OUT provider_dsn text, OUT slot_name text, OUT replication_sets text[],
    OUT forward_origins text[], OUT clock_skew interval, OUT blocked text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_subscription_status' LANGUAGE c STABLE;

CREATE FUNCTION spock.sub_worker_status(subscription_name name DEFAULT NULL, OUT subscription_name text, OUT worker_pid integer,
    OUT status text, OUT attempts integer, OUT next_retry timestamptz, OUT last_error text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_show_subscription_worker' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.sub_show_table(subscription_name name, relation regclass, OUT nspname text, OUT relname text,
    OUT status text) RETURNS record
AS 'MODULE_PATHNAME', 'spock_show_subscription_table' LANGUAGE c STABLE STRICT;

CREATE FUNCTION spock.sub_wait_for_sync(subscription_name name) RETURNS void
AS 'MODULE_PATHNAME', 'spock_wait_for_subscription_sync_complete' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.table_wait_for_sync(subscription_name name, relation regclass) RETURNS void
AS 'MODULE_PATHNAME', 'spock_wait_for_table_sync_complete' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.spock_gen_slot_name(dbname name, provider_node name, subscription name) RETURNS name
AS 'MODULE_PATHNAME', 'spock_gen_slot_name' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

-- Replication sets ------------------------------------------------------------------------------------------------------

CREATE FUNCTION spock.repset_create(set_name name, replicate_insert boolean DEFAULT true, replicate_update boolean DEFAULT true,
    replicate_delete boolean DEFAULT true, replicate_truncate boolean DEFAULT true) RETURNS oid
AS 'MODULE_PATHNAME', 'spock_create_replication_set' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.repset_alter(set_name name, replicate_insert boolean DEFAULT NULL, replicate_update boolean DEFAULT NULL,
    replicate_delete boolean DEFAULT NULL, replicate_truncate boolean DEFAULT NULL) RETURNS oid
AS 'MODULE_PATHNAME', 'spock_alter_replication_set' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.repset_drop(set_name name, ifexists boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_drop_replication_set' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.repset_add_table(set_name name, relation regclass, synchronize_data boolean DEFAULT false,
    columns text[] DEFAULT NULL, row_filter text DEFAULT NULL, include_partitions boolean DEFAULT true) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_replication_set_add_table' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.repset_add_all_tables(set_name name, schema_names text[], synchronize_data boolean DEFAULT false)
RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_replication_set_add_all_tables' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.repset_remove_table(set_name name, relation regclass, include_partitions boolean DEFAULT true)
RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_replication_set_remove_table' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.repset_add_partition(parent regclass, partition regclass DEFAULT NULL, row_filter text DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'spock_replication_set_add_partition' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.repset_remove_partition(parent regclass, partition regclass DEFAULT NULL) RETURNS int
AS 'MODULE_PATHNAME', 'spock_replication_set_remove_partition' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.repset_add_seq(set_name name, relation regclass, synchronize_data boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_replication_set_add_sequence' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.repset_add_all_seqs(set_name name, schema_names text[], synchronize_data boolean DEFAULT false)
RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_replication_set_add_all_sequences' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.repset_remove_seq(set_name name, relation regclass) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_replication_set_remove_sequence' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.sync_seq(relation regclass) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_synchronize_sequence' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.repset_show_table(relation regclass, repsets text[], OUT relid oid, OUT nspname text, OUT relname text,
    OUT att_list text[], OUT has_row_filter boolean, OUT relkind "char", OUT relispartition boolean) RETURNS record
AS 'MODULE_PATHNAME', 'spock_show_repset_table_info' LANGUAGE c STABLE STRICT;

CREATE FUNCTION spock.table_data_filtered(reltyp anyelement, relation regclass, repsets text[]) RETURNS SETOF anyelement
AS 'MODULE_PATHNAME', 'spock_table_data_filtered' LANGUAGE c STABLE;

-- Statements that define things -----------------------------------------------------------------------------------------

CREATE FUNCTION spock.replicate_ddl(command text, replication_sets text[] DEFAULT '{ddl_sql}',
    search_path text DEFAULT pg_catalog.current_setting('search_path'), role text DEFAULT CURRENT_USER) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_replicate_ddl_command' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.replicate_ddl(command text[], replication_sets text[] DEFAULT '{ddl_sql}',
    search_path text DEFAULT pg_catalog.current_setting('search_path'), role text DEFAULT CURRENT_USER) RETURNS SETOF boolean
LANGUAGE sql VOLATILE STRICT AS $$
    SELECT spock.replicate_ddl(c.command, $2, $3, $4) FROM pg_catalog.unnest($1) WITH ORDINALITY c (command, place)
     ORDER BY c.place
$$;

CREATE VIEW spock.tables AS
    WITH set_tables AS (
        SELECT t.set_reloid::oid AS relid, s.set_name
          FROM spock.replication_set_table t
          JOIN spock.replication_set s ON s.set_id = t.set_id
          JOIN spock.local_node l ON l.node_id = s.set_nodeid
    )
    SELECT c.oid AS relid, n.nspname, c.relname, s.set_name
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN set_tables s ON s.relid = c.oid
     WHERE c.relkind IN ('r', 'p')
    UNION
    SELECT c.oid AS relid, n.nspname, c.relname, NULL::name AS set_name
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p')
       AND c.relpersistence = 'p'
       AND n.nspname !~ '^pg_'
       AND n.nspname <> 'information_schema'
       AND n.nspname <> 'spock'
       AND c.oid NOT IN (SELECT relid FROM set_tables);

-- Progress and monitoring -----------------------------------------------------------------------------------------------

CREATE FUNCTION spock.apply_group_progress(OUT dbid oid, OUT node_id oid, OUT remote_node_id oid,
    OUT remote_commit_ts timestamptz, OUT prev_remote_ts timestamptz, OUT remote_commit_lsn pg_lsn,
    OUT remote_insert_lsn pg_lsn, OUT received_lsn pg_lsn, OUT last_updated_ts timestamptz, OUT updated_by_decode boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'get_apply_group_progress' LANGUAGE c VOLATILE;

CREATE VIEW spock.progress AS
    SELECT p.*
      FROM spock.apply_group_progress() p
      JOIN pg_catalog.pg_database d ON d.oid = p.dbid
     WHERE d.datname = pg_catalog.current_database();

CREATE FUNCTION spock.clock_skew_status(OUT remote_node_id oid, OUT skew_us bigint, OUT uncertainty_us bigint,
    OUT measured_at timestamptz, OUT limit_ms integer, OUT within_limit boolean) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_clock_skew_status' LANGUAGE c VOLATILE;

CREATE VIEW spock.lag_tracker AS
    SELECT o.node_name AS origin_name,
           n.node_name AS receiver_name,
           max(p.remote_commit_ts) AS commit_timestamp,
           max(p.remote_commit_lsn) AS commit_lsn,
           max(p.remote_insert_lsn) AS remote_insert_lsn,
           max(p.received_lsn) AS received_lsn,
           max(p.remote_insert_lsn - p.remote_commit_lsn) AS replication_lag_bytes,
           max(p.last_updated_ts - p.remote_commit_ts) AS replication_lag,
           max(c.skew_us) * interval '1 microsecond' AS clock_skew
      FROM spock.progress p
      LEFT JOIN spock.subscription s ON s.sub_target = p.node_id AND s.sub_origin = p.remote_node_id
      LEFT JOIN spock.node o ON o.node_id = s.sub_origin
      LEFT JOIN spock.node n ON n.node_id = p.node_id
      LEFT JOIN spock.clock_skew_status() c ON c.remote_node_id = s.sub_origin
     GROUP BY o.node_name, n.node_name;

-- One row for each provider: its clock minus ours, so positive when the peer is ahead; the true difference is at most uncertainty_ms
-- away. NULL: not measured yet. limit_ms is spock.maximum_clock_skew.
CREATE VIEW spock.clock_skew AS
    SELECT n.node_name AS peer,
           round(c.skew_us / 1000.0, 3) AS skew_ms,
           round(c.uncertainty_us / 1000.0, 3) AS uncertainty_ms,
           c.measured_at,
           c.limit_ms,
           c.within_limit
      FROM spock.node n
      LEFT JOIN spock.clock_skew_status() c ON c.remote_node_id = n.node_id
     WHERE EXISTS (SELECT FROM spock.subscription s WHERE s.sub_origin = n.node_id);

CREATE FUNCTION spock.get_apply_worker_status(OUT worker_pid bigint, OUT worker_dboid integer, OUT worker_subid bigint,
    OUT worker_status text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'get_apply_worker_status' LANGUAGE c STABLE;

CREATE FUNCTION spock.get_channel_stats(OUT subid oid, OUT relid oid, OUT n_tup_ins bigint, OUT n_tup_upd bigint,
    OUT n_tup_del bigint, OUT n_conflict bigint, OUT n_dca bigint) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'get_channel_stats' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.reset_channel_stats() RETURNS void
AS 'MODULE_PATHNAME', 'reset_channel_stats' LANGUAGE c VOLATILE;

-- Subscription 0 is what this node sent.
CREATE VIEW spock.channel_table_stats AS
    SELECT st.subid,
           st.relid,
           CASE WHEN st.subid = 0 THEN '<output>'::name ELSE s.sub_name END AS sub_name,
           pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS table_name,
           st.n_tup_ins, st.n_tup_upd, st.n_tup_del, st.n_conflict, st.n_dca
      FROM spock.get_channel_stats() st
      LEFT JOIN spock.subscription s ON s.sub_id = st.subid
      LEFT JOIN pg_catalog.pg_class c ON c.oid = st.relid
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;

CREATE VIEW spock.channel_summary_stats AS
    SELECT subid,
           sub_name,
           sum(n_tup_ins) AS n_tup_ins,
           sum(n_tup_upd) AS n_tup_upd,
           sum(n_tup_del) AS n_tup_del,
           sum(n_conflict) AS n_conflict,
           sum(n_dca) AS n_dca
      FROM spock.channel_table_stats
     GROUP BY subid, sub_name;

CREATE FUNCTION spock.get_subscription_stats(subid oid, OUT subid oid, OUT confl_insert_exists bigint,
    OUT confl_update_origin_differs bigint, OUT confl_update_exists bigint, OUT confl_update_missing bigint,
    OUT confl_delete_origin_differs bigint, OUT confl_delete_missing bigint, OUT confl_delete_exists bigint,
    OUT stats_reset timestamptz) RETURNS record
AS 'MODULE_PATHNAME', 'spock_get_subscription_stats' LANGUAGE c STABLE;

CREATE FUNCTION spock.reset_subscription_stats(subid oid DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'spock_reset_subscription_stats' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.xact_commit_timestamp_origin(xid xid, OUT "timestamp" timestamptz, OUT roident oid) RETURNS record
LANGUAGE sql VOLATILE STRICT AS $$
    SELECT o."timestamp", o.roident FROM pg_catalog.pg_xact_commit_timestamp_origin(xid) o
$$;

-- What a joining node calls on its provider ------------------------------------------------------------------------------

CREATE FUNCTION spock.pause_apply_workers() RETURNS void
AS 'MODULE_PATHNAME', 'spock_pause_apply_workers' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.resume_apply_workers() RETURNS void
AS 'MODULE_PATHNAME', 'spock_resume_apply_workers' LANGUAGE c VOLATILE;

REVOKE ALL ON FUNCTION spock.pause_apply_workers() FROM PUBLIC;
REVOKE ALL ON FUNCTION spock.resume_apply_workers() FROM PUBLIC;

CREATE FUNCTION spock.apply_workers_paused() RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_apply_workers_paused' LANGUAGE c VOLATILE;

-- Which rows of a copy need versions of their own: the transaction before which everything is older than all that nodes other than
-- the subscriber can still send, and how far each of these was read by then. Waits for them, in milliseconds; NULL: one has not
-- said so in time; no row: one cannot say.
CREATE FUNCTION spock.settled(subscriber oid, wait integer, OUT before bigint, OUT node_id oid, OUT read_to pg_lsn)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_settled' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.removed_keys(relation regclass, unsettled text, OUT key_hash bigint, OUT removed_at timestamptz,
    OUT removed_on oid) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_removed_keys' LANGUAGE c VOLATILE;

/* The position of the slot, then how far this node is with each of its own providers. Callers read columns by position. A
   subscription that has not run since the server started has a position all the same: leaving it out would make the joining
   node miss what it has not got yet. */
CREATE FUNCTION spock.read_peer_progress(p_slot_name text, p_provider_node_id oid, p_subscriber_node_id oid)
RETURNS TABLE (lsn pg_lsn, snapshot text, dbid oid, node_id oid, remote_node_id oid, remote_commit_ts timestamptz,
    prev_remote_ts timestamptz, remote_commit_lsn pg_lsn, remote_insert_lsn pg_lsn, received_lsn pg_lsn,
    last_updated_ts timestamptz, updated_by_decode boolean)
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    snapshot := '';
    SELECT r.restart_lsn INTO lsn FROM pg_catalog.pg_replication_slots r WHERE r.slot_name = p_slot_name;
    RETURN NEXT;
    RETURN QUERY
        SELECT NULL::pg_lsn, NULL::text, d.oid, s.sub_target, s.sub_origin, p.remote_commit_ts, p.prev_remote_ts,
               coalesce(t.remote_lsn, '0/0'), coalesce(p.remote_insert_lsn, t.remote_lsn, '0/0'),
               coalesce(p.received_lsn, t.remote_lsn, '0/0'), p.last_updated_ts, coalesce(p.updated_by_decode, false)
          FROM spock.subscription s
          JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
          JOIN pg_catalog.pg_replication_origin o ON o.roname = s.sub_slot_name::text
          LEFT JOIN pg_catalog.pg_replication_origin_status t ON t.local_id = o.roident
          LEFT JOIN spock.progress p ON p.node_id = s.sub_target AND p.remote_node_id = s.sub_origin
         WHERE s.sub_target = p_provider_node_id AND s.sub_origin <> p_subscriber_node_id
         ORDER BY s.sub_name;
END
$$;

-- Parked transactions ---------------------------------------------------------------------------------------------------

CREATE FUNCTION spock.parked(OUT id bigint, OUT sub_name name, OUT origin_node name, OUT remote_xid bigint,
    OUT commit_lsn pg_lsn, OUT commit_time timestamptz, OUT parked_at timestamptz, OUT tried_at timestamptz, OUT bytes bigint,
    OUT changes bigint, OUT cause_sqlstate text, OUT cause_message text, OUT relation text, OUT waits_for bigint[])
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.parked_id, s.sub_name, n.node_name, p.remote_xid, p.remote_commit_lsn, p.remote_commit_ts, p.parked_at, p.tried_at,
           p.bytes, p.changes, p.cause_sqlstate, p.cause_message, p.cause_relation,
           ARRAY(SELECT w.parked_id FROM spock.parked_transaction w WHERE w.parked_id = ANY (p.waits_for) ORDER BY 1)
      FROM spock.parked_transaction p
      LEFT JOIN spock.subscription s ON s.sub_id = p.sub_id
      LEFT JOIN spock.node n ON n.node_id = p.remote_origin
     ORDER BY p.parked_id
$$;

-- One row for each subscription: how much is parked, and what later transactions must not touch to be applied.
CREATE VIEW spock.parked_status AS
    SELECT s.sub_name,
           count(p.parked_id) AS transactions,
           coalesce(sum(p.bytes), 0)::bigint AS bytes,
           min(p.parked_at) AS oldest,
           CASE WHEN bool_or(p.blocks = 'everything') THEN 'everything'
                WHEN bool_or(p.blocks = 'tables') THEN 'tables'
                WHEN count(p.parked_id) > 0 THEN 'keys'
                ELSE 'nothing' END AS blocked,
           ARRAY(SELECT DISTINCT t.name
                   FROM spock.parked_transaction q, unnest(q.blocked_tables) t (name)
                  WHERE q.sub_id = s.sub_id ORDER BY t.name) AS blocked_tables
      FROM spock.subscription s
      LEFT JOIN spock.parked_transaction p ON p.sub_id = s.sub_id
     GROUP BY s.sub_id, s.sub_name;

/* Applies what is parked, or one transaction with those that it waits for. Each is a transaction of the apply worker, with the
   version that it had: the call itself must not be part of a transaction block. Returns how many were applied; an error names
   the first that was not. */
CREATE FUNCTION spock.replay_parked(id bigint DEFAULT NULL) RETURNS bigint
AS 'MODULE_PATHNAME', 'spock_replay_parked' LANGUAGE c VOLATILE;

-- Gives a transaction up: its changes go to spock.exception_log. Returns how many transactions were given up.
CREATE FUNCTION spock.discard_parked(id bigint, cascade boolean DEFAULT false) RETURNS bigint
AS 'MODULE_PATHNAME', 'spock_discard_parked' LANGUAGE c VOLATILE STRICT;

-- Slots of subscribers --------------------------------------------------------------------------------------------------

CREATE FUNCTION spock.wait_slot_confirm_lsn(slotname name, target pg_lsn) RETURNS void
AS 'MODULE_PATHNAME', 'spock_wait_slot_confirm_lsn' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.slot_enable_failover() RETURNS integer
AS 'MODULE_PATHNAME', 'spock_slot_enable_failover' LANGUAGE c VOLATILE;

REVOKE ALL ON FUNCTION spock.slot_enable_failover() FROM PUBLIC;

CREATE FUNCTION spock.get_lsn_from_commit_ts(slot_name name, commit_ts timestamptz) RETURNS pg_lsn
AS 'MODULE_PATHNAME', 'spock_get_lsn_from_commit_ts' LANGUAGE c VOLATILE STRICT;

-- Maintenance -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION spock.terminate_active_transactions() RETURNS boolean
AS 'MODULE_PATHNAME', 'spockro_terminate_active_transactions' LANGUAGE c VOLATILE STRICT;

REVOKE ALL ON FUNCTION spock.terminate_active_transactions() FROM PUBLIC;

CREATE FUNCTION spock.cleanup_resolutions(days integer DEFAULT NULL) RETURNS bigint
AS 'MODULE_PATHNAME', 'spock_cleanup_resolutions_sql' LANGUAGE c VOLATILE;

REVOKE ALL ON FUNCTION spock.cleanup_resolutions(integer) FROM PUBLIC;

-- Markers in the stream -------------------------------------------------------------------------------------------------

CREATE FUNCTION spock.sync_event(transactional boolean DEFAULT false) RETURNS pg_lsn
AS 'MODULE_PATHNAME', 'spock_create_sync_event' LANGUAGE c VOLATILE STRICT;

CREATE FUNCTION spock.repair_mode(enabled boolean) RETURNS pg_lsn
AS 'MODULE_PATHNAME', 'spock_repair_mode' LANGUAGE c VOLATILE;

/* Waits until this node has applied what `origin` had written up to `lsn`. The rounds end with ROLLBACK, so that each sees
   the newest rows and the session holds no snapshot meanwhile: call it outside a transaction block. */
CREATE PROCEDURE spock.wait_for_sync_event(OUT result boolean, origin_id oid, lsn pg_lsn, timeout integer DEFAULT 0,
    wait_if_disabled boolean DEFAULT false)
LANGUAGE plpgsql AS $$
DECLARE
    started timestamptz := pg_catalog.clock_timestamp();
    slots name[];
    reached boolean;
BEGIN
    IF origin_id IS NULL OR lsn IS NULL THEN
        RAISE EXCEPTION 'origin and lsn must not be null'
            USING HINT = 'Take the LSN that spock.sync_event() gives on the provider.';
    END IF;
    LOOP
        SELECT pg_catalog.array_agg(s.sub_slot_name) INTO slots
          FROM spock.subscription s JOIN spock.local_node l ON l.node_id = s.sub_target
         WHERE s.sub_origin = origin_id AND s.sub_enabled;
        IF slots IS NULL AND NOT wait_if_disabled THEN
            RAISE EXCEPTION 'there is no enabled subscription with origin %', origin_id
                USING HINT = 'See spock.sub_show_status(). With wait_if_disabled the wait goes on until there is one.';
        END IF;
        -- With several subscriptions of one origin the event must have passed through all of them.
        SELECT slots IS NOT NULL AND pg_catalog.count(*) = pg_catalog.cardinality(slots)
                   AND pg_catalog.bool_and(coalesce(o.remote_lsn >= lsn, false)) INTO reached
          FROM pg_catalog.pg_replication_origin_status o WHERE o.external_id = ANY (slots::text[]);
        IF reached THEN
            result := true;
            RETURN;
        END IF;
        IF timeout <> 0 AND pg_catalog.clock_timestamp() >= started + pg_catalog.make_interval(secs => timeout) THEN
            result := false;
            RETURN;
        END IF;
        ROLLBACK;
        PERFORM pg_catalog.pg_sleep(0.2);
    END LOOP;
END
$$;

CREATE PROCEDURE spock.wait_for_sync_event(OUT result boolean, origin name, lsn pg_lsn, timeout integer DEFAULT 0,
    wait_if_disabled boolean DEFAULT false)
LANGUAGE plpgsql AS $$
DECLARE
    origin_id oid;
BEGIN
    SELECT n.node_id INTO origin_id FROM spock.node n WHERE n.node_name = origin;
    IF origin_id IS NULL THEN
        RAISE EXCEPTION 'node "%" does not exist', origin
            USING HINT = 'See spock.node.';
    END IF;
    CALL spock.wait_for_sync_event(result, origin_id, lsn, timeout, wait_if_disabled);
END
$$;

-- Delta columns: the local value moves by what the remote change added ---------------------------------------------------

CREATE FUNCTION spock.delta_apply(smallint, smallint, smallint) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT $3 OPERATOR(pg_catalog.+) ($2 OPERATOR(pg_catalog.-) $1) $$;

CREATE FUNCTION spock.delta_apply(integer, integer, integer) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT $3 OPERATOR(pg_catalog.+) ($2 OPERATOR(pg_catalog.-) $1) $$;

CREATE FUNCTION spock.delta_apply(bigint, bigint, bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT $3 OPERATOR(pg_catalog.+) ($2 OPERATOR(pg_catalog.-) $1) $$;

CREATE FUNCTION spock.delta_apply(real, real, real) RETURNS real
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT $3 OPERATOR(pg_catalog.+) ($2 OPERATOR(pg_catalog.-) $1) $$;

CREATE FUNCTION spock.delta_apply(double precision, double precision, double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT $3 OPERATOR(pg_catalog.+) ($2 OPERATOR(pg_catalog.-) $1) $$;

CREATE FUNCTION spock.delta_apply(numeric, numeric, numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT $3 OPERATOR(pg_catalog.+) ($2 OPERATOR(pg_catalog.-) $1) $$;

CREATE FUNCTION spock.delta_apply(money, money, money) RETURNS money
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT $3 OPERATOR(pg_catalog.+) ($2 OPERATOR(pg_catalog.-) $1) $$;

-- Makes a column one that counts, or an ordinary one again. False: it is not changed, because it can be NULL or did not count.
CREATE FUNCTION spock.delta_apply(rel regclass, att_name name, to_drop boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_delta_apply' LANGUAGE c VOLATILE STRICT;

-- Checksums over a table ------------------------------------------------------------------------------------------------

CREATE FUNCTION spock.md5_agg_sfunc(text, anyelement) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT pg_catalog.md5($1 OPERATOR(pg_catalog.||) $2::text) $$;

CREATE AGGREGATE spock.md5_agg (ORDER BY anyelement) (
    STYPE = text,
    SFUNC = spock.md5_agg_sfunc,
    INITCOND = '',
    PARALLEL = SAFE
);

-- Comparing a table with another node -------------------------------------------------------------------------------------

CREATE FUNCTION spock.table_digest(relation regclass, columns text[] DEFAULT NULL, OUT rows bigint, OUT digest text)
RETURNS record
AS 'MODULE_PATHNAME', 'spock_table_digest' LANGUAGE c VOLATILE;

-- side: local only, remote only, both; a last row "cut off" when there are more. timeout: seconds, 0 for no limit.
CREATE FUNCTION spock.diff(node_name name, relation regclass, max_rows integer DEFAULT 1000, timeout integer DEFAULT 60,
    OUT key jsonb, OUT side text, OUT local_row jsonb, OUT remote_row jsonb, OUT local_time timestamptz,
    OUT local_origin text, OUT remote_time timestamptz, OUT remote_origin text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_diff' LANGUAGE c VOLATILE;

CREATE FUNCTION spock.repair(node_name name, relation regclass, prefer text DEFAULT NULL, dry_run boolean DEFAULT false,
    max_rows integer DEFAULT 1000, timeout integer DEFAULT 60, OUT key jsonb, OUT action text, OUT version_time timestamptz,
    OUT version_origin text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'spock_repair' LANGUAGE c VOLATILE;

-- A connection of spock.repair to this node calls it for each row.
CREATE FUNCTION spock.apply_version(relation regclass, change text, columns text[], row_values text[], key_values text[],
    expected xid, version_time timestamptz, version_origin oid) RETURNS boolean
AS 'MODULE_PATHNAME', 'spock_apply_version' LANGUAGE c VOLATILE;

REVOKE ALL ON FUNCTION spock.diff(name, regclass, integer, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION spock.repair(name, regclass, text, boolean, integer, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION spock.apply_version(regclass, text, text[], text[], text[], xid, timestamptz, oid) FROM PUBLIC;

-- Roles -----------------------------------------------------------------------------------------------------------------

/* Roles belong to the whole server, so no extension can own them: they are made when they are not there, and stay when the
   extension goes. spock_admin may run what changes something, as a superuser may; spock_monitor may look at nodes,
   subscriptions, progress and counters. Neither sees connection strings, queued commands or values of rows. */
DO $$
DECLARE
    wanted name;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['spock_admin', 'spock_monitor']::name[] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
EXCEPTION
    -- Another database of this server was faster.
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

GRANT USAGE ON SCHEMA spock TO spock_admin, spock_monitor;

GRANT SELECT ON spock.node, spock.local_node, spock.subscription, spock.local_sync_status, spock.replication_set,
    spock.replication_set_table, spock.replication_set_seq, spock.sequence_state, spock.depend, spock.reserved_object,
    spock.tables, spock.progress, spock.lag_tracker, spock.clock_skew, spock.channel_table_stats, spock.channel_summary_stats
    TO spock_admin, spock_monitor;

GRANT SELECT (if_id, if_name, if_nodeid) ON spock.node_interface TO spock_admin, spock_monitor;

GRANT SELECT (queued_at, role, replication_sets, message_type) ON spock.queue TO spock_admin, spock_monitor;

GRANT SELECT (id, node_name, log_time, relname, idxname, conflict_type, conflict_resolution, local_origin, local_xid,
    local_timestamp, remote_origin, remote_xid, remote_timestamp, remote_lsn) ON spock.resolutions
    TO spock_admin, spock_monitor;

GRANT SELECT (remote_origin, remote_commit_ts, command_counter, retry_errored_at, remote_xid, local_origin, local_commit_ts,
    table_schema, table_name, operation) ON spock.exception_log TO spock_admin, spock_monitor;

GRANT SELECT (parked_id, sub_id, remote_origin, remote_xid, remote_commit_lsn, remote_commit_ts, parked_at, tried_at, format,
    bytes, changes, waits_for, blocks, blocked_tables, cause_sqlstate, cause_message, cause_relation) ON spock.parked_transaction
    TO spock_admin, spock_monitor;

GRANT SELECT ON spock.parked_status TO spock_admin, spock_monitor;

GRANT SELECT (displaced_id, relation, version_time, version_origin, version_xid, index_name, displaced_at) ON spock.displaced_row
    TO spock_admin, spock_monitor;

GRANT EXECUTE ON FUNCTION spock.pause_apply_workers(), spock.resume_apply_workers(), spock.slot_enable_failover(),
    spock.terminate_active_transactions(), spock.cleanup_resolutions(integer) TO spock_admin;

GRANT EXECUTE ON FUNCTION spock.diff(name, regclass, integer, integer) TO spock_admin, spock_monitor;

GRANT EXECUTE ON FUNCTION spock.repair(name, regclass, text, boolean, integer, integer),
    spock.apply_version(regclass, text, text[], text[], text[], xid, timestamptz, oid) TO spock_admin;

-- Administrators keep these by hand or with tools; what is built in stays so.
GRANT INSERT (name, kind, exclude_from_dump, block_in_repset, replicate_ddl),
    UPDATE (exclude_from_dump, block_in_repset, replicate_ddl), DELETE ON spock.reserved_object TO spock_admin;

GRANT SELECT, INSERT, UPDATE, DELETE ON spock.pii, spock.exception_status, spock.exception_status_detail TO spock_admin;
