# A handler whose query crashes the server in a parallel worker of it: it is found out when it runs again.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('parallel');
$node->safe_psql('postgres', q(
	CREATE TABLE app.many AS SELECT generate_series(1, 1000) AS n;
	GRANT SELECT ON app.many TO app;
	CREATE FUNCTION app.parallel(task herald.task) RETURNS void LANGUAGE plpgsql
		SET parallel_setup_cost = 0 SET parallel_tuple_cost = 0 SET min_parallel_table_scan_size = 0 SET parallel_leader_participation = off AS $$
	BEGIN
		PERFORM count(pg_sleep(1)) FROM app.many;  -- a slow handler
	END $$;
	ALTER FUNCTION app.parallel OWNER TO app;
	SELECT herald.create_channel('jobs', announce => 'off');
	SELECT herald.subscribe('bad', 'jobs', 'app.parallel', run_as => 'app', max_attempts => 3, retry_delay => '0')));
my ($id) = publish_many($node, 'jobs', 1);
for my $crash (1 .. 3)
{
	my $pid;
	wait_for("it runs in parallel, $crash", sub {
		$pid = eval { $node->safe_psql('postgres', "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'parallel worker'") };
		return defined $pid && $pid ne '';
	});
	is(signal_process('KILL', $pid), 1, 'kill -9 of a parallel worker');
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'the server is back');
}
wait_until($node, "SELECT count(*) = 1 FROM herald.dead_letters WHERE message_id = $id", 'it is a dead letter after three runs');
is($node->safe_psql('postgres', q(SELECT string_agg(attempt || ' ' || error_code, ',' ORDER BY attempt) FROM herald.failure_log)),
	'1 57P02,2 57P02,3 57P02', 'each of which is in the failure log');
clean_log($node, signals => 9);

done_testing();
