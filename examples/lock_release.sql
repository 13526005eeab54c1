-- Locks with a broadcast: who does not get a lock need not ask again and again, but hears when it is free. So a job
-- runs in one place at a time, whatever happens to the session that runs it.
--
-- Run it by psql in any database of a server that preloads pg_herald:
--     psql -e -f examples/lock_release.sql
-- It leaves nothing behind but the extension.

CREATE EXTENSION IF NOT EXISTS pg_herald;

-- Other sessions in this script are psql's that are started from here.
\setenv PGHOST :HOST
\setenv PGPORT :PORT
\setenv PGUSER :USER
\setenv PGDATABASE :DBNAME

-- Who waits for locks listens to the channel "locks".
LISTEN locks;

-- A lock has a name. This session takes it: true. It keeps it until it unlocks it, or ends.
SELECT herald.try_lock('nightly report') AS taken;

-- Another session does not get it, and need not wait: false.
\! psql -XAt -c "SELECT 'other session: ' || herald.try_lock('nightly report')"

-- Given back within a transaction, it is free when that has committed: then its work can be seen as well.
BEGIN;
SELECT herald.unlock('nightly report') AS unlocked;
\! psql -XAt -c "SELECT 'before the commit: ' || herald.try_lock('nightly report')"
COMMIT;

-- A lock of a transaction ends with it, by COMMIT or ROLLBACK.
BEGIN;
SELECT herald.try_lock('invoice 7', scope => 'transaction') AS taken;
ROLLBACK;

-- RELEASE:nightly report was announced, and the next one can have it. That session ends without unlocking (it
-- might have crashed), which gives the lock back, too: so the same is announced a second time.
\! psql -XAt -c "SELECT 'after the commit: ' || herald.try_lock('nightly report')"

-- psql shows what was heard after the next statement; this one waits until all three are announced.
DO $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        EXIT WHEN (SELECT announced >= published AND published >= 3 FROM herald.channel_stats WHERE channel = 'locks');
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;

-- A program does it like this: LISTEN locks; then try_lock. If that says false, wait for the notification
-- "RELEASE:nightly report", and try_lock again. (Another one may be faster: then wait for the next.)
UNLISTEN locks;
