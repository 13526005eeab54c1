-- What an audited statement leaves in the trail, row by row.
CREATE SCHEMA audit_rows;
SET search_path = audit_rows;
SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
SET client_min_messages = warning;

-- The newest entries of a table since the last look.
CREATE SEQUENCE seen;
CREATE FUNCTION entries(tables text[] DEFAULT NULL)
RETURNS TABLE (no bigint, t text, op text, id jsonb, old_id jsonb, old jsonb, new jsonb, changed text[]) LANGUAGE plpgsql AS $$
DECLARE last bigint = (SELECT last_value FROM seen);
BEGIN
    RETURN QUERY SELECT row_number() OVER (ORDER BY a.id), a.table_name::text, a.operation::text, a.record_id, a.old_record_id, a.old, a.new, a.changed
      FROM herald.audit_log AS a
     WHERE a.schema_name = 'audit_rows' AND a.id > last AND a.operation IN ('insert', 'update', 'delete', 'truncate')
       AND (tables IS NULL OR a.table_name = ANY (tables)) ORDER BY a.id;
    PERFORM setval('seen', coalesce(max(a.id), 1)) FROM herald.audit_log AS a;
END $$;

-- A row becomes what to_jsonb makes of it, whatever the types, byte by byte.
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (x integer, "Yy" text, j json, m mood[]);
CREATE DOMAIN positive AS integer CHECK (value > 0);
CREATE DOMAIN more_positive AS positive;
CREATE DOMAIN numbers AS integer[];
CREATE DOMAIN domain_pair AS pair;
CREATE TABLE every_type (
    id bigint PRIMARY KEY, b boolean, i2 smallint, i4 integer, n numeric, n2 numeric(20, 5), f4 real, f8 float8, t text, vc varchar(20),
    c char(10), nm name, ch "char", by bytea, d date, ts timestamp, tz timestamptz, tm time, tmz timetz, iv interval, u uuid, ip inet,
    cd cidr, mac macaddr, gone integer, ia integer[], ta text[], pa pair[], p pair, po positive, mp more_positive, nu numbers, dp domain_pair,
    m mood, ma mood[], r int4range, mr int4multirange, tr tstzrange, j json, jb jsonb, x xml, mo money, bi bit(5), vb varbit,
    pnt point, bx box, pl polygon, o oid, rc regclass, tsv tsvector, tsq tsquery, gen integer GENERATED ALWAYS AS (i4 * 2) STORED,
    "Ünï ""q" integer, da date[], jba jsonb[], ja json[], na numeric[], dpa domain_pair[], dda more_positive[], iv2 int2vector, lsn pg_lsn);
ALTER TABLE every_type DROP COLUMN gone;
SELECT herald.enable_audit('every_type');
INSERT INTO every_type (id) VALUES (0);
INSERT INTO every_type VALUES
    (1, true, -5, 100000, 'NaN', '12345.6', '1.5', '1e300', E'h\u00e9"llo\\', 'abc', 'x', 'name', 'c', '\xdeadbeef', '2020-01-01', '2020-01-01 1:2:3.4',
     '2020-01-01 1:2:3.4', '1:2:3', '1:2:3+2', '1 mon 2 days 3:00', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03',
     '{{1,2},{3,NULL}}', '{a,NULL,"b c"}', array[row(1, 'a', '{"a":1}', array['sad'::mood])::pair, NULL], row(2, NULL, '[1,{"x":[]}]', NULL), 5, 7, '{1}',
     row(3, 'z', '"s"', '{ok}'), 'ok', '{sad,ok}', '[1,5)', '{[1,3),[5,6)}', '[2020-01-01,)', '{"a": 1, "a": 2, "b":[1.50,2e3]}', '{"z":[1,2,{"y":null}],"a":"x"}',
     '<a>b</a>', '12.34', B'10101', B'101', '(1,2)', '((1,2),(3,4))', '((0,0),(1,1),(2,0))', 1259, 'pg_class', 'a:1 b', 'a & b', DEFAULT, 9,
     '{2020-01-01,infinity}', array['1'::jsonb, '"a"', '{"b":1}'], array['1'::json, '[]', '{"b":1}'], '{1.10,NaN,Infinity}',
     array[row(3, 'z', '"s"', '{ok}')::domain_pair], '{1,2}', '1 2 3', '1/2');
