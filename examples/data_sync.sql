-- Data sync: a second table follows a first one, a moment behind, with what it is allowed to know. It could be in
-- another schema, in another shape, or (by a handler that uses a foreign table) on another server.
--
-- Run it by psql in any database of a server that preloads pg_herald, as a superuser:
--     psql -e -f examples/data_sync.sql
-- It makes the schemas herald_demo_shop and herald_demo_crm, a channel herald_demo_customers and a role
-- herald_demo_sync, and takes them away at the end.

CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE ROLE herald_demo_sync LOGIN;
CREATE SCHEMA herald_demo_shop;
CREATE SCHEMA herald_demo_crm;
GRANT USAGE ON SCHEMA herald_demo_shop, herald_demo_crm TO herald_demo_sync;

CREATE TABLE herald_demo_shop.customers (
    id       integer PRIMARY KEY,
    name     text NOT NULL,
    email    text,
    password text
);
CREATE TABLE herald_demo_crm.contacts (customer_id integer PRIMARY KEY, name text NOT NULL, email text);

-- The handler's role reads what the copy may know, and writes the copy; it never sees a password.
GRANT SELECT (id, name, email) ON herald_demo_shop.customers TO herald_demo_sync;
GRANT SELECT, INSERT, UPDATE, DELETE ON herald_demo_crm.contacts TO herald_demo_sync;

-- A durable channel: changes are stored with the transaction that makes them, and wait for the handler. Nobody needs
-- to hear of them, and with announce => 'off' nobody can.
SELECT herald.create_channel('herald_demo_customers', announce => 'off');

-- Each message has the row as it is now, but only the columns that are listed.
SELECT herald.enable_change_feed('herald_demo_shop.customers', 'herald_demo_customers', 'row',
                                 columns => '{id,name,email}');

-- What makes the copy equal: at the beginning, and when too much has changed at once to be told row by row.
CREATE FUNCTION herald_demo_crm.copy_all() RETURNS void LANGUAGE sql AS $$
    DELETE FROM herald_demo_crm.contacts AS c
     WHERE NOT EXISTS (SELECT s.id FROM herald_demo_shop.customers AS s WHERE s.id = c.customer_id);
    INSERT INTO herald_demo_crm.contacts SELECT s.id, s.name, s.email FROM herald_demo_shop.customers AS s
        ON CONFLICT (customer_id) DO UPDATE SET name = EXCLUDED.name, email = EXCLUDED.email;
$$;

-- The handler. What it writes and the note that the task is done are one transaction: no change is applied twice,
-- and none is lost.
CREATE FUNCTION herald_demo_crm.follow(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    new_row jsonb := task.payload -> 'row';
BEGIN
    CASE task.payload ->> 'op'
        WHEN 'insert', 'update' THEN
            -- A message that would be too large lacks columns, and "omitted" names them: the row itself has them.
            IF task.payload ? 'omitted' THEN
                SELECT pg_catalog.to_jsonb(c) INTO new_row
                  FROM (SELECT s.id, s.name, s.email FROM herald_demo_shop.customers AS s
                         WHERE s.id = (task.payload #>> '{key,id}')::integer) AS c;
                IF NOT FOUND THEN
                    RETURN;  -- deleted meanwhile, and a message of that follows
                END IF;
            END IF;
            INSERT INTO herald_demo_crm.contacts
            VALUES ((new_row ->> 'id')::integer, new_row ->> 'name', new_row ->> 'email')
                ON CONFLICT (customer_id) DO UPDATE SET name = EXCLUDED.name, email = EXCLUDED.email;
        WHEN 'delete' THEN
            DELETE FROM herald_demo_crm.contacts WHERE customer_id = (task.payload #>> '{key,id}')::integer;
        ELSE  -- bulk, truncate
            PERFORM herald_demo_crm.copy_all();
    END CASE;
END $$;

-- max_concurrency => 1: one after the other, in the order of the commits. (Changes of one row come in order anyway;
-- but bulk and truncate are about all rows.)
SELECT herald.subscribe('herald_demo_sync', 'herald_demo_customers', 'herald_demo_crm.follow',
                        run_as => 'herald_demo_sync', max_concurrency => 1);
SELECT herald_demo_crm.copy_all();

-- Let's see: some changes, one of them rolled back.
INSERT INTO herald_demo_shop.customers
VALUES (1, 'Ada', 'ada@example.org', 'secret'), (2, 'Bob', NULL, 'secret'), (3, 'Cleo', 'cleo@example.org', 'secret');
UPDATE herald_demo_shop.customers SET email = 'bob@example.org' WHERE id = 2;
UPDATE herald_demo_shop.customers SET password = 'changed';
DELETE FROM herald_demo_shop.customers WHERE id = 3;
UPDATE herald_demo_shop.customers SET id = 20 WHERE id = 2;
BEGIN;
DELETE FROM herald_demo_shop.customers;
ROLLBACK;

SELECT herald.wait_idle('herald_demo_sync', '30 s') AS in_step;
SELECT * FROM herald_demo_crm.contacts ORDER BY customer_id;

-- A value that is too large for a message is copied all the same.
UPDATE herald_demo_shop.customers SET email = repeat('x', 2000000) WHERE id = 1;
SELECT herald.wait_idle('herald_demo_sync', '30 s') AS in_step;
SELECT customer_id, length(email) AS length FROM herald_demo_crm.contacts WHERE customer_id = 1;

-- What was published: nothing of passwords.
SELECT published, delivered, failed FROM herald.channel_stats WHERE channel = 'herald_demo_customers';

-- Many rows at once are one message, and one task.
INSERT INTO herald_demo_shop.customers SELECT i, 'customer ' || i, NULL, 'secret' FROM generate_series(1001, 6000) AS i;
SELECT herald.wait_idle('herald_demo_sync', '30 s') AS in_step;
SELECT count(*) AS contacts FROM herald_demo_crm.contacts;
TRUNCATE herald_demo_shop.customers;
SELECT herald.wait_idle('herald_demo_sync', '30 s') AS in_step;
SELECT count(*) AS contacts FROM herald_demo_crm.contacts;

-- Tidying up.
SELECT herald.unsubscribe('herald_demo_sync');
SELECT herald.disable_change_feed('herald_demo_shop.customers', 'herald_demo_customers');
SELECT herald.drop_channel('herald_demo_customers');
SET client_min_messages = warning;
DROP SCHEMA herald_demo_shop, herald_demo_crm CASCADE;
RESET client_min_messages;
DROP ROLE herald_demo_sync;
