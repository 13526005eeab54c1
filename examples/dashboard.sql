-- A dashboard: figures about a table, worked out again whenever it has changed, and sent to whoever listens. No
-- browser asks the database every few seconds, and writers don't wait for the figures.
--
-- Run it by psql in any database of a server that preloads pg_herald, as a superuser:
--     psql -e -f examples/dashboard.sql
-- It makes a schema, a channel and a role named herald_demo_dashboard, and takes them away at the end.

CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE ROLE herald_demo_dashboard LOGIN;
CREATE SCHEMA herald_demo_dashboard;
GRANT USAGE ON SCHEMA herald_demo_dashboard TO herald_demo_dashboard;
CREATE TABLE herald_demo_dashboard.orders (id integer PRIMARY KEY, status text NOT NULL, total numeric NOT NULL);
CREATE TABLE herald_demo_dashboard.figures (status text PRIMARY KEY, orders bigint NOT NULL, total numeric NOT NULL);
GRANT SELECT ON herald_demo_dashboard.orders TO herald_demo_dashboard;
GRANT SELECT, INSERT, DELETE ON herald_demo_dashboard.figures TO herald_demo_dashboard;

-- This template has no column in it, so all rows of a transaction give the same text: one message for each transaction
-- that has changed something, however many rows that were.
SELECT herald.create_channel('herald_demo_dashboard', announce => 'off');
SELECT herald.enable_change_feed('herald_demo_dashboard.orders', 'herald_demo_dashboard', 'changed: {table}');

-- The handler works the figures out and sends them on, as JSON, on a channel of their own. (NOTIFY would do; but
-- herald.notify does not make commits wait for each other.)
CREATE FUNCTION herald_demo_dashboard.work_out(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM herald_demo_dashboard.figures;
    INSERT INTO herald_demo_dashboard.figures
    SELECT o.status, count(*), sum(o.total) FROM herald_demo_dashboard.orders AS o GROUP BY o.status;
    PERFORM herald.notify('herald_demo_figures',
                          (SELECT jsonb_object_agg(f.status, jsonb_build_object('orders', f.orders, 'total', f.total))::text
                             FROM herald_demo_dashboard.figures AS f));
END $$;
SELECT herald.subscribe('herald_demo_dashboard', 'herald_demo_dashboard', 'herald_demo_dashboard.work_out',
                        run_as => 'herald_demo_dashboard', max_concurrency => 1);

-- The dashboard: any client that listens, or the server behind its web sockets. Here it is this session.
LISTEN herald_demo_figures;

INSERT INTO herald_demo_dashboard.orders VALUES (1, 'new', 10), (2, 'new', 20), (3, 'paid', 30);
SELECT herald.wait_idle('herald_demo_dashboard', '30 s') AS up_to_date;

-- Two statements, one transaction, one message.
BEGIN;
UPDATE herald_demo_dashboard.orders SET status = 'paid' WHERE id = 1;
INSERT INTO herald_demo_dashboard.orders SELECT i, 'new', 1 FROM generate_series(101, 200) AS i;
COMMIT;
SELECT herald.wait_idle('herald_demo_dashboard', '30 s') AS up_to_date;

-- Until what was sent is announced; then psql shows it.
DO $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        EXIT WHEN (SELECT announced >= 2 FROM herald.channel_stats WHERE channel = 'herald_demo_figures');
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;

SELECT * FROM herald_demo_dashboard.figures ORDER BY status;
SELECT published AS transactions, delivered FROM herald.channel_stats WHERE channel = 'herald_demo_dashboard';

-- Tidying up.
UNLISTEN herald_demo_figures;
SELECT herald.unsubscribe('herald_demo_dashboard');
SELECT herald.disable_change_feed('herald_demo_dashboard.orders', 'herald_demo_dashboard');
SELECT herald.drop_channel('herald_demo_dashboard');
SET client_min_messages = warning;
DROP SCHEMA herald_demo_dashboard CASCADE;
RESET client_min_messages;
DROP ROLE herald_demo_dashboard;
