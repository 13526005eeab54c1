# herald.try_lock and herald.unlock: whenever a lock is free again, however it came to be, listeners hear
# RELEASE:<name> once, not before the lock can be had, and not before the work under it can be seen.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

# The smallest outbox: 1024 cells, of which a role gets three quarters.
my $node = start_herald('locks', init => { allows_streaming => 1 }, conf => <<'CONF');
herald.outbox_size = 64kB
synchronous_standby_names = 'missing'
synchronous_commit = local
CONF
$node->safe_psql('postgres', q(
	CREATE TABLE public.work (what text);
	CREATE ROLE worker LOGIN;
	GRANT ALL ON public.work TO worker;
	SELECT herald.create_channel('private', durable => false);
	SELECT herald.create_channel('stored', announce => 'off');
	SELECT herald.create_channel('jobs');
	SELECT herald.create_channel('taken', accept_notify => true);
	CREATE FUNCTION app.lock(task herald.task) RETURNS void LANGUAGE sql AS
		$$ SELECT herald.try_lock('of ' || (task.payload ->> 'scope'), task.payload ->> 'scope') $$;
	SELECT herald.subscribe('locker', 'jobs', 'app.lock', run_as => 'app');
	SELECT herald.subscribe('taken', 'taken', 'app.note', run_as => 'app')));
pid_of($node, 'announcer');

my $listener = listen_to($node, qw(locks other stored taken));

# What was heard since the last time, as channel:payload.
sub heard
{
	return join ', ', heard_texts($node, $listener);
}

# Whether another session can have it; it gives it back within a savepoint's rollback, which is heard.
sub can_be_had
{
	my ($lock) = @_;
	# Given back by a statement: the session may end later than its client.
	return $node->safe_psql('postgres', "SELECT herald.try_lock('$lock', channel => 'nobody'); SELECT herald.unlock('$lock')") =~ /^t/;
}

my ($one, $two, $slow) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
# Says what the last of the statements gives.
sub ask
{
	my ($session, $sql) = @_;
	my @lines = split /\n/, $session->query($sql);
	$session->{stderr} = '';
	return $lines[-1] // '';
}
my $release = 'locks:RELEASE:job';

# Of the session
is(ask($one, q(SELECT herald.try_lock('job'))), 't', 'a lock is taken');
is(ask($two, q(SELECT herald.try_lock('job'))), 'f', 'not by two');
is(ask($two, q(SELECT herald.unlock('job'))), 'f', 'and given back only by who has it');
is(ask($one, q(SELECT herald.unlock('job'))), 't', 'it is given back');
hears($node, $listener, 'and that is heard', $release);
is(ask($two, q(SELECT herald.try_lock('job'))), 't', 'then the other one gets it');
is(ask($two, q(SELECT herald.try_lock('job'))), 't', 'twice');
ask($two, q(SELECT herald.unlock('job')));
ok(!can_be_had('job'), 'taken twice, it is not free after one unlock');
hears($node, $listener, 'and nothing is heard');
ask($two, q(SELECT herald.unlock('job')));
ok(can_be_had('job'), 'it is after the second');
hears($node, $listener, 'and heard once', $release);
is(ask($two, q(SELECT herald.unlock('job'))), 'f', 'a third does nothing');

# Unlocked in a transaction
ask($one, q(SELECT herald.try_lock('job')));
ask($one, q(BEGIN; INSERT INTO work VALUES ('done'); SELECT herald.unlock('job')));
is(ask($one, q(SELECT herald.unlock('job'))), 'f', 'unlocked once more than taken');
ok(!can_be_had('job'), 'before the commit it is not free');
hears($node, $listener, 'and nothing is heard');
ask($one, 'COMMIT');
hears($node, $listener, 'after the commit it is heard', $release);
ok(can_be_had('job'), 'and free');
ask($one, q(SELECT herald.try_lock('job'); BEGIN; SELECT herald.unlock('job'); ROLLBACK));
ok(!can_be_had('job'), 'a rollback keeps the lock');
ask($one, q(BEGIN; SAVEPOINT a; SELECT herald.unlock('job'); ROLLBACK TO a; COMMIT));
ok(!can_be_had('job'), 'so does the rollback to a savepoint');
hears($node, $listener, 'nothing is heard of both');
ask($one, q(BEGIN; SAVEPOINT a; SELECT herald.unlock('job'); RELEASE a; SAVEPOINT b; ROLLBACK TO b; COMMIT));
hears($node, $listener, 'a savepoint that is released unlocks', $release);
ask($one, q(SELECT herald.try_lock('job'); BEGIN; SELECT herald.unlock('job'), herald.try_lock('job'); COMMIT));
ok(!can_be_had('job'), 'taken again before the commit it stays');
hears($node, $listener, 'and nothing is heard');
ask($one, q(BEGIN; SELECT herald.unlock('job'); COMMIT));
hears($node, $listener, 'until it is unlocked', $release);
ask($one, q(BEGIN; SELECT herald.try_lock('job'); ROLLBACK));
ok(!can_be_had('job'), 'a lock of the session outlives the rollback of the transaction that took it');
ask($one, q(SELECT herald.unlock('job')));
hears($node, $listener, 'and is unlocked after it', $release);

