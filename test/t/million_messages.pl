# One transaction with a million messages: all of them become tasks, none twice, and other publishers don't wait.
# To run them all would take too long here: some run, and the others are counted. And ephemeral
# transactions of all sizes around what a small outbox takes: all is announced once, in order, folded as NOTIFY
# folds.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('million', conf => <<'CONF');
max_wal_size = 4GB
herald.outbox_size = 64kB
herald.sweep_interval = 1h
CONF
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'off');
	SELECT herald.create_channel('others', announce => 'off');
	SELECT herald.create_channel('prices', durable => false);
	SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app', max_concurrency => 100);
	SELECT herald.subscribe('others', 'others', 'app.note', run_as => 'app')));

my $batches = q(FROM generate_series(1, 1000) AS i, LATERAL herald.publish_batch('jobs',
	(SELECT array_agg(jsonb_build_object('i', i, 'j', j)) FROM generate_series(1, 1000) AS j)) AS id);
my $publisher = $node->background_psql('postgres');
$publisher->set_query_timer_restart;
$publisher->{timeout}->interval(150);
$publisher->query_safe('BEGIN;');
$publisher->query_safe("SELECT count(*) $batches WHERE i <= 50;") for 1 .. 2;
$publisher->query_safe('SAVEPOINT a;');
$publisher->query_safe("SELECT count(*) $batches WHERE i <= 100;");
$publisher->query_safe('ROLLBACK TO a;');
my ($count, $sum) = split /\|/, $publisher->query_safe("SELECT count(*), sum(id) $batches WHERE i <= 900;");
is($count, 900_000, 'the largest part of a million messages');

# Nothing of it is seen yet, and nobody waits for it.
my @others = publish_many($node, 'others', 50);
wait_for_effects($node, 'others', 50, name => 'others are handled meanwhile');
is($node->safe_psql('postgres', q(SELECT pending + running + done FROM herald.subscription_stats WHERE subscription = 'work')), '0', 'nothing of it is handled before the commit');
$publisher->query_safe('COMMIT;');
end_sessions($publisher);
is($node->safe_psql('postgres', q(SELECT count(*), sum(id) > 0 FROM stored WHERE payload ? 'i')), '1000000|t', 'a million messages are stored');
push @others, publish_many($node, 'others', 50);
wait_for_effects($node, 'others', 100, name => 'and others are handled while they run', seconds => 60);
wait_until($node, q(SELECT done >= 100000 FROM herald.subscription_stats WHERE subscription = 'work'), '100,000 are done', seconds => 100);
is($node->safe_psql('postgres', q(SELECT herald.pause('work', '20 s'))), 't', 'paused');

my $known = q(SELECT pending + done, running, failed FROM herald.subscription_stats WHERE subscription = 'work');
# The dispatcher counts what is done at the beginning of a turn, and what waits at its end.
wait_until($node, $known, 'with those that wait it is a million', expect => '1000000|0|0');
is($node->safe_psql('postgres', <<'SQL'), 't|t|t|t', 'each that is done has one effect and one record');
SELECT count(*) = done, count(DISTINCT r.message_id) = done, count(DISTINCT e.message_id) = done,
       (SELECT count(*) FROM app.effects WHERE subscription = 'work') = done
  FROM (SELECT unnest(message_ids) AS message_id
          FROM herald_internal.subscription_store AS s
          JOIN (SELECT * FROM herald_internal.settled_0 UNION ALL SELECT * FROM herald_internal.settled_1 UNION ALL SELECT * FROM herald_internal.settled_2) AS d
            ON d.subscription_id = s.id
         WHERE s.subscription = 'work') AS r
  LEFT JOIN (SELECT DISTINCT message_id FROM app.effects WHERE subscription = 'work') AS e USING (message_id),
       (SELECT done FROM herald.subscription_stats WHERE subscription = 'work') AS stats
 GROUP BY done
SQL
# One of them is found without reading them all, also where it is not to be seen.
for my $id (split /\n/, $node->safe_psql('postgres', q(SELECT min(id) FROM stored UNION ALL SELECT max(id) FROM stored UNION ALL (SELECT id FROM stored ORDER BY random() LIMIT 8))))
{
	is($node->safe_psql('postgres', "SELECT herald.fetch($id) = payload FROM stored WHERE id = $id"), 't', "message $id is fetched");
	my ($read) = $node->safe_psql('postgres', "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) SELECT herald.fetch($id)") =~ /shared hit=(\d+)/;
	cmp_ok($read, '<', 3000, "from $read blocks of more than 10,000");
}
ok(end_process($node, 'TERM', 'dispatcher'), 'a new dispatcher');
wait_until($node, $known, 'knows as many', expect => '1000000|0|0', seconds => 60);
handled_once($node, 'others', \@others);

# Announcements: each text twice, at a distance; some are long.
my $listener = listen_to($node, 'prices');
for my $size (1, 100, 300, 341, 342, 400, 500, 682, 683, 1000, 4096, 4097, 30_000)
{
	my $text = "n || CASE WHEN n % 10 = 0 THEN repeat(' ', 200) ELSE '' END";
	$node->safe_psql('postgres', <<"SQL");
BEGIN;
SELECT count(herald.notify('prices', $text)) FROM generate_series(1, $size) AS n;
SAVEPOINT a;
SELECT count(herald.notify('prices', '-' || n)) FROM generate_series(1, 50) AS n;
ROLLBACK TO a;
SELECT count(herald.notify('prices', $text)) FROM generate_series(1, $size) AS n;
COMMIT;
SQL
	my @heard = map { s/ +$//r } heard_payloads(heard_by($node, $listener));
	is(join(' ', @heard), join(' ', 1 .. $size), "$size announcements of one transaction");
}
outbox_is_empty($node, 'in the end');
end_sessions($listener);
clean_log($node);

done_testing();
