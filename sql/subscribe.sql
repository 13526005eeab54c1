-- The definition side of subscriptions: what subscribe accepts and refuses, who may change what, and
-- what the views show. No message is published, so nothing runs.
SET client_min_messages = warning;
CREATE ROLE regress_herald_owner LOGIN;
CREATE ROLE regress_herald_runner LOGIN;
CREATE ROLE regress_herald_other LOGIN;
CREATE ROLE regress_herald_nologin NOLOGIN;
CREATE ROLE regress_herald_super SUPERUSER LOGIN;
GRANT regress_herald_runner, regress_herald_nologin TO regress_herald_owner;
SELECT current_database() AS database \gset
GRANT CREATE ON DATABASE :"database" TO regress_herald_owner;
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO regress_herald_owner, regress_herald_runner;
CREATE FUNCTION app.on_task(herald.task) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION app.on_payload(jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION app.on_both(herald.task) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION app.on_both(jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION app."On Mixed"(jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION app.on_text(text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION app.on_two(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE app.on_procedure(jsonb) LANGUAGE sql AS '';
CREATE FUNCTION app.on_private(jsonb) RETURNS void LANGUAGE sql AS '';
REVOKE ALL ON FUNCTION app.on_private FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.on_private TO regress_herald_owner;

-- The outcome of a command: ok, or the error with its code.
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN sqlstate || ': ' || message || CASE detail WHEN '' THEN '' ELSE ' (' || detail || ')' END;
END $$;
RESET client_min_messages;

-- A superuser's subscription needs another role to run as.
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_task', run_as => 'regress_herald_super')$$);
SET ROLE regress_herald_owner;

-- Handlers.
SELECT try($$SELECT herald.subscribe('s', 'orders')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.missing')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'missing.on_task')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_text')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_two')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_task(jsonb)')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_text(text)')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_payload()')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_two(jsonb, jsonb)')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_payload(jsonb')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_procedure')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.On Mixed')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', '')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_private', run_as => 'regress_herald_runner')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'elsewhere.app.on_task')$$);

-- Roles.
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_task', run_as => 'regress_herald_missing')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_task', run_as => 'regress_herald_other')$$);
SELECT CASE WHEN current_setting('server_version_num')::integer < 170000
            THEN try($$SELECT herald.subscribe('s', 'orders', 'app.on_task', run_as => 'regress_herald_nologin')$$)
            ELSE '28000: role "regress_herald_nologin" is not permitted to log in, which a worker needs before PostgreSQL 17' END AS try;

-- Names and ranges.
SELECT try($$SELECT herald.subscribe('', 'orders', 'app.on_task')$$);
SELECT try($$SELECT herald.subscribe(repeat('x', 64), 'orders', 'app.on_task')$$);
SELECT try($$SELECT herald.subscribe('s', '', 'app.on_task')$$);
SELECT try($$SELECT herald.subscribe('s', repeat('x', 64), 'app.on_task')$$);
SELECT try($$SELECT herald.subscribe(NULL, 'orders', 'app.on_task')$$);
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_task', max_attempts => NULL)$$);
SELECT option, try(format($$SELECT herald.subscribe('s', 'orders', 'app.on_task', %s)$$, option))
  FROM unnest(ARRAY['max_concurrency => 0', 'max_concurrency => 1001', 'max_attempts => 0',
                    'max_attempts => 1001', $$retry_delay => '-1 second'$$,
                    $$retry_delay => '36501 days'$$, 'retry_backoff => 0.9',
                    $$retry_backoff => 'NaN'$$, $$retry_backoff => 'Infinity'$$,
                    $$max_retry_delay => '-1 second'$$, $$timeout => '-1 second'$$,
                    $$timeout => '25 days'$$, $$start_at => 'now'$$]) AS option;

-- Nothing was made, and no channel was declared on the way.
SELECT count(*) FROM herald.subscriptions;
SELECT try($$SELECT herald.subscribe('typed', 'orders', 'app.on_both')$$);
SELECT try($$SELECT herald.subscribe('typed', 'orders', 'app.on_both')$$);
SELECT herald.subscribe('typed', 'orders', 'app.on_both', if_not_exists => true);
SELECT herald.subscribe('payload', 'orders', ' app . on_both ( JSONB ) ', max_concurrency => 1,
                        max_attempts => 3, retry_delay => '0', retry_backoff => 1,
                        max_retry_delay => '1 minute', timeout => '0', start_at => 'earliest',
                        run_as => 'regress_herald_runner', batch => false);
