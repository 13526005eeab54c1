# What sessions do that has nothing to do with the extension makes no process of it read anything: two-phase commits of
# whatever, and commands that might have dropped it and didn't. What does have to do with it is noticed, also when it
# comes by COMMIT PREPARED, and after a restart.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_herald('others', conf => "herald.sweep_interval = 1h\nlog_min_messages = debug1\nmax_prepared_transactions = 20\n");
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE stranger LOGIN;
ALTER TABLE app.effects ADD place bigint GENERATED ALWAYS AS IDENTITY;
SELECT herald.create_channel('jobs', announce => 'payload'), herald.create_channel('quiet', announce => 'off');
SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_attempts => 1), herald.subscribe('idle', 'quiet', 'app.work', run_as => 'app');
SQL
my $listener = listen_to($node, 'jobs');

# The dispatcher has made a turn that began after this.
sub turn { return $node->safe_psql('postgres', q(SELECT herald.wait_idle('idle', '20 s'))) }
# How often it read what while the code ran.
sub reads_while
{
	my ($code) = @_;
	turn() for 1 .. 2;
	my $offset = -s $node->logfile;
	$code->();
	turn();
	my @log = log_lines($node, qr/pg_herald: reading the log/, $offset);
	my @subscriptions = log_lines($node, qr/pg_herald: reading the subscriptions/, $offset);
	return @log . ' ' . @subscriptions;
}
sub prepared { my ($gid, $sql) = @_; return $node->safe_psql('postgres', "BEGIN; $sql; PREPARE TRANSACTION '$gid'") }
sub commit { my ($gid) = @_; return $node->safe_psql('postgres', "COMMIT PREPARED '$gid'") }
sub in_order { return $node->safe_psql('postgres', q(SELECT string_agg(payload ->> 'n', ' ' ORDER BY place) FROM app.effects WHERE subscription = 'work')) }

is(reads_while(sub {
	my ($out, $err);
	$node->psql('postgres', join('', 'SET SESSION AUTHORIZATION stranger;', map { "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'e'; " . ($_ % 2 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'e';" } 1 .. 20),
		on_error_die => 1);
	$node->psql('postgres', <<'SQL', on_error_stop => 0, stdout => \$out, stderr => \$err);
SET SESSION AUTHORIZATION stranger;
DROP SCHEMA IF EXISTS nosuch;
DROP EXTENSION IF EXISTS nosuch;
DROP OWNED BY stranger;
BEGIN; SAVEPOINT s; ALTER EXTENSION pg_herald UPDATE; ROLLBACK TO s; COMMIT;
BEGIN; SAVEPOINT s; DROP EXTENSION pg_herald; ROLLBACK TO s; COMMIT;
BEGIN; SAVEPOINT s; DROP SCHEMA herald CASCADE; ROLLBACK TO s; COMMIT;
COMMIT PREPARED 'nosuch';
CREATE TEMP TABLE mine (a text); COPY mine FROM PROGRAM 'true'; LISTEN jobs; UNLISTEN *;
SQL
}), '0 0', 'nothing is read for what concerns others');

# One that publishes stands aside until it has ended; nobody waits for it.
is(reads_while(sub {
	prepared('p', q(SELECT herald.publish('jobs', '{"n": 2}', 'k'), herald.publish('jobs', '{"n": 3}', 'k')));
	prepared('r', q(SELECT herald.publish('jobs', '{"n": 9}', 'k')));
	$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"n": 1}', 'k')));
	wait_for_effects($node, 'work', 1, name => 'others go on');
	commit('p');
	$node->safe_psql('postgres', q(ROLLBACK PREPARED 'r'));
	$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"n": 4}', 'k')));
	wait_for_effects($node, 'work', 4, name => 'then it has its turn');
	wait_idle($node, 'work');
}), '0 0', 'nothing is read for what was published');
is(in_order(), '1 2 3 4', 'in its order');
is(join(' ', sort map { $_->[1] =~ /"n": (\d+)/ } heard_by($node, $listener)), '1 2 3 4', 'and is announced');
outbox_is_empty($node, 'two-phase');

# What is asked for by a transaction is done when it is committed, and only then.
prepared('many', q(SELECT count(*) FROM herald.publish_batch('quiet', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 5000)))));
is(reads_while(sub {
	commit('many');
	wait_for_effects($node, 'idle', 5000, seconds => 60);
}), '1 0', 'the log is read for a huge transaction');
prepared('late', q(SELECT herald.subscribe('late', 'jobs', 'app.note', run_as => 'app')));
is(reads_while(sub { prepared('other', 'SELECT pg_current_xact_id()'); commit('other') }), '0 0', 'a subscription that is undecided is not looked for');
commit('late');
$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"n": 5}', 'k')));
wait_for_effects($node, 'late', 1, name => 'a new subscription is found');

