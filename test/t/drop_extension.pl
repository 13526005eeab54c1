# DROP EXTENSION while tasks run, and CREATE EXTENSION again: the processes leave without
# a loop of errors, and what comes after has nothing to do with what was before.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('drop');
my $log = -s $node->logfile;

sub subscribe_and_work
{
	my ($what) = @_;
	$node->safe_psql('postgres', 'TRUNCATE app.effects');
	$node->safe_psql('postgres', "SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')");
	my @ids = publish_many($node, 'jobs', 20);
	wait_for_effects($node, 'work', 20, name => "$what: tasks run");
	wait_idle($node, 'work');
	handled_once($node, 'work', \@ids);
	statistics_true($node, 'work', 'jobs');
	return;
}

# Handlers and what else names the extension's types go with it.
sub create_again
{
	$node->safe_psql('postgres', 'DROP SCHEMA app CASCADE');
	$node->safe_psql('postgres', 'DROP VIEW IF EXISTS stored');
	install_herald($node);
	return;
}

subscribe_and_work('at first');
sqlstate_is($node, 'DROP SCHEMA herald CASCADE', '2BP01', 'the schema goes with the extension only');
for my $statement ('DROP EXTENSION pg_herald CASCADE', 'BEGIN; DROP EXTENSION pg_herald CASCADE; CREATE EXTENSION pg_herald; COMMIT')
{
	# More than can be done until the statement comes.
	$node->safe_psql('postgres', q(SELECT count(herald.publish('jobs', '{"seconds": 0.01}')) FROM generate_series(1, 5000)));
	wait_until($node, "SELECT count(*) > 0 FROM herald.workers WHERE kind = 'worker' AND state = 'running'", 'tasks run');
	my ($out, $err, $timed_out) = ('', '');
	my $status = $node->psql('postgres', $statement, stdout => \$out, stderr => \$err, on_error_stop => 1, timeout => 3 * $HeraldTest::patience, timed_out => \$timed_out);
	ok(!$timed_out && $status == 0, "$statement while tasks run") or diag($err);
	if ($statement !~ /CREATE/)
	{
		wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('pg_herald dispatcher', 'pg_herald announcer', 'pg_herald worker')",
			'the processes leave');
		$node->safe_psql('postgres', 'CREATE TABLE IF NOT EXISTS public.nothing ()');
		is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'herald%')), '0', 'and the schema is gone');
		create_again();
	}
	else
	{
		$node->safe_psql('postgres', 'DROP EXTENSION pg_herald CASCADE');
		create_again();
	}
	subscribe_and_work($statement);
	is($node->safe_psql('postgres', 'SELECT count(*) FROM herald.failure_log'), '0', 'no failures of the time before');
}

# Rolled back, nothing has happened.
publish_many($node, 'jobs', 100, payload => '{"seconds": 0.01}');
$node->safe_psql('postgres', 'BEGIN; DROP EXTENSION pg_herald CASCADE; ROLLBACK');
wait_for_effects($node, 'work', 120, name => 'a DROP that is rolled back changes nothing');
wait_idle($node, 'work');
is($node->safe_psql('postgres', 'SELECT count(*) FROM app.effects'), '120', 'nothing twice');
cmp_ok(scalar(log_lines($node, qr/(FATAL|ERROR|PANIC):/, $log)), '<', 30, 'no loop of errors in the log');
# Again and again: that they had to leave is no failure of the processes, after which they would be started later and later.
for my $round (1 .. 10)
{
	$node->safe_psql('postgres', 'DROP EXTENSION pg_herald CASCADE');
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_herald');
	wait_until($node, q(SELECT count(*) = 2 FROM herald.workers WHERE kind IN ('dispatcher', 'announcer')), "created again $round times");
}
clean_log($node);

done_testing();
