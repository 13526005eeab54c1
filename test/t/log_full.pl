# A log that grows towards herald.max_log_size: it says so early; channels either refuse what is published or give up what
# is oldest, as they were told; and when all is done, the space comes back.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use PostgreSQL::Test::Utils;

my $node = start_herald('full', conf => "herald.max_log_size = 16MB\nherald.rotation_period = 1h\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('strict', announce => 'off');
SELECT herald.create_channel('lossy', announce => 'off');
SELECT herald.alter_channel('lossy', when_full => 'dead_letters');
SELECT herald.subscribe('strict', 'strict', 'app.work', run_as => 'app');
SELECT herald.subscribe('lossy', 'lossy', 'app.work', run_as => 'app');
SELECT herald.pause('strict'), herald.pause('lossy');
-- Nothing that TOAST could make smaller: a kilobyte each, that is 1 MB.
CREATE FUNCTION app.fill(channel text) RETURNS void LANGUAGE sql AS $$
	SELECT count(herald.publish(channel, to_jsonb((SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 32) AS j))))
	  FROM generate_series(1, 1000) AS i $$;
SQL

# Far more than the limit.
my $log_start = -s $node->logfile;
my $published = 0;
for (1 .. 30)
{
	$node->safe_psql('postgres', q(SELECT app.fill('lossy')));
	$published += 1000;
	# As many as the announcer measures; the limit is not a sharp one.
	wait_until($node, q(SELECT count(*) = 0 FROM herald.status() WHERE name = 'log' AND split_part(value, ' ', 1)::integer > 16),
		"$published messages: the log is kept small") if $published % 10_000 == 0;
}
wait_until($node, q(SELECT dead >= 5000 FROM herald.subscription_stats WHERE subscription = 'lossy'), 'what is oldest was given up');
is($node->value(q(SELECT DISTINCT error_code || ' ' || attempts FROM herald.dead_letters)), '53400 0', 'which the dead letters say');
is($node->value(q(SELECT count(*) FROM herald.failure_log)), '0', 'nothing was attempted');
# Where one segment took more than the limit by itself there are no others.
is($node->value(q(SELECT count(*) FROM herald.tasks WHERE subscription = 'lossy' AND state = 'pending' AND message_id < (SELECT max(message_id) FROM herald.dead_letters))), '0',
	'the others are younger');
# More may be given up at this very moment, and what is committed is counted a little later.
wait_until($node, q(SELECT dead = (SELECT count(*) FROM herald.dead_letters) FROM herald.channel_stats WHERE channel = 'lossy'), 'the statistics count them');
ok($node->log_contains('WARNING: .*the log of messages has reached half of herald.max_log_size', $log_start), 'the server log has a warning');

# What is younger is handled, and what was given up can be called back.
$node->safe_psql('postgres', q(SELECT herald.resume('lossy')));
wait_until($node, "SELECT (SELECT count(DISTINCT message_id) FROM app.effects) + (SELECT count(*) FROM herald.dead_letters) = $published", 'all others are handled', seconds => 90);
is($node->value('SELECT count(*) - count(DISTINCT message_id) FROM app.effects'), '0', 'once');
my $dead = $node->value('SELECT min(id) FROM herald.dead_letters');
my $message = $node->value("SELECT message_id FROM herald.dead_letters WHERE id = $dead");
is($node->value("SELECT herald.replay($dead)"), 't', 'a dead letter is called back');
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $message", 'and handled');

# The other channel's publishers are refused instead, although its messages leave the log: what is parked counts.
my $refused = 0;
wait_for('in the end messages are refused', sub {
	my (undef, undef, $error) = $node->psql('postgres', q(SELECT app.fill('strict')));
	$refused = $error =~ /has reached herald.max_log_size/;
	# Not only because of what was handled and is still in the log.
	return $refused && $node->value(q(SELECT pg_relation_size('herald_internal.parked_store'))) > 8 * 1024 * 1024;
});
is(sqlstate_of($node, q(SELECT herald.publish('strict', '1'))), '53400', 'with a code of its own');
is(sqlstate_of($node, q(SELECT herald.publish('lossy', '1'))), '00000', 'but not those of the first channel');
wait_until($node, q(SELECT NOT ok AND value LIKE '% MB of it parked' FROM herald.status() WHERE name = 'log'), 'status says why');
is($node->value(q(SELECT count(*) FROM herald.dead_letters AS d WHERE subscription = 'strict')), '0', 'nothing of it was given up');
my $expected = $node->value(q(SELECT count(*) FROM herald.tasks WHERE subscription = 'strict' AND state = 'pending'));
cmp_ok($node->value(q(SELECT pg_relation_size('herald_internal.parked_store'))), '>', 8 * 1024 * 1024, 'most of it is parked');
$node->safe_psql('postgres', q(SELECT herald.resume('strict')));
wait_until($node, "SELECT count(*) = $expected FROM app.effects WHERE subscription = 'strict'", 'resumed, it is handled', seconds => 90);
wait_until($node, q(SELECT count(*) = 0 FROM herald_internal.parked_store), 'nothing is parked any more');
# As autovacuum does, again and again: while somebody has an older snapshot, rows stay.
wait_for('and the space comes back', sub {
	$node->safe_psql('postgres', 'VACUUM herald_internal.parked_store');
	return $node->value(q(SELECT pg_relation_size('herald_internal.parked_store'))) == 0;
});
wait_for('messages are taken again', sub { ($node->psql('postgres', q(SELECT herald.publish('strict', '1'))))[0] == 0 });
is(sqlstate_of($node, q(SELECT herald.alter_channel('strict', when_full => 'explode'))), '22023', 'an unknown policy is refused');
# Without a limit it turns when a segment is large enough, but only while there is no backlog.
reload_with($node, 'herald.max_log_size' => 0, 'herald.segment_size' => '1MB');
my $segments = q(SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relname ~ '^log_[0-9]$');
wait_idle($node, $_) for qw(strict lossy);
my ($turns, $file, $handled) = (0, '', 0);
wait_for('it turns while messages come in', sub {
	$node->safe_psql('postgres', q(SELECT app.fill('strict')));
	wait_idle($node, 'strict');
	$handled++;
	my $now = $node->value(q(SELECT string_agg(relfilenode::text, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relname ~ '^log_[0-9]$'));
	$turns++ if $now ne $file;
	$file = $now;
	return $turns > 3;
});
cmp_ok($node->value($segments), '<', $handled * 1024 * 1024, "and is smaller than the $handled MB that were handled");
is($node->value('SELECT count(*) - count(DISTINCT message_id) FROM app.effects'), '0', 'nothing was done twice');
$node->safe_psql('postgres', q(SELECT herald.pause('strict')));
$node->safe_psql('postgres', q(SELECT app.fill('strict'))) for 1 .. 6;
wait_until($node, q(SELECT split_part(value, ' ', 1)::integer >= 6 FROM herald.status() WHERE name = 'log'), '6 MB wait: the log has been looked at');
is($node->value(q(SELECT count(*) FROM herald_internal.parked_store)), '0', 'and what waits is left where it is');
cmp_ok($node->value($segments), '>', 6 * 1024 * 1024, 'in the log');

clean_log($node);

done_testing();
