-- Work on what somebody hands in grows in proportion to it, is bounded, or can be interrupted. The limit of time is against hanging only: what
-- would grow with the square of these takes hours.
SET statement_timeout = '300 s';
\set VERBOSITY sqlstate
-- formats, also within others
SELECT herald.validate('{"format": "ipv6"}', to_jsonb(repeat('1:', 4000000)), true);
SELECT herald.validate('{"format": "uri"}', to_jsonb('http://[' || repeat('1:', 4000000) || ']'), true);
SELECT herald.validate('{"format": "email"}', to_jsonb('a@[IPv6:' || repeat('1:', 4000000) || ']'), true);
SELECT format, herald.validate(jsonb_build_object('format', format), to_jsonb(repeat(piece, 8000000 / length(piece))), true)
  FROM (VALUES ('date', '1'), ('time', '1'), ('date-time', '1'), ('duration', 'P1'), ('hostname', 'a.'), ('idn-email', 'a@'), ('ipv4', '1.'),
        ('uri-reference', 'a:'), ('iri', 'a:'), ('iri-reference', '%41'), ('uri-template', '{a}'), ('uuid', '1'), ('json-pointer', '/~0'),
        ('relative-json-pointer', '1'), ('regex', '(a)'), ('regex', '(?<a')) AS f (format, piece);
-- longer than that is of no format, whatever it is
SELECT herald.validate('{"format": "json-pointer"}', to_jsonb(repeat('/a', 8 * 1024 * 1024)), true) AS just_fits,
       herald.validate('{"format": "json-pointer"}', to_jsonb(repeat('/a', 8 * 1024 * 1024) || '/'), true) AS too_long;

-- steps are counted for what takes long: numbers of 131,000 digits that are written in a few bytes
SELECT herald.validate(('{"items": {"not": {"multipleOf": ' || repeat('7', 4000) || '}}}')::jsonb, ('[' || repeat('1e131071,', 800) || '1]')::jsonb);
SELECT herald.validate('{"multipleOf": 0.01}', to_jsonb(1e131071::numeric)), herald.validate('{"multipleOf": 3}', to_jsonb(10::numeric ^ 1000 - 1));
-- members of a schema for each of many objects, alternatives for each of many values, containers in an enumeration
SELECT herald.validate(jsonb_build_object('items', jsonb_build_object('properties', (SELECT jsonb_object_agg('p' || i, true) FROM generate_series(1, 45000) AS i),
                       'minProperties', 1, 'required', '["x"]'::jsonb)), (SELECT jsonb_agg('{"x": 1}'::jsonb) FROM generate_series(1, 5000)));
SELECT herald.validate(jsonb_build_object('items', jsonb_build_object('allOf', (SELECT jsonb_agg(true) FROM generate_series(1, 200000)))),
                       (SELECT jsonb_agg(1) FROM generate_series(1, 5000)));
SELECT herald.validate(jsonb_build_object('items', jsonb_build_object('enum', (SELECT jsonb_agg(jsonb_build_array(1, i)) FROM generate_series(1, 15000) AS i))),
                       (SELECT jsonb_agg('[1, 15000]'::jsonb) FROM generate_series(1, 5000)));
-- what people use is far from that
SELECT herald.validate('{"items": {"enum": [[1, 2], [2, 1]], "allOf": [true, {"type": "array"}], "minItems": 2}}', (SELECT jsonb_agg('[2, 1]'::jsonb) FROM generate_series(1, 10000)));
-- references to a long address, each of which would be kept
SELECT herald.validate(jsonb_build_object('$id', 'http://a/' || repeat('a', 400000) || '/', '$defs', '{"b": {"$id": "b"}}'::jsonb,
                       'allOf', (SELECT jsonb_agg('{"$ref": "b"}'::jsonb) FROM generate_series(1, 20000))), '1');
-- a regular expression that looks ahead at each place can be interrupted
SET statement_timeout = '1 s';
SELECT herald.validate('{"pattern": "a(?=.*b)"}', to_jsonb(repeat('a', 8000000)));
SET statement_timeout = '300 s';

-- a feed's options, and a row of which most must be left out
CREATE TABLE long_inputs (id integer PRIMARY KEY);
DO $$ BEGIN EXECUTE 'ALTER TABLE long_inputs ' || (SELECT string_agg(format('ADD c%s text', i), ', ') FROM generate_series(1, 300) AS i); END $$;
SELECT herald.create_channel('long inputs', max_payload_bytes => 100000);
SELECT herald.enable_change_feed('long_inputs', 'long inputs', message => repeat('{id}', 3000));
SELECT herald.enable_change_feed('long_inputs', 'long inputs', message => 'row', columns => array_fill('id'::text, ARRAY[2000]));
SELECT herald.enable_change_feed('long_inputs', 'long inputs', message => 'row');
DELETE FROM herald_internal.log_0;
DO $$ BEGIN EXECUTE 'INSERT INTO long_inputs SELECT 1, ' || (SELECT string_agg(format('repeat(''%s'', %s)', i % 10, 10000 + i), ', ') FROM generate_series(1, 300) AS i); END $$;
SELECT length(payload::text) > 90000 AS full, jsonb_array_length(payload -> 'omitted') AS omitted, payload #>> '{row,id}' AS id,
       (SELECT array_agg(key ORDER BY length(key), key) FROM jsonb_object_keys(payload -> 'row') AS key) AS kept FROM herald_internal.log_0;
SELECT herald.disable_change_feed('long_inputs', 'long inputs');
DROP TABLE long_inputs;
SELECT herald.drop_channel('long inputs', force => true);
RESET statement_timeout;
