# A publisher that ends while it commits. Up to the commit record nothing was published; from there on
# everything was. In between its part of the outbox is filled and not yet linked: whatever happens then, it is
# given back, or found by a scan.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use IPC::Run ();
use PostgreSQL::Test::Utils;

my $node = start_herald('publisher_ends', init => { allows_streaming => 1 }, conf => <<'CONF');
synchronous_standby_names = 'missing'
synchronous_commit = local
herald.outbox_size = 64kB
herald.sweep_interval = 1h
CONF
$node->safe_psql('postgres', q(
	CREATE TABLE public.written (what text);
	CREATE TABLE public.skew (i integer PRIMARY KEY, n integer);
	INSERT INTO public.skew SELECT i, 0 FROM generate_series(1, 2) AS i;
	SELECT herald.create_channel('jobs', announce => 'payload');
	SELECT herald.create_channel('prices', durable => false);
	SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app')));
my $listener = listen_to($node, 'jobs', 'prices');
my @ids;

# Some hundred cells of the outbox, which has less than 1000 in all.
my $lost = q(SELECT count(*) FROM herald.publish_batch('jobs', array_fill('{"what": "lost"}'::jsonb, '{50}'));
	SELECT count(herald.notify('prices', 'lost ' || i)) FROM generate_series(1, 50) AS i;);

sub nothing_of_it
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	outbox_is_empty($node, $name);
	is($node->safe_psql('postgres', q(SELECT count(*) FROM stored WHERE payload ->> 'what' = 'lost')), '0', "$name: nothing is stored");
	push @ids, publish_many($node, 'jobs', 1, payload => '{"what": "marker"}');
	wait_for_effects($node, 'work', scalar @ids, name => "$name: others are handled");
	is_deeply([ heard_payloads(heard_by($node, $listener)) ], ['{"what": "marker"}'], "$name: nothing is announced");
	return;
}

# Sessions that have filled their part, and wait for the lock of NOTIFY. A foreign session has it.
sub waiting_publishers
{
	my ($count) = @_;
	my ($foreign) = stuck_publisher($node, q(BEGIN; INSERT INTO public.written VALUES ('x'); NOTIFY others; COMMIT;));
	my @waiting;
	for (1 .. $count)
	{
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = $session->query('SELECT pg_backend_pid();');
		$session->query_until(qr/begun/, "\\echo begun\nBEGIN; $lost NOTIFY others; COMMIT;\n");
		wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock'", 'a publisher waits just before its commit');
		push @waiting, [ $session, $pid ];
	}
	return ($foreign, @waiting);
}

for my $how ('pg_terminate_backend', 'pg_cancel_backend')
{
	for my $round (1 .. 3)
	{
		my ($foreign, @waiting) = waiting_publishers(2);
		ok(outbox_is_used($node), 'there is something of theirs in the outbox');
		$node->safe_psql('postgres', "SELECT $how($_->[1])") for @waiting;
		wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND wait_event_type = 'Lock'", "$how: they don't wait any more");
		$node->safe_psql('postgres', q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'));
		end_sessions($foreign, map { $_->[0] } @waiting);
		nothing_of_it("$how before the commit record");
	}
}

# Errors that come only after the outbox was filled.
$node->safe_psql('postgres', q(BEGIN; SELECT herald.publish('undeclared', '1'); PREPARE TRANSACTION 'taken'));
for my $case (
	[ 'NOTIFY, then PREPARE', '0A000', 'NOTIFY others', q(PREPARE TRANSACTION 'p') ],
	[ 'a temporary table, then PREPARE', '0A000', 'CREATE TEMP TABLE t ()', q(PREPARE TRANSACTION 'p') ],
	[ 'a name that is taken', '42710', 'SELECT 1', q(PREPARE TRANSACTION 'taken') ])
{
	my ($name, $state, $statement, $end) = @$case;
	sqlstate_is($node, "BEGIN; $lost $statement; $end", $state, "$name: refused") for 1 .. 3;
}
$node->safe_psql('postgres', q(ROLLBACK PREPARED 'taken'));
nothing_of_it('PREPARE fails');
for my $round (1 .. 3)
{
	my @sessions = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
	for my $i (1, 2)
	{
		$sessions[ $i - 1 ]->query("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(n) FROM public.skew WHERE i = $i;");
		$sessions[ $i - 1 ]->query($lost) if $i == 2;
	}
	$sessions[0]->query('UPDATE public.skew SET n = n + 1 WHERE i = 2;');
	$sessions[1]->query('UPDATE public.skew SET n = n + 1 WHERE i = 1;');
	$sessions[0]->query('COMMIT;');
	$sessions[1]->{stderr} = '';
	$sessions[1]->query('COMMIT;');
	like($sessions[1]->{stderr}, qr/could not serialize access/, 'a COMMIT fails to serialize');
	end_sessions(@sessions);
}
nothing_of_it('a serialization failure');

# kill -9 in the same moment: all processes restart.
my ($foreign, $waiting) = waiting_publishers(1);
crash_by($node, $waiting->[1]);
end_sessions($foreign, $waiting->[0], $listener);
$listener = listen_to($node, 'jobs', 'prices');
nothing_of_it('kill -9 before the commit record');

# After the commit record: the message is published. First where the publisher hangs behind the standby.
for my $round (1 .. 2)
{
	my @stuck = map { [ stuck_publisher($node, q(SELECT herald.publish('jobs', '{"what": "kept"}');)) ] } 1 .. 3;
	signal_process('KILL', $stuck[0]->[1]);
	end_sessions($listener, map { $_->[0] } @stuck);
	$node->poll_query_until('postgres', 'SELECT true');
	wait_until($node, "SELECT count(*) = 3 * $round FROM app.effects WHERE payload ->> 'what' = 'kept'", 'kill -9 after the commit record: handled');
	$listener = listen_to($node, 'jobs', 'prices');
	nothing_of_it('kill -9 after the commit record');
}
push @ids, split /\n/, $node->safe_psql('postgres', q(SELECT id FROM stored WHERE payload ->> 'what' = 'kept'));

# Then with a debugger, which stops the publisher where nobody can make it wait: its commit is on disk, or even
# to be seen by others, and not linked. gdb waits for the test by a named pipe.
SKIP:
{
	my ($gdb) = grep { -x } map { "$_/gdb" } split /:/, $ENV{PATH};
	skip 'there is no gdb', 1 unless defined $gdb;

	for my $case ([ 'not yet visible', [], 0, 'KILL' ], [ 'visible', [ '-ex', 'finish' ], 1, 'KILL' ], [ 'visible', [ '-ex', 'finish' ], 1, undef ])
	{
		my ($name, $commands, $visible, $signal) = @$case;
		my $pipe = "${PostgreSQL::Test::Utils::tmp_check}/publisher_ends";
		system('mkfifo', $pipe) == 0 or die "mkfifo: $!\n";
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = $session->query('SELECT pg_backend_pid();');
		my ($out, $err) = ('', '');
		my $debugger = IPC::Run::start([ $gdb, '-nx', '-batch', '-p', $pid, '-ex', 'handle all nostop noprint pass',
				'-ex', 'break ProcArrayEndTransaction', '-ex', 'echo attached\n', '-ex', 'continue', @$commands,
				'-ex', 'echo stopped\n', '-ex', "shell cat $pipe", '-ex', 'detach' ],
			'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60));
		$debugger->pump until $out =~ /attached/ || !$debugger->pumpable;
		$session->query_until(qr/begun/, "\\echo begun\nSELECT herald.publish('jobs', '{\"what\": \"stopped\"}');\n");
		$debugger->pump until $out =~ /stopped/ || !$debugger->pumpable;
		diag("gdb: $out$err") unless like($out, qr/^(Thread.*hit )?Breakpoint 1, /m, "$name: a publisher is stopped in its commit");
		my ($id) = $node->safe_psql('postgres', q(SELECT herald_internal.next_id('message') - 1));
		is($node->safe_psql('postgres', "SELECT count(*) FROM stored WHERE id = $id"), $visible, "$name: others see its message or don't");
		if (defined $signal)
		{
			signal_process($signal, $pid);
		}
		elsif ($visible)
		{
			# A scan finds the message, before its publisher says so.
			ok(end_process($node, 'TERM', 'dispatcher'), 'there is a new dispatcher');
			wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id", "$name: a scan finds it");
		}
		append_to_file($pipe, "\n");
		$debugger->finish;
		end_sessions($session);
		unlink $pipe;
		$node->poll_query_until('postgres', 'SELECT true');
		wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $id", "$name: its message is handled");
		push @ids, $id;
		wait_idle($node, 'work');
		outbox_is_empty($node, $name);
	}
}
handled_once($node, 'work', \@ids);
failures_complete($node, 'work', 0);
end_sessions($listener);
clean_log($node, signals => '9');

done_testing();
