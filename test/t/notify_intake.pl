# accept_notify: a plain NOTIFY from any client becomes a message, our own announcements don't, and the
# announcer that listens can be replaced.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions qw(stop_idle);
use HeraldTest;
use Test::More;

my $node = start_herald('intake');
$node->safe_psql('postgres', q(
	CREATE ROLE stranger LOGIN;
	SELECT herald.create_channel('jobs', accept_notify => true);
	SELECT herald.create_channel('public', accept_notify => true, announce => 'payload');
	SELECT herald.create_channel('Wörter "x"', accept_notify => true, announce => 'off');
	SELECT herald.create_channel('deaf');
	SELECT herald.create_channel('small', accept_notify => true, max_payload_bytes => 100);
	SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app');
	SELECT herald.subscribe('public', 'public', 'app.note', run_as => 'app');
	SELECT herald.subscribe('deaf', 'deaf', 'app.note', run_as => 'app');
	SELECT herald.subscribe('small', 'small', 'app.note', run_as => 'app')));

# The announcer listens when it has taken in a notification; to what was declared before, when it has taken in a
# second one after that: the first may come in a turn that began earlier.
my $probes = 0;
sub listens
{
	local $PostgreSQL::Test::Utils::timeout_default = $HeraldTest::patience;
	$node->safe_psql('postgres', q(SELECT herald.create_channel('probe', accept_notify => true, if_not_exists => true)));
	for (1 .. 2)
	{
		my $probe = 'probe ' . ++$probes;
		$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM stored WHERE payload ->> 'task_id' = '$probe') FROM (SELECT pg_notify('probe', '$probe') OFFSET 0) AS n")
		  or return 0;
	}
	return 1;
}

sub payloads
{
	my ($subscription, $after) = @_;
	return $node->safe_psql('postgres', "SELECT payload FROM app.effects WHERE subscription = '$subscription' AND message_id > $after ORDER BY message_id");
}

sub newest { return $node->safe_psql('postgres', 'SELECT COALESCE(max(id), 0) FROM stored'); }

ok(listens(), 'the announcer listens');
my $start = newest();

# Text, objects, other JSON, nothing.
my @sent = (
	[ 'plain text', '{"task_id": "plain text"}' ],
	[ '{"order": 7}', '{"order": 7}' ],
	[ '  {"order" : 8 } ', '{"order": 8}' ],
	[ '42', '{"task_id": "42"}' ],
	[ '[1, 2]', '{"task_id": "[1, 2]"}' ],
	[ '"text"', '{"task_id": "\"text\""}' ],
	[ '{broken', '{"task_id": "{broken"}' ],
	[ "{\"a\": \"\\\\u0000\"}" =~ s/\\\\/\\/r, '{"task_id": "{\"a\": \"\\\\u0000\"}"}' ],
	[ 'üñî€😀', '{"task_id": "üñî€😀"}' ],
	[ "two\nlines\tand a tab", '{"task_id": "two\nlines\tand a tab"}' ],
	[ "quote ' and \\ backslash", '{"task_id": "quote \' and \\\\ backslash"}' ],
	[ '{"herald": 5}', '{"herald": 5}' ],
);
for my $case (@sent)
{
	my $text = $case->[0] =~ s/'/''/gr;
	$node->safe_psql('postgres', "SET ROLE stranger; SELECT pg_notify('jobs', '$text')");
}
$node->safe_psql('postgres', "NOTIFY jobs; SELECT pg_notify('jobs', '')");
wait_for_effects($node, 'work', scalar @sent, name => 'notifications become tasks');
wait_idle($node, 'work');
my $payloads = payloads('work', $start);
# psql shows a line feed inside JSON as \n.
is($payloads, join("\n", map { $_->[1] } @sent), 'text is wrapped, objects are taken as they are, empty ones ignored');
is($node->safe_psql('postgres', "SELECT count(*) FROM stored WHERE published_by IS NOT NULL AND id > $start"), '0', 'who sent it is not known');
$node->safe_psql('postgres', "SELECT pg_notify('jobs', repeat('x', 7999))");
wait_for_effects($node, 'work', @sent + 1, name => 'the longest one');
is($node->safe_psql('postgres', "SELECT max(length(payload ->> 'task_id')) FROM app.effects WHERE subscription = 'work'"), '7999', 'is complete');

# Channels that don't accept: announced only.
$node->safe_psql('postgres', "NOTIFY deaf, 'x'; NOTIFY undeclared, 'x'");
ok(listens(), 'the announcer listens still');
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'deaf'"), '0', 'not stored where it is not asked for');

# Refused by the channel: the others are stored.
$node->safe_psql('postgres', "SELECT pg_notify('small', repeat('x', 200)); SELECT pg_notify('small', 'fits')");
wait_for_effects($node, 'small', 1, name => 'what fits is stored');
is($node->safe_psql('postgres', "SELECT string_agg(payload ->> 'task_id', ' ') FROM app.effects WHERE subscription = 'small'"), 'fits', 'and nothing else');

