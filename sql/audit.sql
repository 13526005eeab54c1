-- Switching auditing on and off, and what becomes of it when tables change. What is recorded of rows is
-- elsewhere.
\pset format unaligned
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE ROLE regress_herald_owner;
CREATE ROLE regress_herald_user;
CREATE ROLE regress_herald_auditor;
CREATE SCHEMA audited;
SET search_path = audited;
GRANT ALL ON SCHEMA audited TO regress_herald_owner, regress_herald_user, regress_herald_auditor;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        BEGIN
            EXECUTE command;
            RETURN 'ok';
        EXCEPTION
            WHEN deadlock_detected THEN NULL;  -- a DROP of everything, with a process that reads it
            WHEN OTHERS THEN RETURN concat(SQLSTATE, ': ', SQLERRM);
        END;
    END LOOP;
END $$;
CREATE VIEW triggers AS
SELECT t.tgrelid::regclass AS relation, t.tgname AS trigger, t.tgenabled AS fires
  FROM pg_trigger AS t WHERE t.tgname LIKE 'herald_audit_%';
CREATE VIEW events AS
SELECT operation, concat(schema_name, '.', table_name) AS "table", old, new FROM herald.audit_log
 WHERE operation NOT IN ('insert', 'update', 'delete', 'truncate') ORDER BY changed_at, id;
GRANT SELECT ON triggers, events TO PUBLIC;

-- On, other options, off.
CREATE TABLE orders (id integer PRIMARY KEY, customer text, card text, email text, "hash:email" text, internal text);
SELECT herald.enable_audit('orders', exclude => '{internal}', mask => '{card,hash:email,hash:customer}');
SELECT * FROM herald.audited_tables;
SELECT * FROM triggers ORDER BY trigger COLLATE "C";
SELECT herald.enable_audit('orders', 'diff', operations => '{insert,truncate,insert}');
SELECT * FROM herald.audited_tables;
SELECT * FROM triggers ORDER BY trigger COLLATE "C";
SELECT herald.disable_audit('orders');
SELECT count(*) FROM herald.audited_tables;
SELECT count(*) FROM triggers;
SELECT herald.enable_audit('orders');
SELECT * FROM events;
SELECT count(*) AS targets, count(DISTINCT salt) AS salts, min(length(salt)) AS bytes FROM herald_internal.audit_target;

-- What can't be.
SET client_min_messages = notice;
CREATE TABLE keyless (id integer);
SELECT herald.enable_audit('keyless');
SET client_min_messages = warning;
SELECT herald.disable_audit('keyless');
CREATE VIEW seen AS SELECT 1 AS id;
CREATE TEMPORARY TABLE passing (id integer PRIMARY KEY);
SELECT call, try('SELECT ' || CASE call WHEN 'audit_insert()' THEN 'herald_internal.' ELSE 'herald.' END || call) FROM unnest(ARRAY[
    $$enable_audit(NULL)$$, $$enable_audit('nowhere')$$, $$enable_audit('seen')$$, $$enable_audit('pg_class')$$,
    $$enable_audit('herald_internal.audit_0')$$, $$enable_audit('passing')$$, $$enable_audit('orders_pkey')$$,
    $$enable_audit('orders', 'some')$$, $$enable_audit('orders', NULL)$$, $$enable_audit('orders', exclude => '{nothing}')$$,
    $$enable_audit('orders', exclude => '{ctid}')$$, $$enable_audit('orders', exclude => '{NULL}')$$,
    $$enable_audit('orders', exclude => '{id}')$$, $$enable_audit('orders', mask => '{hash:id}')$$,
    $$enable_audit('orders', exclude => '{card}', mask => '{card}')$$, $$enable_audit('orders', mask => '{card,hash:card}')$$,
    $$enable_audit('orders', operations => '{}')$$, $$enable_audit('orders', operations => '{select}')$$,
    $$enable_audit('keyless', 'diff')$$, $$enable_audit('keyless', 'keys')$$, $$disable_audit('keyless')$$, $$disable_audit(NULL)$$,
    $$audit_insert()$$]) AS call;
SELECT * FROM herald.audited_tables;

