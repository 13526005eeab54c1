# A worker that dies with a batch: before its commit all tasks of it run again, and only the one that ran is
# suspected; at its commit, the commit decides for all of them. As in worker_dies_after_commit.pl the moment of
# the commit is made to last by a synchronous standby that is not there.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use IPC::Run ();

my $node = start_herald('batch_fence', init => { allows_streaming => 1 }, conf => <<'CONF');
herald.batch_time = '60s'
synchronous_commit = local
CONF
# Only the workers wait for the standby.
$node->safe_psql('postgres', q(
	ALTER ROLE app SET synchronous_commit = on;
	ALTER TABLE app.effects ADD xid xid8 DEFAULT pg_current_xact_id();
	CREATE SEQUENCE app.gate;
	GRANT SELECT ON app.gate TO app;
	CREATE FUNCTION app.hang(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM app.work(task);
		IF task.payload ? 'wait' THEN PERFORM pg_advisory_xact_lock_shared(42); END IF;
		IF (task.payload ->> 'hold')::bigint = (SELECT last_value FROM app.gate) THEN
			PERFORM pg_sleep(60);  -- a handler that waits to be killed
		END IF;
	END $$;
	SELECT herald.create_channel('other', announce => 'off');
	SELECT herald.create_channel('jobs', announce => 'off');
	SELECT herald.subscribe('work', 'jobs', 'app.hang', run_as => 'app', max_concurrency => 1, retry_delay => '10 ms', max_attempts => 5)));

my @all;
my $runs = 0;

# Publishes payloads while the subscription is paused, then lets it go; returns the ids.
sub run_backlog
{
	my @payloads = @_;
	$node->safe_psql('postgres', q(SELECT herald.pause('work', '20 s')));
	my @ids = split /,/, $node->value("SELECT string_agg(id::text, ',' ORDER BY id) FROM herald.publish_batch('jobs', ARRAY["
		. join(',', map { "'$_'" } @payloads) . ']::jsonb[]) AS p (id)');
	$node->safe_psql('postgres', q(SELECT herald.resume('work')));
	push @all, @ids;
	$runs += @ids;
	return @ids;
}

# Large batches again, whatever happened before.
sub grow
{
	my $largest = 0;
	for my $round (1 .. 20)
	{
		my @ids = run_backlog(('{}') x 100);
		wait_idle($node, 'work');
		$largest = $node->value('SELECT max(n) FROM (SELECT count(*) AS n FROM app.effects WHERE message_id IN (' . join(',', @ids) . ') GROUP BY xid) AS x');
		last if $largest == 32;
	}
	is($largest, 32, 'batches grow');
	return;
}

sub all_once
{
	my ($how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_idle($node, 'work');
	is($node->value('SELECT last_value FROM app.runs'), $runs, "$how: no handler was started once too often") if defined $runs;
	handled_once($node, 'work', \@all);
	return;
}

# Killed while the sixth of eleven runs.
grow();
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(42)');
my @ids = run_backlog(('{}') x 5, '{"wait": 1}', ('{}') x 5);
my $suspect = $ids[5];
my $waits = "FROM herald.workers WHERE subscription = 'work' AND state = 'running' AND message_id = $suspect";
wait_until($node, "SELECT count(*) = 1 $waits", 'a task waits in the middle of a batch');
like($node->value("SELECT query FROM pg_stat_activity WHERE pid = (SELECT pid $waits)"), qr/message $suspect, attempt 1/, 'and shows');
$node->safe_psql('postgres', q(SELECT herald.alter_subscription('work', max_concurrency => 2)));
my $first = $node->value("SELECT pid $waits");
signal_process('TERM', $first);
wait_until($node, "SELECT count(*) = 1 $waits AND pid <> $first", 'its worker terminated, it runs again');
wait_until($node, 'SELECT count(*) = 10 FROM app.effects WHERE message_id IN (' . join(',', @ids) . ')', 'the others are done meanwhile');
is($node->value('SELECT count(*) FROM herald.failure_log'), '0', 'nobody is charged');
my $second = $node->value("SELECT pid $waits");
signal_process('TERM', $second);
# The second loss is recorded, as it is without batches.
wait_until($node, "SELECT count(*) = 1 $waits AND pid <> $second", 'it runs once more');
is($node->value("SELECT string_agg(message_id || ' ' || attempt || ' ' || error_code, ',' ORDER BY attempt) FROM herald.failure_log"),
	"$suspect 1 57P01,$suspect 2 57P01", 'only the task that ran is charged');
$holder->query_safe('SELECT pg_advisory_unlock_all()');
# The five before it ran twice, the suspect three times.
$runs += 5 + 2;
all_once('worker terminated in a batch');
is($node->value("SELECT attempt FROM app.effects WHERE message_id = $suspect"), '3', 'the suspect is done at the third attempt');

# Tasks that lose their worker twice because of others: still nobody is charged.
$node->safe_psql('postgres', q(SELECT herald.alter_subscription('work', max_concurrency => 1)));
grow();
@ids = run_backlog(('{}') x 3, '{"hold": 2}', '{}', '{"hold": 1}');
for my $place (5, 3)
{
	$waits = "FROM herald.workers WHERE subscription = 'work' AND state = 'running' AND message_id = $ids[$place]";
	wait_until($node, "SELECT count(*) = 1 $waits", "task $place holds its batch up");
	my $pid = $node->value("SELECT pid $waits");
	$node->safe_psql('postgres', "SELECT setval('app.gate', CASE $place WHEN 5 THEN 2 ELSE 3 END)");
	signal_process('TERM', $pid);
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'its worker is terminated');
}
$runs += 6 + 4;
all_once('workers terminated twice');
is($node->value("SELECT count(*) FROM herald.failure_log WHERE message_id >= $ids[0]"), '0', 'nobody is charged for what ends the worker of others');

# The dispatcher changes in the meantime.
$node->safe_psql('postgres', q(SELECT herald.alter_subscription('work', max_concurrency => 1)));
grow();
$holder->query_safe('SELECT pg_advisory_lock(42)');
@ids = run_backlog(('{}') x 5, '{"wait": 1}', ('{}') x 5);
$waits = "FROM herald.workers WHERE subscription = 'work' AND state = 'running' AND message_id = $ids[5]";
wait_until($node, "SELECT count(*) = 1 $waits", 'a task waits in the middle of a batch');
ok(end_process($node, 'TERM', 'dispatcher'), 'there is a new dispatcher');
wait_until($node, "SELECT running = 1 AND pending = 10 FROM herald.subscription_stats WHERE subscription = 'work'", 'it knows the whole batch');
$holder->query_safe('SELECT pg_advisory_unlock_all()');
all_once('dispatcher terminated during a batch');

# The batch in its commit.
sub block_commit
{
	my @payloads = @_;
	grow();
	reload_with($node, synchronous_standby_names => 'missing');
	wait_until($node, 'SHOW synchronous_standby_names', 'the standby is missing', expect => 'missing');
	# The checkpointer says so to the others, before its checkpoint.
	$node->safe_psql('postgres', 'CHECKPOINT');
	my @batch = run_backlog(@payloads);
	my $committing = "FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'SyncRep'";
	wait_until($node, "SELECT count(*) = 1 $committing", 'a batch waits in its commit');
	is($node->value('SELECT count(*) FROM app.effects WHERE message_id IN (' . join(',', @batch) . ')'), '0', 'nobody sees its effects yet');
	return ($node->value("SELECT pid $committing"), @batch);
}

sub unblock
{
	reload_with($node, synchronous_standby_names => '');
	return;
}

sub committed_once
{
	my ($how, @batch) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->value('SELECT count(DISTINCT xid), count(*) FROM app.effects WHERE message_id IN (' . join(',', @batch) . ')'),
		'1|' . @batch, "$how: it was one transaction");
	all_once($how);
	return;
}

