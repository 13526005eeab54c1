# Many prepared transactions at once, committed and rolled back by other sessions in any order, also after a
# restart: what was committed is handled and announced once, the rest leaves nothing behind. After a restart
# nothing of them is announced, as documented.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use IPC::Run ();
use List::Util qw(shuffle);

my $seed = $ENV{HERALD_TEST_SEED} // int(rand(1_000_000));
srand($seed);
note "HERALD_TEST_SEED=$seed";

my $node = start_herald('prepared', conf => <<'CONF');
max_prepared_transactions = 60
herald.outbox_size = 256kB
herald.sweep_interval = 1h
CONF
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'payload');
	SELECT herald.create_channel('prices', durable => false);
	SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app')));
my $listener = listen_to($node, 'jobs', 'prices');

# Numbered transactions, each of one of these kinds. What is between its savepoints is never published.
my @kinds = (
	sub { "SELECT herald.publish('jobs', '{\"n\": $_[0]}');" },
	sub { "SELECT herald.notify('prices', 'p $_[0]');" },
	sub { "SELECT herald.publish('jobs', '{\"n\": $_[0]}'), herald.notify('prices', 'p $_[0]');" },
	sub { "SELECT herald.publish('jobs', '{\"n\": $_[0]}'); SAVEPOINT s; SELECT herald.publish('jobs', '{\"n\": -1}'), herald.notify('prices', 'no'); ROLLBACK TO s;" },
	sub { "SELECT count(*) FROM herald.publish_batch('jobs', (SELECT array_agg(jsonb_build_object('n', $_[0], 'i', i)) FROM generate_series(1, 3) AS i)); SELECT herald.notify('prices', 'p $_[0]'), herald.notify('prices', 'p $_[0]');" },
);
my @tasks = (1, 0, 1, 1, 3);
my @announced = (0, 1, 1, 0, 1);
my $number = 0;

# Some psql processes at once, each with its script.
sub run_at_once
{
	my ($name, @scripts) = @_;
	my (@runs, $failed);
	for my $script (@scripts)
	{
		my $err = '';
		push @runs, [ IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', '-' ],
				'<', \$script, '>', '/dev/null', '2>', \$err, IPC::Run::timeout(60)), \$err ];
	}
	for (@runs)
	{
		$_->[0]->finish or $failed .= ${ $_->[1] };
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($failed, undef, $name);
}

sub deal_out
{
	my ($sessions, @statements) = @_;
	my @scripts = ('') x $sessions;
	$scripts[ $_ % $sessions ] .= "$statements[$_]\n" for 0 .. $#statements;
	return @scripts;
}

# Prepares some by 4 sessions; returns [number, kind]s.
sub prepare
{
	my ($count) = @_;
	my @prepared = map { [ ++$number, int(rand(@kinds)) ] } 1 .. $count;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	run_at_once('prepared by 4 sessions', deal_out(4, map { "BEGIN; " . $kinds[ $_->[1] ]->($_->[0]) . " PREPARE TRANSACTION 'g$_->[0]';" } @prepared));
	return @prepared;
}

