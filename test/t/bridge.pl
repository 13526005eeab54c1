# examples/bridge.sql and examples/bridge.py: tasks that are handed over to workers of one's own, which are killed meanwhile.
# Each is done once; what fails is tried again.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $python = '/usr/bin/python3';
my $sources = "$FindBin::RealBin/../..";
my $node = start_node('bridge');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_herald');
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'postgres';
local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
my ($out, $err) = ('', '');
IPC::Run::run([ $node->installed_command('psql'), '-Xq', '-U', 'postgres', '-v', 'ON_ERROR_STOP=1', '-f', "$sources/examples/bridge.sql" ], '>', \$out, '2>', \$err, IPC::Run::timeout(60));
is($? >> 8, 0, "the example is set up") or diag($err);

my $count = 300;
my @workers;
sub start_worker
{
	my ($in, $said) = ('', '');
	local $ENV{PGUSER} = 'herald_demo_bridge';
	push @workers, IPC::Run::start([ $python, "$sources/examples/bridge.py" ], '<', \$in, '>', \$said, '2>', \$said, IPC::Run::timeout(120));
}
start_worker() for 1 .. 3;
$node->safe_psql('postgres', "SELECT count(herald.publish('herald_demo_mails', jsonb_build_object('to', 'mail' || i))) FROM generate_series(1, $count) AS i");
# Workers die in between.
for my $share (0.2, 0.5)
{
	wait_until($node, "SELECT count(*) >= $count * $share FROM herald_demo_bridge.sent", 'some are sent', seconds => 60);
	(shift @workers)->kill_kill(grace => 0);
	start_worker();
}
wait_until($node, 'SELECT count(*) = 0 FROM herald_demo_bridge.job', 'nothing is left', seconds => 60) if wait_idle($node, 'herald_demo_bridge');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT recipient), count(DISTINCT message_id) FROM herald_demo_bridge.sent'), "$count|$count|$count", 'each is sent once');
$_->kill_kill(grace => 0) for @workers;

# What fails is kept, with its error, and does not hold up the others.
$node->safe_psql('postgres', q(SELECT herald.publish('herald_demo_mails', '{}'), herald.publish('herald_demo_mails', '{"to": "last"}')));
wait_idle($node, 'herald_demo_bridge');
my $said = '';
{
	local $ENV{PGUSER} = 'herald_demo_bridge';
	IPC::Run::run([ $python, "$sources/examples/bridge.py", '--until-idle' ], '<', \undef, '>', \$said, '2>', \$said, IPC::Run::timeout(60));
}
is($said, '', 'a worker that ends when nothing is to be done now');
is($node->safe_psql('postgres', 'SELECT attempts, error FROM herald_demo_bridge.job'), '1|a mail needs a recipient', 'one has failed');
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald_demo_bridge.sent WHERE recipient = 'last')), '1', 'the one behind it is sent');
clean_log($node);
done_testing();
