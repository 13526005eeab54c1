-- What a session's settings and a database administrator's indexes must not do to the trail.
CREATE TABLE measure (id int PRIMARY KEY, f float8, p point, r daterange, i interval[], b bytea);
SELECT herald.enable_audit('measure', mask => '{hash:p}');
-- Values are shown in one way, whoever writes.
SET extra_float_digits = -15;
SET DateStyle = 'German, DMY';
SET IntervalStyle = 'iso_8601';
SET bytea_output = 'escape';
INSERT INTO measure VALUES (1, 123456.789, '(123456.789,0)', '[2026-02-01,2026-03-04)', '{1 day 2 hours}', '\x00ff');
UPDATE measure SET f = 123456.788, p = '(123456.788,0)', r = '[2026-02-01,2026-03-05)';
SELECT extra_float_digits, date_style, interval_style, bytea_output
  FROM (SELECT current_setting('extra_float_digits') AS extra_float_digits, current_setting('DateStyle') AS date_style,
               current_setting('IntervalStyle') AS interval_style, current_setting('bytea_output') AS bytea_output) AS unchanged;
RESET extra_float_digits;
RESET DateStyle;
RESET IntervalStyle;
RESET bytea_output;
UPDATE measure SET p = '(123456.789,0)', b = NULL;
SELECT operation, old - 'p' AS old, new - 'p' AS new, changed FROM herald.audit_log WHERE table_name = 'measure' AND record_id IS NOT NULL ORDER BY id;
-- Equal values have equal hashes, whatever the settings were.
SELECT count(*), count(DISTINCT new -> 'p') AS different FROM herald.audit_log WHERE table_name = 'measure' AND new ? 'p';

-- Indexes of somebody's own, as a REINDEX CONCURRENTLY has them, too, are kept.
DO $$
BEGIN
    FOR i IN 0 .. 7 LOOP
        EXECUTE format('CREATE INDEX own_time_%s ON herald_internal.audit_%s (changed_at)', i, i);
        EXECUTE format('CREATE INDEX own_name_%s ON herald_internal.audit_%s (upper(table_name), sequence) WHERE operation = ''I''', i, i);
        EXECUTE format('CREATE INDEX own_new_%s ON herald_internal.audit_%s USING gin (new)', i, i);
        EXECUTE format('CREATE INDEX own_user_%s ON herald_internal.audit_context_%s (current_user_name)', i, i);
    END LOOP;
END $$;
INSERT INTO measure SELECT g, g FROM generate_series(2, 1000) AS g;
INSERT INTO measure VALUES (1001, 1);
SET application_name = 'another';
DELETE FROM measure WHERE id > 1;
RESET application_name;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
CREATE TABLE found (which text, by_index bigint, by_scan bigint);
DO $$
DECLARE
    condition text;
    other text;
    counts bigint[];
BEGIN
    FOR condition, other IN VALUES ('upper(table_name) = ''MEASURE'' AND operation = ''I''', 'audit_%s'), ('changed_at > ''2000-01-01''', 'audit_%s'),
        ('new @> ''{"id": 77}''', 'audit_%s'), ('current_user_name = current_user', 'audit_context_%s')
    LOOP
        counts := '{0,0}';
        FOR i IN 0 .. 7 LOOP
            DECLARE
                n bigint;
            BEGIN
                SET LOCAL enable_bitmapscan = on;
                EXECUTE 'SELECT count(*) FROM herald_internal.' || format(other, i) || ' WHERE ' || condition INTO n;
                counts[1] := counts[1] + n;
                SET LOCAL enable_seqscan = on;
                SET LOCAL enable_indexscan = off;
                SET LOCAL enable_indexonlyscan = off;
                SET LOCAL enable_bitmapscan = off;
                EXECUTE 'SELECT count(*) FROM herald_internal.' || format(other, i) || ' WHERE ' || condition INTO n;
                counts[2] := counts[2] + n;
                SET LOCAL enable_indexscan = on;
                SET LOCAL enable_indexonlyscan = on;
                SET LOCAL enable_seqscan = off;
            END;
        END LOOP;
        INSERT INTO found VALUES (condition, counts[1], counts[2]);
    END LOOP;
END $$;
SELECT which, by_index = by_scan AS same, by_index > 0 AS found FROM found ORDER BY which;
RESET enable_seqscan;
RESET enable_bitmapscan;
DO $$
BEGIN
    FOR i IN 0 .. 7 LOOP
        EXECUTE format('DROP INDEX herald_internal.own_time_%s, herald_internal.own_name_%s, herald_internal.own_new_%s, herald_internal.own_user_%s', i, i, i, i);
    END LOOP;
END $$;
INSERT INTO measure VALUES (2000);
SELECT operation, new -> 'id' AS id FROM herald.audit_history('measure', '{"id": 2000}');
-- Loaders switch all triggers off and on again, which changes when they fire. No change is recorded twice for that.
ALTER TABLE measure DISABLE TRIGGER ALL;
ALTER TABLE measure ENABLE TRIGGER ALL;
INSERT INTO measure VALUES (2001);
SELECT operation, new -> 'id' AS id FROM herald.audit_history('measure', '{"id": 2001}');
SELECT ok, problem FROM herald.audited_tables;
-- Who asked for keys gets no values when the key is gone.
SELECT herald.enable_audit('measure', record => 'keys');
ALTER TABLE measure DROP CONSTRAINT measure_pkey;
INSERT INTO measure VALUES (3000, 3);
SELECT operation, record_id, old, new FROM herald.audit_log WHERE table_name = 'measure' ORDER BY id DESC LIMIT 1;
SELECT table_name, ok, problem FROM herald.audited_tables;
-- Where all tables are published, too, part of the trail can be deleted.
SET client_min_messages = error;
CREATE PUBLICATION everything FOR ALL TABLES;
RESET client_min_messages;
SELECT herald.purge_audit_log(before => now()) > 0 AS purged;
DROP PUBLICATION everything;
SELECT herald.disable_audit('measure');
SELECT herald.purge_audit_log() > 0 AS purged;
DROP TABLE measure, found;
