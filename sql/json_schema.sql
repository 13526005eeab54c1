-- JSON Schema: setting one, what it refuses and how it says so, warnings, versions, and the functions.
CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE ROLE regress_herald_owner LOGIN;
CREATE ROLE regress_herald_guest;
SELECT current_database() AS database \gset
GRANT CREATE ON DATABASE :"database" TO regress_herald_owner;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    detail := regexp_replace(detail, '^Message \d+', 'Message');
    RETURN concat(SQLSTATE, ': ', SQLERRM, nullif(E'\nDETAIL: ' || detail, E'\nDETAIL: '),
                  nullif(E'\nHINT: ' || hint, E'\nHINT: '));
END $$;
CREATE FUNCTION fits(schema jsonb, payload jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(format('%s %s [%s]', payload_path, message, schema_path), E'\n'), 'fits')
      FROM herald.validation_errors(schema, payload, true) $$;

-- A channel that refuses.
SET ROLE regress_herald_owner;
SELECT herald.create_channel('regress orders', check_formats => true, schema => $$
{"type": "object", "required": ["id", "price"], "properties": {
    "id": {"type": "integer", "minimum": 1},
    "price": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.01},
    "email": {"type": "string", "format": "email"},
    "state": {"enum": ["new", "paid"]},
    "lines": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/line"}}},
 "$defs": {"line": {"type": "object", "required": ["sku"], "additionalProperties": false,
    "properties": {"sku": {"type": "string", "pattern": "^[A-Z]{3}-\\d+$"}}}}}$$);
SELECT herald.publish('regress orders', '{"id": 1, "price": 9.99, "email": "anna@example.org", "state": "new"}') IS NOT NULL AS stored;
SELECT herald.publish('regress orders', '{"id": 1.0, "price": 1e2, "lines": [{"sku": "TEA-12"}], "more": null}') IS NOT NULL AS stored;
SELECT try($$SELECT herald.publish('regress orders', '{"id": 0, "price": 0.005, "email": "anna", "state": "lost", "lines": [{"sku": "tea"}, {"article": "tea"}, 3]}')$$);
SELECT try($$SELECT herald.publish('regress orders', '[]'::jsonb)$$);
SELECT try($$SELECT herald.publish('regress orders', '"text"'::json)$$);
SELECT try($$SELECT herald.publish_batch('regress orders', ARRAY['{"id": 1, "price": 1}', '{"id": "1", "price": 1}', '[]']::jsonb[])$$);
-- Many violations: the first ten.
SELECT herald.create_channel('regress many', schema => '{"items": {"type": "integer"}}');
SELECT try($$SELECT herald.publish('regress many', (SELECT jsonb_agg('x'::text) FROM generate_series(1, 12)))$$);
RESET ROLE;
SELECT channel, published, rejected, warned FROM herald.channel_stats WHERE channel IN ('regress orders', 'regress many') ORDER BY 1;
SELECT count(*) FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id WHERE c.channel = 'regress orders';

-- What is published is what was checked, whoever publishes; only the owner may set the schema.
SET ROLE regress_herald_owner;
SELECT herald.grant_channel('regress orders', 'regress_herald_guest');
SET ROLE regress_herald_guest;
SELECT try($$SELECT herald.publish('regress orders', '{}')$$);
SELECT try($$SELECT herald.alter_channel('regress orders', schema => 'true')$$);
SELECT try($$SELECT herald.alter_channel('regress orders', validation => 'off')$$);
RESET ROLE;

-- A channel that warns; a batch that says which, ten times at most.
SELECT herald.create_channel('regress warned', schema => '{"required": ["a"]}', validation => 'warn', durable => false);
SELECT herald.publish('regress warned', '{}') IS NULL AS ephemeral;
SELECT count(*) FROM herald.publish_batch('regress warned', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, 12)));
BEGIN;
SET LOCAL client_min_messages = error;
SELECT herald.publish('regress warned', '{}') IS NULL AS ephemeral;
ROLLBACK;
SELECT channel, published, rejected, warned FROM herald.channel_stats WHERE channel = 'regress warned';
-- One that only keeps its schema.
SELECT herald.alter_channel('regress warned', validation => 'off');
SELECT herald.publish('regress warned', '{}') IS NULL AS ephemeral;
SELECT channel, schema, validation, check_formats, schema_version FROM herald.channels
 WHERE channel IN ('regress many', 'regress warned') ORDER BY channel;

