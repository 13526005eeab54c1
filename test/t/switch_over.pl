# Who announces changes under load: the extension was just created and its announcer is not there yet, the
# database is taken out of herald.databases and put back, the launcher and the announcer end, herald.enabled is
# switched. Whatever the publishers and the announcer do: nothing is lost, nothing is heard twice, and what each
# session published comes in its order.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use IPC::Run ();
use PostgreSQL::Test::Utils;

my $node = start_node('switch_over', conf => "herald.sweep_interval = 1h\n");
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $clients = 4;
my $run = 0;

# Publishers of announcements only. Each numbers what it sends; some of it is sent by two in one transaction.
my $script = "${PostgreSQL::Test::Utils::tmp_check}/switch_over.sql";
append_to_file($script, <<'SQL');
\set n :n + 1
SELECT herald.notify('prices', :run || ' ' || :client_id || ' ' || :n);
\set n :n + 1
BEGIN;
SELECT herald.publish('rates', to_jsonb(:run || ' ' || :client_id || ' ' || :n));
\set n :n + 1
SELECT herald.notify('prices', :run || ' ' || :client_id || ' ' || :n);
COMMIT;
SQL

sub start_publishers
{
	my ($transactions, @databases) = @_;
	$run++;
	return map {
		my ($out, $err) = ('', '');
		my $pgbench = IPC::Run::start(
			[ $node->installed_command('pgbench'), '-n', '-c', $clients, '-t', $transactions, '--rate=200', '-D', 'n=0', '-D', "run=$run", '-f', $script, $node->connstr($_) ],
			'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(100));
		{ database => $_, run => $pgbench, out => \$out, err => \$err, transactions => $transactions };
	} @databases;
}

sub still_running
{
	$_->{run}->pump_nb for grep { $_->{run}->pumpable } @_;
	return grep { $_->{run}->pumpable } @_;
}

# How many announcements were published by this run's publishers up to now: statistics count at each commit.
sub published
{
	my ($database) = @_;
	return $node->safe_psql($database, "SELECT COALESCE(sum(published), 0) FROM herald.channel_stats WHERE channel IN ('prices', 'rates')");
}

sub some_more
{
	my ($publishers) = @_;
	my ($database, $transactions) = @{ $publishers->[0] }{ 'database', 'transactions' };
	my $now = published($database);
	my $more = 30 + int(rand(60));
	while (still_running(@$publishers))
	{
		return 1 if published($database) >= $now + $more;
	}
	return 0;
}

my %listeners;

sub all_arrives
{
	my ($name, @publishers) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $publisher (@publishers)
	{
		my ($database, $transactions) = @$publisher{ 'database', 'transactions' };
		$publisher->{run}->finish;
		like(${ $publisher->{out} }, qr/actually processed: @{[ $clients * $transactions ]}\//, "$name: all are published in $database")
		  or diag(${ $publisher->{err} });
		wait_until($node, q(SELECT ok FROM herald.status() WHERE name = 'announcer'), "$name: $database has its announcer", database => $database);
		wait_until($node, q(SELECT bool_and(announced = published) FROM herald.channel_stats WHERE channel IN ('prices', 'rates')),
			"$name: all are announced in $database", database => $database);
		my (%times, %last);
		my $inversions = 0;
		for (heard_by($node, $listeners{$database}, $database))
		{
			my $text = $_->[1] =~ s/"//gr;
			$times{$text}++;
			my ($client, $n) = $text =~ /^[0-9]+ ([0-9]+) ([0-9]+)$/;
			$inversions++ if $n < ($last{$client} // 0);
			$last{$client} = $n;
		}
		is_deeply([ grep { $times{$_} > 1 } sort keys %times ], [], "$name: nothing is heard twice in $database");
		is_deeply([ grep { !delete $times{$_} } map { my $client = $_; map { "$run $client $_" } 1 .. 3 * $transactions } 0 .. $clients - 1 ], [],
			"$name: nothing is lost in $database");
		is_deeply([ keys %times ], [], "$name: nothing else is heard in $database");
		is($inversions, 0, "$name: each session's are in order in $database");
	}
	return;
}

# The extension was just created: the launcher cannot start the announcer before publishers have begun.
for my $database ('postgres', 'other')
{
	my $launcher = pid_of($node, 'launcher');
	stop_idle($node, $launcher);
	$node->safe_psql($database, q(CREATE EXTENSION pg_herald; SELECT herald.create_channel('rates', durable => false)));
	$listeners{$database} = listen_in($node, $database, 'prices', 'rates');
	my @publishers = start_publishers(100, $database);
	some_more(\@publishers);
	is($node->safe_psql($database, q(SELECT value FROM herald.status() WHERE name = 'announcer')), 'not running', "there is no announcer in $database yet");
	signal_process('CONT', $launcher);
	all_arrives('just created', @publishers);
}

# The databases that are served change, and both have publishers.
my @publishers = start_publishers(250, 'postgres', 'other');
my @served = ('postgres', 'other', 'postgres, other', 'other', '', 'postgres');
my $changes = 0;
for my $databases (@served)
{
	last unless some_more(\@publishers);
	reload_with($node, 'herald.databases' => $databases);
	$changes++;
}
cmp_ok($changes, '>', 3, "herald.databases was changed $changes times");
reload_with($node, 'herald.databases' => undef);
all_arrives('herald.databases', @publishers);

# Announcer, launcher, and the switch for all, in any order.
@publishers = start_publishers(250, 'postgres');
my $times = 0;
my $on = 1;
my @faults = (
	sub { signal_process('TERM', $_) for pids_of($node, 'announcer', 'postgres') },
	sub { signal_process('TERM', $_) for pids_of($node, 'launcher') },
	sub { $on = !$on; reload_with($node, 'herald.enabled' => $on ? 'on' : 'off') },
	sub { signal_process('TERM', $_) for pids_of($node, 'announcer') },
	sub { $on = !$on; reload_with($node, 'herald.enabled' => $on ? 'on' : 'off') });
while (some_more(\@publishers))
{
	$faults[ $times++ % @faults ]->();
}
cmp_ok($times, '>', 4, "$times faults");
reload_with($node, 'herald.enabled' => undef);
all_arrives('announcer, launcher, herald.enabled', @publishers);

end_sessions(values %listeners);
clean_log($node);

done_testing();
