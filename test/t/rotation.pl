# The log gives its space back: segments are emptied when their messages are old enough, under load, with a
# paused and a failing subscription beside; nothing is lost or done twice by it. Nobody waits for it, and it
# waits for nobody.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use IPC::Run ();
use PostgreSQL::Test::Utils;

my $node = start_herald('rotation', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.subscribe('busy', 'jobs', 'app.work', run_as => 'app', max_attempts => 3, retry_delay => '50 ms');
SELECT herald.subscribe('paused', 'jobs', 'app.work', run_as => 'app');
SELECT herald.pause('paused');
SQL
my $tables = 'SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = \'herald_internal\'::regnamespace AND relname ~ \'^(log|settled)_\d$\'';
my $turns = 0;
sub log_bytes { return $node->safe_psql('postgres', $tables) }

# How often a segment was emptied: TRUNCATE gives it another file.
my %files;
sub count_turns
{
	for (split /\n/, $node->safe_psql('postgres', q(SELECT relname, relfilenode FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relname ~ '^log_\d$')))
	{
		my ($name, $file) = split /\|/;
		$turns++ if defined $files{$name} && $files{$name} != $file;
		$files{$name} = $file;
	}
	return $turns;
}

my $script = "${PostgreSQL::Test::Utils::tmp_check}/rotation.sql";
append_to_file($script, q(SELECT herald.publish('jobs', jsonb_build_object('failures', (random() < 0.1)::integer)) \gset) . "\n");
my ($out, $err) = ('', '');
my $pgbench = IPC::Run::start(
	[ 'pgbench', '-h', $node->host, '-p', $node->port, '-n', '-c', '4', '-t', '1000', '-R', '400', '-f', $script, 'postgres' ],
	'>', \$out, '2>', \$err, IPC::Run::timeout($HeraldTest::patience * 5));
count_turns();
wait_for('segments are emptied while messages come in', sub { count_turns() >= 3 });
ok(end_process($node, 'TERM', 'announcer'), 'the announcer is terminated');
my $before = $turns;
wait_for('its successor goes on', sub { count_turns() >= $before + 2 });
ok(end_process($node, 'TERM', 'dispatcher'), 'the dispatcher is terminated');
$pgbench->finish;
like($out, qr/number of transactions actually processed: 4000\/4000/, 'all were published');
my $ids = $node->safe_psql('postgres', q(SELECT herald_internal.next_id('message')));

# Of the busy one nothing is left, of the paused one nothing but parked tasks.
wait_for('the log is empty', sub { log_bytes() == 0 });
wait_for('the busy one has done all', sub {
	$node->safe_psql('postgres', q(SELECT count(*) FROM app.effects WHERE subscription = 'busy')) == 4000 });
is($node->safe_psql('postgres', q(SELECT count(*), min(attempts), max(attempts) FROM herald_internal.parked_store)), '4000|0|0', 'what the paused one has not done is parked');
wait_until($node, q(SELECT pending, retrying, dead FROM herald.subscription_stats WHERE subscription = 'paused'), 'and pending', expect => '4000|0|0');
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.tasks WHERE subscription = 'paused' AND state = 'pending')), '4000', 'as herald.tasks says');

$node->restart;
wait_until($node, q(SELECT pending = 4000 FROM herald.subscription_stats WHERE subscription = 'paused'), 'also after a restart');
$node->safe_psql('postgres', q(SELECT herald.resume('paused')));
wait_for('resumed, it does all of them', sub {
	$node->safe_psql('postgres', q(SELECT count(*) FROM app.effects WHERE subscription = 'paused')) == 4000 });
is($node->safe_psql('postgres', q(SELECT subscription, count(*), count(DISTINCT message_id) FROM app.effects GROUP BY 1 ORDER BY 1)),
	"busy|4000|4000\npaused|4000|4000", 'each task once');
wait_until($node, 'SELECT count(*) = 0 FROM herald_internal.parked_store', 'nothing is parked any more');

