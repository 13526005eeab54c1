# Commands that need a database without our processes, and servers with many databases: done while the server waits
# for others to leave (5 s), with idle processes and with running tasks, and without a loop of errors in the log.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('databases');
my $log = -s $node->logfile;

# Runs a statement, which must succeed. The server itself waits no longer than 5 s for others to leave.
sub done_soon
{
	my ($sql, $name) = @_;
	my ($out, $err, $timed_out) = ('', '');
	my $status = $node->psql('postgres', $sql, stdout => \$out, stderr => \$err, timeout => 3 * $HeraldTest::patience, timed_out => \$timed_out);
	ok(!$timed_out && $status == 0, $name) or diag($err);
	return;
}

sub make_database
{
	my ($name) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	install_herald($node, $name);
	$node->safe_psql($name, "SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')");
	return;
}

sub works
{
	my ($name, $what) = @_;
	my @ids = publish_many($node, 'jobs', 10, database => $name);
	wait_until($node, "SELECT count(*) = 10 FROM app.effects WHERE message_id >= $ids[0]", "$what: tasks run", database => $name);
	return;
}

# With idle processes: dispatcher, announcer and a warm worker are there.
make_database('one');
works('one', 'at first');
wait_until($node, "SELECT count(DISTINCT backend_type) = 3 FROM pg_stat_activity WHERE datname = 'one' AND backend_type LIKE 'pg_herald%'", 'the processes are there');
done_soon('ALTER DATABASE one RENAME TO two', 'RENAME');
works('two', 'renamed');
done_soon('CREATE DATABASE three TEMPLATE two', 'CREATE ... TEMPLATE');
works('two', 'copied from');
is($node->safe_psql('three', "SELECT state FROM herald.subscriptions"), 'inert', 'the copy is inert');
my ($inert) = publish_many($node, 'jobs', 5, database => 'three');
is($node->safe_psql('three', "SELECT count(*) FROM app.effects WHERE message_id >= $inert"), '0', 'and runs nothing');
$node->safe_psql('three', 'SELECT herald.activate()');
wait_until($node, 'SELECT count(*) = 25 FROM app.effects', 'activated, it runs what waits', database => 'three');
done_soon('DROP DATABASE three', 'DROP');
done_soon('DROP DATABASE two WITH (FORCE)', 'DROP ... WITH (FORCE)');

# A command that fails leaves the database as it was.
make_database('four');
works('four', 'before');
my $session = $node->background_psql('four');
$session->query_safe('SELECT 1');
isnt(sqlstate_of($node, 'DROP DATABASE four'), '00000', 'a database in use is not dropped');
$session->quit;
works('four', 'after a DROP that failed');

# While tasks run. A short one may finish; FORCE ends a long one.
publish_many($node, 'jobs', 200, database => 'four', payload => '{"seconds": 0.02}');
done_soon('ALTER DATABASE four RENAME TO five', 'RENAME while short tasks run');
wait_until($node, 'SELECT count(DISTINCT message_id) = 220 AND count(*) = 220 FROM app.effects', 'the tasks go on afterwards', database => 'five', seconds => 30);
publish_many($node, 'jobs', 20, database => 'five', payload => '{"seconds": 1}');
wait_until($node, "SELECT count(*) > 0 FROM herald.workers WHERE kind = 'worker' AND state = 'running'", 'tasks of one second run');
done_soon('ALTER DATABASE five RENAME TO six', 'RENAME while longer tasks run');
wait_until($node, 'SELECT count(DISTINCT message_id) = 240 AND count(*) = 240 FROM app.effects', 'and go on', database => 'six', seconds => 30);
publish_many($node, 'jobs', 100, database => 'six', payload => '{"seconds": 30}');
wait_until($node, "SELECT count(*) = 4 FROM herald.workers WHERE kind = 'worker' AND state = 'running'", 'tasks run');
done_soon('DROP DATABASE six WITH (FORCE)', 'DROP ... WITH (FORCE) while long tasks run');
wait_until($node, "SELECT count(*) = 0 FROM herald.workers WHERE kind = 'worker'", 'no worker stays behind');
make_database('six');
works('six', 'made again');

# ALTER DATABASE ... ALLOW_CONNECTIONS false keeps our processes out, too, without an endless attempt.
$node->safe_psql('postgres', 'ALTER DATABASE six ALLOW_CONNECTIONS false');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'six'");
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'six'", 'closed');
$node->safe_psql('postgres', 'ALTER DATABASE six ALLOW_CONNECTIONS true');
works('six', 'opened again');
done_soon('DROP DATABASE six', 'DROP');
cmp_ok(scalar(log_lines($node, qr/(FATAL|ERROR|PANIC):/, $log)), '<', 60, 'no loop of errors in the log');
clean_log($node);
$node->stop;

# Twenty databases, with and without the extension, and few processes: each gets its turn.
my $many = start_herald('many', conf => "max_worker_processes = 60\nherald.max_workers = 2\nherald.worker_idle_timeout = 1\n");
$node = $many;
$log = -s $node->logfile;
for my $i (1 .. 20)
{
	$node->safe_psql('postgres', "CREATE DATABASE d$i");
	next if $i % 2;
	install_herald($node, "d$i");
	$node->safe_psql("d$i", "SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app')");
}
my @with = map { 2 * $_ } 1 .. 10;
publish_many($node, 'jobs', 10, database => "d$_") for @with;
wait_until($node, 'SELECT count(*) = 10 FROM app.effects', "d$_: tasks run", database => "d$_", seconds => 40) for @with;
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'pg_herald%' AND datname ~ '^d[0-9]*[13579]\$'",
	'no process where the extension is not');
wait_until($node, "SELECT count(*) = 20 FROM pg_stat_activity WHERE backend_type IN ('pg_herald dispatcher', 'pg_herald announcer') AND datname LIKE 'd%'",
	'a dispatcher and an announcer where it is');
wait_until($node, "SELECT count(*) <= 2 FROM pg_stat_activity WHERE backend_type = 'pg_herald worker'", 'herald.max_workers is of the whole server');
$node->restart;
publish_many($node, 'jobs', 10, database => "d$_") for @with;
wait_until($node, 'SELECT count(*) = 20 FROM app.effects', "d$_: after a restart", database => "d$_", seconds => 40) for @with;
is(scalar(log_lines($node, qr/(FATAL|ERROR|PANIC):(?!.*due to administrator command)/, $log)), 0, 'no errors in the log');
clean_log($node);

done_testing();
