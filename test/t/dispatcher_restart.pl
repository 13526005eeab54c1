# Dispatcher, announcer and launcher are terminated again and again while tasks are published and run:
# their successors go on where they were.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

# No task is cut off to let those before it commit: a handler that was started has its one run.
my $node = start_herald('dispatcher', conf => "herald.batch_time = '60s'\n");
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'pointer');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')));

my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN jobs');

my @ids;
for my $kind (qw(dispatcher dispatcher announcer launcher dispatcher))
{
	push @ids, publish_many($node, 'jobs', 100, payload => '{"seconds": 0.02}');
	ok(end_process($node, 'TERM', $kind), "there is a new $kind");
	push @ids, publish_many($node, 'jobs', 20);
}
wait_for_effects($node, 'work', 600, seconds => 40);
wait_idle($node, 'work');
handled_once($node, 'work', \@ids);
is($node->safe_psql('postgres', 'SELECT count(*) FROM herald.failure_log'), '0', 'nobody is charged');

# What was announced while there was no announcer came with the publisher's own commit.
wait_until($node, "SELECT announced >= 600 FROM herald.channel_stats WHERE channel = 'jobs'", 'all are announced');
my $heard = () = $listener->query("SELECT 'heard'") =~ /Asynchronous notification "jobs"/g;
is($heard, 600, 'a listener hears each of them once');
$listener->quit;

# Publishing in the very moment of the dispatcher's end: nothing may wait for the sweep.
for my $round (1 .. 5)
{
	my $pid = pid_of($node, 'dispatcher');
	signal_process('TERM', $pid);
	push @ids, publish_many($node, 'jobs', 5);
	wait_for_effects($node, 'work', scalar @ids, name => "published at the dispatcher's end");
}

# Tasks that run while the dispatcher changes are not dealt again.
my $gate = close_gate($node, 1);
my @slow = publish_many($node, 'jobs', 3, payload => '{"gate": 1}');
wait_until($node, "SELECT count(*) = 3 FROM herald.workers WHERE kind = 'worker' AND state = 'running'", 'slow tasks run');
ok(end_process($node, 'TERM', 'dispatcher'), 'there is a new dispatcher');
wait_until($node, "SELECT running = 3 FROM herald.subscription_stats WHERE subscription = 'work'", 'which knows them');
# What they report to nobody is counted by the next one.
my $stopped = pid_of($node, 'dispatcher');
stop_idle($node, $stopped);
$gate->quit;
wait_for_effects($node, 'work', @ids + @slow);
wait_until($node, "SELECT count(*) = 0 FROM herald.workers WHERE kind = 'worker' AND state = 'running'", 'all have reported');
signal_process($_, $stopped) for qw(TERM CONT);
wait_until($node, 'SELECT done = ' . (@ids + @slow) . " FROM herald.subscription_stats WHERE subscription = 'work'", 'all are counted');
wait_idle($node, 'work');
handled_once($node, 'work', [ @ids, @slow ]);
is($node->safe_psql('postgres', "SELECT last_value FROM app.runs"), scalar(@ids) + 3, 'no handler was even started twice');
clean_log($node);

done_testing();
