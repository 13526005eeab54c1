# Sessions that hang in their commit because a synchronous standby is missing, whatever they published or
# NOTIFYed: nobody else waits for them but NOTIFY itself, and what they published arrives when they come
# to an end, in whatever way that is. And what each value of synchronous_commit promises.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

# No sweep: whatever is not woken for does not come.
my $node = start_herald('stuck', init => { allows_streaming => 1 }, conf => <<'CONF');
synchronous_standby_names = 'missing'
synchronous_commit = local
herald.sweep_interval = 1h
CONF
$node->safe_psql('postgres', q(
	CREATE TABLE public.written (what text);
	SELECT herald.create_channel('jobs', announce => 'payload');
	SELECT herald.create_channel('prices', durable => false);
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')));
my $listener = listen_to($node, 'jobs', 'prices', 'shouts');

# A transaction that only announces writes nothing, and so waits for no standby.
my $write = q(INSERT INTO public.written VALUES ('x'););

sub handled
{
	my ($what) = @_;
	return "SELECT count(*) = 1 FROM app.effects WHERE payload ->> 'what' = '$what'";
}

sub publishes { return "SELECT herald.publish('jobs', '{\"what\": \"$_[0]\"}');" }
sub announces { return "$write SELECT herald.notify('prices', '$_[0]');" }

# 4 sessions that wait for no standby: all that they publish is handled and heard, and nothing else.
my $others = 0;

sub others_go_on
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $announced = announced_of($node, 'jobs', 'prices');
	$others++;
	run_pgbench($node, '--client=4 --jobs=2 --transactions=10', "$name: others publish", <<"SQL");
BEGIN; INSERT INTO public.written VALUES ('y');
SELECT herald.publish('jobs', '{"what": "other $others"}'), herald.notify('prices', 'other $others'); COMMIT;
SELECT herald.notify('prices', 'other $others');
SQL
	wait_until($node, "SELECT count(*) = 40 FROM app.effects WHERE payload ->> 'what' = 'other $others'", "$name: all their tasks run");
	wait_announced($node, $announced + 120, "$name: all is announced", 'jobs', 'prices');
	my %heard;
	$heard{$_}++ for heard_payloads(heard_by($node, $listener));
	is_deeply(\%heard, { "{\"what\": \"other $others\"}" => 40, "other $others" => 80 }, "$name: all is heard, and nothing else");
	return;
}

sub hears
{
	my ($name, @expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_deeply([ sort { $a cmp $b } heard_payloads(heard_by($node, $listener)) ], [ sort @expected ], "$name: heard once");
	return;
}

# How a stuck session comes to its end.
my %ends = (
	'released' => sub {
		standby_is($node, '');
		wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'", 'nobody hangs any more');
		standby_is($node, 'missing');
	},
	'cancelled' => sub { $node->safe_psql('postgres', "SELECT pg_cancel_backend($_)") for @_ },
	'terminated' => sub { $node->safe_psql('postgres', "SELECT pg_terminate_backend($_)") for @_ },
);

for my $how ('released', 'cancelled', 'terminated')
{
	my $announced = announced_of($node, 'jobs', 'prices');
	my @stuck = map { [ stuck_publisher($node, $_) ] } (
		publishes("task $how"),
		"BEGIN; " . announces("announcement $how") . " COMMIT;",
		"BEGIN; " . publishes("both $how") . announces("both $how") . " COMMIT;");
	others_go_on("about to be $how");
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE payload ->> 'what' LIKE '%$how'"), '0', "nothing of those about to be $how is handled");
	$ends{$how}->(map { $_->[1] } @stuck);
	wait_until($node, handled($_), "$_: handled") for "task $how", "both $how";
	wait_announced($node, $announced + 124, "$how: all is announced", 'jobs', 'prices');
	hears($how, qq({"what": "task $how"}), "announcement $how", qq({"what": "both $how"}), "both $how");
	end_sessions(map { $_->[0] } @stuck);
}

# Prepared transactions: the PREPARE hangs, and then the COMMIT PREPARED.
for my $how ('released', 'terminated')
{
	my $announced = announced_of($node, 'jobs', 'prices');
	my ($preparing, $pid) = stuck_publisher($node,
		"BEGIN; " . publishes("prepared $how") . announces("prepared $how") . " PREPARE TRANSACTION 'p';");
	others_go_on('a PREPARE hangs');
	$ends{$how}->($pid);
	wait_until($node, q(SELECT count(*) = 1 FROM pg_prepared_xacts), 'it is prepared');
	my ($committing, $second) = stuck_publisher($node, "COMMIT PREPARED 'p';");
	others_go_on('a COMMIT PREPARED hangs');
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE payload ->> 'what' = 'prepared $how'"), '0', 'it is not handled');
	$ends{$how}->($second);
	wait_until($node, handled("prepared $how"), "prepared, then $how: handled");
	wait_announced($node, $announced + 242, "prepared, then $how: announced", 'jobs', 'prices');
	hears("prepared, then $how", qq({"what": "prepared $how"}), "prepared $how");
	end_sessions($preparing, $committing);
}

# A foreign NOTIFY keeps the lock of all NOTIFYs while it hangs. Announcements wait for it, tasks don't; the
# announcer can be replaced meanwhile.
for my $how ('released', 'cancelled', 'terminated')
{
	my $announced = announced_of($node, 'jobs', 'prices');
	my ($foreign, $pid) = stuck_publisher($node, "BEGIN; $write NOTIFY shouts, 'foreign'; COMMIT;");
	my @script = map { publishes("$how $_") . "\n" . announces("$how $_") . "\n" } 1 .. 20;
	$node->safe_psql('postgres', join '', @script);
	wait_until($node, "SELECT count(*) = 20 FROM app.effects WHERE payload ->> 'what' ~ '^$how [0-9]+\$'", "$how: tasks are handled meanwhile");
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_herald announcer' AND wait_event_type = 'Lock'",
		'the announcer waits for the lock of NOTIFY');
	ok(end_process($node, 'TERM', 'announcer'), 'there is a new announcer');
	# Only then it announces for others: until then they would wait for that lock themselves.
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_herald announcer' AND wait_event_type = 'Lock'",
		'it waits as well');
	$node->safe_psql('postgres', $script[0]);
	is(announced_of($node, 'jobs', 'prices'), $announced, 'nothing is announced');
	$ends{$how}->($pid);
	wait_announced($node, $announced + 42, "$how: all is announced", 'jobs', 'prices');
	is_deeply([ heard_payloads(heard_by($node, $listener)) ],
		[ 'foreign', map { (qq({"what": "$how $_"}), "$how $_") } 1 .. 20, 1 ], "$how: in order, once each");
	end_sessions($foreign);
}
wait_idle($node, 'work');
handled_once($node, 'work', [ split /\n/, $node->safe_psql('postgres', 'SELECT id FROM stored') ]);

