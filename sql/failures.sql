-- What the failure log and the dead letters say of handlers that fail, what a handler is told, and what
-- can be done with dead letters.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE ROLE regress_herald_app LOGIN;
CREATE TABLE parents (n integer CONSTRAINT parents_key PRIMARY KEY);
CREATE TABLE children (n integer CONSTRAINT children_parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE seen (place integer GENERATED ALWAYS AS IDENTITY, task herald.task, payload jsonb, current text, session text);
GRANT ALL ON parents, children, seen TO regress_herald_app;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN concat(SQLSTATE, ': ', SQLERRM);
END $$;
CREATE FUNCTION fail(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen (task) VALUES (task);
    CASE task.payload ->> 'fault'
        WHEN 'raise' THEN RAISE EXCEPTION 'the message' USING DETAIL = 'the detail', HINT = 'the hint';
        WHEN 'bare' THEN RAISE EXCEPTION 'the message, attempt %', task.attempt USING ERRCODE = 'HT001';
        WHEN 'division' THEN PERFORM 1 / (task.payload ->> 'by')::integer;
        WHEN 'unique' THEN INSERT INTO parents VALUES (1), (1);
        WHEN 'deferred' THEN INSERT INTO children VALUES (5);
        WHEN 'commit' THEN COMMIT;
        WHEN 'rollback' THEN ROLLBACK;
        WHEN 'canceled' THEN RAISE query_canceled USING MESSAGE = 'canceled by itself';
        WHEN 'serialization' THEN RAISE serialization_failure USING MESSAGE = 'could not serialize';
        WHEN 'privilege' THEN PERFORM * FROM herald_internal.failure_store;
        WHEN 'syntax' THEN EXECUTE 'SELEC';
        WHEN 'read only' THEN SET LOCAL transaction_read_only = on; INSERT INTO parents VALUES (9);
        WHEN 'cast' THEN PERFORM 'seven'::integer;
        WHEN 'slow' THEN PERFORM pg_sleep(60);
        WHEN 'none' THEN NULL;
    END CASE;
END $$;
CREATE FUNCTION fail_sql(payload jsonb) RETURNS integer LANGUAGE sql AS $$ SELECT 1 / (payload ->> 'by')::integer $$;
CREATE FUNCTION note(task herald.task) RETURNS herald.task LANGUAGE sql AS $$
    INSERT INTO seen (task, current, session) VALUES (task, current_user, session_user) RETURNING task $$;
CREATE FUNCTION note_payload(payload jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO seen (payload, current, session) VALUES (payload, current_user, session_user) $$;

SELECT herald.create_channel(name, announce => 'off') FROM unnest('{regress faults,regress sql,regress loud,regress slow,regress seen}'::text[]) AS name;
SELECT herald.subscribe('faults', 'regress faults', 'fail', max_attempts => 2, retry_delay => '10 ms', retry_backoff => 1, max_concurrency => 1, run_as => 'regress_herald_app');
SELECT herald.subscribe('sql', 'regress sql', 'fail_sql', max_attempts => 1, run_as => 'regress_herald_app');
SELECT herald.subscribe('slow', 'regress slow', 'fail', max_attempts => 1, timeout => '50 ms', run_as => 'regress_herald_app');

-- Every class of error: one row per attempt, what the error said, and a dead letter after the last.
SELECT count(herald.publish('regress faults', jsonb_build_object('fault', fault, 'task_id', fault, 'by', 0)))
  FROM unnest('{raise,bare,division,unique,deferred,commit,rollback,canceled,serialization,privilege,syntax,read only,cast,unknown,none}'::text[]) AS fault;
SELECT herald.wait_idle('faults', '60 s');
SELECT task_id, attempt, error_code, message, detail, hint FROM herald.failure_log WHERE subscription = 'faults' ORDER BY message_id, attempt;
SELECT DISTINCT subscription, channel, handler FROM herald.failure_log WHERE subscription = 'faults';
SELECT attempt, count(*), bool_and(next_attempt_at IS NULL) AS given_up, bool_and(next_attempt_at >= failed_at) AS waits,
       bool_and(failed_at >= started_at) AS lasted
  FROM herald.failure_log WHERE subscription = 'faults' GROUP BY attempt ORDER BY attempt;
-- The context leads to the line of the handler.
SELECT task_id, context ~ E'^PL/pgSQL function (public\\.)?fail\\(herald\\.task\\) line \\d+ at RAISE' AS at_raise,
       context LIKE '%SQL statement "SELECT public.fail($1)"' AS called
  FROM herald.failure_log WHERE subscription = 'faults' AND task_id IN ('raise', 'bare') AND attempt = 1 ORDER BY task_id;
SELECT bool_and(context LIKE '%PL/pgSQL function fail(herald.task) line % at %') AS named FROM herald.failure_log WHERE subscription = 'faults' AND task_id <> 'deferred';
-- What a failed attempt wrote is gone.
SELECT (task).payload ->> 'fault' AS fault, (task).attempt FROM seen;
SELECT count(*) FROM parents;
SELECT task_id, attempts, error_code, message, payload ->> 'fault' = task_id AS same, died_at IS NOT NULL AS died FROM herald.dead_letters
 WHERE subscription = 'faults' ORDER BY message_id;
SELECT pending, running, done, failed, retrying, dead FROM herald.subscription_stats WHERE subscription = 'faults';
SELECT state, attempt, next_attempt_at, wait_reason, payload ->> 'fault' AS fault FROM herald.tasks WHERE subscription = 'faults' ORDER BY message_id LIMIT 2;

-- A function in SQL, given the payload.
SELECT herald.publish('regress sql', '{"by": 0, "task_id": "sql"}') IS NOT NULL AS stored;
SELECT herald.wait_idle('sql', '60 s');
SELECT task_id, error_code, message, detail, hint, handler FROM herald.failure_log WHERE subscription = 'sql';

-- However much an error says, 8 kB of each text are kept, and marked as cut; of a task_id 1 kB.
CREATE FUNCTION fail_loudly(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF task.payload ? 'deep' AND (task.payload ->> 'deep')::integer > 0 THEN
        task.payload = jsonb_set(task.payload, '{deep}', to_jsonb((task.payload ->> 'deep')::integer - 1));
        PERFORM fail_loudly(task);
    END IF;
    RAISE EXCEPTION '%', repeat('ä', 1000000) USING DETAIL = 'x' || repeat('€', 1000000), HINT = repeat('x', 8192 + 10 * (task.payload ? 'deep')::int);
END $$;
SELECT herald.subscribe('loud', 'regress loud', 'fail_loudly', max_attempts => 1, run_as => 'regress_herald_app');
SELECT count(herald.publish('regress loud', payload)) FROM (VALUES
    (jsonb_build_object('deep', 300, 'task_id', repeat('ü', 5000))), (jsonb_build_object('task_id', (repeat('7', 3000))::numeric))) AS v (payload);
SELECT herald.wait_idle('loud', '60 s');
SELECT octet_length(task_id) AS task_id, right(task_id, 24) AS id_ends, octet_length(message) AS message, right(message, 24) AS message_ends,
       octet_length(detail) AS detail, right(detail, 24) AS detail_ends, octet_length(hint) AS hint, right(hint, 24) AS hint_ends,
       octet_length(context) > 8000 AS context_cut, octet_length(context) <= 8192 AS in_bounds
  FROM herald.failure_log WHERE subscription = 'loud' ORDER BY message_id;
SELECT octet_length(message) AS message, right(message, 24) AS ends FROM herald.dead_letters WHERE subscription = 'loud' ORDER BY message_id;

-- The timeout cancels the handler.
SELECT herald.publish('regress slow', '{"fault": "slow"}') IS NOT NULL AS stored;
SELECT herald.wait_idle('slow', '60 s');
SELECT attempt, error_code, message, next_attempt_at, failed_at - started_at BETWEEN '50 ms' AND '10 s' AS after_timeout
  FROM herald.failure_log WHERE subscription = 'slow';

-- task_id: the payload's, where it is an object that has one, else the message's id.
SELECT herald.alter_subscription('sql', handler => 'fail');
SELECT count(herald.publish('regress sql', payload)) FROM unnest(ARRAY[
    '{"task_id": "text"}', '{"task_id": 7}', '{"task_id": 1.50}', '{"task_id": true}', '{"task_id": ""}', '{"task_id": null}',
    '{"task_id": {"a": [1]}}', '{}', '7', '"x"', '[{"task_id": 8}]', 'null']::jsonb[]) AS payload;
SELECT herald.wait_idle('sql', '60 s');
SELECT d.payload, CASE WHEN f.task_id <> f.message_id::text THEN f.task_id END AS task_id,
       f.task_id = f.message_id::text AS messages_id, d.task_id = f.task_id AS views_agree
  FROM herald.failure_log AS f JOIN herald.dead_letters AS d USING (subscription, message_id)
 WHERE f.subscription = 'sql' AND f.handler LIKE '%.fail(%' ORDER BY f.message_id;

-- Replayed: a task again, with all its attempts.
SELECT id AS dead FROM herald.dead_letters WHERE subscription = 'faults' AND task_id = 'raise' \gset
SELECT herald.replay(:dead), herald.replay(-1) AS unknown;
SELECT herald.wait_idle('faults', '60 s');
SELECT task_id, attempt, next_attempt_at IS NULL AS given_up FROM herald.failure_log WHERE subscription = 'faults' AND task_id = 'raise' ORDER BY failed_at;
SELECT count(*), max(id) > :dead AS another FROM herald.dead_letters WHERE subscription = 'faults' AND task_id = 'raise';
SELECT herald.replay(:dead) AS replayed_before;
BEGIN;
SELECT herald.replay_all('faults');
SELECT count(*) FROM herald.dead_letters WHERE subscription = 'faults';
SELECT try($$SELECT herald.wait_idle('faults', '60 s')$$);
ROLLBACK;
SELECT count(*) FROM herald.dead_letters WHERE subscription = 'faults';
-- Mended, all of them succeed.
CREATE OR REPLACE FUNCTION fail(task herald.task) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (task) VALUES (task) $$;
SELECT herald.replay_all('faults');
SELECT herald.wait_idle('faults', '60 s');
SELECT string_agg((task).payload ->> 'fault', ' ' ORDER BY (task).message_id) AS faults, max((task).attempt) FROM seen;
SELECT count(*) FROM herald.dead_letters WHERE subscription = 'faults';
SELECT herald.replay_all('faults');

-- Discarded.
SELECT count(*) FROM herald.dead_letters WHERE subscription = 'sql';
SELECT herald.discard_dead_letters('sql', 'epoch'), herald.discard_dead_letters('sql', '-infinity') AS infinitely_long_ago;
SELECT died_at AS third_death FROM herald.dead_letters WHERE subscription = 'sql' ORDER BY died_at, id OFFSET 2 LIMIT 1 \gset
SELECT herald.discard_dead_letters('sql', :'third_death') BETWEEN 0 AND 2 AS those_before;
SELECT herald.discard_dead_letters('sql') >= 11 AS all_others;
SELECT herald.discard_dead_letters('sql');
SELECT count(*) FROM herald.tasks WHERE subscription = 'sql';
-- The failure log keeps what it has.
SELECT count(*) FROM herald.failure_log WHERE subscription = 'sql';
SELECT try(command) FROM unnest(ARRAY[$$SELECT herald.discard_dead_letters('missing')$$, $$SELECT herald.replay_all('missing')$$, 'SELECT herald.replay(NULL)', 'SELECT herald.replay_all(NULL)', 'SELECT herald.discard_dead_letters(NULL)']) AS command;

-- What a handler is told.
TRUNCATE seen;
SELECT herald.subscribe('task', 'regress seen', 'note', max_concurrency => 1, run_as => 'regress_herald_app');
SELECT herald.subscribe('payload', 'regress seen', 'note_payload', max_concurrency => 1, run_as => 'regress_herald_app');
CREATE ROLE "regress_herald Publisher";
SELECT herald.grant_channel('regress seen', 'regress_herald Publisher');
SET ROLE "regress_herald Publisher";
SELECT count(herald.publish('regress seen', payload, key, headers)) FROM (VALUES
    ('{"n": 1}'::jsonb, NULL, NULL::jsonb), ('[]', 'a key', '{"trace": [1, null]}'), ('null', '', '{}')) AS m (payload, key, headers);
RESET ROLE;
SELECT herald.wait_idle('task', '60 s'), herald.wait_idle('payload', '60 s');
SELECT (task).channel, (task).payload, (task).key, (task).headers, (task).subscription, (task).attempt, (task).published_by, (task).receipt,
       (task).published_at BETWEEN now() - interval '60 s' AND now() AS just_now, current, session
  FROM seen WHERE task IS DISTINCT FROM NULL ORDER BY (task).message_id;
SELECT bool_and(herald.fetch((task).message_id) = (task).payload) AS by_id FROM seen WHERE task IS DISTINCT FROM NULL;
SELECT payload, current, session FROM seen WHERE task IS NOT DISTINCT FROM NULL ORDER BY payload;

SELECT herald.drop_channel(name, force => true) FROM unnest('{regress faults,regress sql,regress loud,regress slow,regress seen}'::text[]) AS name;
DELETE FROM herald_internal.failure_store WHERE channel LIKE 'regress %';
DROP TABLE seen, children, parents;
DROP FUNCTION try, fail, fail_loudly, fail_sql, note, note_payload;
DROP ROLE regress_herald_app, "regress_herald Publisher";
