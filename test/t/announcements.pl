# What a listener hears of announcements that are stored nowhere (herald.notify, ephemeral channels) and of
# others: equal ones of one transaction once, equal ones of two sessions twice, each session's in order; also
# while the announcer is terminated again and again, or herald.enabled switched, under 8 publishers.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

seed_random();
my $node = start_herald('announcements');
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('prices', durable => false);
	SELECT herald.create_channel('payloads', announce => 'payload')));
my $announcer = pid_of($node, 'announcer');
my $listener = listen_to($node, qw(prices payloads undeclared));

# What was heard since the last time, as channel:payload.
sub heard
{
	return heard_texts($node, $listener);
}

# While the announcer can't run, all of this gets into one batch of it.
sub at_once
{
	my (@scripts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	stop_idle($node, $announcer);
	$node->safe_psql('postgres', $_) for @scripts;
	signal_process('CONT', $announcer);
	return;
}

my $x = q(SELECT herald.notify('prices', 'x'));
at_once("BEGIN; $x; $x; COMMIT");
hears($node, $listener, 'equal ones of one transaction fold', 'prices:x');
at_once("$x; $x;");
hears($node, $listener, 'those of two transactions do not', 'prices:x', 'prices:x');
at_once($x, $x, $x);
hears($node, $listener, 'nor those of three sessions', ('prices:x') x 3);
at_once("BEGIN; $x; SELECT herald.notify('prices', 'y'); $x; COMMIT", "BEGIN; SELECT herald.notify('prices', 'y'); $x; COMMIT");
hears($node, $listener, 'each transaction keeps its order', qw(prices:x prices:y prices:y prices:x));
at_once("BEGIN; $x; SELECT herald.notify('undeclared', 'x'); COMMIT", $x);
hears($node, $listener, 'channels are told apart', qw(prices:x undeclared:x prices:x));
at_once("BEGIN; $x; SAVEPOINT a; SELECT herald.notify('prices', 'y'); SELECT herald.notify('prices', 'z'); ROLLBACK TO a;
	SELECT herald.notify('prices', 'y'); SAVEPOINT b; $x; ROLLBACK TO b; $x; COMMIT", "BEGIN; $x; ROLLBACK", $x);
hears($node, $listener, 'what was rolled back is not announced, and does not fold', qw(prices:x prices:y prices:x));
at_once("BEGIN; $x; SELECT herald.notify('prices', i::text) FROM generate_series(1, 600) AS i; $x; COMMIT");
hears($node, $listener, 'equal ones fold over any distance', 'prices:x', map { "prices:$_" } 1 .. 600);
my $p = q(SELECT herald.publish('prices', '{"a": 1}'));
at_once("BEGIN; $p; $p; SELECT herald.notify('prices', '{\"a\": 1}'); COMMIT", $p);
hears($node, $listener, 'ephemeral messages fold like NOTIFYs', ('prices:{"a": 1}') x 2);
my $d = q(SELECT herald.publish('payloads', '{"a": 1}'));
at_once($d, $d);
hears($node, $listener, 'equal payloads of two stored messages are both announced', ('payloads:{"a": 1}') x 2);
at_once("BEGIN; $d; SELECT herald.publish('payloads', i::text::jsonb) FROM generate_series(1, 600) AS i; $d; COMMIT");
hears($node, $listener, 'payloads fold over any distance', 'payloads:{"a": 1}', map { "payloads:$_" } 1 .. 600);
at_once(map { $_ % 3 == 0 ? $d : $x } 1 .. 100);
hears($node, $listener, '100 equal ones of as many sessions', map { $_ % 3 == 0 ? 'payloads:{"a": 1}' : 'prices:x' } 1 .. 100);
at_once("SELECT herald.notify('prices', repeat('l', 7999)), herald.notify('prices', '')");
hears($node, $listener, 'long ones and empty ones', 'prices:' . 'l' x 7999, 'prices:');

# 8 publishers; meanwhile something happens. Each of them numbers what it sends.
my $script = <<'SQL';
\set n :n + 1
SELECT herald.notify('prices', :client_id || ' ' || :n);
\set n :n + 1
SELECT herald.publish('payloads', jsonb_build_object('c', :client_id, 'n', :n));
SQL

sub under_load
{
	my ($name, $times, $fault, %options) = @_;
	my $sum = "SELECT sum(announced) FROM herald.channel_stats WHERE channel IN ('prices', 'payloads')";
	my $announced = $node->safe_psql('postgres', $sum);
	my $publishers = start_publishers($node, $script, clients => 8, pause => 15_000);
	for (1 .. $times)
	{
		# After some more messages, not after some time.
		publishers_go_on($publishers, 'SELECT count(*) FROM stored', 30 + int(rand(100)));
		$fault->();
	}
	my %published = end_publishers($publishers, $name);
	my $total = 0;
	$total += $_ for values %published;

	$options{after}->() if $options{after};

	# Until nothing is left, and a transaction that comes after it is heard.
	wait_until($node, "SELECT ok FROM herald.status() WHERE name = 'announcer'", "$name: the announcer runs");
	wait_until($node, "SELECT ($sum) >= $announced + $total", "$name: all are announced");
	my @heard = heard();
	my (%seen, %last);
	my ($inversions, $pointers) = (0, 0);
	for (@heard)
	{
		my ($client, $number) = /^payloads/ ? /"c": ([0-9]+), "n": ([0-9]+)/ : /^prices:([0-9]+) ([0-9]+)/;
		if (!defined $client)
		{
			$pointers += /^payloads:\{"herald": \{"message_id": [0-9]+, "bytes": [0-9]+\}\}$/;
			next;
		}
		$seen{"$client $number"}++;
		$inversions++ if $number < ($last{$client} // 0);
		$last{$client} = $number;
	}
	my @twice = grep { $seen{$_} > 1 } sort keys %seen;
	my @lost = grep { !exists $seen{$_} } map { my $client = $_; map { "$client $_" } 1 .. $published{$client} } sort keys %published;
	is(scalar(@twice), 0, "$name: nothing is heard twice") or diag("@twice[0 .. ($#twice > 10 ? 10 : $#twice)]");
	# Where the announcer ends between a publication and its commit, a stored message is announced by a pointer.
	is(scalar(@lost), $pointers, "$name: nothing is lost") or diag("@lost[0 .. ($#lost > 10 ? 10 : $#lost)]");
	is(scalar(@heard), $total, "$name: nothing else is heard");
	is($pointers, 0, "$name: payloads, not pointers");
	is($inversions, 0, "$name: each session's are in order");
	return;
}

under_load('8 publishers', 12, sub { });
under_load('announcer terminated', 12, sub {
	my ($pid) = pids_of($node, 'announcer');
	signal_process('TERM', $pid) if defined $pid;
});
my $on = 1;
under_load('herald.enabled switched', 12, sub {
	$on = !$on;
	reload_with($node, 'herald.enabled' => $on ? 'on' : 'off');
}, after => sub { reload_with($node, 'herald.enabled' => 'on') });
$listener->quit;
clean_log($node);

done_testing();
