# Rotation's first step parks what is left of a segment; the second, which empties it, waits for old snapshots. Between the
# two a task stands parked, settled and in the log at the same time. Whoever makes the dispatcher read the tables
# then does not change the order of what waits.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('between', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1h\n");
$node->safe_psql('postgres', <<'SQL');
ALTER TABLE app.effects ADD place bigint GENERATED ALWAYS AS IDENTITY;
SELECT herald.create_channel('jobs', announce => 'off'), herald.create_channel('other', announce => 'off');
SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app'), herald.subscribe('idle', 'other', 'app.note', run_as => 'app');
SQL

my $number = 0;
sub publish
{
	my ($count) = @_;
	$node->safe_psql('postgres', join '', map { "SELECT herald.publish('jobs', '{\"n\": " . ++$number . "}', 'k');" } 1 .. $count);
	return;
}

# The dispatcher has made a turn that began after this.
sub turn { return $node->safe_psql('postgres', q(SELECT herald.wait_idle('idle', '20 s'))) }

my @between = (
	'nothing' => '',
	'a transaction with more messages than the outbox is told of' => q(SELECT count(*) FROM herald.publish_batch('other', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 5000)))),
	'a look at everything' => 'SELECT herald.activate()',
	'a new subscription' => q(SELECT herald.subscribe('late', 'other', 'app.note', run_as => 'app')),
	'a prepared transaction' => q(BEGIN; SELECT herald.publish('other', '{}'); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'),
	'a replay' => q(SELECT herald.replay_all('work')),
	'all of them' => q(SELECT herald.activate(), herald.replay_all('work'), herald.subscribe('later', 'other', 'app.note', run_as => 'app')),
);
while (my ($name, $sql) = splice @between, 0, 2)
{
	$node->safe_psql('postgres', q(SELECT herald.pause('work')));
	my $old = $node->background_psql('postgres');
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	publish(5);
	# What was done before may be in a segment that waits for the same snapshot.
	wait_for("$name: the first step", sub {
		my $parked = $node->safe_psql('postgres', 'SELECT count(*) FROM herald_internal.parked_store');
		return 1 if $parked >= 5;
		my $newer = $node->background_psql('postgres');
		$newer->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
		end_sessions($old);
		$old = $newer;
		publish(1);
		return 0;
	});
	publish(5);
	turn();
	$node->safe_psql('postgres', $sql) if $sql ne '';
	turn();
	$node->safe_psql('postgres', q(SELECT herald.resume('work')));
	wait_for_effects($node, 'work', $number, name => "$name: all are done");
	is($node->safe_psql('postgres', q(SELECT count(*) FROM (SELECT (payload ->> 'n')::int - lag((payload ->> 'n')::int, 1, 0) OVER (ORDER BY place) AS step FROM app.effects WHERE subscription = 'work') AS s WHERE step <> 1)),
		'0', "$name: in their order");
	end_sessions($old);
}
clean_log($node);

done_testing();
