# doc/reference.md says of schema herald what the catalogs say: each function with its arguments and result, each column
# of each view with its type and comment, each field of herald.task.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $page = slurp_file("$FindBin::RealBin/../../doc/reference.md");
my $node = start_node('reference');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_herald');

sub same
{
	my ($name, $documented, $query) = @_;
	my %documented = map { $_ => 1 } @$documented;
	my %there = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', $query);
	cmp_ok(scalar(keys %there), '>', 0, "there are $name");
	is(join("\n", grep { !$documented{$_} } sort keys %there), '', "all $name are documented as they are");
	is(join("\n", grep { !$there{$_} } sort keys %documented), '', "no other $name are documented");
	return;
}

same('functions', [ $page =~ /^(herald\.\w+\(.*\) → .*)$/mg ], <<'SQL');
SELECT format('herald.%s(%s) → %s', p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
  FROM pg_proc AS p WHERE p.pronamespace = 'herald'::regnamespace
SQL

my @columns;
while ($page =~ /^## herald\.(\w+)\n(.*?)(?=^#|\z)/msg)
{
	my ($view, $text) = ($1, $2);
	push @columns, map { "$view$_" } $text =~ /^(\| `\w+` \| .* \|)$/mg;
}
same('columns of views', \@columns, <<'SQL');
SELECT format('%s| `%s` | %s | %s |', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum))
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace = 'herald'::regnamespace AND c.relkind = 'v'
SQL
is($node->safe_psql('postgres', q(SELECT string_agg(format('%s.%s', c.relname, a.attname), ' ')
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace = 'herald'::regnamespace AND c.relkind = 'v' AND col_description(c.oid, a.attnum) IS NULL)), '', 'every column has a comment');

my ($task) = $page =~ /^# The type of tasks\n(.*)\z/ms;
same('fields of herald.task', [ map { "$_|" } $task =~ /^(\| `\w+` \| [^|]* )\| .* \|$/mg ], <<'SQL');
SELECT format('| `%s` | %s |', a.attname, format_type(a.atttypid, a.atttypmod))
  FROM pg_attribute AS a WHERE a.attrelid = 'herald.task'::regclass AND a.attnum > 0
SQL

# Every function has an example.
my @without = grep { !/^```sql$/m } $page =~ /^(### \w+\n.*?)(?=^#{1,3} |\z)/msg;
is(join(' ', map { /^### (\w+)/ } @without), '', 'every function has an example');

$node->stop;
done_testing();
