-- A command that rewrites the log moves messages; tasks find them all the same.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_herald;
CREATE ROLE regress_herald_app LOGIN;
CREATE TABLE handled (message_id bigint);
GRANT INSERT ON handled TO regress_herald_app;
CREATE FUNCTION handle(task herald.task) RETURNS void LANGUAGE sql AS 'INSERT INTO public.handled VALUES (task.message_id)';
SELECT herald.create_channel('moved', announce => 'off');
SELECT herald.subscribe('moved', 'moved', 'handle', run_as => 'regress_herald_app');
SELECT herald.pause('moved');
-- What is rolled back leaves room at the front, so that the rewrite moves what follows.
BEGIN;
SELECT count(*) FROM (SELECT herald.publish('moved', '{}') FROM generate_series(1, 500)) AS published;
ROLLBACK;
SELECT count(*) FROM (SELECT herald.publish('moved', '{}') FROM generate_series(1, 50)) AS published;
-- Now the dispatcher gets the addresses.
DO $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        EXIT WHEN (SELECT pending = 50 FROM herald.subscription_stats WHERE subscription = 'moved');
        PERFORM herald.wait_idle('moved', '200 ms');
    END LOOP;
END $$;
SELECT pending FROM herald.subscription_stats WHERE subscription = 'moved';
VACUUM FULL herald_internal.log_0;
SELECT herald.resume('moved');
SELECT herald.wait_idle('moved', '60 s') AS idle;
SELECT count(*), count(DISTINCT message_id) FROM handled;

SELECT herald.unsubscribe('moved');
SELECT herald.drop_channel('moved');
DROP FUNCTION handle;
DROP TABLE handled;
DROP ROLE regress_herald_app;
