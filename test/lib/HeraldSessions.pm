# Sessions that a test keeps open: listeners that tell what they heard and from whom, and publishers that
# hang in their commit because a synchronous standby is missing.

package HeraldSessions;

use strict;
use warnings;
use Exporter 'import';
use HeraldTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(listen_to listen_in heard_by heard_now heard_payloads heard_texts hears announced_of wait_announced outbox_is_empty outbox_is_used refusals stuck_publisher standby_is hold_consumers waits_for_work stop_idle crash_by end_sessions run_pgbench start_publishers publishers_go_on end_publishers);

my $ends = 0;
my $scripts = 0;
my $runs = 0;

# A session that LISTENs to the channels.
sub listen_to
{
	my ($node, @channels) = @_;
	return listen_in($node, 'postgres', @channels);
}

sub listen_in
{
	my ($node, $database, @channels) = @_;
	my $session = $node->background_psql($database);
	$session->set_query_timer_restart;
	$session->query_safe(join ' ', map { "LISTEN $_;" } @channels, 'ends');
	return $session;
}

# What was heard since the last time, as [channel, payload, pid], up to a message that is published now. Who
# tests what comes late calls wait_announced first: a publisher's own NOTIFY overtakes what the announcer has.
sub heard_by
{
	my ($node, $session, $database) = @_;
	my @heard;
	my $end = 'end ' . ++$ends;
	$node->safe_psql($database // 'postgres', "SELECT herald.notify('ends', '$end')");
	my $began = time;
	while (time - $began < $HeraldTest::patience)
	{
		push @heard, heard_now($session);
		return grep { $_->[0] ne 'ends' } @heard if grep { $_->[1] eq $end } @heard;
	}
	die "a listener did not hear the end\n";
}

# The same, without waiting for anything.
sub heard_now
{
	my ($session) = @_;
	my @heard;
	for (split /\n/, $session->query("SELECT 'heard'"))
	{
		push @heard, [ $1, $2 // '', $3 ]
		  if /^Asynchronous notification "([^"]+)"(?: with payload "(.*)")? received from server process with PID ([0-9]+)\.$/;
	}
	return @heard;
}

# What was heard since the last time, as channel:payload.
sub heard_texts
{
	my ($node, $session) = @_;
	return map { "$_->[0]:$_->[1]" } heard_by($node, $session);
}

# Passes where exactly that was heard since the last time, in that order.
sub hears
{
	my ($node, $session, $name, @expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", heard_texts($node, $session)), join("\n", @expected), $name);
}

sub heard_payloads { return map { $_->[1] } @_ }

sub announced_of
{
	my ($node, @channels) = @_;
	my $list = join ',', map { "'$_'" } @channels;
	return $node->safe_psql('postgres', "SELECT COALESCE(sum(announced), 0) FROM herald.channel_stats WHERE channel IN ($list)");
}

sub wait_announced
{
	my ($node, $count, $name, @channels) = @_;
	my $list = join ',', map { "'$_'" } @channels;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, "SELECT sum(announced) >= $count FROM herald.channel_stats WHERE channel IN ($list)", $name, seconds => 60);
}

# All that was put into the outbox has been taken out again, or given back.
sub outbox_is_empty
{
	my ($node, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, q(SELECT value LIKE '0 \% in use%' FROM herald.status() WHERE name = 'outbox'), "$name: the outbox is empty");
}

sub outbox_is_used
{
	my ($node) = @_;
	return $node->safe_psql('postgres', q(SELECT value FROM herald.status() WHERE name = 'outbox')) !~ /^0 % in use/;
}

# How often something found no room in the outbox.
sub refusals
{
	my ($node) = @_;
	my ($times) = $node->safe_psql('postgres', q(SELECT value FROM herald.status() WHERE name = 'outbox')) =~ /no room ([0-9]+) times/;
	return $times;
}

# A session whose statement hangs in its commit. Returns it and its pid.
sub stuck_publisher
{
	my ($node, $statement) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query('SELECT pg_backend_pid();');
	$session->query_until(qr/begun/, "SET synchronous_commit = on;\n\\echo begun\n$statement\n");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'SyncRep'", 'a session hangs in its commit');
	return ($session, $pid);
}

# Stops announcer and dispatcher, if there is one, of the database postgres where they wait for work. They go on when the result, which can be ended
# like a session, is ended.
sub hold_consumers
{
	my ($node) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @pids = (pid_of($node, 'announcer', 'postgres'), pids_of($node, 'dispatcher', 'postgres'));
	stop_idle($node, $_) for @pids;
	return bless \@pids, 'HeraldSessions::Held';
}

sub HeraldSessions::Held::quit
{
	my ($pids) = @_;
	signal_process('CONT', $_) for @$pids;
	return;
}

