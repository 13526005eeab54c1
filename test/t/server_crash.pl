# kill -9 of the postmaster and immediate stops in the middle of 1,000 tasks, with publishers at work: what
# was acknowledged is stored and handled once, and the server goes on without a hand.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use IPC::Run ();
use PostgreSQL::Test::Utils;

my $node = start_herald('server_crash');
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'off');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app');
	SELECT herald.subscribe('failing', 'bad', 'app.work', run_as => 'app', retry_delay => '100 ms', retry_backoff => 1)));

my (@ids, @bad);
push @ids, publish_many($node, 'jobs', 1000, payload => '{"seconds": 0.005}');
push @bad, publish_many($node, 'bad', 30, payload => '{"failures": 2}');
my $script = "${PostgreSQL::Test::Utils::tmp_check}/server_crash.sql";
append_to_file($script, "SELECT herald.publish('jobs', '{}');\n" x 100_000);

for my $round (1 .. 6)
{
	# A publisher is cut off in its work; what psql has printed was acknowledged.
	my $printed = "${PostgreSQL::Test::Utils::tmp_check}/server_crash_printed_$round";
	my $publisher = IPC::Run::start(
		[ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-f', $script ],
		'<', \undef, '>', $printed, '2>', '/dev/null');
	my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM stored');
	$node->poll_query_until('postgres', "SELECT count(*) > $before + 50 FROM stored");
	if ($round % 2)
	{
		$node->kill9;
	}
	else
	{
		$node->stop('immediate');
	}
	$publisher->finish;
	my @acknowledged = grep { /^[0-9]+$/ } split /\n/, slurp_file($printed);
	cmp_ok(scalar @acknowledged, '<', 100_000, 'the publisher was cut off after ' . @acknowledged);
	push @ids, @acknowledged;
	ok(start_again($node), 'started again');
}
wait_until($node, <<'SQL', 'all tasks are handled', seconds => 60);
SELECT count(*) = 0 FROM (SELECT s.id FROM stored AS s JOIN herald_internal.channel_store AS c ON c.id = s.channel_id
                           WHERE c.channel = 'jobs' EXCEPT SELECT message_id FROM app.effects) AS waiting
SQL
wait_idle($node, 'work');
handled_once($node, 'work', \@ids);
wait_for_effects($node, 'failing', 30);
wait_idle($node, 'failing');
handled_once($node, 'failing', []);
failures_complete($node, 'failing', 60);
clean_log($node);

done_testing();
