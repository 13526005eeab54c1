# Publishing is transactional: prepared transactions, savepoints, huge transactions that don't fit the outbox,
# and publications while nobody listens.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('two_phase', conf => "herald.outbox_size = 64kB\n");
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs');
	SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app')));

my @ids;

# Prepared transactions.
for my $end ('COMMIT', 'ROLLBACK')
{
	my ($id) = acknowledged($node, "BEGIN; SELECT herald.publish('jobs', '{}'); PREPARE TRANSACTION 'p'");
	my ($marker) = publish_many($node, 'jobs', 1);
	push @ids, $marker;
	wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $marker", 'others are delivered meanwhile');
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE message_id = $id"), '0', 'a prepared publication is not delivered');
	$node->safe_psql('postgres', "$end PREPARED 'p'");
	if ($end eq 'COMMIT')
	{
		wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id", 'COMMIT PREPARED delivers it');
		push @ids, $id;
	}
}

# The same over a restart, in order and by force.
for my $mode ('fast', 'immediate')
{
	my ($kept) = acknowledged($node, "BEGIN; SELECT herald.publish('jobs', '{}'); PREPARE TRANSACTION 'kept'");
	my ($gone) = acknowledged($node, "BEGIN; SELECT herald.publish('jobs', '{}'); PREPARE TRANSACTION 'gone'");
	$node->stop($mode);
	$node->start;
	push @ids, publish_many($node, 'jobs', 5);
	wait_for_effects($node, 'work', scalar @ids, name => "after a restart ($mode) others are delivered");
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE message_id IN ($kept, $gone)"), '0', 'the prepared ones are not');
	$node->safe_psql('postgres', "ROLLBACK PREPARED 'gone'");
	$node->safe_psql('postgres', "COMMIT PREPARED 'kept'");
	push @ids, $kept;
	wait_for_effects($node, 'work', scalar @ids, name => 'COMMIT PREPARED delivers after a restart');
}

# Savepoints.
my @mixed = acknowledged($node, <<'SQL');
BEGIN;
SELECT herald.publish('jobs', '{"keep": true}');
SAVEPOINT a;
SELECT herald.publish('jobs', '{"keep": false}');
SAVEPOINT b;
SELECT herald.publish('jobs', '{"keep": false}');
RELEASE b;
ROLLBACK TO a;
SELECT herald.publish('jobs', '{"keep": true}');
RELEASE a;
SAVEPOINT c;
SELECT herald.publish('jobs', '{"keep": true}');
RELEASE c;
DO $$
BEGIN
    FOR i IN 1 .. 200 LOOP
        BEGIN
            PERFORM herald.publish('jobs', jsonb_build_object('keep', i % 2 = 0));
            IF i % 2 = 1 THEN RAISE EXCEPTION 'no'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
COMMIT;
BEGIN;
SELECT herald.publish('jobs', '{"keep": false}');
ROLLBACK;
SQL
is(scalar @mixed, 6, 'the savepoints were made');
push @ids, split /\n/, $node->safe_psql('postgres', "SELECT id FROM stored WHERE payload ? 'keep'");
is($node->safe_psql('postgres', "SELECT count(*), bool_and((payload -> 'keep')::boolean) FROM stored WHERE payload ? 'keep'"), '103|t', 'what was rolled back is not stored');
wait_for_effects($node, 'work', scalar @ids);
wait_idle($node, 'work');
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE payload ->> 'keep' = 'false'"), '0', 'nothing of what was rolled back is delivered');
handled_once($node, 'work', \@ids);

# 100,000 messages of one transaction don't fit a small outbox: the log is read instead. Half of them roll back.
$node->safe_psql('postgres', <<'SQL');
SELECT herald.alter_channel('jobs', announce => 'off');
BEGIN;
SELECT count(*) FROM generate_series(1, 100000) AS i, LATERAL (SELECT herald.publish('jobs', jsonb_build_object('i', i))) AS p;
ROLLBACK;
SQL
push @ids, split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT herald.publish('jobs', jsonb_build_object('i', i)) FROM generate_series(1, 20000) AS i;
SQL
wait_for_effects($node, 'work', scalar @ids, seconds => 60);
wait_idle($node, 'work');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id), count(DISTINCT payload) FROM app.effects WHERE payload ? 'i'"), '20000|20000|20000', 'a huge transaction is delivered');
handled_once($node, 'work', \@ids);

# With announcements: a listener hears each, and small transactions at the same time get through.
$node->safe_psql('postgres', "SELECT herald.alter_channel('jobs', announce => 'pointer')");
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN jobs');
push @ids, split /\n/, $node->safe_psql('postgres', "SELECT herald.publish('jobs', jsonb_build_object('j', i)) FROM generate_series(1, 5000) AS i");
push @ids, publish_many($node, 'jobs', 10);
wait_for_effects($node, 'work', scalar @ids, seconds => 30);
wait_until($node, "SELECT (SELECT sum(announced) FROM herald.channel_stats WHERE channel = 'jobs') >= 5010", 'all are announced');
my $heard = () = $listener->query("SELECT 'heard'") =~ /Asynchronous notification "jobs"/g;
is($heard, 5010, 'a listener hears each once');
$listener->quit;

# Nobody there: stored, and delivered when there is.
reload_with($node, 'herald.enabled' => 'off');
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('pg_herald dispatcher', 'pg_herald announcer', 'pg_herald worker')", 'disabled');
my @late = publish_many($node, 'jobs', 50);
acknowledged($node, "BEGIN; SELECT herald.publish('jobs', '{\"keep\": false}'); ROLLBACK");
my ($prepared) = acknowledged($node, "BEGIN; SELECT herald.publish('jobs', '{}'); PREPARE TRANSACTION 'p'");
is($node->safe_psql('postgres', 'SELECT count(*) FROM app.effects'), scalar(@ids), 'nothing runs');
reload_with($node, 'herald.enabled' => 'on');
push @ids, @late;
wait_for_effects($node, 'work', scalar @ids, name => 'enabled again, all run');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
push @ids, $prepared;
wait_for_effects($node, 'work', scalar @ids, name => 'the prepared one as well');
wait_idle($node, 'work');
handled_once($node, 'work', \@ids);
clean_log($node);

done_testing();
