# Who gets its turn under load: a single task beside a backlog of 100,000, and beside subscriptions that are paused, held or
# fail; a role beside another one's backlog. And what must hold whoever has his turn: max_concurrency to the number while
# workers and dispatcher end, and tasks that lock the same rows in any order.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('turns', conf => <<'CONF');
herald.max_workers = 4
herald.sweep_interval = 1h
deadlock_timeout = 10ms
CONF
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE second LOGIN;
GRANT USAGE ON SCHEMA app TO second;
GRANT USAGE ON app.runs TO second;
CREATE TABLE app.turns (subscription text, message_id bigint, number bigint, at timestamptz DEFAULT clock_timestamp(), ended timestamptz, xid xid8 DEFAULT pg_current_xact_id());
CREATE TABLE app.counters (id integer PRIMARY KEY, n integer NOT NULL DEFAULT 0);
INSERT INTO app.counters SELECT generate_series(1, 4);
GRANT ALL ON app.turns, app.counters TO app, second;
-- All draw from one sequence: so each knows how many others were started before it.
CREATE FUNCTION app.count(task herald.task) RETURNS void LANGUAGE sql AS $$ SELECT nextval('app.runs') $$;
CREATE FUNCTION app.take_turn(task herald.task) RETURNS void LANGUAGE sql AS $$
    INSERT INTO app.turns VALUES (task.subscription, task.message_id, nextval('app.runs')) $$;
