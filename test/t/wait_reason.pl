# What herald.tasks says that a task waits for, for each of the reasons, and the numbers of status().

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('reasons', conf => "herald.max_workers = 2\n");
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION app.wait(task herald.task) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    IF task.payload ? 'fail' THEN RAISE EXCEPTION 'no'; END IF; PERFORM pg_advisory_xact_lock_shared(7); END $$;
SELECT herald.subscribe('work', 'jobs', 'app.wait', run_as => 'app', max_concurrency => 1, retry_delay => '1 h', batch => false);
SQL
my $reason = q(SELECT string_agg(coalesce(wait_reason, state), ', ' ORDER BY message_id) FROM herald.tasks WHERE subscription = 'work');
my $gate = close_gate($node, 7);
my $first = $node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"n": 1}', key => 'a')));
wait_until($node, $reason, 'it runs', expect => 'running');
my $second = $node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"n": 2}', key => 'a')));
$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"n": 3}', key => 'a'), herald.publish('jobs', '{"n": 4}', key => 'b'), herald.publish('jobs', '{"n": 5}')));
wait_until($node, $reason, 'a key, and the limit', expect => "running, key: message $first, key: message $second, max_concurrency, max_concurrency");
# Two workers are busy with another subscription.
$node->safe_psql('postgres', q(SELECT herald.alter_subscription('work', max_concurrency => 4)));
wait_until($node, $reason, 'two run, the others wait for a worker or their key', expect => "running, key: message $first, key: message $second, running, worker");
$node->safe_psql('postgres', q(SELECT herald.pause('work')));
wait_until($node, $reason, 'paused', expect => 'running, paused, paused, running, paused');
$node->safe_psql('postgres', q(SELECT herald.resume('work')));
$gate->quit;
ok(wait_idle($node, 'work'), 'all are done');
my $failing = $node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"fail": 1}', key => 'c')));
wait_until($node, $reason, 'the next attempt', expect => 'retry delay');
$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}', key => 'c')));
wait_until($node, $reason, 'behind one that waits for its next attempt', expect => "retry delay, key: message $failing");
$node->safe_psql('postgres', 'DROP FUNCTION app.wait(herald.task)');
$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}')));
wait_until($node, "$reason AND wait_reason LIKE 'held: %does not exist'", 'held', expect => join(', ', ('held: handler app.wait(herald.task) does not exist') x 3));

is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.status() WHERE (value_number IS NULL) <> (unit IS NULL))), '0', 'a number has a unit');
is($node->safe_psql('postgres', q(SELECT name, value_number, unit FROM herald.status() WHERE name IN ('held_subscriptions', 'dead_letters', 'workers', 'log', 'audit', 'version') AND name NOT IN ('workers', 'log') ORDER BY name)),
	"audit|0|tables\ndead_letters|0|messages\nheld_subscriptions|1|subscriptions\nversion||", 'those of some rows');
cmp_ok($node->safe_psql('postgres', q(SELECT value_number FROM herald.status() WHERE name = 'log' AND unit = 'bytes')), '>=', 0, 'bytes');
cmp_ok($node->safe_psql('postgres', q(SELECT value_number FROM herald.status() WHERE name = 'oldest_pending' AND unit = 'seconds')), '>', 0, 'seconds');
cmp_ok($node->safe_psql('postgres', q(SELECT value_number FROM herald.status() WHERE name = 'outbox' AND unit = 'ratio')), '<', 1, 'a ratio');
clean_log($node);
done_testing();
