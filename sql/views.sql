-- What the views show to whom: the superuser, the owner of the channel, the owner of a subscription,
-- the role it runs as, a reader, a publisher, a monitor, and nobody in particular.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE ROLE regress_herald_owner;
CREATE ROLE regress_herald_subscriber;
CREATE ROLE regress_herald_app LOGIN;
CREATE ROLE regress_herald_reader;
CREATE ROLE regress_herald_publisher;
CREATE ROLE regress_herald_monitor IN ROLE pg_monitor;
CREATE ROLE regress_herald_member IN ROLE regress_herald_subscriber;
CREATE ROLE regress_herald_nobody;
GRANT regress_herald_app TO regress_herald_subscriber;
SELECT current_database() AS database \gset
GRANT CREATE ON DATABASE :"database" TO regress_herald_owner;
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF payload -> 'fail' IS NOT NULL THEN
        RAISE EXCEPTION 'it holds %', payload ->> 'secret' USING DETAIL = payload ->> 'secret';
    END IF;
END $$;

-- One channel with a dead letter, a task that waits for its next attempt, and one that waits while the subscription pauses.
SET ROLE regress_herald_owner;
SELECT herald.create_channel('regress views private');
SELECT herald.create_channel('regress views other');
SELECT herald.grant_channel('regress views private', 'regress_herald_subscriber', '{subscribe}');
SELECT herald.grant_channel('regress views private', 'regress_herald_reader', '{read}');
SELECT herald.grant_channel('regress views private', 'regress_herald_publisher');
SET ROLE regress_herald_subscriber;
SELECT herald.subscribe('dies', 'regress views private', 'fail', max_attempts => 1, run_as => 'regress_herald_app');
SELECT herald.subscribe('waits', 'regress views private', 'fail', max_attempts => 2, retry_delay => '1 hour', run_as => 'regress_herald_app');
RESET ROLE;
SELECT herald.publish('regress views private', '{"fail": true, "secret": "password", "task_id": "first"}', 'its key') IS NOT NULL AS stored;
SELECT herald.wait_idle('dies', '60 s');
DO $$
BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXIT WHEN EXISTS (SELECT FROM herald.subscription_stats WHERE subscription = 'waits' AND retrying = 1);
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SET ROLE regress_herald_subscriber;
SELECT herald.pause('waits');
RESET ROLE;
SELECT herald.publish('regress views private', '{"secret": "password", "task_id": "second"}') IS NOT NULL AS stored;
SELECT herald.wait_idle('dies', '60 s');

-- All of it.
SELECT channel, owner, privileges FROM herald.channels WHERE channel LIKE 'regress views %' ORDER BY channel;
SELECT subscription, channel, handler, owner, run_as, state FROM herald.subscriptions ORDER BY subscription;
SELECT subscription, channel, state, reason, pending, running, done, failed, retrying, dead, oldest_pending_age > '0' AS aged, p50_ms >= 0 AS measured
  FROM herald.subscription_stats ORDER BY subscription;
SELECT subscription, channel, state, attempt, next_attempt_at > now() AS later, wait_reason, payload FROM herald.tasks ORDER BY subscription, message_id;
SELECT subscription, channel, task_id, payload, key, headers, attempts, error_code, message FROM herald.dead_letters;
SELECT subscription, channel, task_id, attempt, error_code, message, detail, hint, next_attempt_at > now() AS again FROM herald.failure_log ORDER BY subscription;
SELECT channel, published, delivered, failed, retried, dead FROM herald.channel_stats WHERE channel LIKE 'regress views %';

-- The same by each role: how many rows, and how many payloads and errors among them.
CREATE TABLE looks (place integer GENERATED ALWAYS AS IDENTITY, role text, channels bigint, channel_stats bigint, subscriptions bigint, subscription_stats bigint,
    tasks bigint, payloads bigint, dead_letters bigint, failure_log bigint, workers text);
