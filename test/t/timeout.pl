# The timeout of a subscription, cancelled attempts, and handlers that resist: each ends as a failed attempt
# with its error code, and in the end as a dead letter.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('timeout');
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION app.resist(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('app.runs');
    LOOP
        BEGIN
            PERFORM pg_sleep(60);  -- a handler that ignores its timeout
        EXCEPTION WHEN query_canceled THEN NULL;
        END;
    END LOOP;
END $$;
CREATE FUNCTION app.spin(task herald.task) RETURNS void LANGUAGE plpgsql AS $$ BEGIN LOOP NULL; END LOOP; END $$;
CREATE FUNCTION app.leave(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('app.runs');
    PERFORM pg_terminate_backend(pg_backend_pid());
    PERFORM pg_sleep(60);  -- a handler that ends its own worker
END $$;
CREATE FUNCTION app.late(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM app.note(task);
    INSERT INTO app.checked VALUES (1);
END $$;
CREATE TABLE app.checked (n int);
CREATE FUNCTION app.slow_check() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(60);  -- a deferred trigger of a handler
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON app.checked DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION app.slow_check();
GRANT ALL ON app.checked TO app;
SELECT herald.subscribe('slow', 'slow', 'app.work', run_as => 'app', timeout => '300 ms', max_attempts => 2,
    retry_delay => '10 ms', max_concurrency => 1);
SELECT herald.subscribe('spin', 'spin', 'app.spin', run_as => 'app', timeout => '300 ms', max_attempts => 1);
SELECT herald.subscribe('late', 'late', 'app.late', run_as => 'app', timeout => '300 ms', max_attempts => 1);
SELECT herald.subscribe('resist', 'resist', 'app.resist', run_as => 'app', timeout => '300 ms', max_attempts => 2,
    retry_delay => '10 ms');
SELECT herald.subscribe('cancelled', 'cancelled', 'app.work', run_as => 'app', max_attempts => 2, retry_delay => '10 ms');
SELECT herald.subscribe('leave', 'leave', 'app.leave', run_as => 'app', max_attempts => 3, retry_delay => '10 ms');
SELECT herald.subscribe('unlimited', 'unlimited', 'app.work', run_as => 'app', timeout => '0');
SQL

sub dies
{
	my ($subscription, $attempts, $code) = @_;
	wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE subscription = '$subscription'", "$subscription: a dead letter");
	# What is committed is counted a moment later.
	wait_idle($node, $subscription);
	is($node->safe_psql('postgres', "SELECT attempts, error_code FROM herald.dead_letters WHERE subscription = '$subscription'"),
		"$attempts|$code", "$subscription: with its code");
	is($node->safe_psql('postgres', "SELECT string_agg(attempt || ' ' || error_code, ', ' ORDER BY attempt) FROM herald.failure_log WHERE subscription = '$subscription'"),
		join(', ', map { "$_ $code" } 1 .. $attempts), "$subscription: each attempt is recorded");
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = '$subscription'"), '0', "$subscription: no effects");
	is($node->safe_psql('postgres', "SELECT pending + running + retrying FROM herald.subscription_stats WHERE subscription = '$subscription'"),
		'0', "$subscription: nothing is left");
	return;
}

publish_many($node, 'slow', 1, payload => '{"seconds": 60}');
dies('slow', 2, '57014');
like($node->safe_psql('postgres', "SELECT max(failed_at - started_at) FROM herald.failure_log WHERE subscription = 'slow'"),
	qr/^00:00:0[0-9]/, 'the timeout was kept');

# The next task of the same worker starts afresh.
my ($quick) = publish_many($node, 'slow', 1);
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $quick", 'the next task runs');
# Together the two take longer than one may.
$node->safe_psql('postgres', "SELECT herald.alter_subscription('slow', timeout => '6 s')");
my @long = publish_many($node, 'slow', 2, payload => '{"seconds": 3.2}');
wait_until($node, "SELECT count(*) = 2 FROM app.effects WHERE message_id >= $long[0]", 'and those after it');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE message_id >= $long[0]"), '0', 'have all their time');

publish_many($node, 'spin', 1);
dies('spin', 1, '57014');
publish_many($node, 'late', 1);
dies('late', 1, '57014');

# A handler that swallows the cancel loses its worker.
publish_many($node, 'resist', 1);
dies('resist', 2, '57014');
wait_until($node, 'SELECT count(*) = 0 FROM pg_stat_activity WHERE wait_event = $$PgSleep$$', 'nobody sleeps on');

# No timeout.
my ($long) = publish_many($node, 'unlimited', 1, payload => '{"seconds": 1.5}');
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $long", 'timeout 0 is none');

# pg_cancel_backend is a failed attempt.
publish_many($node, 'cancelled', 1, payload => '{"seconds": 60}');
for my $attempt (1, 2)
{
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity AS a JOIN herald.workers AS w USING (pid)
		WHERE w.subscription = 'cancelled' AND a.wait_event = 'PgSleep'", "attempt $attempt runs");
	$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM herald.workers WHERE subscription = 'cancelled'");
	wait_until($node, "SELECT count(*) = $attempt FROM herald.failure_log WHERE subscription = 'cancelled'", "attempt $attempt is cancelled");
}
dies('cancelled', 2, '57014');

# A handler that ends its own backend ends as a dead letter, too.
my $before = $node->safe_psql('postgres', 'SELECT last_value FROM app.runs');
publish_many($node, 'leave', 1);
wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE subscription = 'leave'", 'leave: a dead letter');
is($node->safe_psql('postgres', "SELECT error_code FROM herald.dead_letters WHERE subscription = 'leave'"), '57P01', 'leave: with its code');
cmp_ok($node->safe_psql('postgres', 'SELECT last_value FROM app.runs') - $before, '<=', 4, 'leave: after max_attempts + 1 runs at most');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE subscription = 'leave'"), '>', 0, 'leave: it is in the failure log');
clean_log($node);

done_testing();
