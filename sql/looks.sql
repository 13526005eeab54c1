-- Whoever looks at something, in a transaction that he then leaves open, must not keep the log from being emptied: no view
-- and no function that anybody may use keeps a lock on a segment of it.
\set VERBOSITY terse
CREATE ROLE looks_owner LOGIN; CREATE ROLE looks_stranger;
GRANT CREATE ON DATABASE :"DBNAME" TO looks_owner;
CREATE SCHEMA looks; GRANT ALL ON SCHEMA looks TO looks_owner;
CREATE FUNCTION looks.kept() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT DISTINCT relation::regclass::text FROM pg_locks
     WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation::regclass::text ~ '^herald_internal\.(log|settled)_[0-9]$'
     ORDER BY 1 $$;
-- Runs a statement and says which locks it has kept.
CREATE FUNCTION looks.keeps(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || COALESCE((SELECT string_agg(k, ' ') FROM looks.kept() AS k), 'nothing');
    END;
    RETURN COALESCE((SELECT string_agg(k, ' ') FROM looks.kept() AS k), 'nothing');
END $$;
GRANT USAGE ON SCHEMA looks TO looks_stranger;
SET SESSION AUTHORIZATION looks_owner;
CREATE FUNCTION looks.handler(task herald.task) RETURNS void LANGUAGE sql AS 'SELECT 1';
SELECT herald.create_channel('looks');
SELECT herald.subscribe('looks', 'looks', 'looks.handler');
SELECT herald.pause('looks');
SELECT herald.create_channel('looks2');
SELECT herald.subscribe('looks2', 'looks2', 'looks.handler');
SELECT count(herald.publish('looks', '{"n": 1}')) FROM generate_series(1, 3);
RESET SESSION AUTHORIZATION;

-- Every view, also when nothing of it is read, for those who see something and those who don't.
SET SESSION AUTHORIZATION looks_stranger;
BEGIN;
SELECT v.relname, looks.keeps(format('SELECT * FROM herald.%I', v.relname)),
       looks.keeps(format('SELECT FROM herald.%I LIMIT 0', v.relname))
  FROM pg_class AS v
 WHERE v.relnamespace = 'herald'::regnamespace AND v.relkind = 'v' AND has_table_privilege(v.oid, 'SELECT')
   AND (looks.keeps(format('SELECT * FROM herald.%I', v.relname)) <> 'nothing' OR v.relname = 'tasks')
 ORDER BY 1;
COMMIT;
SET SESSION AUTHORIZATION looks_owner;
BEGIN;
SELECT v.relname, looks.keeps(format('SELECT * FROM herald.%I', v.relname)),
       looks.keeps(format('SELECT FROM herald.%I LIMIT 0', v.relname))
  FROM pg_class AS v
 WHERE v.relnamespace = 'herald'::regnamespace AND v.relkind = 'v' AND has_table_privilege(v.oid, 'SELECT')
   AND (looks.keeps(format('SELECT * FROM herald.%I', v.relname)) <> 'nothing' OR v.relname = 'tasks')
 ORDER BY 1;
SELECT state, attempt, wait_reason, payload FROM herald.tasks;
COMMIT;
-- The functions that read messages.
BEGIN;
SELECT looks.keeps('SELECT herald.fetch(message_id) FROM herald.tasks') AS fetch,
       looks.keeps('SELECT herald.fetch(1234567890)') AS fetch_nothing,
       looks.keeps($$SELECT herald.wait_idle('looks', '0')$$) AS wait_idle,
       looks.keeps($$SELECT herald.alter_channel('looks2', max_payload_bytes => 100)$$) AS alter_channel,
       looks.keeps($$SELECT herald.unsubscribe('looks2')$$) AS unsubscribe,
       looks.keeps($$SELECT herald.drop_channel('looks2')$$) AS drop_channel,
       looks.keeps('SELECT * FROM herald.status()') AS status;
COMMIT;

-- Who may not read the channel doesn't see payloads, whatever way he asks for them.
SET SESSION AUTHORIZATION looks_owner;
SELECT bool_and(herald_internal.task_payload(place, address, message_id) IS NOT NULL) AS owner,
       bool_and(herald_internal.task_payload(place, address, message_id + 1) IS NULL) AS another
  FROM herald_internal.list_tasks();
SET SESSION AUTHORIZATION looks_stranger;
SELECT count(*) AS seen, bool_or(herald_internal.task_payload(s.segment, format('(0,%s)', o)::tid, m) IS NOT NULL) AS payload
  FROM generate_series(-2, 4) AS s(segment), generate_series(1, 20) AS o, generate_series(1, 200) AS m;
SELECT count(*) FROM herald_internal.list_tasks();
RESET SESSION AUTHORIZATION;
SELECT herald.unsubscribe('looks', force => true);
SELECT herald.drop_channel('looks');
DROP SCHEMA looks CASCADE;
REVOKE CREATE ON DATABASE :"DBNAME" FROM looks_owner;
DROP ROLE looks_owner; DROP ROLE looks_stranger;
