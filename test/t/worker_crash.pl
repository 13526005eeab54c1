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
	# In the middle of them some that last until the server crashes, and the gate with it.
	my $gate = close_gate($node, 1);
	push @ids, map { publish_many($node, 'jobs', $_->[0], payload => $_->[1]) }
	  [ 75, '{"seconds": 0.02}' ], [ 2, '{"gate": 1}' ], [ 75, '{"seconds": 0.02}' ];
	wait_until($node, "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'advisory'", 'tasks run');
	my $pid = $node->safe_psql('postgres', $kind eq 'worker'
		? "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'advisory'"
		: "SELECT pid FROM herald.workers WHERE kind = '$kind'");
	is(signal_process('KILL', $pid), 1, "kill -9 of a $kind");
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND backend_type LIKE 'pg_herald%'", 'the server is back');
	$gate->ended;
	wait_for_effects($node, 'work', scalar @ids, name => 'and finishes its tasks by itself');
}
wait_idle($node, 'work');
handled_once($node, 'work', \@ids);
is($node->safe_psql('postgres', 'SELECT error_code, attempt, count(*) FROM herald.failure_log GROUP BY 1, 2'),
	'57P02|1|3', 'the three tasks whose worker was killed are charged, nobody else');
clean_log($node, signals => 9);

done_testing();
