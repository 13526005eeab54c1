# The scripts of examples/ do what their comments say, twice, and leave nothing behind. (examples/quickstart.sql is what
# make demo runs.)

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_node('examples');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_herald');
pid_of($node, 'announcer');

# What was heard, in order, and the other output. It says nothing but the notice.
sub run_example
{
	my ($name, $notice) = @_;
	my ($out, $err) = ('', '');
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	$node->safe_psql('postgres', 'SELECT herald.reset_stats()');
	my $script = "$FindBin::RealBin/../../examples/$name.sql";
	IPC::Run::run([ $node->installed_command('psql'), '-X', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-f', $script ],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(150));
	is($? >> 8, 0, "$name runs");
	$err =~ s/^.*NOTICE: .*already exists, skipping\n//mg;
	$err =~ s/^psql:\S+ //mg;
	is($err, defined $notice ? "$notice\n" : '', 'without another word');
	my @heard = $out =~ /^Asynchronous notification "([^"]+" with payload ".*)" received from server process/mg;
	s/" with payload "/: / for @heard;
	$out =~ s/^Asynchronous notification.*\n//mg;
	$out =~ s/ +$//mg;
	return ($out, @heard);
}

for my $time ('first', 'second')
{
	my ($out, @heard) = run_example('cache_invalidation');
	is(join("\n", @heard), <<'HEARD' =~ s/\n\z//r, "cache_invalidation, $time time: what a cache hears");
product_cache: product:1
category_cache: category:books
product_cache: product:2
product_cache: product:3
product_cache: product:1
category_cache: category:books
category_cache: category:games
category_cache: category:toys
HEARD

	($out) = run_example('data_sync');
	like($out, qr/ customer_id \| name \|      email\n-+\+-+\+-+\n           1 \| Ada  \| ada\@example\.org\n          20 \| Bob  \| bob\@example\.org\n\(2 rows\)/,
		"data_sync, $time time: the copy");
	like($out, qr/\n +1 \| 2000000\n/, 'a value that is too large for a message');
	like($out, qr/\n +8 \| +8 \| +0\n/, 'eight changes, each handled once');
	like($out, qr/ contacts\n-+\n +5002\n.*contacts\n-+\n +0\n/s, 'a copy of many, and of none');

	($out, @heard) = run_example('dashboard');
	is(join("\n", @heard), <<'HEARD' =~ s/\n\z//r, "dashboard, $time time: figures that were sent");
herald_demo_figures: {"new": {"total": 30, "orders": 2}, "paid": {"total": 30, "orders": 1}}
herald_demo_figures: {"new": {"total": 120, "orders": 101}, "paid": {"total": 40, "orders": 2}}
HEARD
	like($out, qr/ new    \|    101 \|   120\n paid   \|      2 \|    40\n/, 'and are in the table');
	like($out, qr/ transactions \| delivered\n-+\+-+\n +2 \| +2\n/, 'worked out once for a transaction');

	($out) = run_example('handler_test', 'NOTICE:  refused with P0002');
	like($out, qr/ booked\n-+\n t\n/, "handler_test, $time time: what the handler does");
	like($out, qr/ fits\n-+\n f\n/, 'and a payload that does not fit');

	($out, @heard) = run_example('lock_release');
	is(join("\n", @heard), <<'HEARD' =~ s/\n\z//r, "lock_release, $time time: three releases");
locks: RELEASE:nightly report
locks: RELEASE:invoice 7
locks: RELEASE:nightly report
HEARD
	like($out, qr/other session: false\n.*before the commit: false\n.*after the commit: true\n/s, 'who has the lock');
}

is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'herald\_%' AND nspname <> 'herald_internal')), '0', 'no schema is left');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_roles WHERE rolname LIKE 'herald%')), '0', 'no role');
is($node->safe_psql('postgres', q(SELECT (SELECT count(*) FROM herald_internal.change_feed_store) + (SELECT count(*) FROM herald.channels) + (SELECT count(*) FROM herald.subscriptions))), '0',
	'no feed, channel or subscription');
clean_log($node);
done_testing();
