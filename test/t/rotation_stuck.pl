# Rotation asks for a short break in dealing, so that workers let go of a segment. Where the announcer then hangs behind
# somebody's NOTIFY, tasks go on all the same.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('stuck', init => { allows_streaming => 1 }, conf => <<'CONF');
synchronous_commit = local
herald.rotation_period = 1s
herald.sweep_interval = 1s
CONF
$node->safe_psql('postgres', q(
	CREATE TABLE public.written (n int);
	SELECT herald.create_channel('jobs', announce => 'off'), herald.create_channel('loud', announce => 'payload');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app');
	CHECKPOINT));
my $gate = close_gate($node, 1);
publish_many($node, 'jobs', 1, payload => '{"gate": 1}');
wait_until($node, q(SELECT value LIKE '%cannot be emptied since%' FROM herald.status() WHERE name = 'log'), 'a task keeps its segment');
standby_is($node, 'missing');
my ($foreign, $pid) = stuck_publisher($node, q(BEGIN; INSERT INTO public.written VALUES (1); NOTIFY shouts; COMMIT;));
for my $round (1 .. 5)
{
	ok(end_process($node, 'TERM', 'announcer'), 'a new announcer tries at once');
	# Before it looks for work publishers announce by themselves, and hang in its place.
	wait_until($node, q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_herald announcer' AND wait_event_type IN ('Extension', 'Lock')), 'it is there');
	my $loud = $node->background_psql('postgres');
	$loud->query_until(qr/begun/, "\\echo begun\nSELECT herald.publish('loud', '1');\n");
	wait_until($node, q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_herald announcer' AND wait_event_type = 'Lock'), 'it hangs behind a NOTIFY');
	my ($id) = publish_many($node, 'jobs', 1);
	wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id", 'a task is handled');
	signal_process('INT', $pid);
	end_sessions($foreign, $loud);
	($foreign, $pid) = stuck_publisher($node, q(BEGIN; INSERT INTO public.written VALUES (1); NOTIFY shouts; COMMIT;));
}
standby_is($node, '');
end_sessions($foreign, $gate);
clean_log($node);

done_testing();