# A commit that hangs: nobody sees its rows yet.
$slow->query_safe(q(SET synchronous_commit = on; SELECT herald.try_lock('job')));
my $pid = ask($slow, 'SELECT pg_backend_pid()');
$slow->query_until(qr/committing/, "\\echo committing\nBEGIN; INSERT INTO work VALUES ('slow'); SELECT herald.unlock('job'); COMMIT;\n");
wait_until($node, "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $pid", 'a commit hangs');
ok(!can_be_had('job'), 'its lock is not free');
hears($node, $listener, 'nor announced');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$slow->query('RESET synchronous_commit');  # with a warning
hears($node, $listener, 'but then', $release);
is($node->safe_psql('postgres', q(SELECT count(*) FROM work WHERE what = 'slow')), '1', 'with the work that it protected');

# Of the transaction
for my $end ('COMMIT', 'ROLLBACK', 'SELECT 1/0; ROLLBACK')
{
	ask($one, q(BEGIN; SELECT herald.try_lock('job', 'transaction')));
	ok(!can_be_had('job'), "a lock of a transaction is held before $end");
	hears($node, $listener, 'and not heard of');
	ask($one, $end);
	hears($node, $listener, 'after it it is', $release);
}
ask($one, q(BEGIN; SELECT herald.try_lock('job', 'transaction'); SAVEPOINT a; SELECT herald.try_lock('inner', 'transaction')));
is(ask($one, q(SELECT herald.try_lock('job', 'transaction'); ROLLBACK TO a; SELECT 'here')), 'here', 'a savepoint with locks is rolled back');
hears($node, $listener, 'what was taken in it is heard of at once', 'locks:RELEASE:inner');
ok(can_be_had('inner') && !can_be_had('job'), 'and free, the other one not');
ask($one, q(SAVEPOINT b; SELECT herald.try_lock('inner', 'transaction'); RELEASE b));
hears($node, $listener, 'of a savepoint that was released they stay');
ask($one, 'COMMIT');
is(join(', ', sort split /, /, heard()), "locks:RELEASE:inner, $release", 'until the commit');
ask($one, q(SELECT herald.try_lock('job'); BEGIN; SELECT herald.try_lock('job', 'transaction'); COMMIT));
hears($node, $listener, 'what is also held by the session stays');
is(ask($one, q(BEGIN; SELECT herald.try_lock('job', 'transaction'); SELECT herald.unlock('job'))), 't', 'session and transaction');
is(ask($one, q(SELECT herald.unlock('job'))), 'f', 'what the transaction has can not be unlocked');
ok(!can_be_had('job'), 'it is held by both');
ask($one, 'COMMIT');
hears($node, $listener, 'and free after that, once', $release);

# Channels
ask($one, q(SELECT herald.try_lock('job', channel => 'other'), herald.try_lock('job'), herald.try_lock('a "quoted" name', channel => 'other')));
ask($one, q(SELECT herald.unlock('job'), herald.unlock('job'), herald.unlock('a "quoted" name')));
is(join(', ', sort split /, /, heard()), join(', ', sort $release, 'other:RELEASE:job', 'other:RELEASE:a "quoted" name'), 'taken for two channels it is announced on both');
ask($one, q(SELECT herald.try_lock('job', 'transaction', channel => 'stored'), herald.try_lock('job', 'transaction', channel => 'taken')));
is(join(', ', sort split /, /, heard()), 'stored:RELEASE:job, taken:RELEASE:job', 'a durable channel announces it, too');
is($node->safe_psql('postgres', 'SELECT count(*) FROM stored'), '0', 'but does not store it, nor where it takes notifications');
sqlstate_is($node, q(SELECT herald.try_lock('job', channel => 'private')), '42501', 'who may not publish on the channel gets no lock', role => 'worker');
ok(can_be_had('job'), 'it was not taken');
is($node->safe_psql('postgres', q(SET ROLE worker; SELECT herald.try_lock('job'), herald.unlock('job'))), 't|t', 'anybody may use undeclared channels');
hears($node, $listener, 'also heard', $release);
is($node->safe_psql('postgres', q(SELECT published, announced, rejected FROM herald.channel_stats WHERE channel = 'other')), '2|2|0', 'releases are counted');

# All the ways to lose a lock
my @ends = (
	['DISCARD ALL', sub { $one->query_safe('DISCARD ALL') }],
	['pg_advisory_unlock_all', sub { $one->query_safe('SELECT pg_advisory_unlock_all()') }],
	['pg_terminate_backend', sub { $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0], 20000)"); $one = undef }],
	['a terminated transaction', sub { $one->query_safe('BEGIN; INSERT INTO work VALUES (1)'); $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0], 20000)"); $one = undef }],
	['FATAL', sub { $one->query(q(SET idle_in_transaction_session_timeout = 1; BEGIN)); $one = undef }],
	['the end of the client', sub { $one->quit; $one = undef }]);
