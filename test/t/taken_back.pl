# A session that has to announce by itself, because the outbox has no room for it, takes back what it has there
# already and sends that first. Whatever becomes of its transaction then: nothing is lost, doubled or, with one
# exception, out of its order, and it is about no other session's.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('taken_back', init => { allows_streaming => 1 }, conf => <<'CONF');
synchronous_standby_names = 'missing'
synchronous_commit = local
herald.outbox_size = 64kB
herald.sweep_interval = 1h
CONF
$node->safe_psql('postgres', q(
	CREATE TABLE public.written (what text);
	SELECT herald.create_channel('prices', durable => false)));
my $listener = listen_to($node, 'prices');
my $announcer = pid_of($node, 'announcer');
waits_for_work($node, $announcer);

# More than the outbox takes.
my $many = 600;
my @many = map { "many $_" } 1 .. $many;
my $big = "SELECT count(herald.notify('prices', 'many ' || i)) FROM generate_series(1, $many) AS i;";

sub notify { return "SELECT herald.notify('prices', '$_[0]');" }

sub session
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->set_query_timer_restart;
	my $pid = $session->query('SELECT pg_backend_pid();');
	return ($session, $pid);
}

# What is heard, as "who: text"; who is the announcer, or the name given for a pid.
sub hear
{
	my ($names) = @_;
	my %names = ($announcer => 'announcer', %$names);
	return map { "$names{$_->[2]}: $_->[1]" } heard_by($node, $listener);
}

sub hears
{
	my ($name, $names, @expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply([ hear($names) ], \@expected, $name);
}

# Waits until a process waits for the lock of NOTIFY.
sub waits_for_notify
{
	my ($pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock'", 'it waits just before its commit');
}

my ($s, $pid) = session();
my ($t, $other) = session();
my %names = ($pid => 's', $other => 't');

# It commits.
my $held = hold_consumers($node);
$s->query(notify('one'));
$t->query(notify('other'));
$s->query(notify('two'));
$s->query("BEGIN;");
$s->query(notify('rolled back'));
$s->query("ROLLBACK;");
$s->query($big);
is_deeply([ map { $_->[1] } heard_now($listener) ], [ 'one', 'two', @many ], 'what was taken back comes first, while the announcer is held');
$s->query(notify('three'));
end_sessions($held);
hears('and nothing of it twice', \%names, 'announcer: other', 'announcer: three');

# It ends just before its commit.
for my $how ('pg_cancel_backend', 'pg_terminate_backend')
{
	$held = hold_consumers($node);
	my ($foreign, $foreign_pid) = stuck_publisher($node, q(BEGIN; INSERT INTO public.written VALUES ('x'); NOTIFY others; COMMIT;));
	$s->query(notify($_)) for 'one', 'two';
	$t->query(notify('other'));
	$s->query_until(qr/begun/, "\\echo begun\n$big\n");
	waits_for_notify($pid);
	$node->safe_psql('postgres', "SELECT $how($pid)");
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND state = 'active'", "$how: it has ended");
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($foreign_pid)");
	$s->query(notify('three')) if $how eq 'pg_cancel_backend';
	end_sessions($foreign, $held);
	hears("$how: what was taken back is announced", \%names, 'announcer: other', 'announcer: one', 'announcer: two',
		$how eq 'pg_cancel_backend' ? 'announcer: three' : ());
}
end_sessions($s);

# It hangs in its commit.
($s, $pid) = session();
$names{$pid} = 's';
$held = hold_consumers($node);
$s->query(notify('one'));
$t->query(notify('other'));
$s->query_until(qr/begun/, "SET synchronous_commit = on;\n\\echo begun\nBEGIN; INSERT INTO public.written VALUES ('x'); $big COMMIT;\n");
wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'SyncRep'", 'a session hangs in its commit');
end_sessions($held);
waits_for_notify($announcer);
is_deeply([ heard_now($listener) ], [], 'nothing is announced while it hangs');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
hears('then all of it is', \%names, 's: one', (map { "s: $_" } @many), 'announcer: other');
$s->query('SET synchronous_commit = local;');

# Prepared announcements are the prepared transaction's and not the session's.
$held = hold_consumers($node);
$s->query("BEGIN; " . notify('prepared') . " PREPARE TRANSACTION 'p';");
$s->query(notify('one'));
$s->query($big);
end_sessions($held);
hears('prepared ones are left alone', \%names, 's: one', map { "s: $_" } @many);
$s->query("COMMIT PREPARED 'p';");
hears('and announced when they are committed', \%names, 'announcer: prepared');

# Equal messages of two transactions would be folded by one NOTIFYing commit. So the session waits for a moment,
# and then lets the order go.
$held = hold_consumers($node);
$s->query(notify('many 7'));
$s->query(notify('one'));
$s->query($big);
end_sessions($held);
hears('equal ones of two transactions do not fold', \%names, (map { "s: $_" } @many), 'announcer: many 7', 'announcer: one');

# Where the announcer can go on in that moment, the order is kept. That the moment was over before the announcer had its
# turn may happen on a busy machine, but not each time.
my @kept = ('announcer: many 7', map { "s: $_" } @many);
for my $round (1 .. 5)
{
	stop_idle($node, $announcer);
	$s->query(notify('many 7'));
	$s->query_until(qr/begun/, "\\echo begun\n$big\n");
	signal_process('CONT', $announcer);
	$s->query('SELECT 1;');
	my @heard = hear(\%names);
	next if $round < 5 && "@heard" eq join ' ', @kept[ 1 .. $many ], $kept[0];
	is_deeply(\@heard, \@kept, 'nor then');
	last;
}

# A publisher that is gone leaves what it has published.
$held = hold_consumers($node);
$s->query(notify('the last'));
end_sessions($s);
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'a session ends');
$t->query($big);
end_sessions($held);
hears('its announcements stay', \%names, (map { "t: $_" } @many), 'announcer: the last');
outbox_is_empty($node, 'in the end');
end_sessions($t, $listener);
clean_log($node);

done_testing();
