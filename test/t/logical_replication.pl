# What is in the tables of the extension belongs to its database. Where all tables are published, or those of the schema
# herald, nothing of them leaves by logical decoding, whatever is done: publish, fail, retry, rotate, purge. And a
# server that gets rows all the same, from one that does not keep them back, writes none of them: its own tasks and
# names stay as they are.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $conf = "wal_level = logical\nmax_wal_senders = 8\nmax_replication_slots = 8\nherald.rotation_period = 1s\nherald.sweep_interval = 1s\n";
my $publisher = start_herald('publisher', conf => $conf);
my $subscriber = start_herald('subscriber', conf => "max_logical_replication_workers = 8\nherald.sweep_interval = 1s\n");
my @internal = split /\n/, $publisher->safe_psql('postgres',
	q(SELECT relname FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relkind = 'r' ORDER BY oid));
ok(@internal > 30, 'there are tables of the extension');
is($publisher->safe_psql('postgres', q(
	SELECT count(*) FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relkind = 'r' AND NOT EXISTS (
		SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid AND tgname = 'guard_rows' AND tgenabled = 'R'))), '0', 'each guards its rows');

# Everything that writes to a table of the extension. Sizes: some values lie outside of their rows.
sub do_everything
{
	my ($node) = @_;
	$node->safe_psql('postgres', q(
		CREATE TABLE IF NOT EXISTS app.orders (id integer PRIMARY KEY, note text);
		SELECT herald.enable_audit('app.orders');
		SELECT herald.create_channel('jobs', if_not_exists => true), herald.create_channel('feed', if_not_exists => true);
		SELECT herald.grant_channel('jobs', 'public', '{publish}'), herald.revoke_channel('jobs', 'public', '{publish}');
		SELECT herald.enable_change_feed('app.orders', 'feed');
		SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_attempts => 2, retry_delay => '10 ms', if_not_exists => true)));
	$node->safe_psql('postgres', q(
		SELECT herald.publish('jobs', '{"n": 1}'), herald.publish('jobs', jsonb_build_object('failures', 1)),
			herald.publish('jobs', jsonb_build_object('failures', 9, 'long', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) AS i)));
		SELECT count(*) FROM herald.publish_batch('jobs', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, 20)));
		SELECT herald.publish('nowhere', to_jsonb(repeat('x', 20000)));
		INSERT INTO app.orders SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 50) AS i ON CONFLICT (id) DO UPDATE SET note = 'again';
		UPDATE app.orders SET note = 'one' WHERE id = 1));
	wait_idle($node, 'work');
	is($node->safe_psql('postgres', q(SELECT herald.pause('work'), count(herald.publish('jobs', '{}')) FROM generate_series(1, 5))), 't|5', 'five wait');
	wait_until($node, q(SELECT count(*) >= 5 FROM herald_internal.parked_store), 'rotation parks them');
	wait_until($node, q(SELECT count(*) = 0 FROM stored), 'and empties the log');
	$node->safe_psql('postgres', q(
		SELECT herald.replay_all('work'); SELECT herald.alter_subscription('work', max_attempts => 1); SELECT herald.resume('work')));
	wait_idle($node, 'work');
	$node->safe_psql('postgres', q(SELECT herald.discard_dead_letters('work');
		SELECT herald.disable_change_feed('app.orders', 'feed'); SELECT herald.purge_audit_log(now() - interval '1 second'); SELECT herald.purge_audit_log()));
	return;
}

# What a slot has to tell, but for tables of others.
sub decoded
{
	return $publisher->safe_psql('postgres', q(SELECT left(data, 200) FROM pg_logical_slot_get_changes('looking', NULL, NULL)
		WHERE data NOT LIKE 'BEGIN%' AND data NOT LIKE 'COMMIT%' AND data NOT LIKE 'table app.%' LIMIT 20));
}

$publisher->safe_psql('postgres', q(SELECT pg_create_logical_replication_slot('looking', 'test_decoding')));
do_everything($publisher);
is($publisher->safe_psql('postgres', q(SELECT count(*) > 0 FROM pg_logical_slot_peek_changes('looking', NULL, NULL) WHERE data LIKE 'table app.orders%')), 't',
	'what belongs to others is decoded');
is(decoded(), '', 'of the tables of the extension, nothing');

# The subscriber's own: tasks that wait, names, a trail.
$subscriber->safe_psql('postgres', q(
	CREATE TABLE app.orders (id integer PRIMARY KEY, note text);
	SELECT herald.create_channel('mails');
	SELECT herald.subscribe('mails', 'mails', 'app.work', run_as => 'app'), herald.pause('mails');
	SELECT count(herald.publish('mails', jsonb_build_object('mine', i))) FROM generate_series(1, 30) AS i;
	CREATE TABLE app.own (id integer PRIMARY KEY);
	SELECT herald.enable_audit('app.own'); INSERT INTO app.own VALUES (1)));
