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

my $node = start_node('switch_over', conf => "herald.sweep_interval = 1h\n");
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $clients = 4;
my $run = 0;
seed_random();

# Publishers of announcements only. Each numbers what it sends; some of it is sent by two in one transaction.
my $script = <<'SQL';
\set n :n + 1
SELECT herald.notify('prices', :run || ' ' || :client_id || ' ' || :n);
\set n :n + 1
BEGIN;
SELECT herald.publish('rates', to_jsonb(:run || ' ' || :client_id || ' ' || :n));
\set n :n + 1
SELECT herald.notify('prices', :run || ' ' || :client_id || ' ' || :n);
COMMIT;
SQL

sub start
{
	$run++;
	return map { start_publishers($node, $script, database => $_, clients => $clients, run => $run, pause => 20_000) } @_;
}

# Statistics count at each commit.
sub some_more
{
	my ($publishers) = @_;
	return publishers_go_on($publishers, q(SELECT COALESCE(sum(published), 0) FROM herald.channel_stats WHERE channel IN ('prices', 'rates')), 30 + int(rand(60)));
}

my %listeners;

sub all_arrives
{
	my ($name, @publishers) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $publisher (@publishers)
	{
		my $database = $publisher->{database};
		my %published = end_publishers($publisher, "$name, in $database");
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
		is_deeply([ grep { !delete $times{$_} } map { my $client = $_; map { "$run $client $_" } 1 .. $published{$client} } sort keys %published ], [],
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
	my ($publisher) = start($database);
	some_more($publisher);
	is($node->safe_psql($database, q(SELECT value FROM herald.status() WHERE name = 'announcer')), 'not running', "there is no announcer in $database yet");
	signal_process('CONT', $launcher);
	pid_of($node, 'announcer', $database);
	some_more($publisher);
	all_arrives('just created', $publisher);
}

# The databases that are served change, and both have publishers.
my @publishers = start('postgres', 'other');
for my $databases ('postgres', 'other', 'postgres, other', 'other', '', 'postgres')
{
	some_more($_) for @publishers;
	reload_with($node, 'herald.databases' => $databases);
}
some_more($_) for @publishers;
reload_with($node, 'herald.databases' => undef);
all_arrives('herald.databases', @publishers);

# Announcer, launcher, and the switch for all, in any order.
@publishers = start('postgres');
my $on = 1;
my @faults = (
	sub { signal_process('TERM', $_) for pids_of($node, 'announcer', 'postgres') },
	sub { signal_process('TERM', $_) for pids_of($node, 'launcher') },
	sub { $on = !$on; reload_with($node, 'herald.enabled' => $on ? 'on' : 'off') },
	sub { signal_process('TERM', $_) for pids_of($node, 'announcer') },
	sub { $on = !$on; reload_with($node, 'herald.enabled' => $on ? 'on' : 'off') });
for my $times (1 .. 20)
{
	some_more($publishers[0]);
	$faults[ ($times - 1) % @faults ]->();
}
reload_with($node, 'herald.enabled' => undef);
all_arrives('announcer, launcher, herald.enabled', @publishers);

end_sessions(values %listeners);
clean_log($node);

done_testing();
