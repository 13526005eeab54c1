# Whatever a handler does to its session, the next task of the same worker sees nothing of it; and what a
# handler may not do is a failure with a name.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('session', conf => "herald.max_workers = 1\n");
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE other LOGIN;
CREATE ROLE stranger LOGIN;
GRANT other TO app;
CREATE SEQUENCE app.numbers;
GRANT ALL ON app.numbers TO app;
CREATE TABLE app.seen (message_id bigint, state jsonb);
GRANT ALL ON app.seen TO app;
CREATE PROCEDURE app.committing() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;

-- All that a session can be asked about itself.
CREATE FUNCTION app.look(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
BEGIN
    BEGIN
        last := lastval();
    EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
    END;
    INSERT INTO app.seen VALUES (task.message_id, jsonb_build_object(
        'user', current_user, 'session', session_user, 'last', last,
        'settings', (SELECT jsonb_object_agg(name, setting) FROM pg_settings
                      WHERE name NOT LIKE 'transaction_%' AND name <> 'in_hot_standby'),
        'read_only', current_setting('transaction_read_only'),
        'own', NULLIF(current_setting('app.own', true), ''),
        'locks', (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
        'prepared', (SELECT count(*) FROM pg_prepared_statements),
        'cursors', (SELECT jsonb_agg(name) FROM pg_cursors WHERE is_holdable),
        'listening', (SELECT count(*) FROM pg_listening_channels()),
        'tables', (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
        'temporary', to_regclass('pg_temp.mine')));
END $$;
-- Does what the payload says, then fails or not, and notes that it came that far.
CREATE FUNCTION app.disturb(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE task.payload ->> 'do';
    PERFORM set_config('search_path', 'app', false);
    INSERT INTO app.effects (subscription, message_id, attempt) VALUES (task.subscription, task.message_id, task.attempt);
    IF task.payload ? 'fail' THEN RAISE EXCEPTION 'as asked'; END IF;
END $$;
SELECT herald.subscribe('disturb', 'disturb', 'app.disturb', run_as => 'app', max_attempts => 1);
SELECT herald.subscribe('look', 'look', 'app.look', run_as => 'app', max_attempts => 1);
SQL

sub look
{
	my ($id) = publish_many($node, 'look', 1);
	local $PostgreSQL::Test::Utils::timeout_default = $HeraldTest::patience;
	# Without it nothing would be compared below, which looks like no difference.
	$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM app.seen WHERE message_id = $id)")
	  or die "the session could not be looked at\n";
	return $id;
}

my $clean = look();
my $worker = pid_of($node, 'worker');
is($node->safe_psql('postgres', "SELECT state ->> 'user', state ->> 'session', state ->> 'locks', state ->> 'tables', state ->> 'read_only' FROM app.seen"),
	'app|app|0|0|off', 'a clean session');

# What is allowed: no trace in the next task, whether the handler succeeds or fails.
my %allowed = (
	'SET' => 'SET work_mem = 12345',
	'SET search_path' => 'SET search_path = nowhere, app',
	'SET of its own' => "SET app.own = 'mine'",
	'set_config' => "SELECT set_config('DateStyle', 'German', false), set_config('app.own', 'mine', false)",
	'SET ROLE' => 'SET ROLE other; RESET ROLE; SET ROLE other; RESET ROLE',
	'SET ROLE that stays' => "SET ROLE other; SELECT set_config('role', 'app', false)",
	'RESET ALL' => 'RESET ALL',
	'RESET ROLE' => 'RESET ROLE; RESET SESSION AUTHORIZATION',
	'SET SESSION CHARACTERISTICS' => 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE',
	'SET statement_timeout' => 'SET statement_timeout = 1; SET lock_timeout = 1',
	'SET client_min_messages' => 'SET client_min_messages = error',
	'a temporary table' => 'CREATE TEMP TABLE mine (n int); INSERT INTO mine VALUES (1)',
	'a temporary table on commit' => 'CREATE TEMP TABLE mine (n int) ON COMMIT DELETE ROWS',
	'a temporary view' => 'CREATE TEMP VIEW mine AS SELECT 1',
	'a temporary function' => 'CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS $f$ SELECT 1 $f$',
	'a session lock' => 'SELECT pg_advisory_lock(1), pg_advisory_lock(1), pg_advisory_lock_shared(2)',
	'a transaction lock' => 'SELECT pg_advisory_xact_lock(3)',
	'PREPARE' => 'PREPARE mine AS SELECT 1',
	'DEALLOCATE' => 'DEALLOCATE ALL',
	'a cursor' => 'DECLARE mine CURSOR FOR SELECT 1',
	'a held cursor' => 'DECLARE mine CURSOR WITH HOLD FOR SELECT generate_series(1, 10)',
	'a sequence' => "SELECT nextval('app.numbers')",
	'DISCARD PLANS' => 'DISCARD PLANS',
	'DISCARD TEMP' => 'DISCARD TEMP',
	'DISCARD SEQUENCES' => 'DISCARD SEQUENCES',
	'UNLISTEN' => 'UNLISTEN *',
	'NOTIFY' => "NOTIFY somewhere, 'text'",
	'SET CONSTRAINTS' => 'SET CONSTRAINTS ALL DEFERRED',
);
for my $what (sort keys %allowed)
{
	for my $fail ('', ', "fail": true')
	{
		my $do = $allowed{$what} =~ s/'/''/gr;
		my ($id) = publish_many($node, 'disturb', 1, payload => qq({"do": "$do"$fail}));
		wait_until($node, "SELECT count(*) = 1 FROM " . ($fail ? 'herald.dead_letters' : 'app.effects') . " WHERE message_id = $id",
			"$what is allowed" . ($fail ? ' before an error' : ''))
		  or diag($node->safe_psql('postgres', "SELECT error_code, message FROM herald.failure_log WHERE message_id = $id"));
		my $after = look();
		is($node->safe_psql('postgres', <<"SQL"), '', "$what leaves no trace" . ($fail ? ' after an error' : ''));
SELECT key, left(a.value::text, 100) FROM app.seen AS b, app.seen AS s, jsonb_each(b.state) AS c (key, value)
  JOIN LATERAL (SELECT s.state -> c.key) AS a (value) ON true
 WHERE b.message_id = $clean AND s.message_id = $after AND a.value IS DISTINCT FROM c.value
SQL
	}
}
is(pid_of($node, 'worker'), $worker, 'all in one worker');

# What is not: a failure with the code that says why.
my %refused = (
	'LISTEN here' => '0A000',
	'COMMIT' => '0A000',
	'CALL app.committing()' => '2D000',
	'ROLLBACK' => '0A000',
	'SAVEPOINT s' => '0A000',
	"PREPARE TRANSACTION 'x'" => '0A000',
	'DISCARD ALL' => '25001',
	'VACUUM' => '25001',
	'SET ROLE stranger' => '42501',
	'SET SESSION AUTHORIZATION stranger' => '42501',
	'SET SESSION AUTHORIZATION postgres' => '42501',
	'SET session_replication_role = replica' => '42501',
	'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE' => '25001',
	'SET TRANSACTION READ ONLY' => '25006',
	"SET herald.max_payload = '1kB'" => '42501',
	'SELECT 1/0' => '22012',
);
for my $do (sort keys %refused)
{
	my ($id) = publish_many($node, 'disturb', 1, payload => '{"do": "' . ($do =~ s/'/''/gr) . '"}');
	wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE message_id = $id", "$do is refused");
	is($node->safe_psql('postgres', "SELECT error_code FROM herald.failure_log WHERE message_id = $id"), $refused{$do}, "$do: with its code");
	my $after = look();
	is($node->safe_psql('postgres', "SELECT a.state = b.state FROM app.seen AS a, app.seen AS b WHERE a.message_id = $clean AND b.message_id = $after"),
		't', "$do: no trace");
}

# Settings that a role brings along are there, and outlast what a handler does to them.
$node->safe_psql('postgres', q(ALTER ROLE app SET work_mem = '7MB'));
publish_many($node, 'disturb', 1, payload => '{"do": "SET work_mem = 999"}');
my $after = look();
is($node->safe_psql('postgres', "SELECT state -> 'settings' ->> 'work_mem' FROM app.seen WHERE message_id = $after"), '7168', "the role's own setting");

# So are those that are set while the worker lives: the next task has them, and no task is lost or charged.
sub work_mem
{
	my $id = look();
	return $node->safe_psql('postgres', "SELECT state -> 'settings' ->> 'work_mem' FROM app.seen WHERE message_id = $id");
}
my @changes = (
	[ q(ALTER ROLE app SET work_mem = '8MB'), 8192, 'of the role' ],
	[ q(ALTER ROLE app IN DATABASE postgres SET work_mem = '9MB'), 9216, 'of the role in the database' ],
	[ q(BEGIN; ALTER ROLE app IN DATABASE postgres SET work_mem = '10MB'; ROLLBACK), 9216, 'rolled back' ],
	[ q(ALTER ROLE app IN DATABASE postgres RESET work_mem; ALTER ROLE app RESET ALL; ALTER DATABASE postgres SET work_mem = '11MB'), 11264, 'of the database' ],
	[ q(ALTER DATABASE postgres RESET work_mem; ALTER ROLE ALL SET work_mem = '12MB'), 12288, 'of all roles' ],
	[ q(DO $$ BEGIN ALTER ROLE app SET work_mem = '13MB'; ALTER ROLE other SET work_mem = '14MB'; END $$), 13312, 'of two roles, by a function' ]);
for my $change (@changes)
{
	my ($do, $expected, $name) = @$change;
	$node->safe_psql('postgres', $do);
	is(work_mem(), $expected, "a setting $name reaches a worker that lives");
}
my $living = pid_of($node, 'worker');
$node->safe_psql('postgres', q(BEGIN; ALTER ROLE app SET work_mem = '15MB'; ROLLBACK; ALTER ROLE other SET work_mem = '15MB';
	ALTER DATABASE template1 SET work_mem = '15MB'));
work_mem();
is(pid_of($node, 'worker'), $living, 'what is rolled back, or concerns other roles or databases, leaves the worker alone');

# A worker that is busy has them in its next batch.
my $gate = close_gate($node, 1);
$node->safe_psql('postgres', q(CREATE FUNCTION app.wait(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN PERFORM pg_advisory_xact_lock_shared(1); PERFORM app.look(task); END $$;
	SELECT herald.subscribe('wait', 'wait', 'app.wait', run_as => 'app', max_attempts => 1, batch => false)));
my ($running) = publish_many($node, 'wait', 1);
wait_until($node, "SELECT count(*) = 1 FROM herald.workers WHERE kind = 'worker' AND state = 'running'", 'a handler runs');
my ($next) = publish_many($node, 'wait', 1);
$node->safe_psql('postgres', q(ALTER ROLE app SET work_mem = '16MB'));
$gate->quit;
wait_until($node, "SELECT count(*) = 2 FROM app.seen WHERE message_id IN ($running, $next)", 'both have run');
is($node->safe_psql('postgres', "SELECT string_agg(state -> 'settings' ->> 'work_mem', ' ' ORDER BY message_id) FROM app.seen WHERE message_id IN ($running, $next)"),
	'13312 16384', 'the task that runs keeps its session, the next one has a new one');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE message_id >= $running"), '0', 'none has failed');
clean_log($node);

done_testing();
