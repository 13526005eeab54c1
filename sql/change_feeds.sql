-- Change feeds: what is published for which changes, and what is refused. Channels here are durable, so that the log
-- shows what was published; what listeners hear is in test/t/change_feeds.pl.
CREATE ROLE feed_owner;
CREATE ROLE feed_other;
CREATE SCHEMA feed AUTHORIZATION feed_owner;
GRANT USAGE ON SCHEMA feed TO feed_other;
SET ROLE feed_owner;
SET search_path = feed;
CREATE TABLE orders (id integer PRIMARY KEY, status text, total numeric(8,2), note text);
CREATE TABLE lines (order_id integer REFERENCES orders ON DELETE CASCADE, line integer, PRIMARY KEY (order_id, line));
RESET ROLE;
CREATE FUNCTION feed.published() RETURNS TABLE (channel text, payload jsonb) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT c.channel, l.payload FROM herald_internal.log_0 AS l JOIN herald_internal.channel_store AS c ON c.id = l.channel_id
                  WHERE c.channel LIKE 'feed %' ORDER BY l.id;
    DELETE FROM herald_internal.log_0;
END $$;
SELECT herald.create_channel('feed ' || c) FROM unnest('{key,diff,row,text}'::text[]) AS c;
SELECT herald.alter_channel('feed ' || c, owner => 'feed_owner') FROM unnest('{key,diff,row,text}'::text[]) AS c;
DELETE FROM herald_internal.log_0;

SET ROLE feed_owner;
SELECT herald.enable_change_feed('orders', 'feed key');
SELECT herald.enable_change_feed('orders', 'feed diff', 'diff', columns => '{status,total}');
SELECT herald.enable_change_feed('orders', 'feed row', message => 'row', operations => '{insert,delete,truncate}');
SELECT herald.enable_change_feed('orders', 'feed text', 'order:{id}:{status}:{op}', '{status}');
SELECT schema_name, table_name, channel, message, columns, operations, owner, ok, problem FROM herald.change_feeds;
RESET ROLE;

-- one message for each row, and only where something that is watched has changed
INSERT INTO orders VALUES (1, 'new', 10.5, 'a'), (2, 'new', 3, NULL);
SELECT * FROM feed.published();
UPDATE orders SET status = 'paid' WHERE id = 1;
SELECT * FROM feed.published();
UPDATE orders SET note = 'b';
SELECT * FROM feed.published();
UPDATE orders SET status = status, total = total;
SELECT * FROM feed.published();

-- of a transaction only what became of the row
BEGIN;
INSERT INTO orders VALUES (3, 'new', 1, 'x'), (4, 'new', 1, 'x');
UPDATE orders SET total = 2 WHERE id = 3;
UPDATE orders SET status = 'twice', total = 4 WHERE id = 1;
UPDATE orders SET total = 10.5 WHERE id = 1;
DELETE FROM orders WHERE id = 4;
DELETE FROM orders WHERE id = 2;
COMMIT;
SELECT * FROM feed.published();
BEGIN;
UPDATE orders SET status = 'sent' WHERE id = 3;
UPDATE orders SET status = 'new' WHERE id = 3;
DELETE FROM orders WHERE id = 1;
INSERT INTO orders VALUES (1, 'twice', 10.5, 'b');
COMMIT;
SELECT * FROM feed.published();
BEGIN;
UPDATE orders SET status = 'lost';
ROLLBACK;
SELECT * FROM feed.published();
-- a key that another row of the statement leaves is not a new one
CREATE TABLE feed.places (id integer PRIMARY KEY DEFERRABLE, who text);
ALTER TABLE feed.places OWNER TO feed_owner;
SET ROLE feed_owner;
SELECT herald.enable_change_feed('places', 'feed diff', 'diff');
RESET ROLE;
INSERT INTO places VALUES (1, 'a'), (2, 'b'), (3, 'c');
SELECT * FROM feed.published();
UPDATE places SET id = id + 1;
SELECT * FROM feed.published();
UPDATE places SET id = 5 - id WHERE id < 4;
SELECT * FROM feed.published();
DROP TABLE feed.places;

