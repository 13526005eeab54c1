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
DO $$ BEGIN PERFORM herald.disable_audit(t) FROM unnest(ARRAY['numbered', 'exact', 'wide']::regclass[]) AS t; END $$;
DROP TABLE numbered, exact, wide;
