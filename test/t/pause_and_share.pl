# Pausing, resuming and waiting; max_concurrency to the number; altering and removing subscriptions that are at
# work; roles that share too few workers.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('pause', conf => "herald.max_workers = 9\n");
$node->safe_psql('postgres', <<'SQL');
-- How many of a subscription ran when this one did, itself included: each holds a lock of its own. Those that come while
-- the gate is closed count when all of them are there.
CREATE TABLE app.concurrency (subscription text, message_id bigint, n int);
GRANT ALL ON app.concurrency TO PUBLIC;
CREATE FUNCTION app.count(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext(task.subscription), task.message_id::int);
    PERFORM pg_advisory_xact_lock_shared(1);
    PERFORM pg_sleep(0.03);  -- the handler takes its time
    INSERT INTO app.concurrency SELECT task.subscription, task.message_id, count(*) FROM pg_locks
     WHERE locktype = 'advisory' AND classid = hashtext(task.subscription)::bit(32)::bigint::oid AND objsubid = 2;
    INSERT INTO app.effects (subscription, message_id, attempt) VALUES (task.subscription, task.message_id, task.attempt);
END $$;
SQL

# max_concurrency: reached, and never exceeded; also where two subscriptions share the workers.
$node->safe_psql('postgres', qq(SELECT herald.subscribe('limit$_', 'limited', 'app.count', run_as => 'app', max_concurrency => $_))) for (1, 2, 3);
my $gate = close_gate($node, 1);
my @ids = publish_many($node, 'limited', 100);
wait_until($node, "SELECT string_agg(subscription, ' ' ORDER BY subscription) FROM herald.workers WHERE state = 'running' AND subscription LIKE 'limit%'", 'as many run as may',
	expect => 'limit1 limit2 limit2 limit3 limit3 limit3');
$gate->quit;
for my $limit (1, 2, 3)
{
	wait_for_effects($node, "limit$limit", 100, seconds => 30);
	is($node->safe_psql('postgres', "SELECT max(n) FROM app.concurrency WHERE subscription = 'limit$limit'"), $limit, "max_concurrency $limit is kept and used");
	wait_idle($node, "limit$limit");
	handled_once($node, "limit$limit", \@ids);
}

# Altered while it works.
$gate = close_gate($node, 1);
@ids = publish_many($node, 'limited', 60);
$node->safe_psql('postgres', "SELECT herald.alter_subscription('limit1', max_concurrency => 4), herald.unsubscribe('limit2', force => true)");
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.subscriptions WHERE subscription = 'limit2'"), '0', 'unsubscribed');
# Its tasks that run keep their workers.
wait_until($node, "SELECT count(*) > 1 FROM herald.workers WHERE state = 'running' AND subscription = 'limit1'", 'more of the altered one run');
$gate->quit;
wait_until($node, "SELECT count(*) = 160 FROM app.effects WHERE subscription = 'limit1'", 'the altered one does all');
is($node->safe_psql('postgres', "SELECT max(n) > 1 AND max(n) <= 4 FROM app.concurrency WHERE subscription = 'limit1' AND message_id >= $ids[0]"), 't', 'with the new limit');
wait_until($node, "SELECT count(*) = 160 FROM app.effects WHERE subscription = 'limit3'", 'the other one does all');
wait_until($node, "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND classid = hashtext('limit2')::bit(32)::bigint::oid AND objsubid = 2",
	'those of the removed one that ran are over');
my $done = $node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'limit2'");
publish_many($node, 'limited', 10);
wait_until($node, "SELECT count(*) = 170 FROM app.effects WHERE subscription = 'limit3'", 'and what comes later');
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'limit2'"), $done, 'the removed one does nothing any more');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log"), '0', 'no failures');

# pause without waiting: from the commit on, nothing starts.
$node->safe_psql('postgres', "SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')");
$node->safe_psql('postgres', "SELECT herald.pause('work')");
publish_many($node, 'jobs', 10);
is($node->safe_psql('postgres', "SELECT state FROM herald.subscriptions WHERE subscription = 'work'"), 'paused', 'paused');
is($node->safe_psql('postgres', "SELECT herald.wait_idle('work', '200 ms')"), 'f', 'wait_idle sees the tasks');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.tasks WHERE subscription = 'work' AND state = 'pending' AND wait_reason = 'paused'"), '10', 'herald.tasks shows them');
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'work'"), '0', 'nothing runs');
ok(end_process($node, 'TERM', 'dispatcher'), 'a new dispatcher');
publish_many($node, 'jobs', 1);
is($node->safe_psql('postgres', "SELECT herald.wait_idle('work', '200 ms')"), 'f', 'keeps the pause');
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'work'"), '0', 'nothing runs');
$node->safe_psql('postgres', "SELECT herald.resume('work')");
wait_for_effects($node, 'work', 11, name => 'resumed, all run');
wait_idle($node, 'work');

