-- Cache invalidation: whoever keeps rows of a table in a cache hears which entries are out of date, as soon as the
-- change is committed, and never of one that was rolled back.
--
-- Run it by psql in any database of a server that preloads pg_herald, as a role that may create schemas:
--     psql -e -f examples/cache_invalidation.sql
-- It makes a schema herald_demo_cache and takes it away at the end.

CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE SCHEMA herald_demo_cache;
CREATE TABLE herald_demo_cache.products (
    id       integer PRIMARY KEY,
    category text NOT NULL,
    name     text NOT NULL,
    price    numeric NOT NULL,
    viewed   integer NOT NULL DEFAULT 0
);
INSERT INTO herald_demo_cache.products
VALUES (1, 'books', 'Atlas', 40), (2, 'books', 'Novel', 12), (3, 'games', 'Chess', 25);

-- The entries of the cache have keys as "product:1". A template makes such a key of a row's columns; it is announced
-- as plain text, so a client that hears it can delete that key as it is. The counter of views is not cached: an
-- UPDATE of it alone says nothing.
SELECT herald.enable_change_feed('herald_demo_cache.products', 'product_cache', 'product:{id}',
                                 columns => '{category,name,price}');

-- There are lists by category as well. Where a product moves to another category, both lists are out of date, and
-- both are named.
SELECT herald.enable_change_feed('herald_demo_cache.products', 'category_cache', 'category:{category}',
                                 columns => '{category,name,price}');

-- A cache is any client that listens; here it is this session. (Channels need no declaration to be listened to.)
LISTEN product_cache;
LISTEN category_cache;

-- One change: "product:1" and "category:books".
UPDATE herald_demo_cache.products SET price = 39 WHERE id = 1;

-- Nothing: only views are counted.
UPDATE herald_demo_cache.products SET viewed = viewed + 1;

-- Each entry once, however often it changes in a transaction.
BEGIN;
UPDATE herald_demo_cache.products SET price = price + 1;
UPDATE herald_demo_cache.products SET name = upper(name) WHERE id = 2;
UPDATE herald_demo_cache.products SET category = 'toys' WHERE id = 3;
COMMIT;

-- Nothing: it did not happen.
BEGIN;
DELETE FROM herald_demo_cache.products;
ROLLBACK;

-- psql shows what was heard after the next statement, so this one waits until all is announced.
DO $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        EXIT WHEN (SELECT count(*) = 2 AND bool_and(announced >= 4) FROM herald.channel_stats
                    WHERE channel IN ('product_cache', 'category_cache'));
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;

-- More than herald.change_feed_bulk_limit rows are not named one by one: a message {"op": "bulk", ...} says that much
-- has changed, and the cache drops all it has of the table. So does TRUNCATE by {"op": "truncate", ...}.

-- Tidying up.
UNLISTEN product_cache;
UNLISTEN category_cache;
SET client_min_messages = warning;
DROP SCHEMA herald_demo_cache CASCADE;
RESET client_min_messages;
