# What a command notes for its transaction ends with it, however the transaction ends: PREPARE and the end of the
# session after it, the rollback of a savepoint, a command that is refused. Here: commands that need a database for
# themselves, CREATE EXTENSION, pauses that wait.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('ends');
$node->safe_psql('postgres', q(
	CREATE ROLE landlord LOGIN;
	CREATE ROLE builder LOGIN CREATEDB));
$node->safe_psql('postgres', "CREATE DATABASE $_ OWNER landlord") for 'house', 'shed';
for my $database ('house', 'shed')
{
	install_herald($node, $database);
	$node->safe_psql($database, q(
		SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app');
		CREATE TABLE public.notes AS SELECT 0 AS i; ALTER TABLE public.notes OWNER TO landlord));
}

my %done;

sub works
{
	my ($database, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	publish_many($node, 'jobs', 1, database => $database);
	my $expected = ++$done{$database};
	wait_until($node, "SELECT count(*) = $expected FROM app.effects", "$what: tasks run in $database", database => $database);
	wait_until($node, "SELECT bool_and(ok) FROM herald.status() WHERE name IN ('dispatcher', 'announcer')", "$what: $database is served", database => $database);
	return;
}

works($_, 'at first') for 'house', 'shed';
my ($dispatcher) = pids_of($node, 'dispatcher', 'house');

# Refused: the processes stay.
sub refused
{
	my ($sql, $state, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sqlstate_is($node, $sql, $state, $name, %options);
	is(join(' ', pids_of($node, 'dispatcher', 'house')), $dispatcher, "$name: nothing had to leave");
	return;
}
refused('ALTER DATABASE house RENAME TO manor', '42501', 'RENAME without CREATEDB', role => 'landlord');
refused('ALTER DATABASE house RENAME TO shed', '42P04', 'RENAME to a name that is taken');
refused('BEGIN; DROP DATABASE house', '25001', 'DROP in a transaction');
refused('DROP DATABASE house', '42501', 'DROP by somebody else', role => 'builder');
refused('CREATE DATABASE copy TEMPLATE house', '42501', 'a copy without CREATEDB', role => 'landlord');
refused('CREATE DATABASE shed TEMPLATE house', '42P04', 'a copy under a name that is taken');
works('house', 'after refusals');

# Rolled back with its savepoint, in a transaction that goes on and is prepared; then its session ends.
$node->safe_psql('postgres', q(
	BEGIN; SAVEPOINT a; ALTER DATABASE house RENAME TO manor; ROLLBACK TO a;
	CREATE TABLE public.kept (i integer); PREPARE TRANSACTION 'savepoint'));
works('house', 'rolled back with a savepoint and prepared');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'savepoint'");
works('house', 'and decided');

my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; SAVEPOINT a; ALTER DATABASE house RENAME TO manor; SAVEPOINT b; ALTER DATABASE shed RENAME TO hut; ROLLBACK TO b');
works('shed', 'the inner savepoint is rolled back');
$session->query_safe('ROLLBACK TO a');
works('house', 'the outer one, too');
$session->query_safe('COMMIT');
$session->quit;

# Prepared, and the session is gone. Nobody can connect until it is decided; then everything is as before.
for my $end ('ROLLBACK', 'COMMIT')
{
	$node->safe_psql('postgres', "BEGIN; ALTER DATABASE house RENAME TO manor; PREPARE TRANSACTION 'rename'");
	$node->safe_psql('postgres', "$end PREPARED 'rename'");
	my $name = $end eq 'COMMIT' ? 'manor' : 'house';
	$done{$name} = $done{house};
	works($name, "RENAME, PREPARE, $end PREPARED");
}
$node->safe_psql('postgres', 'ALTER DATABASE manor RENAME TO house');
$done{house} = $done{manor};
works('house', 'renamed again');

# A session that is ended with the database in its hands.
$session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe('BEGIN; ALTER DATABASE house RENAME TO manor');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$session->ended;
works('house', 'its session was terminated');

# A database that stays locked by a prepared RENAME keeps the processes of others from nothing, also when the server
# starts and has to look for the extension everywhere.
$node->safe_psql('postgres', "BEGIN; ALTER DATABASE house RENAME TO manor; PREPARE TRANSACTION 'rename'");
works('shed', 'another database is locked');
$node->restart;
works('shed', 'restarted, another database is locked');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'rename'");
works('house', 'no longer locked');

# CREATE EXTENSION in a prepared transaction, also in a database that was looked at before, and before a restart.
for my $database ('early', 'late')
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "BEGIN; CREATE EXTENSION pg_herald; PREPARE TRANSACTION 'create'");
	$node->restart if $database eq 'late';
	wait_until($node, 'SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = \'pg_herald dispatcher\'', 'the server runs');
	$node->safe_psql($database, "COMMIT PREPARED 'create'");
	$node->safe_psql($database, q(
		CREATE FUNCTION public.nothing(jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
		SELECT herald.subscribe('work', 'jobs', 'public.nothing', run_as => 'app');
		SELECT herald.publish('jobs', '{}')));
	wait_idle($node, 'work', database => $database);
	is($node->safe_psql($database, "SELECT done FROM herald.subscription_stats"), '1', "$database: the extension of a prepared transaction is found");
}

# A pause that waits, and is rolled back with its savepoint.
$session = $node->background_psql('shed');
$session->query_safe("BEGIN; SAVEPOINT a; SELECT herald.pause('work', '1 s'); ROLLBACK TO a");
works('shed', 'a pause was rolled back');
$session->query_safe('COMMIT');
$session->quit;
$node->safe_psql('shed', "BEGIN; SAVEPOINT a; SELECT herald.pause('work', '1 s'); RELEASE a; ROLLBACK");
works('shed', 'a pause was rolled back with its transaction');

clean_log($node);
done_testing();
