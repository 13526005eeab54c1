# Several tasks in one transaction: what they share, and what they must not notice of each other. Batches are
# made certain by a backlog of a paused subscription, and seen by the transaction ids of the handlers' effects.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

# The time of a batch is no limit but where a test says so.
my $node = start_herald('batches', conf => "herald.batch_time = '60s'\ndeadlock_timeout = '50ms'\n");
$node->safe_psql('postgres', <<'SQL');
ALTER TABLE app.effects ADD xid xid8 DEFAULT pg_current_xact_id(), ADD transaction_time timestamptz DEFAULT now(),
    ADD number bigint, ADD ended timestamptz;
CREATE INDEX ON app.effects (message_id);
CREATE TABLE app.parents (id bigint PRIMARY KEY);
CREATE TABLE app.children (parent bigint REFERENCES app.parents DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE app.counters (id integer PRIMARY KEY, n integer NOT NULL DEFAULT 0);
INSERT INTO app.counters SELECT generate_series(1, 20);
CREATE SEQUENCE app.barrier;
CREATE SEQUENCE app.other_barrier;
CREATE SEQUENCE app.numbers;
CREATE TABLE app.seen (message_id bigint, xid xid8 DEFAULT pg_current_xact_id(), state jsonb);
GRANT ALL ON ALL TABLES IN SCHEMA app TO app;
GRANT ALL ON ALL SEQUENCES IN SCHEMA app TO app;

-- Does what the payload asks for.
CREATE FUNCTION app.act(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM app.work(task);
    UPDATE app.effects SET number = currval('app.runs') WHERE message_id = task.message_id AND subscription = task.subscription;
    IF task.payload ? 'wait' THEN
        PERFORM pg_advisory_xact_lock_shared((task.payload ->> 'wait')::bigint);
    END IF;
    IF task.payload ? 'swallow' THEN
        BEGIN
            PERFORM pg_advisory_xact_lock_shared((task.payload ->> 'swallow')::bigint);
        EXCEPTION WHEN query_canceled THEN
            INSERT INTO app.seen (message_id) VALUES (task.message_id);
        END;
    END IF;
    IF task.payload ? 'parent' THEN
        -- In this order the constraint must wait for the end.
        INSERT INTO app.children VALUES ((task.payload ->> 'parent')::bigint);
        IF NOT task.payload ? 'orphan' THEN
            INSERT INTO app.parents VALUES ((task.payload ->> 'parent')::bigint);
        END IF;
    END IF;
    IF task.payload ? 'count' THEN
        UPDATE app.counters SET n = n + 1 WHERE id = (task.payload ->> 'count')::integer;
    END IF;
    IF task.payload ? 'meet' THEN
        PERFORM nextval((task.payload ->> 'meet')::regclass);
        WHILE pg_sequence_last_value((task.payload ->> 'meet')::regclass) < 2 LOOP
            PERFORM pg_sleep(0.001);  -- one handler waits for the other
        END LOOP;
    END IF;
    IF task.payload ? 'do' THEN
        EXECUTE task.payload ->> 'do';
    END IF;
    UPDATE app.effects SET ended = clock_timestamp() WHERE message_id = task.message_id AND subscription = task.subscription;
END $$;

-- Makes a backlog, and lets it run.
CREATE FUNCTION public.backlog(channel text, payloads jsonb[], keys text[] DEFAULT NULL) RETURNS bigint[] LANGUAGE sql AS $$
    SELECT array_agg(id ORDER BY id) FROM herald.publish_batch(channel, payloads, keys) AS p (id) $$;
SQL

sub subscribe
{
	my ($name, %options) = @_;
	my $more = join '', map { ", $_ => $options{$_}" } sort keys %options;
	$node->safe_psql('postgres', "SELECT herald.create_channel('$name', announce => 'off');
		SELECT herald.subscribe('$name', '$name', 'app.act', run_as => 'app', retry_delay => '10 ms' $more)");
	return;
}

# Publishes payloads while the subscription is paused, then lets it go; returns the ids.
sub run_backlog
{
	my ($name, $payloads, %options) = @_;
	my $list = join ',', map { "'$_'" } @$payloads;
	my $keys = $options{keys} ? "ARRAY[$options{keys}]" : 'NULL';
	$node->safe_psql('postgres', "SELECT herald.pause('$name', '20 s')");
	my $ids = $node->safe_psql('postgres', "SELECT array_to_string(public.backlog('$name', ARRAY[$list]::jsonb[], $keys), ',')");
	$node->safe_psql('postgres', "SELECT herald.resume('$name')");
	return split /,/, $ids;
}

# Quick tasks, until the batches of the subscription are as large as they get.
sub grow
{
	my ($name) = @_;
	my @all;
	# On a busy machine it may take more than one.
	for my $round (1 .. 10)
	{
		push @all, my @ids = run_backlog($name, [ ('{}') x 100 ]);
		wait_idle($node, $name);
		last if largest($name, @ids) == 32;
	}
	is(largest($name, @all), 32, "$name: batches grow");
	return @all;
}

sub list { return join ',', @_; }

# How many of these tasks were done in one transaction, at most.
sub largest
{
	my ($name, @ids) = @_;
	return $node->value("SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM app.effects
		WHERE subscription = '$name' AND message_id IN (" . list(@ids) . ') GROUP BY xid) AS x');
}

sub nobody_charged
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->value("SELECT count(*) FROM herald.failure_log WHERE subscription = '$name'"), '0', "$name: nobody is charged");
}

# Batches are there at all, and end with what is ready.
subscribe('many', max_concurrency => 1);
my @many = grow('many');
is($node->value("SELECT max(cardinality(message_ids)) FROM (SELECT * FROM herald_internal.settled_0 UNION ALL SELECT * FROM herald_internal.settled_1 UNION ALL SELECT * FROM herald_internal.settled_2) AS s"),
	'32', 'one record for a batch');
push @many, my ($single) = publish_many($node, 'many', 1);
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $single", 'a single task needs no others');
# A failed attempt in the middle, and one that is its last.
push @many, my @some = run_backlog('many', [ ('{}') x 5, '{"failures": 1}', ('{}') x 5, '{"failures": 99}', ('{}') x 5 ]);
wait_until($node, "SELECT count(*) = 16 FROM app.effects WHERE message_id IN (" . list(@some) . ')', 'the others are done, and one at its second attempt');
is(largest('many', @some), 15, 'the others share a transaction');
is($node->value("SELECT attempt, (SELECT count(*) FROM app.effects AS o WHERE o.xid = e.xid) FROM app.effects AS e WHERE message_id = $some[5]"),
	'2|1', 'the failed one is done in another one');
is($node->value("SELECT message_id, attempt, error_code FROM herald.failure_log WHERE message_id = $some[5]"), "$some[5]|1|HT001", 'its failure is recorded');
$node->safe_psql('postgres', q(SELECT herald.alter_subscription('many', max_attempts => 1)));
wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE message_id = $some[11]", 'a dead letter');
wait_idle($node, 'many');
my @done = grep { $_ != $some[11] } @many;
handled_once($node, 'many', \@done);
statistics_true($node, 'many', 'many');

# batch => false.
subscribe('apart', max_concurrency => 1, batch => 'false');
my @apart = run_backlog('apart', [ ('{}') x 50 ]);
wait_idle($node, 'apart');
is($node->value("SELECT count(DISTINCT transaction_time), count(DISTINCT xid) FROM app.effects WHERE subscription = 'apart'"), '50|50',
	'without batches each task has its own transaction and time');
$node->safe_psql('postgres', q(SELECT herald.alter_subscription('apart', batch => true)));
grow('apart');
$node->safe_psql('postgres', q(SELECT herald.alter_subscription('apart', batch => false)));
@apart = run_backlog('apart', [ ('{}') x 20 ]);
wait_idle($node, 'apart');
is(largest('apart', @apart), 1, 'and again after batches were turned off');

# Deferred constraints are checked at the end of each task, wherever in the batch it is.
subscribe('checked', max_concurrency => 1, max_attempts => 1);
grow('checked');
my @checked = run_backlog('checked', [ (map { qq({"parent": $_}) } 1 .. 5), '{"parent": 6, "orphan": 1}', (map { qq({"parent": $_}) } 7 .. 12) ]);
wait_idle($node, 'checked');
is($node->value("SELECT string_agg(message_id || ' ' || error_code, ',') FROM herald.failure_log WHERE subscription = 'checked'"),
	"$checked[5] 23503", 'only the task that violates a constraint fails');
is(largest('checked', @checked), 11, 'the others share a transaction');
# SET CONSTRAINTS is for the rest of the transaction: no other task may run in it.
@checked = run_backlog('checked', [ (map { qq({"parent": $_}) } 21 .. 25), '{"do": "SET CONSTRAINTS ALL IMMEDIATE"}', (map { qq({"parent": $_}) } 26 .. 30) ]);
wait_idle($node, 'checked');
is($node->value("SELECT count(*) FROM herald.failure_log WHERE subscription = 'checked'"), '1', 'SET CONSTRAINTS is not in force for others');
is(largest('checked', @checked), 6, 'it ends its batch');

# Two workers update the same rows in opposite order: one row a task, so no task can be blamed for the deadlock.
subscribe('up', max_concurrency => 1);
subscribe('down', max_concurrency => 1);
grow($_) for 'up', 'down';
$node->safe_psql('postgres', q(SELECT herald.pause(s, '20 s') FROM unnest('{up,down}'::text[]) AS s));
my %order = (up => [ 1 .. 20 ], down => [ reverse 1 .. 20 ]);
for my $name (keys %order)
{
	my $list = join ',', map { "'{\"count\": $_" . ($_ == $order{$name}[0] ? ', "meet": "app.barrier"' : '') . "}'" } @{ $order{$name} };
	$node->safe_psql('postgres', "SELECT public.backlog('$name', ARRAY[$list]::jsonb[])");
}
$node->safe_psql('postgres', q(SELECT herald.resume(s) FROM unnest('{up,down}'::text[]) AS s));
wait_idle($node, $_) for 'up', 'down';
is($node->value('SELECT count(*), min(n), max(n) FROM app.counters'), '20|2|2', 'each task has counted once');
nobody_charged($_) for 'up', 'down';
wait_until($node, q(SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = 'postgres'), 'there was a deadlock');

# A commit that fails where no check of ours can see it before: that of a foreign server, which is a part of it.
# Where tasks share the transaction nobody is to blame.
my ($host, $port) = ($node->host, $node->port);
$node->safe_psql('postgres', <<"SQL");
CREATE EXTENSION postgres_fdw;
CREATE SERVER back FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
CREATE USER MAPPING FOR app SERVER back OPTIONS (user 'app', password_required 'false');
CREATE TABLE app.near (message_id bigint, xid xid8 DEFAULT pg_current_xact_id());
CREATE FOREIGN TABLE app.far (message_id bigint) SERVER back OPTIONS (schema_name 'app', table_name 'near');
GRANT ALL ON app.near, app.far TO app;
CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    IF (SELECT count(*) FROM app.near WHERE xid = pg_current_xact_id()) > 1 OR
        NEW.message_id < 0 AND nextval('app.numbers') = 1 THEN
        RAISE EXCEPTION 'refused';
    END IF;
    RETURN NULL;
END \$\$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON app.near DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION app.refuse();
SQL
my @company = run_backlog('many', [ ('{"do": "INSERT INTO app.far VALUES (1)"}') x 10 ]);
wait_idle($node, 'many');
is($node->value('SELECT count(*), count(DISTINCT xid) FROM app.effects WHERE message_id IN (' . list(@company) . ')'), '10|10',
	'when the commit of a batch fails, its tasks run again, one by one');
is($node->value("SELECT count(*) FROM herald.failure_log WHERE message_id IN (" . list(@company) . ')'), '0', 'and nobody is charged');
is($node->value('SELECT count(*) FROM app.near'), '10', 'on the other side, too');
# A single task is charged.
$node->safe_psql('postgres', q(SELECT herald.alter_subscription('many', max_attempts => 5)));
my ($refused) = publish_many($node, 'many', 1, payload => '{"do": "INSERT INTO app.far VALUES (-1)"}');
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $refused AND attempt = 2", 'a single task whose commit failed is done later');
is($node->value("SELECT string_agg(attempt || ' ' || error_code, ',' ORDER BY attempt) FROM herald.failure_log WHERE message_id = $refused"),
	'1 P0001', 'and charged');

# No trace between two tasks of a batch.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION app.look(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
BEGIN
    IF task.payload ? 'do' THEN
        EXECUTE task.payload ->> 'do';
        INSERT INTO app.effects (subscription, message_id, attempt) VALUES (task.subscription, task.message_id, task.attempt);
        IF task.payload ? 'fail' THEN RAISE EXCEPTION 'as asked'; END IF;
        RETURN;
    END IF;
    BEGIN
        last := lastval();
    EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
    END;
    INSERT INTO app.seen (message_id, state) VALUES (task.message_id, jsonb_build_object(
        'user', current_user, 'session', session_user, 'last', last,
        'settings', (SELECT jsonb_object_agg(name, setting) FROM pg_settings
                      WHERE name NOT LIKE 'transaction_%' AND name <> 'in_hot_standby'),
        'read_only', current_setting('transaction_read_only'),
        'own', NULLIF(current_setting('app.own', true), ''),
        'locks', (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
        'prepared', (SELECT count(*) FROM pg_prepared_statements),
        'cursors', (SELECT count(*) FROM pg_cursors WHERE name = 'mine'),
        'tables', (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
        'temporary', to_regclass('pg_temp.mine')));
END $$;
SELECT herald.create_channel('look', announce => 'off');
SELECT herald.subscribe('look', 'look', 'app.look', run_as => 'app', max_concurrency => 1, max_attempts => 1);
SQL

# Pairs of a task that does something and one that looks; the first one of all looks, too.
sub look_between
{
	my ($what, @statements) = @_;
	my @ids = run_backlog('look', [ '{}', map { my $do = s/'/''/gr; (qq({"do": "$do"}), '{}', qq({"do": "$do", "fail": 1}), '{}') } @statements ]);
	wait_idle($node, 'look');
	is($node->value('SELECT count(*) FROM app.seen WHERE message_id IN (' . list(@ids) . ')'), 1 + 2 * @statements, "$what: all have looked");
	is($node->value(<<"SQL"), '', "$what: nobody sees a trace");
SELECT DISTINCT key, left(a.value::text, 100) FROM app.seen AS b, app.seen AS s, jsonb_each(b.state) AS c (key, value)
  JOIN LATERAL (SELECT s.state -> c.key) AS a (value) ON true
 WHERE b.message_id = $ids[0] AND s.message_id IN (@{[ list(@ids) ]}) AND a.value IS DISTINCT FROM c.value
SQL
	return @ids;
}

sub grow_look
{
	run_backlog('look', [ ('{}') x 100 ]);
	wait_idle($node, 'look');
	return;
}

grow_look();
my @looked = look_between('settings', 'SET work_mem = 12345', 'SET LOCAL work_mem = 12345', "SET app.own = 'mine'",
	"SELECT set_config('DateStyle', 'German', false)", 'SET statement_timeout = 1; SET lock_timeout = 1', 'RESET ALL');
is($node->value('SELECT count(DISTINCT xid) FROM app.seen WHERE message_id IN (' . list(@looked) . ')'), '1', 'all in one transaction');
@looked = look_between('session', 'PREPARE mine AS SELECT 1', 'DECLARE mine CURSOR FOR SELECT 1',
	'DECLARE mine CURSOR WITH HOLD FOR SELECT generate_series(1, 10)', "SELECT nextval('app.numbers')",
	'DISCARD PLANS', 'UNLISTEN *');
is($node->value('SELECT count(DISTINCT xid) FROM app.seen WHERE message_id IN (' . list(@looked) . ')'), '1', 'all in one transaction');
# What can only go with the transaction ends the batch.
for my $do ('SELECT pg_advisory_lock(1), pg_advisory_lock_shared(2)', 'SELECT pg_advisory_xact_lock(3)',
	'CREATE TEMP TABLE mine (n int)', 'CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS $f$ SELECT 1 $f$')
{
	grow_look();
	look_between($do, $do);
}
is($node->value("SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND usename = 'app'") > 0, 1, 'in workers that live');

# max_concurrency counts handlers that run at the same time; keys keep their order. Seen by the time spans of the runs.
subscribe('narrow', max_concurrency => 2);
# The first one waits for the second, so that there are two workers.
my @narrow = run_backlog('narrow', [ map { '{"meet": "app.other_barrier"' . ($_ % 10 == 0 ? ', "seconds": 0.005}' : '}') } 1 .. 400 ]);
wait_idle($node, 'narrow');
cmp_ok(largest('narrow', @narrow), '>', 1, 'there were batches');
my $overlap = <<'SQL';
SELECT max(n) FROM (SELECT (SELECT count(*) FROM app.effects AS o WHERE o.subscription = e.subscription AND o.at <= e.at AND o.ended >= e.at) AS n
  FROM app.effects AS e WHERE e.subscription = 'narrow') AS x
SQL
is($node->value($overlap), '2', 'two run at the same time, never more');
subscribe('keyed', max_concurrency => 4);
my $keys = join ',', map { $_ % 3 == 0 ? 'NULL' : sprintf(q('k%d'), $_ % 7) } 1 .. 300;
run_backlog('keyed', [ map { my $key = $_ % 3 == 0 ? 1000 + $_ : $_ % 7; qq({"key": $key}) } 1 .. 300 ], keys => $keys);
wait_idle($node, 'keyed');
is($node->value(<<'SQL'), '300|0', 'tasks of one key run one after the other, in their order');
SELECT count(*), count(*) FILTER (WHERE at < before) FROM (
	SELECT at, max(ended) OVER (PARTITION BY payload ->> 'key' ORDER BY message_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
	  FROM app.effects WHERE subscription = 'keyed') AS x
SQL
nobody_charged($_) for 'narrow', 'keyed';

# A backlog of one subscription does not keep the task of another waiting.
reload_with($node, 'herald.max_workers' => 1);
wait_until($node, q(SELECT count(*) <= 1 FROM herald.workers WHERE kind = 'worker'), 'one worker');
subscribe('crowd', max_concurrency => 4);
grow('crowd');
subscribe('lonely');
$node->safe_psql('postgres', q(SELECT herald.pause(s, '20 s') FROM unnest('{crowd,lonely}'::text[]) AS s));
$node->safe_psql('postgres', q(SELECT public.backlog('crowd', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 5000)))));
my ($lonely) = publish_many($node, 'lonely', 1);
my $before = $node->value('SELECT last_value FROM app.runs');
$node->safe_psql('postgres', q(SELECT herald.resume(s) FROM unnest('{crowd,lonely}'::text[]) AS s));
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $lonely", 'a single task is done beside a backlog');
cmp_ok($node->value("SELECT number - $before FROM app.effects WHERE message_id = $lonely"), '<=', 2 * 32 + 1, 'after two batches of the others at most');
reload_with($node, 'herald.max_workers' => undef);
wait_idle($node, 'crowd');

# The time of a batch. The tasks that take too long wait for a lock of this session.
reload_with($node, 'herald.batch_time' => '1s');
subscribe('timed', max_concurrency => 2);
wait_until($node, 'SHOW herald.batch_time', 'batches have a second', expect => '1s');
my $holder = $node->background_psql('postgres');
my @timed;

# Runs tasks of which some take too long, several times if need be: on a machine that stood still the time of the batch was
# up for others as well, and they ran again. That can happen, but not each time.
sub take_too_long
{
	my ($payloads, $again, $name, $meanwhile) = @_;
	for my $round (1 .. 5)
	{
		grow('timed');
		$holder->query_safe('SELECT pg_advisory_lock(42)');
		my $before = $node->value('SELECT last_value FROM app.runs');
		@timed = run_backlog('timed', $payloads);
		$meanwhile->();
		$holder->query_safe('SELECT pg_advisory_unlock_all()');
		wait_idle($node, 'timed');
		my $runs = $node->value('SELECT last_value FROM app.runs') - $before;
		next if $round < 5 && $runs > @$payloads + $again;
		local $Test::Builder::Level = $Test::Builder::Level + 1;
		is($runs, @$payloads + $again, $name);
		last;
	}
	nobody_charged('timed');
	return;
}

take_too_long([ ('{}') x 4, '{"wait": 42}', ('{}') x 4, '{"swallow": 42}' ], 2, 'nobody was started twice but those that were cut off', sub {
	wait_until($node, "SELECT count(*) = 8 FROM app.effects WHERE message_id IN (" . list(@timed) . ')', 'those beside a slow one are done while it waits');
	wait_until($node, "SELECT count(*) = 2 FROM herald.workers WHERE subscription = 'timed' AND message_id IN ($timed[4], $timed[9])",
		'the slow ones run again, and are not cut off');
});
is($node->value("SELECT count(*), count(DISTINCT xid) FROM app.effects WHERE message_id IN ($timed[4], $timed[9])"), '2|2', 'they are done');
is($node->value("SELECT count(*) FROM app.effects WHERE xid IN (SELECT xid FROM app.effects WHERE message_id IN ($timed[4], $timed[9]))"), '2', 'alone');
is($node->value("SELECT count(*) FROM app.seen WHERE message_id = $timed[9]"), '0', 'also the one that took no notice of being cancelled');

# The first of a batch is not cut off, and the others do not wait for it.
take_too_long([ '{"wait": 42}', ('{}') x 20 ], 0, 'nobody was started twice', sub {
	wait_until($node, "SELECT count(*) = 20 FROM app.effects WHERE message_id IN (" . list(@timed) . ')', 'tasks behind a slow one go to another worker');
	# The other worker says that it is done after its commit.
	wait_until($node, "SELECT string_agg(message_id::text, ' ') FROM herald.workers WHERE subscription = 'timed' AND state = 'running'", 'it still runs', expect => $timed[0]);
});
statistics_true($node, 'timed', 'timed');

# A lock timeout is the fault of those before it, perhaps: alone, it counts.
reload_with($node, 'herald.batch_time' => undef);
wait_until($node, 'SHOW herald.batch_time', 'the time of a batch is no limit', expect => '1min');
$node->safe_psql('postgres', q(ALTER ROLE app SET lock_timeout = '200ms'));
$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_herald worker'));
subscribe('locked', max_concurrency => 1, max_attempts => 1);
grow('locked');
$holder->query_safe('SELECT pg_advisory_lock(42)');
my $runs = $node->value('SELECT last_value FROM app.runs');
my @locked = run_backlog('locked', [ ('{}') x 4, '{"wait": 42}', ('{}') x 4 ]);
wait_idle($node, 'locked');
$holder->query_safe('SELECT pg_advisory_unlock_all()');
is($node->value("SELECT string_agg(message_id || ' ' || error_code, ',') FROM herald.failure_log WHERE subscription = 'locked'"), "$locked[4] 55P03",
	'a lock timeout is recorded');
is($node->value('SELECT last_value FROM app.runs') - $runs, 10, 'when the task had run alone');
is(largest('locked', @locked[0 .. 3]), 4, 'those before it are done');
$holder->quit;
clean_log($node);

done_testing();
