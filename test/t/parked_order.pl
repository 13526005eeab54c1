# Tasks of one key keep their order when they were parked, wherever their rows lie: a table gives the room of older rows to
# younger ones, and there may be more than the dispatcher sorts at a time.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $many = 80_000;  # more than a portion

my $node = start_herald('parked', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\nautovacuum = off\n");
$node->safe_psql('postgres', <<'SQL');
ALTER TABLE app.effects ADD place bigint GENERATED ALWAYS AS IDENTITY;
SELECT herald.create_channel('jobs', announce => 'off');
SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app');
SELECT herald.pause('work');
SQL

# The subscription is paused, so that all of it is parked.
sub publish_and_park
{
	my ($sql) = @_;
	my $id = $node->safe_psql('postgres', "BEGIN; $sql; COMMIT") =~ s/\D*(\d+).*/$1/sr;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, "SELECT count(*) = 0 FROM stored", 'the log is empty', seconds => 60);
	return $id;
}
my $crowd = "SELECT FROM herald.publish_batch('jobs', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, $many))) OFFSET $many";

# One with a key behind many others, which are done and leave their room.
my $gate = close_gate($node, 1);
my $first = publish_and_park(qq($crowd; SELECT herald.publish('jobs', '{"gate": 1}', 'k')));
$node->safe_psql('postgres', q(SELECT herald.resume('work')));
wait_until($node, "SELECT count(*) = $many FROM app.effects", 'all but one are done', seconds => 90);
$node->safe_psql('postgres', q(SELECT herald.pause('work')));
$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid, 10000) FROM herald.workers WHERE kind = 'worker'));
wait_until($node, 'SELECT count(*) = 1 FROM herald_internal.parked_store', 'that one is parked');
$node->safe_psql('postgres', 'VACUUM herald_internal.parked_store');

# Another one with the key, and enough to fill the room.
my $second = publish_and_park(qq(SELECT herald.publish('jobs', '{}', 'k'); $crowd));
is($node->safe_psql('postgres', 'SELECT string_agg(message_id::text, $$ $$ ORDER BY ctid) FROM herald_internal.parked_store WHERE key IS NOT NULL'), "$second $first", 'it lies before the older one');
$gate->quit;
$node->safe_psql('postgres', q(SELECT herald.resume('work')));
wait_for_effects($node, 'work', 2 * $many + 2, seconds => 90);
is($node->safe_psql('postgres', "SELECT string_agg(message_id::text, ' ' ORDER BY place) FROM app.effects WHERE message_id IN ($first, $second)"),
	"$first $second", 'and comes after it');
wait_idle($node, 'work');
is($node->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT message_id) FROM app.effects'), '0', 'nothing is done twice');
clean_log($node);

done_testing();
