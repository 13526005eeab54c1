# Real drivers publish, each with the types that it gives to parameters, as a program has them at hand: strings,
# objects, numbers, uuids, arrays. All must have published the same. The programs are in test/clients.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use IPC::Run ();

my $sources = "$FindBin::RealBin/../clients";
my $python = '/usr/bin/python3';
my $node = start_herald('driver_calls');
$node->safe_psql('postgres', q(SELECT herald.create_channel('calls', announce => 'off')));

local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'postgres';
local $ENV{PGUSER} = 'postgres';
local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
local $ENV{NODE_PATH} = $ENV{HERALD_NODE_MODULES};

my $published = <<'LOG';
{"n": 1}||
{"n": 2}||
{"n": 3}|42|
{"n": 4}|00000000-0000-0000-0000-000000000001|
{"n": 5}|k|{"h": 5}
{"n": 6}||
[7]||
{"n": 8}|a|{"h": 8}
{"n": 9}||
{"n": 10}||
LOG
chomp $published;

my %programs = (
	psycopg => [ $python, "$sources/calls_psycopg.py" ],
	psycopg2 => [ $python, "$sources/calls_psycopg2.py" ],
	asyncpg => [ $python, "$sources/calls_asyncpg.py" ],
	'node-postgres' => [ 'node', "$sources/calls_pg.js" ],
);
my %missing;
$missing{psycopg2} = 'run scripts/setup first' if system("$python -c 'import psycopg2' 2>/dev/null") != 0;
$missing{'node-postgres'} = $ENV{HERALD_NODE_MISSING} // 'HERALD_NODE_MODULES is not set' unless $ENV{HERALD_NODE_MODULES};

for my $driver (sort keys %programs)
{
  SKIP:
	{
		skip "$driver: $missing{$driver}", 3 if $missing{$driver};
		my $last = $node->safe_psql('postgres', 'SELECT coalesce(max(id), 0) FROM stored');
		my $printed = '';
		ok(IPC::Run::run($programs{$driver}, '<', \undef, '&>', \$printed, IPC::Run::timeout(150)), "$driver: runs");
		is($printed, "2202E\n", "$driver: an array of arrays is refused");
		is($node->safe_psql('postgres', "SELECT payload, key, headers FROM stored WHERE id > $last ORDER BY id"), $published, "$driver: what it published");
	}
}
clean_log($node);
done_testing();
