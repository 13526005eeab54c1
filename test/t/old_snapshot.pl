# A session keeps an old snapshot while 50,000 messages pass, some of which fail at first: none of the rows that become
# dead can be removed meanwhile. All is handled as always, and the last message costs no more than the first: in pages and
# rows looked at, as times are no measure here.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

# No task is cut off and run again, which would count twice.
my $node = start_herald('old', conf => <<'CONF');
autovacuum = off
herald.batch_time = '60s'
herald.sweep_interval = 1h
CONF
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off');
SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', retry_delay => '1 ms', retry_backoff => 1);
SQL

my ($published, $failures) = (0, 0);

# Publishes some, of which one in ten fails once if `failing`; what the tables of the extension went through per message.
sub cost_of
{
	my ($count, $failing) = @_;
	my $touched = <<'SQL';
SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0)), sum(seq_tup_read), sum(coalesce(idx_tup_fetch, 0))
  FROM pg_statio_all_tables JOIN pg_stat_all_tables USING (relid)
 WHERE relid::regclass::text ~ '^herald_internal\.(log_\d|settled_\d|parked_store|failure_store|dead_letter_store)$'
SQL
	my @before = split /\|/, $node->value($touched);
	$node->value(<<"SQL");
SELECT count(*) FROM herald.publish_batch('jobs', (SELECT array_agg(jsonb_build_object('failures', (i % 10 = 0 AND $failing)::int)) FROM generate_series(1, $count) AS i))
SQL
	$published += $count;
	$failures += $count / 10 if $failing eq 'true';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, "SELECT done = $published FROM herald.subscription_stats WHERE subscription = 'work'", "$published are done", seconds => 60);
	# What a process has counted is seen a little later.
	wait_until($node, <<"SQL", 'and counted');
SELECT sum(n_tup_ins) FILTER (WHERE relname ~ 'log') >= $published AND sum(n_tup_del) FILTER (WHERE relname ~ 'parked') >= $failures
       AND (SELECT sum(pg_stat_get_tuples_inserted(relid)) FROM pg_stat_all_tables WHERE schemaname = 'app') >= $published + $failures
  FROM pg_stat_all_tables WHERE relid::regclass::text ~ '^herald_internal\\.(log_.|parked_store)\$'
SQL
	my @after = split /\|/, $node->value($touched);
	return map { ($after[$_] - $before[$_]) / $count } 0 .. 2;
}

my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM app.effects');

for my $failing ('false', 'true')
{
	my $what = $failing eq 'true' ? 'one in ten fails' : 'none fails';
	cost_of(500, $failing);  # batches are as large as they get
	my @first = cost_of(2500, $failing);
	cost_of(19_500, $failing);
	my @last = cost_of(2500, $failing);
	note sprintf '%s: pages %.1f, then %.1f; rows %.2f and %.2f, then %.2f and %.2f', $what, $first[0], $last[0], @first[ 1, 2 ], @last[ 1, 2 ];
	# An index gets a level more.
	cmp_ok($last[0], '<', 1.5 * $first[0] + 1, "$what: the last ones touch no more pages than the first");
	cmp_ok($last[1], '<=', $first[1] + 0.1, "$what: no table is read through");
	cmp_ok($last[2], '<=', $first[2] + 0.1, "$what: nor more rows found by an index");
}

wait_idle($node, 'work');
is($node->value('SELECT count(*), count(DISTINCT message_id) FROM app.effects'), "$published|$published", 'each is handled once');
is($node->value('SELECT count(*) FROM stored AS s WHERE NOT EXISTS (SELECT FROM app.effects AS e WHERE e.message_id = s.id)'), '0', 'and all of them');
failures_complete($node, 'work', $failures);
is($node->value('SELECT count(*) FROM herald_internal.parked_store'), '0', 'nothing is parked any more');
sub parked_bytes
{
	$node->safe_psql('postgres', 'VACUUM herald_internal.parked_store');
	return $node->value(q(SELECT pg_relation_size('herald_internal.parked_store')));
}
cmp_ok(parked_bytes(), '>', 0, 'what was parked could not be removed');
is($old->query_safe('SELECT count(*) FROM app.effects'), '0', 'the snapshot is that old');
$old->query_safe('COMMIT');
end_sessions($old);
wait_for('now it can', sub { parked_bytes() == 0 });
clean_log($node);

done_testing();