# pause with waiting: when it says true, nothing runs; it can be rolled back.
# None of them is done before the pause has come.
$gate = close_gate($node, 1);
$node->safe_psql('postgres', q(SELECT count(herald.publish('jobs', '{"gate": 1, "seconds": 0.1}')) FROM generate_series(1, 20)));
wait_until($node, "SELECT count(*) = 4 FROM herald.workers WHERE state = 'running' AND subscription = 'work'", 'tasks run');
my $pause = $node->background_psql('postgres');
my $pausing = $pause->query_safe('SELECT pg_backend_pid()');
$pause->query_until(qr/begun/, "\\echo begun\nSELECT herald.pause('work', '20 s');\n");
wait_until($node, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pausing", 'pause waits for running tasks');
$gate->quit;
like($pause->query_safe('SELECT 1'), qr/^t\n/, 'and says so when they are done');
$pause->quit;
my $count = $node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'work'");
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.workers WHERE state = 'running' AND subscription = 'work'"), '0', 'none runs');
cmp_ok($count, '<', 31, 'some are left');
publish_many($node, 'jobs', 5);
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'work'"), $count, 'and none starts');
$node->safe_psql('postgres', "SELECT herald.resume('work')");
wait_for_effects($node, 'work', 36);
publish_many($node, 'jobs', 100, payload => '{"seconds": 0.02}');
is($node->safe_psql('postgres', "BEGIN; SELECT herald.pause('work', '20 s'); ROLLBACK"), 't', 'a pause that is rolled back');
wait_for_effects($node, 'work', 136, name => 'ends with its transaction');
$gate = close_gate($node, 1);
publish_many($node, 'jobs', 1, payload => '{"gate": 1}');
wait_until($node, "SELECT count(*) = 1 FROM herald.workers WHERE state = 'running' AND subscription = 'work'", 'a slow task runs');
is($node->safe_psql('postgres', "SELECT herald.pause('work', '100 ms')"), 'f', 'pause says when one still runs');
is($node->safe_psql('postgres', "SELECT herald.resume('work')"), '', 'resumed');
$gate->quit;
wait_for_effects($node, 'work', 137);

# wait_idle ends when the last task does.
publish_many($node, 'jobs', 20, payload => '{"seconds": 0.05}');
wait_idle($node, 'work');
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'work'"), '157', 'wait_idle waits for the last one');
$gate = close_gate($node, 1);
$node->safe_psql('postgres', "SELECT herald.alter_subscription('work', retry_delay => '1 h')");
my ($failing) = publish_many($node, 'jobs', 1, payload => '{"gate": 1, "failures": 1}');
sqlstate_is($node, "SELECT herald.unsubscribe('work')", '2BP01', 'not removed while tasks run');
$gate->quit;
wait_until($node, "SELECT state = 'retrying' FROM herald.tasks WHERE message_id = $failing", 'a task waits for another attempt');
sqlstate_is($node, "SELECT herald.unsubscribe('work')", '2BP01', 'not removed while tasks wait');
ok(make_due($node, $failing), 'its time has come');
wait_for_effects($node, 'work', 158);
wait_idle($node, 'work');
is($node->safe_psql('postgres', "SELECT herald.unsubscribe('work')"), '', 'removed when it is idle');
$node->stop;

# Two roles and one worker: both get on.
$node = start_herald('share', conf => "herald.max_workers = 1\n");
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE second LOGIN;
GRANT USAGE ON SCHEMA app TO second;
GRANT INSERT ON app.effects TO second;
GRANT USAGE ON app.runs TO second;
SELECT herald.subscribe('one', 'first', 'app.work', run_as => 'app');
SELECT herald.subscribe('two', 'second', 'app.work', run_as => 'second');
SQL
my @first = publish_many($node, 'first', 200, payload => '{"seconds": 0.05}');
wait_for_effects($node, 'one', 5);
my @second = publish_many($node, 'second', 20);
wait_for_effects($node, 'two', 1, name => 'the role that waits gets the worker');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'one'"), '<', 200, 'before the other one is done');
wait_for_effects($node, 'two', 20);
wait_for_effects($node, 'one', 200, seconds => 40);
wait_idle($node, 'one');
handled_once($node, 'one', \@first);
handled_once($node, 'two', \@second);
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM app.effects'), '<', 100, 'without a new worker for every task');
clean_log($node);

done_testing();