# Dead letters.
$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"n": 6, "failures": 1}')));
my $dead = q(SELECT dead FROM herald.subscription_stats WHERE subscription = 'work');
wait_until($node, $dead, 'one fails', expect => 1);
prepared('discarded', q(SELECT herald.discard_dead_letters('work')));
is($node->safe_psql('postgres', $dead), 1, 'a dead letter is there until it is discarded');
commit('discarded');
is($node->safe_psql('postgres', $dead), 0, 'then it is not');

# Rows that a restore brings are known at once.
$node->safe_psql('postgres', q(SELECT herald.pause('work'), herald.pause('late')));
turn();
$node->safe_psql('postgres', <<'SQL');
COPY herald_internal.log_0 (id, published_at, channel_id, payload) FROM PROGRAM $$echo "1000000	2020-01-01 00:00:00+00	1	{}"$$;
SQL
wait_until($node, q(SELECT string_agg(pending::text, ' ') FROM herald.subscription_stats WHERE subscription IN ('work', 'late')), 'restored rows are counted', expect => '1 1');
$node->safe_psql('postgres', q(SELECT herald.resume('work'), herald.resume('late')));
wait_idle($node, $_) for 'work', 'late';

# Where nobody counts, nothing is said.
my $gauges = q(SELECT count(pending), count(running), count(retrying), count(oldest_pending_age) FROM herald.subscription_stats);
reload_with($node, 'herald.enabled' => 'off');
wait_until($node, q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_herald dispatcher'), 'disabled');
$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"n": 7}', 'k')));
is($node->safe_psql('postgres', $gauges), '0|0|0|0', 'without a dispatcher the gauges are unknown');
is($node->safe_psql('postgres', q(SELECT ok, value FROM herald.status() WHERE name = 'oldest_pending')), 'f|unknown', 'and the status says so');
reload_with($node, 'herald.enabled' => 'on');
wait_idle($node, 'work');
wait_until($node, $gauges, 'then they are known again', expect => '3|3|3|0');

# After a restart nobody knows what the prepared ones have done.
prepared('before', q(SELECT herald.publish('jobs', '{"n": 8}', 'k')));
prepared('subscribed', q(SELECT herald.subscribe('later', 'jobs', 'app.note', run_as => 'app')));
prepared('empty', 'SELECT pg_current_xact_id()');
$node->restart;
end_sessions($listener);
wait_until($node, $gauges, 'running again', expect => '3|3|3|0');
turn();
commit('before');
wait_until($node, q(SELECT count(*) = 1 FROM app.effects WHERE subscription = 'work' AND payload ->> 'n' = '8'), 'what was published before a restart is handled');
commit($_) for 'empty', 'subscribed';
$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{"n": 10}', 'k')));
wait_for_effects($node, 'later', 1, name => 'what was subscribed before it, too');
is(reads_while(sub { prepared('e', 'SELECT pg_current_xact_id()'); commit('e') }), '0 0', 'and then nothing is read for others again');

# The extension itself.
my ($announcer, $dispatcher) = (pid_of($node, 'announcer'), pid_of($node, 'dispatcher'));
prepared('gone', 'DROP EXTENSION pg_herald CASCADE');
# The announcer looks before the dispatcher has found out, and goes to sleep again.
sub sleeps { return slurp_file("/proc/$announcer/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : die 'no count' }
signal_process('STOP', $dispatcher);
my $before = sleeps();
commit('gone');
wait_for('the announcer has looked', sub { sleeps() > $before && slurp_file("/proc/$announcer/status") =~ /^State:\s+S/m });
signal_process('CONT', $dispatcher);
wait_until($node, q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('pg_herald dispatcher', 'pg_herald announcer')), 'dropped by COMMIT PREPARED, it is left');
prepared('new', 'CREATE EXTENSION pg_herald');
commit('new');
wait_until($node, q(SELECT bool_and(ok) FROM herald.status() WHERE name IN ('dispatcher', 'announcer')), 'created by it, it is served');
clean_log($node);

done_testing();
