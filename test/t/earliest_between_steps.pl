# A subscription from the earliest message on, made while a segment that is done with waits for an old snapshot.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('between', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off');
SELECT herald.subscribe('lazy', 'jobs', 'app.note', run_as => 'app');
SELECT herald.pause('lazy');
SQL
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my ($id) = publish_many($node, 'jobs', 1);
wait_until($node, q(SELECT count(*) = 1 FROM herald_internal.parked_store), 'the task is parked, the first step is done');
$node->safe_psql('postgres', q(BEGIN; SELECT herald.subscribe('late', 'jobs', 'app.note', run_as => 'app', start_at => 'earliest'); SELECT herald.pause('late'); COMMIT));
# The dispatcher says so when it has looked.
wait_until($node, q(SELECT pending = 1 FROM herald.subscription_stats WHERE subscription = 'late'), 'it has the task');
$old->query_safe('COMMIT');
wait_until($node, q(SELECT pg_relation_size('herald_internal.log_0') + pg_relation_size('herald_internal.log_1') + pg_relation_size('herald_internal.log_2') = 0), 'emptied');
is($node->safe_psql('postgres', q(SELECT string_agg(s.subscription, ',' ORDER BY s.subscription DESC) FROM herald_internal.parked_store p JOIN herald_internal.subscription_store s ON s.id = p.subscription_id)), 'lazy,late', 'both have it');
$node->safe_psql('postgres', q(SELECT herald.resume('late')));
wait_for_effects($node, 'late', 1);
end_sessions($old);
done_testing();
