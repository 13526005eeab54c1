\echo Use "CREATE EXTENSION pg_herald" to load this file. \quit

-- The script makes its schemas itself: one that is there already belongs to somebody, who could plant operators and
-- functions in it, or rename it. It runs with the search_path "pg_catalog, pg_temp", as the control file names
-- pg_catalog; operators and casts are qualified all the same.
DO $$
DECLARE
    taken pg_catalog.name;
BEGIN
    SELECT n.nspname INTO taken FROM pg_catalog.pg_namespace AS n
     WHERE n.nspname OPERATOR(pg_catalog.=) ANY (ARRAY['herald', 'herald_internal']::pg_catalog.name[]);
    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_schema',
            MESSAGE = pg_catalog.format('schema "%s" exists already', taken),
            DETAIL = 'The extension pg_herald makes this schema itself and puts nothing into one that others made.',
            HINT = 'Look at what is in the schema and whose it is, then rename or drop it.';
    END IF;
END $$;
CREATE SCHEMA herald;
COMMENT ON SCHEMA herald IS 'Publish/subscribe and task dispatch, by the extension pg_herald.';
CREATE SCHEMA herald_internal;
COMMENT ON SCHEMA herald_internal IS 'What schema herald is made of: tables, trigger functions, what views call. Not for direct use.';
REVOKE ALL ON SCHEMA herald, herald_internal FROM PUBLIC;

-- Everything in both schemas is revoked from PUBLIC first; what a caller may use is granted at the
-- end, and those functions check the caller's rights themselves. The tables are written by the library
-- only: nobody else gets INSERT, UPDATE, DELETE or TRIGGER on them.

-- There are no foreign keys: a parallel restore loads the tables in any order. The library keeps the
-- references, under a lock on the channel's row.

-- A role stands in a table twice: by its name, and in a column ..._role that says which role of which
-- server bore that name: 'system identifier/oid'. On that server the oid counts, so that a role keeps what
-- it has when it is renamed, and a new role of an old name has nothing. Elsewhere, in a restored copy, the
-- name counts, until the first look there has found the role and noted it.

-- Ids come from rows of a table that the library changes in place, not from sequences: whoever may write all data may
-- set every sequence to its end. A row that a restore inserts raises the counter.
CREATE TABLE herald_internal.id_store (
    used    bigint NOT NULL,  -- ids up to here may be in use
    counter text COLLATE "C" NOT NULL
);
COMMENT ON TABLE herald_internal.id_store IS 'Up to where ids are in use. Internal.';
INSERT INTO herald_internal.id_store (used, counter)
VALUES (0, 'message'), (0, 'channel'), (0, 'subscription'), (0, 'dead_letter'), (0, 'failure'), (0, 'audit'),
       (0, 'audit_context'), (0, 'audit_target'), (0, 'change_feed');

CREATE FUNCTION herald_internal.next_id(counter text)
RETURNS bigint LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_next_id';
COMMENT ON FUNCTION herald_internal.next_id(text) IS
    'The next id of a counter of herald_internal.id_store; lastval() stays as it is. Internal.';

-- Channels ------------------------------------------------------------------------------------------

CREATE TABLE herald_internal.channel_store (
    id                integer PRIMARY KEY DEFAULT herald_internal.next_id('channel'),
    channel           text COLLATE "C" NOT NULL UNIQUE
        CHECK (pg_catalog.octet_length(channel) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.octet_length(channel) OPERATOR(pg_catalog.<) 64),
    owner             text NOT NULL
        CHECK (pg_catalog.octet_length(owner) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.octet_length(owner) OPERATOR(pg_catalog.<) 64),
    durable           boolean NOT NULL,
    announce          text NOT NULL CHECK (announce OPERATOR(pg_catalog.=) ANY (ARRAY['payload', 'pointer', 'off'])),
    accept_notify     boolean NOT NULL,
    max_payload_bytes integer CHECK (max_payload_bytes OPERATOR(pg_catalog.>=) 0),
    description       text,
    created_at        timestamptz NOT NULL DEFAULT pg_catalog.now(),
    when_full         text NOT NULL DEFAULT 'refuse' CHECK (when_full OPERATOR(pg_catalog.=) ANY (ARRAY['refuse', 'dead_letters'])),
    schema            jsonb,
    validation        text NOT NULL DEFAULT 'reject' CHECK (validation OPERATOR(pg_catalog.=) ANY (ARRAY['reject', 'warn', 'off'])),
    check_formats     boolean NOT NULL DEFAULT false,
    schema_version    integer NOT NULL DEFAULT 0,  -- counts the schemas it has had
    owner_role        text COLLATE "C"
);
COMMENT ON TABLE herald_internal.channel_store IS 'Declared channels. Internal: look at herald.channels.';

CREATE TABLE herald_internal.channel_grant_store (
    channel_id integer NOT NULL,
    grantee    text COLLATE "C" NOT NULL
        CHECK (pg_catalog.octet_length(grantee) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.octet_length(grantee) OPERATOR(pg_catalog.<) 64),
    privilege  text COLLATE "C" NOT NULL CHECK (privilege OPERATOR(pg_catalog.=) ANY (ARRAY['publish', 'subscribe', 'read'])),
    grantee_role text COLLATE "C" NOT NULL,  -- empty for "public"
    PRIMARY KEY (channel_id, grantee_role, privilege)
);
COMMENT ON TABLE herald_internal.channel_grant_store IS
    'Privileges on channels; grantee "public" is everybody. Internal: use herald.grant_channel.';

-- The log -------------------------------------------------------------------------------------------
-- Insert-only, without an index: rows are found by address, and the id found there confirms it.

CREATE TABLE herald_internal.log_0 (
    id           bigint NOT NULL,
    published_at timestamptz NOT NULL,
    channel_id   integer NOT NULL,
    published_by text,
    key          text,
    headers      jsonb,
    payload      jsonb NOT NULL,
    schema_version integer
) USING heap;
CREATE TABLE herald_internal.log_1 (LIKE herald_internal.log_0) USING heap;
CREATE TABLE herald_internal.log_2 (LIKE herald_internal.log_0) USING heap;
COMMENT ON TABLE herald_internal.log_0 IS 'Segment 0 of the log of durable messages. Internal.';
COMMENT ON TABLE herald_internal.log_1 IS 'Segment 1 of the log of durable messages. Internal.';
COMMENT ON TABLE herald_internal.log_2 IS 'Segment 2 of the log of durable messages. Internal.';

-- Which log entries need no more work, per subscription; segment n covers log_n.
CREATE TABLE herald_internal.settled_0 (
    subscription_id integer NOT NULL,
    message_ids     bigint[] NOT NULL
) USING heap;
CREATE TABLE herald_internal.settled_1 (LIKE herald_internal.settled_0) USING heap;
CREATE TABLE herald_internal.settled_2 (LIKE herald_internal.settled_0) USING heap;
COMMENT ON TABLE herald_internal.settled_0 IS 'Settled messages of log segment 0. Internal.';
COMMENT ON TABLE herald_internal.settled_1 IS 'Settled messages of log segment 1. Internal.';
COMMENT ON TABLE herald_internal.settled_2 IS 'Settled messages of log segment 2. Internal.';

CREATE VIEW herald_internal.log AS
SELECT 0 AS segment, l.ctid AS address, l.* FROM herald_internal.log_0 AS l
UNION ALL SELECT 1, l.ctid, l.* FROM herald_internal.log_1 AS l
UNION ALL SELECT 2, l.ctid, l.* FROM herald_internal.log_2 AS l;
COMMENT ON VIEW herald_internal.log IS 'All segments of the log.';

CREATE VIEW herald_internal.settled AS
SELECT s.subscription_id, pg_catalog.unnest(s.message_ids) AS message_id
  FROM (SELECT * FROM herald_internal.settled_0 UNION ALL SELECT * FROM herald_internal.settled_1
        UNION ALL SELECT * FROM herald_internal.settled_2) AS s;
COMMENT ON VIEW herald_internal.settled IS 'What needs no more work in all segments of the log, a row for each message.';

-- Subscriptions and what became of tasks ------------------------------------------------------------

CREATE TABLE herald_internal.subscription_store (
    id                integer PRIMARY KEY DEFAULT herald_internal.next_id('subscription'),
    subscription      text COLLATE "C" NOT NULL UNIQUE
        CHECK (pg_catalog.octet_length(subscription) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.octet_length(subscription) OPERATOR(pg_catalog.<) 64),
    channel_id        integer NOT NULL,
    owner             text NOT NULL
        CHECK (pg_catalog.octet_length(owner) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.octet_length(owner) OPERATOR(pg_catalog.<) 64),
    handler           text NOT NULL,
    run_as            text NOT NULL
        CHECK (pg_catalog.octet_length(run_as) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.octet_length(run_as) OPERATOR(pg_catalog.<) 64),
    max_concurrency   integer NOT NULL CHECK (max_concurrency OPERATOR(pg_catalog.>=) 1),
    max_attempts      integer NOT NULL CHECK (max_attempts OPERATOR(pg_catalog.>=) 1),
    retry_delay       interval NOT NULL,
    retry_backoff     double precision NOT NULL
        CHECK (retry_backoff OPERATOR(pg_catalog.>=) 1 AND retry_backoff OPERATOR(pg_catalog.<=) 1000000),
    max_retry_delay   interval NOT NULL,
    timeout           interval NOT NULL,
    batch             boolean NOT NULL,
    state             text NOT NULL DEFAULT 'active' CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['active', 'paused', 'held'])),
    reason            text,
    system_identifier text NOT NULL,
    database_oid      bigint NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT pg_catalog.now(),
    owner_role        text COLLATE "C",
    run_as_role       text COLLATE "C",
    handler_owner     text,  -- of the function that was meant
    handler_owner_role text COLLATE "C",
    isolation         text NOT NULL DEFAULT 'read committed'
        CHECK (isolation OPERATOR(pg_catalog.=) ANY (ARRAY['read committed', 'repeatable read', 'serializable']))
);
COMMENT ON TABLE herald_internal.subscription_store IS
    'Subscriptions. Internal: look at herald.subscriptions. system_identifier and database_oid name the '
    'database that runs them; a restored copy runs nothing until herald.activate().';

