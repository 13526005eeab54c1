-- In which forms drivers call publish and publish_batch. The functions that take text and jsonb are the first choice:
-- a call that they can serve must mean the same as if they were alone, with parameters of the same types, and not
-- be ambiguous. The others are for what drivers send besides.
CREATE EXTENSION IF NOT EXISTS pg_herald;
SET client_min_messages = warning;
CREATE SCHEMA forms;
CREATE SCHEMA alone;
CREATE DOMAIN forms.word AS text;
CREATE DOMAIN forms.document AS jsonb;
CREATE DOMAIN forms.documents AS jsonb[];
CREATE TYPE forms.mood AS ENUM ('glad');

CREATE FUNCTION alone.publish(channel text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION alone.publish(channel text, payload json, key text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION alone.publish(channel text, payload text, key text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION alone.publish_batch(channel text, payloads jsonb[], keys text[] DEFAULT NULL, headers jsonb[] DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE plpgsql AS 'BEGIN RETURN; END';

-- What the parser makes of a call; NULL where it can't.
CREATE FUNCTION forms.meaning(function text, arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text; lines text := '';
BEGIN
    FOR line IN EXECUTE format('EXPLAIN (VERBOSE, COSTS OFF) SELECT %s(%s)', function, arguments) LOOP
        lines := lines || line || E'\n';
    END LOOP;
    RETURN regexp_replace(lines, '(alone|herald)\.(?=publish)', '');
EXCEPTION WHEN undefined_function OR ambiguous_function OR datatype_mismatch OR indeterminate_datatype OR syntax_error THEN
    RETURN NULL;
END $$;
-- The types it gives to parameters, which are all that some drivers go by.
CREATE FUNCTION forms.parameters(function text, arguments text) RETURNS regtype[] LANGUAGE plpgsql AS $$
DECLARE
    types regtype[];
BEGIN
    EXECUTE format('PREPARE form AS SELECT %s(%s)', function, arguments);
    SELECT parameter_types INTO types FROM pg_prepared_statements WHERE name = 'form';
    DEALLOCATE form;
    RETURN types;
EXCEPTION WHEN undefined_function OR ambiguous_function OR datatype_mismatch OR indeterminate_datatype OR syntax_error THEN
    RETURN NULL;
END $$;

-- Every combination; an empty text is an argument that is left out.
CREATE FUNCTION forms.combine(names text[], channels text[], payloads text[], keys text[], headers text[])
RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(', ', c, p, nullif(k, ''), CASE WHEN h <> '' THEN CASE WHEN k = '' THEN names[4] || ' => ' ELSE '' END || h END)
      FROM unnest(channels) AS c, unnest(payloads) AS p, unnest(keys) AS k, unnest(headers) AS h $$;
CREATE FUNCTION forms.combine_named(names text[], channels text[], payloads text[], keys text[], headers text[])
RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(', ', CASE WHEN h <> '' THEN names[4] || ' => ' || h END, names[2] || ' => ' || p,
                     CASE WHEN k <> '' THEN names[3] || ' => ' || k END, names[1] || ' => ' || c)
      FROM unnest(channels) AS c, unnest(payloads) AS p, unnest(keys) AS k, unnest(headers) AS h $$;

CREATE TABLE forms.single AS
SELECT form FROM (
    SELECT forms.combine('{channel,payload,key,headers}', c, p, k, h) FROM (VALUES (
        ARRAY['''c''', 'NULL', '''c''::text', '''c''::varchar', '''c''::bpchar', '''c''::name', '''c''::forms.word'],
        ARRAY['''1''', 'NULL', '''1''::text', '''1''::varchar', '''1''::bpchar', '''1''::name', '''1''::forms.word',
              '''1''::json', '''1''::jsonb', '''1''::forms.document', 'to_jsonb(1)'],
        ARRAY['', '''k''', 'NULL', 'NULL::text', '''k''::varchar', '''k''::bpchar', '''k''::name', '''k''::forms.word'],
        ARRAY['', '''{}''', 'NULL', '''{}''::jsonb', '''{}''::forms.document'])) AS v (c, p, k, h)
    UNION
    SELECT forms.combine_named('{channel,payload,key,headers}', c, p, k, h) FROM (VALUES (
        ARRAY['''c''', '''c''::text', '''c''::varchar'], ARRAY['''1''', 'NULL', '''1''::varchar', '''1''::json', '''1''::jsonb'],
        ARRAY['', '''k''', 'NULL', '''k''::varchar'], ARRAY['', '''{}''', 'NULL', '''{}''::jsonb'])) AS v (c, p, k, h)) AS f (form);
SELECT count(*) > 3000 AS many, count(*) FILTER (WHERE a IS NOT NULL) > 3000 AS served,
       count(*) FILTER (WHERE a IS NOT NULL AND b IS DISTINCT FROM a) AS changed
  FROM forms.single, forms.meaning('alone.publish', form) AS a, forms.meaning('herald.publish', form) AS b;

CREATE TABLE forms.batch AS
SELECT forms.combine('{channel,payloads,keys,headers}', c, p, k, h) AS form FROM (VALUES (
    ARRAY['''c''', 'NULL', '''c''::text', '''c''::varchar', '''c''::bpchar', '''c''::name', '''c''::forms.word'],
    ARRAY['''{1}''', 'NULL', '''{1}''::jsonb[]', 'ARRAY[to_jsonb(1)]', '''{1}''::forms.documents'],
    ARRAY['', '''{k}''', 'NULL', '''{k}''::text[]', '''{k}''::varchar[]', 'ARRAY[''k'']'],
    ARRAY['', '''{NULL}''', 'NULL', '''{NULL}''::jsonb[]', '''{NULL}''::forms.documents'])) AS v (c, p, k, h);
SELECT count(*) > 900 AS many, count(*) FILTER (WHERE a IS NOT NULL) > 900 AS served,
       count(*) FILTER (WHERE a IS NOT NULL AND b IS DISTINCT FROM a) AS changed
  FROM forms.batch, forms.meaning('alone.publish_batch', form) AS a, forms.meaning('herald.publish_batch', form) AS b;

-- Parameters without a type, as node-postgres, asyncpg and psycopg's strings have them; and some that are cast.
CREATE TABLE forms.untyped AS
SELECT function, forms.combine(names, c, p, k, h) AS form FROM (VALUES (
    'publish', '{channel,payload,key,headers}'::text[],
    '{$1,$1::text,$1::varchar}'::text[], '{$2,$2::jsonb,$2::json,$2::text}'::text[], '{"",$3,$3::text,$3::varchar}'::text[], '{"",$4,$4::jsonb}'::text[]), (
    'publish_batch', '{channel,payloads,keys,headers}',
    '{$1,$1::text,$1::varchar}', '{$2,$2::jsonb[]}', '{"",$3,$3::text[]}', '{"",$4,$4::jsonb[]}')) AS v (function, names, c, p, k, h);
UPDATE forms.untyped SET form = replace(form, '$4', '$3') WHERE form NOT LIKE '%$3%';
SELECT function, count(*), count(*) FILTER (WHERE a IS NULL) AS unserved, count(*) FILTER (WHERE b IS DISTINCT FROM a) AS changed
  FROM forms.untyped, forms.parameters('alone.' || function, form) AS a, forms.parameters('herald.' || function, form) AS b
 GROUP BY function ORDER BY function;

-- What goes beside that.
CREATE FUNCTION forms.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN concat(SQLSTATE, ': ', message, nullif(E'\nHINT: ' || hint, E'\nHINT: '));
END $$;
SELECT herald.create_channel('regress forms', announce => 'off');
CREATE TABLE forms.more (n integer GENERATED ALWAYS AS IDENTITY, function text, form text);
INSERT INTO forms.more (function, form) VALUES
    ('publish', $$'{}', 42$$),
    ('publish', $$'{}'::jsonb, 42::bigint$$),
    ('publish', $$'{}'::json, 42::smallint, '{"a": 1}'$$),
    ('publish', $$'{}', '00000000-0000-0000-0000-000000000001'::uuid, '{"a": 1}'::jsonb$$),
    ('publish', $$'{}', 'glad'::forms.mood$$),
    ('publish', $$'{}', NULL::int$$),
    ('publish', $$'{}'::varchar, 42$$),
    ('publish', $$'{}', headers => '{"a": 1}'::json$$),
    ('publish', $$'{}'::jsonb, headers => '{"a": 1}'::json$$),
    ('publish', $$'{}'::json, 'k  '::bpchar, '{"a": 1}'::json$$),
    ('publish', $$'{}'::json, 7, '{"a": 1}'::json$$),
    ('publish', $$'{}'::text, 7, NULL::json$$),
    ('publish_batch', $$ARRAY['{"a": 1}', '[2]']$$),
    ('publish_batch', $$'{1,2}'::varchar[], ARRAY['x', NULL]$$),
    ('publish_batch', $$ARRAY['1', '2'], NULL, ARRAY[NULL, '{"h": 1}']$$),
    ('publish_batch', $$ARRAY['1', '2'], NULL, '{NULL,NULL}'$$),
    ('publish_batch', $$'{1,2}'::json[], '{a,b}'$$),
    ('publish_batch', $$'{1,2}'::json[], headers => '{"{}",NULL}'::json[]$$);
SELECT function, form, forms.meaning('alone.' || function, '''c'', ' || form) IS NULL AS new,
       forms.try(format('SELECT count(x) FROM (SELECT herald.%s(%L, %s)) AS t (x)', function, 'regress forms', form))
  FROM forms.more ORDER BY n;
SELECT l.payload, l.key, l.headers FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id
 WHERE c.channel = 'regress forms' ORDER BY l.id;

-- What does not, with a word.
SELECT form, forms.try(format('SELECT herald.%s(%L, %s)', function, 'regress forms', form))
  FROM (VALUES ('publish', '42'),
               ('publish', $$ARRAY[1]$$),
               ('publish', $$'{}', 1.5$$),
               ('publish', $$'{}', now()$$),
               ('publish', $$NULL::jsonb, 5$$),
               ('publish', $$'{', 5$$),
               ('publish', $$'{}', headers => '[1]'::json$$),
               ('publish', $$'{}', headers => '{"a": "\u0000"}'::json$$),
               ('publish_batch', $$ARRAY[['1', '2'], ['3', '4']]::jsonb[]$$),
               ('publish_batch', $$ARRAY[['1', '2'], ['3', '4']]$$),
               ('publish_batch', $$'{1,2}', '{{a},{b}}'$$),
               ('publish_batch', $$'{1,2}', headers => '{{NULL},{NULL}}'$$),
               ('publish_batch', $$ARRAY['1', '{']$$),
               ('publish_batch', $$ARRAY['1', NULL]$$),
               ('publish_batch', $$ARRAY['1', '2'], NULL, ARRAY[NULL, '{']$$),
               ('publish_batch', $$NULL::text[]$$)) AS v (function, form);

-- All that a message carries has a limit, and what is beyond it counts as rejected.
SELECT herald.reset_stats('regress forms');
SELECT left(form, 30) AS form, forms.try(format('SELECT herald.%s(%L, %s)', function, 'regress forms', form))
  FROM (VALUES ('publish', $$'{}', repeat('k', 2048)$$),
               ('publish', $$'{}', repeat('k', 2049)$$),
               ('publish', $$'{}', 'k', jsonb_build_object('h', repeat('h', 65000))$$),
               ('publish', $$'{}', 'k', jsonb_build_object('h', repeat('h', 66000))$$),
               ('publish_batch', $$'{1,2}', ARRAY['a', repeat('k', 3000)]$$),
               ('publish_batch', $$ARRAY['1', '2'], NULL, ARRAY[NULL, json_build_object('h', repeat('h', 66000))::text]$$)) AS v (function, form);
SELECT rejected FROM herald.channel_stats WHERE channel = 'regress forms';

-- A feed must not make the writer fail: of a row's key that is too long, the rest becomes a hash.
CREATE TABLE forms.fed (id text PRIMARY KEY);
SELECT herald.enable_change_feed('forms.fed', 'regress forms');
INSERT INTO forms.fed SELECT repeat('ä', 3000) || i FROM generate_series(1, 2) AS i;
DELETE FROM forms.fed;
SELECT octet_length(l.key), left(l.key, 20), right(l.key, 42), count(*)
  FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id
 WHERE c.channel = 'regress forms' AND l.key LIKE 'forms.fed%' GROUP BY l.key ORDER BY 3;
SELECT herald.disable_change_feed('forms.fed', 'regress forms');

DROP SCHEMA forms, alone CASCADE;
SELECT herald.drop_channel('regress forms');

-- Schemas as jsonb, json, literals and parameters without a type. A text takes a cast: taken without one, it would be taken for each literal.
SELECT herald.create_channel('regress schema 1', schema => '{"type": "object"}'::json);
SELECT herald.create_channel('regress schema 2'::text, true, '{"type": "object"}'::json, 'warn');
SELECT herald.create_channel('regress schema 3'::varchar, schema => '{"type": "object"}');
SELECT herald.create_channel('regress schema 4', NULL, NULL) IS NULL;
PREPARE make AS SELECT herald.create_channel($1, schema => $2);
EXECUTE make('regress schema 5', '{"type": "object"}');
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'make';
SELECT herald.alter_channel('regress schema 1', schema => '{"type": "array"}'::json, force => true);
SELECT herald.alter_channel('regress schema 2', schema => 'null');
SELECT channel, schema, validation FROM herald.channels WHERE channel LIKE 'regress schema%' ORDER BY 1;
SELECT herald.drop_channel(channel) FROM herald.channels WHERE channel LIKE 'regress schema%';