SET search_path = app, public;
SELECT herald.subscribe('Mixed, "quoted"', 'Orders', '"On Mixed"');
SELECT herald.subscribe(repeat('x', 63), 'Orders', 'app.on_task(herald.task)');
RESET search_path;
SELECT subscription, channel, handler, owner, run_as, state, reason FROM herald.subscriptions ORDER BY 1;
SELECT max_concurrency, max_attempts, retry_delay, retry_backoff, max_retry_delay, timeout, batch
  FROM herald.subscriptions WHERE subscription IN ('typed', 'payload') ORDER BY subscription;

-- Channels: declared by subscribe with publish left open; ephemeral ones and those of others are refused.
SELECT channel, durable, owner FROM herald.channels ORDER BY 1;
SELECT herald.has_channel_privilege('regress_herald_other', 'orders', 'publish') AS publish,
       herald.has_channel_privilege('regress_herald_other', 'orders', 'subscribe') AS subscribe,
       herald.has_channel_privilege('regress_herald_other', 'orders', 'read') AS read;
RESET ROLE;
SELECT herald.create_channel('ephemeral', durable => false);
SELECT try($$SELECT herald.subscribe('s', 'ephemeral', 'app.on_task', run_as => 'regress_herald_runner')$$);
GRANT USAGE ON SCHEMA app TO regress_herald_other;
SET ROLE regress_herald_other;
SELECT try($$SELECT herald.subscribe('s', 'orders', 'app.on_task')$$);
SELECT try($$SELECT herald.subscribe('s', 'undeclared', 'app.on_task')$$);

-- Others can neither see nor change a subscription.
SELECT count(*) FROM herald.subscriptions;
SELECT count(*) FROM herald.subscription_stats;
SELECT count(*) FROM herald.tasks;
SELECT command, try('SELECT ' || command)
  FROM unnest(ARRAY['herald.alter_subscription(''typed'', max_attempts => 1)',
                    'herald.unsubscribe(''typed'')', 'herald.pause(''typed'')',
                    'herald.resume(''typed'')', 'herald.wait_idle(''typed'', ''0'')',
                    'herald.replay_all(''typed'')', 'herald.discard_dead_letters(''typed'')',
                    'herald.pause(''missing'')', 'herald.activate()']) AS command;
RESET ROLE;

-- A grant lets them subscribe; what they see then is their own.
SELECT herald.grant_channel('orders', 'regress_herald_other', '{subscribe}');
SET ROLE regress_herald_other;
SELECT herald.subscribe('theirs', 'orders', 'app.on_payload');
SELECT subscription, owner FROM herald.subscriptions;
SET ROLE regress_herald_owner;

-- The channel's owner sees them all, but changes only his own.
SELECT subscription, owner FROM herald.subscriptions WHERE channel = 'orders' ORDER BY 1;
SELECT try($$SELECT herald.unsubscribe('theirs')$$);

-- Altering.
SELECT herald.alter_subscription('typed', max_attempts => 5, timeout => '1 minute');
SELECT try($$SELECT herald.alter_subscription('typed', channel => 'orders')$$);
SELECT try($$SELECT herald.alter_subscription('typed', channel => 'Orders')$$);
SELECT try($$SELECT herald.alter_subscription('typed', max_attempts => 0)$$);
SELECT try($$SELECT herald.alter_subscription('typed', handler => 'app.on_text')$$);
SELECT try($$SELECT herald.alter_subscription('typed', run_as => 'regress_herald_other')$$);
SELECT herald.alter_subscription('typed', handler => 'app.on_private');
SELECT try($$SELECT herald.alter_subscription('typed', run_as => 'regress_herald_runner')$$);
SELECT herald.alter_subscription('typed', handler => 'app.on_task', run_as => 'regress_herald_runner');
SELECT handler, run_as, max_concurrency, max_attempts, timeout FROM herald.subscriptions
 WHERE subscription = 'typed';