# Ends them in any order, by 4 sessions, while 2 others publish. Returns those that were committed.
sub end_all
{
	my (@prepared) = @_;
	my @shuffled = shuffle(@prepared);
	my @committed = @shuffled[ 0 .. @shuffled / 2 ];
	my @ends = shuffle((map { "COMMIT PREPARED 'g$_->[0]';" } @committed), (map { "ROLLBACK PREPARED 'g$_->[0]';" } @shuffled[ @shuffled / 2 + 1 .. $#shuffled ]));
	my @others = map { "SELECT herald.publish('jobs', '{\"n\": 0}'), herald.notify('prices', 'p 0');" } 1 .. 40;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	run_at_once('ended by 4 sessions', deal_out(4, @ends), deal_out(2, @others));
	return @committed;
}

# What was handled and what was heard, by number; `heard` is false where it was prepared before a restart.
my %handled = (0 => 0);

sub arrives
{
	my ($name, $heard, @committed) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my (%jobs, %prices);
	$handled{0} += 40;
	$jobs{0} = $prices{0} = 40;
	for (@committed)
	{
		my ($n, $kind) = @$_;
		$handled{$n} = $tasks[$kind] if $tasks[$kind];
		next unless $heard;
		$jobs{$n} = $tasks[$kind] if $tasks[$kind];
		$prices{$n} = 1 if $announced[$kind];
	}
	my $expected = 0;
	$expected += $_ for values %handled;
	wait_until($node, "SELECT count(*) >= $expected FROM app.effects", "$name: handled");
	wait_idle($node, 'work');
	my %seen = map { split /\|/ } split /\n/, $node->safe_psql('postgres', q(SELECT payload ->> 'n', count(*) FROM app.effects GROUP BY 1));
	is_deeply(\%seen, \%handled, "$name: what was committed is handled once, and nothing else");
	outbox_is_empty($node, $name);
	my (%heard_jobs, %heard_prices);
	for (heard_by($node, $listener))
	{
		my ($channel, $payload) = @$_;
		$heard_jobs{$1}++ if $channel eq 'jobs' && $payload =~ /"n": (-?[0-9]+)/;
		$heard_prices{$1}++ if $channel eq 'prices' && $payload =~ /^(?:p )?(.*)$/;
	}
	is_deeply(\%heard_jobs, \%jobs, "$name: stored ones are announced once");
	is_deeply(\%heard_prices, \%prices, "$name: others are announced once");
	return;
}

for my $round (1 .. 3)
{
	arrives("round $round", 1, end_all(prepare(40)));
}

# The announcer and the dispatcher are replaced while they wait: nothing of it is lost.
my @prepared = prepare(20);
end_process($node, 'TERM', $_) for 'dispatcher', 'announcer';
arrives('new consumers', 1, end_all(@prepared));

# Restarts.
for my $mode ('fast', 'immediate', 'kill -9')
{
	@prepared = prepare(20);
	if ($mode eq 'kill -9')
	{
		crash_by($node, pid_of($node, 'dispatcher'));
	}
	else
	{
		$node->stop($mode);
		$node->start;
	}
	end_sessions($listener);
	$listener = listen_to($node, 'jobs', 'prices');
	wait_until($node, "SELECT bool_and(ok) FROM herald.status() WHERE name IN ('dispatcher', 'announcer')", "$mode: running again");
	arrives("restart ($mode)", 0, end_all(@prepared));
}

# Without an announcer they are prepared as well; it announces them when it is there again.
reload_with($node, 'herald.enabled' => 'off');
wait_until($node, q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('pg_herald dispatcher', 'pg_herald announcer')), 'disabled');
@prepared = prepare(20);
my @committed = end_all(@prepared);
reload_with($node, 'herald.enabled' => 'on');
wait_until($node, "SELECT bool_and(ok) FROM herald.status() WHERE name IN ('dispatcher', 'announcer')", 'enabled again');
arrives('disabled', 1, @committed);

# They can take the outbox only until it is full: then PREPARE is refused, and all others go on.
my ($held, $state) = (0, '');
for (1 .. 59)
{
	$state = sqlstate_of($node, "BEGIN; SELECT count(herald.notify('prices', i::text)) FROM generate_series(1, 200) AS i; PREPARE TRANSACTION 'f$_'");
	last if $state ne '00000';
	$held++;
}
is($state, '53400', "PREPARE is refused when the outbox is full, after $held");
run_at_once('others publish', deal_out(4, map { "SELECT herald.publish('jobs', '{\"n\": 0}'), herald.notify('prices', 'p 0');" } 1 .. 40));
$node->safe_psql('postgres', "ROLLBACK PREPARED '$_'")
  for split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');
arrives('after a full outbox', 1);
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is left prepared');
handled_once($node, 'work', [ split /\n/, $node->safe_psql('postgres', 'SELECT id FROM stored') ]);
failures_complete($node, 'work', 0);
end_sessions($listener);
clean_log($node, signals => '9');

done_testing();
