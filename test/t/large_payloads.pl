# Payloads over 7999 bytes on channels that store nothing: LISTENers get a pointer, the payload is kept for
# herald.pointer_retention, each role has its share, and no publisher fails for want of it.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('large_payloads', conf => "herald.pointer_space = 64kB\n");
$node->safe_psql('postgres', 'CREATE ROLE anna LOGIN; CREATE ROLE bert LOGIN');
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN big');

sub publish
{
	my ($role, $bytes) = @_;
	return $node->safe_psql('postgres',
		"SET SESSION AUTHORIZATION $role; SELECT herald.publish('big', to_jsonb(repeat('x', $bytes)))");
}
sub usage { return $node->safe_psql('postgres', q(SELECT ok, value FROM herald.status() WHERE name = 'pointer_space')) }

my @expected;
for my $bytes (7997, 7998, 20000)
{
	my $id = publish('anna', $bytes);
	if ($bytes < 7998)
	{
		is($id, '', "$bytes bytes and two quotes are announced as a whole");
		push @expected, '"' . 'x' x $bytes . '"';
		next;
	}
	isnt($id, '', "$bytes bytes and two quotes are kept");
	push @expected, sprintf '{"herald": {"message_id": %d, "bytes": %d}}', $id, $bytes + 8;
	is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION bert; SELECT length(herald.fetch($id) #>> '{}')"),
		$bytes, 'and anybody can fetch them');
}
is(usage(), 't|42 % used by the busiest role', 'the use is counted');
isnt(publish('anna', 30000), '', 'the share is not used up');
push @expected, qr/^\{"herald": \{"message_id": \d+, "bytes": 30008\}\}$/;
is(publish('anna', 10000), '', 'where the share is used up, nothing is kept, and nobody fails');
push @expected, '{"herald": {"message_id": null, "bytes": 10008}}';
isnt(publish('bert', 30000), '', 'another role has its own share');
push @expected, qr/^\{"herald": \{"message_id": \d+, "bytes": 30008\}\}$/;
like(usage(), qr/^t\|8\d %|^f\|9\d %/, 'status says so');

my @heard;
wait_for('all announcements are heard', sub {
	push @heard, map { /with payload "(.*)" received from/ ? $1 : () } split /\n/, $listener->query("SELECT 'heard'");
	return @heard >= @expected;
});
for my $i (0 .. $#expected)
{
	ref $expected[$i] ? like($heard[$i], $expected[$i], "announcement $i") : is($heard[$i], $expected[$i], "announcement $i");
}
is(scalar(@heard), scalar(@expected), 'and nothing else');

# The count is taken from the table after a restart, and whenever old ones are removed.
$node->restart;
wait_for('the use is known after a restart', sub { usage() =~ /^[tf]\|[89]\d %/ });
reload_with($node, 'herald.pointer_retention' => '1s', 'herald.sweep_interval' => '1s');
wait_for('old ones are removed', sub { $node->safe_psql('postgres', 'SELECT count(*) FROM herald_internal.pointer_store') == 0 });
wait_for('and give their space back', sub { usage() eq 't|0 % used by the busiest role' });
isnt(publish('anna', 50000), '', 'which is there for new ones');
$listener->quit;
clean_log($node);

done_testing();
