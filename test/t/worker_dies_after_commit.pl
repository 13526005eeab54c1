# A worker that dies around its commit. When the commit is on disk but the worker could not say so any more,
# the task must not run again; when it is not, the task must. The first moment is made to last by a synchronous
# standby that is not there: the worker waits in its commit, its transaction is committed on disk and still
# running for everybody else. The second one by the lock that NOTIFY takes just before the commit. What dies may also be
# the whole server.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions qw(stop_idle);
use HeraldTest;
use Test::More;

use IPC::Run ();

my $node = start_herald('fence', init => { allows_streaming => 1 }, conf => <<'CONF');
max_connections = 30
synchronous_standby_names = 'missing'
synchronous_commit = local
herald.batch_time = '60s'  # what was started is not cut off
CONF
# Only the workers wait for the standby. That there is none comes from the checkpointer, at its next turn.
$node->safe_psql('postgres', q(
	ALTER ROLE app SET synchronous_commit = on;
	SELECT herald.create_channel('other');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_concurrency => 1,
		retry_delay => '10 ms', max_attempts => 3);
	CREATE ROLE quick LOGIN;
	GRANT USAGE ON SCHEMA app TO quick;
	GRANT INSERT ON app.effects TO quick;
	GRANT USAGE ON app.runs TO quick;
	CREATE FUNCTION app.shout(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM app.work(task);
		IF task.payload ? 'shout' THEN NOTIFY shouts; END IF;
	END $$;
	SELECT herald.create_channel('quick', announce => 'off');
	SELECT herald.subscribe('quick', 'quick', 'app.shout', run_as => 'quick', max_concurrency => 1);
	CHECKPOINT));

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
stop_idle($node, $launcher);
signal_process('TERM', $dispatcher);
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $dispatcher", 'no dispatcher');
signal_process('TERM', $worker);
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker", 'no worker');
signal_process('CONT', $launcher);
ran_once($id, 'worker terminated without a dispatcher');

# A cancel ends the waiting, and the commit stays one.
($id, $worker) = publish_and_block();
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker)");
ran_once($id, 'worker cancelled');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.workers WHERE pid = $worker"), '1', 'it lives on');

# A session that waits for the standby in its commit, until it is cancelled.
sub block_session
{
	my ($statement) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_until(qr/begun/, "SET synchronous_commit = on;\n\\echo begun\n$statement;\n");
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND wait_event = 'SyncRep'",
		'a session waits in its commit');
	return ($session, $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND wait_event = 'SyncRep'"));
}

sub unblock_session
{
	my ($session, $pid) = @_;
	signal_process('INT', $pid);
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND wait_event = 'SyncRep'",
		'it goes on');
	$session->quit;
	return;
}

# A publication is not dealt before its commit has come to its end: a worker would not find the message.
my ($publisher, $pid) = block_session(q(SELECT herald.publish('quick', '{"hidden": true}')));
my @quick = publish_many($node, 'quick', 3);
wait_for_effects($node, 'quick', 3, name => 'others are handled meanwhile');
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE payload ? 'hidden'"), '0', 'a message whose commit waits is not handled');
unblock_session($publisher, $pid);
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE payload ? 'hidden'", 'and is handled when it has committed');
wait_idle($node, 'quick');
handled_once($node, 'quick', \@quick);
$runs += 4;

# The worker has written everything, but not committed: it waits for the lock of NOTIFY, which the blocked
# session holds. What it was about to commit is gone with it, so the task runs again.
($publisher, $pid) = block_session('BEGIN; CREATE TABLE public.something (); NOTIFY shouts; COMMIT');
my ($shout) = publish_many($node, 'quick', 1, payload => '{"shout": true}');
my $waiting = "FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event_type = 'Lock'";
wait_until($node, "SELECT count(*) = 1 $waiting", 'a worker waits just before its commit');
my $first = $node->safe_psql('postgres', "SELECT pid $waiting");
signal_process('TERM', $first);
wait_until($node, "SELECT count(*) = 1 $waiting AND pid <> $first", 'terminated there, its task runs again');
$runs += 2;
# The same without a dispatcher that sees it.
my $second = $node->safe_psql('postgres', "SELECT pid $waiting");
my $stopped = pid_of($node, 'dispatcher');
stop_idle($node, $stopped);
signal_process('TERM', $second);
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $second", 'the next worker is terminated');
signal_process('TERM', $stopped);
signal_process('CONT', $stopped);
unblock_session($publisher, $pid);
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $shout", 'the task is done in the end');
$runs++;
wait_idle($node, 'quick');
handled_once($node, 'quick', [ @quick, $shout ]);
is($node->safe_psql('postgres', 'SELECT last_value FROM app.runs'), $runs, 'no handler was started once too often');

# The process ends between its commit and its report. No signal can end it there, because it looks at none;
# a debugger can.
SKIP:
{
	my ($gdb) = grep { -x } map { "$_/gdb" } split /:/, $ENV{PATH};
	skip 'there is no gdb', 1 unless defined $gdb;
	($id, $worker) = publish_and_block();
	my ($out, $err) = ('', '');
	my $debugger = IPC::Run::start([ $gdb, '-nx', '-batch', '-p', $worker, '-ex', 'handle all nostop noprint pass',
			'-ex', 'break pgstat_report_stat', '-ex', 'echo attached\n',
			'-ex', 'continue', '-ex', 'call ((void (*)(int)) proc_exit)(1)' ],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(100));
	$debugger->pump until $out =~ /attached/ || !$debugger->pumpable;
	# Every worker is released from now on.
	reload_with($node, synchronous_standby_names => '');
	$debugger->finish;
	my $hit = $out =~ /^(Thread.*hit )?Breakpoint 1, /m;
	diag("gdb: $out$err") unless $hit;
	ok($hit, 'a worker was stopped after its commit') if $out =~ /^Breakpoint 1 at/m;
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker", 'and ended there') if $hit;
	ran_once($id, 'worker ended between its commit and its report');
	reload_with($node, synchronous_standby_names => 'missing');
	wait_until($node, "SHOW synchronous_standby_names", 'the standby is missing again', expect => 'missing');
	$node->safe_psql('postgres', 'CHECKPOINT');
}

# A server that shuts down doesn't wait for the standby either.
publish_and_block();
ok($node->stop('fast', timeout => 60, fail_ok => 1), 'the server stops while a worker waits in its commit');
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

# The server crashes: what memory knew of the commit is gone, and it is on disk.
for my $how ('immediate', 'kill -9 of the worker', 'kill -9 of the dispatcher')
{
	($id, $worker) = publish_and_block();
	if ($how eq 'immediate')
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		my $launcher = pid_of($node, 'launcher');
		signal_process('KILL', $how =~ /dispatcher/ ? pid_of($node, 'dispatcher') : $worker);
		wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $launcher", "$how: all processes are new");
	}
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE message_id = $id"), '1', "$how: its effect is there");
	wait_idle($node, 'work');
	is($node->safe_psql('postgres', "SELECT string_agg(attempt || ' ' || pid, ', ') FROM app.effects WHERE message_id = $id"),
		"1 $worker", "$how: and no other");
	handled_once($node, 'work', [$id]);
}
failures_complete($node, 'work', 1);
clean_log($node, signals => 9);

done_testing();
