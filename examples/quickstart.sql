-- pg_herald in one minute. `make demo` runs this file on a private server. It can also be pasted into
-- psql, by a superuser, in any database of a server that preloads pg_herald: it makes a channel
-- task_channel and a schema and a role named herald_demo, and takes all three away at the end.

\set herald_demo_echo :ECHO
\set ECHO none
\set QUIET on
\pset footer off
SET client_min_messages = warning;
\set QUIET off
\set ECHO :herald_demo_echo

\echo
\echo '== 1. A channel, and somebody who listens ====================================='
\echo
\echo '-- The channel is durable: messages are stored first. With accept_notify a plain'
\echo '-- NOTIFY is a message, too. And this very session LISTENs, as any client may.'
\echo
CREATE EXTENSION IF NOT EXISTS pg_herald;
SELECT herald.create_channel('task_channel', accept_notify => true, announce => 'payload');
LISTEN task_channel;

\echo
\echo '-- The server now starts two processes for this database; that takes a moment.'
\echo
\set herald_demo_echo :ECHO
\set ECHO none
\set QUIET on
DO $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        EXIT WHEN (SELECT bool_and(ok) FROM herald.status() WHERE name IN ('dispatcher', 'announcer'));
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
\set QUIET off
\set ECHO :herald_demo_echo
SELECT name, ok, value FROM herald.status() WHERE name IN ('dispatcher', 'announcer');

\echo
\echo '== 2. A subscription: a function of yours runs once for every message ========='
\echo
\echo '-- Handlers run as a role that you choose: here a new one that may do nothing'
\echo '-- but fill one table.'
\echo
CREATE ROLE herald_demo LOGIN;
CREATE SCHEMA herald_demo;
GRANT USAGE ON SCHEMA herald_demo TO herald_demo;
CREATE TABLE herald_demo.sent (task_id text, attempt integer, run_by name);
GRANT INSERT ON herald_demo.sent TO herald_demo;

