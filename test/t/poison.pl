# Handlers that crash the server, in each of the ways in which it can go down: they run no more often than their
# subscription allows, innocent tasks are not charged, and the server rests in between.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use PostgreSQL::Test::Utils;

my $node = start_herald('poison');
my $runs = "${PostgreSQL::Test::Utils::tmp_check}/poison_runs";

# Notes the run where no crash reaches, then ends processes: its own, or those of the whole server. Innocent tasks take
# a while, and note from when to when they ran.
$node->safe_psql('postgres', qq(
	GRANT pg_execute_server_program TO app;
	CREATE TABLE app.spans (message_id bigint, began timestamptz, ended timestamptz);
	ALTER TABLE app.spans OWNER TO app;
	CREATE FUNCTION app.take_time(task herald.task) RETURNS void LANGUAGE plpgsql AS \$\$
	DECLARE
		began timestamptz := clock_timestamp();
	BEGIN
		PERFORM app.work(task);
		INSERT INTO app.spans VALUES (task.message_id, began, clock_timestamp());
	END \$\$;
	CREATE FUNCTION app.poison(task herald.task) RETURNS void LANGUAGE plpgsql AS \$\$
	DECLARE
		victims text := pg_backend_pid()::text;
	BEGIN
		IF task.payload ? 'kill' THEN
			IF task.payload ->> 'kill' = 'all' THEN
				-- Stopped, the postmaster tells nobody to go; nor does anybody leave because it is gone.
				SELECT (task.payload ->> 'postmaster') || '; kill -9 ' || string_agg(pid::text, ' ') || ' ' || (task.payload ->> 'postmaster')
				  INTO victims FROM pg_stat_activity WHERE backend_type = 'pg_herald worker';
				victims := '-STOP ' || victims;
			ELSE
				victims := '-9 ' || victims;
			END IF;
			EXECUTE format('COPY (SELECT 1) TO PROGRAM %L',
				format('echo %s %s >> $runs; kill %s', task.message_id, task.attempt, victims));
			PERFORM pg_sleep(60);  -- a slow handler: it is killed meanwhile
		END IF;
		PERFORM app.take_time(task);
	END \$\$;
	ALTER FUNCTION app.poison OWNER TO app;
	SELECT herald.subscribe('work', 'jobs', 'app.poison', run_as => 'app', max_attempts => 3, retry_delay => '0');
	SELECT herald.subscribe('other', 'others', 'app.take_time', run_as => 'app')));

sub runs_of
{
	my ($id) = @_;
	return scalar grep { /^$id / } -e $runs ? split /\n/, slurp_file($runs) : ();
}

# One process crashes, and takes the server with it.
my $gate = close_gate($node, 1);
my @others = publish_many($node, 'others', 1, payload => '{"gate": 1}');
wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'advisory'", 'an innocent task runs');
$node->safe_psql('postgres', "SELECT herald.pause('work')");
my @ids = publish_many($node, 'jobs', 20);
my ($poison) = publish_many($node, 'jobs', 1, payload => '{"kill": "own"}');
push @ids, publish_many($node, 'jobs', 20);
$node->safe_psql('postgres', "SELECT herald.resume('work')");
wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE message_id = $poison", 'the poison is a dead letter', seconds => 100);
$gate->ended;
is(runs_of($poison), 3, 'it ran as often as its subscription allows');
wait_for_effects($node, 'work', scalar @ids);
wait_for_effects($node, 'other', scalar @others);
wait_idle($node, 'work');
wait_idle($node, 'other');
handled_once($node, 'work', \@ids);
handled_once($node, 'other', \@others);
is($node->safe_psql('postgres', 'SELECT message_id, attempt, error_code FROM herald.failure_log ORDER BY attempt'),
	join("\n", map { "$poison|$_|57P02" } 1 .. 3), 'each of its runs is in the failure log, and nothing else');
is($node->safe_psql('postgres', 'SELECT attempts, error_code FROM herald.dead_letters'), '3|57P02', 'the dead letter says why');
is($node->safe_psql('postgres', q(SELECT bool_and(next_attempt_at - failed_at >= attempt * interval '1 second')
	FROM herald.failure_log WHERE next_attempt_at IS NOT NULL)), 't', 'although its subscription has no retry delay, it waits');
like($node->safe_psql('postgres', "SELECT ok, value FROM herald.status() WHERE name = 'server_crashes'"),
	qr/^f\|"work": 3 in a row/, 'the status says so');

# The whole server goes down at once, so that nothing tells who did it.
$gate = close_gate($node, 2);
my @innocent = publish_many($node, 'others', 2, payload => '{"gate": 2, "seconds": 0.2}');
wait_until($node, "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND wait_event = 'advisory'", 'innocent tasks run');
my $postmaster = $node->{_pid};
my ($killer) = publish_many($node, 'jobs', 1, payload => qq({"kill": "all", "postmaster": "$postmaster"}));
ok(HeraldNode::becomes_true(20, sub { !kill 0, $postmaster }), 'the server is gone');
$gate->ended;
$node->kill9;
ok(start_again($node), 'started again');
# From here on it kills only its own process; what counts is that it has been suspected.
wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE message_id = $killer", 'it is a dead letter in the end', seconds => 150);
is(runs_of($killer), 3, 'it ran as often as its subscription allows');
wait_for_effects($node, 'other', @others + @innocent);
wait_idle($node, 'other');
handled_once($node, 'other', [ @others, @innocent ]);
is($node->safe_psql('postgres', "SELECT max(attempt) FROM herald.failure_log WHERE message_id = $killer"), '3', 'all its runs are in the failure log');
is($node->safe_psql('postgres', 'SELECT count(*) FROM herald.failure_log WHERE message_id NOT IN (' . "$poison, $killer)"), '0',
	'the innocent ones are not charged');
is($node->safe_psql('postgres', 'SELECT count(*) FROM app.spans AS a JOIN app.spans AS b ON a.message_id < b.message_id
	WHERE a.message_id IN (' . join(',', @innocent) . ') AND b.message_id IN (' . join(',', @innocent) . ') AND a.began < b.ended AND b.began < a.ended'), '0',
	'suspects ran one at a time');
clean_log($node, signals => 9);

done_testing();
