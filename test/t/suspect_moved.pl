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
SELECT herald.subscribe('one', 'jobs', 'app.work', run_as => 'app', max_concurrency => 1), herald.subscribe('two', 'jobs', 'app.work', run_as => 'app', max_concurrency => 1);
SQL
my $gate = close_gate($node, 1);
my ($id) = publish_many($node, 'jobs', 1, payload => '{"gate": 1}');
wait_until($node, "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'advisory'", 'two tasks run');
$node->safe_psql('postgres', q(SELECT herald.pause('one'), herald.pause('two')));
my @pids = split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'advisory'");
crash_by($node, @pids);
$gate->ended;
wait_until($node, q(SELECT ok FROM herald.status() WHERE name = 'announcer'), 'the server is back');
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
wait_until($node, q(SELECT count(*) = 2 FROM herald_internal.parked_store), 'both are parked by rotation');
$node->safe_psql('postgres', q(SELECT herald.resume('one'), herald.resume('two')));
wait_for_effects($node, 'one', 1);
wait_for_effects($node, 'two', 1);
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald_internal.parked_store)), '0', 'nothing is parked any more');
end_process($node, 'TERM', 'dispatcher');
HeraldNode::becomes_true(8, sub { $node->safe_psql('postgres', q(SELECT count(*) > 2 FROM app.effects)) eq 't' });
is($node->safe_psql('postgres', q(SELECT string_agg(subscription || ':' || n, ',' ORDER BY subscription) FROM (SELECT subscription, count(*) AS n FROM app.effects GROUP BY 1) e)), 'one:1,two:1', 'each ran once');
end_sessions($old);
done_testing();
