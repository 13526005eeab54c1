# Whatever ALTER DEFAULT PRIVILEGES say of who installs the extension: it ends with the rights that its script names.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_node('defaults');
$node->safe_psql('postgres', 'CREATE ROLE anon LOGIN; CREATE ROLE "Odd, role" LOGIN; CREATE ROLE installer SUPERUSER LOGIN; GRANT CREATE ON SCHEMA public TO anon');

# All rights on all members, also those that stand for themselves.
my $rights = <<'SQL';
SELECT pg_describe_object(d.classid, d.objid, 0), a.grantee::regrole, a.privilege_type, a.is_grantable
  FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND e.extname = 'pg_herald'
  LEFT JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
  LEFT JOIN pg_type AS t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
  LEFT JOIN pg_namespace AS n ON d.classid = 'pg_namespace'::regclass AND n.oid = d.objid
 CROSS JOIN LATERAL aclexplode(CASE d.classid WHEN 'pg_class'::regclass THEN coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, c.relowner))
    WHEN 'pg_proc'::regclass THEN coalesce(p.proacl, acldefault('f', p.proowner)) WHEN 'pg_type'::regclass THEN coalesce(t.typacl, acldefault('T', t.typowner))
    WHEN 'pg_namespace'::regclass THEN coalesce(n.nspacl, acldefault('n', n.nspowner)) END) AS a
SQL
my $clean;
for my $defaults (
	'', 'GRANT ALL ON %s TO anon', 'GRANT ALL ON %s TO anon WITH GRANT OPTION', 'GRANT ALL ON %s TO "Odd, role", anon', 'GRANT ALL ON %s TO PUBLIC', 'REVOKE ALL ON %s FROM PUBLIC', 'REVOKE ALL ON %s FROM %o',
	'REVOKE ALL ON %s FROM PUBLIC; GRANT ALL ON %s TO anon')
{
	for my $installer ('postgres', 'installer')
	{
		my $name = $defaults eq '' ? "nothing, by $installer" : "$defaults, by $installer";
		$node->safe_psql('postgres', 'CREATE DATABASE d TEMPLATE template0');
		my $set = '';
		for my $default (grep { $_ ne '' } split /; /, $defaults)
		{
			$set .= 'ALTER DEFAULT PRIVILEGES ' . ($default =~ s/%s/$_/r =~ s/%o/$installer/r) . ';' for qw(TABLES SEQUENCES FUNCTIONS TYPES SCHEMAS);
		}
		$node->safe_psql('d', "SET SESSION AUTHORIZATION $installer; $set CREATE EXTENSION pg_herald");
		my $found = join "\n", sort map { s/\b$installer\b/owner/gr } split /\n/, $node->safe_psql('d', $rights);
		$clean //= $found;
		is($found, $clean, "rights where the defaults are: $name");
		is($node->safe_psql('d', q(SELECT ok FROM herald.status() WHERE name = 'foreign_rights')), 't', 'status() finds none');
		$node->safe_psql('postgres', 'DROP DATABASE d');
	}
}
like($clean, qr/^type herald\.task\|-\|USAGE\|f$/m, 'everybody may use the type of tasks');

# As it was used: a trigger that runs with the rights of the owner, and a handler by a role that gets nothing by default.
$node->safe_psql('postgres', q(ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon; ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon;
	ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC; CREATE EXTENSION pg_herald));
$node->safe_psql('postgres', q(SET ROLE anon; CREATE FUNCTION public.trg() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER ROLE anon SUPERUSER'; RETURN NEW; END $$));
sqlstate_is($node, $_, '42501', "$_: refused", role => 'anon')
  for 'CREATE TRIGGER t BEFORE INSERT ON herald_internal.pointer_store FOR EACH ROW EXECUTE FUNCTION public.trg()', 'SELECT * FROM herald_internal.log_0', 'SELECT herald.purge_audit_log()',
  q(INSERT INTO herald_internal.channel_grant_store VALUES (1, 'anon', 'read')), q(INSERT INTO herald_internal.id_store VALUES (1, 'message')), 'SELECT herald_internal.withdraw_default_rights()';
$node->safe_psql('postgres', q(CREATE SCHEMA app AUTHORIZATION anon));
sqlstate_is($node, q(CREATE FUNCTION app.work(task herald.task) RETURNS void LANGUAGE sql AS ''), '00000', 'a handler of tasks', role => 'anon');

# What an administrator grants stays, and what the next script makes is covered: a later version is such a script.
$node->safe_psql('postgres', 'GRANT SELECT ON herald.audit_log TO anon');
sqlstate_is($node, 'SELECT herald_internal.withdraw_default_rights()', '55000', 'only scripts withdraw rights');
is($node->safe_psql('postgres', q(SELECT has_table_privilege('anon', 'herald.audit_log', 'SELECT'))), 't', 'a grant made later stays');
clean_log($node);

done_testing();