-- Pausing, and waiting for nothing.
SELECT herald.pause('typed');
SELECT herald.pause('payload', '1 second');
SELECT subscription, state FROM herald.subscriptions WHERE state <> 'active' ORDER BY 1;
SELECT herald.resume('typed');
SELECT herald.resume('payload');
SELECT count(*) FROM herald.subscriptions WHERE state <> 'active';
SELECT herald.wait_idle('typed', '60 s');
SELECT try($$SELECT herald.wait_idle('typed', NULL)$$);
-- What this transaction brings can't be waited for: published one by one, many at once, by a feed. A savepoint takes it back.
SELECT channel AS typed_channel FROM herald.subscriptions WHERE subscription = 'typed' \gset
SELECT try(format('SELECT herald.publish(%L, 1::text), herald.wait_idle(%L, %L)', :'typed_channel', 'typed', '60 s'));
BEGIN;
SAVEPOINT s;
SELECT count(*) FROM herald.publish_batch(:'typed_channel', ARRAY['1', '2']);
SELECT try($$SELECT herald.wait_idle('typed', '60 s')$$);
ROLLBACK TO s;
SELECT herald.wait_idle('typed', '60 s');
CREATE SCHEMA regress_fed CREATE TABLE fed (id integer PRIMARY KEY);
SELECT herald.enable_change_feed('regress_fed.fed', :'typed_channel');
INSERT INTO regress_fed.fed VALUES (1);
SELECT try($$SELECT herald.wait_idle('typed', '60 s')$$);
ROLLBACK;
-- More than can run is no wish that comes true. The default is nobody's wish.
SELECT herald.alter_subscription('typed', max_concurrency => 5);
SET client_min_messages = warning;
SELECT herald.alter_subscription('typed', max_concurrency => 4);
RESET client_min_messages;
SELECT try($$SELECT herald.wait_idle('typed', '-1 second')$$);
SELECT try($$SELECT herald.pause('typed', '-1 second')$$);

-- Dead letters that are not there.
SELECT herald.replay(1);
SELECT herald.replay_all('typed');
SELECT herald.discard_dead_letters('typed');
SELECT try($$SELECT herald.replay_all('missing')$$);

-- A rolled-back subscribe leaves nothing.
BEGIN;
SELECT herald.subscribe('gone', 'orders', 'app.on_task');
ROLLBACK;
SELECT count(*) FROM herald.subscriptions WHERE subscription = 'gone';

-- Nobody reads or writes the tables themselves.
SELECT try('SELECT count(*) FROM herald_internal.subscription_store');
SELECT try('DELETE FROM herald_internal.parked_store');
SELECT try('SELECT count(*) FROM herald_internal.failure_store');

SELECT herald.unsubscribe('typed');
SELECT try($$SELECT herald.unsubscribe('typed')$$);
SELECT herald.unsubscribe('payload', true);
SELECT subscription FROM herald.subscriptions ORDER BY 1;
RESET ROLE;

-- Restored from elsewhere: inert until activated.
UPDATE herald_internal.subscription_store SET system_identifier = '1' WHERE subscription = 'theirs';
SELECT subscription, state FROM herald.subscriptions ORDER BY 1;
SELECT name, ok, value FROM herald.status() WHERE name = 'inert_subscriptions';
SELECT herald.activate();
SELECT subscription, state FROM herald.subscriptions ORDER BY 1;

-- Faults that status() names.
DROP FUNCTION app."On Mixed"(jsonb);
REVOKE EXECUTE ON FUNCTION app.on_payload FROM PUBLIC;
SELECT name, ok, value FROM herald.status() WHERE name IN ('handlers', 'roles');

SELECT herald.unsubscribe(subscription) FROM herald.subscriptions;
SELECT herald.drop_channel(channel) FROM herald.channels;
SET client_min_messages = warning;
REVOKE CREATE ON DATABASE :"database" FROM regress_herald_owner;
DROP SCHEMA app CASCADE;
DROP FUNCTION try;
DROP ROLE regress_herald_owner, regress_herald_runner, regress_herald_other, regress_herald_nologin,
    regress_herald_super;