my ($worker, @batch) = block_commit(('{}') x 20);
signal_process('TERM', $worker);
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker", 'the worker is terminated there');
wait_until($node, 'SELECT count(*) = 20 FROM app.effects WHERE message_id IN (' . join(',', @batch) . ')', 'the batch is done');
unblock();
committed_once('worker terminated in the commit of a batch', @batch);

# A scan, and another dispatcher, find the batch with the worker.
($worker, @batch) = block_commit(('{}') x 20);
$node->safe_psql('postgres', q(BEGIN; SELECT herald.publish('other', '{}'); PREPARE TRANSACTION 'p'));
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
ok(end_process($node, 'TERM', 'dispatcher'), 'there is a new dispatcher');
wait_until($node, "SELECT running = 1 AND pending = 19 FROM herald.subscription_stats WHERE subscription = 'work'", 'it knows the whole batch');
signal_process('TERM', $worker);
wait_until($node, 'SELECT count(*) = 20 FROM app.effects WHERE message_id IN (' . join(',', @batch) . ')', 'the batch is done');
unblock();
committed_once('worker terminated after the dispatcher', @batch);

# Each task of it has an outcome of its own: one has failed.
($worker, @batch) = block_commit(('{}') x 5, '{"failures": 1}', ('{}') x 5);
signal_process('TERM', $worker);
wait_until($node, "SELECT retrying = 1 OR running = 1 FROM herald.subscription_stats WHERE subscription = 'work'", 'the failed one is tried again');
unblock();
$runs++;
all_once('worker terminated with a failed task');
is($node->value("SELECT string_agg(attempt || ' ' || error_code, ',') FROM herald.failure_log WHERE message_id = $batch[5]"), '1 HT001', 'it is charged once');

