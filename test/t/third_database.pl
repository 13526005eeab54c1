# More databases than max_worker_processes has places for: handlers run in all of them, by turns, a worker has its
# place, and everybody is told what to raise. Databases in which nothing is to be done take no places.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

# The server has a process for logical replication: two databases and two workers fit.
my $node = start_node('third', conf => "max_worker_processes = 8\nherald.worker_idle_timeout = 1\nherald.sweep_interval = 1h\n");

sub processes
{
	my ($where) = @_;
	return "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('pg_herald dispatcher', 'pg_herald announcer') AND $where";
}

sub make_database
{
	my ($database) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	install_herald($node, $database);
	return;
}

sub subscribe { return $node->safe_psql($_[0], "SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app')"); }

my %done;

sub works
{
	my ($database, $what, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	publish_many($node, 'jobs', 5, database => $database);
	my $expected = $done{$database} += 5;
	wait_until($node, "SELECT count(*) = $expected FROM app.effects", "$what: tasks run in $database", database => $database, seconds => $seconds // 60);
	return;
}

sub row { return $node->safe_psql($_[0], "SELECT ok FROM herald.status() WHERE name = '$_[1]'"); }

# Installed and not used: no process.
make_database($_) for 'd1', 'd2', 'd3', 'd4', 'd5';
wait_until($node, processes('true'), 'installed in five databases, nothing to do: no processes', expect => '0');
# There may be a moment without any before one of them is looked at.
wait_until($node, "SELECT value = 'not needed: nobody subscribes' FROM herald.status() WHERE name = 'dispatcher'", 'it says why there is none', database => 'd5');
is($node->safe_psql('d5', "SELECT count(*) FROM herald.status() WHERE NOT ok"), '0', 'and status is content');

# On demand: for the first subscription, and an announcer alone for what is only published.
subscribe($_) for 'd1', 'd2';
works($_, 'two databases') for 'd1', 'd2', 'd1';
$node->safe_psql('d3', "SELECT herald.publish('stored', '{}') FROM herald.create_channel('stored')");
wait_until($node, "SELECT ok AND value = '8 of max_worker_processes = 8 needed, for 3 databases' FROM herald.status() WHERE name = 'places'", 'an announcer alone fits', database => 'd3');
works($_, 'and a third one that only publishes') for 'd1', 'd2';

my $log = -s $node->logfile;
subscribe('d3');
wait_until($node, "SELECT NOT ok AND hint LIKE 'Raise max_worker_processes to at least 9 %' FROM herald.status() WHERE name = 'places'", 'status says how many are needed, before any task waits', database => $_)
  for 'd1', 'd2', 'd3';
works($_, 'three that subscribe') for 'd3', 'd1', 'd2', 'd3', 'd1', 'd2';
subscribe($_) for 'd4', 'd5';
works("d$_", 'five that subscribe') for 1 .. 5, 1 .. 5;
# Where nobody's processes have a place, there are none: never one without the other for long.
wait_until($node, "SELECT count(*) = 0 FROM (SELECT datname FROM pg_stat_activity WHERE backend_type IN ('pg_herald dispatcher', 'pg_herald announcer') GROUP BY datname HAVING count(*) = 1 AND min(backend_type) = 'pg_herald dispatcher') AS lone", 'no dispatcher without its announcer');
cmp_ok($node->safe_psql('postgres', processes('true')), '<=', 5, 'a place is kept for workers');
like($node->safe_psql('d5', "SELECT string_agg(value, ' ') FROM herald.status() WHERE name IN ('dispatcher', 'announcer')"), qr/^(pid [0-9]+ pid [0-9]+|waits for a place waits for a place)$/, 'the rows of the processes say so, too');
is(scalar(log_lines($node, qr/WARNING:.*max_worker_processes is too low for all databases/)), 1, 'one warning in the log');
is(scalar(log_lines($node, qr/(ERROR|FATAL|PANIC):/, $log)), 0, 'and no errors');

# A busy database does not keep its places for ever.
$node->safe_psql('d1', "SELECT herald.alter_subscription('work', handler => 'app.work')");
$node->safe_psql('d2', "SELECT herald.alter_subscription('work', handler => 'app.work')");
my %gate = map { $_ => close_gate($node, 1, $_) } 'd1', 'd2';
publish_many($node, 'jobs', 40, database => $_, payload => '{"gate": 1}') for 'd1', 'd2';
# Whichever it is: what runs keeps its process, and there may be no other for the second database.
my $waiting = q(FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database WHERE locktype = 'advisory' AND NOT granted);
wait_until($node, "SELECT count(*) >= 1 $waiting", 'a handler runs, and stays', seconds => 60);
my $first = $node->value("SELECT min(datname) $waiting");
(delete $gate{$first})->quit;
wait_until($node, 'SELECT count(*) >= 40 FROM app.effects WHERE message_id > (SELECT max(message_id) FROM app.effects) - 40', 'one of them goes on', database => $first, seconds => 90);
$_->quit foreach values %gate;
$done{$_} += 40 for 'd1', 'd2';
wait_until($node, "SELECT count(*) = $done{$_} FROM app.effects", "$_: all run", database => $_, seconds => 90) for 'd1', 'd2';

# Fewer databases: enough places again.
$node->safe_psql("d$_", "SELECT herald.unsubscribe('work', force => true)") for 3 .. 5;
$node->safe_psql('postgres', "DROP DATABASE d$_ WITH (FORCE)") for 3 .. 5;
wait_until($node, "SELECT ok FROM herald.status() WHERE name = 'places'", 'two databases: status is content', database => 'd1');
wait_until($node, processes('true'), 'and both have their processes', expect => '4');

# The same after a restart, when nothing is known of any database.
make_database($_) for 'd6', 'd7';
subscribe($_) for 'd6', 'd7';
$node->restart;
works($_, 'restarted') for 'd1', 'd6', 'd2', 'd7';
clean_log($node);
done_testing();
