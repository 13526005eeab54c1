# Handlers under each isolation level: what they are told, and what it is for. Without conflicts that are seen, updates are
# lost; with them, tasks are run again, and the sum is right.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('isolation');
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE public.told (subscription text, level text, first_backend int DEFAULT pg_backend_pid());
CREATE TABLE public.sums (name text PRIMARY KEY, n int NOT NULL); INSERT INTO public.sums VALUES ('read committed', 0), ('repeatable read', 0), ('serializable', 0);
CREATE TABLE public.duty (task int, who int, on_duty boolean, PRIMARY KEY (task, who)); INSERT INTO public.duty SELECT t, w, true FROM generate_series(1, 60) AS t, generate_series(1, 2) AS w;
GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
CREATE FUNCTION app.tell(task herald.task) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO public.told VALUES (task.subscription, current_setting('transaction_isolation')) $$;
-- Reads, thinks, and writes what it has made of what it read.
CREATE FUNCTION app.add(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
DECLARE was int := (SELECT n FROM public.sums WHERE name = task.payload ->> 'name');
BEGIN
    PERFORM count(*) FROM generate_series(1, 20000);
    UPDATE public.sums SET n = was + 1 WHERE name = task.payload ->> 'name';
END $$;
-- One of two may leave, not both.
CREATE FUNCTION app.leave(t herald.task) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT count(*) FROM public.duty WHERE task = (t.payload ->> 'task')::int AND on_duty) > 1 THEN
        PERFORM count(*) FROM generate_series(1, 20000);
        UPDATE public.duty SET on_duty = false WHERE task = (t.payload ->> 'task')::int AND who = (t.payload ->> 'who')::int;
    END IF; END $$;
SQL
my @levels = ('read committed', 'repeatable read', 'serializable');
for my $level (@levels)
{
	$node->safe_psql('postgres', "SELECT herald.subscribe('tell $level', 'tell', 'app.tell', run_as => 'app', isolation => '$level')");
}
$node->safe_psql('postgres', q(SELECT herald.subscribe('tell as ever', 'tell', 'app.tell', run_as => 'app')));
my $told = q(SELECT string_agg(subscription || ': ' || level, E'\n' ORDER BY subscription) FROM public.told);
my $expected = join("\n", 'tell as ever: read committed', map { "tell $_: $_" } @levels);
publish_many($node, 'tell', 1);
wait_idle($node, "tell $_") for @levels;
wait_idle($node, 'tell as ever');
is($node->safe_psql('postgres', $told), $expected, 'each has the level that was asked for');
$node->safe_psql('postgres', q(TRUNCATE public.told; ALTER ROLE app SET default_transaction_isolation = 'serializable';
	ALTER ROLE app SET default_transaction_read_only = on));
publish_many($node, 'tell', 1);
wait_idle($node, "tell $_") for @levels, 'as ever';
is($node->safe_psql('postgres', $told), $expected, "a role's default is not asked");
$node->safe_psql('postgres', q(ALTER ROLE app RESET ALL; TRUNCATE public.told;
	SELECT herald.alter_subscription('tell as ever', isolation => 'repeatable read'), herald.alter_subscription('tell serializable', max_attempts => 3)));
is($node->safe_psql('postgres', q(SELECT string_agg(isolation, ', ' ORDER BY subscription) FROM herald.subscriptions)), 'repeatable read, read committed, repeatable read, serializable', 'the view tells');
publish_many($node, 'tell', 20);
wait_idle($node, "tell $_") for @levels, 'as ever';
is($node->safe_psql('postgres', q(SELECT string_agg(DISTINCT subscription || ': ' || level, ', ' ORDER BY subscription || ': ' || level) FROM public.told)),
	'tell as ever: repeatable read, tell read committed: read committed, tell repeatable read: repeatable read, tell serializable: serializable', 'altered');
sqlstate_is($node, q(SELECT herald.subscribe('wrong', 'tell', 'app.tell', run_as => 'app', isolation => 'chaos')), '22023', 'a level that is none');
sqlstate_is($node, q(SELECT herald.alter_subscription('tell as ever', isolation => 'read uncommitted')), '22023', 'nor here');

# Lost updates.
my $count = 120;
for my $level (@levels)
{
	$node->safe_psql('postgres', <<"SQL");
SELECT herald.subscribe('add $level', 'add $level', 'app.add', run_as => 'app', max_concurrency => 4, batch => false, retry_delay => '1 ms', max_retry_delay => '10 ms', max_attempts => 100, isolation => '$level');
SELECT count(herald.publish('add $level', jsonb_build_object('name', '$level'))) FROM generate_series(1, $count);
SQL
	wait_idle($node, "add $level");
}
cmp_ok($node->safe_psql('postgres', q(SELECT n FROM public.sums WHERE name = 'read committed')), '<', $count, 'read committed: updates are lost');
for my $level (@levels[ 1, 2 ])
{
	is($node->safe_psql('postgres', "SELECT n FROM public.sums WHERE name = '$level'"), $count, "$level: none is");
	is($node->safe_psql('postgres', "SELECT done, dead FROM herald.subscription_stats WHERE subscription = 'add $level'"), "$count|0", 'each task is done');
	is($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE subscription = 'add $level' AND error_code <> '40001'"), '0', 'failed attempts are conflicts');
	cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE subscription = 'add $level'"), '<', $count, 'most conflicts are no attempt');
}

# What only serializable sees: both read that two are there, and each lets one go.
$node->safe_psql('postgres', <<'SQL');
SELECT herald.subscribe('leave', 'leave', 'app.leave', run_as => 'app', max_concurrency => 4, retry_delay => '1 ms', max_retry_delay => '10 ms', max_attempts => 100, isolation => 'serializable');
SELECT count(herald.publish('leave', jsonb_build_object('task', t, 'who', w))) FROM generate_series(1, 60) AS t, generate_series(1, 2) AS w;
SQL
wait_idle($node, 'leave');
is($node->safe_psql('postgres', 'SELECT count(*) FROM public.duty WHERE on_duty'), '60', 'one of two has stayed, of each');
is($node->safe_psql('postgres', q(SELECT done, dead FROM herald.subscription_stats WHERE subscription = 'leave')), '120|0', 'each task is done');

# One that can't succeed is charged, and given up.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION app.never(task herald.task) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('app.runs'); RAISE EXCEPTION 'always' USING ERRCODE = 'serialization_failure'; END $$;
SELECT setval('app.runs', 1, false);
SELECT herald.subscribe('never', 'never', 'app.never', run_as => 'app', max_attempts => 2, retry_delay => '1 ms', isolation => 'serializable');
SQL
publish_many($node, 'never', 1);
wait_until($node, q(SELECT dead = 1 FROM herald.subscription_stats WHERE subscription = 'never'), 'a dead letter');
is($node->safe_psql('postgres', q(SELECT count(*), min(error_code) FROM herald.failure_log WHERE subscription = 'never')), '2|40001', 'after two attempts');
is($node->safe_psql('postgres', 'SELECT last_value FROM app.runs'), '12', 'of six runs each');
clean_log($node);
done_testing();