sub everything_of
{
	my ($node) = @_;
	return join "\n", map { "$_: " . $node->safe_psql('postgres', "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM herald_internal.$_ AS t") } @internal;
}
my $before = everything_of($subscriber);

foreach my $publication ('FOR ALL TABLES', 'FOR TABLES IN SCHEMA herald_internal')
{
	foreach my $copy ('false', 'true')
	{
		my $what = "$publication, copy_data = $copy";
		$subscriber->safe_psql('postgres', 'TRUNCATE app.orders, app.effects');
		$publisher->safe_psql('postgres', "CREATE PUBLICATION everything $publication");
		$publisher->safe_psql('postgres', 'TRUNCATE app.orders');
		$publisher->safe_psql('postgres', q(SELECT herald.pause('work'), herald.publish('jobs', '{}'), herald.enable_audit('app.orders'); INSERT INTO app.orders VALUES (0)));
		$subscriber->safe_psql('postgres', sprintf(q(CREATE SUBSCRIPTION everything CONNECTION '%s' PUBLICATION everything WITH (copy_data = %s)),
			$publisher->connstr . ' dbname=postgres', $copy));
		$subscriber->wait_for_subscription_sync($publisher, 'everything', 'postgres');
		$publisher->safe_psql('postgres', q(SELECT herald.resume('work')));
		do_everything($publisher);
		$publisher->wait_for_catchup('everything');
		is($subscriber->safe_psql('postgres', q(SELECT count(*) > 0 FROM app.orders)), $publication =~ /ALL/ ? 't' : 'f', "$what: tables of others are replicated");
		is(everything_of($subscriber), $before, "$what: nothing of the extension is");
		$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION everything');
		$publisher->safe_psql('postgres', 'DROP PUBLICATION everything');
	}
}

# From a server that lets its rows go.
$publisher->safe_psql('postgres', q(UPDATE pg_class SET relrewrite = 0 WHERE relnamespace = 'herald_internal'::regnamespace;
	CREATE PUBLICATION everything FOR ALL TABLES));
$publisher->safe_psql('postgres', 'SELECT count(*) FROM pg_logical_slot_get_changes(\'looking\', NULL, NULL)');
$subscriber->safe_psql('postgres', sprintf(q(CREATE SUBSCRIPTION everything CONNECTION '%s' PUBLICATION everything WITH (copy_data = false)),
	$publisher->connstr . ' dbname=postgres'));
$subscriber->wait_for_subscription_sync($publisher, 'everything', 'postgres');
do_everything($publisher);
like(decoded(), qr/table herald_internal\./, 'a server without the mark sends rows');
$publisher->wait_for_catchup('everything');
is(everything_of($subscriber), $before, 'and none is written');

# What a change from elsewhere makes here is written: an audited table, and one with a feed.
$subscriber->safe_psql('postgres', q(SELECT herald.enable_audit('app.orders'), herald.create_channel('heard'), herald.enable_change_feed('app.orders', 'heard')));
my $recorded = q(SELECT (SELECT count(*) FROM herald.audit_log WHERE table_name = 'orders' AND operation = 'insert'), (SELECT count(*) FROM stored WHERE channel_id = (SELECT id FROM herald_internal.channel_store WHERE channel = 'heard')));
$publisher->safe_psql('postgres', q(INSERT INTO app.orders VALUES (1000)));
$publisher->wait_for_catchup('everything');
is($subscriber->safe_psql('postgres', $recorded), '1|1', 'a replicated row is recorded, and published');

# A TRUNCATE of another server would empty the log.
$publisher->safe_psql('postgres', 'TRUNCATE herald_internal.log_2');
wait_for('it is refused', sub { log_lines($subscriber, qr/another server wants table "herald_internal.log_2" to be emptied/) > 0 });
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION everything DISABLE; ALTER SUBSCRIPTION everything SET (slot_name = NONE); DROP SUBSCRIPTION everything');

# The mark comes back: a pg_upgrade makes tables without it.
ok(end_process($publisher, 'TERM', 'announcer'), 'the announcer is terminated');
wait_until($publisher, q(SELECT count(*) = 0 FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relkind = 'r' AND relrewrite = 0), 'its successor marks the tables');

# Restoring as a replica is no replication.
$subscriber->safe_psql('postgres', q(SET session_replication_role = replica; INSERT INTO herald_internal.settled_0 VALUES (77, '{1}')));
is($subscriber->safe_psql('postgres', q(SELECT count(*) FROM herald_internal.settled_0 WHERE subscription_id = 77)), '1', 'a session that restores rows as a replica does write them');

clean_log($publisher);
clean_log($subscriber);
done_testing();
