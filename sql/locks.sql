-- Named locks: what try_lock and unlock give and refuse. What listeners hear is in test/t/locks.pl.
CREATE ROLE lock_user;
SELECT herald.create_channel('lock_private', durable => false);

-- taken, taken again, given back as often
SELECT herald.try_lock('a'), herald.try_lock('a'), herald.try_lock('b', 'transaction');
SELECT count(*), bool_and(objsubid BETWEEN 16384 AND 32767) AS own_space, min(mode)
  FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT herald.unlock('a'), herald.unlock('a'), herald.unlock('a'), herald.unlock('b');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

-- names are told apart exactly
SELECT herald.try_lock('Name'), herald.unlock('name'), herald.unlock('Name '), herald.unlock('Name');

-- a lock of the transaction is not unlocked
BEGIN;
SELECT herald.try_lock('t', scope => 'transaction');
SELECT herald.unlock('t');
SAVEPOINT s;
SELECT herald.try_lock('inner', scope => 'transaction');
ROLLBACK TO s;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
COMMIT;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

-- an unlock that is rolled back has not happened
SELECT herald.try_lock('kept');
BEGIN;
SELECT herald.unlock('kept');
SELECT herald.unlock('kept');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT herald.unlock('kept');
ROLLBACK TO s;
SELECT herald.unlock('kept');
COMMIT;
SELECT herald.unlock('kept');

-- taken away by pg_advisory_unlock_all, there is nothing to unlock
SELECT herald.try_lock('gone'), herald.try_lock('gone');
BEGIN;
SELECT herald.unlock('gone');
SELECT pg_advisory_unlock_all();
SELECT herald.unlock('gone');
SELECT herald.try_lock('gone');
COMMIT;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT herald.try_lock('gone'), herald.unlock('gone'), herald.unlock('gone');

-- allowed where nothing may be written
BEGIN READ ONLY;
SELECT herald.try_lock('read only', 'transaction');
COMMIT;

-- refused
\set VERBOSITY sqlstate
SELECT herald.try_lock(NULL);
SELECT herald.try_lock('x', NULL);
SELECT herald.try_lock('x', channel => NULL);
SELECT herald.try_lock('');
SELECT herald.try_lock(repeat('x', 1025));
SELECT herald.try_lock('x', 'statement');
SELECT herald.try_lock('x', channel => '');
SELECT herald.try_lock('x', channel => repeat('c', 64));
SELECT herald.unlock(NULL);
SELECT herald.unlock('');
SET ROLE lock_user;
SELECT herald.try_lock('x', channel => 'lock_private');
RESET ROLE;
BEGIN;
SELECT herald.try_lock('x', 'transaction');
PREPARE TRANSACTION 'lock';
\set VERBOSITY default
SELECT herald.try_lock(repeat('x', 1024)), herald.unlock(repeat('x', 1024));
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

SELECT herald.drop_channel('lock_private');
DROP ROLE lock_user;
