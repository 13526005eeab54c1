# A small outbox under many publishers whose dispatcher and announcer are held still: what finds no room is
# found by a scan, or announced by its publisher, each exactly once and in its session's order; and afterwards all
# is as before.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use IPC::Run ();
use PostgreSQL::Test::Utils;

my $node = start_herald('outbox_full', conf => <<'CONF');
herald.outbox_size = 64kB
herald.sweep_interval = 1h
CONF
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'pointer');
	SELECT herald.create_channel('prices', durable => false);
	SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app')));
my @listeners = map { listen_to($node, 'jobs', 'prices') } 1 .. 2;
my $announcer = pid_of($node, 'announcer');
waits_for_work($node, $announcer);
my $clients = 8;

# Starts publishers; each numbers what it publishes. Two scripts, one with large announcements.
my $run = 0;

sub start_flood
{
	my ($transactions, @options) = @_;
	$run++;
	my @files;
	for my $length (1, 800)
	{
		my $file = "${PostgreSQL::Test::Utils::tmp_check}/outbox_full_${run}_$length.sql";
		append_to_file($file, <<"SQL");
\\set n :n + 1
BEGIN;
SELECT herald.publish('jobs', jsonb_build_object('run', $run, 'c', :client_id, 'n', :n));
SELECT herald.notify('prices', '$run ' || :client_id || ' ' || :n || ' ' || repeat('x', $length));
COMMIT;
SELECT herald.publish('jobs', jsonb_build_object('run', $run, 'c', :client_id, 'n', -:n));
SQL
		push @files, '-f', $file;
	}
	my ($out, $err) = ('', '');
	my $pgbench = IPC::Run::start(
		[ $node->installed_command('pgbench'), '-n', '-c', $clients, '-j', 2, '-t', $transactions, '--random-seed=1', @options, '-D', 'n=0', @files, $node->connstr('postgres') ],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(120));
	return ($pgbench, \$out, \$err);
}

# Everything of the last run is stored, handled once, and heard once by each listener. Returns how many
# announcements came from publishers and not from the announcer.
sub arrives
{
	my ($name, $transactions) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $messages = 2 * $clients * $transactions;
	wait_until($node, "SELECT count(*) >= $messages FROM app.effects WHERE payload ->> 'run' = '$run'", "$name: all are handled", seconds => 60);
	wait_idle($node, 'work');
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id), count(DISTINCT payload) FROM app.effects WHERE payload ->> 'run' = '$run'"),
		"$messages|$messages|$messages", "$name: each once");
	outbox_is_empty($node, $name);
	my $pids = 0;
	# Each client's announcements, numbered: three for each of its transactions.
	my %numbers = map { split /\|/ } split /\n/, $node->safe_psql('postgres', <<"SQL");
SELECT id, format('%s %s', payload -> 'c', 3 * abs(n) - CASE WHEN n > 0 THEN 2 ELSE 0 END)
  FROM stored, CAST(payload ->> 'n' AS integer) AS n WHERE payload ->> 'run' = '$run'
SQL
	my @expected = map { my $client = $_; map { "$client $_" } 1 .. 3 * $transactions } 0 .. $clients - 1;
	for my $number (0 .. $#listeners)
	{
		my %by_client;
		for (heard_by($node, $listeners[$number]))
		{
			my ($channel, $payload, $pid) = @$_;
			$pids++ if $pid != $announcer;
			my $text = $payload =~ /"message_id": ([0-9]+)/ ? $numbers{$1} : $payload =~ /^$run ([0-9]+) ([0-9]+) x+$/ ? "$1 " . (3 * $2 - 1) : undef;
			$text //= "- $channel $payload";
			my ($client) = split / /, $text;
			push @{ $by_client{$client} }, $text;
		}
		# Nothing twice, nothing lost, nothing else, in order.
		is(join("\n", map { @{ $by_client{$_} } } sort { $a cmp $b } keys %by_client), join("\n", @expected), "$name: listener $number hears each client's in order");
	}
	return $pids;
}

# Nothing but the outbox brings messages to the dispatcher while nobody can scan the log.
sub without_scan
{
	my ($name, $transactions, $body) = @_;
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; LOCK TABLE herald_internal.log_2 IN ACCESS EXCLUSIVE MODE;');
	$body->();
	wait_until($node, "SELECT count(*) >= 2 * $clients * $transactions FROM app.effects WHERE payload ->> 'run' = '$run'", "$name: handled without a scan");
	end_sessions($session);
	return;
}

# What is normal. A role's share is 768 cells, and a transaction takes 26 at most: so all of it finds room, also where
# nobody takes anything out meanwhile.
sub normal
{
	my ($name) = @_;
	my $transactions = 3;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $round (1 .. 2)
	{
		my $refused = refusals($node);
		without_scan($name, $transactions, sub {
			my ($pgbench, $out, $err) = start_flood($transactions);
			$pgbench->finish;
			like($$out, qr/actually processed: @{[ $clients * $transactions ]}\//, "$name: published") or diag($$err);
		});
		is(arrives($name, $transactions), 0, "$name: the announcer announces all");
		is(refusals($node), $refused, "$name: everything finds room");
	}
	return;
}

normal('at first');

# Held for as long as it takes to publish all: nearly everything finds no room.
my $held = hold_consumers($node);
my ($pgbench, $out, $err) = start_flood(100);
$pgbench->finish;
like($$out, qr/actually processed: @{[ $clients * 100 ]}\//, 'publishers do not wait for consumers') or diag($$err);
end_sessions($held);
cmp_ok(arrives('full', 100), '>', 1000, 'publishers announce most');
normal('after that');

# Held again and again while publishers go on, for the first time before they begin: on a slow machine that may be all.
my $stored = $node->safe_psql('postgres', 'SELECT count(*) FROM stored');
my $all = $stored + 2 * $clients * 200;
my $rounds = 0;
$held = hold_consumers($node);
($pgbench, $out, $err) = start_flood(200, '--rate=500');
while (1)
{
	$node->poll_query_until('postgres', "SELECT count(*) >= $stored + 500 FROM stored") or die "publishers wait\n";
	end_sessions($held);
	$node->poll_query_until('postgres', "SELECT count(*) > $stored + 300 FROM app.effects") or die "the dispatcher does not go on\n";
	$rounds++;
	$stored = $node->safe_psql('postgres', 'SELECT count(*) FROM stored');
	last if $stored >= $all - 600;
	$held = hold_consumers($node);
}
note "held $rounds times";
$pgbench->finish;
like($$out, qr/actually processed: @{[ $clients * 200 ]}\//, 'all are published') or diag($$err);
cmp_ok(arrives('held again and again', 200), '>', 0, 'publishers announce some');
normal('in the end');

handled_once($node, 'work', [ split /\n/, $node->safe_psql('postgres', 'SELECT id FROM stored') ]);
failures_complete($node, 'work', 0);
statistics_true($node, 'work', 'jobs');
end_sessions(@listeners);
clean_log($node);

done_testing();
