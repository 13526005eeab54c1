-- Functions that run the official JSON Schema Test Suite inside the server. A few tests have a \u0000, which
-- neither json nor jsonb can work with: another character stands for it, and those tests are not passed. Documents that a test refers to are put under "$defs", as the
-- specification has it for bundles: herald fetches nothing.

CREATE SCHEMA suite;
SET search_path = suite, public;

-- uri: where a reference finds it.
CREATE TABLE document (draft text NOT NULL, uri text NOT NULL, body jsonb NOT NULL);
CREATE TABLE result (
    draft text NOT NULL, file text NOT NULL, "group" text NOT NULL, test text NOT NULL,
    expected boolean NOT NULL, got text NOT NULL);

CREATE FUNCTION uri_of(draft text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE draft WHEN 'draft7' THEN 'http://json-schema.org/draft-07/schema#'
                      ELSE 'https://json-schema.org/draft/2020-12/schema' END $$;

-- A document under the address by which it is asked for, which its own identifier may not be.
CREATE FUNCTION at_address(uri text, body jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_typeof(body) <> 'object' THEN jsonb_build_object('$id', uri, 'allOf', jsonb_build_array(body))
                WHEN rtrim(body ->> '$id', '#') = uri THEN body
                WHEN body ? '$id' THEN jsonb_build_object('$id', uri, 'allOf',
                     jsonb_build_array(jsonb_build_object('$ref', body ->> '$id')),
                     'definitions', jsonb_build_object('document', body))
                WHEN body ? '$ref' THEN jsonb_build_object('$id', uri, 'allOf', jsonb_build_array(body - 'definitions'))
                     || CASE WHEN body ? 'definitions' THEN jsonb_build_object('definitions', body -> 'definitions') ELSE '{}' END
                ELSE body || jsonb_build_object('$id', uri) END $$;

CREATE FUNCTION bundle(wanted text, schema jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    needed text[] := '{}';
    known text;
    next record;
    definitions jsonb := '{}';
BEGIN
    IF jsonb_typeof(schema) <> 'object' THEN RETURN schema; END IF;
    known := (schema - '$schema')::text;
    LOOP
        SELECT d.uri, d.body INTO next
          FROM document AS d
         WHERE d.draft = wanted AND d.uri <> ALL (needed)
           -- Asked for by the last part of its address, and not in there already.
           AND known ~ ('["/]' || replace(regexp_replace(d.uri, '^.*/', ''), '.', '[.]') || '["#]')
           AND NOT position('"$id": "' || d.uri || '"' IN schema::text) > 0
         ORDER BY d.uri LIMIT 1;
        EXIT WHEN NOT FOUND;
        needed := needed || next.uri;
        known := known || (next.body - '$schema')::text;
        definitions := definitions || jsonb_build_object(next.uri, at_address(next.uri, next.body));
    END LOOP;
    IF needed = '{}' THEN RETURN schema; END IF;
    IF NOT (schema ? '$id') THEN schema := schema || '{"$id": "urn:test:main"}'; END IF;
    RETURN jsonb_build_object('$schema', uri_of(wanted), '$id', 'urn:test:bundle', 'definitions', definitions,
                              'allOf', jsonb_build_array(schema));
END $$;

CREATE FUNCTION outcome(draft text, schema json, data json, formats boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plain jsonb := schema::jsonb;
BEGIN
    IF position(U&'\E000' IN schema::text || data::text) > 0 THEN
        RETURN 'has \u0000, which jsonb cannot hold';
    END IF;
    IF jsonb_typeof(plain) = 'object' AND NOT (plain ? '$schema') THEN
        plain := plain || jsonb_build_object('$schema', uri_of(draft));
    END IF;
    plain := bundle(draft, plain);
    IF herald.validate(plain, data::jsonb, formats)
       = EXISTS (SELECT FROM herald.validation_errors(plain, data::jsonb, formats)) THEN
        RETURN 'validate and validation_errors disagree';
    END IF;
    RETURN herald.validate(plain, data::jsonb, formats)::text;
EXCEPTION WHEN OTHERS THEN
    DECLARE
        detail text;
    BEGIN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
        RETURN concat(SQLSTATE, ': ', SQLERRM, ' ', detail);
    END;
END $$;

CREATE FUNCTION load(draft text, uri text, path text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO document VALUES (draft, uri, pg_read_file(path)::jsonb) $$;

CREATE FUNCTION run(draft text, name text, path text, formats boolean) RETURNS void LANGUAGE sql AS $$
    INSERT INTO result
    SELECT draft, name, g ->> 'description', t ->> 'description', (t ->> 'valid')::boolean,
           outcome(draft, g -> 'schema', t -> 'data', formats)
      FROM json_array_elements(replace(pg_read_file(path), '\u0000', U&'\E000')::json) AS g,
           json_array_elements(g -> 'tests') AS t $$;

CREATE VIEW miss AS
SELECT draft, concat_ws(': ', file, "group", test) AS name, expected, got
  FROM result WHERE got <> expected::text ORDER BY 1, 2;