-- A new schema has to fit what is stored, unless it is forced.
SELECT try($$SELECT herald.alter_channel('regress orders', schema => '{"required": ["state"]}')$$);
SELECT try($$SELECT herald.alter_channel('regress orders', schema => '{"required": ["state"]}', validation => 'warn')$$);
SELECT try($$SELECT herald.alter_channel('regress orders', validation => 'reject')$$);
SELECT herald.alter_channel('regress orders', validation => 'reject', force => true);
SELECT try($$SELECT herald.publish('regress orders', '{}')$$);
SELECT schema, validation, schema_version FROM herald.channels WHERE channel = 'regress orders';
-- Nothing that does not concern the schema looks at what is stored.
SELECT herald.alter_channel('regress orders', description => 'orders');
-- JSON null takes it away.
SELECT herald.alter_channel('regress orders', schema => 'null');
SELECT herald.publish('regress orders', '{}') IS NOT NULL AS stored;
SELECT schema, validation, schema_version FROM herald.channels WHERE channel = 'regress orders';
-- A change that is undone, and one of the same transaction.
BEGIN;
SELECT herald.alter_channel('regress orders', schema => '{"maxProperties": 0}', force => true);
SAVEPOINT here;
SELECT herald.publish('regress orders', '{"a": 1}');
ROLLBACK TO here;
SELECT herald.publish('regress orders', '{}') IS NOT NULL AS stored;
ROLLBACK;
SELECT herald.publish('regress orders', '{"a": 1}') IS NOT NULL AS stored;

-- Messages that wait for a subscription count all, of the others the last thousand.
CREATE FUNCTION nothing(task herald.task) RETURNS void LANGUAGE sql AS '';
SET ROLE regress_herald_owner;
SELECT herald.create_channel('regress waiting');
SELECT herald.subscribe('regress waits', 'regress waiting', 'nothing');
SELECT herald.pause('regress waits');
SELECT herald.publish('regress waiting', '{"n": "old"}') IS NOT NULL AS stored;
SELECT count(*) FROM herald.publish_batch('regress waiting', ARRAY(SELECT '{"n": 1}'::jsonb FROM generate_series(1, 1500)));
SELECT try($$SELECT herald.alter_channel('regress waiting', schema => '{"properties": {"n": {"type": "integer"}}}')$$);
SELECT herald.unsubscribe('regress waits', force => true);
SELECT try($$SELECT herald.alter_channel('regress waiting', schema => '{"properties": {"n": {"type": "integer"}}}')$$);
RESET ROLE;

-- Schemas that are none, and the place.
SELECT try(format('SELECT herald.create_channel(''regress bad'', schema => %L)', schema)) AS "refused"
  FROM unnest(ARRAY[
    '[]', '1', '{"type": "strang"}', '{"type": []}', '{"properties": {"a": {"minimum": "1"}}}', '{"properties": []}',
    '{"properties": {"a/b~": 1}}', '{"allOf": []}', '{"allOf": {}}', '{"anyOf": [true, 3]}', '{"required": "a"}', '{"required": [1]}',
    '{"minLength": -1}', '{"minLength": 1.5}', '{"multipleOf": 0}', '{"enum": 1}', '{"uniqueItems": 1}', '{"items": [{}]}',
    '{"pattern": 1}', '{"pattern": "a)"}', '{"pattern": "(a"}', '{"pattern": "[a"}', '{"pattern": "*a"}', '{"pattern": "\\Z"}',
    '{"patternProperties": {"[": {}}}', '{"dependentRequired": {"a": 1}}', '{"$ref": 1}', '{"$ref": "#/$defs/a"}', '{"$ref": "#a"}',
    '{"$ref": "#/type", "type": "object"}', '{"$ref": "#"}', '{"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}',
    '{"$id": "#a"}', '{"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}', '{"$ref": "%zz#"}', '{"$schema": 1}']) AS schema;
-- What can't be had here.
SELECT try(format('SELECT herald.create_channel(''regress bad'', schema => %L)', schema)) AS "refused"
  FROM unnest(ARRAY[
    '{"$ref": "https://example.org/schema"}', '{"items": {"$ref": "other.json"}}', '{"$schema": "http://json-schema.org/draft-04/schema#"}',
    '{"$schema": "https://json-schema.org/draft/2019-09/schema"}', '{"pattern": "(a)\\1"}', '{"pattern": "(?=a(?=b))"}',
    '{"pattern": "a{1,256}"}', '{"pattern": "\\p{Greek}"}', '{"pattern": "((a{100}){100}){2}"}']) AS schema;
