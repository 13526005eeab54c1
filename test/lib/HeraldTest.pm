# What the TAP tests share: servers that run pg_herald, and the oracle that compares what publishers were
# promised with what handlers did.
#
# Handlers note each run in app.effects, which has no key on purpose: a task that ran twice shows as two
# rows, and a run that was rolled back as none. Whatever a test waits for must come within $patience
# seconds, which is less than herald.sweep_interval: a lost wake-up is a failure here, not a delay.

package HeraldTest;

use strict;
use warnings;
use Exporter 'import';
use HeraldNode;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  start_node start_again start_herald install_herald reload_with close_gate wait_until pid_of pids_of signal_process
  end_process wait_for_new acknowledged publish_many wait_for_effects wait_idle make_due
  seed_random wait_for count_lost handled_once failures_complete statistics_true clean_log known_fault log_lines sqlstate_of sqlstate_is
);

our $patience = 20;
$ENV{PGUSER} = 'postgres';

# The same input each time, so that a run says something of the code alone; others with HERALD_TEST_SEED=random.
sub seed_random
{
	my $seed = $ENV{HERALD_TEST_SEED} // 1;
	$seed = int(rand(2**31)) if $seed eq 'random';
	srand($seed);
	note "HERALD_TEST_SEED=$seed";
	return $seed;
}