INSERT INTO every_type (id, n, f4, f8, d, ts, tz, j, jb, ia, t, p, nu) VALUES
    (2, 'Infinity', 'NaN', '-Infinity', 'infinity', '-infinity', 'infinity', '3.00', '"str"', '{}', '', row(NULL, NULL, NULL, NULL), NULL),
    (3, '-Infinity', 'Infinity', '0.1', '0044-03-15 BC', '0044-03-15 BC', '0044-03-15 12:00 BC', 'null', 'null', '[5:6]={7,8}', repeat('long text ', 1000),
     row(1, repeat('x', 5000), '[]', '{}'), '{5}'),
    (4, '0', '-0', '-0', '294276-01-01', '294276-01-01', '294276-01-01', 'true', 'false', '{{{1}}}', repeat('r', 300), NULL, NULL),
    (5, '-0.000001', '1e-20', '123456789012345680', '5874897-12-31', NULL, NULL, '"\u00e9\n"', '12.3400', '{}', '', NULL, NULL),
    (6, '123456789012345678901234567890.123456789', '16777216', '999999999999999', NULL, NULL, NULL, '[[[[]]],{"":{}}]', '[]', NULL, repeat(md5('x'), 4000), NULL, NULL),
    (7, '10000', 1e6, 1e15, NULL, NULL, NULL, ' [1 , 2 ]  ', '{}', NULL, NULL, NULL, NULL),
    (9223372036854775807, '99990000', 1e7, -1e15, NULL, NULL, NULL, '-1e10', '1e100', NULL, NULL, NULL, NULL),
    (-9223372036854775808, '1e-100', 3, -4.5, NULL, NULL, NULL, '{"\"":"\ud83d\ude00"}', NULL, NULL, NULL, NULL, NULL),
    (-10000, 5, 2, 3, NULL, NULL, NULL, '{"a":0.0001E+5}', NULL, NULL, NULL, NULL, NULL),
    (100000000, 5.00, 2, 3, NULL, NULL, NULL, '{"aa":1,"b":2,"aa":{"c":[1]}}', NULL, NULL, NULL, NULL, NULL);
CREATE FUNCTION differing(wanted bigint) RETURNS TABLE (id jsonb, differs text[]) LANGUAGE sql SET timezone = 'UTC' AS $$
    WITH e AS MATERIALIZED (SELECT * FROM entries('{every_type}'))
    SELECT e.id, (SELECT array_agg(k) FROM jsonb_object_keys(to_jsonb(whole) || e.new) AS k WHERE to_jsonb(whole) -> k IS DISTINCT FROM e.new -> k)
      FROM e LEFT JOIN every_type AS whole ON whole.id = (e.id ->> 'id')::bigint
     WHERE jsonb_send(e.new) IS DISTINCT FROM jsonb_send(to_jsonb(whole)) OR pg_column_size(e.new || '{}') <> pg_column_size(to_jsonb(whole))
    UNION ALL SELECT NULL, array['entries', count(*)::text] FROM e HAVING count(*) <> wanted
$$;
SELECT * FROM differing(12);
-- Settings of the writer's session don't show; each column anew in an UPDATE.
SET timezone = 'Asia/Kolkata'; SET extra_float_digits = 0; SET bytea_output = escape; SET intervalstyle = iso_8601; SET datestyle = 'German';
UPDATE every_type SET b = true, i4 = coalesce(i4, 0) + 1, "Ünï ""q" = 7;
RESET extra_float_digits; RESET bytea_output; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
SELECT * FROM differing(12);
RESET timezone;

-- The same time twice, written in another zone the second time.
CREATE TABLE zoned (id integer PRIMARY KEY, tz timestamptz);
SELECT herald.enable_audit('zoned');
SET timezone = 'UTC';
INSERT INTO zoned VALUES (1, '2020-01-01 00:00+00');
SET timezone = 'Asia/Kolkata';
DELETE FROM zoned;
RESET timezone;
SELECT old, new FROM entries();

-- What jsonb can't hold becomes text.
CREATE TABLE hard (id integer PRIMARY KEY, j json, p pair, a json[]);
SELECT herald.enable_audit('hard');
INSERT INTO hard VALUES
    (1, '{"a":"\u0000"}', row(1, '', '"\u0000"', NULL), array['1', '"\u0000"']::json[]), (2, '"\ud800"', NULL, NULL), (3, '[1e1000000]', NULL, NULL),
    (4, '"\ude00\ud83d"', NULL, NULL), (5, (repeat('[', 100) || '1e999999' || repeat(']', 100))::json, NULL, NULL), (6, '[1e-200000]', NULL, NULL),
    (7, (repeat('[', 3000) || repeat(']', 3000))::json, NULL, NULL), (8, (repeat('{"a":', 500) || '"\u0000"' || repeat('}', 500))::json, NULL, NULL);
