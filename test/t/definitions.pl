# A fault of definition (handler or role gone, a right missing) holds the one subscription, with its reason
# and a row in the failure log, charges no task, and does not concern the others.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('definitions');
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE temp LOGIN;
GRANT USAGE ON SCHEMA app TO temp;
GRANT INSERT ON app.effects TO temp;
SELECT herald.subscribe('well', 'jobs', 'app.note', run_as => 'app');
SQL

sub ids_of { return split /\n/, $node->safe_psql('postgres', "SELECT id FROM stored AS s JOIN herald_internal.channel_store AS c ON c.id = s.channel_id WHERE c.channel = 'jobs'"); }

# break: what makes it faulty; mend: what repairs it; cold: without a worker that is there already.
sub holds
{
	my ($what, %case) = @_;
	$node->safe_psql('postgres', <<"SQL");
CREATE OR REPLACE FUNCTION app.victim(task herald.task) RETURNS void LANGUAGE sql AS \$\$ SELECT app.note(task) \$\$;
GRANT EXECUTE ON FUNCTION app.victim TO PUBLIC;
SELECT herald.subscribe('victim', 'jobs', 'app.victim', run_as => 'temp', max_attempts => 3, start_at => 'new');
SQL
	publish_many($node, 'jobs', 1);
	wait_for_effects($node, 'victim', 1, name => "$what: runs at first");
	wait_idle($node, 'victim');
	if ($case{cold})
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM herald.workers WHERE role = 'temp'");
		wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_herald worker' AND usename = 'temp'", "$what: no worker is there");
	}
	my $log = -s $node->logfile;
	$node->safe_psql('postgres', $case{break});
	my @ids = publish_many($node, 'jobs', 20);
	wait_until($node, "SELECT state = 'held' FROM herald.subscriptions WHERE subscription = 'victim'", "$what: held");
	like($node->safe_psql('postgres', "SELECT reason FROM herald.subscriptions WHERE subscription = 'victim'"), $case{reason}, "$what: the reason");
	wait_idle($node, 'well');
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE subscription = 'well' AND message_id >= $ids[0]"), '20', "$what: others go on");
	is($node->safe_psql('postgres', "SELECT string_agg(error_code, ' ') FROM herald.failure_log WHERE subscription = 'victim'"), $case{code}, "$what: one failure row");
	wait_until($node, "SELECT count(*) = 20 FROM herald.tasks WHERE subscription = 'victim' AND state = 'pending' AND attempt = 0 AND wait_reason LIKE 'held: %'",
		"$what: the tasks wait, uncharged");
	is($node->safe_psql('postgres', "SELECT ok FROM herald.status() WHERE name = 'held_subscriptions'"), 'f', "$what: status says so");

	# Resumed without being mended: held again, one row more.
	$node->safe_psql('postgres', "SELECT herald.resume('victim')");
	wait_until($node, "SELECT count(*) = 2 FROM herald.failure_log WHERE subscription = 'victim'", "$what: held again");
	wait_until($node, "SELECT state = 'held' FROM herald.subscriptions WHERE subscription = 'victim'", "$what: and says so");

	$node->safe_psql('postgres', "$case{mend}; SELECT herald.resume('victim')");
	wait_until($node, "SELECT count(*) = 21 FROM app.effects WHERE subscription = 'victim'", "$what: mended and resumed, all run");
	wait_idle($node, 'victim');
	handled_once($node, 'victim', \@ids);
	is($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE subscription = 'victim'"), '2', "$what: no more failures");
	cmp_ok(scalar(log_lines($node, qr/(ERROR|FATAL|WARNING):/, $log)), '<', 6, "$what: no loop of errors in the log");
	$node->safe_psql('postgres', "SELECT herald.unsubscribe('victim'); DELETE FROM app.effects WHERE subscription = 'victim'; DELETE FROM herald_internal.failure_store");
	return;
}

my $create = q(CREATE OR REPLACE FUNCTION app.victim(task herald.task) RETURNS void LANGUAGE sql AS $$ SELECT app.note(task) $$);
holds('handler dropped', break => 'DROP FUNCTION app.victim', mend => $create, code => '42883', reason => qr/handler .*victim.* does not exist/);
holds('handler renamed', break => 'ALTER FUNCTION app.victim RENAME TO other', mend => 'ALTER FUNCTION app.other RENAME TO victim',
	code => '42883', reason => qr/handler .*victim.* does not exist/);
holds('EXECUTE revoked', break => 'REVOKE EXECUTE ON FUNCTION app.victim FROM PUBLIC', mend => 'GRANT EXECUTE ON FUNCTION app.victim TO temp',
	code => '42501', reason => qr/role "temp" may not execute handler/);
holds('USAGE revoked', break => 'REVOKE USAGE ON SCHEMA app FROM PUBLIC; REVOKE USAGE ON SCHEMA app FROM temp',
	mend => 'GRANT USAGE ON SCHEMA app TO PUBLIC', code => '42501', reason => qr/role "temp" may not execute handler/);