for (@ends)
{
	my ($name, $end) = @$_;
	$one //= $node->background_psql('postgres', on_error_stop => 0);
	my $pid = ask($one, 'SELECT pg_backend_pid()');
	$one->query_safe(q(SELECT herald.try_lock('job'), herald.try_lock('job'); BEGIN; SELECT herald.try_lock('two', 'session'), herald.unlock('two'); COMMIT));
	hears($node, $listener, "$name: before", 'locks:RELEASE:two');
	$end->($pid);
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", "$name: the session has ended") unless defined $one;
	hears($node, $listener, "$name: the lock is heard of", $release);
	ok(can_be_had('job'), "$name: and free");
}
$one = $node->background_psql('postgres', on_error_stop => 0);

# Advisory locks of others are not ours.
is(ask($one, q(SELECT pg_try_advisory_lock(classid::int, objid::int) FROM (SELECT herald.try_lock('job')) AS l, LATERAL (SELECT (classid::bigint - 4294967296 * (classid::bigint >> 31))::int, (objid::bigint - 4294967296 * (objid::bigint >> 31))::int FROM pg_locks WHERE locktype = 'advisory') AS k (classid, objid))),
	't', 'numbers do not reach locks with names');
is($node->safe_psql('postgres', q(SELECT pg_try_advisory_lock(((classid::bigint << 32) | objid::bigint)::bigint) FROM pg_locks WHERE locktype = 'advisory' AND objsubid > 2)), 't', 'nor does one number');
$one->query_safe(q(SELECT herald.unlock('job'), pg_advisory_unlock_all()));
hears($node, $listener, 'still heard', $release);

# Two-phase commit
for my $sql (q(SELECT herald.try_lock('job', 'transaction')), q(SELECT herald.unlock('session')))
{
	sqlstate_is($node, "SELECT herald.try_lock('session'); BEGIN; $sql; PREPARE TRANSACTION 'p'", '0A000', "refused before PREPARE: $sql");
}
$node->safe_psql('postgres', q(SELECT herald.try_lock('job'); BEGIN; INSERT INTO work VALUES (1); SAVEPOINT a; SELECT herald.try_lock('job', 'transaction'); ROLLBACK TO a;
	PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'));
is(scalar(split /, /, heard()), 4, 'a session that has locks may prepare a transaction');

# In handlers: a lock of the session lasts until the transaction of its task has ended.
publish_many($node, 'jobs', 1, payload => qq({"scope": "$_"})) for 'session', 'transaction';
wait_idle($node, 'locker');
is(join(', ', sort split /, /, heard()), 'locks:RELEASE:of session, locks:RELEASE:of transaction', 'locks of handlers');
ok(can_be_had('of session') && can_be_had('of transaction'), 'they end with the task');

# Nobody announces: it waits.
$one->query_safe(q(SELECT herald.try_lock('job')));
stop_idle($node, my $announcer = pid_of($node, 'announcer'));
$one->query_safe(q(SELECT herald.unlock('job')));
ok(can_be_had('job'), 'it is free while the announcer is busy');
signal_process('TERM', $announcer);
signal_process('CONT', $announcer);
wait_for_new($node, 'announcer', $announcer);
wait_until($node, q(SELECT announced >= published FROM herald.channel_stats WHERE channel = 'locks'), 'there is a new one');
hears($node, $listener, 'the next announcer announces it', $release);
$one->query_safe(q(SELECT herald.try_lock('job')));
reload_with($node, 'herald.enabled' => 'off');
wait_until($node, q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_herald announcer'), 'there is no announcer');
$one->query_safe(q(SELECT herald.unlock('job')));
wait_until($node, q(SELECT announced >= published FROM herald.channel_stats WHERE channel = 'locks'), 'one starts for what is left');
hears($node, $listener, 'and it is heard', $release);
reload_with($node, 'herald.enabled' => 'on');
waits_for_work($node, pid_of($node, 'announcer'));
outbox_is_empty($node, 'after that');

# More than the outbox can announce. A superuser has no more than others.
my $many = "SELECT count(*) FROM generate_series(1, %d) AS i WHERE herald.try_lock('many ' || i, 'transaction')";
sqlstate_is($node, sprintf($many, 1000), '53400', 'who wants more locks than can be announced is refused');
outbox_is_empty($node, 'what it took is announced');
my $some = $node->safe_psql('postgres', sprintf($many, 300));
is($some, 300, 'what was reserved for those is free again');
outbox_is_empty($node, 'those as well');
is(scalar(grep { /many/ } split /, /, heard()), 300 + 384, 'all that were taken are announced');

# Nothing is left behind where it was not had.
$one->query_safe(q(SELECT herald.try_lock('job')));
is($node->safe_psql('postgres', q(SELECT count(*) FROM generate_series(1, 5000) WHERE herald.try_lock('job'))), '0', '5000 vain attempts');
hears($node, $listener, 'are not heard');

# A crash: everybody has lost everything.
my $offset = -s $node->logfile;
signal_process('KILL', ask($one, 'SELECT pg_backend_pid()'));
wait_for('the server restarts', sub { log_lines($node, qr/all server processes terminated/, $offset) });
wait_until($node, 'SELECT true', 'and is back');
ok(can_be_had('job'), 'the lock is free');
clean_log($node, signals => 9);

done_testing();
