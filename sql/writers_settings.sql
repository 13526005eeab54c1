-- What a row is called, and what is recorded and published of it, depends on no setting of the writer's session.
CREATE SCHEMA writers;
SET search_path = writers;
CREATE TYPE mood AS ENUM ('calm');
CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('now', '2026-01-01 00:00+00'::timestamptz, 'long', interval '1 day 2 hours', 'price', 1234.5::numeric::money,
                             'day', to_char(date '2026-01-01', 'YYYY'), 'bytes', '\x00ff'::bytea, 'real', 0.1::float8 + 0.2) $$;
CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
CREATE TYPE pair AS (at timestamptz, price money);
CREATE DOMAIN instant AS timestamptz;
CREATE DOMAIN instants AS timestamptz[];
CREATE TYPE spans AS RANGE (subtype = money);
CREATE TABLE entry (id integer, at timestamptz, span tstzrange, d instant, ds instants, spans tstzmultirange, p pair, ps pair[], m money,
                    ms spans, iv interval, b bytea, f float8, r float4, rc regclass, rt regtype[], rp regproc, ro regrole, k mood, tz timetz,
                    dr daterange, v text, PRIMARY KEY (id, at, span));
SELECT herald.create_channel('writers ' || kind) FROM unnest('{diff,row,text}'::text[]) AS kind;
SELECT herald.enable_change_feed('entry', 'writers diff', 'diff'), herald.enable_change_feed('entry', 'writers row', 'row'),
       herald.enable_change_feed('entry', 'writers text', 'entry:{at}:{span}:{m}:{rc}:{iv}');
SELECT herald.enable_audit('entry');
CREATE TABLE zones (n integer, zone text);
INSERT INTO zones VALUES (1, 'UTC'), (2, 'Asia/Kolkata'), (3, 'America/St_Johns');

-- one session after the other changes the same row
CREATE FUNCTION as_writer(kind integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('TimeZone', (SELECT zone FROM writers.zones WHERE n = kind), false),
            set_config('DateStyle', (ARRAY['ISO, MDY', 'SQL, DMY', 'German'])[kind], false),
            set_config('IntervalStyle', (ARRAY['postgres', 'iso_8601', 'sql_standard'])[kind], false),
            set_config('extra_float_digits', (ARRAY['1', '-15', '3'])[kind], false),
            set_config('bytea_output', (ARRAY['hex', 'escape', 'hex'])[kind], false),
            set_config('xmlbinary', (ARRAY['base64', 'hex', 'base64'])[kind], false),
            set_config('quote_all_identifiers', (ARRAY['off', 'on', 'off'])[kind], false),
            set_config('lc_monetary', (ARRAY['C', 'C', 'POSIX'])[kind], false),
            set_config('search_path', (ARRAY['writers', 'public', 'writers, public'])[kind], false);
END $$;
DELETE FROM herald_internal.log_0;
INSERT INTO entry VALUES (1, '2026-01-01 00:00+00', '[2026-01-01 00:00+00,2026-01-02 00:00+00)', '2026-02-01 00:00+00',
    '{2026-03-01 00:00+00}', '{[2026-04-01 00:00+00,2026-04-02 00:00+00)}', ROW('2026-05-01 00:00+00', '-1234567.89'),
    ARRAY[ROW('2026-06-01 00:00+00', '0.05')::pair], '12345.6', '[1.00,2000.00)', '1 mon 2 days 03:04:05', '\x00ff', 0.1 + 0.2::float8, 1.1,
    'entry', '{entry,int4}', 'mood_json', 'pg_monitor', 'calm', '12:00+02', '[2026-01-01,2026-02-01)', 'first');
SELECT as_writer(2);
UPDATE writers.entry SET v = 'second' WHERE id = 1;
BEGIN;
UPDATE writers.entry SET v = 'third' WHERE id = 1;
SELECT writers.as_writer(3);
UPDATE writers.entry SET v = 'fourth' WHERE id = 1;
COMMIT;
UPDATE writers.entry SET id = id, v = v;
DELETE FROM writers.entry;
RESET ALL;
SET search_path = writers;

-- one key, one line of messages, only what was changed
SELECT c.channel, count(*), count(DISTINCT l.key) AS lines, count(DISTINCT l.payload -> 'key') AS keys
  FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id WHERE c.channel LIKE 'writers %' GROUP BY 1 ORDER BY 1;
SELECT l.payload ->> 'op' AS op, l.payload -> 'key' AS key, l.payload -> 'old' AS old, l.payload -> 'changed' AS changed
  FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id
 WHERE c.channel = 'writers diff' AND l.payload ->> 'op' = 'update' ORDER BY l.id;
SELECT l.payload FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id WHERE c.channel = 'writers text' ORDER BY l.id;
SELECT l.payload ->> 'op' AS op, o.key, o.value FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id
 CROSS JOIN LATERAL jsonb_each(l.payload -> 'row') AS o WHERE c.channel = 'writers row' AND o.key <> 'v' AND l.payload ->> 'op' = 'insert'
 ORDER BY o.key;
SELECT count(DISTINCT (l.payload -> 'row') - 'v') FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id
 WHERE c.channel = 'writers row';

-- the trail has one row, which is found in whatever form its key is written
SELECT operation, count(*), count(DISTINCT record_id), count(DISTINCT coalesce(new, old) - 'v') AS images FROM herald.audit_log
 WHERE schema_name = 'writers' AND table_name = 'entry' AND record_id IS NOT NULL GROUP BY 1 ORDER BY 1;
SET timezone = 'Asia/Kolkata';
SELECT operation, changed FROM herald.audit_history('entry',
    '{"id": 1, "at": "2026-01-01 05:30", "span": "[\"2026-01-01 05:30:00+05:30\",2026-01-02T00:00:00Z)"}');
SELECT count(*) FROM herald.audit_history('entry', (SELECT DISTINCT record_id FROM herald.audit_log WHERE table_name = 'entry' AND record_id IS NOT NULL));
RESET timezone;
\set VERBOSITY sqlstate
SELECT * FROM herald.audit_history('entry', '{"id": 1, "at": "no time"}');
\set VERBOSITY default
-- what a session sees of its own settings is not changed
SET timezone = 'Asia/Kolkata';
SET datestyle = 'German';
INSERT INTO entry (id, at, span, k, rc) VALUES (2, '2026-01-01 00:00+00', 'empty', 'calm', 'entry');
SELECT at, current_setting('TimeZone'), current_setting('DateStyle'), current_setting('search_path') FROM entry;
RESET timezone;
RESET datestyle;

RESET search_path;
SELECT herald.disable_audit('writers.entry');
SET client_min_messages = error;
DROP SCHEMA writers CASCADE;
RESET client_min_messages;
SELECT herald.drop_channel('writers ' || kind) FROM unnest('{diff,row,text}'::text[]) AS kind;
