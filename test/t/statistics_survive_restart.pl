# Statistics of channels and subscriptions are the same after a restart in order; after an immediate stop or
# a crash they start anew, and a file that can't be used is ignored.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use PostgreSQL::Test::Utils;

my $node = start_herald('statistics', conf => "herald.max_channels = 16\n");
my $file = $node->data_dir . '/pg_stat/pg_herald.stat';
$node->safe_psql('postgres', <<'SQL');
CREATE DATABASE other;
SELECT herald.create_channel('jobs');
SELECT herald.create_channel('quiet', announce => 'off');
SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_attempts => 2, retry_delay => '1 ms');
SQL
$node->safe_psql('other', q(CREATE EXTENSION pg_herald; SELECT herald.notify('elsewhere', 'x')));

sub work
{
	publish_many($node, 'jobs', 5);
	publish_many($node, 'jobs', 2, payload => '{"failures": 1}');
	publish_many($node, 'jobs', 1, payload => '{"failures": 9}');
	$node->safe_psql('postgres', q(
		SELECT herald.publish('quiet', '1');
		SELECT herald.notify('undeclared', 'x');
		SELECT herald.notify('name ' || i, 'more than there is room for') FROM generate_series(1, 20) AS i));
	is(sqlstate_of($node, q(SELECT herald.publish('jobs', 'no json'))), '22P02', 'one is rejected');
	wait_idle($node, 'work');
	return wait_until($node, q(SELECT sum(announced) = sum(published) FROM herald.channel_stats WHERE channel <> 'quiet'), 'all is announced');
}

# All there is, latencies and times included.
sub figures
{
	return $node->safe_psql('postgres', <<'SQL') . "\n" . $node->safe_psql('other', 'SELECT channel, published FROM herald.channel_stats ORDER BY channel');
SELECT * FROM herald.channel_stats ORDER BY channel;
SELECT subscription, done, failed, dead, p50_ms, p95_ms, p99_ms FROM herald.subscription_stats;
SQL
}

sub jobs { return $node->safe_psql('postgres', q(SELECT published, delivered + failed FROM herald.channel_stats WHERE channel = 'jobs')) }

sub rows { return $node->safe_psql('postgres', q(SELECT count(*) FROM herald.channel_stats)) }

work();
my $before = figures();
like($before, qr/^jobs\|8\|.*^work\|7\|4\|1\|/ms, 'there are figures');
like($before, qr/^\(other\)\|[1-9]/m, 'also of channels beyond the limit');
like($before, qr/^elsewhere\|1/m, 'and of another database');

# In order.
$node->stop('fast');
ok(-s $file, 'the file is there while the server is down');
$node->start;
is(figures(), $before, 'the same after a fast stop');
ok(!-e $file, 'the file is not there while it is up');
$node->safe_psql('postgres', q(SELECT herald.reset_stats('quiet')));
$before = figures();
$node->stop('smart');
$node->start;
is(figures(), $before, 'the same after a smart stop, and what was reset stays so');

# They go on from there.
work();
is(jobs(), '16|22', 'what counts now is added');
is($node->safe_psql('postgres', q(SELECT done, failed, dead FROM herald.subscription_stats)), '14|8|2', 'also for the subscription');

# Other limits: channels that find no slot count together.
my $total = q(SELECT sum(published), sum(announced), sum(delivered) FROM herald.channel_stats);
my $sums = $node->safe_psql('postgres', $total);
$node->append_conf('postgresql.conf', 'herald.max_channels = 64');
$node->restart;
is($node->safe_psql('postgres', $total), $sums, 'the same sums with more room');

# Not in order.
$node->stop('immediate');
ok(!-e $file, 'an immediate stop leaves no file');
$node->start;
is(rows(), '0', 'and nothing is left');
work();
isnt(rows(), '0', 'they count again');
signal_process('KILL', pid_of($node, 'dispatcher', 'postgres'));
wait_until($node, 'SELECT count(*) = 0 FROM herald.channel_stats', 'a crash takes them away');
ok(!-e $file, 'and leaves no file');

# Files that can't be used: damaged in any part, cut off, empty, too long, of something else.
publish_many($node, 'jobs', 3);
wait_idle($node, 'work');
$node->stop('fast');
my $good = slurp_file($file);
my %bad = (
	'empty' => '',
	'text' => "this is no such file\n" x 100,
	'cut off in the header' => substr($good, 0, 10),
	'cut off' => substr($good, 0, length($good) - 100),
	'without its last byte' => substr($good, 0, length($good) - 1),
	'too long' => "${good}x",
	'of another version' => substr($good, 0, 8) . pack('L', 99) . substr($good, 12),
	'of another server' => substr($good, 0, 16) . pack('Q', 42) . substr($good, 24),
	'of many channels' => substr($good, 0, 32) . pack('L', 0xFFFFFFFF) . substr($good, 36),
	'with a flipped bit' => substr($good, 0, 200) . chr(ord(substr($good, 200, 1)) ^ 4) . substr($good, 201),
);
for my $what (sort keys %bad)
{
	open my $out, '>:raw', $file or die "$file: $!\n";
	print $out $bad{$what};
	close $out;
	my $offset = -s $node->logfile;
	$node->start;
	is(rows(), '0', "a file $what is ignored");
	is(scalar log_lines($node, qr/LOG: .*ignoring file/, $offset), 1, "$what: with a line in the log");
	ok(!-e $file, "$what: and removed");
	$node->stop('immediate');
}
open my $out, '>:raw', $file or die "$file: $!\n";
print $out $good;
close $out;
$node->start;
is(jobs(), '3|3', 'the good one is not');

# Where it can't be written the stop goes on.
mkdir "$file" or die;
mkdir "$file/full" or die;
my $offset = -s $node->logfile;
$node->stop('fast');
is(scalar log_lines($node, qr/LOG: .*could not .*pg_herald\.stat"/, $offset), 1, 'a file that cannot be written is a line in the log');
rmdir "$file/full" or die;
rmdir $file or die;
$node->start;
is(rows(), '0', 'and the figures are gone');
clean_log($node, signals => '9');

done_testing();