# The process ends between its commit and its report.
SKIP:
{
	my ($gdb) = grep { -x } map { "$_/gdb" } split /:/, $ENV{PATH};
	skip 'there is no gdb', 1 unless defined $gdb;
	($worker, @batch) = block_commit(('{}') x 20);
	my ($out, $err) = ('', '');
	my $debugger = IPC::Run::start([ $gdb, '-nx', '-batch', '-p', $worker, '-ex', 'handle all nostop noprint pass',
			'-ex', 'break pgstat_report_stat', '-ex', 'echo attached\n',
			'-ex', 'continue', '-ex', 'call ((void (*)(int)) proc_exit)(1)' ],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60));
	$debugger->pump until $out =~ /attached/ || !$debugger->pumpable;
	unblock();
	$debugger->finish;
	my $hit = $out =~ /^(Thread.*hit )?Breakpoint 1, /m;
	diag("gdb: $out$err") unless $hit;
	ok($hit, 'a worker was stopped after its commit') if $out =~ /^Breakpoint 1 at/m;
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker", 'and ended there') if $hit;
	committed_once('worker ended between its commit and its report', @batch);
}
unblock();
statistics_true($node, 'work', 'jobs');

# Killed outright, in the middle of a batch: the whole server starts again.
grow();
$holder->query_safe('SELECT pg_advisory_lock(42)');
@ids = run_backlog(('{}') x 5, '{"wait": 1}', ('{}') x 5);
$waits = "FROM herald.workers WHERE subscription = 'work' AND state = 'running' AND message_id = $ids[5]";
wait_until($node, "SELECT count(*) = 1 $waits", 'a task waits in the middle of a batch');
my $failures = $node->value('SELECT count(*) FROM herald.failure_log');
signal_process('KILL', $node->value("SELECT pid $waits"));
$node->poll_query_until('postgres', 'SELECT true');
wait_until($node, 'SELECT count(*) = 11 FROM app.effects WHERE message_id IN (' . join(',', @ids) . ')', 'after the restart all are done');
undef $runs;
all_once('worker killed in a batch');
is($node->value('SELECT count(*) FROM herald.failure_log'), $failures + 1, 'one is charged');
is($node->value("SELECT attempt || ' ' || error_code FROM herald.failure_log WHERE message_id = $ids[5]"), '1 57P02', 'the one that ran in the killed worker');
clean_log($node, signals => 9);

done_testing();
