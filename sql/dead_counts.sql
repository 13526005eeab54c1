-- The number of dead letters is known without counting them, and right whatever changes them.
\set VERBOSITY terse
\set QUIET on
SET client_min_messages = warning;
CREATE FUNCTION public.regress_dies(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'dies'; END $$;
CREATE ROLE regress_dead LOGIN;
SELECT herald.create_channel('regress dead', announce => 'off');
SELECT herald.subscribe('regress dead', 'regress dead', 'public.regress_dies', max_attempts => 1, run_as => 'regress_dead');
CREATE VIEW dead AS
  SELECT dead, dead = (SELECT count(*) FROM herald.dead_letters WHERE subscription = 'regress dead') AS right
    FROM herald.subscription_stats WHERE subscription = 'regress dead';
TABLE dead;
SELECT count(herald.publish('regress dead', to_jsonb(i))) FROM generate_series(1, 50) AS i;
SELECT herald.wait_idle('regress dead', '20 s');
TABLE dead;

-- Discarded in a subtransaction that is rolled back, and in one that is not; seen by the transaction itself.
SELECT herald.pause('regress dead');
BEGIN;
SAVEPOINT a;
SELECT herald.discard_dead_letters('regress dead');
TABLE dead;
ROLLBACK TO a;
TABLE dead;
SAVEPOINT b;
SELECT herald.replay(min(id)) FROM herald.dead_letters WHERE subscription = 'regress dead';
RELEASE b;
TABLE dead;
COMMIT;
TABLE dead;
BEGIN;
SELECT herald.discard_dead_letters('regress dead');
ROLLBACK;
TABLE dead;

-- In another snapshot than the newest; and dying again.
BEGIN ISOLATION LEVEL REPEATABLE READ;
TABLE dead;
SELECT herald.replay_all('regress dead');
TABLE dead;
COMMIT;
TABLE dead;
SELECT herald.resume('regress dead');
SELECT herald.wait_idle('regress dead', '20 s');
TABLE dead;
SELECT herald.discard_dead_letters('regress dead');
TABLE dead;
DROP VIEW dead;
SELECT herald.unsubscribe('regress dead', force => true);
SELECT herald.drop_channel('regress dead', force => true);
DROP FUNCTION public.regress_dies;
DROP ROLE regress_dead;
