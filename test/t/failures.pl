# Failed attempts: when the next one comes, what is recorded of each, dead letters and what can be done with
# them.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('failures');
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE app.parents (n int PRIMARY KEY);
CREATE TABLE app.children (n int REFERENCES app.parents DEFERRABLE INITIALLY DEFERRED);
GRANT ALL ON app.parents, app.children TO app;
CREATE FUNCTION app.defer(task herald.task) RETURNS void LANGUAGE sql AS $$
    SELECT app.note(task); INSERT INTO app.children VALUES (1) $$;
CREATE FUNCTION app.odd(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CASE task.payload ->> 'error'
        WHEN 'unique' THEN INSERT INTO app.parents VALUES (9); INSERT INTO app.parents VALUES (9);
        WHEN 'serialization' THEN RAISE serialization_failure;
        WHEN 'deadlock' THEN RAISE deadlock_detected;
        WHEN 'memory' THEN RAISE out_of_memory;
        WHEN 'disk' THEN RAISE disk_full;
        WHEN 'internal' THEN RAISE internal_error USING MESSAGE = repeat('x', 100000);
        WHEN 'assert' THEN ASSERT false, 'asserted';
        WHEN 'cancel' THEN RAISE query_canceled;
        WHEN 'shutdown' THEN RAISE admin_shutdown;
        WHEN 'recursion' THEN PERFORM app.odd(task);
        WHEN 'text' THEN RAISE EXCEPTION E'ümlaut \u20ac "quoted"\nnext line' USING ERRCODE = 'ZZ999', DETAIL = 'the détail', HINT = '';
    END CASE;
END $$;
SELECT herald.subscribe('timing', 'timing', 'app.work', run_as => 'app', max_attempts => 4, retry_delay => '400 ms', retry_backoff => 2);
SELECT herald.subscribe('later', 'later', 'app.work', run_as => 'app', max_attempts => 4, retry_delay => '1 h');
SELECT herald.subscribe('dying', 'dying', 'app.work', run_as => 'app', max_attempts => 2, retry_delay => '10 ms', retry_backoff => 1);
SELECT herald.subscribe('defer', 'defer', 'app.defer', run_as => 'app', max_attempts => 2, retry_delay => '10 ms');
SELECT herald.subscribe('odd', 'odd', 'app.odd', run_as => 'app', max_attempts => 1);
SQL

# Each attempt comes when it was announced to come, not before; the delay grows.
my ($id) = publish_many($node, 'timing', 1, payload => '{"failures": 3, "task_id": "order 7"}');
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id", 'the fourth attempt succeeds');
is($node->safe_psql('postgres', "SELECT attempt FROM app.effects WHERE message_id = $id"), '4', 'it knows its number');
failures_complete($node, 'timing', 3);
is($node->safe_psql('postgres', <<"SQL"), 't', 'no attempt comes before its time, nor only with the sweep');
SELECT bool_and(next >= next_attempt_at AND next < next_attempt_at + interval '20 s')
  FROM (SELECT next_attempt_at, lead(started_at, 1, (SELECT at FROM app.effects WHERE message_id = $id)) OVER (ORDER BY attempt) AS next
          FROM herald.failure_log WHERE message_id = $id) AS attempts
SQL
is($node->safe_psql('postgres', <<"SQL"), "t\nt\nt", 'the delay doubles, with up to a quarter on top');
SELECT next_attempt_at - failed_at BETWEEN interval '400 ms' * 2 ^ (attempt - 1) AND interval '500 ms' * 2 ^ (attempt - 1)
  FROM herald.failure_log WHERE message_id = $id ORDER BY attempt
SQL
is($node->safe_psql('postgres', "SELECT DISTINCT channel, task_id, error_code, message LIKE 'attempt _ fails as asked', detail, hint, handler, context LIKE '%PL/pgSQL function%'
	FROM herald.failure_log WHERE message_id = $id"),
	'timing|order 7|HT001|t|the detail|the hint|app.work(herald.task)|t', 'the failure log has it all');

# A retry that waits survives a new dispatcher and keeps its time.
($id) = publish_many($node, 'later', 1, payload => '{"failures": 2}');
wait_until($node, "SELECT count(*) = 1 FROM herald.failure_log WHERE message_id = $id", 'the first attempt failed');
ok(end_process($node, 'TERM', 'dispatcher'), 'a new dispatcher');
wait_until($node, "SELECT pending + running = 0 AND retrying = 1 FROM herald.subscription_stats WHERE subscription = 'later'", 'knows that it waits');
is($node->safe_psql('postgres', "SELECT state, attempt, wait_reason, next_attempt_at = (SELECT next_attempt_at FROM herald.failure_log WHERE message_id = $id)
	FROM herald.tasks WHERE message_id = $id"), 'retrying|1|retry delay|t', 'herald.tasks shows it');
# With what is left of its delay.
$node->safe_psql('postgres', "SELECT herald.alter_subscription('later', retry_delay => '3 s', retry_backoff => 1)");
ok(make_due($node, $id), 'a dispatcher that finds it due');
wait_until($node, "SELECT count(*) = 2 FROM herald.failure_log WHERE message_id = $id", 'deals it at once');
ok(end_process($node, 'TERM', 'dispatcher'), 'a new dispatcher');
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id AND attempt = 3", 'the third succeeds');
is($node->safe_psql('postgres', "SELECT at >= (SELECT max(next_attempt_at) FROM herald.failure_log WHERE message_id = $id AND attempt = 2) FROM app.effects WHERE message_id = $id"),
	't', 'not before its time');

# After max_attempts: a dead letter, with all that is needed to look into it.
my @dead = publish_many($node, 'dying', 10, payload => '{"failures": 2, "task_id": 5}');
wait_until($node, "SELECT count(*) = 10 FROM herald.dead_letters WHERE subscription = 'dying'", 'ten dead letters');
wait_idle($node, 'dying');
failures_complete($node, 'dying', 20);
statistics_true($node, 'dying', 'dying');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE subscription = 'dying' AND next_attempt_at IS NULL"), '10', 'the last attempt has no next one');
is($node->safe_psql('postgres', "SELECT DISTINCT channel, task_id, payload, attempts, error_code FROM herald.dead_letters WHERE subscription = 'dying'"),
	'dying|5|{"task_id": 5, "failures": 2}|2|HT001', 'the dead letters have it all');

# Replayed: all attempts again. 
$node->safe_psql('postgres', "BEGIN; SELECT herald.replay(min(id)) FROM herald.dead_letters; ROLLBACK");
is($node->safe_psql('postgres', "SELECT herald.replay(id) FROM herald.dead_letters WHERE message_id = $dead[0]"), 't', 'replay');
wait_until($node, "SELECT count(*) = 4 FROM herald.failure_log WHERE message_id = $dead[0]", 'two more attempts');
wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE message_id = $dead[0]", 'dead again');
is($node->safe_psql('postgres', 'SELECT herald.replay(-1)'), 'f', 'a dead letter that is not there');
$node->safe_psql('postgres', 'CREATE OR REPLACE FUNCTION app.work(task herald.task) RETURNS void LANGUAGE sql AS $$ SELECT app.note(task) $$');
is($node->safe_psql('postgres', "SELECT herald.discard_dead_letters('dying', '-infinity'), herald.discard_dead_letters('dying', now() - interval '1 day')"), '0|0', 'none died before');
is($node->safe_psql('postgres', "SELECT herald.replay_all('dying')"), '10', 'replay_all');
wait_for_effects($node, 'dying', 10);
wait_idle($node, 'dying');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id), max(attempt) FROM app.effects WHERE subscription = 'dying'"), '10|10|1', 'each succeeds once');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.dead_letters"), '0', 'no dead letters');
is($node->safe_psql('postgres', "SELECT herald.replay_all('dying')"), '0', 'nothing to replay');

# A deferred constraint counts as the handler's error.
($id) = publish_many($node, 'defer', 1);
wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE message_id = $id", 'a deferred constraint fails the attempt');
is($node->safe_psql('postgres', "SELECT string_agg(attempt || ' ' || error_code, ', ' ORDER BY attempt) FROM herald.failure_log WHERE message_id = $id"),
	'1 23503, 2 23503', 'with its code');
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'defer'"), '0', 'and leaves nothing');
$node->safe_psql('postgres', 'INSERT INTO app.parents VALUES (1)');
($id) = publish_many($node, 'defer', 1);
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id", 'satisfied, it succeeds');

# Errors of all kinds.
my %errors = (unique => '23505', serialization => '40001', deadlock => '40P01', memory => '53200', disk => '53100', internal => 'XX000',
	assert => 'P0004', cancel => '57014', shutdown => '57P01', recursion => '54001', text => 'ZZ999', nothing => '20000');
for my $error (sort keys %errors)
{
	($id) = publish_many($node, 'odd', 1, payload => qq({"error": "$error"}));
	wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE message_id = $id", "error $error");
	is($node->safe_psql('postgres', "SELECT error_code, attempt FROM herald.failure_log WHERE message_id = $id"), "$errors{$error}|1", "error $error: its code");
}
is($node->safe_psql('postgres', q(SELECT message = E'ümlaut \u20ac "quoted"\nnext line', detail = 'the détail' FROM herald.failure_log WHERE error_code = 'ZZ999')), 't|t', 'text as it is');
is($node->safe_psql('postgres', "SELECT herald.discard_dead_letters('odd')"), scalar(keys %errors), 'discarded');
wait_idle($node, 'odd');
clean_log($node);

done_testing();
