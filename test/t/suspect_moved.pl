# A suspect whose message is parked by rotation while it waits: it is run once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('suspect', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off');
SELECT herald.subscribe(name, 'jobs', 'app.work', run_as => 'app', max_concurrency => 1) FROM unnest('{one,two}'::text[]) AS name;
SQL

# Two workers run a task of the same message when the server crashes by both.
my $waiting = "FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'advisory'";
my $gate = close_gate($node, 1);
publish_many($node, 'jobs', 1, payload => '{"gate": 1}');
wait_until($node, "SELECT count(*) = 2 $waiting", 'two tasks run');
$node->safe_psql('postgres', q(SELECT herald.pause('one'), herald.pause('two')));
crash_by($node, split /\n/, $node->safe_psql('postgres', "SELECT pid $waiting"));
$gate->ended;
wait_until($node, q(SELECT ok FROM herald.status() WHERE name = 'announcer'), 'the server is back');

# While they are suspects that wait, rotation parks the message, though somebody has an old snapshot.
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
wait_until($node, q(SELECT count(*) = 2 FROM herald_internal.parked_store), 'both are parked by rotation');

$node->safe_psql('postgres', q(SELECT herald.resume('one'), herald.resume('two')));
wait_for_effects($node, $_, 1) foreach qw(one two);
is($node->value('SELECT count(*) FROM herald_internal.parked_store'), '0', 'nothing is parked any more');

# A dispatcher that begins anew does not deal them again.
end_process($node, 'TERM', 'dispatcher');
HeraldNode::becomes_true(8, sub { $node->value('SELECT count(*) > 2 FROM app.effects') eq 't' });
is($node->value(q(
	SELECT string_agg(subscription || ':' || n, ',' ORDER BY subscription)
	  FROM (SELECT subscription, count(*) AS n FROM app.effects GROUP BY 1) AS e)),
	'one:1,two:1', 'each ran once');
end_sessions($old);
done_testing();
