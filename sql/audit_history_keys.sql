-- Keys that are equal are found, however they are written.
SET client_min_messages = warning;
CREATE TABLE numbered (id numeric PRIMARY KEY);
SELECT herald.enable_audit('numbered');
INSERT INTO numbered VALUES (-5.0), (-0.00), (7), (-98765432109876543210), (12345678901234567890123.10), (1e30), (0.5000), (-0.001);
UPDATE numbered SET id = 10000000000.00 WHERE id = 7;
UPDATE numbered SET id = -10000000000.0 WHERE id = 10000000000;
DELETE FROM numbered WHERE id <> -10000000000;
SELECT given, (SELECT string_agg(operation, ' ' ORDER BY id) FROM herald.audit_history('numbered', jsonb_build_object('id', given)))
  FROM unnest('{-5,-5.00,0,-0.0,-98765432109876543210.000,12345678901234567890123.1,1000000000000000000000000000000.0,0.5,-0.00100,-10000000000,-10000000000.00,10000000000}'::numeric[]) AS given;
-- Many zeros after the point are another form of storage.
CREATE TABLE exact (id numeric(90, 70) PRIMARY KEY);
SELECT herald.enable_audit('exact');
INSERT INTO exact VALUES (100), (-7), (0), (2.5), (1e19), (0.1), (12345678901234567890);
SELECT given, (SELECT count(*) FROM herald.audit_history('exact', jsonb_build_object('id', given))) AS found
  FROM unnest('{100,100.00,-7,-7.0000,0,0.0,2.5,2.50,10000000000000000000,0.1,12345678901234567890,12345678901234567891,101}'::numeric[]) AS given;
CREATE TABLE wide (id bigint, part integer, PRIMARY KEY (id, part));
SELECT herald.enable_audit('wide');
INSERT INTO wide VALUES (-9223372036854775808, -1), (9223372036854775807, -2147483648), (-1, 0), (0, -1);
UPDATE wide SET part = ~part;
SELECT w.id, w.part, (SELECT string_agg(concat_ws(' ', operation, old_record_id), ', ' ORDER BY h.id) FROM herald.audit_history('wide', jsonb_build_object('id', w.id, 'part', w.part)) AS h)
  FROM wide AS w ORDER BY w.id, w.part;
-- What names no key is no question that "nothing" would answer. Values are read as the columns' types read them.
CREATE FUNCTION history(target regclass, record_id jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    RETURN (SELECT string_agg(operation, ' ' ORDER BY id) FROM herald.audit_history(target, record_id));
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' / ', SQLSTATE, SQLERRM, nullif(detail, ''));
END $$;
CREATE TABLE asked (id integer PRIMARY KEY, amount numeric);
SELECT herald.enable_audit('asked');
INSERT INTO asked VALUES (1, 5);
SELECT given, history('asked', given)
  FROM unnest('{"{\"id\": 1}","{\"id\": \"1\"}","{\"id\": \" 1\"}","{\"id\": 2}","{\"ID\": 1}","{}","1","[1]","null","{\"id\": 1, \"amount\": 5}","{\"id\": \"x\"}","{\"id\": null}"}'::jsonb[]) AS given;
CREATE TABLE typed (a char(4), b uuid, c date, PRIMARY KEY (a, b, c));
SELECT herald.enable_audit('typed');
INSERT INTO typed VALUES ('ab', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2020-01-02');
SELECT history('typed', '{"a": "ab", "b": "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "c": "20200102"}') AS other_forms,
       history('typed', '{"a": "ab", "c": "2020-01-02"}') AS a_part;
CREATE TABLE keyless (n integer);
SELECT herald.enable_audit('keyless');
SELECT history('keyless', '{"n": 1}');
-- Another type, then another name, then another key: one history.
ALTER TABLE asked ALTER id TYPE text;
UPDATE asked SET amount = 6;
ALTER TABLE asked RENAME id TO number;
DELETE FROM asked;
SELECT given, history('asked', given) FROM unnest('{"{\"id\": 1}","{\"number\": \"1\"}","{\"numbers\": 1}"}'::jsonb[]) AS given;
DO $$ BEGIN PERFORM herald.disable_audit(t) FROM unnest(ARRAY['asked', 'typed', 'keyless']::regclass[]) AS t; END $$;
DROP TABLE asked, typed, keyless;
DROP FUNCTION history;
DO $$ BEGIN PERFORM herald.disable_audit(t) FROM unnest(ARRAY['numbered', 'exact', 'wide']::regclass[]) AS t; END $$;
DROP TABLE numbered, exact, wide;