CREATE TABLE herald_internal.parked_store (
    subscription_id integer NOT NULL,
    message_id      bigint NOT NULL,
    channel_id      integer NOT NULL,
    published_at    timestamptz NOT NULL,
    published_by    text,
    key             text,
    headers         jsonb,
    payload         jsonb NOT NULL,
    schema_version  integer,
    attempts        integer NOT NULL,
    next_attempt_at timestamptz NOT NULL,
    PRIMARY KEY (subscription_id, message_id)
);
COMMENT ON TABLE herald_internal.parked_store IS
    'Tasks that wait for their next attempt outside the log, with their payload. Internal.';

CREATE TABLE herald_internal.dead_letter_store (
    id              bigint PRIMARY KEY DEFAULT herald_internal.next_id('dead_letter'),
    subscription_id integer NOT NULL,
    message_id      bigint NOT NULL,
    channel_id      integer NOT NULL,
    published_at    timestamptz NOT NULL,
    published_by    text,
    key             text,
    headers         jsonb,
    payload         jsonb NOT NULL,
    schema_version  integer,
    attempts        integer NOT NULL,
    error_code      text,
    message         text,
    died_at         timestamptz NOT NULL
);
CREATE INDEX dead_letter_store_subscription ON herald_internal.dead_letter_store (subscription_id, id);
COMMENT ON TABLE herald_internal.dead_letter_store IS
    'Tasks whose last attempt failed. Internal: look at herald.dead_letters.';

CREATE TABLE herald_internal.failure_store (
    id              bigint PRIMARY KEY DEFAULT herald_internal.next_id('failure'),
    subscription_id integer NOT NULL,
    subscription    text NOT NULL,
    channel         text NOT NULL,
    run_as          text NOT NULL,
    message_id      bigint,  -- NULL: a fault of the subscription as a whole
    task_id         text NOT NULL,
    attempt         integer NOT NULL,
    error_code      text NOT NULL,
    message         text NOT NULL,
    detail          text,
    hint            text,
    context         text,
    handler         text NOT NULL,
    started_at      timestamptz NOT NULL,
    failed_at       timestamptz NOT NULL,
    next_attempt_at timestamptz,
    run_as_role     text COLLATE "C"
);
CREATE INDEX failure_store_failed_at ON herald_internal.failure_store (failed_at);
COMMENT ON TABLE herald_internal.failure_store IS
    'Failed attempts; kept for herald.failure_retention. Internal: look at herald.failure_log.';

CREATE TABLE herald_internal.pointer_store (
    message_id   bigint PRIMARY KEY,
    channel      text NOT NULL,
    role         oid NOT NULL,
    published_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    payload      jsonb NOT NULL,
    bytes        integer NOT NULL
);
COMMENT ON TABLE herald_internal.pointer_store IS
    'Payloads of channels that store nothing, too large for a notification; kept for '
    'herald.pointer_retention. Internal: herald.fetch() reads it. Not part of a dump.';

-- Audit trails --------------------------------------------------------------------------------------
-- relation is an oid of this database; after a dump and restore, system_identifier and database_oid
-- differ, and the names say which table and columns are meant. In place the numbers do, so that a
-- renamed column stays masked. Rows stay when auditing ends: the trail refers to them.

CREATE TABLE herald_internal.audit_target (
    id                integer PRIMARY KEY DEFAULT herald_internal.next_id('audit_target'),
    relation          oid NOT NULL,      -- 0: the table was dropped
    schema_name       text NOT NULL,
    table_name        text NOT NULL,
    system_identifier text NOT NULL,
    database_oid      bigint NOT NULL,
    enabled           boolean NOT NULL,
    record            text NOT NULL CHECK (record OPERATOR(pg_catalog.=) ANY (ARRAY['full', 'diff', 'keys'])),
    operations        text[] NOT NULL,
    excluded          text[] NOT NULL,
    excluded_numbers  smallint[] NOT NULL,
    masked            text[] NOT NULL,
    masked_numbers    smallint[] NOT NULL,
    hashed            text[] NOT NULL,   -- masked by a hash that tells equal values
    hashed_numbers    smallint[] NOT NULL,
    salt              bytea NOT NULL,
    disturbed         boolean NOT NULL DEFAULT false,  -- a trigger was dropped or disabled
    created_at        timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_by        text NOT NULL
);
COMMENT ON TABLE herald_internal.audit_target IS
    'Tables that are or were audited, with their options. Internal: look at herald.audited_tables.';

CREATE TABLE herald_internal.audit_key (
    target_id integer NOT NULL,
    version   integer NOT NULL,
    names     text[] NOT NULL,
    numbers   smallint[] NOT NULL,
    renamed   boolean NOT NULL,  -- the same columns as in the version before
    PRIMARY KEY (target_id, version)
);
COMMENT ON TABLE herald_internal.audit_key IS
    'The names that the key columns of an audited table have had, so that its rows are found under all '
    'of them. Internal.';

-- Eight segments by time: the current one follows from the clock. A backend takes a block of ids.
CREATE TABLE herald_internal.audit_0 (
    id              bigint NOT NULL,
    context_id      bigint NOT NULL,
    changed_at      timestamptz NOT NULL,
    record_hash     bigint,              -- of target_id and record_id
    old_record_hash bigint,              -- if the key was changed
    target_id       integer NOT NULL,
    sequence        integer NOT NULL,    -- in the transaction
    operation       "char" NOT NULL,
    schema_name     text NOT NULL,
    table_name      text NOT NULL,
    record_id       jsonb,
    old_record_id   jsonb,
    old             jsonb,
    new             jsonb,
    changed         text[]
) USING heap;

CREATE TABLE herald_internal.audit_context_0 (
    id                bigint NOT NULL PRIMARY KEY,
    transaction_id    xid8 NOT NULL,
    session_user_name text NOT NULL,
    current_user_name text NOT NULL,
    application_name  text,
    client_address    inet,
    client_port       integer,
    statement         text,
    context           jsonb
) USING heap;

