-- Code of users that runs inside of ours: a cast to json, which a row's conversion calls, writes to tables that have
-- feeds and are audited, this one too, takes back, ends feeds, changes tables, lets rows be counted only.
CREATE SCHEMA reentry;
SET search_path = reentry;
CREATE FUNCTION published() RETURNS TABLE (channel text, payload jsonb) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT c.channel, l.payload FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id
                  WHERE c.channel LIKE 'reentry %' ORDER BY l.id;
    DELETE FROM herald_internal.log_0;
END $$;
CREATE FUNCTION trail() RETURNS TABLE (table_name name, operation text, record_id jsonb, old jsonb, new jsonb)
LANGUAGE sql AS $$
    SELECT table_name, operation, record_id, old, new FROM herald.audit_log WHERE schema_name = 'reentry'
       AND operation IN ('insert', 'update', 'delete') ORDER BY changed_at, sequence $$;
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE TABLE inner_one (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text);
CREATE TABLE outer_one (id integer PRIMARY KEY, a text, m mood, z text);
CREATE TABLE keyed (m mood PRIMARY KEY, v text);
CREATE TABLE statements (code text);
-- What is in the table runs once for each conversion, unless it is one within.
CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    IF current_setting('reentry.within', true) IS DISTINCT FROM 'yes' THEN
        PERFORM set_config('reentry.within', 'yes', false);
        FOR statement IN SELECT code FROM reentry.statements LOOP
            EXECUTE statement;
        END LOOP;
        PERFORM set_config('reentry.within', 'no', false);
    END IF;
    RETURN to_json('as ' || $1::text);
END $$;
CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
DELETE FROM herald_internal.log_0;
SELECT herald.create_channel('reentry ' || kind) FROM unnest('{row,diff,inner}'::text[]) AS kind;
SELECT herald.enable_change_feed('outer_one', 'reentry ' || kind, message => kind) FROM unnest('{row,diff}'::text[]) AS kind;
SELECT herald.enable_change_feed('keyed', 'reentry row', message => 'row');
SELECT herald.enable_change_feed('inner_one', 'reentry inner', message => 'row');
SELECT herald.enable_audit('outer_one'), herald.enable_audit('inner_one');

-- another table with a feed, with a row that is longer than the one at hand
INSERT INTO statements VALUES ($$INSERT INTO reentry.inner_one (t) VALUES (repeat('x', 30))$$);
INSERT INTO outer_one VALUES (1, 'one', 'calm', 'z1'), (2, 'two', 'wild', 'z2');
SELECT * FROM published();
UPDATE outer_one SET m = 'wild', z = 'z3' WHERE id = 1;
SELECT * FROM published();
INSERT INTO keyed VALUES ('calm', 'k');
SELECT * FROM published();
SELECT * FROM trail();

-- the same table: the same row, others
TRUNCATE statements;
INSERT INTO statements VALUES ($$UPDATE reentry.outer_one SET a = a || '!' WHERE id = 2$$),
    ($$INSERT INTO reentry.outer_one SELECT max(id) + 1, 'new', 'calm', 'z' FROM reentry.outer_one$$);
UPDATE outer_one SET z = 'z4' WHERE id = 2;
SELECT * FROM published();
TRUNCATE statements;
INSERT INTO statements VALUES ($$UPDATE reentry.outer_one SET a = a || '?' WHERE id IN (2, 8)$$);
UPDATE outer_one SET id = 10 - id, m = 'calm' WHERE id >= 2;
SELECT * FROM published();
SELECT * FROM outer_one ORDER BY id;

-- what is taken back to a savepoint
TRUNCATE statements;
INSERT INTO statements VALUES ($s$DO $x$
BEGIN
    INSERT INTO reentry.inner_one (t) VALUES ('gone');
    UPDATE reentry.outer_one SET a = 'gone' WHERE id = 1;
    UPDATE reentry.outer_one SET id = 20 WHERE id = 7;
    INSERT INTO reentry.outer_one VALUES (100, 'gone', 'calm', 'gone');
    RAISE EXCEPTION 'back';
EXCEPTION WHEN raise_exception THEN
END $x$ $s$);
BEGIN;
UPDATE outer_one SET a = 'before' WHERE id = 1;
UPDATE outer_one SET z = 'z5', m = 'wild' WHERE id IN (1, 7);
SAVEPOINT here;
UPDATE outer_one SET z = 'gone', m = 'calm';
ROLLBACK TO here;
COMMIT;
SELECT * FROM published();