-- Partitions: those that are there, come, go and are partitioned themselves.
CREATE TABLE parted (id integer, day date, card text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
SELECT herald.enable_audit('parted', 'diff', mask => '{card}');
CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM ('2021-01-01') TO ('2022-01-01') PARTITION BY LIST (id);
CREATE TABLE part_2_rest PARTITION OF part_2 DEFAULT;
CREATE TABLE part_3 (gone integer, card text, day date NOT NULL, id integer NOT NULL) PARTITION BY LIST (id);
CREATE TABLE part_3_rest PARTITION OF part_3 DEFAULT;
ALTER TABLE part_3 DROP gone;
ALTER TABLE parted ATTACH PARTITION part_3 FOR VALUES FROM ('2022-01-01') TO ('2023-01-01');
SELECT relation, count(*), string_agg(fires::text, '' ORDER BY trigger COLLATE "C") FROM triggers
 WHERE relation::text LIKE 'part%' GROUP BY relation ORDER BY relation::text;
SELECT try($$SELECT herald.enable_audit('part_1')$$);
ALTER TABLE parted DETACH PARTITION part_3;
ALTER TABLE parted DETACH PARTITION part_1;
SELECT relation, count(*) FROM triggers GROUP BY 1 ORDER BY relation::text;
SELECT herald.enable_audit('part_1');
SELECT try($$ALTER TABLE parted ATTACH PARTITION part_1 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')$$);
SELECT herald.disable_audit('part_1');
ALTER TABLE parted ATTACH PARTITION part_1 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
DROP TABLE part_2;
SELECT table_name, partitions, ok FROM herald.audited_tables ORDER BY table_name;
SELECT herald.disable_audit('parted');
SELECT relation, count(*) FROM triggers GROUP BY 1 ORDER BY relation::text;
SELECT * FROM events WHERE "table" LIKE '%part%';
-- A partition alone would miss statements that name its table.
SELECT try($$SELECT herald.enable_audit('part_1')$$);
ALTER TABLE parted DETACH PARTITION part_1;
SELECT herald.enable_audit('part_1');
SELECT try($$ALTER TABLE parted ATTACH PARTITION part_1 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')$$);
SELECT herald.disable_audit('part_1');
-- Inheritance.
CREATE TABLE parent (id integer PRIMARY KEY);
CREATE TABLE child (more text) INHERITS (parent);
SELECT try($$SELECT herald.enable_audit('child')$$);
SELECT herald.enable_audit('parent');
CREATE TABLE child_2 () INHERITS (child);
CREATE TABLE child_3 (id integer NOT NULL);
ALTER TABLE child_3 INHERIT parent;
SELECT partitions, ok, problem FROM herald.audited_tables WHERE table_name = 'parent';
ALTER TABLE child_3 NO INHERIT parent;
SELECT relation, count(*) FROM triggers GROUP BY 1 ORDER BY relation::text;
DROP TABLE parent CASCADE;
-- Foreign tables among partitions can't be seen.
CREATE FOREIGN DATA WRAPPER regress_herald;
CREATE SERVER regress_herald FOREIGN DATA WRAPPER regress_herald;
CREATE TABLE far (id integer) PARTITION BY LIST (id);
SELECT herald.enable_audit('far');
SELECT try($$CREATE FOREIGN TABLE far_1 PARTITION OF far DEFAULT SERVER regress_herald$$);
SELECT herald.disable_audit('far');
CREATE FOREIGN TABLE far_1 PARTITION OF far DEFAULT SERVER regress_herald;
SELECT try($$SELECT herald.enable_audit('far')$$);
DROP FOREIGN DATA WRAPPER regress_herald CASCADE;
DROP TABLE parted, part_1, part_3, far;

-- Names: a column that is masked stays so, a key is known by all its names.
SELECT herald.enable_audit('orders', exclude => '{internal}', mask => '{card,hash:customer}');
ALTER TABLE orders RENAME card TO customer_2;
ALTER TABLE orders RENAME customer TO card;
ALTER TABLE orders RENAME internal TO external;
ALTER TABLE orders RENAME id TO number;
ALTER TABLE orders RENAME TO invoices;
ALTER SCHEMA audited RENAME TO regress_audited;
SELECT * FROM herald.audited_tables;
CREATE SCHEMA audited;
ALTER TABLE regress_audited.invoices SET SCHEMA audited;
SELECT * FROM herald.audited_tables;
SELECT k.version, k.names, k.renamed FROM herald_internal.audit_key AS k JOIN herald_internal.audit_target AS t ON t.id = k.target_id WHERE t.table_name = 'invoices' ORDER BY k.version;
-- A column that comes back under its name is the one that was meant.
ALTER TABLE audited.invoices DROP external, ADD external integer;
SELECT exclude, problem FROM herald.audited_tables;
SELECT excluded_numbers FROM herald_internal.audit_target WHERE table_name = 'invoices';
-- Another key.
ALTER TABLE audited.invoices DROP CONSTRAINT orders_pkey;
SELECT ok, problem FROM herald.audited_tables;
SELECT herald.enable_audit('audited.invoices', 'full', mask => '{card}');
ALTER TABLE audited.invoices ADD PRIMARY KEY (card);
SELECT ok, problem FROM herald.audited_tables;
ALTER TABLE audited.invoices DROP CONSTRAINT invoices_pkey, ADD PRIMARY KEY (number, email);
SELECT ok, problem FROM herald.audited_tables;
SELECT k.version, k.names, k.renamed FROM herald_internal.audit_key AS k JOIN herald_internal.audit_target AS t ON t.id = k.target_id WHERE t.table_name = 'invoices' ORDER BY k.version;
ALTER TABLE audited.invoices SET SCHEMA regress_audited;
DROP SCHEMA audited;
ALTER SCHEMA regress_audited RENAME TO audited;
ALTER TABLE invoices RENAME TO orders;

-- Triggers that are dropped or disabled are events, and seen.
SELECT count(*) AS before FROM events \gset
ALTER TABLE orders DISABLE TRIGGER herald_audit_delete;
SELECT ok, problem FROM herald.audited_tables;
SELECT ok, value FROM herald.status() WHERE name = 'audit';
ALTER TABLE orders ENABLE TRIGGER herald_audit_delete;
DROP TRIGGER herald_audit_update ON orders;
SELECT ok, problem FROM herald.audited_tables;
ALTER TABLE orders ENABLE ALWAYS TRIGGER herald_audit_insert;
SELECT ok, problem FROM herald.audited_tables;
SELECT herald.enable_audit('orders');
SELECT ok, problem FROM herald.audited_tables;
SELECT ok, value FROM herald.status() WHERE name = 'audit';
SELECT try('ALTER TRIGGER herald_audit_insert ON orders RENAME TO other');
-- Rolled back, nothing has happened.
BEGIN;
DROP TRIGGER herald_audit_insert ON orders;
ROLLBACK;
DO $$
BEGIN
    DROP TABLE audited.orders;
    RAISE EXCEPTION 'no';
EXCEPTION WHEN raise_exception THEN
    CREATE TABLE audited.other ();
END $$;
SELECT ok, problem FROM herald.audited_tables;
SELECT * FROM events OFFSET :before;

-- Who may do what.
ALTER TABLE orders OWNER TO regress_herald_owner;
GRANT ALL ON orders TO regress_herald_user;
GRANT SELECT ON herald.audit_log TO regress_herald_auditor;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SET ROLE regress_herald_user;
SELECT command, left(try(command), 5) AS code FROM unnest(ARRAY[
    $$SELECT herald.enable_audit('orders', operations => '{insert}')$$, $$SELECT herald.disable_audit('orders')$$,
    $$ALTER TABLE orders DISABLE TRIGGER ALL$$, $$DROP TRIGGER herald_audit_insert ON orders$$,
    $$CREATE OR REPLACE TRIGGER herald_audit_insert AFTER INSERT ON orders EXECUTE FUNCTION nothing()$$,
    $$CREATE TRIGGER mine AFTER INSERT ON orders EXECUTE FUNCTION herald_internal.audit_insert()$$,
    $$SET session_replication_role = replica$$, $$SELECT * FROM herald.audit_log$$, $$SELECT * FROM herald_internal.audit_0$$,
    $$SELECT salt FROM herald_internal.audit_target$$, $$SELECT herald.purge_audit_log()$$, $$INSERT INTO herald_internal.audit_target DEFAULT VALUES$$,
    $$SELECT herald.audit_history('orders', '{"number": 1}')$$, $$SET herald.audit_context = ''$$, $$SET herald.audit_statement = on$$]) AS command;
SELECT count(*) FROM herald.audited_tables;
SET ROLE regress_herald_auditor;
SELECT count(*) > 0 AS reads FROM herald.audit_log;
SELECT table_name, ok FROM herald.audited_tables;
SELECT count(*) FROM herald.audit_history('orders', '{"id": 1}');
SELECT left(try($$DELETE FROM herald.audit_log$$), 5) AS code;
SELECT left(try($$SELECT herald.disable_audit('orders')$$), 5) AS code;
SET ROLE regress_herald_owner;
SELECT table_name, ok FROM herald.audited_tables;
SELECT count(*) FROM herald.audit_history('orders', '{"id": 1}');
SELECT herald.disable_audit('orders');
SELECT herald.enable_audit('orders');
CREATE TABLE mine (id integer PRIMARY KEY) PARTITION BY RANGE (id);
SELECT herald.enable_audit('mine');
-- Also where only some may call the extension's functions.
RESET ROLE;
REVOKE USAGE ON SCHEMA herald FROM PUBLIC;
SET ROLE regress_herald_owner;
CREATE TABLE mine_1 PARTITION OF mine DEFAULT;
RESET ROLE;
GRANT USAGE ON SCHEMA herald TO PUBLIC;
SET ROLE regress_herald_owner;
SELECT table_name, partitions, ok FROM herald.audited_tables ORDER BY 1;
RESET ROLE;
ALTER TABLE mine_1 OWNER TO regress_herald_user;
SET ROLE regress_herald_owner;
SELECT left(try($$SELECT herald.disable_audit('mine')$$), 5) AS code;
RESET ROLE;
SELECT table_name, partitions, ok FROM herald.audited_tables ORDER BY 1;
SELECT session_user_name = session_user AS session, current_user_name FROM herald.audit_log WHERE operation = 'enable_audit' AND table_name = 'mine';

-- The trail can't be changed, nor dropped with the extension.
SELECT try(format('%s herald_internal.%s%s%s %s', command, kind, '_', 3, rest))
  FROM (VALUES ('DELETE FROM', ''), ('TRUNCATE', ''), ('UPDATE', 'SET id = 0')) AS c (command, rest), unnest(ARRAY['audit', 'audit_context']) AS kind;
SET session_replication_role = replica;
SELECT try('TRUNCATE herald_internal.audit_5');
RESET session_replication_role;
-- pg_write_all_data is a right to write anything, but not this.
CREATE ROLE regress_audit_writer;
GRANT pg_write_all_data TO regress_audit_writer;
SET ROLE regress_audit_writer;
SELECT try(command) FROM unnest(ARRAY['INSERT INTO herald_internal.audit_0 DEFAULT VALUES', 'INSERT INTO herald_internal.audit_context_0 DEFAULT VALUES',
    $$UPDATE herald_internal.audit_target SET operations = '{}'$$, 'DELETE FROM herald_internal.audit_key', 'DELETE FROM herald_internal.change_feed_store']) AS command;
RESET ROLE;
DROP ROLE regress_audit_writer;
SELECT try('DROP EXTENSION pg_herald CASCADE');
SELECT try('DROP SCHEMA herald CASCADE');
SELECT try('DROP TABLE herald_internal.audit_0');
SELECT try('ALTER EXTENSION pg_herald DROP TABLE herald_internal.audit_0; DROP TABLE herald_internal.audit_0 CASCADE') LIKE '%would be lost%' OR
       try('ALTER EXTENSION pg_herald DROP TABLE herald_internal.audit_1; DROP TABLE herald_internal.audit_1 CASCADE') LIKE '%would be lost%' AS refused;
SELECT count(*) AS entries FROM herald.audit_log \gset
SELECT herald.purge_audit_log(now() - interval '1 day') AS old;
SELECT herald.purge_audit_log('infinity') = :entries + 1 AS all;
SELECT operation, schema_name, table_name, old - 'before' AS old FROM herald.audit_log;
SELECT herald.purge_audit_log();
SELECT count(*) FROM herald.audit_log;
SELECT count(*) AS targets, count(*) FILTER (WHERE enabled) AS enabled FROM herald_internal.audit_target;
BEGIN;
SELECT try('DROP EXTENSION pg_herald CASCADE');
SELECT count(*) FROM triggers;
ROLLBACK;

-- A table that goes.
DROP TABLE orders, mine;
SELECT * FROM events;
SELECT count(*) FROM herald.audited_tables;
SELECT herald.purge_audit_log();
SET client_min_messages = warning;
DROP SCHEMA audited CASCADE;
REVOKE SELECT ON herald.audit_log FROM regress_herald_auditor;
DROP ROLE regress_herald_owner, regress_herald_user, regress_herald_auditor;
