# A retry that falls due while the dispatcher is in the middle of a turn is not left until something else wakes it.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

# Nothing but the timer: one task at a time, no sweep, and looks that wake nobody.
my $node = start_herald('due', conf => "herald.sweep_interval = 1h\n");
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'off');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', retry_delay => '0.08 ms', retry_backoff => 1)));
my $session = $node->background_psql('postgres');
my $rounds = 300;
my $done = 0;
for my $round (1 .. $rounds)
{
	my $id = $session->query_safe(q(SELECT herald.publish('jobs', '{"failures": 3}')));
	last unless HeraldNode::becomes_true($HeraldTest::patience,
		sub { $session->query_safe("SELECT count(*) FROM app.effects WHERE message_id = $id") eq '1' });
	$done++;
}
is($done, $rounds, 'each is tried again when it is due');
end_sessions($session);
clean_log($node);

done_testing();
