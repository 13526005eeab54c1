# A dispatcher that has handled much is as small as before when the log has forgotten it: also where the ids of its
# channels lie far apart, because others publish more.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use List::Util qw(max);
use PostgreSQL::Test::Utils;

plan skip_all => 'no /proc' unless -r '/proc/self/status';

my $node = start_herald('memory', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', q(SELECT herald.create_channel('jobs', announce => 'off');
	CREATE FUNCTION app.nothing(task herald.task) RETURNS void LANGUAGE sql AS 'SELECT';
	SELECT herald.subscribe('work', 'jobs', 'app.nothing', run_as => 'app')));
my $dispatcher = pid_of($node, 'dispatcher');
my $done = 0;

# Kilobytes of the dispatcher when some more messages have come and gone.
sub memory_after
{
	my ($count) = @_;
	$node->safe_psql('postgres', <<"SQL");
DO \$\$
BEGIN
    FOR i IN 1 .. $count LOOP
        PERFORM herald.publish('jobs', '{}');
        INSERT INTO herald_internal.id_store SELECT used + 4095 - 32, counter FROM herald_internal.id_store WHERE counter = 'message';  -- those of others
    END LOOP;
END \$\$
SQL
	$done += $count;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, "SELECT done = $done FROM herald.subscription_stats WHERE subscription = 'work'", "$done are done", seconds => 60);
	wait_until($node, 'SELECT count(*) = 0 FROM stored', 'and forgotten', seconds => 60);
	# A publication wakes it: it has looked since.
	publish_many($node, 'jobs', 1);
	$done++;
	wait_until($node, "SELECT done = $done FROM herald.subscription_stats WHERE subscription = 'work'", 'it goes on');
	my ($kilobytes) = slurp_file("/proc/$dispatcher/status") =~ /^VmRSS:\s+([0-9]+)/m;
	return $kilobytes;
}

my @memory = map { memory_after(15_000) } 1 .. 4;
note "kB: @memory";
# With a place for each id it has seen it would be 9 MB more each time. It forgets at times, not each time.
cmp_ok(max(@memory[2, 3]) - max(@memory[0, 1]), '<', 9000, 'it does not grow any more');
is(pid_of($node, 'dispatcher'), $dispatcher, 'it is the same');
clean_log($node);

done_testing();
