-- Publishing ----------------------------------------------------------------------------------------

CREATE FUNCTION herald.publish(
    channel text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_publish';
COMMENT ON FUNCTION herald.publish(text, jsonb, text, jsonb) IS
    'Publishes a message when the transaction commits; returns its id, or NULL where the channel stores '
    'nothing. key and headers (an object) reach subscriptions. Errors: 22004 NULL channel or payload, '
    '22023 bad channel name, 42501 no publish privilege, 54000 payload too large (bytes as jsonb).';

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

CREATE FUNCTION herald.publish_batch(
    channel text, payloads jsonb[], keys text[] DEFAULT NULL, headers jsonb[] DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'herald_publish_batch';
COMMENT ON FUNCTION herald.publish_batch(text, jsonb[], text[], jsonb[]) IS
    'Publishes messages of one channel, all or none; returns their ids in order, as publish does. keys and '
    'headers have one element per payload (22023), which may be NULL; a NULL payload is 22004.';

CREATE FUNCTION herald.notify(channel text, payload text)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_notify';
COMMENT ON FUNCTION herald.notify(text, text) IS
    'pg_notify with statistics, and with the publish privilege of declared channels: the payload is plain '
    'text of at most 7999 bytes. Stored only where the channel has accept_notify.';

CREATE FUNCTION herald.fetch(message_id bigint)
RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'herald_fetch';
COMMENT ON FUNCTION herald.fetch(bigint) IS
    'The payload of a stored message, to which a pointer announcement points; NULL where it is not (or no '
    'longer) in the log. Reads the log; 42501 without the read privilege on its channel.';

-- Channels and privileges ---------------------------------------------------------------------------

CREATE FUNCTION herald.create_channel(
    channel text, durable boolean DEFAULT true, schema jsonb DEFAULT NULL,
    validation text DEFAULT 'reject', announce text DEFAULT NULL,
    accept_notify boolean DEFAULT false, max_payload_bytes integer DEFAULT NULL,
    description text DEFAULT NULL, if_not_exists boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_create_channel';
COMMENT ON FUNCTION herald.create_channel IS
    'Declares a channel owned by the caller, who needs CREATE on the database. announce: payload, pointer '
    'or off; NULL is pointer for durable channels (everybody can LISTEN), else payload. max_payload_bytes: '
    'bytes as jsonb, NULL or 0 for herald.max_payload. accept_notify stores plain NOTIFYs. Errors: 42710 '
    'declared already, 42501, 22023 for values that do not fit, 0A000 for a schema.';

CREATE FUNCTION herald.alter_channel(
    channel text, durable boolean DEFAULT NULL, schema jsonb DEFAULT NULL,
    validation text DEFAULT NULL, announce text DEFAULT NULL, accept_notify boolean DEFAULT NULL,
    max_payload_bytes integer DEFAULT NULL, description text DEFAULT NULL, owner text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_alter_channel';
COMMENT ON FUNCTION herald.alter_channel IS
    'Changes a channel; NULL keeps, max_payload_bytes 0 unsets. For members of its owner; a new owner must '
    'be a role that the caller may become and that has CREATE on the database. Errors: 42704 not declared, '
    '42501, 22023, 2BP01 for taking durability from a channel in use.';

CREATE FUNCTION herald.drop_channel(
    channel text, if_exists boolean DEFAULT false, force boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_drop_channel';
COMMENT ON FUNCTION herald.drop_channel IS
    'Drops a channel with its privileges; its name is ephemeral and open to all again. 2BP01 while it has '
    'subscriptions, parked tasks or dead letters, which force drops with it. For members of its owner.';

CREATE FUNCTION herald.grant_channel(
    channel text, grantee text, privileges text[] DEFAULT '{publish}')
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_grant_channel';
COMMENT ON FUNCTION herald.grant_channel IS
    'Grants privileges (publish, subscribe, read) on a declared channel to a role, or to everybody as '
    '"public". For members of the channel''s owner; 42704 where channel or role do not exist.';

CREATE FUNCTION herald.revoke_channel(
    channel text, grantee text, privileges text[] DEFAULT '{publish}')
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_revoke_channel';
COMMENT ON FUNCTION herald.revoke_channel IS
    'Takes privileges away that grant_channel gave; those that are not there do not matter. The role may '
    'have been dropped.';

CREATE FUNCTION herald.has_channel_privilege(role text, channel text, privilege text)
RETURNS boolean LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'herald_has_channel_privilege';
COMMENT ON FUNCTION herald.has_channel_privilege(text, text, text) IS
    'True where the role has the privilege on the channel, directly, through a role it is a member of, '
    'as owner or as superuser. Several privileges, with commas between them: any of these. A channel that '
    'is not declared can be published to by all.';

CREATE VIEW herald.channels WITH (security_barrier) AS
SELECT c.channel::pg_catalog.text COLLATE "default" AS name,
       c.owner, c.durable, c.announce, c.accept_notify, c.max_payload_bytes,
       ARRAY(SELECT g.grantee || '=' || pg_catalog.string_agg(g.privilege, ',' ORDER BY g.privilege)
               FROM herald.channel_grant_store AS g
              WHERE g.channel_id = c.id
              GROUP BY g.grantee
              ORDER BY g.grantee) AS privileges,
       c.description, c.created_at
  FROM herald.channel_store AS c
 WHERE herald.has_channel_privilege(current_user::pg_catalog.text, c.channel, 'publish,subscribe,read');
COMMENT ON VIEW herald.channels IS
    'Declared channels that the caller owns or has a privilege on. privileges: grantee=privilege,...';

-- Statistics of channels ----------------------------------------------------------------------------

CREATE FUNCTION herald.list_channel_stats(
    OUT channel text, OUT published bigint, OUT published_bytes bigint, OUT announced bigint,
    OUT rejected bigint, OUT delivered bigint, OUT failed bigint, OUT retried bigint, OUT dead bigint,
    OUT p50_ms double precision, OUT p95_ms double precision, OUT p99_ms double precision,
    OUT last_published_at timestamptz, OUT last_delivered_at timestamptz, OUT stats_reset timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 100
AS 'MODULE_PATHNAME', 'herald_list_channel_stats';
COMMENT ON FUNCTION herald.list_channel_stats() IS 'Internal: look at herald.channel_stats.';

CREATE VIEW herald.channel_stats AS SELECT * FROM herald.list_channel_stats();
COMMENT ON VIEW herald.channel_stats IS
    'Counts per channel since the server started or stats_reset, of channels that counted anything: for '
    'members of pg_monitor all, with "(other)" for channels beyond herald.max_channels in all databases '
    'together; for others those they own or have a privilege on. published counts committed messages, '
    'published_bytes their size as jsonb, rejected refused publications; the others count attempts of '
    'tasks. Percentiles are from publication to the start of the handler, in milliseconds.';

CREATE FUNCTION herald.reset_stats(channel text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_reset_stats';
COMMENT ON FUNCTION herald.reset_stats(text) IS
    'Sets the statistics of a channel (of all of this database: NULL) to 0, at once. For members of the '
    'channel''s owner and of pg_monitor; 42501 for others.';

REVOKE ALL ON FUNCTION
    herald.publish(text, jsonb, text, jsonb), herald.publish(text, json, text, jsonb),
    herald.publish(text, text, text, jsonb), herald.publish_batch(text, jsonb[], text[], jsonb[]),
    herald.notify(text, text), herald.fetch(bigint),
    herald.create_channel, herald.alter_channel, herald.drop_channel,
    herald.grant_channel, herald.revoke_channel, herald.has_channel_privilege(text, text, text),
    herald.list_channel_stats(), herald.reset_stats(text)
FROM PUBLIC;
REVOKE ALL ON herald.channels, herald.channel_stats FROM PUBLIC;

-- They check the caller's rights themselves and show only what the caller may see.
GRANT EXECUTE ON FUNCTION
    herald.publish(text, jsonb, text, jsonb), herald.publish(text, json, text, jsonb),
    herald.publish(text, text, text, jsonb), herald.publish_batch(text, jsonb[], text[], jsonb[]),
    herald.notify(text, text), herald.fetch(bigint),
    herald.create_channel, herald.alter_channel, herald.drop_channel,
    herald.grant_channel, herald.revoke_channel, herald.has_channel_privilege(text, text, text),
    herald.list_channel_stats(), herald.reset_stats(text)
TO PUBLIC;
GRANT SELECT ON herald.channels, herald.channel_stats TO PUBLIC;