-- a new key is another row
UPDATE orders SET id = 30 WHERE id = 3;
SELECT * FROM feed.published();

-- savepoints
BEGIN;
UPDATE orders SET status = 'a' WHERE id = 1;
SAVEPOINT a;
UPDATE orders SET status = 'b';
INSERT INTO orders VALUES (5, 'gone', 0, '');
SAVEPOINT b;
DELETE FROM orders;
ROLLBACK TO a;
UPDATE orders SET status = 'c' WHERE id = 30;
SAVEPOINT c;
UPDATE orders SET total = 7 WHERE id = 30;
RELEASE c;
DO $$
BEGIN
    FOR i IN 1 .. 3 LOOP
        BEGIN
            UPDATE orders SET total = i WHERE id = 1;
            IF i = 3 THEN RAISE EXCEPTION 'no'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
COMMIT;
SELECT * FROM feed.published();
SELECT id, status, total FROM orders ORDER BY id;

-- ON CONFLICT, MERGE, WITH, COPY, cascades, deferred triggers
INSERT INTO orders VALUES (1, 'conflict'), (6, 'inserted') ON CONFLICT (id) DO UPDATE SET status = EXCLUDED.status;
SELECT * FROM feed.published();
MERGE INTO orders AS o USING (VALUES (1, 'merged'), (6, NULL), (7, 'merged')) AS v (id, status) ON o.id = v.id
 WHEN MATCHED AND v.status IS NULL THEN DELETE
 WHEN MATCHED THEN UPDATE SET status = v.status
 WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.status);
SELECT * FROM feed.published() ORDER BY channel, payload::text;
WITH gone AS (DELETE FROM orders WHERE id = 7 RETURNING *) UPDATE orders SET status = gone.status || '!' FROM gone WHERE orders.id = 1;
COPY orders FROM stdin;
8	copied	1.00	\N
\.
SELECT * FROM feed.published();
SELECT herald.enable_change_feed('lines', 'feed key');
INSERT INTO lines VALUES (8, 1), (8, 2);
DELETE FROM orders WHERE id = 8;
SELECT * FROM feed.published();
CREATE FUNCTION feed.later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE feed.orders SET status = 'deferred' WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION feed.later();
INSERT INTO orders VALUES (9, 'first');
DROP TRIGGER later ON orders;
SELECT * FROM feed.published();

-- many rows, and TRUNCATE
SET herald.change_feed_bulk_limit = 3;
INSERT INTO orders SELECT i, 'bulk' FROM generate_series(101, 103) AS i;
SELECT count(*) FROM feed.published();
BEGIN;
UPDATE orders SET status = 'more' WHERE id IN (101, 102);
UPDATE orders SET status = 'more' WHERE id IN (102, 103, 1);
DELETE FROM orders WHERE id = 101;
COMMIT;
SELECT * FROM feed.published();
BEGIN;
INSERT INTO orders VALUES (110, 'kept');
SAVEPOINT a;
INSERT INTO orders SELECT i, 'bulk' FROM generate_series(111, 120) AS i;
ROLLBACK TO a;
INSERT INTO orders VALUES (111, 'kept');
COMMIT;
SELECT * FROM feed.published();
RESET herald.change_feed_bulk_limit;
BEGIN;
UPDATE orders SET status = 'gone' WHERE id = 110;
SAVEPOINT a;
TRUNCATE orders, lines;
ROLLBACK TO a;
UPDATE orders SET status = 'here' WHERE id = 111;
COMMIT;
SELECT * FROM feed.published();
BEGIN;
UPDATE orders SET status = 'gone' WHERE id = 110;
TRUNCATE orders, lines;
INSERT INTO orders VALUES (1, 'again');
COMMIT;
SELECT * FROM feed.published();

