# Places that are shared by all: nobody takes them away from others, a call that would exceed its share is refused,
# and what is given back can be used again.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_node('shares', conf => "herald.max_subscriptions = 40\n");
install_herald($node);
$node->safe_psql('postgres', q(
	CREATE ROLE mallory LOGIN; CREATE ROLE bob LOGIN;
	CREATE DATABASE other; GRANT CREATE ON DATABASE postgres, other TO mallory, bob));
install_herald($node, 'other');
for my $database ('postgres', 'other')
{
	$node->safe_psql($database, "CREATE SCHEMA $_ AUTHORIZATION $_; SET ROLE $_; CREATE FUNCTION $_.h(jsonb) RETURNS void LANGUAGE sql AS 'SELECT'; GRANT USAGE ON SCHEMA $_ TO PUBLIC")
	  for 'mallory', 'bob';
}

sub value { return $node->safe_psql($_[1] // 'postgres', "SELECT value FROM herald.status() WHERE name = '$_[0]'"); }

# Subscriptions
my $many = q(DO $$ BEGIN FOR i IN 1 .. 100 LOOP PERFORM herald.subscribe('m' || i, 'mc', 'mallory.h'); COMMIT; END LOOP; END $$);
sqlstate_is($node, $many, '53400', 'a role cannot take all places', role => 'mallory');
is(value('subscription_places'), '20 of 40 in use, 0 subscriptions have none', 'it got half of them');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.subscriptions WHERE owner = 'mallory'"), '20', 'and no subscription without a place');
sqlstate_is($node, "SELECT herald.subscribe('m', 'mc', 'mallory.h')", '53400', 'also in another database', role => 'mallory', database => 'other');
like(($node->psql('postgres', "SET SESSION AUTHORIZATION mallory; SELECT herald.subscribe('m', 'mc', 'mallory.h')"))[2], qr/HINT:.*herald\.max_subscriptions/, 'the hint names the limit');
sqlstate_is($node, "SELECT herald.subscribe('b', 'bc', 'bob.h')", '00000', 'another role finds one', role => 'bob', database => 'other');
$node->safe_psql('other', "SELECT herald.publish('bc', '{}')");
wait_idle($node, 'b', database => 'other');
is($node->safe_psql('other', "SELECT done, pending FROM herald.subscription_stats"), '1|0', 'with its statistics');
is($node->safe_psql('other', "SELECT herald.pause('b', '5 s')"), 't', 'and its pause');

# Given back: by unsubscribe, and by those that never came to be, whatever ended their transaction.
sqlstate_is($node, "SELECT herald.unsubscribe('m1')", '00000', 'one less', role => 'mallory');
wait_until($node, "SELECT value LIKE '20 of 40 %' FROM herald.status() WHERE name = 'subscription_places'", 'its place is free');
for my $end ('ROLLBACK', 'ROLLBACK TO a; COMMIT', "PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'", 'SELECT pg_terminate_backend(pg_backend_pid())')
{
	$node->psql('postgres', "SET SESSION AUTHORIZATION mallory; BEGIN; SAVEPOINT a; SELECT herald.subscribe('gone', 'mc', 'mallory.h'); " . ($end =~ /terminate/ ? "RESET SESSION AUTHORIZATION; $end" : $end));
	# Also without a dispatcher, that would see to it some time.
	sqlstate_is($node, "BEGIN; SELECT herald.subscribe('again', 'mc', 'mallory.h'); ROLLBACK", '00000', "free after: $end", role => 'mallory');
}
$node->safe_psql('postgres', "SET SESSION AUTHORIZATION mallory; BEGIN; SELECT herald.subscribe('kept', 'mc', 'mallory.h'); PREPARE TRANSACTION 'p'");
sqlstate_is($node, "SELECT herald.subscribe('again', 'mc', 'mallory.h')", '53400', 'a prepared one keeps its place', role => 'mallory');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
$node->safe_psql('postgres', "SELECT herald.publish('mc', '{}')");
wait_idle($node, 'kept');
is($node->safe_psql('postgres', "SELECT done FROM herald.subscription_stats WHERE subscription = 'kept'"), '1', 'and has its statistics');

# Rows that come from a restore find no place when there is none, and say so.
$node->safe_psql('postgres', q(
	INSERT INTO herald_internal.subscription_store SELECT r.* FROM herald_internal.subscription_store AS s, generate_series(1, 3) AS i,
	       jsonb_populate_record(s, jsonb_build_object('id', 10000 + i, 'subscription', 'restored' || i)) AS r WHERE s.subscription = 'kept'));
end_process($node, 'TERM', 'dispatcher', 'postgres');
wait_until($node, "SELECT NOT ok AND value LIKE '%3 subscriptions have none' FROM herald.status() WHERE name = 'subscription_places'", 'status tells of those without a place');
$node->safe_psql('postgres', "SELECT herald.publish('mc', '{}')");
wait_idle($node, 'restored1');

# Channels that accept notifications
$node->safe_psql('postgres', "SET SESSION AUTHORIZATION mallory; SELECT count(herald.create_channel('an' || i, accept_notify => true)) FROM generate_series(1, 2048) AS i");
sqlstate_is($node, "SELECT herald.create_channel('an', accept_notify => true)", '53400', 'an owner cannot have all channels that accept notifications', role => 'mallory');
sqlstate_is($node, "SELECT herald.create_channel('plain'); SELECT herald.alter_channel('plain', accept_notify => true)", '53400', 'nor by altering one', role => 'mallory');
sqlstate_is($node, "SELECT herald.alter_channel('an1', description => 'first')", '00000', 'what is there can be altered', role => 'mallory');
sqlstate_is($node, "SELECT herald.create_channel('bn', accept_notify => true)", '00000', 'another owner can', role => 'bob');
$node->safe_psql('postgres', 'GRANT mallory TO bob');
sqlstate_is($node, "SELECT herald.alter_channel('bn', owner => 'mallory')", '53400', 'nor is one given to it', role => 'bob');
like(value('notify_channels'), qr/^2049 of 4096 /, 'status counts them');
wait_until($node, "SELECT EXISTS (SELECT FROM stored WHERE payload ->> 'task_id' = 'hello') FROM (SELECT pg_notify('bn', 'hello') OFFSET 0) AS n", 'the later one is heard');
sqlstate_is($node, "SELECT herald.alter_channel('an1', accept_notify => false); SELECT herald.alter_channel('plain', accept_notify => true)", '00000', 'what is given back can be used again', role => 'mallory');
clean_log($node);
done_testing();
