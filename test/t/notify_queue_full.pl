# NOTIFY's queue is full, because a session that LISTENs stays in its transaction: plain NOTIFYs fail, as always.
# Publishers don't notice, tasks run, and the announcements come when there is room again, each once and in order.
#
# The queue has 8 GB before PostgreSQL 17, which would take a minute to fill. So there its positions are moved
# in shared memory, as if all but the last pages had been written and read by everybody but that session.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use Fcntl qw(O_RDWR SEEK_SET);

my $small = `$ENV{PG_CONFIG} --version` =~ / (\d+)/ && $1 >= 17;
my $node = start_herald('queue_full', conf => "huge_pages = off\nherald.sweep_interval = 1h\n" . ($small ? "max_notify_queue_pages = 64\n" : ''));
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'payload');
	SELECT herald.create_channel('heard', accept_notify => true);
	SELECT herald.create_channel('prices', durable => false);
	SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app');
	SELECT herald.subscribe('heard', 'heard', 'app.note', run_as => 'app')));
my $listener = listen_to($node, 'jobs', 'prices');
my $lazy = $node->background_psql('postgres');
$lazy->query_safe('LISTEN filler;');
my $lazy_pid = $lazy->query_safe('SELECT pg_backend_pid();');
$lazy->query_safe('BEGIN; SELECT 1;');
# The announcer listens when it has heard something.
local $PostgreSQL::Test::Utils::timeout_default = $HeraldTest::patience;
$node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM stored, (SELECT pg_notify('heard', 'x') OFFSET 0) AS n)) or die "the announcer does not listen\n";
heard_by($node, $listener);

# AsyncQueueControl of PostgreSQL 13 to 16: head, tail (page, offset), stop page, first listener, time; then for
# each backend pid, database, next listener, page, offset.
sub nearly_fill
{
	my ($offset, $size) = split /\|/, $node->safe_psql('postgres', q(SELECT off, size FROM pg_shmem_allocations WHERE name = 'Async Queue Control'));
	my $postmaster = $node->{_pid};
	open my $maps, '<', "/proc/$postmaster/maps" or return 0;
	my ($start, $length) = (0, 0);
	while (<$maps>)
	{
		next unless /^([0-9a-f]+)-([0-9a-f]+) rw-s/;
		($start, $length) = (hex $1, hex($2) - hex($1)) if hex($2) - hex($1) > $length;
	}
	close $maps;
	sysopen my $memory, "/proc/$postmaster/mem", O_RDWR or return 0;
	my $read = sub { my ($at, $bytes) = @_; sysseek($memory, $start + $offset + $at, SEEK_SET); sysread($memory, my $data, $bytes); return $data };
	my $write = sub { my ($at, $data) = @_; sysseek($memory, $start + $offset + $at, SEEK_SET); return syswrite($memory, $data) };

	my (undef, undef, $page) = unpack 'l5', $read->(0, 20);
	my $head = $page - $page % 32 + 2**20 - 20;
	my $found;
	for (my $at = 32; $at + 20 <= $size; $at += 20)
	{
		my ($pid) = unpack 'l', $read->($at, 4);
		$found = 1 if $pid == $lazy_pid;
		$write->($at + 12, pack 'll', $head, 0) if $pid > 0 && $pid != $lazy_pid;
	}
	return 0 unless $found;
	# The page has to be there.
	my $segment = sprintf '%s/pg_notify/%04X', $node->data_dir, $head / 32;
	open my $file, '>', $segment or die "$segment: $!\n";
	truncate $file, 32 * 8192;
	close $file;
	return $write->(0, pack 'll', $head, 0);
}

SKIP:
{
	skip 'no way to fill the queue of NOTIFY', 1 unless $small || nearly_fill();

	my $state = '00000';
	for (1 .. 100)
	{
		$state = sqlstate_of($node, "SELECT pg_notify('filler', repeat('x', 7900) || $_)");
		last if $state ne '00000';
	}
	is($state, '54000', 'the queue of NOTIFY is full');
	is($node->safe_psql('postgres', 'SELECT pg_notification_queue_usage() > 0.9'), 't', 'and stays so');

	# Nobody notices but who listens.
	my $announced = announced_of($node, 'jobs', 'prices');
	my @expected;
	my @ids;
	my $offset = -s $node->logfile;
	for my $round (1 .. 5)
	{
		push @ids, publish_many($node, 'jobs', 20, payload => "{\"round\": $round}");
		$node->safe_psql('postgres', "SELECT herald.notify('prices', '$round')");
		push @expected, ("{\"round\": $round}") x 20, $round;
		wait_for_effects($node, 'work', scalar @ids, name => 'tasks run');
	}
	wait_until($node, q(SELECT bool_and(ok) FROM herald.status() WHERE name IN ('dispatcher', 'outbox')), 'status is content with what goes on');
	wait_until($node, q(SELECT NOT ok AND value LIKE '%cannot announce messages since %' FROM herald.status() WHERE name = 'announcer'), 'and tells what does not');
	is(announced_of($node, 'jobs', 'prices'), $announced, 'nothing is announced');
	is(sqlstate_of($node, q(NOTIFY others)), '54000', 'plain NOTIFYs fail still');
	ok(end_process($node, 'TERM', 'announcer'), 'a new announcer finds the same');
	waits_for_work($node, pid_of($node, 'announcer'));
	push @ids, publish_many($node, 'jobs', 1, payload => '{"round": 6}');
	push @expected, '{"round": 6}';
	wait_for_effects($node, 'work', scalar @ids, name => 'tasks run');

	# Where a publisher has to announce by itself, it fails as one that calls NOTIFY: nothing of it is left.
	reload_with($node, 'herald.enabled' => 'off');
	wait_until($node, q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('pg_herald announcer', 'pg_herald dispatcher')), 'disabled');
	sqlstate_is($node, q(SELECT herald.notify('prices', 'refused')), '54000', 'without an announcer publishers get the error');
	sqlstate_is($node, q(SELECT herald.publish('jobs', '{"round": "refused"}')), '54000', 'also for what is stored');
	reload_with($node, 'herald.enabled' => 'on');
	wait_until($node, q(SELECT count(*) = 2 FROM herald.status() WHERE name IN ('dispatcher', 'announcer') AND value LIKE 'pid %'), 'enabled again');
	cmp_ok(scalar log_lines($node, qr/could not announce/, $offset), '>', 0, 'the server log says what happens');

	# There is room again; nobody but the announcer does anything about it.
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($lazy_pid)");
	wait_until($node, "SELECT sum(announced) >= $announced + 106 FROM herald.channel_stats WHERE channel IN ('jobs', 'prices')", 'what waited is announced');
	is_deeply([ heard_payloads(heard_by($node, $listener)) ], \@expected, 'in order, each once');
	is($node->safe_psql('postgres', 'SELECT pg_notification_queue_usage() < 0.1'), 't', 'the queue is empty');
	$node->safe_psql('postgres', q(SELECT pg_notify('heard', 'y')));
	wait_until($node, q(SELECT count(*) = 1 FROM app.effects WHERE payload ->> 'task_id' = 'y'), 'the announcer listens');
	wait_idle($node, 'work');
	handled_once($node, 'work', \@ids);
}
end_sessions($lazy, $listener);
clean_log($node);

done_testing();