SELECT no, left((new -> 'j')::text, 60) AS j, length((new -> 'j')::text), jsonb_typeof(new -> 'j') AS type, new -> 'p' AS p, new -> 'a' AS a FROM entries();
-- What is too large for one jsonb is only counted; both sides of an UPDATE that leaves it alone.
CREATE TABLE large (id integer PRIMARY KEY, a bytea, b bytea, note text);
ALTER TABLE large ALTER a SET STORAGE external, ALTER b SET STORAGE external;
SELECT herald.enable_audit('large');
INSERT INTO large VALUES (1, convert_to(repeat('x', 90000000), 'UTF8'), convert_to(repeat('y', 90000000), 'UTF8'), 'large');
SELECT id, length(new ->> 'a') AS a, new -> 'b' AS b, new ->> 'note' AS note FROM entries();
SELECT herald.enable_audit('large', 'diff');
UPDATE large SET note = 'small';
DELETE FROM large;
SELECT op, old - 'a' AS old, new, changed FROM entries();
DROP TABLE large;

-- A user's cast runs as whoever writes, never as anybody with more rights.
CREATE ROLE regress_herald_caster;
GRANT USAGE, CREATE ON SCHEMA audit_rows TO regress_herald_caster;
SET ROLE regress_herald_caster;
CREATE TYPE trap AS ENUM ('open', 'shut');
CREATE FUNCTION spring(trap) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    IF $1 = 'shut' THEN
        ALTER ROLE regress_herald_caster SUPERUSER;
    END IF;
    RETURN json_build_object('trap', $1::text, 'as', current_user, 'super', current_setting('is_superuser'));
END $$;
CREATE CAST (trap AS json) WITH FUNCTION spring(trap);
CREATE TABLE traps (id integer PRIMARY KEY, t trap, ts trap[]);
SELECT herald.enable_audit('traps');
INSERT INTO traps VALUES (1, 'open', '{open}');
-- The message is another one from PostgreSQL 16 on.
\set VERBOSITY sqlstate
INSERT INTO traps VALUES (2, 'shut', NULL);
UPDATE traps SET ts = '{shut}';
\set VERBOSITY default
UPDATE traps SET ts = NULL;
SELECT herald_internal.audit_insert();
CREATE TRIGGER mine AFTER INSERT ON traps FOR EACH ROW EXECUTE FUNCTION herald_internal.audit_replica();
INSERT INTO herald_internal.audit_0 SELECT * FROM herald_internal.audit_0;
RESET ROLE;
SELECT op, old, new, changed FROM entries();
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_herald_caster';

-- Keys: changed, swapped in one statement, in several columns.
CREATE TABLE keyed (a integer, "Long name" text, v integer, PRIMARY KEY ("Long name", a) DEFERRABLE);
SELECT herald.enable_audit('keyed', 'diff');
INSERT INTO keyed VALUES (1, 'x', 10), (2, 'x', 20), (3, 'y', 30);
UPDATE keyed SET a = 3 - a WHERE "Long name" = 'x';
UPDATE keyed SET a = a, v = v;
UPDATE keyed SET v = v + 1 WHERE a > 1;
UPDATE keyed SET "Long name" = 'z', v = 0 WHERE a = 3;
UPDATE keyed SET v = NULL WHERE v = 0;
DELETE FROM keyed WHERE a = 3;
SELECT op, id, old_id, old, new, changed FROM entries();
SELECT operation, record_id, old_record_id FROM herald.audit_history('keyed', '{"a": 3, "Long name": "z"}');
SELECT operation, record_id, old_record_id FROM herald.audit_history('keyed', '{"a": 2.0, "Long name": "x"}');