GRANT INSERT ON looks TO PUBLIC;
CREATE PROCEDURE look(role text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    INSERT INTO looks (role, channels, channel_stats, subscriptions, subscription_stats, tasks, payloads, dead_letters, failure_log, workers)
    SELECT role, (SELECT count(*) FROM herald.channels WHERE channel LIKE 'regress views %'),
           (SELECT count(*) FROM herald.channel_stats WHERE channel LIKE 'regress views %'), (SELECT count(*) FROM herald.subscriptions), (SELECT count(*) FROM herald.subscription_stats),
           (SELECT count(*) FROM herald.tasks), (SELECT count(payload) FROM herald.tasks),
           (SELECT count(*) FROM herald.dead_letters), (SELECT count(*) FROM herald.failure_log WHERE channel LIKE 'regress views %'),
           (SELECT string_agg(DISTINCT kind || COALESCE(' of ' || w.role, ''), ', ' ORDER BY kind || COALESCE(' of ' || w.role, '')) FROM herald.workers AS w
             WHERE w.kind <> 'worker' OR w.role = 'regress_herald_app');
    RESET ROLE;
END $$;
CALL look('regress_herald_owner');
CALL look('regress_herald_subscriber');
CALL look('regress_herald_member');
CALL look('regress_herald_app');
CALL look('regress_herald_reader');
CALL look('regress_herald_publisher');
CALL look('regress_herald_monitor');
CALL look('regress_herald_nobody');
SELECT role, channels, channel_stats, subscriptions, subscription_stats, tasks, payloads, dead_letters, failure_log, workers FROM looks ORDER BY place;

-- With read, the payloads come with the tasks that one sees anyway.
SELECT herald.grant_channel('regress views private', 'regress_herald_subscriber', '{read}');
SET ROLE regress_herald_member;
SELECT subscription, state, payload ->> 'task_id' AS task_id FROM herald.tasks ORDER BY subscription, message_id;
RESET ROLE;
SELECT herald.revoke_channel('regress views private', 'regress_herald_subscriber', '{read}');
-- Who may no longer act as the owner sees no more.
REVOKE regress_herald_subscriber FROM regress_herald_member;
TRUNCATE looks;
CALL look('regress_herald_member');
SELECT role, channels, subscriptions, tasks, payloads, dead_letters, failure_log, workers FROM looks ORDER BY place;

-- A function in the WHERE clause does not see the rows that are not for the caller.
CREATE FUNCTION leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw %', $1; RETURN true; END $$;
SET ROLE regress_herald_nobody;
SELECT count(*) FROM herald.channels WHERE leak(channel) AND channel LIKE 'regress views %';
SELECT count(*) FROM herald.subscriptions WHERE leak(subscription);
SELECT count(*) FROM herald.tasks WHERE leak(payload::text);
SELECT count(*) FROM herald.dead_letters WHERE leak(payload::text);
SELECT count(*) FROM herald.failure_log WHERE leak(message);
SELECT count(*) FROM herald.workers WHERE leak(role) AND role = 'regress_herald_app';
RESET ROLE;

-- The failures of a subscription that is gone are left to the role that it ran as.
SELECT herald.unsubscribe('waits', force => true);
TRUNCATE looks;
CALL look('regress_herald_owner');
CALL look('regress_herald_app');
SELECT role, subscriptions, tasks, payloads, dead_letters, failure_log FROM looks ORDER BY place;

SELECT herald.drop_channel(channel, force => true) FROM herald.channels WHERE channel LIKE 'regress views %';
DELETE FROM herald_internal.failure_store WHERE channel LIKE 'regress views %';
DROP TABLE looks;
DROP PROCEDURE look;
DROP FUNCTION fail, leak;
REVOKE CREATE ON DATABASE :"database" FROM regress_herald_owner;
DROP ROLE regress_herald_owner, regress_herald_subscriber, regress_herald_app, regress_herald_reader, regress_herald_publisher,
    regress_herald_monitor, regress_herald_member, regress_herald_nobody;
