# A burst fills the log, and when it is over the disk is free again: all of it, while somebody publishes on, a paused
# subscription has done nothing of it, pg_dump is at work, and another database has an old transaction. What the paused
# one has left to do is kept elsewhere, and is done in the end. HERALD_TEST_MESSAGES makes the burst larger.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use IPC::Run ();
use PostgreSQL::Test::Utils;

my $messages = $ENV{HERALD_TEST_MESSAGES} // 300_000;
my $left = int($messages / 10);  # those of the paused subscription

# Period and sweeps are longer than the test: every turn is one that it asks for.
my $node = start_herald('burst', conf => <<'CONF');
herald.rotation_period = 1d
herald.sweep_interval = 1s
max_wal_size = 4GB
CONF
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off'), herald.create_channel('rare', announce => 'off');
SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app', max_concurrency => 100);
SELECT herald.subscribe('later', 'rare', 'app.note', run_as => 'app', max_concurrency => 100);
SELECT herald.pause('later');
SQL
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');

# Of segments and what covers them, with all that belongs to them.
sub log_bytes
{
	return $node->value(q(SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relname ~ '^(log|settled)_\d$'));
}
my $empty = log_bytes();

my $old = $node->background_psql('elsewhere');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()');

# Publishers that go on until the burst has left the log: no statement of theirs may fail.
my $script = "${PostgreSQL::Test::Utils::tmp_check}/burst.sql";
append_to_file($script, "SELECT herald.publish('jobs', '{\"steady\": true}');\n");
my ($out, $err) = ('', '');
my $steady = IPC::Run::start(
	[ $node->installed_command('pgbench'), '-n', '-c', '2', '-R', '50', '-T', '1000', '-f', $script, $node->connstr('postgres') ],
	'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(400));

my $thousands = $messages / 1000;
$node->safe_psql('postgres', <<"SQL");
SELECT count(*) FROM generate_series(1, $thousands) AS i,
       LATERAL herald.publish_batch(CASE WHEN i % 10 = 0 THEN 'rare' ELSE 'jobs' END,
    (SELECT array_agg(jsonb_build_object('i', i, 'j', j, 'text', repeat('x', 50))) FROM generate_series(1, 1000) AS j)) AS id
SQL
my $full = log_bytes();
cmp_ok($full, '>', $messages * 100, 'the burst takes ' . int($full / 1e6) . ' MB');
is($node->value("SELECT count(*) FROM stored WHERE payload ? 'i'"), $messages, 'it is stored');

# A pg_dump whose output nobody reads stays where it is, and keeps what it has locked.
my ($dumped, $dump_err) = ('', '');
my $dump = IPC::Run::start([ $node->installed_command('pg_dump'), '--exclude-table-data=app.effects', $node->connstr('postgres') ],
	'<', \undef, '>', \$dumped, '2>', \$dump_err, IPC::Run::timeout(180));
wait_until($node, <<'SQL', 'pg_dump is in the middle of the log', expect => 'herald_internal.log_0 AccessShareLock');
SELECT relation::regclass || ' ' || mode FROM pg_stat_activity AS a JOIN pg_locks AS l USING (pid)
 WHERE query LIKE 'COPY herald_internal.log%' AND wait_event = 'ClientWrite' AND relation::regclass::text = 'herald_internal.log_0'
SQL
reload_with($node, 'herald.rotation_period' => '1s');
wait_until($node, q(SELECT value LIKE '%cannot be emptied since%' FROM herald.status() WHERE name = 'log'), 'a segment waits for it');
my ($behind) = publish_many($node, 'jobs', 1);
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $behind", 'beside it messages are published and handled', seconds => 60);
ok($dump->finish, 'pg_dump comes to its end') or diag($dump_err);
cmp_ok(length $dumped, '>', $messages * 50, 'and has it all');

wait_until($node, "SELECT count(*) >= $messages - $left FROM app.effects WHERE payload ? 'i'", 'the burst is handled', seconds => 180);
# An announcer that found the segment taken several times tries it again after up to ten seconds; a new one at once.
end_process($node, 'TERM', 'announcer');
wait_until($node, "SELECT count(*) = 0 FROM stored WHERE payload ? 'i'", 'it leaves the log while others publish', seconds => 60);
$steady->signal('INT');
$steady->finish;
# pgbench writes no report when it is interrupted; what fails it says.
is($err =~ s/^pgbench .*\n|^progress.*\n//gr, '', 'no publisher failed');
cmp_ok($node->value(q(SELECT count(*) FROM app.effects WHERE payload ? 'steady')), '>', 50, 'they have published meanwhile');
wait_until($node, 'SELECT count(*) = 0 FROM stored', 'then the log is empty', seconds => 60) or diag($node->value(<<'SQL'));
SELECT concat_ws(E'\n', (SELECT value FROM herald.status() WHERE name = 'log'),
    (SELECT string_agg(concat_ws(' ', relation::regclass, mode, pid, backend_type, left(query, 60)), E'\n')
       FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) WHERE relation::regclass::text ~ '^herald_internal.(log|settled)_\d$'),
    (SELECT string_agg(concat_ws(' ', pid, datname, backend_type, backend_xmin, state, left(query, 60)), E'\n') FROM pg_stat_activity),
    (SELECT string_agg(w::text, E'\n') FROM herald.workers AS w))
SQL
is(log_bytes(), $empty, 'and takes no place on the disk');
is($node->value('SELECT count(*), count(DISTINCT message_id), max(attempts) FROM herald_internal.parked_store'), "$left|$left|0", 'what was left of the burst is parked');
wait_until($node, "SELECT pending = $left FROM herald.subscription_stats WHERE subscription = 'later'", 'and waits for its subscription');
$old->query_safe('COMMIT');
end_sessions($old);

$node->safe_psql('postgres', q(SELECT herald.resume('later')));
wait_for_effects($node, 'later', $left, seconds => 90);
wait_idle($node, 'later');
wait_idle($node, 'work');
is($node->value(<<'SQL'), "later|$left|$left|$left\nwork|@{[ $messages - $left ]}|@{[ $messages - $left ]}|@{[ $messages - $left ]}", 'each task of it is done once');
SELECT subscription, count(*), count(DISTINCT message_id), count(DISTINCT (payload ->> 'i', payload ->> 'j'))
  FROM app.effects WHERE payload ? 'i' GROUP BY 1 ORDER BY 1
SQL
is($node->value(q(SELECT count(*) - count(DISTINCT message_id) FROM app.effects)), '0', 'and nothing else twice');
wait_until($node, 'SELECT count(*) = 0 FROM herald_internal.parked_store', 'nothing is parked any more');
is($node->value('SELECT count(*) FROM herald.failure_log'), '0', 'nothing has failed');
clean_log($node);

done_testing();