DO $$
BEGIN
    FOR segment IN 0 .. 7 LOOP
        IF segment OPERATOR(pg_catalog.>) 0 THEN
            EXECUTE pg_catalog.format('CREATE TABLE herald_internal.audit_%s (LIKE herald_internal.audit_0) USING heap', segment);
            EXECUTE pg_catalog.format('CREATE TABLE herald_internal.audit_context_%s
                (LIKE herald_internal.audit_context_0 INCLUDING INDEXES) USING heap', segment);
        END IF;
        EXECUTE pg_catalog.format('CREATE INDEX audit_%1$s_changed_at ON herald_internal.audit_%1$s
            USING brin (changed_at) WITH (pages_per_range = 16)', segment);
        EXECUTE pg_catalog.format('CREATE INDEX audit_%1$s_record ON herald_internal.audit_%1$s (record_hash)', segment);
        EXECUTE pg_catalog.format('CREATE INDEX audit_%1$s_old_record ON herald_internal.audit_%1$s (old_record_hash)
            WHERE old_record_hash IS NOT NULL', segment);
        EXECUTE pg_catalog.format('COMMENT ON TABLE herald_internal.audit_%1$s IS
            ''Segment %1$s of the audit trail, see herald.audit_log.''', segment);
        EXECUTE pg_catalog.format('COMMENT ON TABLE herald_internal.audit_context_%1$s IS
            ''Who made the changes of segment %1$s of the audit trail.''', segment);
    END LOOP;
END $$;

-- Change feeds --------------------------------------------------------------------------------------

CREATE TABLE herald_internal.change_feed_store (
    id         integer PRIMARY KEY DEFAULT herald_internal.next_id('change_feed'),
    relation   regclass NOT NULL,  -- by name in a dump
    channel    text COLLATE "C" NOT NULL
        CHECK (pg_catalog.octet_length(channel) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.octet_length(channel) OPERATOR(pg_catalog.<) 64),
    channel_id integer,            -- NULL: it was not declared
    message    text NOT NULL,
    columns    text[],
    operations text[] NOT NULL,
    owner      text NOT NULL
        CHECK (pg_catalog.octet_length(owner) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.octet_length(owner) OPERATOR(pg_catalog.<) 64),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    owner_role text COLLATE "C",
    UNIQUE (relation, channel)
);
COMMENT ON TABLE herald_internal.change_feed_store IS 'Change feeds. Internal: look at herald.change_feeds.';

-- The types that handlers and clients see -----------------------------------------------------------

CREATE TYPE herald.task AS (
    message_id   bigint,
    channel      text,
    payload      jsonb,
    key          text,
    headers      jsonb,
    subscription text,
    attempt      integer,
    published_at timestamptz,
    published_by text,
    receipt      bigint,
    schema_version integer
);
COMMENT ON TYPE herald.task IS 'What a handler gets: one message for one subscription.';

REVOKE ALL ON TYPE herald.task FROM PUBLIC;

-- Publishing ----------------------------------------------------------------------------------------

CREATE FUNCTION herald.publish(
    channel text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_publish';
COMMENT ON FUNCTION herald.publish(text, jsonb, text, jsonb) IS
    'Publishes a message when the transaction commits; returns its id, or NULL if the channel stores nothing.';

CREATE FUNCTION herald.publish(
    channel text, payload json, key text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_publish_text';
COMMENT ON FUNCTION herald.publish(text, json, text, jsonb) IS
    'As publish(text, jsonb, text, jsonb); the payload is stored as jsonb.';

CREATE FUNCTION herald.publish(
    channel text, payload text, key text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_publish_text';
COMMENT ON FUNCTION herald.publish(text, text, text, jsonb) IS
    'As publish(text, jsonb, text, jsonb), for literals and text parameters of drivers: the payload must '
    'be JSON text, else 22P02.';

-- The rest is for what the ones above don't take: a call that they can serve never gets here. That is so because a
-- parameter of another type than text is second choice for a literal and for a text: hence the domain, which takes
-- what text takes.
CREATE DOMAIN herald_internal.channel_name AS text;
COMMENT ON DOMAIN herald_internal.channel_name IS
    'A channel''s name, in functions that are second to those that take it as text.';

CREATE FUNCTION herald.publish(
    channel text, payload text, key anycompatiblenonarray, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_publish_any';
COMMENT ON FUNCTION herald.publish(text, text, anycompatiblenonarray, jsonb) IS
    'As publish(text, text, text, jsonb), with a key that is an integer, a uuid or an enum; 42804 for others.';

CREATE FUNCTION herald.publish(
    channel text, payload anyelement, key anycompatiblenonarray, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_publish_any';
COMMENT ON FUNCTION herald.publish(text, anyelement, anycompatiblenonarray, jsonb) IS
    'The same for a payload that is jsonb or json; 42804 for others.';

CREATE FUNCTION herald.publish(
    channel herald_internal.channel_name, payload text, key anycompatiblenonarray DEFAULT NULL, headers json DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_publish_any';
COMMENT ON FUNCTION herald.publish(herald_internal.channel_name, text, anycompatiblenonarray, json) IS
    'As publish(text, text, text, jsonb), for headers of type json.';

CREATE FUNCTION herald.publish(
    channel herald_internal.channel_name, payload anyelement, key anycompatiblenonarray DEFAULT NULL, headers json DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_publish_any';
COMMENT ON FUNCTION herald.publish(herald_internal.channel_name, anyelement, anycompatiblenonarray, json) IS
    'The same for a payload that is jsonb or json; 42804 for others.';

CREATE FUNCTION herald.publish_batch(
    channel text, payloads jsonb[], keys text[] DEFAULT NULL, headers jsonb[] DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'herald_publish_batch';
COMMENT ON FUNCTION herald.publish_batch(text, jsonb[], text[], jsonb[]) IS
    'Publishes messages of one channel, all or none; returns their ids in the order of the payloads.';

CREATE FUNCTION herald.publish_batch(
    channel herald_internal.channel_name, payloads json[], keys text[] DEFAULT NULL, headers json[] DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'herald_publish_batch';
COMMENT ON FUNCTION herald.publish_batch(herald_internal.channel_name, json[], text[], json[]) IS
    'As publish_batch(text, jsonb[], text[], jsonb[]); stored as jsonb.';

CREATE FUNCTION herald.publish_batch(
    channel herald_internal.channel_name, payloads text[], keys text[] DEFAULT NULL, headers text[] DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'herald_publish_batch';
COMMENT ON FUNCTION herald.publish_batch(herald_internal.channel_name, text[], text[], text[]) IS
    'As publish_batch(text, jsonb[], text[], jsonb[]), for arrays of text as drivers send them: each element must be '
    'JSON text, else 22P02.';

CREATE FUNCTION herald.notify(channel text, payload text)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_notify';
COMMENT ON FUNCTION herald.notify(text, text) IS
    'pg_notify with statistics, and with the publish privilege of declared channels; the payload is plain text of at most 7999 bytes.';

CREATE FUNCTION herald.fetch(message_id bigint)
RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'herald_fetch';
COMMENT ON FUNCTION herald.fetch(bigint) IS
    'The payload that a pointer announcement points to; NULL if it is no longer there, or the caller may not read it.';

-- Channels and privileges ---------------------------------------------------------------------------

CREATE FUNCTION herald.create_channel(
    channel text, durable boolean DEFAULT true, schema jsonb DEFAULT NULL,
    validation text DEFAULT 'reject', announce text DEFAULT NULL,
    accept_notify boolean DEFAULT false, max_payload_bytes integer DEFAULT NULL,
    description text DEFAULT NULL, when_full text DEFAULT 'refuse', check_formats boolean DEFAULT false,
    if_not_exists boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_create_channel';
COMMENT ON FUNCTION herald.create_channel IS
    'Declares a channel that belongs to the caller, who needs CREATE on the database.';

CREATE FUNCTION herald.alter_channel(
    channel text, durable boolean DEFAULT NULL, schema jsonb DEFAULT NULL,
    validation text DEFAULT NULL, announce text DEFAULT NULL, accept_notify boolean DEFAULT NULL,
    max_payload_bytes integer DEFAULT NULL, description text DEFAULT NULL, when_full text DEFAULT NULL,
    check_formats boolean DEFAULT NULL, owner text DEFAULT NULL, force boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_alter_channel';
COMMENT ON FUNCTION herald.alter_channel IS 'Changes options or the owner of a channel; NULL keeps what it is.';

-- For a schema of type json; the other one takes all that it can.
CREATE FUNCTION herald.create_channel(
    channel herald_internal.channel_name, durable boolean DEFAULT true, schema json DEFAULT NULL, validation text DEFAULT 'reject',
    announce text DEFAULT NULL, accept_notify boolean DEFAULT false, max_payload_bytes integer DEFAULT NULL,
    description text DEFAULT NULL, when_full text DEFAULT 'refuse', check_formats boolean DEFAULT false, if_not_exists boolean DEFAULT false)
RETURNS void LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
RETURN herald.create_channel(channel::pg_catalog.text, durable, schema::pg_catalog.jsonb, validation, announce, accept_notify,
                             max_payload_bytes, description, when_full, check_formats, if_not_exists);
COMMENT ON FUNCTION herald.create_channel(
    herald_internal.channel_name, boolean, json, text, text, boolean, integer, text, text, boolean, boolean) IS
    'As the other create_channel, for a schema of type json.';

CREATE FUNCTION herald.alter_channel(
    channel herald_internal.channel_name, durable boolean DEFAULT NULL, schema json DEFAULT NULL, validation text DEFAULT NULL,
    announce text DEFAULT NULL, accept_notify boolean DEFAULT NULL, max_payload_bytes integer DEFAULT NULL,
    description text DEFAULT NULL, when_full text DEFAULT NULL, check_formats boolean DEFAULT NULL, owner text DEFAULT NULL,
    force boolean DEFAULT false)
RETURNS void LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
RETURN herald.alter_channel(channel::pg_catalog.text, durable, schema::pg_catalog.jsonb, validation, announce, accept_notify,
                            max_payload_bytes, description, when_full, check_formats, owner, force);
COMMENT ON FUNCTION herald.alter_channel(
    herald_internal.channel_name, boolean, json, text, text, boolean, integer, text, text, boolean, text, boolean) IS
    'As the other alter_channel, for a schema of type json.';

CREATE FUNCTION herald.drop_channel(
    channel text, if_exists boolean DEFAULT false, force boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_drop_channel';
COMMENT ON FUNCTION herald.drop_channel IS
    'Drops a channel with its privileges, if nothing uses it, or with force everything of it.';

CREATE FUNCTION herald.grant_channel(
    channel text, grantee text, privileges text[] DEFAULT '{publish}')
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_grant_channel';
COMMENT ON FUNCTION herald.grant_channel IS
    'Grants publish, subscribe or read on a declared channel to a role, or to everybody as "public".';

CREATE FUNCTION herald.revoke_channel(
    channel text, grantee text, privileges text[] DEFAULT '{publish}')
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_revoke_channel';
COMMENT ON FUNCTION herald.revoke_channel IS
    'Takes privileges away that grant_channel gave, also from a role that was dropped.';

CREATE FUNCTION herald.has_channel_privilege(role text, channel text, privilege text)
RETURNS boolean LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'herald_has_channel_privilege';
COMMENT ON FUNCTION herald.has_channel_privilege(text, text, text) IS
    'True if the role has the privilege on the channel, or one of several with commas between them.';

CREATE FUNCTION herald_internal.stored_role(name text, role text)
RETURNS oid LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'herald_stored_role';
COMMENT ON FUNCTION herald_internal.stored_role(text, text) IS
    'Internal, for the views: the role that a table names by these two, NULL if it is gone. The name counts '
    'only if the other one is of another server or NULL.';

CREATE VIEW herald.channels WITH (security_barrier) AS
SELECT c.channel::pg_catalog.text COLLATE "default" AS channel,
       COALESCE(pg_catalog.pg_get_userbyid(herald_internal.stored_role(c.owner, c.owner_role))::pg_catalog.text, c.owner)
           AS owner,
       c.durable, c.announce, c.accept_notify, c.max_payload_bytes,
       ARRAY(SELECT n.grantee OPERATOR(pg_catalog.||) '=' OPERATOR(pg_catalog.||) pg_catalog.string_agg(DISTINCT n.privilege, ',' ORDER BY n.privilege)
               FROM (SELECT g.privilege,
                            COALESCE(pg_catalog.pg_get_userbyid(herald_internal.stored_role(g.grantee, g.grantee_role))
                                         ::pg_catalog.text, g.grantee) COLLATE "C" AS grantee
                       FROM herald_internal.channel_grant_store AS g
                      WHERE g.channel_id OPERATOR(pg_catalog.=) c.id) AS n
              GROUP BY n.grantee
              ORDER BY n.grantee) AS privileges,
       c.description, c.created_at, c.when_full,
       c.schema, c.validation, c.check_formats, CASE WHEN c.schema_version OPERATOR(pg_catalog.<>) 0 THEN c.schema_version END AS schema_version
  FROM herald_internal.channel_store AS c
 WHERE herald.has_channel_privilege(current_user::pg_catalog.text, c.channel, 'publish,subscribe,read');
COMMENT ON VIEW herald.channels IS 'Declared channels that the caller owns or has a privilege on.';
COMMENT ON COLUMN herald.channels.channel IS 'Name of the channel.';
COMMENT ON COLUMN herald.channels.owner IS 'Role that may change and drop it.';
COMMENT ON COLUMN herald.channels.durable IS 'Whether messages are stored for subscriptions.';
COMMENT ON COLUMN herald.channels.announce IS 'What a NOTIFY of it carries: payload, pointer, or off for none.';
COMMENT ON COLUMN herald.channels.accept_notify IS 'Whether plain NOTIFYs on the name become messages.';
COMMENT ON COLUMN herald.channels.max_payload_bytes IS 'Largest payload, in bytes as jsonb; NULL: herald.max_payload.';
COMMENT ON COLUMN herald.channels.privileges IS 'Grants on it, each as grantee=privilege,...';
COMMENT ON COLUMN herald.channels.description IS 'What its owner says of it.';
COMMENT ON COLUMN herald.channels.created_at IS 'When it was declared.';
COMMENT ON COLUMN herald.channels.when_full IS 'What becomes of its messages when the log is full: refuse, or dead_letters.';
COMMENT ON COLUMN herald.channels.schema IS 'JSON Schema that payloads are checked against; NULL: none.';
COMMENT ON COLUMN herald.channels.validation IS 'What is done with a payload that does not fit: reject, warn or off.';
COMMENT ON COLUMN herald.channels.check_formats IS 'Whether "format" is checked, too.';
COMMENT ON COLUMN herald.channels.schema_version IS 'Counts up with each change of the schema; NULL: it never had one.';

-- Statistics of channels ----------------------------------------------------------------------------

CREATE FUNCTION herald_internal.list_channel_stats(
    OUT channel text, OUT published bigint, OUT published_bytes bigint, OUT announced bigint,
    OUT rejected bigint, OUT warned bigint, OUT delivered bigint, OUT failed bigint, OUT retried bigint, OUT dead bigint,
    OUT listeners bigint, OUT p50_ms double precision, OUT p95_ms double precision,
    OUT p99_ms double precision, OUT last_published_at timestamptz, OUT last_delivered_at timestamptz,
    OUT stats_reset timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 100
AS 'MODULE_PATHNAME', 'herald_list_channel_stats';
COMMENT ON FUNCTION herald_internal.list_channel_stats() IS 'Internal: look at herald.channel_stats.';

CREATE VIEW herald.channel_stats AS SELECT * FROM herald_internal.list_channel_stats();
COMMENT ON VIEW herald.channel_stats IS
    'What was counted for each channel that the caller may see, since stats_reset or the last crash.';
COMMENT ON COLUMN herald.channel_stats.channel IS 'Name of the channel; "(other)" for those that found no place of their own.';
COMMENT ON COLUMN herald.channel_stats.published IS 'Messages published by committed transactions.';
COMMENT ON COLUMN herald.channel_stats.published_bytes IS 'Their size, in bytes as jsonb.';
COMMENT ON COLUMN herald.channel_stats.announced IS 'NOTIFYs sent for them.';
COMMENT ON COLUMN herald.channel_stats.rejected IS 'Publications that were refused.';
COMMENT ON COLUMN herald.channel_stats.warned IS 'Messages that were taken though they do not fit the schema.';
COMMENT ON COLUMN herald.channel_stats.delivered IS 'Tasks that succeeded.';
COMMENT ON COLUMN herald.channel_stats.failed IS 'Attempts that failed.';
COMMENT ON COLUMN herald.channel_stats.retried IS 'Failed attempts that are, or were, followed by another one.';
COMMENT ON COLUMN herald.channel_stats.dead IS 'Tasks whose last attempt failed.';
COMMENT ON COLUMN herald.channel_stats.listeners IS 'Sessions that LISTEN on it now.';
COMMENT ON COLUMN herald.channel_stats.p50_ms IS 'Half of the tasks began within so many milliseconds after publication.';
COMMENT ON COLUMN herald.channel_stats.p95_ms IS 'The same for 95 of 100.';
COMMENT ON COLUMN herald.channel_stats.p99_ms IS 'The same for 99 of 100.';
COMMENT ON COLUMN herald.channel_stats.last_published_at IS 'When a message was published last.';
COMMENT ON COLUMN herald.channel_stats.last_delivered_at IS 'When a task succeeded last.';
COMMENT ON COLUMN herald.channel_stats.stats_reset IS 'Since when all of this counts.';

CREATE FUNCTION herald_internal.list_listeners(
    OUT pid integer, OUT database text, OUT role text, OUT channel text, OUT since timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 100
AS 'MODULE_PATHNAME', 'herald_list_listeners';
COMMENT ON FUNCTION herald_internal.list_listeners() IS 'Internal: look at herald.listeners.';

-- A session that connected since the transaction first looked at pg_stat_activity is not in there yet.
CREATE VIEW herald.listeners WITH (security_barrier) AS
SELECT l.pid, l.database, l.role, a.application_name, a.client_addr AS client_address,
       l.channel, l.since
  FROM herald_internal.list_listeners() AS l
  LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid OPERATOR(pg_catalog.=) l.pid;
COMMENT ON VIEW herald.listeners IS
    'Sessions that LISTEN, one row per session and channel: all for pg_monitor, else those of roles whose rights the caller has.';
COMMENT ON COLUMN herald.listeners.pid IS 'Process of the session.';
COMMENT ON COLUMN herald.listeners.database IS 'Its database.';
COMMENT ON COLUMN herald.listeners.role IS 'Role that it logged in as.';
COMMENT ON COLUMN herald.listeners.application_name IS 'Its application_name.';
COMMENT ON COLUMN herald.listeners.client_address IS 'Where it comes from; NULL: a local socket.';
COMMENT ON COLUMN herald.listeners.channel IS 'What it LISTENs to.';
COMMENT ON COLUMN herald.listeners.since IS 'When it began to.';

CREATE FUNCTION herald.reset_stats(channel text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_reset_stats';
COMMENT ON FUNCTION herald.reset_stats(text) IS
    'Sets the statistics of a channel to 0, or, for NULL, those of all channels of this database.';

-- JSON Schema ---------------------------------------------------------------------------------------

CREATE FUNCTION herald.validate(schema jsonb, payload jsonb, check_formats boolean DEFAULT false)
RETURNS boolean LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'herald_validate';
COMMENT ON FUNCTION herald.validate(jsonb, jsonb, boolean) IS
    'True if the payload fits the JSON Schema (draft 2020-12, or draft-07 if $schema says so).';

CREATE FUNCTION herald.validation_errors(
    schema jsonb, payload jsonb, check_formats boolean DEFAULT false,
    OUT payload_path text, OUT schema_path text, OUT message text, OUT instance_location text, OUT keyword_location text)
RETURNS SETOF record LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 ROWS 5
AS 'MODULE_PATHNAME', 'herald_validation_errors';
COMMENT ON FUNCTION herald.validation_errors(jsonb, jsonb, boolean) IS
    'Where and how a payload violates a JSON Schema, at most 1000 rows; none if it fits.';

-- Locks ---------------------------------------------------------------------------------------------

CREATE FUNCTION herald.try_lock(name text, scope text DEFAULT 'session', channel text DEFAULT 'locks')
RETURNS boolean LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_try_lock';
COMMENT ON FUNCTION herald.try_lock(text, text, text) IS
    'Takes a named lock of this database, without waiting, for the session or the transaction; false if another session has it.';

CREATE FUNCTION herald.unlock(name text)
RETURNS boolean LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_unlock';
COMMENT ON FUNCTION herald.unlock(text) IS
    'Gives back a lock that try_lock has taken for the session, when the transaction commits; false if the session does not have it.';

-- Subscriptions -------------------------------------------------------------------------------------

CREATE FUNCTION herald.subscribe(
    subscription text, channel text, handler text DEFAULT NULL, max_concurrency integer DEFAULT 4,
    max_attempts integer DEFAULT 16, retry_delay interval DEFAULT '1 second',
    retry_backoff double precision DEFAULT 2, max_retry_delay interval DEFAULT '1 hour',
    timeout interval DEFAULT '5 minutes', start_at text DEFAULT 'new', run_as text DEFAULT NULL,
    batch boolean DEFAULT true, isolation text DEFAULT 'read committed', if_not_exists boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_subscribe';
COMMENT ON FUNCTION herald.subscribe IS
    'Makes a subscription: workers run the handler, as role run_as, for each message of the channel.';

CREATE FUNCTION herald.alter_subscription(
    subscription text, channel text DEFAULT NULL, handler text DEFAULT NULL,
    max_concurrency integer DEFAULT NULL, max_attempts integer DEFAULT NULL,
    retry_delay interval DEFAULT NULL, retry_backoff double precision DEFAULT NULL,
    max_retry_delay interval DEFAULT NULL, timeout interval DEFAULT NULL, run_as text DEFAULT NULL,
    batch boolean DEFAULT NULL, isolation text DEFAULT NULL, owner text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_alter_subscription';
COMMENT ON FUNCTION herald.alter_subscription IS
    'Changes options or the owner of a subscription; NULL keeps what it is.';

CREATE FUNCTION herald.unsubscribe(subscription text, force boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_unsubscribe';
COMMENT ON FUNCTION herald.unsubscribe IS
    'Removes a subscription; if it has tasks or dead letters only by force.';

CREATE FUNCTION herald.pause(subscription text, wait interval DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_pause';
COMMENT ON FUNCTION herald.pause IS 'Deals no more tasks of the subscription; true if none runs.';

CREATE FUNCTION herald.resume(subscription text)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_resume';
COMMENT ON FUNCTION herald.resume IS 'Runs the tasks of a paused or held subscription again.';

CREATE FUNCTION herald.wait_idle(subscription text, timeout interval)
RETURNS boolean LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_wait_idle';
COMMENT ON FUNCTION herald.wait_idle IS
    'Waits until the subscription has nothing left to do; false if the time is over before.';

-- Dead letters --------------------------------------------------------------------------------------

CREATE FUNCTION herald.replay(dead_letter_id bigint)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_replay';
COMMENT ON FUNCTION herald.replay IS
    'Makes a dead letter a task again, with all its attempts; false if the caller has no such dead letter.';

CREATE FUNCTION herald.replay_all(subscription text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_replay_all';
COMMENT ON FUNCTION herald.replay_all IS
    'Makes all dead letters of a subscription tasks again; returns how many.';

CREATE FUNCTION herald.discard_dead_letters(subscription text, before timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_discard_dead_letters';
COMMENT ON FUNCTION herald.discard_dead_letters IS
    'Deletes the dead letters of a subscription that died before a time (NULL: all); returns how many.';

-- Looking -------------------------------------------------------------------------------------------

CREATE FUNCTION herald.version(OUT library text, OUT extension text)
RETURNS record LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'herald_version';
COMMENT ON FUNCTION herald.version IS 'The version of the loaded library and of the installed extension.';

CREATE FUNCTION herald.status(
    OUT name text, OUT ok boolean, OUT value text, OUT hint text, OUT value_number double precision, OUT unit text)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'herald_status';
COMMENT ON FUNCTION herald.status IS 'Says in one row per check whether all is as it must be, and what to do if not.';

CREATE FUNCTION herald.activate()
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_activate';
COMMENT ON FUNCTION herald.activate IS
    'Lets subscriptions that were restored from another server or database run in this one.';

CREATE FUNCTION herald_internal.list_workers(
    OUT pid integer, OUT kind text, OUT database text, OUT role text, OUT state text,
    OUT subscription text, OUT message_id bigint, OUT started_at timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
AS 'MODULE_PATHNAME', 'herald_list_workers';
COMMENT ON FUNCTION herald_internal.list_workers IS 'What the view herald.workers shows.';

CREATE FUNCTION herald_internal.list_subscription_stats(
    OUT subscription_id integer, OUT subscription text, OUT channel text, OUT state text,
    OUT reason text, OUT pending bigint, OUT running bigint, OUT done bigint, OUT failed bigint,
    OUT retrying bigint, OUT oldest_published_at timestamptz, OUT p50_ms double precision,
    OUT p95_ms double precision, OUT p99_ms double precision, OUT dead bigint)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'herald_list_subscription_stats';
COMMENT ON FUNCTION herald_internal.list_subscription_stats IS
    'What the view herald.subscription_stats shows: subscriptions that the caller may see.';

CREATE VIEW herald.workers WITH (security_barrier) AS
SELECT w.pid, w.kind, w.database, w.role, w.state, w.subscription, w.message_id, w.started_at
  FROM herald_internal.list_workers() AS w;
COMMENT ON VIEW herald.workers IS
    'The background processes of the extension; workers only of roles that the caller is a member of.';
COMMENT ON COLUMN herald.workers.pid IS 'Process.';
COMMENT ON COLUMN herald.workers.kind IS 'launcher, dispatcher, announcer or worker.';
COMMENT ON COLUMN herald.workers.database IS 'Database it works in; NULL for the launcher.';
COMMENT ON COLUMN herald.workers.role IS 'Role that a worker runs handlers as.';
COMMENT ON COLUMN herald.workers.state IS 'idle or running.';
COMMENT ON COLUMN herald.workers.subscription IS 'What its task belongs to.';
COMMENT ON COLUMN herald.workers.message_id IS 'Message of its task.';
COMMENT ON COLUMN herald.workers.started_at IS 'When that task, or else the process, began.';

-- A view runs with its owner's rights on tables, but current_user in it is who asks. A role that is gone
-- gives nobody a right.
CREATE VIEW herald.subscriptions WITH (security_barrier) AS
SELECT s.subscription, c.channel, s.handler,
       COALESCE(pg_catalog.pg_get_userbyid(herald_internal.stored_role(s.owner, s.owner_role))::pg_catalog.text, s.owner)
           AS owner,
       COALESCE(pg_catalog.pg_get_userbyid(herald_internal.stored_role(s.run_as, s.run_as_role))::pg_catalog.text, s.run_as)
           AS run_as,
       s.max_concurrency, s.max_attempts,
       s.retry_delay, s.retry_backoff, s.max_retry_delay, s.timeout, s.batch,
       l.state, l.reason, s.created_at, s.isolation
  FROM herald_internal.list_subscription_stats() AS l
  JOIN herald_internal.subscription_store AS s ON s.id OPERATOR(pg_catalog.=) l.subscription_id
  JOIN herald_internal.channel_store AS c ON c.id OPERATOR(pg_catalog.=) s.channel_id;
COMMENT ON VIEW herald.subscriptions IS 'Subscriptions with their options.';
COMMENT ON COLUMN herald.subscriptions.subscription IS 'Name of the subscription.';
COMMENT ON COLUMN herald.subscriptions.channel IS 'Channel whose messages it gets.';
COMMENT ON COLUMN herald.subscriptions.handler IS 'Function that runs its tasks.';
COMMENT ON COLUMN herald.subscriptions.owner IS 'Role that may change and drop it.';
COMMENT ON COLUMN herald.subscriptions.run_as IS 'Role that the handler runs as.';
COMMENT ON COLUMN herald.subscriptions.max_concurrency IS 'Largest number of its tasks that run at the same time.';
COMMENT ON COLUMN herald.subscriptions.max_attempts IS 'Attempts after which a task is a dead letter.';
COMMENT ON COLUMN herald.subscriptions.retry_delay IS 'Delay after the first failed attempt.';
COMMENT ON COLUMN herald.subscriptions.retry_backoff IS 'Factor by which the delay grows with each further one.';
COMMENT ON COLUMN herald.subscriptions.max_retry_delay IS 'Longest delay between two attempts.';
COMMENT ON COLUMN herald.subscriptions.timeout IS 'How long a handler may run; 0: without limit.';
COMMENT ON COLUMN herald.subscriptions.batch IS 'Whether tasks may share a transaction.';
COMMENT ON COLUMN herald.subscriptions.state IS 'active, paused, held, or inert: restored from elsewhere, see herald.activate().';
COMMENT ON COLUMN herald.subscriptions.reason IS 'Why it is held; NULL: it is not.';
COMMENT ON COLUMN herald.subscriptions.created_at IS 'When it was made.';
COMMENT ON COLUMN herald.subscriptions.isolation IS 'Isolation level that its handler runs under.';

CREATE VIEW herald.subscription_stats WITH (security_barrier) AS
SELECT l.subscription, l.channel, l.state, l.reason, l.pending, l.running, l.done, l.failed, l.retrying,
       l.dead,
       pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) l.oldest_published_at AS oldest_pending_age,
       l.p50_ms, l.p95_ms, l.p99_ms
  FROM herald_internal.list_subscription_stats() AS l;
COMMENT ON VIEW herald.subscription_stats IS 'How much of each subscription waits, runs, is done or has failed.';
COMMENT ON COLUMN herald.subscription_stats.subscription IS 'Name of the subscription.';
COMMENT ON COLUMN herald.subscription_stats.channel IS 'Channel whose messages it gets.';
COMMENT ON COLUMN herald.subscription_stats.state IS 'active, paused, held or inert.';
COMMENT ON COLUMN herald.subscription_stats.reason IS 'Why it is held; NULL: it is not.';
COMMENT ON COLUMN herald.subscription_stats.pending IS 'Tasks that wait; NULL: no dispatcher counts.';
COMMENT ON COLUMN herald.subscription_stats.running IS 'Tasks that run now; NULL: no dispatcher counts.';
COMMENT ON COLUMN herald.subscription_stats.done IS 'Tasks that succeeded since the statistics began.';
COMMENT ON COLUMN herald.subscription_stats.failed IS 'Attempts that failed since then.';
COMMENT ON COLUMN herald.subscription_stats.retrying IS 'Tasks that wait for another attempt; NULL: no dispatcher counts.';
COMMENT ON COLUMN herald.subscription_stats.dead IS 'Dead letters that are there now.';
COMMENT ON COLUMN herald.subscription_stats.oldest_pending_age IS 'How long the oldest task has waited; NULL: none does, or no dispatcher counts.';
COMMENT ON COLUMN herald.subscription_stats.p50_ms IS 'Half of the tasks began within so many milliseconds after publication.';
COMMENT ON COLUMN herald.subscription_stats.p95_ms IS 'The same for 95 of 100.';
COMMENT ON COLUMN herald.subscription_stats.p99_ms IS 'The same for 99 of 100.';

-- Payloads and errors: for members of the subscription's owner, of the role it runs as, or of the
-- channel's owner. Not for pg_monitor. As in every view, CURRENT_USER is who asks.
CREATE VIEW herald_internal.my_subscriptions AS
SELECT m.id, m.run_as_role, m.owns, m.runs
  FROM (SELECT s.id, s.run_as_role,
               pg_catalog.pg_has_role(herald_internal.stored_role(s.owner, s.owner_role), 'USAGE')
                   OR pg_catalog.pg_has_role(herald_internal.stored_role(c.owner, c.owner_role), 'USAGE') AS owns,
               pg_catalog.pg_has_role(herald_internal.stored_role(s.run_as, s.run_as_role), 'USAGE') AS runs
          FROM herald_internal.subscription_store AS s
          JOIN herald_internal.channel_store AS c ON c.id OPERATOR(pg_catalog.=) s.channel_id) AS m
 WHERE m.owns OR m.runs;
COMMENT ON VIEW herald_internal.my_subscriptions IS
    'Internal, for other views: subscriptions whose payloads and errors the caller may see, as an owner or as who runs them.';

CREATE VIEW herald.dead_letters WITH (security_barrier) AS
SELECT d.id, s.subscription, c.channel, d.message_id,
       COALESCE(d.payload OPERATOR(pg_catalog.->>) 'task_id', d.message_id::pg_catalog.text) AS task_id,
       d.payload, d.key, d.headers, d.attempts, d.error_code, d.message, d.died_at, d.schema_version
  FROM herald_internal.dead_letter_store AS d
  JOIN herald_internal.subscription_store AS s ON s.id OPERATOR(pg_catalog.=) d.subscription_id
  JOIN herald_internal.channel_store AS c ON c.id OPERATOR(pg_catalog.=) s.channel_id
 WHERE s.id OPERATOR(pg_catalog.=) ANY (SELECT m.id FROM herald_internal.my_subscriptions AS m)
    OR EXISTS (SELECT FROM pg_catalog.pg_roles AS u WHERE u.rolname OPERATOR(pg_catalog.=) CURRENT_USER AND u.rolsuper);
COMMENT ON VIEW herald.dead_letters IS
    'Tasks whose last attempt failed: replay them by herald.replay, or discard them.';
COMMENT ON COLUMN herald.dead_letters.id IS 'What herald.replay() takes.';
COMMENT ON COLUMN herald.dead_letters.subscription IS 'What the task belongs to.';
COMMENT ON COLUMN herald.dead_letters.channel IS 'Channel of its message.';
COMMENT ON COLUMN herald.dead_letters.message_id IS 'Id of its message.';
COMMENT ON COLUMN herald.dead_letters.task_id IS 'Member task_id of the payload, or the message''s id.';
COMMENT ON COLUMN herald.dead_letters.payload IS 'Payload of the message.';
COMMENT ON COLUMN herald.dead_letters.key IS 'Key that it was published with.';
COMMENT ON COLUMN herald.dead_letters.headers IS 'Headers that it was published with.';
COMMENT ON COLUMN herald.dead_letters.attempts IS 'How many were made.';
COMMENT ON COLUMN herald.dead_letters.error_code IS 'SQLSTATE of the last error.';
COMMENT ON COLUMN herald.dead_letters.message IS 'Text of the last error.';
COMMENT ON COLUMN herald.dead_letters.died_at IS 'When the last attempt failed.';
COMMENT ON COLUMN herald.dead_letters.schema_version IS 'Version of the channel''s schema that the payload was checked against.';

CREATE VIEW herald.failure_log WITH (security_barrier) AS
SELECT f.subscription, f.channel, f.message_id, f.task_id, f.attempt, f.error_code, f.message, f.detail,
       f.hint, f.context, f.handler, f.started_at, f.failed_at, f.next_attempt_at
  FROM herald_internal.failure_store AS f
 WHERE f.subscription_id OPERATOR(pg_catalog.=) ANY (SELECT m.id FROM herald_internal.my_subscriptions AS m WHERE m.owns)
    -- By the role that ran the attempt, which need not be the one of today. The second is for a restored copy: names
    -- here are as old as their rows.
    OR pg_catalog.pg_has_role(herald_internal.stored_role(NULL, f.run_as_role), 'USAGE')
    OR (f.subscription_id, f.run_as_role) IN (
           SELECT m.id, m.run_as_role FROM herald_internal.my_subscriptions AS m WHERE m.runs)
    OR EXISTS (SELECT FROM pg_catalog.pg_roles AS u WHERE u.rolname OPERATOR(pg_catalog.=) CURRENT_USER AND u.rolsuper);
COMMENT ON VIEW herald.failure_log IS
    'One row per failed attempt; next_attempt_at NULL: given up, infinity: when the held subscription is resumed.';
COMMENT ON COLUMN herald.failure_log.subscription IS 'What the task belonged to.';
COMMENT ON COLUMN herald.failure_log.channel IS 'Channel of its message.';
COMMENT ON COLUMN herald.failure_log.message_id IS 'Id of its message; NULL: the subscription was held before any ran.';
COMMENT ON COLUMN herald.failure_log.task_id IS 'Member task_id of the payload, or the message''s id.';
COMMENT ON COLUMN herald.failure_log.attempt IS 'Number of the attempt, from 1.';
COMMENT ON COLUMN herald.failure_log.error_code IS 'SQLSTATE of the error.';
COMMENT ON COLUMN herald.failure_log.message IS 'Text of the error; texts end at 8 kB.';
COMMENT ON COLUMN herald.failure_log.detail IS 'Its detail.';
COMMENT ON COLUMN herald.failure_log.hint IS 'Its hint.';
COMMENT ON COLUMN herald.failure_log.context IS 'Where it was raised.';
COMMENT ON COLUMN herald.failure_log.handler IS 'Function that failed.';
COMMENT ON COLUMN herald.failure_log.started_at IS 'When the attempt began.';
COMMENT ON COLUMN herald.failure_log.failed_at IS 'When it failed.';
COMMENT ON COLUMN herald.failure_log.next_attempt_at IS 'When the next one is due; NULL: given up; infinity: when the subscription is resumed.';

CREATE FUNCTION herald_internal.list_tasks(
    OUT subscription text, OUT channel text, OUT message_id bigint, OUT state text, OUT attempt integer,
    OUT next_attempt_at timestamptz, OUT wait_reason text, OUT place integer, OUT address tid)
RETURNS SETOF record LANGUAGE c STABLE PARALLEL UNSAFE ROWS 1000
AS 'MODULE_PATHNAME', 'herald_list_tasks';
COMMENT ON FUNCTION herald_internal.list_tasks IS
    'What the view herald.tasks shows: tasks of subscriptions that the caller may see, and where their payloads are.';

CREATE FUNCTION herald_internal.task_payload(place integer, address tid, message_id bigint)
RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'herald_task_payload';
COMMENT ON FUNCTION herald_internal.task_payload IS
    'The payload of a task listed by herald_internal.list_tasks; NULL without the privilege read.';

CREATE VIEW herald.tasks WITH (security_barrier) AS
SELECT t.subscription, t.channel, t.message_id, t.state, t.attempt, t.next_attempt_at, t.wait_reason,
       herald_internal.task_payload(t.place, t.address, t.message_id) AS payload
  FROM herald_internal.list_tasks() AS t;
COMMENT ON VIEW herald.tasks IS
    'Tasks that are not done, of subscriptions that the caller may see: pending, running, retrying, dead.';
COMMENT ON COLUMN herald.tasks.subscription IS 'What the task belongs to.';
COMMENT ON COLUMN herald.tasks.channel IS 'Channel of its message.';
COMMENT ON COLUMN herald.tasks.message_id IS 'Id of its message, as publish returned it.';
COMMENT ON COLUMN herald.tasks.state IS 'pending, running, retrying or dead.';
COMMENT ON COLUMN herald.tasks.attempt IS 'Number of the attempt that runs, or ran last; 0: none did.';
COMMENT ON COLUMN herald.tasks.next_attempt_at IS 'When the next one is due; NULL: at once, or never.';
COMMENT ON COLUMN herald.tasks.wait_reason IS 'What it waits for: paused, held: and why, inert, retry delay, key: message and which, max_concurrency, or worker.';
COMMENT ON COLUMN herald.tasks.payload IS 'Payload of the message; NULL without the privilege read.';

-- Audit trails --------------------------------------------------------------------------------------
-- The trigger functions are for triggers that herald.enable_audit makes; nobody may execute them, so
-- nobody else can make a trigger of them.

CREATE FUNCTION herald_internal.audit_insert()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_audit_insert';
COMMENT ON FUNCTION herald_internal.audit_insert() IS 'Records each row of an INSERT, for triggers made by herald.enable_audit.';

CREATE FUNCTION herald_internal.audit_update()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_audit_update';
COMMENT ON FUNCTION herald_internal.audit_update() IS 'Records each row of an UPDATE, for triggers made by herald.enable_audit.';

CREATE FUNCTION herald_internal.audit_delete()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_audit_delete';
COMMENT ON FUNCTION herald_internal.audit_delete() IS 'Records each row of a DELETE, for triggers made by herald.enable_audit.';

CREATE FUNCTION herald_internal.audit_truncate()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_audit_truncate';
COMMENT ON FUNCTION herald_internal.audit_truncate() IS 'Records a TRUNCATE, for triggers made by herald.enable_audit.';

CREATE FUNCTION herald_internal.audit_replica()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_audit_replica';
COMMENT ON FUNCTION herald_internal.audit_replica() IS 'Records replicated changes, row by row, for triggers made by herald.enable_audit.';

DO $$
BEGIN
    EXECUTE (
        SELECT 'CREATE VIEW herald_internal.audit AS ' OPERATOR(pg_catalog.||) pg_catalog.string_agg(pg_catalog.format(
                   'SELECT e.*, c.transaction_id, c.session_user_name, c.current_user_name, c.application_name, c.client_address,
                           c.client_port, c.statement, c.context
                      FROM herald_internal.audit_%1$s AS e
                      LEFT JOIN herald_internal.audit_context_%1$s AS c ON c.id OPERATOR(pg_catalog.=) e.context_id', segment),
                   ' UNION ALL ' ORDER BY segment)
          FROM pg_catalog.generate_series(0, 7) AS segment);
END $$;
COMMENT ON VIEW herald_internal.audit IS 'All segments of the audit trail, as they are stored.';

CREATE VIEW herald.audit_log AS
SELECT t.id, t.transaction_id, t.sequence, t.changed_at,
       CASE WHEN t.operation OPERATOR(pg_catalog.=) 'I' THEN 'insert'
            WHEN t.operation OPERATOR(pg_catalog.=) 'U' THEN 'update'
            WHEN t.operation OPERATOR(pg_catalog.=) 'D' THEN 'delete'
            WHEN t.operation OPERATOR(pg_catalog.=) 'T' THEN 'truncate'
            WHEN t.operation OPERATOR(pg_catalog.=) 'E' THEN 'enable_audit'
            WHEN t.operation OPERATOR(pg_catalog.=) 'A' THEN 'alter_audit'
            WHEN t.operation OPERATOR(pg_catalog.=) 'X' THEN 'disable_audit'
            WHEN t.operation OPERATOR(pg_catalog.=) 'R' THEN 'drop_table'
            WHEN t.operation OPERATOR(pg_catalog.=) 'G' THEN 'drop_trigger'
            WHEN t.operation OPERATOR(pg_catalog.=) 'S' THEN 'disable_trigger'
            WHEN t.operation OPERATOR(pg_catalog.=) 'N' THEN 'enable_trigger'
            WHEN t.operation OPERATOR(pg_catalog.=) 'H' THEN 'attach'
            WHEN t.operation OPERATOR(pg_catalog.=) 'L' THEN 'detach'
            WHEN t.operation OPERATOR(pg_catalog.=) 'P' THEN 'purge'
       END AS operation,
       t.schema_name, t.table_name, t.record_id, t.old_record_id, t.old, t.new, t.changed,
       t.session_user_name, t.current_user_name, t.application_name, t.client_address, t.client_port,
       t.statement, t.context
  FROM herald_internal.audit AS t;
COMMENT ON VIEW herald.audit_log IS
    'The audit trail: changes of audited tables, and what happened to the trail itself.';
COMMENT ON COLUMN herald.audit_log.id IS 'Number of the entry.';
COMMENT ON COLUMN herald.audit_log.transaction_id IS 'Transaction that made the change.';
COMMENT ON COLUMN herald.audit_log.sequence IS 'Place of the entry in its transaction.';
COMMENT ON COLUMN herald.audit_log.changed_at IS 'When the statement ended, by the clock of the server.';
COMMENT ON COLUMN herald.audit_log.operation IS 'insert, update, delete, truncate, or what was done to the trail: enable_audit, drop_trigger and so on.';
COMMENT ON COLUMN herald.audit_log.schema_name IS 'Schema of the table at that time.';
COMMENT ON COLUMN herald.audit_log.table_name IS 'Name of the table at that time.';
COMMENT ON COLUMN herald.audit_log.record_id IS 'Key of the row.';
COMMENT ON COLUMN herald.audit_log.old_record_id IS 'Key that it had before, if it was changed.';
COMMENT ON COLUMN herald.audit_log.old IS 'The row before; by diff, the columns that were changed.';
COMMENT ON COLUMN herald.audit_log.new IS 'The row after; by diff, the columns that were changed.';
COMMENT ON COLUMN herald.audit_log.changed IS 'Names of the columns that an UPDATE changed.';
COMMENT ON COLUMN herald.audit_log.session_user_name IS 'Role that the session logged in as.';
COMMENT ON COLUMN herald.audit_log.current_user_name IS 'Role whose rights counted.';
COMMENT ON COLUMN herald.audit_log.application_name IS 'application_name of the session.';
COMMENT ON COLUMN herald.audit_log.client_address IS 'Address of the client.';
COMMENT ON COLUMN herald.audit_log.client_port IS 'Port of the client.';
COMMENT ON COLUMN herald.audit_log.statement IS 'Text of the statement, if herald.audit_statement is on.';
COMMENT ON COLUMN herald.audit_log.context IS 'Settings named by herald.audit_context.';

CREATE FUNCTION herald.enable_audit(
    target regclass, record text DEFAULT 'full', exclude text[] DEFAULT '{}', mask text[] DEFAULT '{}',
    operations text[] DEFAULT '{insert,update,delete,truncate}')
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_enable_audit';
COMMENT ON FUNCTION herald.enable_audit IS
    'Records changes of a table and of what is below it from now on, or changes the options of that.';

CREATE FUNCTION herald.disable_audit(target regclass)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_disable_audit';
COMMENT ON FUNCTION herald.disable_audit IS 'Ends the recording of changes of a table; what is recorded stays.';

CREATE FUNCTION herald.audit_history(target regclass, record_id jsonb)
RETURNS SETOF herald.audit_log LANGUAGE c STABLE STRICT PARALLEL UNSAFE ROWS 20
AS 'MODULE_PATHNAME', 'herald_audit_history';
COMMENT ON FUNCTION herald.audit_history IS 'What happened to one row of an audited table, oldest first.';

CREATE FUNCTION herald.purge_audit_log(before timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_purge_audit_log';
COMMENT ON FUNCTION herald.purge_audit_log IS
    'Deletes what was recorded before a time, or, for NULL, everything; returns the number of entries.';

CREATE FUNCTION herald_internal.guard_audit_log()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_guard_audit_log';
COMMENT ON FUNCTION herald_internal.guard_audit_log() IS
    'Refuses changes of the audit trail, also to superusers. Only they can add to it, as a restore does.';

CREATE FUNCTION herald_internal.guard_options()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_guard_options';
COMMENT ON FUNCTION herald_internal.guard_options() IS
    'Refuses changes of the tables of the extension to others than its owner, whatever they may write to.';

CREATE FUNCTION herald_internal.guard_ids()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_guard_ids';
COMMENT ON FUNCTION herald_internal.guard_ids() IS
    'Raises a counter instead of storing a row for it, as a restore inserts it.';

CREATE FUNCTION herald_internal.list_audited_tables(
    OUT schema_name text, OUT table_name text, OUT record text, OUT exclude text[], OUT mask text[],
    OUT operations text[], OUT partitions integer, OUT ok boolean, OUT problem text)
RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'herald_list_audited_tables';
COMMENT ON FUNCTION herald_internal.list_audited_tables IS 'What the view herald.audited_tables shows.';

CREATE VIEW herald.audited_tables WITH (security_barrier) AS
SELECT t.schema_name, t.table_name, t.record, t.exclude, t.mask, t.operations, t.partitions, t.ok, t.problem
  FROM herald_internal.list_audited_tables() AS t;
COMMENT ON VIEW herald.audited_tables IS
    'Audited tables with their options, and whether everything is recorded that should be.';
COMMENT ON COLUMN herald.audited_tables.schema_name IS 'Schema of the table.';
COMMENT ON COLUMN herald.audited_tables.table_name IS 'Name of the table.';
COMMENT ON COLUMN herald.audited_tables.record IS 'full, diff or keys.';
COMMENT ON COLUMN herald.audited_tables.exclude IS 'Columns that are not recorded.';
COMMENT ON COLUMN herald.audited_tables.mask IS 'Columns whose values are not recorded; hash:name: by a hash.';
COMMENT ON COLUMN herald.audited_tables.operations IS 'Operations that are recorded.';
COMMENT ON COLUMN herald.audited_tables.partitions IS 'Tables below it that are recorded with it.';
COMMENT ON COLUMN herald.audited_tables.ok IS 'Whether everything is recorded that should be.';
COMMENT ON COLUMN herald.audited_tables.problem IS 'What is wrong; NULL: nothing.';

-- Change feeds --------------------------------------------------------------------------------------
-- The trigger functions are for triggers that herald.enable_change_feed makes; nobody may execute them.

CREATE FUNCTION herald_internal.feed_insert()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_feed_insert';
COMMENT ON FUNCTION herald_internal.feed_insert() IS 'Notes the rows of an INSERT, for triggers made by herald.enable_change_feed.';

CREATE FUNCTION herald_internal.feed_update()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_feed_update';
COMMENT ON FUNCTION herald_internal.feed_update() IS 'Notes the rows of an UPDATE, for triggers made by herald.enable_change_feed.';

CREATE FUNCTION herald_internal.feed_delete()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_feed_delete';
COMMENT ON FUNCTION herald_internal.feed_delete() IS 'Notes the rows of a DELETE, for triggers made by herald.enable_change_feed.';

CREATE FUNCTION herald_internal.feed_truncate()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_feed_truncate';
COMMENT ON FUNCTION herald_internal.feed_truncate() IS 'Notes a TRUNCATE, for triggers made by herald.enable_change_feed.';

CREATE FUNCTION herald_internal.feed_replica()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_feed_replica';
COMMENT ON FUNCTION herald_internal.feed_replica() IS 'Notes replicated changes, row by row, for triggers made by herald.enable_change_feed.';

CREATE FUNCTION herald.enable_change_feed(
    target regclass, channel text, message text DEFAULT 'key', columns text[] DEFAULT NULL,
    operations text[] DEFAULT '{insert,update,delete,truncate}')
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_enable_change_feed';
COMMENT ON FUNCTION herald.enable_change_feed IS
    'Publishes the changes of a table to a channel when their transaction commits, or changes the options of that.';

CREATE FUNCTION herald.disable_change_feed(target regclass, channel text)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_disable_change_feed';
COMMENT ON FUNCTION herald.disable_change_feed IS 'Ends the feed of a table to a channel.';

CREATE FUNCTION herald_internal.feed_problem(feed_id integer)
RETURNS text LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'herald_feed_problem';
COMMENT ON FUNCTION herald_internal.feed_problem(integer) IS
    'What keeps a change feed from publishing, NULL for nothing: for the view herald.change_feeds. NULL also to '
    'those who may not see the feed there.';

CREATE VIEW herald.change_feeds WITH (security_barrier) AS
SELECT n.nspname::pg_catalog.text AS schema_name, c.relname::pg_catalog.text AS table_name, f.channel, f.message, f.columns, f.operations,
       COALESCE(pg_catalog.pg_get_userbyid(herald_internal.stored_role(f.owner, f.owner_role))::pg_catalog.text, f.owner)
           AS owner,
       p.problem IS NULL AS ok, p.problem, f.created_at
  FROM herald_internal.change_feed_store AS f
  LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) f.relation::pg_catalog.oid
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 CROSS JOIN LATERAL (SELECT herald_internal.feed_problem(f.id) AS problem) AS p
 WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')
    OR pg_catalog.pg_has_role(herald_internal.stored_role(f.owner, f.owner_role), 'USAGE')
    OR EXISTS (SELECT FROM pg_catalog.pg_roles AS u WHERE u.rolname OPERATOR(pg_catalog.=) CURRENT_USER AND u.rolsuper);
COMMENT ON VIEW herald.change_feeds IS 'Change feeds that the caller made, or of tables that the caller owns.';
COMMENT ON COLUMN herald.change_feeds.schema_name IS 'Schema of the table.';
COMMENT ON COLUMN herald.change_feeds.table_name IS 'Name of the table.';
COMMENT ON COLUMN herald.change_feeds.channel IS 'Channel that changes are published to.';
COMMENT ON COLUMN herald.change_feeds.message IS 'key, row, diff, or a template of the message.';
COMMENT ON COLUMN herald.change_feeds.columns IS 'Columns that count; NULL: all.';
COMMENT ON COLUMN herald.change_feeds.operations IS 'Operations that are published.';
COMMENT ON COLUMN herald.change_feeds.owner IS 'Role that made the feed, and publishes with its rights.';
COMMENT ON COLUMN herald.change_feeds.ok IS 'Whether everything is published that should be.';
COMMENT ON COLUMN herald.change_feeds.problem IS 'What is wrong; NULL: nothing.';
COMMENT ON COLUMN herald.change_feeds.created_at IS 'When the feed was made.';

-- Logical replication -------------------------------------------------------------------------------
-- What is in the tables belongs to this database, even if all tables are published.

CREATE FUNCTION herald_internal.guard_replicated()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_guard_replicated';
COMMENT ON FUNCTION herald_internal.guard_replicated() IS
    'Skips rows that another server sends by logical replication, and refuses its TRUNCATE (55000).';

-- Not for what another server sends.
CREATE TRIGGER guard_ids BEFORE INSERT ON herald_internal.id_store
    FOR EACH ROW EXECUTE FUNCTION herald_internal.guard_ids();

-- Each table is guarded. pg_write_all_data gives the right to write to all of them: whoever has it could make a
-- subscription that runs as anybody. What the library writes by itself fires no trigger, or is written as the owner.
-- pg_dump keeps the rows of all but what was only announced.
DO $$
DECLARE
    own pg_catalog.name;
    is_trail boolean;
BEGIN
    FOR own, is_trail IN
        SELECT c.relname, c.relname OPERATOR(pg_catalog.~) '^audit_(context_)?[0-9]$' FROM pg_catalog.pg_class AS c
         WHERE c.relnamespace OPERATOR(pg_catalog.=) 'herald_internal'::pg_catalog.regnamespace
           AND c.relkind OPERATOR(pg_catalog.=) 'r'
         ORDER BY c.oid USING OPERATOR(pg_catalog.<)
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON herald_internal.%I
                FOR EACH STATEMENT EXECUTE FUNCTION herald_internal.%I()',
            own, CASE WHEN is_trail THEN 'guard_audit_log' ELSE 'guard_options' END);
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER guard_rows BEFORE INSERT OR UPDATE OR DELETE ON herald_internal.%I
                FOR EACH ROW EXECUTE FUNCTION herald_internal.guard_replicated()', own);
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON herald_internal.%I
                FOR EACH STATEMENT EXECUTE FUNCTION herald_internal.guard_replicated()', own);
        EXECUTE pg_catalog.format('ALTER TABLE herald_internal.%I ENABLE ALWAYS TRIGGER guard', own);
        EXECUTE pg_catalog.format('ALTER TABLE herald_internal.%I ENABLE REPLICA TRIGGER guard_rows', own);
        EXECUTE pg_catalog.format('ALTER TABLE herald_internal.%I ENABLE REPLICA TRIGGER guard_truncate', own);
        -- So that a purge works if all tables are published. It costs nothing else: rows are only inserted.
        IF is_trail THEN
            EXECUTE pg_catalog.format('ALTER TABLE herald_internal.%I REPLICA IDENTITY FULL', own);
        END IF;
        IF own OPERATOR(pg_catalog.<>) 'pointer_store' THEN
            PERFORM pg_catalog.pg_extension_config_dump(pg_catalog.format('herald_internal.%I', own)::pg_catalog.regclass, '');
        END IF;
    END LOOP;
    -- The mark of a table that is being rewritten: logical decoding leaves it out. With their TOAST tables.
    UPDATE pg_catalog.pg_class AS c
       SET relrewrite = c.oid
     WHERE c.oid OPERATOR(pg_catalog.=) ANY (ARRAY(
               SELECT pg_catalog.unnest(ARRAY[t.oid, t.reltoastrelid])
                 FROM pg_catalog.pg_class AS t
                WHERE t.relkind OPERATOR(pg_catalog.=) 'r'
                  AND t.relnamespace OPERATOR(pg_catalog.=) 'herald_internal'::pg_catalog.regnamespace));
END $$;

CREATE FUNCTION herald_internal.withdraw_default_rights()
RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_withdraw_default_rights';
COMMENT ON FUNCTION herald_internal.withdraw_default_rights() IS
    'Takes from all roles but the owner, and PUBLIC, the rights on what the running script has made. For scripts of the extension.';

-- Rights --------------------------------------------------------------------------------------------
-- Functions check the caller's rights inside, and show what the caller may see. Of what is internal, everybody may
-- execute what views call; trigger functions nobody, so that nobody can make triggers of them.

-- Triggers of tables that are audited or have a feed, and of their dumps, name functions of herald_internal.
GRANT USAGE ON SCHEMA herald, herald_internal TO PUBLIC;
GRANT USAGE ON TYPE herald.task, herald_internal.channel_name TO PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA herald, herald_internal FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA herald, herald_internal FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA herald TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA herald TO PUBLIC;
REVOKE ALL ON FUNCTION herald.purge_audit_log FROM PUBLIC;
REVOKE ALL ON herald.audit_log FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    herald_internal.stored_role, herald_internal.list_channel_stats, herald_internal.list_listeners,
    herald_internal.list_workers, herald_internal.list_subscription_stats, herald_internal.list_tasks,
    herald_internal.task_payload, herald_internal.list_audited_tables, herald_internal.feed_problem
TO PUBLIC;

-- What ALTER DEFAULT PRIVILEGES of who runs this gave away. A later script ends with the same call: it covers what that
-- script has made.
SELECT herald_internal.withdraw_default_rights();

-- pg_dump reads what it dumps: whoever owns the database can dump it, as the rest of it.
DO $$
DECLARE
    kept pg_catalog.regclass;
BEGIN
    FOR kept IN
        SELECT pg_catalog.unnest(e.extconfig) FROM pg_catalog.pg_extension AS e
         WHERE e.extname OPERATOR(pg_catalog.=) 'pg_herald'
    LOOP
        EXECUTE pg_catalog.format('GRANT SELECT ON %s TO pg_database_owner', kept);
    END LOOP;
END $$;
