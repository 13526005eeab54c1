# A disk that is full when outcomes are to be recorded: handlers do not run again and again in vain, nothing is charged to
# any task, status tells, the log is not filled, and all goes on when there is room.
#
# The disk is a limit on the size of the files that the worker may write, which must spare WAL.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'prlimit is not there' if system('prlimit --version >/dev/null 2>&1') != 0;

my $node = start_herald('disk_full', init => { extra => ['--wal-segsize=1'] }, conf => <<'CONF');
herald.max_workers = 1
herald.worker_idle_timeout = 1h
herald.sweep_interval = 1
autovacuum = off
CONF

sub limit_files
{
	my ($pid, $size) = @_;
	is(system("prlimit --pid $pid --fsize=$size:unlimited"), 0, "files of process $pid end at $size bytes");
	return;
}

# Fills a table with rows that leave no room for others in their blocks. Where the table ends then.
sub fill
{
	my ($table, $insert) = @_;
	$node->safe_psql('postgres', $insert);
	return $node->safe_psql('postgres', "SELECT pg_relation_size('$table')") + 100;
}

$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off');
SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app');
SQL
publish_many($node, 'jobs', 1);
wait_for_effects($node, 'work', 1);
my $worker = pid_of($node, 'worker');
# Rows as small as the worker's fill every block, the first and the last included.
my $small = 'INSERT INTO herald_internal.settled_0 SELECT 0, ARRAY[i::bigint] FROM generate_series(1, %d) AS i';
my $of_block = q(SELECT count(*) FROM herald_internal.settled_0 WHERE (ctid::text::point)[0] = %s);
$node->safe_psql('postgres', sprintf $small, 25_000);
my $missing = $node->safe_psql('postgres', sprintf $of_block, 5)
  - $node->safe_psql('postgres', sprintf $of_block, q((SELECT max((ctid::text::point)[0]) FROM herald_internal.settled_0)));
my $end = fill('herald_internal.settled_0', sprintf $small, $missing);
cmp_ok($end, '>', 1024 * 1024, 'WAL is spared');
my $log_start = -s $node->logfile;
my $runs = q(SELECT last_value FROM app.runs);

limit_files($worker, $end);
$node->safe_psql('postgres', q(SELECT count(herald.publish('jobs', '{}')) FROM generate_series(1, 2000)));
wait_until($node, q(SELECT NOT ok AND value LIKE 'not since % (SQLSTATE 53100)' AND hint IS NOT NULL FROM herald.status() WHERE name = 'recording'),
	'status says that nothing can be recorded');
# As many runs in vain as tasks were under way, then one at a time, later and later.
my $first = $node->safe_psql('postgres', $runs);
my $done = $node->safe_psql('postgres', q(SELECT count(*) FROM app.effects));
cmp_ok($first - $done, '<=', 32 + 2, 'no task but those of a batch was run in vain');
for my $try (1 .. 3)
{
	wait_until($node, "SELECT last_value > $first + $try - 1 FROM app.runs", "try $try");
}
cmp_ok($node->safe_psql('postgres', $runs) - $first, '<=', 3 + 4, 'each try is of a single task');
is(scalar(log_lines($node, qr/could not record the outcome/, $log_start)), 1, 'the log says it once');
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.failure_log)), '0', 'nothing is charged');

limit_files($worker, 'unlimited');
wait_until($node, q(SELECT ok AND value = 'yes' FROM herald.status() WHERE name = 'recording'), 'status is content when there is room', seconds => 90);
wait_for_effects($node, 'work', 2001, seconds => 90);
is($node->safe_psql('postgres', q(SELECT count(*), count(DISTINCT message_id), max(attempt) FROM app.effects)), '2001|2001|1', 'each task is done once');
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.failure_log)), '0', 'nothing was charged');
is(pid_of($node, 'worker'), $worker, 'by the same worker');

# The same where a failure is to be recorded: the attempt is not charged before it can be.
$end = fill('herald_internal.failure_store', q(INSERT INTO herald_internal.failure_store (subscription_id, subscription, channel, run_as, task_id, attempt,
	error_code, message, handler, started_at, failed_at)
	SELECT 0, 'filler', 'filler', 'app', '', 1, 'XX000', repeat('x', 1500), 'none', now(), now() FROM generate_series(1, 1000)));
limit_files($worker, $end);
$node->safe_psql('postgres', q(SELECT count(herald.publish('jobs', '{"failures": 1}')) FROM generate_series(1, 50)));
wait_until($node, q(SELECT NOT ok FROM herald.status() WHERE name = 'recording'), 'status tells it of failures, too');
limit_files($worker, 'unlimited');
wait_for_effects($node, 'work', 2051, seconds => 90);
is($node->safe_psql('postgres', q(SELECT count(*), max(attempt) FROM herald.failure_log WHERE subscription = 'work')), '50|1',
	'each failed attempt is recorded once');
clean_log($node);
$node->stop;
done_testing();