CREATE FUNCTION app.fail(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('app.runs');
    RAISE EXCEPTION 'as always';
END $$;
CREATE FUNCTION app.take_time(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO app.turns VALUES (task.subscription, task.message_id, nextval('app.runs'));
    PERFORM pg_sleep(0.001 * COALESCE((task.payload ->> 'ms')::integer, task.message_id % 4));  -- the handler takes its time
    UPDATE app.turns SET ended = clock_timestamp() WHERE message_id = task.message_id AND subscription = task.subscription;
END $$;
CREATE FUNCTION app.lock_two(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM app.note(task);
    UPDATE app.counters SET n = n + 1 WHERE id = (task.payload ->> 'a')::integer;
    PERFORM pg_sleep(0.002);  -- the handler takes its time
    UPDATE app.counters SET n = n + 1 WHERE id = (task.payload ->> 'b')::integer;
END $$;
CREATE INDEX ON app.turns (message_id);
CREATE FUNCTION app.gone(task herald.task) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SELECT herald.create_channel(c, announce => 'off') FROM unnest('{crowd,single,failing,other,limited,locked}'::text[]) AS c;
SELECT herald.subscribe('crowd', 'crowd', 'app.count', run_as => 'app', max_concurrency => 100);
SELECT herald.subscribe('paused', 'crowd', 'app.count', run_as => 'app');
SELECT herald.subscribe('held', 'crowd', 'app.gone', run_as => 'app');
SELECT herald.subscribe('single', 'single', 'app.take_turn', run_as => 'app');
SELECT herald.subscribe('failing', 'failing', 'app.fail', run_as => 'app', retry_delay => '1 ms', retry_backoff => 1, max_attempts => 1000);
SELECT herald.pause('paused');
DROP FUNCTION app.gone;
SQL

sub publish_batch
{
	my ($channel, $count, $payload) = @_;
	return $node->value("SELECT min(id) FROM herald.publish_batch('$channel', (SELECT array_agg(" . ($payload // "'{}'::jsonb") . ") FROM generate_series(1, $count) AS i)) AS id");
}

sub waiting_of { return $node->value("SELECT pending + running FROM herald.subscription_stats WHERE subscription = '$_[0]'") }

# A single task is dealt next, whatever waits: before it come those that workers have, and those dealt when it was published.
publish_batch('failing', 100);
wait_until($node, q(SELECT failed > 100 FROM herald.subscription_stats WHERE subscription = 'failing'), 'some fail again and again');
my $started = $node->value('SELECT last_value FROM app.runs');
publish_batch('crowd', 100_000);
my @ahead;  # of those that were published beside the crowd
for (1 .. 10)
{
	my ($id, $runs) = split /\|/, $node->value(q(SELECT herald.publish('single', '{}')) . '; SELECT last_value FROM app.runs') =~ s/\n/|/r;
	my $beside = waiting_of('crowd') > 0;
	wait_until($node, "SELECT count(*) = 1 FROM app.turns WHERE message_id = $id", 'a single task is done');
	push @ahead, $node->value("SELECT number - $runs FROM app.turns WHERE message_id = $id") if $beside;
}
note "started before it, beside the crowd: @ahead";
cmp_ok(scalar(@ahead), '>', 0, 'beside a crowd');
@ahead = sort { $a <=> $b } @ahead;
# A few: what four workers have, twice. More only while its worker has the task and waits for a processor.
cmp_ok($ahead[$#ahead / 2], '<=', 3 * 4 * 32, 'mostly before more than a few others were started');
cmp_ok($ahead[-1], '<=', 10_000, 'and always before most of them');
cmp_ok(waiting_of('paused'), '==', 100_000, 'a paused subscription has all of its own to do');
is($node->value(q(SELECT state FROM herald.subscriptions WHERE subscription = 'held')), 'held', 'another one is held');
wait_until($node, q(SELECT pending + running = 0 FROM herald.subscription_stats WHERE subscription = 'crowd'), 'the crowd is done', seconds => 60);
my $failed = $node->value(q(SELECT failed FROM herald.subscription_stats WHERE subscription = 'failing'));
cmp_ok($failed, '>', 100, 'beside those that fail');
is($node->value(q(SELECT herald.unsubscribe(s, force => true) FROM unnest('{failing,paused,held,crowd}'::text[]) AS s)), "\n\n\n", 'that was the crowd');

# A role with a backlog has all workers until another one wants some.
$node->safe_psql('postgres', q(SELECT herald.subscribe('crowd', 'crowd', 'app.take_time', run_as => 'app', max_concurrency => 100);
	SELECT herald.subscribe('other', 'other', 'app.take_time', run_as => 'second', max_concurrency => 100)));
my $workers = q(SELECT string_agg(role || ' ' || n, ' ' ORDER BY role) FROM (SELECT role, count(*) AS n FROM herald.workers WHERE kind = 'worker' GROUP BY role) AS w);
my $first = publish_batch('crowd', 12_000);
wait_until($node, $workers, 'one role has all workers', expect => 'app 4');
my $other = publish_batch('other', 1000);
wait_until($node, "SELECT count(*) > 0 FROM app.turns WHERE message_id >= $other", 'the other role gets its turn');
cmp_ok(waiting_of('crowd'), '>', 0, 'before the first is done');
wait_until($node, "SELECT count(*) = 1000 FROM app.turns WHERE message_id >= $other", 'it does all', seconds => 60);
my ($from, $to, $between) = split /\|/, $node->value(<<"SQL");
SELECT s.a, s.b, (SELECT count(*) FROM app.turns WHERE message_id BETWEEN $first AND $other - 1 AND number BETWEEN s.a AND s.b)
  FROM (SELECT min(number) AS a, max(number) AS b FROM app.turns WHERE message_id >= $other) AS s
SQL
cmp_ok($between, '>', 0, "and the first goes on meanwhile ($between beside 1000)");
wait_until($node, "SELECT count(*) = 13000 FROM app.turns WHERE message_id >= $first", 'and does all', seconds => 60);
is($node->value("SELECT count(DISTINCT message_id) FROM app.turns WHERE message_id >= $first"), '13000', 'each once');

# max_concurrency while processes end: it is reached, and never exceeded, whoever counts.
reload_with($node, 'herald.max_workers' => 6);
$node->safe_psql('postgres', "SELECT herald.subscribe('limit$_', 'limited', 'app.take_time', run_as => 'app', max_concurrency => $_)") for 2, 3;
# Some take longer than a dispatcher needs to come back.
$first = publish_batch('limited', 1500, q(CASE WHEN i % 50 = 0 THEN '{"ms": 200}' ELSE '{}' END::jsonb));
for my $part (1 .. 3)
{
	wait_until($node, "SELECT count(*) > 400 * $part FROM app.turns WHERE message_id >= $first", 'some are done');
	$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM herald.workers WHERE kind = 'worker' AND role = 'app' ORDER BY random() LIMIT 2)) if $part != 2;
	end_process($node, 'TERM', 'dispatcher') if $part != 1;
}
for my $limit (2, 3)
{
	wait_until($node, "SELECT count(*) >= 1500 FROM app.turns WHERE subscription = 'limit$limit'", "limit$limit has done all", seconds => 60);
	wait_idle($node, "limit$limit");
	is($node->value(<<"SQL"), "1500|1500|$limit", "limit$limit: each once, and as many at a time as may run");
SELECT count(*) / 2, count(DISTINCT message_id), max(n)
  FROM (SELECT message_id, sum(step) OVER (ORDER BY moment, step) AS n
          FROM app.turns, LATERAL (VALUES (at, 1), (ended, -1)) AS e (moment, step) WHERE subscription = 'limit$limit') AS x
SQL
}

# Tasks of several workers lock two of four rows, in any order.
$node->safe_psql('postgres', q(SELECT herald.subscribe('locked', 'locked', 'app.lock_two', run_as => 'app', retry_delay => '5 ms', retry_backoff => 1, max_attempts => 1000)));
$first = publish_batch('locked', 300, q(jsonb_build_object('a', 1 + i % 4, 'b', 1 + (i + 1 + i / 4 % 3) % 4)));
wait_for_effects($node, 'locked', 300, seconds => 60);
wait_idle($node, 'locked');
is($node->value('SELECT count(*), count(DISTINCT message_id), (SELECT sum(n) FROM app.counters) FROM app.effects'), '300|300|600', 'each has counted once');
wait_until($node, q(SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = 'postgres'), 'though there were deadlocks');
is($node->value(q(SELECT count(*) FROM herald.failure_log WHERE subscription = 'locked' AND error_code <> '40P01')), '0', 'which alone were failures');
failures_complete($node, 'locked', $node->value(q(SELECT sum(attempt - 1) FROM app.effects)));
clean_log($node);

done_testing();
