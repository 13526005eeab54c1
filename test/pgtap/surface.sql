-- The SQL contract: names, arguments in order with their defaults, results, columns, and who may use
-- what. A change here is a change for every caller.
BEGIN;
SELECT plan(23);

SELECT set_eq(
    $$SELECT format('%s(%s) -> %s', p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
        FROM pg_proc AS p
       WHERE p.pronamespace = 'herald'::regnamespace$$,
    ARRAY[
    'activate() -> void',
    'alter_channel(channel text, durable boolean DEFAULT NULL::boolean, schema jsonb DEFAULT NULL::jsonb, validation text DEFAULT NULL::text, announce text DEFAULT NULL::text, accept_notify boolean DEFAULT NULL::boolean, max_payload_bytes integer DEFAULT NULL::integer, description text DEFAULT NULL::text, when_full text DEFAULT NULL::text, check_formats boolean DEFAULT NULL::boolean, owner text DEFAULT NULL::text, force boolean DEFAULT false) -> void',
    'alter_channel(channel herald_internal.channel_name, durable boolean DEFAULT NULL::boolean, schema json DEFAULT NULL::json, validation text DEFAULT NULL::text, announce text DEFAULT NULL::text, accept_notify boolean DEFAULT NULL::boolean, max_payload_bytes integer DEFAULT NULL::integer, description text DEFAULT NULL::text, when_full text DEFAULT NULL::text, check_formats boolean DEFAULT NULL::boolean, owner text DEFAULT NULL::text, force boolean DEFAULT false) -> void',
    'alter_subscription(subscription text, channel text DEFAULT NULL::text, handler text DEFAULT NULL::text, max_concurrency integer DEFAULT NULL::integer, max_attempts integer DEFAULT NULL::integer, retry_delay interval DEFAULT NULL::interval, retry_backoff double precision DEFAULT NULL::double precision, max_retry_delay interval DEFAULT NULL::interval, timeout interval DEFAULT NULL::interval, run_as text DEFAULT NULL::text, batch boolean DEFAULT NULL::boolean, isolation text DEFAULT NULL::text, owner text DEFAULT NULL::text) -> void',
    'audit_history(target regclass, record_id jsonb) -> SETOF herald.audit_log',
    'create_channel(channel text, durable boolean DEFAULT true, schema jsonb DEFAULT NULL::jsonb, validation text DEFAULT ''reject''::text, announce text DEFAULT NULL::text, accept_notify boolean DEFAULT false, max_payload_bytes integer DEFAULT NULL::integer, description text DEFAULT NULL::text, when_full text DEFAULT ''refuse''::text, check_formats boolean DEFAULT false, if_not_exists boolean DEFAULT false) -> void',
    'create_channel(channel herald_internal.channel_name, durable boolean DEFAULT true, schema json DEFAULT NULL::json, validation text DEFAULT ''reject''::text, announce text DEFAULT NULL::text, accept_notify boolean DEFAULT false, max_payload_bytes integer DEFAULT NULL::integer, description text DEFAULT NULL::text, when_full text DEFAULT ''refuse''::text, check_formats boolean DEFAULT false, if_not_exists boolean DEFAULT false) -> void',
    'disable_audit(target regclass) -> void',
    'discard_dead_letters(subscription text, before timestamp with time zone DEFAULT NULL::timestamp with time zone) -> bigint',
    'drop_channel(channel text, if_exists boolean DEFAULT false, force boolean DEFAULT false) -> void',
    'enable_audit(target regclass, record text DEFAULT ''full''::text, exclude text[] DEFAULT ''{}''::text[], mask text[] DEFAULT ''{}''::text[], operations text[] DEFAULT ''{insert,update,delete,truncate}''::text[]) -> void',
    'disable_change_feed(target regclass, channel text) -> void',
    'enable_change_feed(target regclass, channel text, message text DEFAULT ''key''::text, columns text[] DEFAULT NULL::text[], operations text[] DEFAULT ''{insert,update,delete,truncate}''::text[]) -> void',
    'fetch(message_id bigint) -> jsonb',
    'grant_channel(channel text, grantee text, privileges text[] DEFAULT ''{publish}''::text[]) -> void',
    'has_channel_privilege(role text, channel text, privilege text) -> boolean',
    'notify(channel text, payload text) -> void',
    'pause(subscription text, wait interval DEFAULT NULL::interval) -> boolean',
    'publish(channel herald_internal.channel_name, payload anyelement, key anycompatiblenonarray DEFAULT NULL::unknown, headers json DEFAULT NULL::json) -> bigint',
    'publish(channel herald_internal.channel_name, payload text, key anycompatiblenonarray DEFAULT NULL::unknown, headers json DEFAULT NULL::json) -> bigint',
    'publish(channel text, payload anyelement, key anycompatiblenonarray, headers jsonb DEFAULT NULL::jsonb) -> bigint',
    'publish(channel text, payload text, key anycompatiblenonarray, headers jsonb DEFAULT NULL::jsonb) -> bigint',
    'publish(channel text, payload json, key text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb) -> bigint',
    'publish(channel text, payload jsonb, key text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb) -> bigint',
    'publish(channel text, payload text, key text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb) -> bigint',
    'publish_batch(channel herald_internal.channel_name, payloads json[], keys text[] DEFAULT NULL::text[], headers json[] DEFAULT NULL::json[]) -> SETOF bigint',
    'publish_batch(channel herald_internal.channel_name, payloads text[], keys text[] DEFAULT NULL::text[], headers text[] DEFAULT NULL::text[]) -> SETOF bigint',
    'publish_batch(channel text, payloads jsonb[], keys text[] DEFAULT NULL::text[], headers jsonb[] DEFAULT NULL::jsonb[]) -> SETOF bigint',
    'purge_audit_log(before timestamp with time zone DEFAULT NULL::timestamp with time zone) -> bigint',
    'replay(dead_letter_id bigint) -> boolean',
    'replay_all(subscription text) -> bigint',
    'reset_stats(channel text DEFAULT NULL::text) -> void',
    'resume(subscription text) -> void',
    'revoke_channel(channel text, grantee text, privileges text[] DEFAULT ''{publish}''::text[]) -> void',
    'status(OUT name text, OUT ok boolean, OUT value text, OUT hint text, OUT value_number double precision, OUT unit text) -> SETOF record',
    'subscribe(subscription text, channel text, handler text DEFAULT NULL::text, max_concurrency integer DEFAULT 4, max_attempts integer DEFAULT 16, retry_delay interval DEFAULT ''00:00:01''::interval, retry_backoff double precision DEFAULT 2, max_retry_delay interval DEFAULT ''01:00:00''::interval, timeout interval DEFAULT ''00:05:00''::interval, start_at text DEFAULT ''new''::text, run_as text DEFAULT NULL::text, batch boolean DEFAULT true, isolation text DEFAULT ''read committed''::text, if_not_exists boolean DEFAULT false) -> void',
    'try_lock(name text, scope text DEFAULT ''session''::text, channel text DEFAULT ''locks''::text) -> boolean',
    'unlock(name text) -> boolean',
    'unsubscribe(subscription text, force boolean DEFAULT false) -> void',
    'validate(schema jsonb, payload jsonb, check_formats boolean DEFAULT false) -> boolean',
    'validation_errors(schema jsonb, payload jsonb, check_formats boolean DEFAULT false, OUT payload_path text, OUT schema_path text, OUT message text, OUT instance_location text, OUT keyword_location text) -> SETOF record',
    'version(OUT library text, OUT extension text) -> record',
    'wait_idle(subscription text, timeout interval) -> boolean'
    ],
    'functions, with their arguments and results');

SELECT set_eq(
    $$SELECT DISTINCT p.proname::text
        FROM pg_proc AS p
       WHERE p.pronamespace = 'herald'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')$$,
    ARRAY['activate', 'alter_channel', 'alter_subscription', 'audit_history', 'create_channel', 'disable_audit',
          'discard_dead_letters', 'enable_audit', 'enable_change_feed', 'disable_change_feed', 'drop_channel', 'fetch', 'grant_channel',
          'has_channel_privilege', 'notify', 'pause', 'publish', 'publish_batch', 'replay', 'replay_all', 'reset_stats', 'resume',
          'revoke_channel', 'status', 'subscribe', 'try_lock', 'unlock', 'unsubscribe', 'validate', 'validation_errors', 'version', 'wait_idle'],
    'what PUBLIC may execute');

SELECT set_eq(
    $$SELECT p.proname::text FROM pg_proc AS p
       WHERE p.pronamespace = 'herald_internal'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')$$,
    ARRAY['feed_problem', 'list_audited_tables', 'list_channel_stats', 'list_listeners', 'list_subscription_stats', 'list_tasks',
          'list_workers', 'stored_role', 'task_payload'],
    'and of what is internal: what views call');

SELECT is_empty(
    $$SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace = 'herald'::regnamespace AND c.relkind NOT IN ('v', 'c')$$,
    'people see views');

SELECT is_empty(
    $$SELECT d.oid::regprocedure FROM pg_proc AS d
       WHERE d.pronamespace = 'herald'::regnamespace AND NOT has_function_privilege('public', d.oid, 'EXECUTE')
         AND d.proname <> 'purge_audit_log'$$,
    'and functions that they may call');

SELECT is_empty(
    $$SELECT p.oid::regprocedure FROM pg_proc AS p
       WHERE p.pronamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND p.prosecdef
         AND NOT coalesce(array_to_string(p.proconfig, ',') LIKE '%search_path=%', false)$$,
    'no SECURITY DEFINER function without a search_path of its own');

SELECT is_empty(
    $$SELECT p.oid::regprocedure FROM pg_proc AS p
       WHERE p.pronamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND p.provolatile = 'v' AND p.proparallel = 's'$$,
    'no function that writes is parallel safe');

SELECT is_empty(
    $$SELECT format('%s %s', c.relname, a.privilege_type)
        FROM pg_class AS c, aclexplode(c.relacl) AS a
       WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND c.relkind IN ('r', 'p', 'S')
         AND a.grantee <> c.relowner AND NOT (a.grantee = 'pg_database_owner'::regrole AND a.privilege_type = 'SELECT')$$,
    'nobody but the owner has a right on a table or sequence, but that the owner of the database may read, for pg_dump');

SELECT is_empty(
    $$SELECT format('%s.%s', c.relname, t.attname)
        FROM pg_class AS c
        JOIN pg_attribute AS t ON t.attrelid = c.oid
       WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND t.attacl IS NOT NULL$$,
    'nobody has a right on single columns');

SELECT set_eq(
    $$SELECT DISTINCT a.privilege_type
        FROM pg_class AS c, aclexplode(c.relacl) AS a
       WHERE c.relnamespace = 'herald'::regnamespace AND c.relkind = 'v' AND a.grantee <> c.relowner$$,
    ARRAY['SELECT'],
    'views can be read and nothing else');

SELECT ok(bool_and(has_schema_privilege('public', s, 'USAGE') AND NOT has_schema_privilege('public', s, 'CREATE')),
          'PUBLIC may use the schemas and create nothing in them')
  FROM unnest(ARRAY['herald', 'herald_internal']) AS s;

SELECT set_eq(
    $$SELECT format('%s: %s', c.relname, string_agg(t.attname, ' ' ORDER BY t.attnum))
        FROM pg_class AS c
        JOIN pg_attribute AS t ON t.attrelid = c.oid AND t.attnum > 0
       WHERE c.relnamespace = 'herald'::regnamespace AND c.relkind = 'v'
       GROUP BY c.relname$$,
    ARRAY[
    'audit_log: id transaction_id sequence changed_at operation schema_name table_name record_id old_record_id old new changed session_user_name current_user_name application_name client_address client_port statement context',
    'audited_tables: schema_name table_name record exclude mask operations partitions ok problem',
    'change_feeds: schema_name table_name channel message columns operations owner ok problem created_at',
    'channel_stats: channel published published_bytes announced rejected warned delivered failed retried dead listeners p50_ms p95_ms p99_ms last_published_at last_delivered_at stats_reset',
    'channels: channel owner durable announce accept_notify max_payload_bytes privileges description created_at when_full schema validation check_formats schema_version',
    'dead_letters: id subscription channel message_id task_id payload key headers attempts error_code message died_at schema_version',
    'failure_log: subscription channel message_id task_id attempt error_code message detail hint context handler started_at failed_at next_attempt_at',
    'listeners: pid database role application_name client_address channel since',
    'subscription_stats: subscription channel state reason pending running done failed retrying dead oldest_pending_age p50_ms p95_ms p99_ms',
    'subscriptions: subscription channel handler owner run_as max_concurrency max_attempts retry_delay retry_backoff max_retry_delay timeout batch state reason created_at isolation',
    'tasks: subscription channel message_id state attempt next_attempt_at wait_reason payload',
    'workers: pid kind database role state subscription message_id started_at'
    ],
    'views and their columns');

SELECT is(
    (SELECT string_agg(format('%s %s', t.attname, format_type(t.atttypid, t.atttypmod)), ', ' ORDER BY t.attnum)
       FROM pg_attribute AS t WHERE t.attrelid = 'herald.task'::regclass),
    'message_id bigint, channel text, payload jsonb, key text, headers jsonb, subscription text, attempt integer, published_at timestamp with time zone, published_by text, receipt bigint, schema_version integer',
    'herald.task, which handlers take');

SELECT is_empty(
    $$SELECT c.relname FROM pg_class AS c
       WHERE c.relnamespace = 'herald'::regnamespace AND c.relkind = 'v'
         AND c.relname IN ('audited_tables', 'change_feeds', 'channels', 'dead_letters', 'failure_log', 'listeners', 'subscription_stats',
                           'subscriptions', 'tasks', 'workers')
         AND NOT coalesce(array_to_string(c.reloptions, ',') LIKE '%security_barrier=true%', false)$$,
    'views that filter rows by rights are security barriers');

SELECT is_empty(
    $$SELECT pg_describe_object('pg_proc'::regclass, p.oid, 0)
        FROM pg_proc AS p
       WHERE p.pronamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND obj_description(p.oid, 'pg_proc') IS NULL
       UNION ALL
      SELECT pg_describe_object('pg_class'::regclass, c.oid, 0)
        FROM pg_class AS c
       WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND c.relkind IN ('r', 'p', 'v')
         AND obj_description(c.oid, 'pg_class') IS NULL
       UNION ALL
      SELECT pg_describe_object('pg_type'::regclass, t.oid, 0)
        FROM pg_type AS t
        JOIN pg_class AS c ON c.oid = t.typrelid AND c.relkind = 'c'
       WHERE t.typnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND obj_description(t.oid, 'pg_type') IS NULL$$,
    'every function, table, view and type has a comment');

SELECT is_empty(
    $$SELECT c.oid::regclass
        FROM pg_class AS c
       WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND c.relkind = 'r'
         AND c.relname <> 'pointer_store'  -- announcements are not dumped
         AND NOT c.oid = ANY (SELECT unnest(e.extconfig) FROM pg_extension AS e
                               WHERE e.extname = 'pg_herald')$$,
    'pg_dump keeps the rows of every table');

SELECT is_empty(
    $$SELECT t.tgname FROM pg_trigger AS t
        JOIN pg_class AS c ON c.oid = t.tgrelid
       WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND NOT t.tgisinternal AND t.tgname NOT IN ('guard', 'guard_rows', 'guard_truncate', 'guard_ids')$$,
    'no trigger on a table of the extension, but those that guard them');

SELECT set_eq(
    $$SELECT c.relname FROM pg_class AS c
       WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND c.relname ~ '^audit_(context_)?[0-9]$' AND c.relkind = 'r'$$,
    $$SELECT c.relname FROM pg_trigger AS t
        JOIN pg_class AS c ON c.oid = t.tgrelid
       WHERE t.tgfoid = 'herald_internal.guard_audit_log()'::regprocedure AND t.tgenabled = 'A'$$,
    'which is on each of its segments, and fires always');

SELECT is_empty(
    $$SELECT c.relname FROM pg_class AS c
       WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]) AND c.relkind = 'r'
         AND NOT EXISTS (SELECT FROM pg_trigger AS t
                          WHERE t.tgrelid = c.oid AND t.tgname = 'guard' AND t.tgenabled = 'A'
                            AND t.tgtype & 62 = 62)  -- before insert, delete, update, truncate
    $$,
    'every table has a guard before each kind of change, which fires always');

