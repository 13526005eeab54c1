-- Publishing: what is stored, what it returns, what it refuses.
CREATE EXTENSION IF NOT EXISTS pg_herald;
SET client_min_messages = warning;
CREATE ROLE regress_herald_alice;
CREATE ROLE regress_herald_bob;

-- The outcome of a command: ok, or the error with its code.
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat(SQLSTATE, ': ', message, nullif(E'\nDETAIL: ' || detail, E'\nDETAIL: '),
                  nullif(E'\nHINT: ' || hint, E'\nHINT: '));
END $$;

-- Ids start anywhere: other tests publish too.
CREATE FUNCTION new_messages(name text) RETURNS TABLE (key text, headers jsonb, payload jsonb, published_by text)
LANGUAGE sql AS $$
    SELECT l.key, l.headers, l.payload, l.published_by
      FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id
     WHERE c.channel = name ORDER BY l.id $$;

SELECT herald.create_channel('regress durable', announce => 'off');

-- The three overloads, and what a driver may send.
SELECT herald.publish('regress durable', '{"n": 1}') IS NOT NULL AS literal,
       herald.publish('regress durable', '{"n": 2}'::json) IS NOT NULL AS json,
       herald.publish('regress durable', '{"n": 3}'::jsonb) IS NOT NULL AS jsonb,
       herald.publish('regress durable', '{"n": 4}'::varchar) IS NOT NULL AS varchar,
       herald.publish('regress durable', to_jsonb('five'::text), 'a key', '{"trace": "x"}') IS NOT NULL AS keyed;
PREPARE untyped AS SELECT herald.publish($1, $2) IS NOT NULL AS untyped;
EXECUTE untyped('regress durable', 'null');
SELECT key, headers, payload, published_by = current_user AS by_me FROM new_messages('regress durable');

-- The id is the message's, and fetch gives its payload.
SELECT herald.publish('regress durable', '{"fetch": "me"}') AS id \gset
SELECT herald.fetch(:id), herald.fetch(NULL) IS NULL AS null_id, herald.fetch(-1) IS NULL AS unknown;

-- A large payload is stored as it is.
SELECT herald.publish('regress durable', jsonb_build_object('text', string_agg(md5(i::text), ''))) AS id
  FROM generate_series(1, 2000) AS i \gset
SELECT length(herald.fetch(:id) ->> 'text'), md5(herald.fetch(:id) ->> 'text');

-- Channels that are not declared store nothing.
SELECT herald.publish('regress ephemeral', '{"n": 1}');
SELECT herald.publish(repeat('x', 63), '1');
SELECT herald.notify('regress ephemeral', 'plain text');
SELECT herald.notify('regress ephemeral', NULL);

-- Batches: in order, NULL where nothing is stored.
SELECT count(*), count(DISTINCT b), bool_and(b > :id) AS newer
  FROM herald.publish_batch('regress durable', ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 600) AS i)) AS b;
SELECT count(*), bool_and(payload = to_jsonb(row_number)) AS in_order
  FROM (SELECT payload, row_number() OVER () FROM new_messages('regress durable')
         WHERE jsonb_typeof(payload) = 'number') AS numbers;
SELECT herald.publish_batch('regress ephemeral', '{1,2}');
SELECT count(*) FROM herald.publish_batch('regress durable', '{}');
SELECT count(*) FROM herald.publish_batch('regress durable', ARRAY['"p"', '"q"', '"r"']::jsonb[],
                                          ARRAY['x', NULL, 'z'], ARRAY[NULL, '{"h": 1}', NULL]::jsonb[]);
SELECT key, headers, payload FROM new_messages('regress durable') WHERE payload IN ('"p"', '"q"', '"r"');

-- All or nothing.
SELECT count(*) AS before FROM herald_internal.log_0 \gset
SELECT try($$SELECT herald.publish_batch('regress durable', ARRAY['1', NULL]::jsonb[])$$);
SELECT try($$SELECT herald.publish_batch('regress durable', NULL)$$);
SELECT try($$SELECT herald.publish_batch('regress durable', '{1,2}', '{a}')$$);
SELECT try($$SELECT herald.publish_batch('regress durable', '{1,2}', NULL, ARRAY['{}']::jsonb[])$$);
SELECT try($$SELECT herald.publish_batch('regress durable', '{1,2}', NULL, ARRAY['{}', '7']::jsonb[])$$);
SELECT count(*) = :before AS nothing_stored FROM herald_internal.log_0;

-- Transactions: what is rolled back was never there.
BEGIN;
SELECT herald.publish('regress durable', '"kept"') IS NOT NULL;
SAVEPOINT s;
SELECT herald.publish('regress durable', '"rolled back"') IS NOT NULL;
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT herald.publish('regress durable', '"rolled back"') IS NOT NULL;
ROLLBACK;
SELECT payload FROM new_messages('regress durable') WHERE payload IN ('"kept"', '"rolled back"');

