# Dumps without superuser rights, and of the structure alone, as migration tools keep it: triggers arrive without what they are
# for. Writers are told once, and pass; status() names the tables and the remedy.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_herald('structure');
$node->safe_psql('postgres', 'CREATE ROLE dbo LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE DATABASE shop OWNER dbo; CREATE DATABASE empty OWNER dbo');
$node->safe_psql('shop', <<'SQL');
CREATE EXTENSION pg_herald;
SET SESSION AUTHORIZATION dbo;
CREATE TABLE public.orders (id int PRIMARY KEY, state text) PARTITION BY RANGE (id);
CREATE TABLE public.orders_1 PARTITION OF public.orders FOR VALUES FROM (0) TO (1000);
CREATE TABLE public.items (id int PRIMARY KEY);
SELECT herald.create_channel('changes'), herald.enable_change_feed('public.orders', 'changes');
RESET SESSION AUTHORIZATION;
SELECT herald.enable_audit('public.orders'), herald.enable_audit('public.items');
INSERT INTO public.orders VALUES (1, 'new');
SQL
my $dump = "${PostgreSQL::Test::Utils::tmp_check}/structure.sql";
my @as_owner = ('-U', 'dbo', '-h', $node->host, '-p', $node->port);
$node->command_ok([ 'pg_dump', @as_owner, '-s', '-f', $dump, 'shop' ], 'the owner of the database dumps its structure');
$node->command_ok([ 'pg_dump', @as_owner, '-N', 'herald', '-N', 'herald_internal', '-f', "$dump.tables", 'shop' ], 'and all tables but those of the extension');
# All of it: the messages and the trail as well, which nobody else may read.
$node->safe_psql('shop', q(SELECT herald.publish('changes', '{"all": true}')));
$node->command_ok([ 'pg_dump', @as_owner, '-f', "$dump.all", 'shop' ], 'and everything');
my $whole = slurp_file("$dump.all");
like($whole, qr/^COPY herald_internal\.log_0 .*"all": true/ms, 'with the messages');
like($whole, qr/^COPY herald_internal\.audit_0 .*"state": "new"/ms, 'and the trail');
is($node->safe_psql('shop', q(SELECT ok, value FROM herald.status() WHERE name = 'foreign_rights')), 't|none', 'status() does not take that right for a foreign one');
foreach my $role ('app', 'watcher')
{
	sqlstate_is($node, 'SELECT FROM herald_internal.log_0', '42501', "$role reads no table", database => 'shop', role => $role);
}
foreach my $change ('INSERT INTO herald_internal.log_0 SELECT FROM herald_internal.log_0', 'DELETE FROM herald_internal.log_0', 'TRUNCATE herald_internal.audit_0', 'DELETE FROM herald_internal.audit_0')
{
	sqlstate_is($node, $change, '42501', "$change: not by the owner of the database", database => 'shop', role => 'dbo');
}

# It can be withheld, and stays so in a copy.
$node->safe_psql('shop', 'REVOKE SELECT ON ALL TABLES IN SCHEMA herald_internal FROM pg_database_owner');
$node->command_fails_like([ 'pg_dump', @as_owner, '-f', "$dump.none", 'shop' ], qr/permission denied for table/, 'after a REVOKE no more');
$node->command_ok([ 'pg_dump', '-U', 'postgres', '-h', $node->host, '-p', $node->port, '-f', "$dump.without", 'shop' ], 'a superuser dumps it');
$node->safe_psql('postgres', 'CREATE DATABASE withheld OWNER dbo');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('withheld'), '-f', "$dump.without" ], 'and restores it');
sqlstate_is($node, 'SELECT FROM herald_internal.log_0', '42501', 'there the owner may not read either', database => 'withheld', role => 'dbo');
$node->safe_psql('postgres', 'DROP DATABASE withheld');

# Who is no superuser is told what is missing.
my ($out, $err) = ('', '');
IPC::Run::run([ 'psql', '-Xq', @as_owner, '-d', 'empty', '-f', "$dump.all" ], '>', \$out, '2>', \$err);
like($err, qr/ERROR:  permission denied to create extension "pg_herald"\nHINT:  Must be superuser to create this extension/, 'a restore says who may make the extension');
$node->safe_psql('postgres', 'DROP DATABASE empty; CREATE DATABASE empty OWNER dbo');
$node->safe_psql('empty', 'CREATE EXTENSION pg_herald');
($out, $err) = ('', '');
IPC::Run::run([ 'psql', '-Xq', @as_owner, '-d', 'empty', '-f', "$dump.tables" ], '>', \$out, '2>', \$err);
is($node->safe_psql('empty', 'SELECT count(*) FROM public.orders'), '1', 'where it is there, the tables and their rows can be loaded');
like($err, qr/ERROR:  permission denied for function herald_internal\.audit_insert/, 'and their triggers take enable_audit');