SELECT is_empty(
    $$WITH ours (class, object, name) AS (
          SELECT 'pg_rewrite'::regclass, w.oid, c.relname::text
            FROM pg_rewrite AS w JOIN pg_class AS c ON c.oid = w.ev_class WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[])
          UNION ALL SELECT 'pg_class'::regclass, c.oid, c.relname FROM pg_class AS c WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[])
          UNION ALL SELECT 'pg_proc'::regclass, p.oid, p.proname FROM pg_proc AS p WHERE p.pronamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[])
          UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typname FROM pg_type AS t WHERE t.typnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[])
          UNION ALL SELECT 'pg_constraint'::regclass, n.oid, n.conname FROM pg_constraint AS n WHERE n.connamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[])
          UNION ALL SELECT 'pg_attrdef'::regclass, a.oid, c.relname
            FROM pg_attrdef AS a JOIN pg_class AS c ON c.oid = a.adrelid WHERE c.relnamespace = ANY (ARRAY['herald', 'herald_internal']::regnamespace[]))
      SELECT o.name, pg_describe_object(d.refclassid, d.refobjid, 0)
        FROM pg_depend AS d JOIN ours AS o ON d.classid = o.class AND d.objid = o.object
       CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, 0) AS i
       WHERE i.schema NOT IN ('pg_catalog', 'herald', 'herald_internal')$$,
    'nothing of the extension depends on what is in another schema');

SELECT is_empty(
    $$SELECT c.relname FROM pg_class AS c
       WHERE c.relnamespace = 'herald'::regnamespace AND c.relkind = 'v' AND pg_get_viewdef(c.oid) ~ 'OPERATOR\((?!pg_catalog\.)'$$,
    'no view has an operator of another schema');

SELECT is(
    (SELECT string_agg(d.objid::regnamespace::text || ' ' || e.extname, ', ' ORDER BY d.objid::regnamespace::text)
       FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_namespace'::regclass AND d.objid = ANY (ARRAY['herald', 'herald_internal']::regnamespace[])
        AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
    'herald pg_herald, herald_internal pg_herald', 'the schemas belong to the extension, and go with it');

SELECT set_eq(
    $$SELECT a.grantee::regrole::text || ' ' || a.privilege_type FROM pg_type AS t CROSS JOIN LATERAL aclexplode(t.typacl) AS a
       WHERE t.oid = 'herald.task'::regtype AND a.grantee <> t.typowner$$,
    ARRAY['- USAGE'],
    'everybody may use herald.task');

SELECT * FROM finish();
ROLLBACK;
