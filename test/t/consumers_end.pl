# The processes behind the outbox end at any moment under load, again and again: terminated, or killed so that
# the server restarts all its processes. Tasks: nothing lost, nothing done twice. Announcements: each is heard
# once when a process is terminated, since the announcer looks at no signal between the commit that announces
# and the removal from the outbox; in a crash they may be lost, as NOTIFYs are, and are never heard twice.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use IPC::Run ();
use PostgreSQL::Test::Utils;

seed_random();

my $node = start_herald('consumers', conf => "herald.sweep_interval = 1h\n");
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'pointer');
	SELECT herald.create_channel('prices', durable => false);
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_concurrency => 8)));
my $listener = listen_to($node, 'jobs', 'prices');

my $clients = 4;
my $transactions = 150;  # of each client and epoch
my $epochs = 4;
my $script = "${PostgreSQL::Test::Utils::tmp_check}/consumers_end.sql";
append_to_file($script, <<'SQL');
\set n :n + 1
SELECT herald.publish('jobs', jsonb_build_object('epoch', :epoch, 'client', :client_id, 'n', :n));
SELECT herald.notify('prices', :epoch || ' ' || :client_id || ' ' || :n);
SQL

# Waits until some more messages are stored: a random moment of the load.
sub some_more
{
	my ($limit) = @_;
	my $stored = $node->safe_psql('postgres', 'SELECT count(*) FROM stored');
	my $target = $stored + 20 + int(rand(60));
	$target = $limit if $target > $limit;
	return $node->poll_query_until('postgres', "SELECT count(*) >= $target FROM stored");
}

my %faults = (
	'SIGTERM' => sub { signal_process('TERM', $_[0]) },
	'pg_terminate_backend' => sub { $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0])") },
);
my @targets = (['dispatcher'], ['announcer'], [ 'dispatcher', 'announcer' ], ['dispatcher'], ['announcer'], ['launcher'], ['worker']);
my @crash = ('dispatcher', 'announcer', 'launcher');
my @acknowledged;