# A reader that stays (pg_dump) keeps a segment from being emptied, and nobody from working.
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; LOCK TABLE herald_internal.log_0, herald_internal.log_1, herald_internal.log_2 IN ACCESS SHARE MODE');
my @ids = publish_many($node, 'jobs', 100);
wait_until($node, "SELECT count(*) = 100 FROM app.effects WHERE subscription = 'busy' AND message_id > $ids", 'tasks are done beside a reader of the log');
wait_until($node, q(SELECT value LIKE '%cannot be emptied since%' FROM herald.status() WHERE name = 'log'), 'status says that it waits');
push @ids, publish_many($node, 'jobs', 100);
wait_until($node, "SELECT count(*) = 200 FROM app.effects WHERE subscription = 'busy' AND message_id > $ids", 'and goes on doing them');
$reader->query_safe('COMMIT');
# The announcer would try again up to ten seconds later, as below. A new one does so at once.
ok(end_process($node, 'TERM', 'announcer'), 'the reader goes');
wait_for('then it is emptied', sub { log_bytes() == 0 });
$reader->quit;

# Looks of a moment each, but without a gap between them, as of some dashboards: the next one begins before the last one ends.
sub begin_look
{
	my ($look) = @_;
	$look->{session}->query_until(qr/begun/, "\\echo begun\nBEGIN;\nSELECT count(*) FROM stored;\n");
	# It may have to queue.
	return HeraldNode::becomes_true($HeraldTest::patience, sub {
		$node->value("SELECT count(*) > 0 FROM pg_locks WHERE pid = $look->{pid} AND relation = 'herald_internal.log_2'::regclass") eq 't' });
}
my @looks = map { { session => $_, pid => $_->query_safe('SELECT pg_backend_pid()') } } map { $node->background_psql('postgres') } 1 .. 2;
ok(begin_look($looks[0]), 'somebody looks');
publish_many($node, 'jobs', 10);
wait_for('the log is emptied between two looks', sub {
	begin_look($looks[1]) or return 0;
	$looks[0]{session}->query_safe('COMMIT');
	@looks = reverse @looks;
	return log_bytes() == 0;
});
$looks[0]{session}->query_safe('COMMIT');
$_->{session}->quit foreach @looks;

# A handler that runs for long keeps its segment.
my $gate = close_gate($node, 1);
my ($slow) = publish_many($node, 'jobs', 1, payload => '{"gate": 1}');
wait_until($node, q(SELECT value LIKE '%cannot be emptied since%' FROM herald.status() WHERE name = 'log'), 'a task runs through a turn');
publish_many($node, 'jobs', 10);
wait_until($node, "SELECT count(*) = 20 FROM app.effects WHERE message_id > $slow", 'beside it others go on');
$gate->quit;
ok(end_process($node, 'TERM', 'announcer'), 'a new announcer');
wait_for('finds its segment free when it is over', sub { log_bytes() == 0 });
is($node->safe_psql('postgres', "SELECT subscription, count(*) FROM app.effects WHERE message_id = $slow GROUP BY 1 ORDER BY 1"),
	"busy|1\npaused|1", 'it was done before, and once');

# The limit: publishers hear of it, and it ends when the log is small again.
$reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; LOCK TABLE herald_internal.log_0, herald_internal.log_1, herald_internal.log_2 IN ACCESS SHARE MODE');
reload_with($node, 'herald.max_log_size' => '1MB');
my $refused = 0;
wait_for('a log that is too large refuses messages', sub {
	my ($code, undef, $stderr) = $node->psql('postgres', q(SELECT count(herald.publish('jobs', to_jsonb(repeat(md5(i::text), 20)))) FROM generate_series(1, 200) AS i));
	$refused = $stderr =~ /has reached herald.max_log_size/;
	return $refused;
});
is(sqlstate_of($node, q(SELECT herald.publish('jobs', '1'))), '53400', 'with a code of its own');
wait_until($node, q(SELECT NOT ok FROM herald.status() WHERE name = 'log'), 'status has known it');
$reader->query_safe('COMMIT');
$reader->quit;
wait_for('later it takes them again', sub { ($node->psql('postgres', q(SELECT herald.publish('jobs', '1'))))[0] == 0 });
wait_for('when it is empty', sub { log_bytes() == 0 });
wait_idle($node, $_) for qw(busy paused);
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT FROM app.effects GROUP BY subscription, message_id HAVING count(*) > 1) AS twice'),
	'0', 'nothing was done twice in all this');
clean_log($node);

done_testing();
