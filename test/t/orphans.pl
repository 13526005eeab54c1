# A segment of the log is emptied beside an unsubscribe() that has not committed: nothing is left of the subscription.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('orphans', conf => "herald.rotation_period = 1d\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off');
SELECT herald.subscribe('lazy', 'jobs', 'app.note', run_as => 'app');
SELECT herald.pause('lazy');
SQL
publish_many($node, 'jobs', 1);
my $session = $node->background_psql('postgres');
$session->query_safe(q(BEGIN; SELECT herald.unsubscribe('lazy', force => true)));
# Not before: the segment might be emptied already.
reload_with($node, 'herald.rotation_period' => '1s');
wait_until($node, q(SELECT value LIKE '%cannot be emptied since%' FROM herald.status() WHERE name = 'log'), 'it waits for the subscriber');
$session->query_safe('COMMIT');
wait_until($node, q(SELECT count(*) = 0 FROM stored), 'then the segment is emptied', seconds => 60);
is($node->safe_psql('postgres', 'SELECT count(*) FROM herald_internal.parked_store'), '0', 'and nothing was parked for nobody');
end_sessions($session);
clean_log($node);

done_testing();
