# What others have planted before the extension comes: a schema of its name, operators and functions in the search_path.
# Nothing of it is found in what the script makes, nor called by it; and DROP EXTENSION leaves nothing.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_node('planted');
$node->safe_psql('postgres', 'CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE postgres TO mallory; CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil, public TO mallory');

# A schema of that name, whoever made it.
for my $maker ('mallory', 'postgres')
{
	$node->safe_psql('postgres', "SET ROLE $maker; CREATE SCHEMA herald_internal");
	sqlstate_is($node, 'CREATE EXTENSION pg_herald', '42P06', "no extension where $maker has made the internal one");
	$node->safe_psql('postgres', 'DROP SCHEMA herald_internal');
	$node->safe_psql('postgres', "SET ROLE $maker; CREATE SCHEMA herald; CREATE FUNCTION herald.publish(text, text) RETURNS bigint LANGUAGE sql AS 'SELECT 42::bigint'");
	sqlstate_is($node, 'CREATE EXTENSION pg_herald', '42P06', "no extension where $maker has made the schema");
	my ($status, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION pg_herald');
	like($err, qr/schema "herald" exists already.*HINT: .*drop/s, 'and it says what to do');
	is($node->safe_psql('postgres', 'SELECT herald.publish($$orders$$, $$$$)'), '42', 'what was there is as it was');
	$node->safe_psql('postgres', 'DROP SCHEMA herald CASCADE');
}
sqlstate_is($node, 'CREATE EXTENSION pg_herald SCHEMA evil', '0A000', 'the schema is not a matter of choice');

# Operators for exactly the types that our SQL compares, first in every search_path.
my %results = ('=' => 'boolean', '<>' => 'boolean', '<' => 'boolean', '>' => 'boolean', '<=' => 'boolean', '>=' => 'boolean', '||' => 'text', '->>' => 'text', '-' => 'interval', '+' => 'integer');
my @pairs = map { [ split / / ] } 'oid regclass', 'regclass oid', 'oid oid', 'text text', 'name text', 'text name', 'name name', 'int4 int4', 'int8 int8', 'int4 int8', 'int8 int4',
  'timestamptz timestamptz', '"char" "char"', 'jsonb text', 'boolean boolean', 'float8 float8', 'float8 int4';
my $plant = "SET ROLE mallory;\n";
for my $pair (@pairs)
{
	my ($left, $right) = @$pair;
	for my $type (sort keys %{ { reverse %results } })
	{
		(my $name = "f_${left}_${right}_$type") =~ tr/"//d;
		$plant .= "CREATE FUNCTION evil.$name($left, $right) RETURNS $type LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'planted $name'; END \$\$;\n";
		$plant .= "CREATE OPERATOR evil.$_ (LEFTARG = $left, RIGHTARG = $right, FUNCTION = evil.$name);\n" for grep { $results{$_} eq $type } sort keys %results;
	}
}
for my $function ('now() RETURNS timestamptz', 'format(text) RETURNS text', 'unnest(bigint[]) RETURNS SETOF bigint', 'octet_length(text) RETURNS integer', 'pg_has_role(oid, text) RETURNS boolean',
	'current_database() RETURNS name', 'clock_timestamp() RETURNS timestamptz', 'string_agg(text, text) RETURNS text', 'nextval(regclass) RETURNS bigint', 'quote_ident(text) RETURNS text')
{
	$plant .= "CREATE FUNCTION evil.$function LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'planted'; END \$\$;\n";
}
$plant .= "CREATE DOMAIN evil.text AS pg_catalog.text CHECK (false); CREATE DOMAIN evil.oid AS pg_catalog.oid CHECK (false); CREATE DOMAIN evil.jsonb AS pg_catalog.jsonb CHECK (false);\n";
$node->safe_psql('postgres', $plant);

my $foreign = <<'SQL';
WITH ours AS (SELECT 'pg_rewrite'::pg_catalog.regclass AS class, w.oid FROM pg_rewrite AS w JOIN pg_class AS c ON c.oid OPERATOR(pg_catalog.=) w.ev_class WHERE c.relnamespace OPERATOR(pg_catalog.=) ANY ('{herald,herald_internal}'::regnamespace[])
   UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc AS p WHERE p.pronamespace OPERATOR(pg_catalog.=) ANY ('{herald,herald_internal}'::regnamespace[])
   UNION ALL SELECT 'pg_class'::regclass, c.oid FROM pg_class AS c WHERE c.relnamespace OPERATOR(pg_catalog.=) ANY ('{herald,herald_internal}'::regnamespace[])
   UNION ALL SELECT 'pg_attrdef'::regclass, a.oid FROM pg_attrdef AS a JOIN pg_class AS c ON c.oid OPERATOR(pg_catalog.=) a.adrelid WHERE c.relnamespace OPERATOR(pg_catalog.=) ANY ('{herald,herald_internal}'::regnamespace[])
   UNION ALL SELECT 'pg_constraint'::regclass, n.oid FROM pg_constraint AS n WHERE n.connamespace OPERATOR(pg_catalog.=) ANY ('{herald,herald_internal}'::regnamespace[])
   UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type AS t WHERE t.typnamespace OPERATOR(pg_catalog.=) ANY ('{herald,herald_internal}'::regnamespace[]))
SELECT DISTINCT pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0) FROM pg_depend AS d JOIN ours AS o ON d.classid OPERATOR(pg_catalog.=) o.class AND d.objid OPERATOR(pg_catalog.=) o.oid
 WHERE (SELECT i.schema FROM pg_catalog.pg_identify_object(d.refclassid, d.refobjid, 0) AS i) OPERATOR(pg_catalog.=) 'evil'
