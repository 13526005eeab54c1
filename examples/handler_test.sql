-- A unit test of a handler: it is a function, so a test calls it with a task of its own making, in a transaction that is
-- rolled back. No message is published and no worker is needed. (Workers see what is committed: a test that publishes
-- inside a transaction, and waits there for the handler, would wait for ever.)
--
-- Run it by psql in any database of a server that preloads pg_herald, as a role that may create schemas:
--     psql -e -f examples/handler_test.sql
-- It makes a schema herald_demo_test and takes it away at the end.

CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE SCHEMA herald_demo_test;
CREATE TABLE herald_demo_test.account (id integer PRIMARY KEY, balance numeric NOT NULL CHECK (balance >= 0));

-- The handler under test.
CREATE FUNCTION herald_demo_test.book(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE herald_demo_test.account SET balance = balance + (task.payload ->> 'amount')::numeric
     WHERE id = (task.payload ->> 'account')::integer;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'account % does not exist', task.payload ->> 'account' USING ERRCODE = 'no_data_found';
    END IF;
END $$;

-- A task for tests. jsonb_populate_record() fills the fields that a test names, and leaves the others NULL: it goes on
-- working when a later version adds fields to herald.task.
CREATE FUNCTION herald_demo_test.a_task(payload jsonb, attempt integer DEFAULT 1) RETURNS herald.task
LANGUAGE sql AS $$
    SELECT pg_catalog.jsonb_populate_record(NULL::herald.task, pg_catalog.jsonb_build_object(
        'message_id', 1, 'channel', 'bookings', 'subscription', 'booking', 'attempt', attempt,
        'published_at', pg_catalog.now(), 'published_by', CURRENT_USER, 'payload', payload))
$$;

-- What the handler does.
BEGIN;
INSERT INTO herald_demo_test.account VALUES (1, 100);
SELECT herald_demo_test.book(herald_demo_test.a_task('{"account": 1, "amount": -30}'));
SELECT balance = 70 AS booked FROM herald_demo_test.account WHERE id = 1;
ROLLBACK;

-- What it refuses, and with which SQLSTATE: that is what the failure log would record.
DO $$
DECLARE
    code text := 'no error';
BEGIN
    PERFORM herald_demo_test.book(herald_demo_test.a_task('{"account": 2, "amount": 1}'));
    RAISE EXCEPTION 'the handler took an account that does not exist';
EXCEPTION WHEN no_data_found THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE;
    RAISE NOTICE 'refused with %', code;
END $$;

-- Whether a payload fits a channel's schema can be tested without the channel, too.
SELECT herald.validate('{"required": ["account", "amount"]}', '{"account": 1}') AS fits;

-- Tidying up.
SET client_min_messages = warning;
DROP SCHEMA herald_demo_test CASCADE;
RESET client_min_messages;