-- keys; a table without a key; excluded and masked columns.
CREATE TABLE short (id uuid PRIMARY KEY, v integer);
CREATE TABLE keyless (v integer, w text);
CREATE TABLE hidden (id integer PRIMARY KEY, card text, email text, birth timestamptz, flag boolean, secret text, plain text);
SELECT herald.enable_audit('short', 'keys');
SELECT herald.enable_audit('keyless');
SELECT herald.enable_audit('hidden', 'diff', exclude => '{secret}', mask => '{card,hash:email,hash:birth,hash:flag}');
INSERT INTO short VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1);
UPDATE short SET v = 2;
DELETE FROM short;
INSERT INTO keyless VALUES (1, 'a'), (1, 'a');
UPDATE keyless SET w = 'b' WHERE ctid = '(0,2)';
DELETE FROM keyless;
SELECT t, op, id, old, new, changed FROM entries();
INSERT INTO hidden VALUES (1, '4111', 'a@b', '2000-01-01 00:00+00', true, 'x', 'p'), (2, NULL, 'a@b', '2000-01-01 01:00+01', false, NULL, 'p'), (3, '1', 'A@b', NULL, true, NULL, NULL);
UPDATE hidden SET card = '4222', secret = 'y' WHERE id = 1;
UPDATE hidden SET secret = 'z';
UPDATE hidden SET email = 'a@b' WHERE id = 3;
SET timezone = 'Asia/Kolkata';
UPDATE hidden SET birth = birth + interval '1 hour' WHERE id = 2;
RESET timezone;
CREATE TEMP TABLE masked AS SELECT * FROM entries();
SELECT no, op, id, old - '{email,birth,flag}'::text[] AS old, new - '{email,birth,flag}'::text[] AS new, changed FROM masked ORDER BY no;
SELECT a.new ->> 'email' ~ '^hmac:[0-9a-f]{32}$' AS form, a.new -> 'email' = b.new -> 'email' AS same_email, a.new -> 'birth' = b.new -> 'birth' AS same_birth,
       b.new -> 'birth' = d.old -> 'birth' AS same_in_other_zone, a.new -> 'flag' <> b.new -> 'flag' AS other_flag, a.new -> 'flag' = c.new -> 'flag' AS same_flag,
       c.new -> 'email' <> a.new -> 'email' AS other_email, c.new -> 'birth' AS no_birth
  FROM masked AS a, masked AS b, masked AS c, masked AS d WHERE a.no = 1 AND b.no = 2 AND c.no = 3 AND d.changed = '{birth}';

-- All the ways in which rows change.
CREATE TABLE item (id integer PRIMARY KEY, v text);
SELECT herald.enable_audit('item', 'diff');
INSERT INTO item VALUES (1, 'a'), (2, 'b') ON CONFLICT (id) DO UPDATE SET v = excluded.v;
INSERT INTO item VALUES (2, 'B'), (3, 'c') ON CONFLICT (id) DO UPDATE SET v = excluded.v;
INSERT INTO item VALUES (3, 'C') ON CONFLICT DO NOTHING;
MERGE INTO item USING (VALUES (1, 'x'), (2, NULL), (4, 'd')) AS s (id, v) ON item.id = s.id
    WHEN MATCHED AND s.v IS NULL THEN DELETE
    WHEN MATCHED THEN UPDATE SET v = s.v
    WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v);
WITH gone AS (DELETE FROM item WHERE id = 4 RETURNING *), changed AS (UPDATE item SET v = 'w' WHERE id = 3 RETURNING *)
INSERT INTO item SELECT id + 10, v FROM gone UNION ALL SELECT id + 10, v FROM changed;
COPY item FROM stdin;
20	copied
21	\N
\.
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM item WHERE id = 20 FOR UPDATE;
MOVE c;
UPDATE item SET v = 'current' WHERE CURRENT OF c;
COMMIT;
PREPARE change(int, text) AS UPDATE item SET v = $2 WHERE id = $1;
EXECUTE change(21, 'prepared');
UPDATE item SET v = v;
DELETE FROM item WHERE false;
TRUNCATE item;
SELECT op, id, old, new FROM entries();

-- Foreign keys, through several levels.
CREATE TABLE parent (id integer PRIMARY KEY);
CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE grandchild (id integer PRIMARY KEY, child integer REFERENCES child ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);
SELECT herald.enable_audit('parent'), herald.enable_audit('child'), herald.enable_audit('grandchild', 'diff');
BEGIN;
INSERT INTO grandchild VALUES (100, 10), (101, 11);
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (10, 1), (11, 1), (12, 2);
COMMIT;
SELECT count(*) FROM entries();
UPDATE parent SET id = id + 5;
DELETE FROM parent WHERE id = 6;
SELECT t, op, id, old_id, old, new FROM entries();
TRUNCATE parent CASCADE;
SELECT t, op FROM entries();

