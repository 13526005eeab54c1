# A dump has what was committed when it began, also where a segment of the log is emptied before pg_dump comes to it.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use IPC::Run ();

my $node = start_herald('dump', conf => "herald.rotation_period = 1d\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE public.dumped ();
SELECT herald.create_channel('jobs', announce => 'off');
SELECT herald.subscribe('lazy', 'jobs', 'app.note', run_as => 'app');
SELECT herald.pause('lazy');
SQL
my $blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; LOCK TABLE public.dumped');
publish_many($node, 'jobs', 1, payload => '{"what": "to be dumped"}');
my ($dumped, $err) = ('', '');
my $dump = IPC::Run::start([ $node->installed_command('pg_dump'), $node->connstr('postgres') ], '<', \undef, '>', \$dumped, '2>', \$err, IPC::Run::timeout(180));
wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'LOCK TABLE%dumped%SHARE MODE' AND wait_event_type = 'Lock'", 'pg_dump has begun');
# Not before: the dump might show the task parked, or both where it lies and where it is moved to.
reload_with($node, 'herald.rotation_period' => '1s');
wait_until($node, q(SELECT count(*) = 1 FROM herald_internal.parked_store), 'the task is parked');
# It does not wait for the dump; what is handled now was not when the dump began.
$node->safe_psql('postgres', q(SELECT herald.resume('lazy')));
wait_for_effects($node, 'lazy', 1);
wait_idle($node, 'lazy');
publish_many($node, 'jobs', 1, payload => '{"what": "came later"}');
wait_for_effects($node, 'lazy', 2);
wait_until($node, q(SELECT count(*) = 0 FROM herald_internal.parked_store), 'all is done, and not parked any more');
$blocker->query_safe('COMMIT');
$dump->finish;
is(() = $dumped =~ /to be dumped/g, 1, 'the dump has the message');
is(() = $dumped =~ /came later/g, 0, 'and not the younger one');
wait_until($node, q(SELECT count(*) = 0 FROM stored), 'then the segments are emptied');
end_sessions($blocker);
clean_log($node);

done_testing();
