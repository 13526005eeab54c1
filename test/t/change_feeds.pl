# Change feeds beyond what one session shows: what listeners hear and handlers get, random transactions with
# savepoints against what the tables say, prepared transactions, replication, partitions that come and go, dumps,
# and user code in a row's conversion.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use PostgreSQL::Test::Utils;

my $node = start_herald('change_feeds', init => { allows_streaming => 'logical' });
$node->safe_psql('postgres', q(
	CREATE TABLE public.orders (id integer PRIMARY KEY, status text, total numeric);
	SELECT herald.create_channel('stored');
	SELECT herald.create_channel('ephemeral', durable => false);
	SELECT herald.create_channel('loud', announce => 'payload');
	SELECT herald.create_channel('intake', accept_notify => true, announce => 'payload');
	SELECT herald.subscribe('stored', 'stored', 'app.note', run_as => 'app');
	SELECT herald.subscribe('intake', 'intake', 'app.note', run_as => 'app')));
pid_of($node, 'announcer');

my $listener = listen_to($node, qw(ephemeral loud stored intake undeclared));

# What was heard since the last time, as channel:payload.
sub heard
{
	return heard_texts($node, $listener);
}

sub run { return $node->safe_psql('postgres', $_[0]) }

# Listeners
run(qq(SELECT herald.enable_change_feed('orders', '$_', 'orders:{id}:{op}', operations => '{insert,delete}'))) for qw(ephemeral loud stored intake undeclared);
run(q(INSERT INTO orders VALUES (7, 'new', 1)));
my @heard = heard();
is(join("\n", grep { !/^stored/ } @heard), join("\n", map { "$_:orders:7:insert" } qw(ephemeral loud intake undeclared)),
	'a template is heard as plain text');
like((grep { /^stored/ } @heard)[0], qr/^stored:\{"herald": \{"message_id": [0-9]+, "bytes": [0-9]+\}\}$/, 'as a pointer where the channel announces pointers');
wait_idle($node, $_) for 'stored', 'intake';
is(run(q(SELECT subscription, payload FROM app.effects ORDER BY 1)), qq(intake|"orders:7:insert"\nstored|"orders:7:insert"),
	'handlers get a JSON string, once also where notifications are taken');
run(qq(SELECT herald.disable_change_feed('orders', '$_'))) for qw(loud stored intake undeclared);
run(q(TRUNCATE app.effects; INSERT INTO orders SELECT i FROM generate_series(100, 1099) AS i));
is(scalar(heard()), 1000, '1000 rows are as many messages');
run(q(INSERT INTO orders SELECT i FROM generate_series(2000, 3000) AS i));
hears($node, $listener, '1001 are one', 'ephemeral:{"op": "bulk", "rows": 1001, "table": "public.orders", "deleted": 0, "inserted": 1001}');
run(q(BEGIN; DELETE FROM orders; ROLLBACK));
hears($node, $listener, 'what is rolled back is not heard');
run(q(DELETE FROM orders; SELECT herald.disable_change_feed('orders', 'ephemeral')));
is(scalar(heard()), 1, 'many rows are deleted');

# Order and keys for handlers
run(q(SELECT herald.enable_change_feed('orders', 'stored', 'row');
	INSERT INTO orders VALUES (1, 'a', 1), (2, 'a', 1)));
