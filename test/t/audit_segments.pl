# The trail's segments are used and emptied in turn beside those who write and read: nothing that must be kept is lost,
# what is too old goes, and nobody waits for it. The server's clock runs twenty times as fast, so that a
# minute, the shortest retention there is, takes three seconds.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $clock = "${PostgreSQL::Test::Utils::tmp_check}/audit_segments_clock";
append_to_file("$clock.c", <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	static int (*real)(struct timeval *, void *);
	static long long began;
	if (!real) {
		began = atoll(getenv("CLOCK_BEGAN"));
		real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
	}
	int result = real(now, zone);
	long long micros = began + 20 * (now->tv_sec * 1000000LL + now->tv_usec - began);
	now->tv_sec = micros / 1000000;
	now->tv_usec = micros % 1000000;
	return result;
}
C
plan skip_all => 'no compiler for a clock that runs faster'
  if system(($ENV{CC} // 'cc'), '-shared', '-fPIC', '-O1', '-o', "$clock.so", "$clock.c", '-ldl') != 0;

my $node;
{
	local $ENV{CLOCK_BEGAN} = int(time * 1_000_000);
	local $ENV{LD_PRELOAD} = join ':', grep { defined } $ENV{LD_PRELOAD}, "$clock.so";
	$node = start_node('audit_segments', conf => <<'CONF');
herald.audit_retention = '1min'
herald.sweep_interval = '1s'
log_lock_waits = on
deadlock_timeout = '3s'
CONF
}
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION pg_herald;
CREATE TABLE changes (n bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), by text);
SELECT herald.enable_audit('changes');
CREATE VIEW entries AS SELECT (record_id ->> 'n')::bigint AS n, * FROM herald.audit_log WHERE operation = 'insert';
-- Each insert is noted with a time just before that of its entry.
CREATE VIEW verdict AS SELECT
    (SELECT count(*) > 0 FROM changes WHERE at > statement_timestamp() - interval '1 min') AS written,
    (SELECT count(*) FROM changes WHERE at > statement_timestamp() - interval '1 min' AND n NOT IN (SELECT n FROM entries)) AS missing,
    (SELECT count(*) - count(DISTINCT n) FROM entries) AS twice,
    (SELECT count(*) FROM entries WHERE n NOT IN (SELECT n FROM changes)) AS rolled_back,
    (SELECT count(*) FROM herald.audit_log WHERE session_user_name IS NULL OR current_user_name IS NULL OR transaction_id IS NULL) AS without_context;
SQL
my $segments = join ', ', map { ("herald_internal.audit_$_", "herald_internal.audit_context_$_") } 0 .. 7;
# Under locks, so that nothing is emptied between the time that counts and the look.
my $lock = "LOCK TABLE $segments IN ACCESS SHARE MODE";
my $right = 't|0|0|0|0';

sub trail_is_right { my ($when) = @_; return is($node->value("BEGIN; $lock; SELECT * FROM verdict; COMMIT"), $right, "$when: nothing is missing, twice, rolled back or without context") }

# By the server's clock. The segments come round in 80 s of it.
sub seconds_pass
{
	my ($seconds, $name) = @_;
	my $end = $node->value("SELECT clock_timestamp() + interval '$seconds s'");
	return wait_until($node, "SELECT clock_timestamp() > '$end'", $name);
}

my $loads = 0;

sub start_load
{
	my @scripts = (
		[ 8, "INSERT INTO changes (by) VALUES ('single')" ],
		[ 1, "INSERT INTO changes (by) SELECT 'many' FROM generate_series(1, 400)" ],
		[ 3, "BEGIN;\nINSERT INTO changes (by) VALUES ('before');\nSAVEPOINT a;\nINSERT INTO changes (by) VALUES ('lost');\nROLLBACK TO a;\n"
				. "INSERT INTO changes (by) VALUES ('between');\nSAVEPOINT b;\nINSERT INTO changes (by) VALUES ('released');\nRELEASE b;\nCOMMIT" ],
		[ 3, "BEGIN;\nSAVEPOINT a;\nINSERT INTO changes (by) SELECT 'lost' FROM generate_series(1, 3);\nROLLBACK TO a;\n"
				. "INSERT INTO changes (by) VALUES ('after a savepoint');\nCOMMIT" ],
		# Keeps the announcer going, which looks after the segments.
		[ 8, "SELECT herald.notify('tick', '')" ]);
	$loads++;
	my @files = map {
		my $file = "${PostgreSQL::Test::Utils::tmp_check}/audit_segments_load_${loads}_$_";
		append_to_file($file, "$scripts[$_][1];\n");
		('-f', "$file\@$scripts[$_][0]");
	} 0 .. $#scripts;
	my %load = (out => '', err => '');
	$load{run} = IPC::Run::start([ $node->installed_command('pgbench'), '-n', '-c', '4', '-R', '150', '-T', '120', @files, $node->connstr('postgres') ],
		'<', \undef, '>', \$load{out}, '2>', \$load{err});
	return \%load;
}

sub stop_load
{
	my ($load) = @_;
	$load->{run}->pump_nb;
	my $running = $load->{run}->pumpable;
	$load->{run}->kill_kill(grace => 0.1);
	ok($running && $load->{err} !~ /error|aborted/i, 'no writer has failed') or diag($load->{err});
	return;
}

# Writers that stay open beside many others, over more than a turn of all segments.
my $load = start_load();
my $open = $node->background_psql('postgres');
$open->query_safe(q(BEGIN; INSERT INTO changes (by) VALUES ('open')));
$node->value(q(BEGIN; INSERT INTO changes (by) VALUES ('prepared'); SAVEPOINT a; INSERT INTO changes (by) VALUES ('lost'); ROLLBACK TO a;
	INSERT INTO changes (by) SELECT 'prepared' FROM generate_series(1, 9); PREPARE TRANSACTION 'kept'));
my $snapshot = $node->background_psql('postgres');
$snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM changes LIMIT 1');
seconds_pass(25, 'segments turn beside an open transaction');
$open->query_safe(q(INSERT INTO changes (by) VALUES ('open, later'); SAVEPOINT a; INSERT INTO changes (by) VALUES ('lost')));
trail_is_right('beside an open transaction');
my $seen = $snapshot->query_safe("$lock; SELECT * FROM verdict; COMMIT");
is($seen =~ s/^[tf]\|//r, '0|0|0|0', 'nor is it in an older snapshot');
seconds_pass(70, 'all segments have had their turn');
$open->query_safe(q(ROLLBACK TO a; INSERT INTO changes (by) VALUES ('open, at last')));
trail_is_right('after a turn of all segments');

# As a dump does.
my $reader = $node->background_psql('postgres');
$reader->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; $lock");
my $before = $reader->query_safe('SELECT count(*), count(session_user_name) FROM herald.audit_log');
$node->value(q(COMMIT PREPARED 'kept'));
$open->query_safe('COMMIT');
is($node->value(q(SELECT by, (SELECT count(*) FROM entries AS e WHERE e.n = c.n AND session_user_name IS NOT NULL) FROM changes AS c WHERE by ~ '^(open|prepared)' GROUP BY by, 2 ORDER BY 1, 2)),
	"open|1\nopen, at last|1\nopen, later|1\nprepared|1", 'what was written long before its commit is there');
seconds_pass(100, 'a turn of all segments beside a reader');
is($node->value("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace)"), '0', 'nobody waits for it');
is($reader->query_safe('SELECT count(*), count(session_user_name) FROM herald.audit_log'), $before, 'who reads keeps what it sees');
trail_is_right('beside a reader');
$reader->query_safe('COMMIT');
stop_load($load);

# Killed at work: all processes of the server start again.
$load = start_load();
seconds_pass(10, 'the load goes on');
my $killed = pid_of($node, 'announcer', 'postgres');
signal_process('KILL', $killed);
$load->{run}->finish;
end_sessions($open, $snapshot, $reader);
wait_until($node, 'SELECT true', 'the server is back');
wait_for_new($node, 'announcer', $killed, 'postgres');
trail_is_right('after a kill of the announcer');
$load = start_load();
$node->value("INSERT INTO changes (by) VALUES ('after the kill')");
wait_until($node, "SELECT min(changed_at) > clock_timestamp() - interval '2 min' FROM herald.audit_log", 'beside writers, what is too old goes');
trail_is_right('and all that is younger stays');
stop_load($load);
my $contexts = join ' UNION ALL ', map { "SELECT id FROM herald_internal.audit_context_$_" } 0 .. 7;
wait_until($node, "SELECT (SELECT count(*) FROM herald.audit_log) + (SELECT count(*) FROM ($contexts) AS c) = 0", 'in the end all is gone, with the contexts');

# Seconds of waiting are in the log; a writer must not wait for who empties, nor that one for anybody.
is(join("\n", log_lines($node, qr/(still waiting for|acquired) (RowExclusive|AccessExclusive)Lock on relation/)), '', 'nobody waited for a segment');
clean_log($node, signals => 9);
$node->stop;
done_testing();
