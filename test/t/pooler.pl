# Behind PgBouncer in transaction mode, where each transaction of a client may run in another session of the server: what
# publishes, audits or takes locks there does the same as without it.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $bouncer = '/usr/sbin/pgbouncer';
plan skip_all => 'PgBouncer is not there' unless -x $bouncer;

my $node = start_herald('pooler');
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('calls', announce => 'off'), herald.create_channel('jobs', announce => 'off');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app');
	CREATE TABLE public.account (id int PRIMARY KEY, balance int);
	SELECT herald.enable_audit('public.account', record => 'diff');
	ALTER DATABASE postgres SET herald.audit_context = 'app.user_id'));

my ($folder, $port) = (PostgreSQL::Test::Utils::tempdir(), PostgreSQL::Test::Cluster::get_free_port());
append_to_file("$folder/pgbouncer.ini", <<"INI");
[databases]
postgres = host=@{[ $node->host ]} port=@{[ $node->port ]} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 100
ignore_startup_parameters = extra_float_digits
INI
my ($said, $complained) = ('', '');
my $pooler = IPC::Run::start([ $bouncer, "$folder/pgbouncer.ini" ], '<', \undef, '>', \$said, '2>', \$complained);

local $ENV{PGHOST} = '127.0.0.1';
local $ENV{PGPORT} = $port;
local $ENV{PGDATABASE} = 'postgres';
local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
local $ENV{NODE_PATH} = $ENV{HERALD_NODE_MODULES};

# What psql prints for a script, by way of the pooler.
sub pooled
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1' ], '<', \$sql, '>', \$out, '2>', \$err) or return $err;
	chomp $out;
	return $out;
}
wait_for('PgBouncer answers', sub { $pooler->pump_nb; return pooled('SELECT 1') eq '1' });

# Drivers, as they are.
my $sources = "$FindBin::RealBin/../clients";
my %programs = (
	psycopg => [ '/usr/bin/python3', "$sources/calls_psycopg.py" ],
	psycopg2 => [ '/usr/bin/python3', "$sources/calls_psycopg2.py" ],
	'node-postgres' => [ 'node', "$sources/calls_pg.js" ]);
foreach my $driver (sort keys %programs)
{
  SKIP: {
		skip "$driver: $ENV{HERALD_NODE_MISSING}", 1 if $driver eq 'node-postgres' && ($ENV{HERALD_NODE_MODULES} // '') eq '';
		my $before = $node->value("SELECT count(*) FROM stored WHERE channel_id = (SELECT id FROM herald_internal.channel_store WHERE channel = 'calls')");
		my ($out, $err) = ('', '');
		ok(IPC::Run::run($programs{$driver}, '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60)), "$driver publishes") or diag($err);
		is($node->value("SELECT count(*) FROM stored WHERE channel_id = (SELECT id FROM herald_internal.channel_store WHERE channel = 'calls')") - $before, 10, 'all of it');
	}
}

# Twenty clients on two sessions.
my $script = "$folder/publish.sql";
append_to_file($script, "SELECT herald.publish('jobs', '{}', key => 'k' || :client_id) \\gset\n");
my ($out, $err) = ('', '');
ok(IPC::Run::run([ 'pgbench', '-n', '-M', 'simple', '-c', '20', '-t', '50', '-f', $script, 'postgres' ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(120)), 'twenty clients publish') or diag($err);
wait_for_effects($node, 'work', 1000);
is($node->value('SELECT count(*), count(DISTINCT message_id) FROM app.effects'), '1000|1000', 'each message is handled once');
cmp_ok($node->value(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())), '<=', 2, 'by two sessions of the server');

# Who it was, although all are one role, and one session serves them all.
is(pooled("BEGIN; SET LOCAL app.user_id = '$_'; INSERT INTO account VALUES ($_, 0); COMMIT; UPDATE account SET balance = 1 WHERE id = $_"), '', "user $_") for 1 .. 3;
is($node->value(q(SELECT string_agg(operation || coalesce(context ->> 'app.user_id', '-'), ' ' ORDER BY id) FROM herald.audit_log WHERE table_name = 'account' AND operation IN ('insert', 'update'))),
	'insert1 update- insert2 update- insert3 update-', 'the context is that of its transaction');

# Locks for a transaction; what a transaction publishes is rolled back with it.
is(pooled(q(BEGIN; SELECT herald.try_lock('job', 'transaction'); COMMIT; BEGIN; SELECT herald.try_lock('job', 'transaction');
	COMMIT)), "t\nt", 'a lock ends with its transaction');
pooled(q(BEGIN; SELECT herald.publish('jobs', '{"n": "rolled back"}'); ROLLBACK));
is($node->value(q(SELECT count(*) FROM stored WHERE payload ->> 'n' = 'rolled back')), '0', 'what is rolled back is not published');

$pooler->signal('INT');
$pooler->finish;
clean_log($node);
$node->stop;
done_testing();