-- options can be changed, and the feed ended
SELECT herald.enable_change_feed('orders', 'feed diff', 'key', operations => '{delete}');
SELECT herald.disable_change_feed('orders', c) FROM unnest('{feed key,feed row,feed text}'::text[]) AS c;
SELECT herald.disable_change_feed('lines', 'feed key');
INSERT INTO orders VALUES (2, 'more');
UPDATE orders SET status = 'changed';
DELETE FROM orders WHERE id = 2;
SELECT * FROM feed.published();
SELECT table_name, channel, message, operations, ok, problem FROM herald.change_feeds;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid IN ('orders'::regclass, 'lines'::regclass) AND NOT tgisinternal ORDER BY tgname;
SELECT herald.disable_change_feed('orders', 'feed diff');

-- partitions, and direct changes of them
CREATE TABLE parts (id integer, region text, value text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
CREATE TABLE parts_us (value text, gone integer, id integer NOT NULL, region text NOT NULL);
ALTER TABLE parts_us DROP gone;
ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us');
SELECT herald.enable_change_feed('parts', 'feed diff', 'diff');
INSERT INTO parts VALUES (1, 'eu', 'a'), (2, 'us', 'b');
INSERT INTO parts_us (id, region, value) VALUES (3, 'us', 'c');
UPDATE parts SET value = value || '!' WHERE id > 1;
UPDATE parts SET region = 'eu' WHERE id = 2;
DELETE FROM parts_us;
TRUNCATE parts_us;
TRUNCATE parts;
SELECT payload FROM feed.published();
-- a partition alone would miss statements that name its table
\set VERBOSITY terse
SELECT herald.enable_change_feed('parts_us', 'feed diff');
ALTER TABLE parts DETACH PARTITION parts_us;
SELECT herald.enable_change_feed('parts_us', 'feed diff');
ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us');
SELECT herald.disable_change_feed('parts_us', 'feed diff');
ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us');
\set VERBOSITY default
INSERT INTO parts VALUES (1, 'us', 'a');
SELECT payload FROM feed.published();
DROP TABLE parts;

-- what does not fit is left out
SELECT herald.alter_channel('feed row', max_payload_bytes => 200);
SELECT herald.enable_change_feed('orders', 'feed row', 'row');
INSERT INTO orders VALUES (50, repeat('s', 20), 1, repeat('n', 130)), (51, repeat('s', 300), 1, repeat('n', 150));
SELECT payload FROM feed.published();
SELECT herald.alter_channel('feed row', max_payload_bytes => 40);
UPDATE orders SET status = 'small';
SELECT payload FROM feed.published();
SELECT herald.alter_channel('feed row', max_payload_bytes => 0, schema => '{"properties": {"row": {"properties": {"total": {"minimum": 5}}}}}');
UPDATE orders SET total = id;
SELECT payload #- '{row,note}' AS payload FROM feed.published();
SELECT channel, published, rejected FROM herald.channel_stats WHERE channel = 'feed row';
-- a text that is too long for a NOTIFY is a message all the same
SELECT herald.enable_change_feed('orders', 'feed text', 'order:{id}:{note}', '{note}');
UPDATE orders SET note = repeat('long', 2000) WHERE id = 50;
SELECT length(payload #>> '{}') FROM feed.published() WHERE channel = 'feed text' ORDER BY 1;
UPDATE orders SET note = NULL WHERE id = 50;
SELECT length(payload #>> '{}') FROM feed.published() WHERE channel = 'feed text' ORDER BY 1;
SELECT herald.disable_change_feed('orders', 'feed text');

-- rights that are gone
SELECT herald.alter_channel('feed row', schema => 'null');
SET ROLE feed_owner;
SELECT herald.enable_change_feed('orders', 'feed row', 'key');
RESET ROLE;
SELECT herald.alter_channel('feed row', owner => 'feed_other');
UPDATE orders SET total = 0 WHERE id < 50;
SELECT channel, ok, problem FROM herald.change_feeds WHERE table_name = 'orders';
SELECT herald.drop_channel('feed row');
SELECT herald.drop_channel('feed row', force => true);
UPDATE orders SET total = 1 WHERE id < 50;
SELECT channel, ok, problem FROM herald.change_feeds WHERE table_name = 'orders';
SELECT herald.disable_change_feed('orders', 'feed row');

-- a table without a key
CREATE TABLE plain (a integer, b integer[]);
SELECT herald.enable_change_feed('plain', 'feed text', '{a}');
SELECT herald.enable_change_feed('plain', 'feed diff', 'row');
INSERT INTO plain VALUES (1, '{1,2}'), (1, NULL);
BEGIN;
UPDATE plain SET a = 2 WHERE b IS NULL;
DELETE FROM plain WHERE b IS NULL;
COMMIT;
SELECT * FROM feed.published();
-- renamed: template and columns go with it; not to a name that means something else in a template
SELECT herald.enable_change_feed('plain', 'feed text', '{{{a}}}:{op}'), herald.enable_change_feed('plain', 'feed diff', 'row', '{b,a}');
ALTER TABLE plain RENAME a TO c;
ALTER TABLE IF EXISTS nowhere RENAME b TO d;
INSERT INTO plain VALUES (5);
SELECT * FROM feed.published();
SELECT channel, message, columns, ok, problem FROM herald.change_feeds WHERE table_name = 'plain';
BEGIN;
SAVEPOINT here;
ALTER TABLE plain RENAME c TO x;
SELECT channel, message, columns, ok, problem FROM herald.change_feeds WHERE table_name = 'plain';
ROLLBACK TO here;
ALTER TABLE plain RENAME c TO op;
INSERT INTO plain VALUES (6);
SELECT channel, message, columns, ok, problem FROM herald.change_feeds WHERE table_name = 'plain';
ROLLBACK;
ALTER TABLE plain RENAME c TO "}{";
SELECT channel, message, columns, ok, problem FROM herald.change_feeds WHERE table_name = 'plain';
INSERT INTO plain VALUES (7);
ALTER TABLE plain RENAME "}{" TO c;
SELECT channel, message, columns, ok, problem FROM herald.change_feeds WHERE table_name = 'plain';
ALTER TABLE plain RENAME c TO a;
-- gone, the template does not know its column
BEGIN;
ALTER TABLE plain DROP a;
SELECT channel, ok, problem FROM herald.change_feeds WHERE table_name = 'plain';
ROLLBACK;
SELECT herald.enable_change_feed('plain', 'feed text', '{a}'), herald.enable_change_feed('plain', 'feed diff', 'row');
ALTER TABLE plain DISABLE TRIGGER ALL;
SELECT channel, ok, problem IS NOT NULL AS has_problem FROM herald.change_feeds WHERE table_name = 'plain';
SELECT payload FROM feed.published();

-- refused
\set VERBOSITY terse
SELECT herald.enable_change_feed(NULL, 'feed key');
SELECT herald.enable_change_feed('orders', NULL);
SELECT herald.enable_change_feed('orders', '');
SELECT herald.enable_change_feed('orders', 'feed key', NULL);
SELECT herald.enable_change_feed('orders', 'feed key', 'keys');
SELECT herald.enable_change_feed('orders', 'feed key', 'orders:{nothing}');
SELECT herald.enable_change_feed('orders', 'feed key', 'orders:{id');
SELECT herald.enable_change_feed('orders', 'feed key', 'orders:{id}}');
SELECT herald.enable_change_feed('orders', 'feed key', 'orders:{}');
SELECT herald.enable_change_feed('orders', 'feed key', columns => '{id,nothing}');
SELECT herald.enable_change_feed('orders', 'feed key', columns => '{}');
SELECT herald.enable_change_feed('orders', 'feed key', columns => '{NULL}');
SELECT herald.enable_change_feed('orders', 'feed key', operations => '{insert,upsert}');
SELECT herald.enable_change_feed('orders', 'feed key', operations => '{}');
SELECT herald.enable_change_feed('orders', 'feed key', operations => NULL);
SELECT herald.enable_change_feed('plain', 'feed key');
SELECT herald.enable_change_feed('plain', 'feed key', 'diff');
SELECT herald.enable_change_feed('herald.channels', 'feed key');
SELECT herald.enable_change_feed('herald_internal.log_0', 'feed key');
SELECT herald.enable_change_feed('pg_class', 'feed key');
CREATE TEMP TABLE temporary (id integer PRIMARY KEY);
SELECT herald.enable_change_feed('pg_temp.temporary', 'feed key');
SELECT herald.disable_change_feed('orders', 'feed key');
SELECT herald_internal.feed_insert();
CREATE TRIGGER mine AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION herald_internal.feed_insert('1');
INSERT INTO plain VALUES (1);
DROP TRIGGER mine ON plain;
-- Every way in which a trigger may be another one than those that are made, of feeds and of audit trails.
CREATE FUNCTION problem_of(definition text, work text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    problem text;
    detail text;
BEGIN
    EXECUTE 'CREATE TRIGGER mine ' || definition;
    EXECUTE work;
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(': ', SQLSTATE, problem, detail);
END $$;
SELECT problem_of(format(definition, function), work)
  FROM unnest(ARRAY['audit_%s()', $$feed_%s('1')$$]) AS made,
       (VALUES (1, 'update', 'AFTER INSERT ON plain REFERENCING NEW TABLE AS n EXECUTE FUNCTION herald_internal.%s', 'INSERT INTO plain VALUES (1)'),
               (2, 'insert', 'BEFORE INSERT ON plain EXECUTE FUNCTION herald_internal.%s', 'INSERT INTO plain VALUES (1)'),
               (3, 'insert', 'AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION herald_internal.%s', 'INSERT INTO plain VALUES (1)'),
               (4, 'replica', 'AFTER INSERT ON plain REFERENCING NEW TABLE AS n EXECUTE FUNCTION herald_internal.%s', 'INSERT INTO plain VALUES (1)'),
               (5, 'insert', 'AFTER INSERT ON plain EXECUTE FUNCTION herald_internal.%s', 'INSERT INTO plain VALUES (1)'),
               (6, 'update', 'AFTER UPDATE ON plain REFERENCING NEW TABLE AS n EXECUTE FUNCTION herald_internal.%s', 'UPDATE plain SET a = 1'),
               (7, 'delete', 'AFTER DELETE ON plain EXECUTE FUNCTION herald_internal.%s', 'DELETE FROM plain'),
               (8, 'replica', 'AFTER TRUNCATE ON plain EXECUTE FUNCTION herald_internal.%s', 'TRUNCATE plain'),
               (9, 'truncate', 'BEFORE TRUNCATE ON plain EXECUTE FUNCTION herald_internal.%s', 'TRUNCATE plain')) AS d (n, kind, definition, work),
       LATERAL (SELECT format(made, kind) AS function) AS f
 ORDER BY made, n;
SELECT problem_of('AFTER TRUNCATE ON plain EXECUTE FUNCTION herald_internal.feed_truncate()', 'TRUNCATE plain'),
       problem_of('AFTER TRUNCATE ON plain EXECUTE FUNCTION herald_internal.audit_truncate(''1'')', 'TRUNCATE plain');
CREATE TRIGGER mine AFTER INSERT ON plain REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION herald_internal.feed_insert('1000000');
INSERT INTO plain VALUES (1);
DROP TRIGGER mine ON plain;
SET ROLE feed_other;
SELECT herald.enable_change_feed('orders', 'feed key');
SELECT herald.disable_change_feed('orders', 'feed key');
CREATE TEMP TABLE mine (id integer);
CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION herald_internal.feed_insert('1');
SELECT count(*) FROM herald.change_feeds;
DROP TABLE mine;
RESET ROLE;
SELECT herald.create_channel('feed private', durable => false);
SET ROLE feed_owner;
SELECT herald.enable_change_feed('orders', 'feed private');
RESET ROLE;
\set VERBOSITY default

RESET search_path;
DROP TABLE temporary;
SET client_min_messages = warning;
DROP SCHEMA feed CASCADE;
SELECT herald.drop_channel('feed ' || c, force => true) FROM unnest('{key,diff,text,private}'::text[]) AS c;
-- the feeds went with their tables
SELECT count(*) FROM herald_internal.change_feed_store;
DROP ROLE feed_owner, feed_other;
