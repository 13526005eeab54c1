-- Subscriptions -------------------------------------------------------------------------------------

CREATE FUNCTION herald.subscribe(
    subscription text, channel text, handler text DEFAULT NULL, max_concurrency integer DEFAULT 4,
    max_attempts integer DEFAULT 16, retry_delay interval DEFAULT '1 second',
    retry_backoff double precision DEFAULT 2, max_retry_delay interval DEFAULT '1 hour',
    timeout interval DEFAULT '5 minutes', start_at text DEFAULT 'new', run_as text DEFAULT NULL,
    batch boolean DEFAULT true, if_not_exists boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_subscribe';
COMMENT ON FUNCTION herald.subscribe IS
    'Makes a subscription: workers run the handler, as role run_as, for each message of the channel.';

CREATE FUNCTION herald.alter_subscription(
    subscription text, channel text DEFAULT NULL, handler text DEFAULT NULL,
    max_concurrency integer DEFAULT NULL, max_attempts integer DEFAULT NULL,
    retry_delay interval DEFAULT NULL, retry_backoff double precision DEFAULT NULL,
    max_retry_delay interval DEFAULT NULL, timeout interval DEFAULT NULL, run_as text DEFAULT NULL,
    batch boolean DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_alter_subscription';
COMMENT ON FUNCTION herald.alter_subscription IS
    'Changes a subscription; NULL keeps. A new handler or role takes it off hold.';

CREATE FUNCTION herald.unsubscribe(subscription text, force boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_unsubscribe';
COMMENT ON FUNCTION herald.unsubscribe IS
    'Removes a subscription; where it has tasks or dead letters only by force.';

CREATE FUNCTION herald.pause(subscription text, wait interval DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_pause';
COMMENT ON FUNCTION herald.pause IS
    'Stops running tasks from the commit on, with wait: at once, and waits for those that run. True: none runs.';

CREATE FUNCTION herald.resume(subscription text)
RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_resume';
COMMENT ON FUNCTION herald.resume IS 'Runs the tasks of a paused or held subscription again.';

CREATE FUNCTION herald.wait_idle(subscription text, timeout interval)
RETURNS boolean LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_wait_idle';
COMMENT ON FUNCTION herald.wait_idle IS
    'Waits until the subscription has nothing left to do. True: nothing is left; false: the time is over.';

-- Dead letters --------------------------------------------------------------------------------------

CREATE FUNCTION herald.replay(dead_letter_id bigint)
RETURNS boolean LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_replay';
COMMENT ON FUNCTION herald.replay IS
    'Makes a dead letter a task again, with all its attempts. False: there is no such dead letter.';

CREATE FUNCTION herald.replay_all(subscription text)
RETURNS bigint LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_replay_all';
COMMENT ON FUNCTION herald.replay_all IS
    'Makes all dead letters of a subscription tasks again; returns how many.';

CREATE FUNCTION herald.discard_dead_letters(subscription text, before timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_discard_dead_letters';
COMMENT ON FUNCTION herald.discard_dead_letters IS
    'Deletes the dead letters of a subscription that died before a time (NULL: all); returns how many.';

-- Looking -------------------------------------------------------------------------------------------

CREATE FUNCTION herald.version(OUT library text, OUT extension text)
RETURNS record LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'herald_version';
COMMENT ON FUNCTION herald.version IS 'The version of the loaded library and of the installed extension.';

CREATE FUNCTION herald.status(OUT name text, OUT ok boolean, OUT value text, OUT hint text)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'herald_status';
COMMENT ON FUNCTION herald.status IS
    'One row per check: is everything as it must be for handlers to run, and what to do where not.';

CREATE FUNCTION herald.activate()
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'herald_activate';
COMMENT ON FUNCTION herald.activate IS
    'Lets subscriptions that were restored from another server or database run in this one.';

CREATE FUNCTION herald.list_workers(
    OUT pid integer, OUT kind text, OUT database text, OUT role text, OUT state text,
    OUT subscription text, OUT message_id bigint, OUT started_at timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
AS 'MODULE_PATHNAME', 'herald_list_workers';
COMMENT ON FUNCTION herald.list_workers IS 'What the view herald.workers shows.';

CREATE FUNCTION herald.list_subscription_stats(
    OUT subscription_id integer, OUT subscription text, OUT channel text, OUT state text,
    OUT reason text, OUT pending bigint, OUT running bigint, OUT done bigint, OUT failed bigint,
    OUT retrying bigint, OUT oldest_published_at timestamptz, OUT p50_ms double precision,
    OUT p95_ms double precision, OUT p99_ms double precision)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'herald_list_subscription_stats';
COMMENT ON FUNCTION herald.list_subscription_stats IS
    'What the view herald.subscription_stats shows: subscriptions that the caller may see.';

CREATE VIEW herald.workers WITH (security_barrier) AS
SELECT w.pid, w.kind, w.database, w.role, w.state, w.subscription, w.message_id, w.started_at
  FROM herald.list_workers() AS w;
COMMENT ON VIEW herald.workers IS
    'The background processes of the extension; workers only of roles that the caller is a member of.';

-- A view runs with its owner's rights on tables, but current_user in it is who asks. Roles are stored
-- by name: one that is gone gives nobody a right.
CREATE VIEW herald.subscriptions WITH (security_barrier) AS
SELECT s.subscription, c.channel, s.handler, s.owner, s.run_as, s.max_concurrency, s.max_attempts,
       s.retry_delay, s.retry_backoff, s.max_retry_delay, s.timeout, s.batch,
       l.state, l.reason, s.created_at
  FROM herald.list_subscription_stats() AS l
  JOIN herald.subscription_store AS s ON s.id = l.subscription_id
  JOIN herald.channel_store AS c ON c.id = s.channel_id;
COMMENT ON VIEW herald.subscriptions IS
    'Subscriptions with their options. state inert: restored from elsewhere, see herald.activate().';

CREATE VIEW herald.subscription_stats WITH (security_barrier) AS
SELECT l.subscription, l.channel, l.state, l.reason, l.pending, l.running, l.done, l.failed, l.retrying,
       (SELECT pg_catalog.count(*) FROM herald.dead_letter_store AS d
         WHERE d.subscription_id = l.subscription_id) AS dead,
       pg_catalog.clock_timestamp() - l.oldest_published_at AS oldest_pending_age,
       l.p50_ms, l.p95_ms, l.p99_ms
  FROM herald.list_subscription_stats() AS l;
COMMENT ON VIEW herald.subscription_stats IS
    'How far each subscription is. Latencies, in milliseconds, run from publication to the start of the handler.';

-- Payloads and errors: for members of the subscription's owner, of the role it runs as, or of the
-- channel's owner. Not for pg_monitor.
CREATE VIEW herald.dead_letters WITH (security_barrier) AS
SELECT d.id, s.subscription, c.channel, d.message_id,
       COALESCE(d.payload ->> 'task_id', d.message_id::text) AS task_id,
       d.payload, d.key, d.headers, d.attempts, d.error_code, d.message, d.died_at
  FROM herald.dead_letter_store AS d
  JOIN herald.subscription_store AS s ON s.id = d.subscription_id
  JOIN herald.channel_store AS c ON c.id = s.channel_id
 WHERE s.id IN (SELECT v.id
                  FROM herald.subscription_store AS v
                  JOIN herald.channel_store AS w ON w.id = v.channel_id
                  JOIN pg_catalog.pg_roles AS r ON r.rolname::text IN (v.owner, v.run_as, w.owner)
                 WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
    OR EXISTS (SELECT FROM pg_catalog.pg_roles AS u WHERE u.rolname = CURRENT_USER AND u.rolsuper);
COMMENT ON VIEW herald.dead_letters IS
    'Tasks whose last attempt failed: replay them by herald.replay, or discard them.';

CREATE VIEW herald.failure_log WITH (security_barrier) AS
SELECT f.subscription, f.channel, f.message_id, f.task_id, f.attempt, f.error_code, f.message, f.detail,
       f.hint, f.context, f.handler, f.started_at, f.failed_at, f.next_attempt_at
  FROM herald.failure_store AS f
 WHERE f.run_as IN (SELECT r.rolname::text FROM pg_catalog.pg_roles AS r
                     WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
    OR f.subscription_id IN (SELECT v.id
                               FROM herald.subscription_store AS v
                               JOIN herald.channel_store AS w ON w.id = v.channel_id
                               JOIN pg_catalog.pg_roles AS r ON r.rolname::text IN (v.owner, w.owner)
                              WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
    OR EXISTS (SELECT FROM pg_catalog.pg_roles AS u WHERE u.rolname = CURRENT_USER AND u.rolsuper);
COMMENT ON VIEW herald.failure_log IS
    'One row per failed attempt; next_attempt_at NULL: given up.';

CREATE VIEW herald.tasks WITH (security_barrier) AS
WITH subscription AS MATERIALIZED (
    SELECT s.id, s.subscription, s.channel_id, c.channel, l.state, l.reason,
           herald.has_channel_privilege(CURRENT_USER::text, c.channel, 'read') AS may_read
      FROM herald.list_subscription_stats() AS l
      JOIN herald.subscription_store AS s ON s.id = l.subscription_id
      JOIN herald.channel_store AS c ON c.id = s.channel_id
), running AS MATERIALIZED (
    SELECT w.subscription, w.message_id
      FROM herald.list_workers() AS w
     WHERE w.kind = 'worker' AND w.state = 'running'
       AND w.database = pg_catalog.current_database()::text
), log AS (
    SELECT id, channel_id, payload FROM herald.log_0
    UNION ALL SELECT id, channel_id, payload FROM herald.log_1
    UNION ALL SELECT id, channel_id, payload FROM herald.log_2
), settled AS (
    SELECT subscription_id, pg_catalog.unnest(message_ids) AS id FROM herald.settled_0
    UNION ALL SELECT subscription_id, pg_catalog.unnest(message_ids) FROM herald.settled_1
    UNION ALL SELECT subscription_id, pg_catalog.unnest(message_ids) FROM herald.settled_2
), open AS (
    SELECT s.id AS subscription_id, l.id AS message_id, 0 AS attempts,
           NULL::timestamptz AS next_attempt_at, l.payload
      FROM subscription AS s
      JOIN log AS l ON l.channel_id = s.channel_id
     WHERE NOT EXISTS (SELECT FROM settled AS d WHERE d.subscription_id = s.id AND d.id = l.id)
    UNION ALL
    SELECT p.subscription_id, p.message_id, p.attempts, p.next_attempt_at, p.payload
      FROM herald.parked_store AS p
)
SELECT s.subscription, s.channel, o.message_id,
       CASE WHEN r.message_id IS NOT NULL THEN 'running'
            WHEN o.attempts > 0 THEN 'retrying' ELSE 'pending' END AS state,
       CASE WHEN r.message_id IS NOT NULL THEN o.attempts + 1 ELSE o.attempts END AS attempt,
       CASE WHEN r.message_id IS NULL THEN o.next_attempt_at END AS next_attempt_at,
       CASE WHEN r.message_id IS NOT NULL THEN NULL
            WHEN s.state = 'held' THEN 'held: ' || COALESCE(s.reason, '')
            WHEN s.state <> 'active' THEN s.state
            WHEN o.next_attempt_at > pg_catalog.clock_timestamp() THEN 'retry delay'
            ELSE 'worker' END AS wait_reason,
       CASE WHEN s.may_read THEN o.payload END AS payload
  FROM open AS o
  JOIN subscription AS s ON s.id = o.subscription_id
  LEFT JOIN running AS r ON r.subscription = s.subscription AND r.message_id = o.message_id
UNION ALL
SELECT s.subscription, s.channel, d.message_id, 'dead', d.attempts, NULL, NULL,
       CASE WHEN s.may_read THEN d.payload END
  FROM herald.dead_letter_store AS d
  JOIN subscription AS s ON s.id = d.subscription_id;
COMMENT ON VIEW herald.tasks IS
    'Tasks that are not done: pending, running, retrying, dead. attempt is the one that runs, or the last '
    'one that ran; payload only with the privilege read.';

REVOKE ALL ON FUNCTION
    herald.subscribe, herald.alter_subscription, herald.unsubscribe, herald.pause, herald.resume,
    herald.wait_idle, herald.replay, herald.replay_all, herald.discard_dead_letters, herald.version,
    herald.status, herald.activate, herald.list_workers, herald.list_subscription_stats
FROM PUBLIC;
REVOKE ALL ON
    herald.workers, herald.subscriptions, herald.subscription_stats, herald.dead_letters,
    herald.failure_log, herald.tasks
FROM PUBLIC;

-- They check the caller's rights inside, and show what the caller may see.
GRANT EXECUTE ON FUNCTION
    herald.subscribe, herald.alter_subscription, herald.unsubscribe, herald.pause, herald.resume,
    herald.wait_idle, herald.replay, herald.replay_all, herald.discard_dead_letters, herald.version,
    herald.status, herald.activate, herald.list_workers, herald.list_subscription_stats
TO PUBLIC;
GRANT SELECT ON
    herald.workers, herald.subscriptions, herald.subscription_stats, herald.dead_letters,
    herald.failure_log, herald.tasks
TO PUBLIC;