# From PostgreSQL 17 on background workers may be of roles without LOGIN.
if ($node->pg_version < 17)
{
	holds('role NOLOGIN', cold => 1, break => 'ALTER ROLE temp NOLOGIN', mend => 'ALTER ROLE temp LOGIN', code => '28000', reason => qr/"temp" is not permitted to log in/);
}
else
{
	$node->safe_psql('postgres', "$create; CREATE ROLE group_only NOLOGIN; GRANT USAGE ON SCHEMA app TO group_only; GRANT INSERT ON app.effects TO group_only;
		GRANT EXECUTE ON FUNCTION app.victim TO group_only; SELECT herald.subscribe('victim', 'jobs', 'app.victim', run_as => 'group_only', start_at => 'new')");
	my @ids = publish_many($node, 'jobs', 20);
	wait_for_effects($node, 'victim', 20, name => 'role NOLOGIN: runs');
	handled_once($node, 'victim', \@ids);
	$node->safe_psql('postgres', q(SELECT herald.unsubscribe('victim'); DELETE FROM app.effects WHERE subscription = 'victim'));
}
holds('CONNECT revoked', cold => 1, break => 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO app',
	mend => 'GRANT CONNECT ON DATABASE postgres TO PUBLIC', code => '42501', reason => qr/"temp" may not connect/);
holds('role a superuser', break => 'ALTER ROLE temp SUPERUSER', mend => 'ALTER ROLE temp NOSUPERUSER', code => '42501', reason => qr/superuser/);
my $drop = 'REVOKE ALL ON FUNCTION app.victim FROM temp; REVOKE ALL ON SCHEMA app FROM temp; REVOKE ALL ON app.effects FROM temp; DROP ROLE temp';
# Another role, which is to be named.
my $again = q(CREATE ROLE temp LOGIN; GRANT USAGE ON SCHEMA app TO temp; GRANT INSERT ON app.effects TO temp;
	SELECT herald.alter_subscription('victim', run_as => 'temp'));
holds('role dropped', break => $drop, mend => $again, code => '42704', reason => qr/"temp" does not exist/);
holds('role dropped while no worker is there', cold => 1, break => $drop, mend => $again, code => '42704', reason => qr/"temp" does not exist/);

# Several workers find the fault at the same moment: still one row.
$node->safe_psql('postgres', <<"SQL");
$create;
SELECT herald.subscribe('victim', 'jobs', 'app.victim', run_as => 'temp');
SQL
publish_many($node, 'jobs', 1);
wait_idle($node, 'victim');
$node->safe_psql('postgres', "SELECT herald.pause('victim')");
publish_many($node, 'jobs', 20);
$node->safe_psql('postgres', "ALTER FUNCTION app.victim RENAME TO other; SELECT herald.resume('victim')");
wait_until($node, "SELECT state = 'held' FROM herald.subscriptions WHERE subscription = 'victim'", 'held');
wait_until($node, "SELECT count(*) = 0 FROM herald.workers WHERE kind = 'worker' AND state = 'running'", 'nothing runs');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE subscription = 'victim'"), '1', 'one failure row of several workers');

# A handler that is replaced, and one that is exchanged, take effect with the next task.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE app.versions (message_id bigint, version int);
GRANT ALL ON app.versions TO app;
CREATE FUNCTION app.versioned(task herald.task) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.versions VALUES (task.message_id, 1) $$;
SELECT herald.subscribe('versioned', 'versions', 'app.versioned', run_as => 'app');
SQL
for my $version (2 .. 5)
{
	my ($id) = publish_many($node, 'versions', 1);
	wait_until($node, "SELECT count(*) = 1 FROM app.versions WHERE message_id = $id AND version = $version - 1", 'the handler is version ' . ($version - 1));
	my $body = "RETURNS void LANGUAGE sql AS \$\$ INSERT INTO app.versions VALUES (task.message_id, $version) \$\$";
	$node->safe_psql('postgres',
		  $version == 2 ? "CREATE OR REPLACE FUNCTION app.versioned(task herald.task) $body"
		: $version == 3 ? "DROP FUNCTION app.versioned; CREATE FUNCTION app.versioned(task herald.task) $body"
		: $version == 4 ? "ALTER FUNCTION app.versioned RENAME TO old; CREATE FUNCTION app.versioned(task herald.task) $body"
		: "CREATE FUNCTION app.exchanged(task herald.task) $body; SELECT herald.alter_subscription('versioned', handler => 'app.exchanged')");
}
my ($id) = publish_many($node, 'versions', 1);
wait_until($node, "SELECT count(*) = 1 FROM app.versions WHERE message_id = $id AND version = 5", 'the handler is version 5');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE subscription = 'versioned'"), '0', 'without a failure');
clean_log($node);

done_testing();