for my $epoch (1 .. $epochs)
{
	# Terminated under load.
	my ($out, $err) = ('', '');
	my $limit = $node->safe_psql('postgres', 'SELECT count(*) FROM stored') + $clients * $transactions;
	my $pgbench = IPC::Run::start(
		[ $node->installed_command('pgbench'), '-n', '-c', $clients, '-j', 2, '-t', $transactions, '--rate=300', '-D', 'n=0', '-D', "epoch=$epoch",
			'-f', $script, $node->connstr('postgres') ],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(100));
	my @done;
	for my $round (1 .. 4)
	{
		some_more($limit);
		my $how = (sort keys %faults)[ int(rand(2)) ];
		for my $kind (@{ $targets[ int(rand(@targets)) ] })
		{
			my @pids = pids_of($node, $kind);
			$faults{$how}->($pids[ int(rand(@pids)) ]) if @pids;
			push @done, "$kind: $how" if @pids;
		}
	}
	$pgbench->finish;
	like($out, qr/actually processed: @{[ $clients * $transactions ]}\//, "epoch $epoch: all are published (" . join(', ', @done) . ')') or diag($err);
	wait_until($node, "SELECT bool_and(ok) FROM herald.status() WHERE name IN ('dispatcher', 'announcer')", 'dispatcher and announcer run again');
	my $total = $clients * $transactions * $epoch;
	wait_until($node, "SELECT count(*) >= $clients * $transactions FROM app.effects WHERE payload ->> 'epoch' = '$epoch'", "epoch $epoch: all are handled");
	# Before that what is published may overtake what a new announcer has found.
	wait_until($node, "SELECT bool_and(announced >= published) FROM herald.channel_stats WHERE channel IN ('jobs', 'prices')", "epoch $epoch: all are announced");
	outbox_is_empty($node, "epoch $epoch");
	my @heard = heard_by($node, $listener);
	my %times;
	$times{"$_->[0] $_->[1]"}++ for @heard;
	my @twice = grep { $times{$_} > 1 } sort keys %times;
	is("@twice", '', "epoch $epoch: nothing is heard twice");
	my @expected = map { my $client = $_; map { "prices $epoch $client $_" } 1 .. $transactions } 0 .. $clients - 1;
	push @expected, split /\n/, $node->safe_psql('postgres',
		"SELECT format('jobs {\"herald\": {\"message_id\": %s', id) FROM stored WHERE payload ->> 'epoch' = '$epoch'");
	my %heard = map { s/, "bytes".*//r => 1 } keys %times;
	is_deeply([ grep { !$heard{$_} } @expected ], [], "epoch $epoch: nothing is lost");
	is(scalar @heard, scalar @expected, "epoch $epoch: nothing else is heard");

	# Killed: who published and was told so, finds it done. Publishers are cut off in their work.
	my $victim = $crash[ int(rand(@crash)) ];
	my @publishers = map {
		my $file = "${PostgreSQL::Test::Utils::tmp_check}/consumers_end_${epoch}_$_";
		append_to_file("$file.sql", join '', map { "SELECT herald.publish('jobs', '{}');\nSELECT 'e', herald.notify('prices', 'x ' || $_);\n" } $_ * 100_000 .. $_ * 100_000 + 20_000);
		my $run = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-f', "$file.sql" ],
			'<', \undef, '>', $file, '2>', '/dev/null');
		[ $run, $file ];
	} 1 .. 2;
	some_more(1e9);
	%times = ();
	$times{ $_->[1] }++ for heard_now($listener);
	signal_process('KILL', pid_of($node, $victim));
	$_->[0]->finish for @publishers;
	push @acknowledged, map { grep { /^[0-9]+$/ } split /\n/, slurp_file($_->[1]) } @publishers;
	is_deeply([ grep { $times{$_} > 1 } keys %times ], [], "$victim killed: what was heard before was heard once");
	end_sessions($listener);
	$node->poll_query_until('postgres', 'SELECT true');
	$listener = listen_to($node, 'jobs', 'prices');
	wait_until($node, "SELECT bool_and(ok) FROM herald.status() WHERE name IN ('dispatcher', 'announcer')", "$victim killed: running again");
	wait_until($node, 'SELECT count(*) = (SELECT count(*) FROM stored) FROM app.effects', "$victim killed: all that is stored is handled");
	is_deeply([ grep { $times{ $_->[1] } } heard_by($node, $listener) ], [], "$victim killed: nothing of that is heard again");
}
# Where there is a debugger: the announcer is told to end when its commit is on disk, and what it has announced is
# still in the outbox.
SKIP:
{
	my ($gdb) = grep { -x } map { "$_/gdb" } split /:/, $ENV{PATH};
	skip 'there is no gdb', 1 unless defined $gdb;
	for my $round (1 .. 2)
	{
		my $announcer = pid_of($node, 'announcer');
		my ($out, $err) = ('', '');
		my $debugger = IPC::Run::start([ $gdb, '-nx', '-batch', '-p', $announcer, '-ex', 'handle all nostop noprint pass',
				'-ex', 'break ProcArrayEndTransaction', '-ex', 'echo attached\n', '-ex', 'continue',
				'-ex', "shell kill -TERM $announcer", '-ex', 'detach' ],
			'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60));
		$debugger->pump until $out =~ /attached/ || !$debugger->pumpable;
		$node->safe_psql('postgres', "SELECT herald.notify('prices', 'stopped $round')");
		$debugger->finish;
		diag("gdb: $out$err") unless like($out, qr/^(Thread.*hit )?Breakpoint 1, /m, 'the announcer is stopped in its commit');
		ok(wait_for_new($node, 'announcer', $announcer), 'and ends');
		is_deeply([ heard_payloads(heard_by($node, $listener)) ], ["stopped $round"], 'what it announced is heard once');
		outbox_is_empty($node, 'the next announcer');
	}
}
wait_idle($node, 'work');
cmp_ok(scalar @acknowledged, '>', 20, scalar(@acknowledged) . ' were acknowledged just before crashes');
handled_once($node, 'work', [ @acknowledged, split /\n/, $node->safe_psql('postgres', 'SELECT id FROM stored') ]);
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.failure_log)), '0', 'nobody is charged');
end_sessions($listener);
clean_log($node, signals => '9');

done_testing();
