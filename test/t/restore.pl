# pg_dump and restore: in the copy nothing runs until herald.activate(), nothing is lost (pending, waiting for
# another attempt, dead), and ids go on above those that were there.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use PostgreSQL::Test::Utils;

my $node = start_herald('restore');
$node->safe_psql('postgres', q(
	CREATE ROLE owner LOGIN;
	SELECT herald.create_channel('jobs', description => 'kept');
	SELECT herald.grant_channel('jobs', 'app', '{publish,read}');
	SELECT herald.subscribe('done', 'jobs', 'app.work', run_as => 'app');
	SELECT herald.subscribe('pending', 'jobs', 'app.work', run_as => 'app');
	SELECT herald.subscribe('waiting', 'retry', 'app.work', run_as => 'app', retry_delay => '1 h');
	SELECT herald.subscribe('dead', 'dead', 'app.work', run_as => 'app', max_attempts => 1);
	SELECT herald.pause('pending')));
my @ids = publish_many($node, 'jobs', 30);
wait_for_effects($node, 'done', 30);
publish_many($node, 'retry', 5, payload => '{"failures": 1}');
my @dead = publish_many($node, 'dead', 5, payload => '{"failures": 1}');
wait_until($node, "SELECT count(*) = 10 FROM herald.failure_log", 'failures');
wait_idle($node, $_) for qw(done dead);
wait_until($node, "SELECT running = 0 AND retrying = 5 FROM herald.subscription_stats WHERE subscription = 'waiting'", 'retries wait');
$node->safe_psql('postgres', "SELECT herald.resume('pending'); SELECT herald.pause('done')");
wait_for_effects($node, 'pending', 30);
wait_idle($node, 'pending');
$node->safe_psql('postgres', "SELECT herald.pause('pending')");
my @left = publish_many($node, 'jobs', 12);
my $newest = $left[-1];
my %before = map { $_ => $node->safe_psql('postgres', $_) } (
	'SELECT subscription, state, count(*) FROM herald.tasks GROUP BY 1, 2 ORDER BY 1, 2',
	'SELECT count(*), max(id) FROM stored', 'SELECT subscription, message_id, attempt, error_code, next_attempt_at FROM herald.failure_log ORDER BY 1, 2',
	'SELECT id, subscription, message_id, payload, attempts, died_at FROM herald.dead_letters ORDER BY 1',
	'SELECT channel, owner, durable, announce, privileges, description FROM herald.channels ORDER BY 1');

my $dump = "${PostgreSQL::Test::Utils::tmp_check}/dump";
my $other = start_node('other');
$other->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE owner LOGIN');

# Into another database of the same server in one format, into another server in the other.
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", '-d', $node->connstr('postgres') ], 'pg_dump');
$node->command_ok([ 'pg_dump', '-f', "$dump.sql", '-d', $node->connstr('postgres') ], 'pg_dump as SQL');
$_->safe_psql('postgres', 'CREATE DATABASE copy') for $node, $other;
$node->command_ok([ 'pg_restore', '-j', '2', '-d', $node->connstr('copy'), "$dump.custom" ], 'pg_restore, in parallel');
$other->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('copy'), '-f', "$dump.sql" ], 'restored as SQL');

for my $copy ($node, $other)
{
	my $where = $copy == $node ? 'same server' : 'other server';
	is($copy->safe_psql('copy', "SELECT string_agg(DISTINCT state, ' ') FROM herald.subscriptions"), 'inert', "$where: all is inert");
	is($copy->safe_psql('copy', $_), $before{$_}, "$where: $_") for sort keys %before;
	is($copy->safe_psql('copy', "SELECT ok FROM herald.status() WHERE name = 'inert_subscriptions'"), 'f', "$where: status says so");

	# Publishing works, resuming alone runs nothing.
	my @more = publish_many($copy, 'jobs', 3, database => 'copy');
	cmp_ok($more[0], '>', $newest, "$where: ids go on above");
	$copy->safe_psql('copy', "SELECT herald.resume('done'), herald.resume('pending')");
	is($copy->safe_psql('copy', "SELECT herald.wait_idle('done', '500 ms')"), 'f', "$where: nothing runs");
	is($copy->safe_psql('copy', 'SELECT count(*) FROM app.effects'), '60', "$where: nothing ran");
	is(sqlstate_of($copy, 'SELECT herald.activate()', database => 'copy', role => 'owner'), '42501', "$where: not everybody may activate");

	$copy->safe_psql('copy', 'SELECT herald.activate()');
	wait_for_effects($copy, $_, 45, database => 'copy', name => "$where: $_: activated, all run") for qw(done pending);
	wait_idle($copy, $_, database => 'copy') for qw(done pending);
	handled_once($copy, $_, [ @ids, @left, @more ], database => 'copy') for qw(done pending);
	is($copy->safe_psql('copy', "SELECT count(*), min(next_attempt_at) > now() FROM herald.tasks WHERE subscription = 'waiting' AND state = 'retrying'"), '5|t', "$where: retries wait for their time");
	is($copy->safe_psql('copy', "SELECT herald.replay_all('dead')"), '5', "$where: dead letters can be replayed");
	wait_until($copy, "SELECT count(*) = 10 FROM herald.failure_log WHERE subscription = 'dead'", "$where: and fail again", database => 'copy');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM app.effects'), '60', 'the original is as it was');
is($node->safe_psql('postgres', 'SELECT subscription, state, count(*) FROM herald.tasks GROUP BY 1, 2 ORDER BY 1, 2'),
	$before{'SELECT subscription, state, count(*) FROM herald.tasks GROUP BY 1, 2 ORDER BY 1, 2'}, 'with its tasks');
clean_log($_) for $node, $other;

done_testing();
