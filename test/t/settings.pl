# Settings that take effect by a reload, and a server that lacks what the extension needs: not preloaded,
# worker processes used up.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('settings');
$node->safe_psql('postgres', q(SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_concurrency => 100)));
$node->safe_psql('postgres', 'CREATE DATABASE other');
install_herald($node, 'other');
$node->safe_psql('other', q(SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')));

sub processes
{
	my ($where) = @_;
	return "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_herald%' AND backend_type <> 'pg_herald launcher' AND $where";
}

sub status_of { return $node->safe_psql('postgres', "SELECT ok FROM herald.status() WHERE name = '$_[0]'"); }

# herald.enabled
my @ids = publish_many($node, 'jobs', 5);
wait_for_effects($node, 'work', 5);
reload_with($node, 'herald.enabled' => 'off');
wait_until($node, processes('true'), 'disabled: the processes leave', expect => '0');
push @ids, publish_many($node, 'jobs', 20);
is(status_of('enabled'), 'f', 'status says so');
is($node->safe_psql('postgres', 'SELECT count(*) FROM app.effects'), '5', 'nothing runs');
is($node->safe_psql('postgres', "SELECT herald.wait_idle('work', '0')"), 'f', 'wait_idle knows it');
reload_with($node, 'herald.enabled' => undef);
wait_for_effects($node, 'work', 25, name => 'enabled: what waited runs');
wait_idle($node, 'work');
handled_once($node, 'work', \@ids);

# herald.databases
reload_with($node, 'herald.databases' => 'other, nowhere');
wait_until($node, processes("datname = 'postgres'"), 'not selected: the processes leave', expect => '0');
is(status_of('database'), 'f', 'status says so');
my @waiting = publish_many($node, 'jobs', 5);
my @there = publish_many($node, 'jobs', 5, database => 'other');
wait_for_effects($node, 'work', 5, database => 'other', name => 'the other one is served');
is($node->safe_psql('postgres', 'SELECT count(*) FROM app.effects'), '25', 'nothing runs here');
reload_with($node, 'herald.databases' => 'postgres');
wait_for_effects($node, 'work', 30, name => 'selected: what waited runs');
wait_until($node, processes("datname = 'other'"), 'and the other one is left', expect => '0');
reload_with($node, 'herald.databases' => undef);

# Names count as they are written; what can't be meant is refused, and nothing stops.
like(join('', log_lines($node, qr/WARNING:  herald\.databases names databases that do not exist/)), qr/names/, 'a name that is none: a line in the log');
for my $wrong ('*', 'postgres, *', '"x', 'one two', 'a,,b', 'x' x 64)
{
	is(sqlstate_of($node, "ALTER SYSTEM SET herald.databases = '$wrong'"), '22023', "herald.databases = $wrong: refused");
}
$node->safe_psql('postgres', 'CREATE DATABASE "My DB"');
install_herald($node, 'My DB');
$node->safe_psql('My DB', q(SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')));
reload_with($node, 'herald.databases' => 'POSTGRES, "My DB"');
wait_until($node, processes("datname = 'postgres'"), 'another case is another name', expect => '0');
publish_many($node, 'jobs', 1, database => 'My DB');
wait_for_effects($node, 'work', 1, database => 'My DB', name => 'a name in quotes');
reload_with($node, 'herald.databases' => undef);
wait_for_effects($node, 'work', 30, name => 'all again');

# herald.max_workers
for my $workers (1, 3, 2)
{
	reload_with($node, 'herald.max_workers' => $workers);
	wait_until($node, "SELECT count(*) <= $workers FROM herald.workers WHERE kind = 'worker'", "max_workers $workers: those beyond it have left");
	my $gate = close_gate($node, 1);
	push @ids, my @slow = publish_many($node, 'jobs', 12, payload => '{"gate": 1, "seconds": 0.1}');
	my $first = $slow[0];
	wait_until($node, "SELECT count(*) = $workers FROM herald.workers WHERE kind = 'worker' AND state = 'running'", "max_workers $workers: they run");
	$gate->quit;
	wait_until($node, "SELECT count(*) = 12 FROM app.effects WHERE message_id >= $first", "max_workers $workers: all run");
	is($node->safe_psql('postgres', <<"SQL"), 't', "max_workers $workers: and never more");
SELECT max(n) <= $workers FROM (SELECT (SELECT count(*) FROM app.effects AS f WHERE f.message_id >= $first AND f.at <= e.at AND f.at + interval '0.1 s' > e.at) AS n
                      FROM app.effects AS e WHERE message_id >= $first) AS overlapping
SQL
}
reload_with($node, 'herald.max_workers' => undef);

# herald.worker_idle_timeout
isnt($node->safe_psql('postgres', "SELECT count(*) FROM herald.workers WHERE kind = 'worker'"), '0', 'workers are kept warm');
reload_with($node, 'herald.worker_idle_timeout' => '1s');
publish_many($node, 'jobs', 5);
wait_until($node, "SELECT count(*) = 0 FROM herald.workers WHERE kind = 'worker'", 'idle workers end');
publish_many($node, 'jobs', 5);
wait_idle($node, 'work');
reload_with($node, 'herald.worker_idle_timeout' => undef);
is(scalar(grep { !/invalid value for parameter "herald\.databases"/ } log_lines($node, qr/(ERROR|FATAL):/)), 0, 'no errors in the log');

# herald.superuser_handlers
is(sqlstate_of($node, "SELECT herald.subscribe('super', 'super', 'app.work')"), '42501', 'no superuser by default');
reload_with($node, 'herald.superuser_handlers' => 'on');
$node->poll_query_until('postgres', "SELECT current_setting('herald.superuser_handlers') = 'on'");
$node->safe_psql('postgres', "SELECT herald.subscribe('super', 'super', 'app.work')");
publish_many($node, 'super', 1);
wait_for_effects($node, 'super', 1, name => 'allowed, one runs');
reload_with($node, 'herald.superuser_handlers' => undef);
publish_many($node, 'super', 1);
wait_until($node, "SELECT state = 'held' FROM herald.subscriptions WHERE subscription = 'super'", 'forbidden again, it is held');
clean_log($node);
$node->stop;

# max_worker_processes used up: status() says so; when processes come free, all goes on.
$node = start_herald('few', conf => "max_worker_processes = 4\n");
# It has an announcer first, and then needs a dispatcher as well.
pid_of($node, 'announcer');
$node->safe_psql('postgres', q(SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')));
# Ours are launcher, dispatcher and announcer; PostgreSQL itself has one for logical replication.
publish_many($node, 'jobs', 10);
wait_until($node, "SELECT NOT ok AND value LIKE 'no free worker process%' AND hint LIKE '%max_worker_processes%' FROM herald.status() WHERE name = 'worker_start'",
	'status says what is missing');
is($node->safe_psql('postgres', 'SELECT count(*) FROM app.effects'), '0', 'no worker');
$node->append_conf('postgresql.conf', 'max_worker_processes = 5');
$node->restart;
wait_for_effects($node, 'work', 10, name => 'with one process more, all run');
wait_until($node, "SELECT bool_and(ok) FROM herald.status() WHERE name IN ('worker_start', 'dispatcher', 'announcer', 'launcher', 'workers')", 'status is well again');

clean_log($node);
$node->stop;

# Not preloaded: a clear error, with a hint.
my $bare = start_node('bare', conf => "shared_preload_libraries = ''\n");
my ($out, $err) = ('', '');
$bare->psql('postgres', 'CREATE EXTENSION pg_herald', stderr => \$err);
like($err, qr/pg_herald must be loaded by shared_preload_libraries/, 'not preloaded: a clear error');
like($err, qr/HINT:  Add pg_herald to shared_preload_libraries/, 'with a hint');
is(sqlstate_of($bare, 'CREATE EXTENSION pg_herald'), '55000', 'and a code');
clean_log($bare);

# A server that lost the setting, with the extension in its database.
$bare->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_herald'");
$bare->restart;
install_herald($bare);
$bare->safe_psql('postgres', q(SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app'); SELECT herald.publish('jobs', '{}')));
$bare->safe_psql('postgres', q(CREATE TABLE public.fed (id int PRIMARY KEY); CREATE TABLE public.audited (id int PRIMARY KEY);
	SELECT herald.create_channel('changes', announce => 'off'), herald.enable_change_feed('public.fed', 'changes'), herald.enable_audit('public.audited')));
$bare->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$bare->restart;
is(sqlstate_of($bare, "SELECT herald.publish('jobs', '{}')"), '55000', 'publish without the library is an error');
is($bare->safe_psql('postgres', 'SELECT count(*) >= 0 FROM app.effects'), 't', 'the session goes on');
# A table with a feed can be written, and the writer is told; one with an audit trail can't.
my $told = '';
$bare->psql('postgres', 'INSERT INTO public.fed SELECT generate_series(1, 3); UPDATE public.fed SET id = id + 10; DELETE FROM public.fed WHERE id = 11; TRUNCATE public.fed; INSERT INTO public.fed VALUES (5)',
	stderr => \$told);
is($told =~ s/WARNING:  pg_herald is not loaded by shared_preload_libraries//g, 1, 'a feed: one warning in a session');
is($bare->safe_psql('postgres', 'SELECT count(*) FROM public.fed'), '1', 'and the rows are written');
is(sqlstate_of($bare, 'INSERT INTO public.audited VALUES (1)'), '55000', 'an audit trail: an error');
is(sqlstate_of($bare, "LOAD 'pg_herald'"), '00000', 'the library as such can be loaded');
is(sqlstate_of($bare, 'SELECT herald_internal.next_id(\'message\')'), '55000', 'and does nothing');
$bare->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_herald'");
$bare->restart;
wait_for_effects($bare, 'work', 1, name => 'with it, all is as before');
is($bare->safe_psql('postgres', q(INSERT INTO public.fed VALUES (6);
	SELECT count(*) FROM stored WHERE channel_id = (SELECT id FROM herald_internal.channel_store WHERE channel = 'changes'))), '1', 'feeds publish again');

# pg_upgrade starts the server to copy catalogs: nothing may run then.
publish_many($bare, 'jobs', 3);
wait_idle($bare, 'work');
reload_with($bare, 'herald.enabled' => 'off');
wait_until($bare, processes('true'), 'disabled', expect => '0');
publish_many($bare, 'jobs', 3);
$bare->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
$bare->stop;
PostgreSQL::Test::Utils::system_or_bail('pg_ctl', '-w', '-D', $bare->data_dir, '-l', $bare->logfile, '-o', '-b', 'start');
is($bare->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_herald%'"), '0', 'nothing is started in a binary upgrade');
is($bare->safe_psql('postgres', 'SELECT count(*) FROM app.effects'), '4', 'and nothing runs');
PostgreSQL::Test::Utils::system_or_bail('pg_ctl', '-w', '-D', $bare->data_dir, '-m', 'fast', 'stop');
$bare->start;
wait_for_effects($bare, 'work', 7, name => 'afterwards it runs');
clean_log($bare);

done_testing();
