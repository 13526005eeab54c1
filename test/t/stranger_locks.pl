# A user keeps locks for as long as he likes, in an open or a prepared transaction. No process of ours waits for
# them: what they concern is done later, everything of others meanwhile.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

# Whoever waits longer than deadlock_timeout for a lock says so in the log.
my $node = start_herald('stranger_locks', conf => <<'CONF');
herald.sweep_interval = 1
herald.pointer_retention = 1
herald.max_workers = 2
deadlock_timeout = 100ms
log_lock_waits = on
CONF
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE mallory LOGIN; CREATE ROLE grp LOGIN; CREATE ROLE bob LOGIN;
GRANT CREATE ON DATABASE postgres TO mallory, bob;
GRANT USAGE ON SCHEMA app TO mallory; GRANT INSERT ON app.effects TO mallory, bob; GRANT USAGE ON app.runs TO mallory, bob;
CREATE SCHEMA mallory AUTHORIZATION mallory;
SET SESSION AUTHORIZATION bob;
SELECT herald.subscribe('bs', 'bchan', 'app.work');
SELECT herald.create_channel('loud', announce => 'payload');
SQL
my $listener = listen_to($node, 'loud');
my $bobs = 0;

# Whatever is locked: bob's messages are announced and handled.
sub others_go_on
{
	my ($name) = @_;
	$bobs++;
	acknowledged($node, "SET SESSION AUTHORIZATION bob; SELECT herald.publish('loud', '$bobs'); SELECT herald.publish('bchan', '$bobs');");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @heard;
	wait_for("$name: a message is announced", sub { push @heard, heard_now($listener); return grep { $_->[1] eq $bobs } @heard });
	wait_for_effects($node, 'bs', $bobs, name => "$name: a task of another subscription is done");
	is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^pg_herald' AND wait_event_type = 'Lock')),
		'0', "$name: nobody waits for a lock");
	return;
}

sub begin
{
	my ($statement) = @_;
	my $session = $node->background_psql('postgres');
	$session->query_safe("SET SESSION AUTHORIZATION mallory; BEGIN; $statement");
	return $session;
}

sub end
{
	my ($session, $how) = @_;
	$session->query_safe($how);
	$session->quit;
	return;
}

# Payloads that are to be purged, of a channel that is being dropped.
$node->safe_psql('postgres', <<'SQL');
SET SESSION AUTHORIZATION mallory;
SELECT herald.create_channel('m_eph', durable => false);
SELECT herald.publish('m_eph', to_jsonb(repeat('a', 9000)));
SQL
my $dropping = begin(q(SELECT herald.drop_channel('m_eph')));
$node->safe_psql('postgres', q(SELECT herald.publish('b_eph', to_jsonb(repeat('a', 9000)))));
wait_until($node, q(SELECT count(*) = 0 FROM herald_internal.pointer_store WHERE channel = 'b_eph'), 'payloads of others are purged');
others_go_on('an open drop_channel');
end($dropping, 'ROLLBACK');
wait_until($node, 'SELECT count(*) = 0 FROM herald_internal.pointer_store', 'and then those of the channel');

# A subscription that the announcer has to hold.
$node->safe_psql('postgres', <<'SQL');
GRANT grp TO mallory WITH ADMIN OPTION;
SET SESSION AUTHORIZATION mallory;
CREATE FUNCTION mallory.h(task herald.task) RETURNS void LANGUAGE sql AS 'SELECT nextval(''app.runs'')';
GRANT USAGE ON SCHEMA mallory TO PUBLIC;
SELECT herald.subscribe('unrunnable', 'uchan', 'mallory.h', run_as => 'grp');
SQL
my $altering = begin(q(SELECT herald.alter_subscription('unrunnable', max_attempts => 5)));
$node->safe_psql('postgres', q(SET SESSION AUTHORIZATION mallory; REVOKE grp FROM mallory; SELECT herald.publish('uchan', '{}');));
# It takes several turns of a second.
others_go_on("an open alter_subscription, round $_") for 1 .. 3;
end($altering, 'COMMIT');
wait_until($node, q(SELECT state = 'held' FROM herald.subscriptions WHERE subscription = 'unrunnable'), 'it is held when that has ended');

# A subscription that workers have to hold, with tasks for all of them.
$node->safe_psql('postgres', <<'SQL');
SET SESSION AUTHORIZATION mallory;
SELECT herald.subscribe('ms', 'mchan', 'mallory.h', max_concurrency => 1000, batch => false);
SQL
$altering = begin(q(SELECT herald.alter_subscription('ms', max_attempts => 5)));
$node->safe_psql('postgres', q(SET SESSION AUTHORIZATION mallory; DROP FUNCTION mallory.h; SELECT count(herald.publish('mchan', '{}')) FROM generate_series(1, 50)));
others_go_on("a handler that is gone, round $_") for 1 .. 3;
end($altering, 'COMMIT');
wait_until($node, q(SELECT state = 'held' FROM herald.subscriptions WHERE subscription = 'ms'), 'it is held when that has ended');
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.failure_log WHERE subscription = 'ms')), '1', 'with one row in the failure log');

