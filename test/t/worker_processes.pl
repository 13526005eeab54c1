# Others use up max_worker_processes (here: the workers of a parallel query). Nothing ends because of that, and when
# they are given back everything goes on without a restart.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('worker_processes', conf => <<'CONF');
max_worker_processes = 8
max_parallel_workers = 8
max_parallel_workers_per_gather = 8
herald.worker_idle_timeout = 1
herald.batch_time = '60s'  # what was started is not cut off
CONF
$node->safe_psql('postgres', q(
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app');
	CREATE FUNCTION app.hold() RETURNS bool LANGUAGE plpgsql PARALLEL SAFE AS
		'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN true; END';
	CREATE TABLE app.many AS SELECT i FROM generate_series(1, 200000) AS i;
	ALTER TABLE app.many SET (parallel_workers = 8)));
push my @ids, publish_many($node, 'jobs', 10);
wait_for_effects($node, 'work', 10);
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_herald worker'", 'the workers have left');

my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');

# Takes all that are free, which must be so many, and keeps them until it is ended.
sub take_all
{
	my ($free) = @_;
	my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;';
	# A process that has left is no longer shown, but counts until the postmaster has noticed.
	wait_for("$free worker processes are free", sub {
		return $node->safe_psql('postgres', "$parallel EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT count(*) FROM app.many") =~ /Workers Launched: $free$/m;
	});
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_until(qr/begun/, "$parallel\n\\echo begun\nSELECT count(*) FROM app.many WHERE app.hold();\n");
	wait_until($node, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND backend_type = 'parallel worker'", 'a query takes all worker processes', expect => $free);
	return $session;
}

sub give_back
{
	my ($session) = @_;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT count(%app.hold%' AND backend_type = 'client backend' AND pid <> pg_backend_pid()");
	$session->ended;
	return;
}

# Dispatcher and announcer are there, workers are not. (The server itself has one, for logical replication.)
my $session = take_all(4);
push @ids, publish_many($node, 'jobs', 100);
wait_until($node, "SELECT NOT ok AND value LIKE 'no free worker process%' FROM herald.status() WHERE name = 'worker_start'", 'status says what is missing');
is($node->safe_psql('postgres', 'SELECT count(*) FROM app.effects'), '10', 'no task can run');
# The dispatcher may have found out with the first of them.
wait_until($node, "SELECT pending = 100 FROM herald.subscription_stats WHERE subscription = 'work'", 'they wait');
give_back($session);
wait_for_effects($node, 'work', 110, name => 'given back, all run');
wait_until($node, "SELECT ok FROM herald.status() WHERE name = 'worker_start'", 'and status is content');

# Neither dispatcher nor announcer can start.
reload_with($node, 'herald.enabled' => 'off');
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('pg_herald dispatcher', 'pg_herald announcer', 'pg_herald worker')", 'disabled');
$session = take_all(6);
my $log = -s $node->logfile;
reload_with($node, 'herald.enabled' => 'on');
push @ids, publish_many($node, 'jobs', 100);
$node->safe_psql('postgres', 'CREATE DATABASE second');
install_herald($node, 'second');
$node->safe_psql('second', "SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')");
my @other = publish_many($node, 'jobs', 10, database => 'second');
wait_until($node, "SELECT NOT ok FROM herald.status() WHERE name = 'worker_start'", 'status says what is missing');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('pg_herald dispatcher', 'pg_herald announcer')"), '0', 'neither dispatcher nor announcer');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.status() WHERE NOT ok AND name IN ('dispatcher', 'announcer')"), '2', 'status says so');
cmp_ok(scalar(log_lines($node, qr/(LOG|WARNING|ERROR|FATAL):.*herald/, $log)), '<', 10, 'without filling the log');
give_back($session);
wait_for_effects($node, 'work', 210, name => 'given back, they start and all run');
wait_idle($node, 'work');
handled_once($node, 'work', \@ids);
wait_for_effects($node, 'work', 10, database => 'second', name => 'a database that got the extension meanwhile is found');
wait_idle($node, 'work', database => 'second');
handled_once($node, 'work', \@other, database => 'second');

is($node->safe_psql('postgres', 'SELECT last_value FROM app.runs'), '210', 'no handler was started twice');
is($node->safe_psql('postgres', 'SELECT count(*) FROM herald.failure_log'), '0', 'nobody is charged');
clean_log($node);

done_testing();
