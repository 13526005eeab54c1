# Workers are terminated again and again while tasks run: the tasks are handed back, none is lost and none
# has two effects.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('terminated');
$node->safe_psql('postgres', q(SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_concurrency => 4)));

# 10 ms each: at any moment some are running.
my @ids = publish_many($node, 'jobs', 1000, payload => '{"seconds": 0.01}');
my $terminated = 0;
for my $round (1 .. 15)
{
	$node->poll_query_until('postgres',
		"SELECT EXISTS (SELECT FROM herald.workers WHERE kind = 'worker' AND state = 'running')
		     OR (SELECT count(DISTINCT message_id) FROM app.effects) = 1000");
	$terminated += $node->safe_psql('postgres',
		"SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM herald.workers WHERE kind = 'worker' AND pid IS NOT NULL");
}
cmp_ok($terminated, '>', 5, "$terminated workers were terminated");
wait_for_effects($node, 'work', 1000, seconds => 60);
wait_idle($node, 'work');
handled_once($node, 'work', \@ids);
# A task that was hit once is handed back without a charge; only one hit twice and more is charged.
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE error_code <> '57P01'"), '0', 'no other failures');
is($node->safe_psql('postgres', 'SELECT count(*) FROM herald.dead_letters'), '0', 'no dead letters');
clean_log($node);

done_testing();