-- What is no payload.
SELECT try($$SELECT herald.publish('regress durable', NULL::jsonb)$$);
SELECT try($$SELECT herald.publish('regress durable', NULL::text)$$);
SELECT try($$SELECT herald.publish('regress durable', NULL::json)$$);
SELECT try($$SELECT herald.publish('regress durable', 'hello')$$);
SELECT payload_number, split_part(try(format('SELECT herald.publish(%L, %L)', 'regress durable', payload)), E'\n', 1)
  FROM unnest(ARRAY['', '{', '"\u0000"', '"\ud800"', '1e200000', repeat('[', 100000)])
       WITH ORDINALITY AS p (payload, payload_number);
SELECT split_part(try($$SELECT herald.publish('regress durable', '"\u0000"'::json)$$), E'\n', 1);
SELECT try($$SELECT herald.publish('regress durable', '1', headers => '[1]')$$);

-- What is no channel.
SELECT try($$SELECT herald.publish(NULL, '1')$$);
SELECT try($$SELECT herald.publish('', '1')$$);
SELECT try($$SELECT herald.publish(repeat('x', 64), '1')$$);
SELECT try($$SELECT herald.notify(NULL, '1')$$);
SELECT try($$SELECT herald.notify(repeat('x', 64), '1')$$);

-- Limits.
SELECT herald.create_channel('regress small', max_payload_bytes => 40);
SELECT herald.publish('regress small', to_jsonb(repeat('x', 20))) IS NOT NULL AS fits;
SELECT try($$SELECT herald.publish('regress small', to_jsonb(repeat('x', 60)))$$);
SELECT try($$SELECT herald.publish_batch('regress small', ARRAY['1', to_jsonb(repeat('x', 60))])$$);
SET herald.max_payload = 1024;
SELECT try($$SELECT herald.publish('regress durable', to_jsonb(repeat('x', 2000)))$$);
RESET herald.max_payload;
SELECT herald.publish('regress ephemeral', to_jsonb(repeat('x', 7997))) IS NULL AS not_stored;
SELECT herald.publish('regress ephemeral', to_jsonb(repeat('x', 7998))) IS NULL AS not_stored;
SELECT try($$SELECT herald.notify('regress ephemeral', repeat('x', 7999))$$);
SELECT try($$SELECT herald.notify('regress ephemeral', repeat('x', 8000))$$);

-- Undeclared channels can be refused.
SET herald.undeclared_channels = refuse;
SELECT try($$SELECT herald.publish('regress ephemeral', '1')$$);
SELECT try($$SELECT herald.notify('regress ephemeral', '1')$$);
SELECT try($$SELECT herald.publish('regress durable', '1')$$);
SET herald.undeclared_channels = warn;
SELECT herald.publish('regress ephemeral', '1');
RESET herald.undeclared_channels;

-- Read-only transactions: only what stores nothing.
BEGIN READ ONLY;
SELECT try($$SELECT herald.publish('regress ephemeral', '1')$$);
SELECT try($$SELECT herald.notify('regress durable', '1')$$);
SELECT try($$SELECT herald.publish('regress durable', '1')$$);
SELECT try($$SELECT herald.publish_batch('regress durable', '{1}')$$);
COMMIT;

-- Privileges: a declared channel is its owner's.
SET ROLE regress_herald_alice;
SELECT try($$SELECT herald.publish('regress durable', '1')$$);
SELECT try($$SELECT herald.publish_batch('regress durable', '{1}')$$);
SELECT try($$SELECT herald.notify('regress durable', '1')$$);
SELECT herald.fetch(:id) IS NULL AS not_there;
SELECT try($$SELECT herald.publish('regress ephemeral', '1')$$);
SELECT try($$SELECT * FROM herald_internal.log_0$$);
SELECT try($$INSERT INTO herald_internal.log_0 VALUES (1)$$);
RESET ROLE;
SELECT herald.grant_channel('regress durable', 'regress_herald_alice', '{publish,read}');
SET ROLE regress_herald_alice;
SELECT herald.publish('regress durable', '"by alice"') AS id \gset
SELECT herald.fetch(:id);
SET ROLE regress_herald_bob;
SELECT try($$SELECT herald.publish('regress durable', '1')$$);
RESET ROLE;
SELECT published_by FROM new_messages('regress durable') WHERE payload = '"by alice"';
SELECT herald.revoke_channel('regress durable', 'regress_herald_alice');
SET ROLE regress_herald_alice;
SELECT try($$SELECT herald.publish('regress durable', '1')$$);
RESET ROLE;

-- A new name is used at once.
ALTER ROLE regress_herald_alice RENAME TO regress_herald_carol;
SELECT herald.grant_channel('regress durable', 'regress_herald_carol');
SET ROLE regress_herald_carol;
SELECT herald.publish('regress durable', '"by carol"') IS NOT NULL AS published;
RESET ROLE;
SELECT published_by FROM new_messages('regress durable') WHERE payload = '"by carol"';

SELECT herald.drop_channel('regress durable'), herald.drop_channel('regress small');
DROP FUNCTION try, new_messages;
DROP ROLE regress_herald_carol, regress_herald_bob;
