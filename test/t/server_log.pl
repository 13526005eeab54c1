# What the server log tells of, and that it is quiet otherwise: which database is served, subscriptions that are held and
# resumed, dead letters, and the end of the server.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('told');
sub lines { return scalar(log_lines($node, shift)) }
sub told
{
	my ($line, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for($name, sub { lines($line) > 0 });
}

$node->safe_psql('postgres', q(SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_attempts => 1)));
told(qr/LOG:  pg_herald serves database "postgres", which has 1 subscription$/, 'a database is served');
publish_many($node, 'jobs', 50);
ok(wait_idle($node, 'work'), 'tasks are handled');
my $quiet = lines(qr/pg_herald/);
publish_many($node, 'jobs', 50);
ok(wait_idle($node, 'work'), 'and more');
is(lines(qr/pg_herald/), $quiet, 'of that nothing is said');

# Many tasks fail: one line, with the error.
$node->safe_psql('postgres', q(SELECT count(herald.publish('jobs', '{"failures": 9}')) FROM generate_series(1, 30)));
wait_until($node, q(SELECT dead = 30 FROM herald.subscription_stats WHERE subscription = 'work'), 'thirty dead letters');
is(lines(qr/LOG:  message \d+ is a dead letter of subscription "work" after attempt 1: /), 1, 'one line of them');

# Held and resumed.
$node->safe_psql('postgres', 'ALTER FUNCTION app.work(herald.task) RENAME TO gone');
publish_many($node, 'jobs', 1);
told(qr/LOG:  pg_herald holds subscription "work" of channel "jobs": .*work/, 'a subscription is held');
$node->safe_psql('postgres', q(ALTER FUNCTION app.gone(herald.task) RENAME TO work; SELECT herald.resume('work')));
told(qr/LOG:  subscription "work" was held, and is resumed by role "postgres"/, 'and resumed');
ok(wait_idle($node, 'work'), 'the task is handled');
$node->safe_psql('postgres', q(SELECT herald.pause('work'), herald.resume('work')));
is(lines(qr/is resumed by/), 1, 'a pause is no news');

# The end of the server is none either; that of a single process is.
$node->restart;
publish_many($node, 'jobs', 1);
wait_idle($node, 'work');
is(lines(qr/background worker "pg_herald.*exited with exit code/), 0, 'no exit code when the server stops');
is(lines(qr/FATAL:.*pg_herald/), 0, 'nor an error');
end_process($node, 'TERM', 'announcer');
end_process($node, 'TERM', 'launcher');
told(qr/background worker "pg_herald launcher".*exited with exit code 1/, 'who ends the launcher is told of');
told(qr/background worker "pg_herald announcer".*exited with exit code 1/, 'and who ends another one');
publish_many($node, 'jobs', 1);
ok(wait_idle($node, 'work'), 'all goes on');

# A copy: a server that starts tells of it.
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE postgres');
$node->restart;
told(qr/WARNING:  subscriptions of database "copy" are inert/, 'inert subscriptions');
clean_log($node);
done_testing();
