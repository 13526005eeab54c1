# kill -9 of a worker restarts the server: afterwards everything goes on by itself, no task is lost and none
# has two effects. The same for the dispatcher, the announcer and the launcher.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('crash');
$node->safe_psql('postgres', q(SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')));

my @ids;
for my $kind (qw(worker worker dispatcher announcer launcher worker))
{
	push @ids, publish_many($node, 'jobs', 150, payload => '{"seconds": 0.02}');
	my $handled = $node->safe_psql('postgres', 'SELECT count(DISTINCT message_id) FROM app.effects');
	my $running = $node->poll_query_until('postgres',
		"SELECT EXISTS (SELECT FROM herald.workers WHERE kind = 'worker' AND state = 'running' AND pid IS NOT NULL)");
	my ($pid) = $node->safe_psql('postgres',
		"SELECT pid FROM herald.workers WHERE kind = '$kind' AND pid IS NOT NULL ORDER BY state = 'running' DESC LIMIT 1");
	is(signal_process('KILL', $pid), 1, "kill -9 of a $kind");
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND backend_type LIKE 'pg_herald%'", 'the server is back');
	wait_for_effects($node, 'work', scalar @ids, name => 'and finishes its tasks by itself');
}
wait_idle($node, 'work');
handled_once($node, 'work', \@ids);
is($node->safe_psql('postgres', 'SELECT count(*) FROM herald.failure_log'), '0', 'nobody is charged');
clean_log($node, signals => 9);

done_testing();
