# NOTIFYs come faster than they can be stored, or cannot be stored at all for a while: the announcer keeps a few
# megabytes of them, the rest waits in NOTIFY's own queue. Nothing is lost, and all come in their order.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions qw(stop_idle);
use HeraldTest;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'needs /proc' unless -r "/proc/$$/status";

my $node = start_herald('flood');
$node->safe_psql('postgres', q(SELECT herald.create_channel('flood', accept_notify => true, announce => 'off')));
wait_until($node, "SELECT EXISTS (SELECT FROM stored WHERE payload ->> 'task_id' = 'hello') FROM (SELECT pg_notify('flood', 'hello') OFFSET 0) AS n", 'the announcer listens');
$node->safe_psql('postgres', "SELECT pg_notify('flood', 'last')");
wait_until($node, "SELECT EXISTS (SELECT FROM stored WHERE payload ->> 'task_id' = 'last')", 'and has stored all');
my $before = newest();
my $announcer = pid_of($node, 'announcer');

sub newest { return $node->safe_psql('postgres', 'SELECT max(id) FROM stored'); }

# Megabytes of memory that it has for itself.
sub memory { return slurp_file("/proc/$announcer/status") =~ /RssAnon:\s+([0-9]+) kB/ ? int($1 / 1024) : die; }

my $idle = memory();
my $count = 20_000;
my $most = 0;

# All of it is there when it looks: it could read it in one go.
stop_idle($node, $announcer);
$node->safe_psql('postgres', "SELECT count(pg_notify('flood', lpad(i::text, 7900, 'x'))) FROM generate_series(1, $count) AS i");
my $lock = $node->background_psql('postgres');
$lock->query_safe('BEGIN; LOCK herald_internal.log_0, herald_internal.log_1, herald_internal.log_2 IN SHARE MODE');
signal_process('CONT', $announcer);
wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE pid = $announcer AND NOT granted", 'it cannot store them');
cmp_ok(memory() - $idle, '<', 64, 'the announcer keeps some of them');
cmp_ok($node->safe_psql('postgres', 'SELECT pg_notification_queue_usage() > 0.01'), 'eq', 't', 'the others stay in the queue');
$lock->query_safe('COMMIT');
$lock->quit;
ok(HeraldNode::becomes_true(120, sub {
	my $now = memory();
	$most = $now if $now > $most;
	return $node->safe_psql('postgres', "SELECT count(*) FROM stored WHERE id > $before") == $count;
}), 'all are stored');
cmp_ok($most - $idle, '<', 64, 'it never had much more');
is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY id) AS place, ltrim(payload ->> 'task_id', 'x')::int AS i FROM stored WHERE id > $before) AS s WHERE place = i"),
	$count, 'each once, in their order');
wait_until($node, "SELECT pg_notification_queue_usage() = 0 FROM (SELECT pg_notify('elsewhere', '') OFFSET 0) AS n", 'the queue is empty');
is(pid_of($node, 'announcer'), $announcer, 'by one and the same announcer');
clean_log($node);
done_testing();