# A rolled-back NOTIFY, a subtransaction, equal ones in one transaction.
$start = newest();
$node->safe_psql('postgres', <<'SQL');
BEGIN; NOTIFY jobs, 'rolled back'; ROLLBACK;
BEGIN; NOTIFY jobs, 'one'; SAVEPOINT a; NOTIFY jobs, 'rolled back'; ROLLBACK TO a; NOTIFY jobs, 'one'; NOTIFY jobs, 'two'; COMMIT;
SQL
wait_until($node, "SELECT count(*) = 2 FROM app.effects WHERE message_id > $start AND subscription = 'work'", 'transactions are respected');
is(payloads('work', $start), qq({"task_id": "one"}\n{"task_id": "two"}), 'in order, as NOTIFY folds them');

# Our own announcements are not stored again, whoever sends them: the announcer, or a publisher without one.
$start = newest();
for my $channel ('jobs', 'public')
{
	my @ids = publish_many($node, $channel, 50, payload => '{"own": true}');
	my $pid = pid_of($node, 'announcer');
	my $launcher = pid_of($node, 'launcher');
	stop_idle($node, $launcher);
	signal_process('TERM', $pid);
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'no announcer');
	push @ids, publish_many($node, $channel, 50, payload => '{"own": true}');
	signal_process('CONT', $launcher);
	wait_for_new($node, 'announcer', $pid);
	push @ids, publish_many($node, $channel, 50, payload => '{"own": true}');
	ok(listens(), 'a new announcer listens');
	push @ids, publish_many($node, $channel, 50, payload => '{"own": true}');
	wait_until($node, "SELECT announced >= 200 FROM herald.channel_stats WHERE channel = '$channel'", "$channel: all are announced");
	ok(listens(), 'and took notice of all');
	wait_idle($node, $channel eq 'jobs' ? 'work' : 'public');
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id) FROM app.effects WHERE message_id > $start AND subscription = '" . ($channel eq 'jobs' ? 'work' : 'public') . "'"),
		'200|200', "$channel: announcements are not taken for tasks");
	$start = newest();
}

# Announced by a publisher while the announcer listens, because the outbox does not take so many of one transaction.
$node->safe_psql('postgres', "SELECT count(herald.publish('$_', '{\"own\": true}')) FROM generate_series(1, 6000)") for 'jobs', 'public';
for my $subscription ('work', 'public')
{
	wait_until($node, "SELECT count(*) = 6000 FROM app.effects WHERE message_id > $start AND subscription = '$subscription'", "$subscription: all run");
}
ok(listens(), 'the announcer took notice of all');
wait_idle($node, $_) for 'work', 'public';
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id) FROM app.effects WHERE message_id > $start AND subscription IN ('work', 'public')"),
	'12000|12000', 'a pointer of a publisher is not taken for a task either');

# herald.notify, names with anything in them, switching it on and off.
$start = newest();
$node->safe_psql('postgres', q(SELECT herald.notify('jobs', 'by herald.notify')));
wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id > $start AND payload ->> 'task_id' = 'by herald.notify'", 'herald.notify is a NOTIFY');
$node->safe_psql('postgres', q(SELECT herald.subscribe('odd', 'Wörter "x"', 'app.note', run_as => 'app'); SELECT pg_notify('Wörter "x"', 'ä')));
wait_for_effects($node, 'odd', 1, name => 'any channel name');
$node->safe_psql('postgres', q(SELECT herald.alter_channel('jobs', accept_notify => false)));
ok(listens(), 'the announcer has seen the change');
$start = newest();
$node->safe_psql('postgres', "NOTIFY jobs, 'unheard'");
ok(listens(), 'and what came after');
is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE message_id > $start AND subscription = 'work'"), '0', 'switched off');
$node->safe_psql('postgres', q(SELECT herald.alter_channel('jobs', accept_notify => true)));
ok(listens(), 'the announcer has seen the change');
$start = newest();

# 2,000 notifications of one transaction and many of small ones.
$node->safe_psql('postgres', "SELECT pg_notify('jobs', i::text) FROM generate_series(1, 2000) AS i");
$node->safe_psql('postgres', join '', map { "NOTIFY jobs, 'single $_';" } 1 .. 200);
wait_until($node, "SELECT count(*) = 2200 FROM app.effects WHERE message_id > $start AND subscription = 'work'", 'many at once');
is($node->safe_psql('postgres', "SELECT count(DISTINCT payload ->> 'task_id') FROM app.effects WHERE message_id > $start AND subscription = 'work'"), '2200', 'each once');
wait_idle($node, 'work');
clean_log($node);

done_testing();
