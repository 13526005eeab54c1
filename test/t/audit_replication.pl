# Changes that statement triggers don't see are recorded all the same, and once: those of a subscription of logical
# replication, and those made under session_replication_role = replica.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $tables = q(
	CREATE TABLE orders (id integer PRIMARY KEY, day date, card text);
	CREATE TABLE events (id integer, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01'));
my $publisher = start_node('publisher', conf => "wal_level = logical\nmax_wal_senders = 4\nmax_replication_slots = 4\n");
my $node = start_node('audited');
$publisher->safe_psql('postgres', $tables);
$node->safe_psql('postgres', "CREATE EXTENSION pg_herald; $tables; " . q(
	SELECT herald.enable_audit('orders', 'diff', mask => '{card}');
	SELECT herald.enable_audit('events', 'keys')));

# What was recorded after the entry of that id, in order.
my $recorded = q(SELECT string_agg(concat_ws(' ', operation, table_name, record_id ->> 'id'), ', ' ORDER BY changed_at, sequence)
	FROM herald.audit_log WHERE operation IN ('insert', 'update', 'delete', 'truncate'));

$node->safe_psql('postgres', q(SET session_replication_role = replica;
	INSERT INTO events VALUES (1, '2020-05-05'), (2, '2021-05-05');
	UPDATE events SET day = '2021-05-06' WHERE id = 1;
	DELETE FROM events_2 WHERE id = 2;
	INSERT INTO orders VALUES (3, NULL, 'secret');
	UPDATE orders SET day = '2020-01-01', card = 'more secret';
	UPDATE orders SET day = '2020-01-01';
	TRUNCATE orders, events));
is($node->safe_psql('postgres', $recorded),
	'insert events_1 1, insert events_2 2, delete events_1 1, insert events_2 1, delete events_2 2, insert orders 3, update orders 3, truncate orders, truncate events',
	'under session_replication_role = replica every row is recorded, once');
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.audit_log AS l WHERE l::text LIKE '%secret%')), '0', 'and what is masked is');
is($node->safe_psql('postgres', q(SELECT old, new, changed FROM herald.audit_log WHERE operation = 'update')),
	'{"day": null, "card": "***"}|{"day": "2020-01-01", "card": "***"}|{day,card}', 'with what was changed');

$node->safe_psql('postgres', 'SELECT herald.purge_audit_log()');
$publisher->safe_psql('postgres', 'CREATE PUBLICATION leaves FOR TABLE orders, events_1, events_2');
$node->safe_psql('postgres', sprintf(q(CREATE SUBSCRIPTION leaves CONNECTION '%s' PUBLICATION leaves), $publisher->connstr . ' dbname=postgres'));
$node->wait_for_subscription_sync($publisher, 'leaves', 'postgres');
$publisher->safe_psql('postgres', q(
	INSERT INTO orders VALUES (1), (2);
	INSERT INTO events VALUES (10, '2020-05-05');
	UPDATE orders SET card = 'secret' WHERE id = 1;
	UPDATE orders SET id = 3 WHERE id = 2;
	DELETE FROM events;
	TRUNCATE orders));
$publisher->wait_for_catchup('leaves');
is($node->safe_psql('postgres', $recorded), 'insert orders 1, insert orders 2, insert events_1 10, update orders 1, update orders 3, delete events_1 10, truncate orders',
	'what comes from another server is recorded, once');
is($node->safe_psql('postgres', q(SELECT string_agg(operation, ' ' ORDER BY changed_at, sequence) FROM herald.audit_history('orders', '{"id": 3}'))), 'insert update', 'with its keys');
$node->safe_psql('postgres', 'DROP SUBSCRIPTION leaves');

# By the root, into other partitions than there.
$node->safe_psql('postgres', 'SELECT herald.purge_audit_log()');
$publisher->safe_psql('postgres', 'DROP PUBLICATION leaves; CREATE PUBLICATION root FOR TABLE events WITH (publish_via_partition_root)');
$node->safe_psql('postgres', 'DROP TABLE events_1, events_2; CREATE TABLE events_all PARTITION OF events DEFAULT');
$node->safe_psql('postgres', sprintf(q(CREATE SUBSCRIPTION root CONNECTION '%s' PUBLICATION root), $publisher->connstr . ' dbname=postgres'));
$node->wait_for_subscription_sync($publisher, 'root', 'postgres');
$publisher->safe_psql('postgres', q(INSERT INTO events VALUES (20, '2020-05-05'), (21, '2021-05-05'); DELETE FROM events WHERE id = 21));
$publisher->wait_for_catchup('root');
is($node->safe_psql('postgres', $recorded), 'insert events_all 20, insert events_all 21, delete events_all 21', 'also by way of the root');
$node->safe_psql('postgres', 'DROP SUBSCRIPTION root');
clean_log($node);

done_testing();
