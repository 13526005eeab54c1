# JSON Schema under random input: compared with other implementations, with broken schemas, and with schemas
# and payloads made to take for ever. A few seconds, or HERALD_FUZZ_SECONDS; HERALD_TEST_SEED makes another run.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $seconds = $ENV{HERALD_FUZZ_SECONDS} // 6;
my $seed = seed_random();
my $node = start_node('random');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_herald');

{
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
	my $output = qx('$FindBin::RealBin/../schema/random_check' $seconds $seed 2>&1);
	is($?, 0, "random schemas, patterns and payloads, seed $seed") or diag $output;
	note $output;
	my ($growth) = $output =~ /growth=(-?\d+)/;
	# The cache of compiled schemas is full when the growth begins to count.
	cmp_ok($growth // 1e9, '<', 16 * 1024, 'the memory of the process does not grow (kB)');
}

# What a statement ends with when it has 300 ms; by far less than it would take.
sub cut_off { return sqlstate_of($node, "SET statement_timeout = '300ms'; $_[0]") }

is(cut_off(q(SELECT herald.validate('{"pattern": "(?=.*x.*y)z"}', to_jsonb(repeat('a', 900000))))),
	'57014', 'a slow regular expression can be cancelled');
is(cut_off(q(SELECT count(*) FROM generate_series(1, 100000) AS n
	WHERE herald.validate(jsonb_build_object('allOf', (SELECT jsonb_agg(jsonb_build_object('pattern', format('(a|b%s|c){1,100}(d|e){1,99}', n * 1000 + m))) FROM generate_series(1, 50) AS m)), '1'))),
	'57014', 'compiling can be cancelled');

# What multiplies is given up by itself, whatever the payload is.
my $nested = q((SELECT jsonb_build_object('$ref', '#/$defs/n60', '$defs', jsonb_object_agg('n' || n, CASE n WHEN 0 THEN '{"type": "null"}'::jsonb
	ELSE jsonb_build_object(keyword, jsonb_build_array(jsonb_build_object('$ref', '#/$defs/n' || n - 1), jsonb_build_object('$ref', '#/$defs/n' || n - 1))) END)) FROM generate_series(0, 60) AS n));
for my $keyword (qw(anyOf oneOf))
{
	is(sqlstate_of($node, "SELECT herald.validate($nested, '1') FROM (VALUES ('$keyword')) AS v (keyword)"), '54001', "$keyword of $keyword is bounded");
	is(sqlstate_of($node, "SELECT count(*) FROM (VALUES ('$keyword')) AS v (keyword), herald.validation_errors($nested, '1')"), '54001', "so are its errors");
}
like(sqlstate_of($node, q(SELECT herald.validate((repeat('{"not":', 5000) || '{}' || repeat('}', 5000))::jsonb, '1'))), qr/^(?:00000|54001)$/, 'a deep schema does no harm');
is(sqlstate_of($node, q(SELECT herald.validate('{"pattern": "((((a{1,200}){1,200}){1,200}){1,200}){1,200}"}', '1'))), '0A000', 'a pattern that explodes is refused');
# A million elements are not too many.
is($node->safe_psql('postgres', q(SELECT herald.validate('{"items": {"type": "integer", "minimum": 1}, "uniqueItems": true}', (SELECT jsonb_agg(n) FROM generate_series(1, 1000000) AS n)))),
	't', 'a large payload is checked');

$node->stop;
clean_log($node);
done_testing();
