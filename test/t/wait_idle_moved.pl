# wait_idle asks the dispatcher. One that has to begin anew, because rows were parked elsewhere, does not answer for its
# predecessor.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('moved', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel(c, announce => 'off') FROM unnest('{jobs,rare,bulk}'::text[]) AS c;
SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app'), herald.subscribe('lazy', 'rare', 'app.work', run_as => 'app');
SELECT herald.pause('lazy');
SQL
publish_many($node, 'jobs', 1);
wait_idle($node, 'work');
for my $round (1 .. 3)
{
	my $dispatcher = pid_of($node, 'dispatcher');
	stop_idle($node, $dispatcher);
	publish_many($node, 'rare', 1);
	wait_until($node, "SELECT count(*) = $round FROM herald_internal.parked_store", 'a task is parked');
	# Without subscribers: something to read for the dispatcher that begins anew.
	$node->safe_psql('postgres', q(SELECT FROM herald.publish_batch('bulk', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 100000))) OFFSET 100000));
	my ($id) = publish_many($node, 'jobs', 1);
	my $waiting = $node->background_psql('postgres');
	$waiting->query_until(qr/begun/, "\\echo begun\nSELECT herald.wait_idle('work', '20 s');\n");
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%wait_idle%' AND wait_event = 'Extension' AND backend_type = 'client backend'", 'a session waits');
	signal_process('CONT', $dispatcher);
	my $result = $waiting->query("SELECT 'idle: ' || count(*) FROM app.effects WHERE message_id = $id;");
	like($result, qr/^t$/m, 'wait_idle says that nothing is left');
	like($result, qr/idle: 1/, 'and nothing is');
	end_sessions($waiting);
	wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id", 'done in the end');
}
clean_log($node);

done_testing();
