# The official JSON Schema Test Suite, as Debian packages it (libtest-json-schema-acceptance-perl), for draft-07
# and 2020-12. What is not passed is listed here and explained in doc/json-schema.md.
#
# HERALD_SCHEMA_SUITE names another copy of the suite, with the folders "tests" and "remotes"; then what is not
# passed is only shown.

use strict;
use warnings;
use File::Find;
use File::ShareDir qw(dist_dir);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $packaged = !$ENV{HERALD_SCHEMA_SUITE};
my $suite = $ENV{HERALD_SCHEMA_SUITE} // dist_dir('Test-JSON-Schema-Acceptance');
# The same package that the differential test needs has them.
my $metaschemas = qx('$FindBin::RealBin/../schema/metaschemas');

# jsonb has no \u0000, and other vocabularies than the standard ones are refused with their $schema. Later versions of the
# suite ask for names of Unicode properties, which patterns here do not know.
my @nul = map { my $file = $_; map { "$file: nul characters in strings: $_" } 'do not match string lacking nul', 'match string with nul' } qw(const enum);
my %not_passed = (
	draft7 => \@nul,
	'draft2020-12' => [
		@nul,
		'vocabulary: ignore unrecognized optional vocabulary: number value',
		'vocabulary: ignore unrecognized optional vocabulary: string value',
		'vocabulary: schema that uses custom metaschema with with no validation vocabulary: applicator vocabulary still works',
		'vocabulary: schema that uses custom metaschema with with no validation vocabulary: no validation: invalid number, but it still validates',
		'vocabulary: schema that uses custom metaschema with with no validation vocabulary: no validation: valid number',
	]);

my %of_later_versions = ('draft2020-12' => [
	(map { "pattern: pattern with Unicode property escape requires unicode mode: $_" } 'ASCII letters match', 'Digits do not match', 'Non-ASCII letters match'),
	(map { "patternProperties: patternProperties with Unicode property escape: $_" } 'Non-letter property name does not match pattern', 'Unicode letter property name matches') ]);

sub quoted { return "'" . $_[0] =~ s/'/''/gr . "'" }

my $node = start_node('suite');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_herald');
$node->safe_psql('postgres', do { local (@ARGV, $/) = "$FindBin::RealBin/../schema/suite.sql"; <> });

my @remotes;
find({ no_chdir => 1, wanted => sub { push @remotes, s{^\Q$suite/remotes/\E}{}r if /\.json$/ } }, "$suite/remotes");
my $load = "SET search_path = suite, public;\n";
for my $draft ('draft7', 'draft2020-12')
{
	for my $remote (sort @remotes)
	{
		# Those of other drafts would be asked for by names of their own.
		next if $remote =~ m{^(draft[^/]*|v1)/} && $1 ne $draft;
		$load .= 'SELECT load(' . join(', ', map { quoted($_) } $draft, "http://localhost:1234/$remote", "$suite/remotes/$remote") . ");\n";
	}
}
$load .= <<"SQL";
INSERT INTO document SELECT d.key, s.key, s.value FROM jsonb_each(@{[ quoted($metaschemas) ]}) AS d, jsonb_each(d.value) AS s;
SQL
$node->safe_psql('postgres', $load);

sub run_files
{
	my ($draft, $formats, @files) = @_;
	$node->safe_psql('postgres', join '', "SET search_path = suite, public; TRUNCATE result;\n", map {
		my ($name) = m{/([^/]*)\.json$};
		"SELECT run('$draft', " . quoted($name) . ', ' . quoted($_) . ", $formats);\n"
	} @files);
	my ($total, $passed) = split /\|/, $node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE got = expected::text) FROM suite.result');
	my @misses = split /\n/, $node->safe_psql('postgres', 'SELECT name FROM suite.miss ORDER BY name COLLATE "C"');
	note $_ for split /\n/, $node->safe_psql('postgres', q(SELECT format('%s: wanted %s, got %s', name, expected, got) FROM suite.miss));
	return ($total, $passed, @misses);
}

for my $draft ('draft7', 'draft2020-12')
{
	my ($total, $passed, @misses) = run_files($draft, 'false', glob "'$suite/tests/$draft/'*.json");
	note "$draft: $passed of $total";
	cmp_ok($total, '>', 800, "$draft: the suite was read");
	cmp_ok($passed / $total, '>=', 0.985, "$draft: required tests passed");
	my %later = map { $_ => 1 } @{ $of_later_versions{$draft} // [] };
	is_deeply([ grep { !$later{$_} } @misses ], [ sort @{ $not_passed{$draft} } ], "$draft: those that are not passed are known") if $packaged;

	# International host names are not checked, and punycode is not looked into.
	($total, $passed, @misses) = run_files($draft, 'true', grep { !m{/(idn-hostname|hostname|unknown)\.json$} } glob "'$suite/tests/$draft/optional/format/'*.json");
	note "$draft, formats: $passed of $total";
	cmp_ok($passed / $total, '>=', 0.985, "$draft: optional tests of formats passed");
}

$node->stop;
clean_log($node);
done_testing();
