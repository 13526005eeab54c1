-- Payloads that are too large for a notification: LISTENers get a pointer, and fetch them.
-- What they hear in other sessions is tested elsewhere; here only this session's own rows are looked at.
\set VERBOSITY default
SET client_min_messages = warning;
CREATE ROLE regress_herald_pointer_reader;
CREATE FUNCTION regress_large(seed text) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(repeat(seed, 9000))$$;

-- Undeclared channels are for everybody, as with NOTIFY.
SELECT herald.publish('regress pointers', regress_large('a')) AS id \gset
SET ROLE regress_herald_pointer_reader;
SELECT herald.fetch(:id) = public.regress_large('a') AS fetched;
RESET ROLE;

-- Declared ones need the privilege.
SELECT herald.create_channel('regress pointers', durable => false);
SET ROLE regress_herald_pointer_reader;
SELECT herald.fetch(:id);
RESET ROLE;
SELECT herald.grant_channel('regress pointers', 'regress_herald_pointer_reader', '{read}');
SET ROLE regress_herald_pointer_reader;
SELECT herald.fetch(:id) = public.regress_large('a') AS fetched;
SELECT payload FROM herald_internal.pointer_store;
RESET ROLE;

-- Rolled back, it was never there.
BEGIN;
SELECT herald.publish('regress pointers', regress_large('b')) AS gone \gset
SAVEPOINT s;
SELECT herald.publish('regress pointers', regress_large('c')) AS never \gset
ROLLBACK TO s;
SELECT herald.fetch(:gone) = regress_large('b') AS own;
SELECT herald.fetch(:never) IS NULL AS rolled_back;
ROLLBACK;
SELECT herald.fetch(:gone) IS NULL AS rolled_back;

-- A transaction that must not write announces, and keeps nothing.
BEGIN READ ONLY;
SELECT herald.publish('regress pointers', regress_large('d')) IS NULL AS not_kept;
COMMIT;

-- 100,000 bytes, byte for byte; the channel's own limit comes first.
SELECT herald.publish('regress pointers', to_jsonb(string_agg(chr(33 + i % 90), ''))) AS id
FROM generate_series(1, 100000) AS i \gset
SELECT length(herald.fetch(:id) #>> '{}'), md5(herald.fetch(:id)::text) = md5(to_jsonb(string_agg(chr(33 + i % 90), ''))::text) AS exact
FROM generate_series(1, 100000) AS i;
SELECT herald.alter_channel('regress pointers', max_payload_bytes => 8500);
SELECT herald.publish('regress pointers', regress_large('e'));

-- With the channel goes what was kept for it.
SELECT herald.drop_channel('regress pointers', force => true);
SELECT herald.fetch(:id) IS NULL AS gone;
DROP FUNCTION regress_large;
DROP ROLE regress_herald_pointer_reader;