run(qq(UPDATE orders SET total = $_)) for 2 .. 20;
wait_idle($node, 'stored');
is(run(q(SELECT string_agg(payload #>> '{row,total}', ' ' ORDER BY at) FROM app.effects WHERE payload #>> '{key,id}' = '2')), join(' ', 1 .. 20),
	'changes of a row are handled in their order');

# Random transactions: what is published is the difference between before and after.
run(q(
	CREATE TABLE t (id integer PRIMARY KEY, a integer, b text);
	CREATE TABLE before (LIKE t);
	SELECT herald.create_channel('differences', announce => 'off');
	SELECT herald.enable_change_feed('t', 'differences', 'diff');
	CREATE TABLE wrong (number integer, what text);
	CREATE FUNCTION compare(number integer) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WITH published AS (
			SELECT payload ->> 'op' AS op, (payload #>> '{key,id}')::integer AS id, payload -> 'old' AS old, payload -> 'changed' AS changed
			  FROM stored JOIN herald_internal.channel_store AS c ON c.id = channel_id WHERE c.channel = 'differences'
		), rows AS (
			SELECT id, CASE WHEN o.id IS NOT NULL THEN to_jsonb(o) END AS old, CASE WHEN n.id IS NOT NULL THEN to_jsonb(n) END AS now
			  FROM before AS o FULL JOIN t AS n USING (id)
		), members AS (
			SELECT r.id, jsonb_object_agg(m.key, m.value) AS old, jsonb_object_agg(m.key, r.now -> m.key) AS now
			  FROM rows AS r, jsonb_each(r.old) AS m WHERE r.now IS NOT NULL AND m.value <> r.now -> m.key GROUP BY r.id
		), expected AS (
			SELECT 'insert' AS op, id, NULL::jsonb AS old, now AS changed FROM rows WHERE old IS NULL
			UNION ALL SELECT 'delete', id, old, NULL FROM rows WHERE now IS NULL
			UNION ALL SELECT 'update', id, old, now FROM members
		), differences AS (
			(SELECT 'missing: ' || e::text FROM (SELECT * FROM expected EXCEPT ALL SELECT * FROM published) AS e)
			UNION ALL (SELECT 'too much: ' || e::text FROM (SELECT * FROM published EXCEPT ALL SELECT * FROM expected) AS e)
		) INSERT INTO wrong SELECT number, d.* FROM differences AS d;
		DELETE FROM herald_internal.log_0 WHERE channel_id = (SELECT id FROM herald_internal.channel_store WHERE channel = 'differences');
	END $$;));
my $seed = seed_random();
my $script = '';
for my $number (1 .. 400)
{
	my @savepoints;
	$script .= "TRUNCATE before; INSERT INTO before SELECT * FROM t;\nBEGIN;\n";
	for (1 .. 1 + int rand 12)
	{
		my ($x, $y) = (1 + int rand 12, 1 + int rand 12);
		my @choices = (
			"INSERT INTO t VALUES ($x, $y, 'i') ON CONFLICT DO NOTHING;",
			"INSERT INTO t SELECT i, $y FROM generate_series($x, $x + 3) AS i ON CONFLICT (id) DO UPDATE SET a = EXCLUDED.a;",
			"UPDATE t SET a = $y, b = 'u' WHERE id BETWEEN $x AND $x + 2;",
			"UPDATE t SET a = COALESCE(a, 0) + 1 WHERE id = $x;",
			"UPDATE t SET id = 20 - id WHERE id = $x AND NOT EXISTS (SELECT FROM t AS o WHERE o.id = 20 - $x);",
			"DELETE FROM t WHERE id = $x OR a = $y;",
			"DELETE FROM t;",
			'savepoint', 'savepoint', 'rollback', 'release');
		my $choice = $choices[ int rand @choices ];
		if ($choice eq 'savepoint') { push @savepoints, 's' . @savepoints; $choice = "SAVEPOINT $savepoints[-1];"; }
		elsif ($choice =~ /^r/)
		{
			next unless @savepoints;
			my $which = int rand @savepoints;
			$choice = ($choice eq 'rollback' ? 'ROLLBACK TO ' : 'RELEASE ') . "$savepoints[$which];";
			$#savepoints = $choice =~ /^ROLLBACK/ ? $which : $which - 1;
		}
		$script .= "$choice\n";
	}
	$script .= (rand() < 0.9 ? 'COMMIT' : 'ROLLBACK') . ";\nSELECT compare($number);\n";
}
run($script);
is(run('SELECT * FROM wrong ORDER BY number LIMIT 5'), '', '400 random transactions publish what has changed') or diag("seed $seed");
cmp_ok(run(q(SELECT published FROM herald.channel_stats WHERE channel = 'differences')), '>', 400, 'which is not nothing');

# Two-phase commit
run(q(TRUNCATE app.effects; SELECT herald.enable_change_feed('orders', 'ephemeral', '{table}:{id}:{op}')));
run(q(BEGIN; INSERT INTO orders VALUES (3, 'p'); PREPARE TRANSACTION 'kept'; BEGIN; INSERT INTO orders VALUES (4, 'p'); PREPARE TRANSACTION 'not'));
is(join("\n", grep { /^eph/ } heard()), '', 'a prepared transaction is not heard of');
run(q(COMMIT PREPARED 'kept'; ROLLBACK PREPARED 'not'));
is(join("\n", grep { /^eph/ } heard()), 'ephemeral:orders:3:insert', 'until it is committed');
wait_idle($node, 'stored');
is(run(q(SELECT payload -> 'key' FROM app.effects)), '{"id": 3}', 'nor handled');

# Replication: what the replica role writes is published once.
run(q(SET session_replication_role = replica; INSERT INTO orders VALUES (5); UPDATE orders SET status = 'r' WHERE id = 5;
	DELETE FROM orders WHERE id = 3; TRUNCATE orders; INSERT INTO orders VALUES (6)));
is(join("\n", grep { /^eph/ } heard()), join("\n", 'ephemeral:orders:5:insert', 'ephemeral:orders:5:update', 'ephemeral:orders:3:delete',
	'ephemeral:{"op": "truncate", "table": "public.orders"}', 'ephemeral:orders:6:insert'), 'changes of the replica role');
run(q(CREATE DATABASE source));
$node->safe_psql('source', q(CREATE TABLE public.orders (id integer PRIMARY KEY, status text, total numeric); CREATE PUBLICATION p FOR TABLE orders;
	SELECT pg_create_logical_replication_slot('s', 'pgoutput')));
my $source = $node->connstr('source');
run(qq(CREATE SUBSCRIPTION s CONNECTION \$c\$$source\$c\$ PUBLICATION p WITH (create_slot = false, slot_name = s, copy_data = false)));
$node->safe_psql('source', q(INSERT INTO orders VALUES (30, 'far'), (31, 'far'); BEGIN; UPDATE orders SET status = 'x' WHERE id = 30;
	UPDATE orders SET status = 'y' WHERE id = 30; COMMIT));
wait_until($node, q(SELECT count(*) = 1 FROM orders WHERE status = 'y'), 'changes arrive');
is(join("\n", grep { /^eph/ } heard()), join("\n", map { "ephemeral:orders:$_" } '30:insert', '31:insert', '30:update'), 'replicated changes are published, once');
run(q(ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s));

# Partitions that come and go
run(q(
	CREATE TABLE parts (id integer, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
	SELECT herald.enable_change_feed('parts', 'ephemeral', '{id}:{op}');
	CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
	CREATE TABLE parts_us (region text NOT NULL, id integer NOT NULL);
	ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us');
	CREATE TABLE parts_asia PARTITION OF parts FOR VALUES IN ('cn', 'in') PARTITION BY LIST (region);
	CREATE TABLE parts_in PARTITION OF parts_asia FOR VALUES IN ('in')));
is(run(q(SELECT ok, problem FROM herald.change_feeds WHERE table_name = 'parts')), 't|', 'new partitions have their triggers');
run(q(INSERT INTO parts_eu VALUES (1, 'eu'); INSERT INTO parts_us VALUES ('us', 2); INSERT INTO parts_in VALUES (3, 'in'); INSERT INTO parts_asia VALUES (4, 'in');
	SET session_replication_role = replica; INSERT INTO parts_in VALUES (5, 'in')));
hears($node, $listener, 'what is written to them directly is published', map { "ephemeral:$_:insert" } 1 .. 5);
run(q(ALTER TABLE parts DETACH PARTITION parts_us; INSERT INTO parts_us VALUES ('us', 6); ALTER TABLE parts DETACH PARTITION parts_asia;
	INSERT INTO parts_in VALUES (7, 'in')));
hears($node, $listener, 'what has left is not, but that it has left, with its rows', map { qq(ephemeral:{"op": "detach", "table": "public.parts", "partition": "public.$_"}) } 'parts_us', 'parts_asia');
run(q(TRUNCATE parts_us; ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us'); ALTER TABLE parts DETACH PARTITION parts_us));
hears($node, $listener, 'without rows it is nothing');
run(q(BEGIN; ALTER TABLE parts ATTACH PARTITION parts_asia FOR VALUES IN ('cn', 'in'); INSERT INTO parts_in VALUES (8, 'in'); COMMIT;
	BEGIN; SAVEPOINT s; ALTER TABLE parts DETACH PARTITION parts_asia; ROLLBACK TO s; COMMIT));
hears($node, $listener, 'rows that come with a partition', 'ephemeral:{"op": "attach", "table": "public.parts", "partition": "public.parts_asia"}', 'ephemeral:8:insert');
run(q(ALTER TABLE parts DETACH PARTITION parts_asia));
hears($node, $listener, 'and go with it', 'ephemeral:{"op": "detach", "table": "public.parts", "partition": "public.parts_asia"}');
is(run(q(SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('parts_us'::regclass, 'parts_asia'::regclass, 'parts_in'::regclass) AND tgname LIKE 'herald%')), '0', 'nor has it triggers');
run(q(INSERT INTO parts VALUES (9, 'eu'); BEGIN; SAVEPOINT s; DROP TABLE parts_eu; ROLLBACK TO s; COMMIT));
hears($node, $listener, 'what was not dropped after all', 'ephemeral:9:insert');
run(q(CREATE TABLE parts_empty PARTITION OF parts FOR VALUES IN ('nowhere'); DROP TABLE parts_empty; DROP TABLE parts_eu));
hears($node, $listener, 'or are dropped with it', 'ephemeral:{"op": "drop", "table": "public.parts", "partition": "public.parts_eu"}');
run(q(CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu') PARTITION BY LIST (region); CREATE TABLE parts_eu_1 PARTITION OF parts_eu FOR VALUES IN ('eu');
	INSERT INTO parts VALUES (10, 'eu')));
run(q(DROP TABLE parts_eu CASCADE));
hears($node, $listener, 'with what is below it', 'ephemeral:10:insert', 'ephemeral:{"op": "drop", "table": "public.parts", "partition": "public.parts_eu_1"}');
run(q(TRUNCATE parts_us; INSERT INTO parts_us VALUES ('us', 11); ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us')));
run(q(ALTER TABLE parts DETACH PARTITION parts_us CONCURRENTLY));
hears($node, $listener, 'detached concurrently', map { qq(ephemeral:{"op": "$_", "table": "public.parts", "partition": "public.parts_us"}) } 'attach', 'detach');
run(q(INSERT INTO parts_us VALUES ('us', 12); CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu'); INSERT INTO parts VALUES (13, 'eu')));
hears($node, $listener, 'it is on its own', 'ephemeral:13:insert');
run(q(DROP TABLE parts));
is(run(q(SELECT count(*) FROM herald.change_feeds WHERE table_name IS NULL OR table_name = 'parts')), '0', 'a dropped table has no feed');
hears($node, $listener, 'and says nothing of its partitions');

# A row is converted as who changes it, not as the owner of table or feed.
run(q(
	CREATE ROLE writer LOGIN;
	GRANT CREATE ON SCHEMA public TO writer;
	GRANT SELECT, INSERT, UPDATE ON orders TO writer;
	CREATE TYPE mood AS ENUM ('good', 'bad');
	ALTER TYPE mood OWNER TO writer;
	ALTER TABLE orders ADD mood mood;
	CREATE TABLE seen (who text);
	GRANT INSERT ON seen TO writer;
	SET SESSION AUTHORIZATION writer;
	CREATE FUNCTION spy(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (current_user || ' ' || session_user); RETURN '"seen"'; END $$;
	CREATE CAST (mood AS json) WITH FUNCTION spy(mood);
	INSERT INTO orders VALUES (40, 'spied', 1, 'good')));
is(run('SELECT DISTINCT who FROM seen'), 'writer writer', 'user code in the conversion runs as the writer');
sqlstate_is($node, q(INSERT INTO herald_internal.change_feed_store (relation, channel, message, operations, owner) VALUES ('orders', 'x', 'key', '{insert}', 'postgres')),
	'42501', 'nobody else writes feeds', role => 'writer');
sqlstate_is($node, q(ALTER TABLE orders DISABLE TRIGGER herald_feed_1_insert), '42501', 'or switches them off', role => 'writer');
run('DROP CAST (mood AS json); ALTER TABLE orders DROP mood');

# Dump and restore: feeds go by the names of tables.
heard();
my $dump = "${PostgreSQL::Test::Utils::tmp_check}/feeds.sql";
$node->command_ok([ 'pg_dump', '--no-sync', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
run('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'restored');
my $feeds = 'SELECT schema_name, table_name, channel, message, columns, operations, owner, ok, problem FROM herald.change_feeds ORDER BY 1, 2, 3';
is($node->safe_psql('restored', $feeds), run($feeds), 'the same feeds, in order');
$node->safe_psql('restored', q(INSERT INTO orders VALUES (70, 'restored')));
is($node->safe_psql('restored', q(SELECT count(*) FROM stored WHERE payload #>> '{row,status}' = 'restored')), '1', 'which publish');

# Without the extension there are no feeds, and the tables are as before.
$node->safe_psql('restored', q(DROP EXTENSION pg_herald CASCADE; INSERT INTO orders VALUES (71, 'alone')));
is($node->safe_psql('restored', q(SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'herald%')), '0', 'DROP EXTENSION CASCADE takes the triggers along');

$listener->quit;
clean_log($node);
$node->stop;

# Where the log is full, the writer goes on.
$node = start_herald('feed_log_full', conf => "herald.sweep_interval = 1s\n");
run(q(CREATE TABLE public.orders (id integer PRIMARY KEY);
	SELECT herald.create_channel('stored'), herald.subscribe('stored', 'stored', 'app.note', run_as => 'app'), herald.pause('stored');
	SELECT herald.enable_change_feed('orders', 'stored')));
run(q(SELECT herald.publish('stored', to_jsonb((SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 32) AS j))) FROM generate_series(1, 3000) AS i));
# Only now, as the messages above must not meet the limit.
reload_with($node, 'herald.max_log_size' => '1MB');
wait_until($node, q(SELECT NOT ok FROM herald.status() WHERE name = 'log'), 'the log is full');
my ($out, $err);
$node->psql('postgres', q(INSERT INTO orders VALUES (1)), stdout => \$out, stderr => \$err);
like($err, qr/WARNING:  1 change of table "public.orders" is not published to channel "stored"\nDETAIL:  The reason is: the log of messages has reached herald.max_log_size/, 'a WARNING');
is(run(q(SELECT count(*) FROM orders)), '1', 'and the row is there');
is(run(q(SELECT rejected FROM herald.channel_stats WHERE channel = 'stored')), '1', 'counted as rejected');
clean_log($node);
done_testing();
