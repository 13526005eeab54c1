# One transaction with 100,000 messages, which commits: each task runs exactly once. And transactions with more
# announcements than the outbox takes of stored messages: a listener hears each once.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('huge', conf => "max_wal_size = 2GB\n");
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'off');
	SELECT herald.create_channel('pointers', announce => 'pointer');
	SELECT herald.create_channel('payloads', announce => 'payload');
	SELECT herald.create_channel('prices', durable => false);
	SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app')));

# The dispatcher finds them by a scan, at once and not by the sweep; small transactions get through meanwhile.
my @ids = split /\n/, $node->safe_psql('postgres',
	"SELECT herald.publish('jobs', jsonb_build_object('i', i)) FROM generate_series(1, 100000) AS i");
is(scalar @ids, 100_000, '100,000 messages in one transaction');
wait_for_effects($node, 'work', 1, name => 'the first tasks run at once');
my @small = publish_many($node, 'jobs', 100);
wait_for_effects($node, 'work', 100_100, seconds => 150);
wait_idle($node, 'work');
handled_once($node, 'work', [ @ids, @small ]);
failures_complete($node, 'work', 0);
statistics_true($node, 'work', 'jobs');

# Announcements of one transaction: those of small ones before and after it, too.
my $listener = $node->background_psql('postgres');
$listener->set_query_timer_restart;
$listener->query_safe('LISTEN pointers; LISTEN payloads; LISTEN prices');

sub hears
{
	my ($channel, $statement, $expected, %options) = @_;
	my $announced = $node->safe_psql('postgres', "SELECT announced FROM herald.channel_stats WHERE channel = '$channel'") || 0;
	$node->safe_psql('postgres', $statement);
	wait_until($node, "SELECT announced >= $announced + $expected FROM herald.channel_stats WHERE channel = '$channel'", "$channel: all are announced");
	my @heard = $listener->query("SELECT 'heard'") =~ /Asynchronous notification "$channel" with payload ".*?([0-9]+)[^0-9]*?(?:"bytes": [0-9]+\}\})?" received/g;
	my %seen;
	$seen{$_}++ for @heard;
	is(scalar @heard, $expected, "$channel: a listener hears as many");
	is(scalar(keys %seen), $expected, "$channel: each once");
	my $inversions = grep { $heard[$_] < $heard[ $_ - 1 ] } 1 .. $#heard;
	is($inversions, 0, "$channel: in order");
	return;
}

hears('prices', "SELECT herald.publish('prices', jsonb_build_object('i', i)) FROM generate_series(1, 6000) AS i", 6000);
hears('prices', "SELECT herald.notify('prices', i::text) FROM generate_series(10001, 16000) AS i", 6000);
hears('pointers', "SELECT herald.publish('pointers', '{}') FROM generate_series(1, 4096) AS i", 4096);
hears('pointers', "SELECT herald.publish('pointers', '{}') FROM generate_series(1, 6000) AS i", 6000);
hears('payloads', "SELECT herald.publish('payloads', jsonb_build_object('i', i)) FROM generate_series(1, 6000) AS i", 6000);
$listener->quit;
clean_log($node);

done_testing();
