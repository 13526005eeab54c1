# A wake-up that comes at the worst moment: together with the end of a sleep, or while the process that it is meant for
# waits for a lock, which takes the latch back. What it was for is done at once, not when the process looks by itself.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('wakeups', conf => <<'CONF');
herald.max_workers = 1
herald.worker_idle_timeout = 1h
herald.sweep_interval = 10min
CONF
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'off');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', timeout => '0')));

# While it stands still, its sleep ends, and it gets a task.
publish_many($node, 'jobs', 1);
wait_for_effects($node, 'work', 1);
my $worker = pid_of($node, 'worker');
# A task was just done, so it has begun to sleep for a second.
signal_process('STOP', $worker);
publish_many($node, 'jobs', 1);
wait_until($node, q(SELECT running = 1 FROM herald.subscription_stats WHERE subscription = 'work'), 'the worker that stands still has a task');
my $then = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
wait_until($node, "SELECT clock_timestamp() > '$then'::timestamptz + interval '1.2 s'", 'its sleep is over');
signal_process('CONT', $worker);
wait_for_effects($node, 'work', 2, name => 'a task that came as the sleep of a worker ended is done');
is(pid_of($node, 'worker'), $worker, 'by the same worker');

# The dispatcher waits for a lock while a worker reports.
my $gate = close_gate($node, 7);
publish_many($node, 'jobs', 1, payload => '{"gate": 7}');
wait_until($node, q(SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = ) . $worker . q( AND wait_event = 'advisory'), 'a task waits');
publish_many($node, 'jobs', 3);
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE herald_internal.parked_store IN ACCESS EXCLUSIVE MODE');
my $dispatcher = pid_of($node, 'dispatcher');
# It reads the tables anew when a subscription is resumed.
$node->safe_psql('postgres', q(SELECT herald.subscribe('more', 'other', 'app.work', run_as => 'app')));
wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE pid = $dispatcher AND NOT granted", 'the dispatcher waits for a lock');
$gate->quit;
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker AND wait_event = 'advisory'", 'the worker goes on');
wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $worker AND state = 'idle'", 'and reports');
$locker->query_safe('COMMIT');
wait_for_effects($node, 'work', 6, name => 'a report that came while the dispatcher waited for a lock is read');
is(pid_of($node, 'dispatcher'), $dispatcher, 'by the same dispatcher');
$locker->quit;

clean_log($node);
$node->stop;
done_testing();