# synchronous_commit: what waits for a standby hangs, and nobody acts on it; the others don't.
for my $value ('remote_write', 'on', 'remote_apply')
{
	my $announced = announced_of($node, 'jobs');
	my ($session, $pid) = stuck_publisher($node, "SET synchronous_commit = $value; " . publishes($value));
	others_go_on($value);
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE payload ->> 'what' = '$value'"), '0', "$value: not handled before");
	$ends{cancelled}->($pid);
	wait_until($node, handled($value), "$value: handled");
	wait_announced($node, $announced + 41, "$value: announced", 'jobs');
	hears($value, qq({"what": "$value"}));
	end_sessions($session);
}
standby_is($node, '');
for my $value ('off', 'local', 'remote_write', 'on', 'remote_apply')
{
	$node->safe_psql('postgres', "SET synchronous_commit = $value; " . publishes("plain $value"));
	wait_until($node, handled("plain $value"), "$value: handled");
	hears($value, qq({"what": "plain $value"}));
}
standby_is($node, 'missing');

# kill -9 between the commit on disk and the link to the outbox: all processes restart, and the message is
# there. Its announcement is lost, like every one in a crash.
my ($killed, $victim) = stuck_publisher($node, publishes('killed'));
my ($unwritten, $pid) = stuck_publisher($node, "BEGIN; " . announces('killed') . ' COMMIT;');
signal_process('KILL', $victim);
end_sessions($killed, $unwritten, $listener);
$node->poll_query_until('postgres', 'SELECT true');
wait_until($node, handled('killed'), 'killed in its commit: handled after the restart');
$listener = listen_to($node, 'jobs', 'prices');
hears('what hung before the crash is not announced after it');
wait_idle($node, 'work');
handled_once($node, 'work', [ split /\n/, $node->safe_psql('postgres', 'SELECT id FROM stored') ]);
failures_complete($node, 'work', 0);

# A task done by a worker (which commits synchronously) has its message on disk, also where the publisher did
# not wait for that: the record of the task comes later in the WAL.
reload_with($node, wal_writer_delay => '10s', synchronous_commit => 'off');
$node->safe_psql('postgres', q(ALTER ROLE app SET synchronous_commit = local));
wait_until($node, 'SHOW synchronous_commit', 'off by default', expect => 'off');
# Those that there are now have the old setting.
$node->safe_psql('postgres', q(SELECT count(pg_terminate_backend(pid)) FROM herald.workers WHERE kind = 'worker'));
run_pgbench($node, '--client=4 --jobs=2 --transactions=100', 'published with off', publishes('off'));
wait_until($node, "SELECT count(*) > 0 FROM app.effects WHERE payload ->> 'what' = 'off'", 'some are handled');
$node->stop('immediate');
$node->start;
wait_idle($node, 'work');
is($node->safe_psql('postgres', <<'SQL'), 't', 'what is stored was handled, and the other way round');
SELECT (SELECT count(*) FROM stored) = (SELECT count(*) FROM app.effects)
SQL
handled_once($node, 'work', [ split /\n/, $node->safe_psql('postgres', 'SELECT id FROM stored') ]);
end_sessions($listener);
clean_log($node, signals => '9');

done_testing();