# A failure of a subscription that is being removed.
$node->safe_psql('postgres', <<'SQL');
SET SESSION AUTHORIZATION mallory;
SELECT herald.subscribe('failing', 'fchan', 'app.work', max_attempts => 1);
SELECT herald.subscribe('retried', 'rchan', 'app.work', retry_delay => '1 hour', max_retry_delay => '1 hour');
SQL
my $gate = close_gate($node, 1);
publish_many($node, 'fchan', 1, payload => '{"gate": 1, "failures": 9}');
wait_until($node, q(SELECT count(*) = 1 FROM herald.workers WHERE subscription = 'failing' AND state = 'running'), 'a task runs');
my $removing = begin(q(SELECT herald.unsubscribe('failing', force => true)));
$removing->query_safe(q(PREPARE TRANSACTION 'removing'));
$removing->quit;
$gate->quit;
others_go_on("a prepared unsubscribe, round $_") for 1 .. 3;
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.failure_log WHERE subscription = 'failing')), '0', 'nothing is recorded yet');
$node->safe_psql('postgres', q(ROLLBACK PREPARED 'removing'));
wait_until($node, q(SELECT count(*) = 1 FROM herald.dead_letters WHERE subscription = 'failing' AND attempts = 1), 'and then a single attempt is', seconds => 60);

# A retry that succeeds of one that is being removed.
my ($id) = publish_many($node, 'rchan', 1, payload => '{"gate": 2, "failures": 1}');
wait_until($node, q(SELECT count(*) = 1 FROM herald.tasks WHERE subscription = 'retried' AND state = 'retrying'), 'a task waits for its second attempt');
$gate = close_gate($node, 2);
make_due($node, $id);
wait_until($node, q(SELECT count(*) = 1 FROM herald.workers WHERE subscription = 'retried' AND state = 'running'), 'it runs');
$removing = begin(q(SELECT herald.unsubscribe('retried', force => true)));
$gate->quit;
others_go_on("an open unsubscribe, round $_") for 1 .. 3;
is($node->safe_psql('postgres', q(SELECT count(*) FROM app.effects WHERE subscription = 'retried')), '0', 'it is not done');
end($removing, 'ROLLBACK');
wait_until($node, q(SELECT count(*) = 1 FROM app.effects WHERE subscription = 'retried' AND attempt = 2), 'and then it is', seconds => 60);

# But for the gate, which a handler waits for.
my @waits = grep { !/advisory lock/ } log_lines($node, qr/pg_herald (?:launcher|dispatcher|announcer|worker).*still waiting for/);
is(join("\n", @waits), '', 'no process of ours has waited for a lock');

# A lock that only a superuser can have, for which they do wait: not for long, or status tells.
my $dba = $node->background_psql('postgres');
my $dba_pid = $dba->query_safe('SELECT pg_backend_pid()');
$dba->query_safe('BEGIN; LOCK herald_internal.parked_store');
wait_until($node, q(SELECT NOT ok AND value LIKE '%cannot rotate the log since % (SQLSTATE 55P03)' AND hint IS NOT NULL FROM herald.status() WHERE name = 'announcer'),
	'status tells what the announcer cannot do');
others_go_on_announcing();
signal_process('TERM', pid_of($node, 'dispatcher'));
wait_until($node, qq(SELECT NOT ok AND value LIKE '%in one turn for % s, waits for Lock relation, held by pid $dba_pid' FROM herald.status() WHERE name = 'dispatcher'),
	'and what the dispatcher waits for', seconds => 60);
$dba->query_safe('COMMIT');
$dba->quit;
wait_until($node, q(SELECT bool_and(ok) FROM herald.status() WHERE name IN ('launcher', 'dispatcher', 'announcer')), 'both go on', seconds => 90);
wait_for_effects($node, 'bs', $bobs, name => 'and tasks with them');
clean_log($node);
$node->stop;
done_testing();

sub others_go_on_announcing
{
	$bobs++;
	acknowledged($node, "SET SESSION AUTHORIZATION bob; SELECT herald.publish('loud', '$bobs'); SELECT herald.publish('bchan', '$bobs');");
	my @heard;
	return wait_for('messages are announced', sub { push @heard, heard_now($listener); return grep { $_->[1] eq $bobs } @heard });
}
