-- A bridge to workers of your own, in any language: the subscription's handler does not do the work, it hands it over. What is
-- to be done stands in a table of yours; your worker takes a row with FOR UPDATE SKIP LOCKED, does the work, and removes the
-- row in the same transaction. If it dies, the row is there again at once. examples/bridge.py is such a worker.
--
-- pg_herald gives to this: exactly one row for each message, order and limits by your query, the history of channels and
-- statistics up to the handing over. What it can't know is what becomes of the row: retries and failures of the work itself
-- are the worker's business here, and a column of the table.
--
-- Run it by psql in a database of a server that preloads pg_herald, as a role that may create schemas:
--     psql -f examples/bridge.sql
-- It makes a schema herald_demo_bridge; DROP SCHEMA herald_demo_bridge CASCADE and unsubscribe take it away.

CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE SCHEMA herald_demo_bridge;
CREATE TABLE herald_demo_bridge.job (
    message_id bigint PRIMARY KEY,
    payload    jsonb NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now(),
    error      text
);
-- What the worker in the example does: it writes down what it has "sent".
CREATE TABLE herald_demo_bridge.sent (message_id bigint, recipient text NOT NULL, at timestamptz NOT NULL DEFAULT now());

CREATE FUNCTION herald_demo_bridge.hand_over(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO herald_demo_bridge.job (message_id, payload) VALUES (task.message_id, task.payload);
    -- It reaches the worker when this commits.
    PERFORM pg_notify('herald_demo_bridge', '');
END $$;

DO $$ BEGIN CREATE ROLE herald_demo_bridge LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT USAGE ON SCHEMA herald_demo_bridge TO herald_demo_bridge;
GRANT SELECT, INSERT, UPDATE, DELETE ON herald_demo_bridge.job, herald_demo_bridge.sent TO herald_demo_bridge;
SELECT herald.subscribe('herald_demo_bridge', 'herald_demo_mails', 'herald_demo_bridge.hand_over',
                        run_as => 'herald_demo_bridge');