-- Triggers of the user's own, nested; subtransactions that end badly leave nothing.
CREATE TABLE outside (id integer PRIMARY KEY, v integer);
CREATE TABLE inside (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, o integer);
SELECT herald.enable_audit('outside'), herald.enable_audit('inside');
CREATE FUNCTION nest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO inside (o) VALUES (NEW.id);
    IF NEW.v > 0 THEN
        UPDATE outside SET v = v - 1 WHERE id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER a_nest AFTER INSERT OR UPDATE ON outside FOR EACH ROW EXECUTE FUNCTION nest();
INSERT INTO outside VALUES (1, 2), (2, 0);
SELECT t, op, id, old ->> 'v' AS old, new ->> 'v' AS new FROM entries();
DROP TRIGGER a_nest ON outside;
BEGIN;
SAVEPOINT a;
INSERT INTO outside VALUES (3, 3);
ROLLBACK TO a;
INSERT INTO outside VALUES (4, 4);
SAVEPOINT b;
INSERT INTO outside VALUES (5, 5);
RELEASE b;
DO $$ BEGIN INSERT INTO outside VALUES (6, 6); RAISE 'no'; EXCEPTION WHEN raise_exception THEN INSERT INTO outside VALUES (7, 7); END $$;
COMMIT;
SELECT sequence, (record_id ->> 'id')::integer AS id, transaction_id = max(transaction_id) OVER () AS same FROM herald.audit_log WHERE id > (SELECT last_value FROM seen) ORDER BY 1;
SELECT count(*) FROM entries();
SELECT count(*) FROM herald.audit_log WHERE session_user_name IS NULL;

-- Context: as it is at each statement.
CREATE ROLE regress_herald_writer;
GRANT USAGE ON SCHEMA audit_rows TO regress_herald_writer;
GRANT ALL ON item TO regress_herald_writer;
SET herald.audit_context = 'app.user_id, request.jwt.claims, app.never, app.user_id';
BEGIN;
SET LOCAL application_name = 'first';
INSERT INTO item VALUES (1, 'x');
SET LOCAL app.user_id = '42';
SET LOCAL request.jwt.claims = '{"sub": "anna"}';
INSERT INTO item VALUES (2, 'x');
INSERT INTO item VALUES (3, 'x');
SAVEPOINT a;
SET LOCAL ROLE regress_herald_writer;
INSERT INTO item VALUES (4, 'x');
ROLLBACK TO a;
INSERT INTO item VALUES (5, 'x');
SET LOCAL ROLE regress_herald_writer;
SET LOCAL application_name = 'second';
INSERT INTO item VALUES (6, 'x');
COMMIT;
INSERT INTO item VALUES (7, 'x');
SET herald.audit_statement = on;
INSERT INTO item VALUES (8, 'x') /* said */;
RESET herald.audit_statement;
SELECT record_id ->> 'id' AS id, nullif(application_name, current_setting('application_name')) AS application, context, nullif(current_user_name::text, session_user) AS "user", statement
  FROM herald.audit_log WHERE id > (SELECT last_value FROM seen) AND table_name = 'item' ORDER BY audit_log.id;
SELECT count(*) FROM entries();
RESET herald.audit_context;

