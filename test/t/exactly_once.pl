# 10,000 tasks published by 8 clients at once: each is handled exactly once, and the statistics say so.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('once');
$node->safe_psql('postgres', q(SELECT herald.create_channel('jobs', announce => 'off');
	SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app')));

$node->pgbench('--no-vacuum --client=8 --jobs=2 --transactions=1250 --protocol=prepared',
	0, [qr/number of transactions actually processed: 10000/], [],
	'8 clients publish',
	{ 'publish' => q(SELECT herald.publish('jobs', jsonb_build_object('client', CAST(:client_id AS integer)))) });

wait_for_effects($node, 'work', 10_000, seconds => 90);
wait_idle($node, 'work');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM stored'), '10000|10000', 'all are stored');
handled_once($node, 'work', [ split /\n/, $node->safe_psql('postgres', 'SELECT id FROM stored') ]);
failures_complete($node, 'work', 0);
statistics_true($node, 'work', 'jobs');
is($node->safe_psql('postgres', "SELECT count(*) > 1 FROM (SELECT DISTINCT pid FROM app.effects) AS p"), 't', 'several workers ran them');

# Two subscriptions of one channel each get every message, and one of them fails at first.
$node->safe_psql('postgres', q(
	SELECT herald.subscribe('left', 'pairs', 'app.work', run_as => 'app');
	SELECT herald.subscribe('right', 'pairs', 'app.work', run_as => 'app', retry_delay => '10 ms', retry_backoff => 1)));
my @ids = publish_many($node, 'pairs', 200);
push @ids, publish_many($node, 'pairs', 50, payload => '{"failures": 1}');
for my $subscription (qw(left right))
{
	wait_for_effects($node, $subscription, 250);
	wait_idle($node, $subscription);
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id) FROM app.effects WHERE subscription = '$subscription'"),
		'250|250', "$subscription: one effect per message");
	failures_complete($node, $subscription, 50);
}
clean_log($node);

done_testing();