# A running server with the library preloaded. conf: settings; init: arguments of init().
sub start_node
{
	my ($name, %options) = @_;
	my $node = HeraldNode->new($name);
	# The same superuser and encoding whoever runs the tests, and wherever.
	my %init = %{ $options{init} // {} };
	$node->init(%init, extra => [ '--username=postgres', '--encoding=UTF8', '--locale=C', @{ $init{extra} // [] } ]);
	$node->append_conf('postgresql.conf', <<"CONF");
log_statement = none
log_line_prefix = '%m [%p] %b %q%u@%d '
restart_after_crash = on
max_prepared_transactions = 8
max_worker_processes = 16
max_connections = 60
CONF
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	$node->start;
	return $node;
}

# Starts a server whose postmaster was killed: the processes it left have to be gone first.
sub start_again
{
	my ($node) = @_;
	return HeraldNode::becomes_true($patience, sub {
		return 1 if $node->start(fail_ok => 1);
		$node->stop('fast', fail_ok => 1);  # in case the start came to something after all
		return 0;
	});
}

# The extension, a role "app" that handlers run as, and handlers that note their runs.
sub install_herald
{
	my ($node, $database) = @_;
	$database //= 'postgres';
	$node->safe_psql('postgres', <<'SQL');
DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
SQL
	$node->safe_psql($database, <<'SQL');
CREATE EXTENSION pg_herald;
CREATE SCHEMA app AUTHORIZATION app;
CREATE SEQUENCE app.runs;
CREATE TABLE app.effects (
    subscription text NOT NULL,
    message_id bigint NOT NULL,
    attempt integer NOT NULL,
    payload jsonb,
    pid integer NOT NULL DEFAULT pg_backend_pid(),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION app.note(task herald.task) RETURNS void LANGUAGE sql AS $$
    INSERT INTO app.effects (subscription, message_id, attempt, payload)
    VALUES (task.subscription, task.message_id, task.attempt, task.payload) $$;
-- Counts its starts where no rollback reaches, waits, fails or takes its time as the payload says.
CREATE FUNCTION app.work(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('app.runs');
    PERFORM app.note(task);
    IF task.payload ? 'gate' THEN
        PERFORM pg_advisory_xact_lock_shared((task.payload ->> 'gate')::bigint);
    END IF;
    IF task.payload ? 'seconds' THEN
        PERFORM pg_sleep((task.payload ->> 'seconds')::float);  -- a slow handler
    END IF;
    IF task.attempt <= COALESCE((task.payload ->> 'failures')::integer, 0) THEN
        RAISE EXCEPTION 'attempt % fails as asked', task.attempt
            USING ERRCODE = 'HT001', DETAIL = 'the detail', HINT = 'the hint';
    END IF;
END $$;
GRANT USAGE ON SCHEMA app TO PUBLIC;
ALTER FUNCTION app.note OWNER TO app;
ALTER FUNCTION app.work OWNER TO app;
ALTER TABLE app.effects OWNER TO app;
ALTER SEQUENCE app.runs OWNER TO app;
CREATE VIEW public.stored AS
    SELECT * FROM herald_internal.log_0 UNION ALL SELECT * FROM herald_internal.log_1 UNION ALL SELECT * FROM herald_internal.log_2;
SQL
	return;
}

sub start_herald
{
	my ($name, %options) = @_;
	my $node = start_node($name, %options);
	install_herald($node);
	return $node;
}

sub reload_with
{
	my ($node, %settings) = @_;
	$node->safe_psql('postgres', join ';',
		map { "ALTER SYSTEM SET $_ = " . (defined $settings{$_} ? "'$settings{$_}'" : 'DEFAULT') } keys %settings);
	$node->reload;
	return;
}

# Until this session quits, tasks whose payload names the gate wait in their handler: so that what is to be seen while
# they run is not a matter of time.
sub close_gate
{
	my ($node, $gate, $database) = @_;
	my $session = $node->background_psql($database // 'postgres');
	$session->query_safe("SELECT pg_advisory_lock($gate)");
	return $session;
}

# The next attempt of a task that waits for it is due now. A new dispatcher learns it from the table.
sub make_due
{
	my ($node, $id) = @_;
	$node->safe_psql('postgres', "UPDATE herald_internal.parked_store SET next_attempt_at = clock_timestamp() WHERE message_id = $id");
	return end_process($node, 'TERM', 'dispatcher');
}

# Passes when the query gives the expected result ('t') in time.
sub wait_until
{
	my ($node, $query, $name, %options) = @_;
	local $PostgreSQL::Test::Utils::timeout_default = $options{seconds} // $patience;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until($options{database} // 'postgres', $query, $options{expect}), $name);
}

# Passes when the code says so in time.
sub wait_for
{
	my ($name, $condition) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(HeraldNode::becomes_true($patience, $condition), $name);
}

# Pids of the processes of a kind, of one database or of the server.
sub pids_of
{
	my ($node, $kind, $database) = @_;
	my $where = defined $database ? "AND datname = '$database'" : '';
	return split /\n/, $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_herald $kind' $where ORDER BY pid");
}

# The pid of the one process of a kind, which is waited for. An announcer comes when there is something to announce.
sub pid_of
{
	my ($node, $kind, $database) = @_;
	my @pids;
	# Where it has only looked whether it is needed, it would be gone a moment later.
	if ($kind eq 'announcer' && !$node->{herald_announcer}{ $database // 'postgres' }++)
	{
		eval { $node->safe_psql($database // 'postgres', q(SELECT herald.notify('anybody', 'there'))) };
	}
	# The server may be about to start again.
	HeraldNode::becomes_true($patience, sub { return eval { @pids = pids_of($node, $kind, $database); 1 } && @pids == 1 })
	  or die "no single pg_herald $kind, but: @pids\n";
	return $pids[0];
}

# By pid and never by name: other servers run beside this one.
sub signal_process
{
	my ($signal, $pid) = @_;
	return defined $pid && $pid =~ /^[1-9][0-9]+$/ ? kill($signal, $pid) : 0;
}

# Ends the process of a kind and waits for its successor.
sub end_process
{
	my ($node, $signal, $kind, $database) = @_;
	my $pid = pid_of($node, $kind, $database);
	signal_process($signal, $pid);
	return wait_for_new($node, $kind, $pid, $database);
}

sub wait_for_new
{
	my ($node, $kind, $old_pid, $database) = @_;
	my $where = defined $database ? "AND datname = '$database'" : '';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	local $PostgreSQL::Test::Utils::timeout_default = $patience;
	return $node->poll_query_until('postgres', <<"SQL");
SELECT count(*) = 1 FROM pg_stat_activity
 WHERE backend_type = 'pg_herald $kind' $where AND pid <> $old_pid AND state IS NOT NULL
SQL
}

# Runs a publishing script in psql and returns the ids that the server acknowledged before the script ended
# or the connection was lost.
sub acknowledged
{
	my ($node, $script, $database) = @_;
	my ($out, $err) = ('', '');
	$node->psql($database // 'postgres', $script, stdout => \$out, stderr => \$err, on_error_stop => 0);
	note($err) if $err ne '';
	return grep { /^[0-9]+$/ } split /\n/, $out;
}

# Publishes count messages, one transaction each, and returns their ids.
sub publish_many
{
	my ($node, $channel, $count, %options) = @_;
	my $payload = $options{payload} // '{}';
	my @ids = acknowledged($node, join('', map { "SELECT herald.publish('$channel', '$payload');\n" } 1 .. $count),
		$options{database});
	die "only " . @ids . " of $count messages were published\n" unless @ids == $count;
	return @ids;
}

sub wait_for_effects
{
	my ($node, $subscription, $count, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, "SELECT count(DISTINCT message_id) >= $count FROM app.effects WHERE subscription = '$subscription'",
		$options{name} // "$count tasks of $subscription are done", %options);
}

sub wait_idle
{
	my ($node, $subscription, %options) = @_;
	my $seconds = $options{seconds} // $patience;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->safe_psql($options{database} // 'postgres', "SELECT herald.wait_idle('$subscription', '$seconds s')"),
		't', "$subscription has nothing left to do");
}

# How many acknowledged messages are not stored.
sub count_lost
{
	my ($node, $ids, $database) = @_;
	my $list = join ',', @$ids;
	return $node->safe_psql($database // 'postgres',
		"SELECT count(*) FROM (SELECT unnest('{$list}'::bigint[]) EXCEPT SELECT id FROM stored) AS lost");
}

# The oracle. ids: what was acknowledged to the publishers, all to be handled; more may have been
# committed without an acknowledgement, and is handled once, too.
sub handled_once
{
	my ($node, $subscription, $ids, %options) = @_;
	my $database = $options{database} // 'postgres';
	my $list = join ',', @$ids;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(count_lost($node, $ids, $database), '0', "$subscription: every acknowledged message is stored");
	is($node->safe_psql($database, <<"SQL"), '0', "$subscription: every stored message was handled");
SELECT count(*) FROM (SELECT unnest('{$list}'::bigint[]) EXCEPT
                      SELECT message_id FROM app.effects WHERE subscription = '$subscription') AS missed
SQL
	is($node->safe_psql($database, <<"SQL"), '0', "$subscription: nothing was handled twice");
SELECT count(*) FROM (SELECT message_id FROM app.effects WHERE subscription = '$subscription'
                       GROUP BY message_id HAVING count(*) > 1) AS twice
SQL
	is($node->safe_psql($database, <<"SQL"), '0', "$subscription: nothing was handled that is not stored");
SELECT count(*) FROM app.effects AS e
 WHERE subscription = '$subscription' AND NOT EXISTS (SELECT FROM stored AS s WHERE s.id = e.message_id)
SQL
	is($node->safe_psql($database, <<"SQL"), '0', "$subscription: no effect without its record, no record twice");
WITH settled AS (
    SELECT s.id, count(*) AS records
      FROM (SELECT subscription_id, unnest(message_ids) AS id FROM herald_internal.settled_0
            UNION ALL SELECT subscription_id, unnest(message_ids) FROM herald_internal.settled_1
            UNION ALL SELECT subscription_id, unnest(message_ids) FROM herald_internal.settled_2) AS s
      JOIN herald_internal.subscription_store AS d ON d.id = s.subscription_id AND d.subscription = '$subscription'
     GROUP BY s.id)
SELECT count(*) FROM (SELECT DISTINCT message_id FROM app.effects WHERE subscription = '$subscription') AS e
  LEFT JOIN settled AS s ON s.id = e.message_id
 WHERE s.records IS DISTINCT FROM 1
SQL
	return;
}

# One row of the failure log per failed attempt: 1 .. n without a gap and without a double.
sub failures_complete
{
	my ($node, $subscription, $expected, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql($options{database} // 'postgres', <<"SQL"), '0', "$subscription: failed attempts are numbered without gap or double");
SELECT count(*) FROM (SELECT message_id FROM herald.failure_log WHERE subscription = '$subscription'
                       GROUP BY message_id
                      HAVING count(*) <> max(attempt) OR count(DISTINCT attempt) <> count(*)) AS wrong
SQL
	is($node->safe_psql($options{database} // 'postgres', "SELECT count(*) FROM herald.failure_log WHERE subscription = '$subscription'"),
		$expected, "$subscription: one row per failed attempt");
	return;
}

# The statistics say what the tables say. Only where the server was not restarted since.
sub statistics_true
{
	my ($node, $subscription, $channel) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', <<"SQL"), $node->safe_psql('postgres', <<"TABLES"), "statistics of $subscription equal the tables");
SELECT done, failed, dead, pending, running, retrying FROM herald.subscription_stats WHERE subscription = '$subscription'
SQL
SELECT (SELECT count(*) FROM app.effects WHERE subscription = '$subscription'),
       (SELECT count(*) FROM herald.failure_log WHERE subscription = '$subscription'),
       (SELECT count(*) FROM herald.dead_letters WHERE subscription = '$subscription'),
       (SELECT count(*) FROM herald.tasks WHERE subscription = '$subscription' AND state = 'pending'), 0,
       (SELECT count(*) FROM herald.tasks WHERE subscription = '$subscription' AND state = 'retrying')
TABLES
	is($node->safe_psql('postgres', <<"SQL"), $node->safe_psql('postgres', <<"TABLES"), "statistics of $channel equal the tables");
SELECT published, delivered, failed, retried + dead FROM herald.channel_stats WHERE channel = '$channel'
SQL
SELECT (SELECT count(*) FROM stored JOIN herald_internal.channel_store AS c ON c.id = channel_id WHERE c.channel = '$channel'),
       (SELECT count(*) FROM app.effects JOIN herald.subscriptions AS s USING (subscription) WHERE s.channel = '$channel'),
       (SELECT count(*) FROM herald.failure_log WHERE channel = '$channel'),
       (SELECT count(*) FROM herald.failure_log WHERE channel = '$channel')
TABLES
	return;
}

# Tests of what is known not to hold yet, and listed in doc/faults.md: they run and may fail.
sub known_fault
{
	my ($reason, $tests) = @_;
	my $builder = Test::More->builder;
	$builder->todo_start($reason);
	$tests->();
	$builder->todo_end;
	return;
}

sub log_lines
{
	my ($node, $pattern, $offset) = @_;
	return grep { /$pattern/ } split /\n/, slurp_file($node->logfile, $offset // 0);
}

# Nothing crashed, other than what the test killed itself: signals says by which signal numbers.
sub clean_log
{
	my ($node, %options) = @_;
	my @bad = log_lines($node, qr/PANIC:|TRAP:|AddressSanitizer|runtime error:|terminated by signal|invalid memory/);
	if (my $signals = $options{signals})
	{
		@bad = grep { !/terminated by signal ($signals)\b/ } @bad;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", @bad), '', $options{name} // 'nothing crashed');
}

# The SQLSTATE a statement ends with; 00000 where it succeeds.
sub sqlstate_of
{
	my ($node, $sql, %options) = @_;
	my ($out, $err) = ('', '');
	my $role = defined $options{role} ? "SET SESSION AUTHORIZATION $options{role};\n" : '';
	$node->psql($options{database} // 'postgres', "\\set VERBOSITY verbose\n$role$sql", stdout => \$out, stderr => \$err);
	return $err =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/ ? $1 : '00000';
}

sub sqlstate_is
{
	my ($node, $sql, $expected, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sqlstate_of($node, $sql, %options), $expected, $name);
}

1;