-- rows are counted only, from the midst of a conversion on
TRUNCATE statements;
INSERT INTO statements VALUES ($$SET LOCAL herald.change_feed_bulk_limit = 1$$),
    ($$UPDATE reentry.outer_one SET a = 'many'$$), ($$SET LOCAL herald.change_feed_bulk_limit = 1000$$);
BEGIN;
UPDATE outer_one SET z = 'z6' WHERE id = 1;
UPDATE outer_one SET z = 'z7' WHERE id = 7;
COMMIT;
SELECT * FROM published();
TRUNCATE statements;
INSERT INTO statements VALUES ($$TRUNCATE reentry.inner_one$$), ($$INSERT INTO reentry.inner_one (t) VALUES ('after')$$);
UPDATE outer_one SET z = 'z8' WHERE id = 1;
SELECT * FROM published() WHERE channel = 'reentry inner';

-- feeds come, go and change, and tables too, as far as a table in use can
TRUNCATE statements;
INSERT INTO statements VALUES ($$SELECT herald.disable_change_feed('reentry.inner_one', 'reentry inner')$$),
    ($$ALTER TABLE reentry.inner_one ADD COLUMN more text DEFAULT 'm'$$),
    ($$SELECT herald.disable_audit('reentry.inner_one')$$), ($$SELECT herald.enable_audit('reentry.inner_one')$$),
    ($$SELECT herald.enable_change_feed('reentry.inner_one', 'reentry inner', message => 'key')$$),
    ($$INSERT INTO reentry.inner_one (t) VALUES ('altered')$$),
    ($$ALTER TABLE reentry.inner_one DROP COLUMN more$$),
    ($$SELECT herald.grant_channel('reentry row', 'public', '{publish}')$$);
UPDATE outer_one SET z = 'z9', m = 'calm' WHERE id = 1;
SELECT * FROM published();
TRUNCATE statements;
INSERT INTO statements VALUES ($$SELECT herald.disable_change_feed('reentry.outer_one', 'reentry diff')
    WHERE EXISTS (SELECT FROM herald.change_feeds WHERE channel = 'reentry diff')$$);
\set VERBOSITY terse
UPDATE outer_one SET z = 'z10' WHERE id = 1;
\set VERBOSITY default
SELECT * FROM published();
TRUNCATE statements;
INSERT INTO statements VALUES ($$SELECT herald.enable_change_feed('reentry.outer_one', 'reentry diff', message => 'row')$$);
UPDATE outer_one SET z = 'z11' WHERE id = 1;
SELECT * FROM published();

-- values so large that buffers are made anew, beside many columns
TRUNCATE statements;
INSERT INTO statements VALUES ($$INSERT INTO reentry.inner_one (t) VALUES ('small')$$);
DO $$ BEGIN
    EXECUTE 'CREATE TABLE reentry.wide (id integer PRIMARY KEY, a text, e reentry.mood, '
        || (SELECT string_agg('c' || to_char(i, 'FM0000') || ' integer', ', ') FROM generate_series(1, 1500) AS i) || ')';
END $$;
SELECT herald.enable_change_feed('wide', 'reentry row', message => 'row');
INSERT INTO wide (id, a, e) SELECT i, repeat('A', 3000000), 'calm' FROM generate_series(1, 4) AS i;
SELECT channel, payload ->> 'op' AS op, payload -> 'key' AS key, payload -> 'omitted' AS omitted, payload #>> '{row,e}' AS e,
       (SELECT count(*) FROM jsonb_object_keys(payload -> 'row')) AS columns
  FROM published();

RESET search_path;
SELECT herald.disable_audit('reentry.outer_one'), herald.disable_audit('reentry.inner_one');
SET client_min_messages = error;
DROP SCHEMA reentry CASCADE;
RESET client_min_messages;
SELECT herald.drop_channel('reentry ' || kind) FROM unnest('{row,diff,inner}'::text[]) AS kind;
