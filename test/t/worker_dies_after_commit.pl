# A worker that dies when its transaction has committed but it could not say so any more: the task must not
# run again. The moment is made to last by a synchronous standby that is not there: the worker waits in its
# commit, its transaction is committed on disk and still running for everybody else.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('fence', init => { allows_streaming => 1 }, conf => <<'CONF');
max_connections = 30
synchronous_standby_names = 'missing'
synchronous_commit = local
CONF
# Only the workers wait for the standby.
$node->safe_psql('postgres', q(
	ALTER ROLE app SET synchronous_commit = on;
	SELECT herald.create_channel('other');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_concurrency => 1,
		retry_delay => '10 ms', max_attempts => 3)));

my $runs = 0;

# The pid of the worker that waits in the commit of the task just published.
sub publish_and_block
{
	my ($payload) = @_;
	my ($id) = publish_many($node, 'jobs', 1, payload => $payload // '{}');
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'SyncRep'",
		'a worker waits in its commit');
	$runs++;
	return ($id, $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'SyncRep'"));
}

sub ran_once
{
	my ($id, $how) = @_;
	wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id", "$how: the task is done");
	wait_idle($node, 'work');
	is($node->safe_psql('postgres', 'SELECT last_value FROM app.runs'), $runs, "$how: it ran once");
	handled_once($node, 'work', [$id]);
	return;
}

my ($id, $worker) = publish_and_block();
is($node->safe_psql('postgres', 'SELECT count(*) FROM app.effects'), '0', 'nobody sees its effects yet');
signal_process('TERM', $worker);
ran_once($id, 'worker terminated');

# A scan at that moment finds the task unsettled and held by a worker.
($id, $worker) = publish_and_block();
$node->safe_psql('postgres', q(BEGIN; SELECT herald.publish('other', '{}'); PREPARE TRANSACTION 'p'));
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
wait_until($node, "SELECT sum(running) = 1 AND sum(pending) = 0 FROM herald.subscription_stats", 'the dispatcher sees it running');
signal_process('TERM', $worker);
ran_once($id, 'worker terminated after a scan');

# The dispatcher dies first: its successor finds the task with the worker.
($id, $worker) = publish_and_block();
ok(end_process($node, 'TERM', 'dispatcher'), 'there is a new dispatcher');
wait_until($node, "SELECT running = 1 AND pending = 0 FROM herald.subscription_stats WHERE subscription = 'work'",
	'the new dispatcher sees it running');
signal_process('TERM', $worker);
ran_once($id, 'worker terminated after the dispatcher');

# The worker dies while there is no dispatcher: the launcher is held still meanwhile.
($id, $worker) = publish_and_block();
my $launcher = pid_of($node, 'launcher');
my $dispatcher = pid_of($node, 'dispatcher');
signal_process('STOP', $launcher);
signal_process('TERM', $dispatcher);
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $dispatcher", 'no dispatcher');
signal_process('TERM', $worker);
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker", 'no worker');
signal_process('CONT', $launcher);
ran_once($id, 'worker terminated without a dispatcher');

# A server that shuts down doesn't wait for the standby either.
publish_and_block();
my $began = time;
$node->stop('fast', timeout => 30);
cmp_ok(time - $began, '<=', 5, 'the server stops while a worker waits in its commit');
$node->start;
wait_idle($node, 'work');
is($node->safe_psql('postgres', 'SELECT last_value FROM app.runs'), $runs, 'and the task does not run again');

# A failed attempt is an outcome like any other: it counts once.
($id, $worker) = publish_and_block('{"failures": 1}');
signal_process('TERM', $worker);
wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'SyncRep' AND pid <> $worker",
	'the second attempt waits in its commit');
$runs++;
is($node->safe_psql('postgres', "SELECT string_agg(attempt || ' ' || error_code, ', ') FROM herald.failure_log WHERE message_id = $id"),
	'1 HT001', 'the first attempt is recorded');
($worker) = $node->safe_psql('postgres',
	"SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'SyncRep'");
signal_process('TERM', $worker);
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id AND attempt = 2", 'the second attempt counts');
wait_idle($node, 'work');
is($node->safe_psql('postgres', 'SELECT last_value FROM app.runs'), $runs, 'there were two attempts');
failures_complete($node, 'work', 1);
clean_log($node);

done_testing();