SQL
for my $path ('evil, pg_catalog', 'pg_catalog, evil', 'evil', '"$user", evil, pg_catalog, public')
{
	$node->safe_psql('postgres', "ALTER DATABASE postgres SET search_path = $path; ALTER ROLE postgres SET search_path = $path");
	is($node->psql('postgres', 'CREATE EXTENSION pg_herald'), 0, "the script runs with search_path $path");
	is($node->safe_psql('postgres', "SET search_path = pg_catalog; $foreign"), '', 'and depends on nothing planted');
	is($node->safe_psql('postgres', <<'SQL'), '', 'no view names it');
SET search_path = pg_catalog;
SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'herald'::regnamespace AND c.relkind = 'v' AND pg_get_viewdef(c.oid) LIKE '%evil%'
SQL
	# Each view as who opens it, with rows where there can be some.
	$node->safe_psql('postgres', q(SET search_path = pg_catalog; CREATE TABLE public.fed (id int PRIMARY KEY);
		SELECT herald.enable_change_feed('public.fed', 'feed'), herald.enable_audit('public.fed'), herald.create_channel('declared')));
	my $views = $node->safe_psql('postgres', q(SET search_path = pg_catalog;
		SELECT string_agg(format('SELECT pg_catalog.count(*) FROM (SELECT v FROM herald.%I AS v) AS rows', relname), '; ') FROM pg_class WHERE relnamespace = 'herald'::regnamespace AND relkind = 'v'));
	is(sqlstate_of($node, $views), '00000', 'nor runs it');
	is(sqlstate_of($node, q(SELECT herald.publish('declared', '{}'), herald.grant_channel('declared', 'mallory', '{subscribe}'), herald.alter_channel('declared', description => 'changed'), herald.drop_channel('declared', force => true))), '00000', 'nor do functions');
	is(sqlstate_of($node, 'SELECT pg_catalog.count(*) FROM herald.status()'), '00000', 'nor does status()');
	$node->safe_psql('postgres', 'SET search_path = pg_catalog; DROP TABLE public.fed; SELECT herald.purge_audit_log(); DROP EXTENSION pg_herald');
}
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET search_path; ALTER ROLE postgres RESET search_path');

# Afterwards the schema is the extension's.
install_herald($node);
sqlstate_is($node, $_, '42501', "$_: refused", role => 'mallory')
  for q(CREATE FUNCTION herald.fetch(integer) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'), 'ALTER SCHEMA herald RENAME TO stolen', 'DROP SCHEMA herald CASCADE', 'CREATE TABLE herald.t ()';
sqlstate_is($node, 'DROP SCHEMA herald CASCADE', '2BP01', 'not even a superuser drops it without the extension');
$node->safe_psql('postgres', 'ALTER SCHEMA herald_internal RENAME TO renamed; CREATE SCHEMA herald_internal AUTHORIZATION mallory; CREATE TABLE herald_internal.channel_store (LIKE renamed.channel_store); CREATE TABLE herald_internal.audit_target (LIKE renamed.audit_target)');
sqlstate_is($node, q(SELECT herald.publish('x', '1')), '42704', 'a schema that only has the name is not taken for it');
$node->safe_psql('postgres', 'DROP SCHEMA herald_internal CASCADE; ALTER SCHEMA renamed RENAME TO herald_internal; ALTER SCHEMA herald RENAME TO renamed; CREATE SCHEMA herald AUTHORIZATION mallory');
sqlstate_is($node, q(SELECT renamed.publish('x', '1')), '42704', 'nor is one for the other');
$node->safe_psql('postgres', 'DROP SCHEMA herald CASCADE; ALTER SCHEMA renamed RENAME TO herald');
sqlstate_is($node, q(SELECT herald.publish('x', '1')), '00000', 'and with their names back it works');

$node->safe_psql('postgres', 'CREATE DATABASE other');
my $objects = q(SELECT (SELECT count(*) FROM pg_depend), (SELECT count(*) FROM pg_init_privs), (SELECT count(*) FROM pg_description), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_type), (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_namespace));
my $before = $node->safe_psql('other', $objects);
$node->safe_psql('other', q(CREATE EXTENSION pg_herald; SELECT herald.create_channel('c'); SELECT herald.publish('c', '{}'); DROP EXTENSION pg_herald));
is($node->safe_psql('other', $objects), $before, 'DROP EXTENSION leaves nothing behind');
clean_log($node);

done_testing();