# Passes when a process waits for work. A new announcer is shown, and status() content, before it has looked around:
# until then publishers announce by NOTIFYs of their own.
sub waits_for_work
{
	my ($node, $pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Extension'", 'it waits for work');
}

# Stops a process by SIGSTOP when it waits for work: elsewhere it may keep a lock that others want.
sub stop_idle
{
	my ($node, $pid) = @_;
	my $idle = sub {
		my ($out, $timed_out) = ('');
		$node->psql('postgres', "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid", stdout => \$out, timeout => 10, timed_out => \$timed_out);
		return $out eq 'Extension';
	};
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for('it waits for work, and is stopped', sub {
		return 0 unless $idle->();
		signal_process('STOP', $pid);
		# It may have gone on before the signal came.
		return 1 if $idle->();
		signal_process('CONT', $pid);
		return 0;
	});
}

# Kills processes outright and returns when the server has started again. That it answers says nothing: it may do so
# before it has noticed.
sub crash_by
{
	my ($node, @pids) = @_;
	my $launcher = pid_of($node, 'launcher');
	signal_process('KILL', $_) for @pids;
	return $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $launcher") || die "no restart\n";
}

# Ends sessions, also those whose connection and psql are gone.
sub end_sessions
{
	for (@_)
	{
		eval { $_->quit; 1 } or $_->{run}->kill_kill;
	}
	return;
}

# Names a standby that commits wait for, or '' for none. It is the checkpointer that says so to the others, when it has
# read the configuration; a checkpoint comes after that.
sub standby_is
{
	my ($node, $name) = @_;
	reload_with($node, synchronous_standby_names => $name);
	$node->poll_query_until('postgres', 'SHOW synchronous_standby_names', $name) or die "no reload\n";
	$node->safe_psql('postgres', 'CHECKPOINT');
	return;
}

# Runs scripts (texts) in pgbench to their end. The first argument has pgbench's options.
sub run_pgbench
{
	my ($node, $options, $name, @scripts) = @_;
	my %files = map { 'script' . $scripts++ => $_ } @scripts;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->pgbench("--no-vacuum $options", 0, [qr/number of failed transactions: 0/], [qr/^(?!.*aborted)/s], $name, \%files);
	return;
}

# Starts clients that run a script of pgbench again and again until end_publishers: whatever is to happen meanwhile does,
# on machines of any speed. The script counts in :n what it publishes; :run tells one start from another.
sub start_publishers
{
	my ($node, $script, %options) = @_;
	my $database = $options{database} // 'postgres';
	my $run = $options{run} // ++$runs;
	my $file = "${PostgreSQL::Test::Utils::tmp_check}/publishers_@{[ $node->name ]}_${database}_$run.sql";
	append_to_file($file, <<"SQL");
\\if :going
SELECT NOT EXISTS (SELECT FROM public.publishers WHERE run = :run AND client IS NULL) AS going \\gset
\\if :going
$script
\\set pause random(0, 2 * $options{pause})
\\sleep :pause us
\\else
INSERT INTO public.publishers VALUES (:run, :client_id, :n);
\\endif
\\endif
SQL
	$node->safe_psql($database, 'CREATE TABLE IF NOT EXISTS public.publishers (run integer, client integer, n integer)');
	my ($out, $err) = ('', '');
	my $pgbench = IPC::Run::start(
		[ $node->installed_command('pgbench'), '-n', '-c', $options{clients}, '-j', 2, '-t', 20_000, '--random-seed=1', '-D', 'n=0', '-D', 'going=1', '-D', "run=$run", '-f', $file, $node->connstr($database) ],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(170));
	return { node => $node, database => $database, run => $run, clients => $options{clients}, pgbench => $pgbench, out => \$out, err => \$err };
}

# Returns when a query that counts what is published gives that many more.
sub publishers_go_on
{
	my ($publishers, $count, $more) = @_;
	my ($node, $database) = @$publishers{ 'node', 'database' };
	my $now = $node->safe_psql($database, $count);
	local $PostgreSQL::Test::Utils::timeout_default = 60;
	return $node->poll_query_until($database, "SELECT ($count) >= $now + $more") || die "publishers do not go on: ${ $publishers->{err} }\n";
}

# Ends them, and returns how many each client has published.
sub end_publishers
{
	my ($publishers, $name) = @_;
	my ($node, $database, $run) = @$publishers{ 'node', 'database', 'run' };
	$node->safe_psql($database, "INSERT INTO public.publishers (run) VALUES ($run)");
	$publishers->{pgbench}->finish;
	my %published = map { split /\|/ } split /\n/, $node->safe_psql($database, "SELECT client, n FROM public.publishers WHERE run = $run AND client IS NOT NULL");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(scalar(keys %published), $publishers->{clients}, "$name: all is published") or diag(${ $publishers->{err} });
	return %published;
}

1;