-- Partitions: the table that the statement names, once.
CREATE TABLE measure (id integer, region text, v integer, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE measure_east PARTITION OF measure FOR VALUES IN ('east');
CREATE TABLE measure_west (v integer, gone integer, region text NOT NULL, id integer NOT NULL, PRIMARY KEY (id, region));
ALTER TABLE measure_west DROP COLUMN gone;
ALTER TABLE measure ATTACH PARTITION measure_west FOR VALUES IN ('west');
SELECT herald.enable_audit('measure', 'diff', mask => '{v}');
INSERT INTO measure VALUES (1, 'east', 10), (2, 'west', 20);
INSERT INTO measure_west (id, region, v) VALUES (3, 'west', 30);
UPDATE measure SET v = v + 1, region = 'west' WHERE id < 3;
UPDATE measure_west SET v = 0 WHERE id = 3;
DELETE FROM measure WHERE id = 1;
DELETE FROM measure_west WHERE id = 2;
SELECT t, op, id, old_id, old, new, changed FROM entries();
CREATE TABLE measure_north PARTITION OF measure FOR VALUES IN ('north');
INSERT INTO measure_north VALUES (4, 'north', 1);
INSERT INTO measure VALUES (5, 'north', 1);
TRUNCATE measure_north;
TRUNCATE measure;
SELECT t, op, id, new FROM entries();
DO $$ BEGIN TRUNCATE measure; TRUNCATE measure_north; END $$;
SELECT t, op FROM entries();
-- A BEFORE trigger of a partition can make a moved row vanish: what is left can't be paired.
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON measure_west FOR EACH ROW EXECUTE FUNCTION swallow();
INSERT INTO measure VALUES (1, 'east', 1), (2, 'east', 2), (3, 'north', 3);
UPDATE measure SET region = CASE id WHEN 1 THEN 'west' ELSE region END, v = 7;
SELECT t, op, id, old, new FROM entries();
-- As replica, where row triggers do it: once, too.
SET session_replication_role = replica;
INSERT INTO measure VALUES (8, 'east', 1), (9, 'north', 1);
UPDATE measure SET v = 3 WHERE id = 8;
DELETE FROM measure WHERE id > 7;
INSERT INTO item VALUES (80, 'replica');
UPDATE item SET id = 81 WHERE id = 80;
TRUNCATE item;
RESET session_replication_role;
SELECT t, op, id, old_id, old, new FROM entries();

-- TOAST: what is unchanged is not read, what has the same value elsewhere is no change.
CREATE TABLE toasted (id integer PRIMARY KEY, v integer, big text);
ALTER TABLE toasted ALTER big SET STORAGE external;
SELECT herald.enable_audit('toasted', 'diff');
INSERT INTO toasted VALUES (1, 1, repeat('abc', 10000));
UPDATE toasted SET v = 2;
UPDATE toasted SET big = repeat('abc', 10000);
UPDATE toasted SET big = repeat('abc', 10000) || 'd';
SELECT op, length(old ->> 'big') AS old, length(new ->> 'big') AS new, changed FROM entries();
SELECT oid AS toasted FROM pg_class WHERE oid = (SELECT reltoastrelid FROM pg_class WHERE oid = 'toasted'::regclass) \gset
BEGIN;
SELECT pg_stat_get_xact_blocks_fetched(:toasted) AS before \gset
UPDATE toasted SET v = 3;
SELECT pg_stat_get_xact_blocks_fetched(:toasted) - :before AS blocks_read;
UPDATE toasted SET big = 'short';
SELECT pg_stat_get_xact_blocks_fetched(:toasted) > :before AS read;
COMMIT;
SELECT op, old - 'big' AS old, new FROM entries();

-- Hundreds of columns, added, dropped and renamed between statements of a session.
DO $$ BEGIN
    EXECUTE (SELECT format('CREATE TABLE wide (id integer PRIMARY KEY, %s)', string_agg(format('c%s integer DEFAULT %s', g, g), ', ')) FROM generate_series(1, 900) AS g);
END $$;
SELECT herald.enable_audit('wide');
INSERT INTO wide VALUES (1);
ALTER TABLE wide DROP COLUMN c1;
ALTER TABLE wide RENAME c2 TO renamed;
ALTER TABLE wide ADD later text DEFAULT 'late';
UPDATE wide SET c900 = 0;
SELECT e.op, e.new = to_jsonb(w) AS whole, e.new ->> 'later' AS later, e.new ->> 'renamed' AS renamed, e.new ? 'c1' AS has_dropped, e.changed FROM entries() AS e, wide AS w;

-- A large statement, in bounded memory.
CREATE TABLE many (id integer PRIMARY KEY, v integer);
SELECT herald.enable_audit('many', 'diff');
INSERT INTO many SELECT g, 0 FROM generate_series(1, 20000) AS g;
UPDATE many SET v = id WHERE id % 2 = 0;
UPDATE many SET id = -id;
DELETE FROM many;
SELECT op, count(*), count(old_id) AS moved, sum((new ->> 'v')::integer) AS new, sum((old ->> 'v')::integer) AS old, min(cardinality(changed)) AS changed FROM entries() GROUP BY op ORDER BY op;
SELECT operation, record_id, old_record_id, old, new FROM herald.audit_history('many', '{"id": -10}') ORDER BY id;

SELECT count(*), count(DISTINCT id) = count(*) AS distinct_ids FROM herald.audit_log WHERE id < 0 OR id IS NULL;
DROP SCHEMA audit_rows CASCADE;
SELECT herald.purge_audit_log() > 0 AS purged;
DROP ROLE regress_herald_caster;
DROP ROLE regress_herald_writer;
