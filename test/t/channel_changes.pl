# Channels that change all the time don't keep a segment of the log from being emptied.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('changes', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off'), herald.create_channel('side');
SELECT herald.subscribe('lazy', 'jobs', 'app.note', run_as => 'app');
SELECT herald.pause('lazy');
SQL
publish_many($node, 'jobs', 1);
# Each look is beside a change.
wait_for('the log is emptied', sub {
	$node->safe_psql('postgres', q(SELECT herald.grant_channel('side', 'app', '{subscribe}')));
	return $node->safe_psql('postgres', 'SELECT count(*) FROM stored') eq '0';
});
is($node->safe_psql('postgres', 'SELECT count(*) FROM herald_internal.parked_store'), '1', 'and what was left is parked');
clean_log($node);

done_testing();