# The structure alone.
$node->safe_psql('postgres', 'CREATE DATABASE copy OWNER dbo');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'the structure is loaded');
$node->psql('copy', "SET SESSION AUTHORIZATION dbo; INSERT INTO orders VALUES (1, 'a'); UPDATE orders SET state = 'b'; INSERT INTO items VALUES (1); TRUNCATE items; DELETE FROM orders", stderr => \$err, on_error_die => 1);
is(() = $err =~ /WARNING:  table "orders" is not audited, but has a trigger/g, 1, 'writers are told, once a session');
is(() = $err =~ /WARNING:  table "items" is not audited/g, 1, 'of each table');
is(() = $err =~ /WARNING:  changes of table "orders" are not published/g, 1, 'of its feed as well');
is($node->safe_psql('copy', 'SELECT count(*) FROM herald.audit_log'), '0', 'nothing is recorded');
my $orphans = q(SELECT ok, value FROM herald.status() WHERE name = 'orphan_triggers');
my $all = 'f|"public.items": audit; "public.orders": herald_feed_1_*; "public.orders": audit; "public.orders_1": herald_feed_1_*; "public.orders_1": audit';
is($node->safe_psql('copy', $orphans), $all, 'status() names them');
is($node->safe_psql('copy', "SET SESSION AUTHORIZATION watcher; $orphans"), $all, 'also to pg_monitor');
is($node->safe_psql('copy', "SET SESSION AUTHORIZATION app; $orphans"), 't|none', 'but not to everybody');
like($node->safe_psql('copy', q(SELECT hint FROM herald.status() WHERE name = 'orphan_triggers')), qr/herald\.enable_audit\(\).*herald\.disable_audit\(\)/, 'with the remedy');

# Both remedies.
$node->safe_psql('copy', q(SELECT herald.disable_audit('orders'), herald.enable_audit('items'); INSERT INTO items VALUES (2);
	DROP TRIGGER herald_feed_1_insert ON orders));
is($node->safe_psql('copy', q(SELECT count(*) FROM herald.audit_log WHERE operation = 'insert')), '1', 'enrolled anew: it is recorded');
is($node->safe_psql('copy', q(SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'herald_audit%' AND tgrelid <> 'items'::regclass)), '0', 'unenrolled: the triggers are gone');
is(sqlstate_of($node, q(SELECT herald.disable_audit('orders')), database => 'copy'), '42704', 'a second time there is nothing');
is(sqlstate_of($node, q(SELECT herald.disable_audit('orders_1')), database => 'shop'), '42704', 'a part of a table that is audited keeps its triggers');
is($node->safe_psql('shop', q(SELECT ok, value FROM herald.status() WHERE name IN ('audit', 'change_feeds', 'orphan_triggers') ORDER BY name)), "t|2 tables\nt|1 feeds\nt|none", 'where it comes from all is well');
is($node->safe_psql('shop', q(SET SESSION AUTHORIZATION watcher; SELECT value FROM herald.status() WHERE name = 'audit')), '2 tables', 'as pg_monitor sees');
is($node->safe_psql('shop', q(SET SESSION AUTHORIZATION app;
	SELECT value FROM herald.status() WHERE name = 'audit')), '0 tables, and 2 that only others may see', 'and others do not');

# One table alone, as somebody takes it elsewhere.
my $table = "${PostgreSQL::Test::Utils::tmp_check}/items.sql";
$node->command_ok([ 'pg_dump', '-t', 'public.items', '-f', $table, $node->connstr('shop') ], 'one audited table is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE one; CREATE DATABASE bare');
$node->safe_psql('one', 'CREATE EXTENSION pg_herald');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('one'), '-f', $table ], 'and loaded elsewhere');
is($node->safe_psql('one', $orphans), 'f|"public.items": audit', 'its triggers are named');
$node->safe_psql('one', q(INSERT INTO items VALUES (1); SELECT herald.disable_audit('items'); INSERT INTO items VALUES (2)));
is($node->safe_psql('one', $orphans), 't|none', 'and taken away by disable_audit');
IPC::Run::run([ 'psql', '-Xq', '-d', $node->connstr('bare'), '-f', $table ], '>', \$out, '2>', \$err);
is($node->safe_psql('bare', 'INSERT INTO items VALUES (1) RETURNING id'), '1', 'without the extension the table has no triggers');

# Where a table that is to be audited can't be found, it may be this one: nothing passes unseen.
$node->safe_psql('copy', q(SELECT herald.purge_audit_log()));
$node->safe_psql('copy', q(CREATE TABLE lost (id int); SELECT herald.enable_audit('lost')));
$node->safe_psql('copy', q(UPDATE herald_internal.audit_target SET relation = 1 WHERE table_name = 'lost'; SELECT herald.disable_audit('items')));
$node->safe_psql('copy', q(CREATE TRIGGER herald_audit_insert AFTER INSERT ON items REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION herald_internal.audit_insert()));
is(sqlstate_of($node, 'INSERT INTO items VALUES (3)', database => 'copy'), '39P01', 'a lost enrolment');
clean_log($node);
done_testing();