SELECT left(try(format('SELECT herald.create_channel(''regress bad'', schema => %L)', jsonb_build_object('patternProperties', (SELECT jsonb_object_agg('^' || n || '$', true) FROM generate_series(1, 2000) AS n)))), 5);
SELECT try($$SELECT herald.create_channel('regress bad', schema => jsonb_build_object('title', repeat('x', 1048576)))$$);
SELECT try($$SELECT herald.create_channel('regress bad', schema => '{}', validation => 'maybe')$$);
SELECT count(*) FROM herald.channels WHERE channel = 'regress bad';

-- The functions.
SELECT herald.validate('{"type": "integer"}', '1.0'), herald.validate('{"type": "integer"}', '1.5'),
       herald.validate('true', '{}'), herald.validate('false', '{}'), herald.validate(NULL, '1'), herald.validate('true', NULL);
SELECT herald.validate('{"format": "date"}', '"today"'), herald.validate('{"format": "date"}', '"today"', true);
CREATE TABLE checked (body jsonb CHECK (herald.validate('{"type": "object", "required": ["a"]}', body)));
INSERT INTO checked VALUES ('{"a": 1}'), (NULL);
INSERT INTO checked VALUES ('{}');
DROP TABLE checked;
SELECT * FROM herald.validation_errors('{"type": "object"}', '{}');
-- The standard's places: the keyword's names the references on the way.
SELECT * FROM herald.validation_errors('{"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"n": {"$ref": "#/$defs/b"}, "x": {"$ref": "#/$defs/c"}},
    "allOf": [{"required": ["q"]}]}, "b": {"minimum": 5}, "c": false}}', '{"n": 3, "x": 1}');
SELECT schema_path, keyword_location FROM herald.validation_errors('{"$dynamicRef": "#d", "$defs": {"d": {"$dynamicAnchor": "d", "items": {"$dynamicRef": "#d"}, "type": "array"}}}', '[[1]]');
-- What no rule looks at is told beside other faults, what one of several alternatives may have meant is not.
SELECT payload_path, schema_path FROM herald.validation_errors('{"required": ["k"], "properties": {"a": {"type": "integer"}}, "unevaluatedProperties": false}', '{"a": "x", "zz": 1}');
SELECT payload_path, schema_path FROM herald.validation_errors('{"anyOf": [{"properties": {"t": {"const": 1}, "x": {"type": "integer"}}, "required": ["t"]},
    {"allOf": [{"required": ["m"]}, {"properties": {"t": {"const": 2}, "y": {"oneOf": [{"type": "null"}, {"const": 5}]}}, "patternProperties": {"^p": false}}]}],
    "unevaluatedProperties": false}', '{"t": 3, "x": "x", "y": 1, "p1": 1, "zz": 1}');
SELECT payload_path, schema_path FROM herald.validation_errors('{"prefixItems": [{"type": "integer"}], "oneOf": [{"prefixItems": [true, {"type": "null"}]}, {"maxItems": 0}],
    "unevaluatedItems": false}', '["x", 1, 2]');
SELECT payload_path, schema_path FROM herald.validation_errors('{"properties": {"a": {"$ref": "#/$defs/closed"}}, "$defs": {"closed": {"properties": {"b": {"type": "null"}}, "unevaluatedProperties": false}},
    "unevaluatedProperties": false}', '{"a": {"b": 1, "c": 1}, "d": 1}');
-- A bundled document's place, in each draft.
SELECT try($$SELECT herald.validate('{"$id": "http://x/r", "$ref": "other"}', '1')$$);
SELECT try($$SELECT herald.validate('{"$schema": "http://json-schema.org/draft-07/schema#", "$id": "http://x/r", "$ref": "other"}', '1')$$);
SELECT herald.validate('{"format": "hostname"}', '"r3---sn-4g5e6nsz.googlevideo.com"', true);
SELECT count(*) FROM herald.validation_errors('{"items": false}', (SELECT jsonb_agg(0) FROM generate_series(1, 2000)));
SELECT try($$SELECT herald.validate('{"type": 1}', '1')$$);