\echo
\echo '-- The handler. Task 7 fails always; tasks 3, 6 and 9 fail the first time. Where it'
\echo '-- fails, its INSERT is undone.'
\echo
CREATE FUNCTION herald_demo.send_mail(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO herald_demo.sent VALUES (task.payload ->> 'task_id', task.attempt, current_user);

    IF task.payload ->> 'task_id' = '7' THEN
        RAISE EXCEPTION 'task 7 has no recipient' USING HINT = 'Look up the address.';
    ELSIF task.payload ->> 'task_id' IN ('3', '6', '9') AND task.attempt = 1 THEN
        RAISE EXCEPTION 'the mail server is busy' USING ERRCODE = 'connection_failure';
    END IF;
END $$;

SELECT herald.subscribe('mailer', 'task_channel', 'herald_demo.send_mail', run_as => 'herald_demo',
                        max_attempts => 3, retry_delay => '500 ms');

\echo
\echo '== 3. Ten tasks ==============================================================='
\echo
SELECT herald.publish('task_channel', jsonb_build_object('task_id', n)) AS message_id
  FROM generate_series(1, 10) AS n;

\echo '-- Workers inside the server have them already. Task 7 will need three attempts,'
\echo '-- so we look three times. What this session hears comes in between.'
\echo
SELECT herald.wait_idle('mailer', '200 ms') AS idle;
SELECT subscription, pending, running, retrying, done, failed AS failed_attempts, dead
  FROM herald.subscription_stats WHERE subscription = 'mailer';

\echo '-- Half a second later: the second attempts.'
\echo
SELECT herald.wait_idle('mailer', '800 ms') AS idle;
SELECT subscription, pending, running, retrying, done, failed AS failed_attempts, dead
  FROM herald.subscription_stats WHERE subscription = 'mailer';

\echo '-- And another second later: the third.'
\echo
SELECT herald.wait_idle('mailer', '20 s') AS idle;
SELECT subscription, pending, running, retrying, done, failed AS failed_attempts, dead
  FROM herald.subscription_stats WHERE subscription = 'mailer';

\echo '-- What the handler wrote: once for each task that succeeded.'
\echo
SELECT * FROM herald_demo.sent ORDER BY task_id::bigint;

\echo
\echo '== 4. A plain NOTIFY, as any client can send it, is a task as well ============'
\echo
NOTIFY task_channel, '123456';

\echo
\echo '-- We wait until the handler has seen it (five seconds at most).'
\echo
\set herald_demo_echo :ECHO
\set ECHO none
\set QUIET on
DO $$
BEGIN
    FOR i IN 1 .. 50 LOOP
        EXIT WHEN EXISTS (SELECT FROM herald_demo.sent WHERE task_id = '123456');
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
\set QUIET off
\set ECHO :herald_demo_echo
SELECT * FROM herald_demo.sent WHERE task_id = '123456';

\echo
\echo '== 5. A batch, with keys: tasks of one key run in order, one at a time ========'
\echo
SELECT herald.publish_batch('task_channel',
                            ARRAY['{"task_id": 101}', '{"task_id": 102}', '{"task_id": 103}']::jsonb[],
                            keys => ARRAY['berlin', 'paris', 'berlin']) AS message_id;
SELECT herald.wait_idle('mailer', '20 s') AS idle;

\echo
\echo '== 6. What is not JSON, is refused (the error is meant to be here) ============'
\echo
\set herald_demo_on_error_stop :ON_ERROR_STOP
\set ON_ERROR_STOP off
SELECT herald.publish('task_channel', '{"task_id": 12');
\set ON_ERROR_STOP :herald_demo_on_error_stop
\unset herald_demo_on_error_stop

\echo
\echo '-- And what is rolled back, was never published:'
\echo
BEGIN;
SELECT herald.publish('task_channel', '{"task_id": 13}') AS message_id;
ROLLBACK;
SELECT herald.wait_idle('mailer', '20 s') AS idle;
SELECT count(*) AS mails_of_task_13 FROM herald_demo.sent WHERE task_id = '13';

\echo
\echo '== 7. Nothing fails silently =================================================='
\echo
SELECT task_id, attempt, error_code, message, hint, next_attempt_at IS NULL AS given_up
  FROM herald.failure_log WHERE subscription = 'mailer' ORDER BY failed_at;

\echo '-- Task 7 is a dead letter now: kept, with its payload.'
\echo
SELECT id, task_id, payload, attempts, message FROM herald.dead_letters WHERE subscription = 'mailer';

\echo
\echo '== 8. Mend the handler, and replay ============================================'
\echo
CREATE OR REPLACE FUNCTION herald_demo.send_mail(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO herald_demo.sent VALUES (task.payload ->> 'task_id', task.attempt, current_user);
END $$;

SELECT herald.replay_all('mailer') AS replayed;
SELECT herald.wait_idle('mailer', '20 s') AS idle;
SELECT * FROM herald_demo.sent WHERE task_id = '7';

\echo
\echo '== 9. A look around ==========================================================='
\echo
\echo '-- Latencies run from publication to the start of the handler. The first tasks'
\echo '-- waited for their workers to start, and the retried ones for their next attempt.'
\echo
SELECT channel, published, announced, rejected, delivered, failed, retried, dead,
       round(p50_ms::numeric, 1) AS p50_ms
  FROM herald.channel_stats WHERE channel = 'task_channel';
SELECT subscription, state, pending, running, done, failed, dead,
       round(p50_ms::numeric, 1) AS p50_ms, round(p99_ms::numeric, 1) AS p99_ms
  FROM herald.subscription_stats WHERE subscription = 'mailer';

\echo '-- All of it happens in processes of the server:'
\echo
SELECT pid, kind, database, role, state FROM herald.workers ORDER BY started_at NULLS FIRST;

\echo '-- What to ask when something does not run:'
\echo
SELECT * FROM herald.status();

\echo
\echo '== Tidying up ================================================================='
\echo
UNLISTEN task_channel;
SELECT herald.unsubscribe('mailer');
SELECT herald.drop_channel('task_channel');
\set herald_demo_echo :ECHO
\set ECHO none
\set QUIET on
DROP SCHEMA herald_demo CASCADE;
DROP ROLE herald_demo;
RESET client_min_messages;
\pset footer on
\set QUIET off
\set ECHO :herald_demo_echo
\unset herald_demo_echo
\echo
\echo '== Done. README.md goes through all this one thing at a time. ================='