-- What each keyword says.
\a
SELECT schema, payload, fits(schema::jsonb, payload::jsonb)
  FROM (VALUES
    ('{"type": ["integer", "null"]}', '1.5'), ('{"const": {"a": [1]}}', '{"a": [1.0]}'), ('{"const": "a"}', '1'),
    ('{"enum": [1, "a", null, [], {"b": true}]}', '2'), ('{"enum": []}', '2'), ('{"minimum": 1}', '0.999'), ('{"maximum": 1}', '1.001'),
    ('{"exclusiveMinimum": 1}', '1'), ('{"exclusiveMaximum": 1}', '1.0'), ('{"multipleOf": 0.0001}', '0.00751'),
    ('{"multipleOf": 1e-8}', '12391239123'), ('{"multipleOf": 1e-300}', '1e300'), ('{"maximum": 1e400}', '1e401'),
    ('{"minLength": 2}', '"é"'), ('{"maxLength": 1}', '"éé"'), ('{"pattern": "^é{2}$"}', '"ééé"'),
    ('{"minItems": 1}', '[]'), ('{"maxItems": 1}', '[1, 2]'), ('{"uniqueItems": true}', '[1, true, 1.0]'), ('{"uniqueItems": true}', '[1, true, "1", [1], {"1": 1}, null, 0, false, "", [], {}]'),
    ('{"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}', '[1, 1, "a"]'),
    ('{"contains": {"type": "integer"}}', '["a"]'), ('{"contains": true, "minContains": 2}', '[1]'), ('{"contains": true, "maxContains": 1}', '[1, 2]'),
    ('{"minProperties": 1}', '{}'), ('{"maxProperties": 0}', '{"a": 1}'), ('{"propertyNames": {"maxLength": 1}}', '{"ab": 1}'),
    ('{"patternProperties": {"^a": {"type": "string"}}, "additionalProperties": {"type": "integer"}}', '{"ab": 1, "b": "x"}'),
    ('{"dependentRequired": {"a": ["b", "c"]}}', '{"a": 1, "c": 1}'), ('{"dependentSchemas": {"a": {"maxProperties": 1}}}', '{"a": 1, "b": 1}'),
    ('{"anyOf": [{"type": "string"}, {"type": "null"}]}', '1'), ('{"oneOf": [{"type": "string"}, {"type": "null"}]}', '1'),
    ('{"oneOf": [{"type": "string"}, {"minimum": 2, "type": "integer"}]}', '1'),
    ('{"anyOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], "$defs": {"cat": {"properties": {"kind": {"const": "cat"}, "age": {"type": "integer"}}}, "dog": {"properties": {"kind": {"const": "dog"}, "age": {"maximum": 9}}}}}', '{"kind": "dog", "age": 10}'),
    ('{"oneOf": [true, true]}', '1'), ('{"not": {"type": "integer"}}', '1'), ('{"if": {"type": "integer"}, "then": {"minimum": 2}, "else": false}', '1'),
    ('{"if": {"type": "integer"}, "then": {"minimum": 2}, "else": false}', '"a"'),
    ('{"properties": {"a": true}, "unevaluatedProperties": false}', '{"a": 1, "b": 2}'),
    ('{"prefixItems": [true], "unevaluatedItems": {"type": "string"}}', '[1, 2]'),
    ('{"properties": {"a~/b": {"items": false}}}', '{"a~/b": [1]}'), ('{"format": "date-time"}', '"2026-02-30T00:00:00Z"'),
    ('{"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "null"}], "additionalItems": false}', '[1, 2]'),
    ('{"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": ["b"], "c": {"required": ["d"]}}}', '{"a": 1, "c": 1}'),
    ('{"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a", "type": "string", "definitions": {"a": {"type": "integer"}}}', '"x"')
  ) AS given (schema, payload);
\a

-- Bounds: alternatives that multiply, deep schemas and payloads.
SELECT try($$SELECT herald.validate(
    (SELECT jsonb_build_object('$ref', '#/$defs/n40', '$defs', jsonb_object_agg('n' || n,
            CASE n WHEN 0 THEN '{"type": "null"}'::jsonb
                   ELSE jsonb_build_object('anyOf', jsonb_build_array(jsonb_build_object('$ref', '#/$defs/n' || n - 1), jsonb_build_object('$ref', '#/$defs/n' || n - 1))) END))
       FROM generate_series(0, 40) AS n), '1')$$);
SELECT herald.validate('{"type": "array", "items": {"$ref": "#"}}', (repeat('[', 2000) || repeat(']', 2000))::jsonb);
SELECT left(try($$SELECT herald.validate('{"type": "array", "items": {"$ref": "#"}}', (repeat('[', 6000) || repeat(']', 6000))::jsonb)$$), 5);
SELECT left(try($$SELECT herald.validate('{"$dynamicAnchor": "a", "$dynamicRef": "#a"}', '1')$$), 5);

DROP FUNCTION nothing(herald.task);
SELECT herald.drop_channel(channel, force => true) FROM herald.channels WHERE channel LIKE 'regress%';
REVOKE CREATE ON DATABASE :"database" FROM regress_herald_owner;
DROP ROLE regress_herald_owner, regress_herald_guest;
DROP FUNCTION try(text), fits(jsonb, jsonb);
