# The oracle has to see a loss where there is one: with synchronous_commit = off a crash loses what was
# acknowledged. How much is a matter of luck, and that anything is, nearly so; hence not part of make check:
# HERALD_TEST_ORACLE=1 make check SUITES=tap.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use IPC::Run ();
use PostgreSQL::Test::Utils;

plan skip_all => 'only with HERALD_TEST_ORACLE=1' unless $ENV{HERALD_TEST_ORACLE};

my $node = start_herald('oracle', conf => <<'CONF');
wal_writer_delay = 10s
wal_writer_flush_after = 1GB
wal_buffers = 64MB
CONF
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('jobs', announce => 'off');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app')));
my $script = "${PostgreSQL::Test::Utils::tmp_check}/oracle.sql";
append_to_file($script, "SELECT herald.publish('jobs', '{}');\n" x 100_000);

# Publishes, kills all processes of the server, and returns how many acknowledged messages the oracle misses.
sub lost_in_crash
{
	my ($round) = @_;
	my $printed = "${PostgreSQL::Test::Utils::tmp_check}/oracle_printed_$round";
	my $publisher = IPC::Run::start(
		[ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-f', $script ],
		'<', \undef, '>', $printed, '2>', '/dev/null');
	my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM stored');
	$node->poll_query_until('postgres', "SELECT count(*) > $before + 200 FROM stored");
	my @processes = split /\n/, $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
	$node->kill9;
	signal_process('KILL', $_) for @processes;
	$publisher->finish;
	my @acknowledged = grep { /^[0-9]+$/ } split /\n/, slurp_file($printed);
	cmp_ok(scalar @acknowledged, '>', 100, "round $round: " . @acknowledged . ' were acknowledged');
	start_again($node) or die "the server does not start\n";
	# At once: what is published later may get the ids of what was lost.
	return count_lost($node, \@acknowledged);
}

# The same with and without: what it finds is the setting's doing.
is(lost_in_crash($_), '0', "round $_: synchronous commits are all there") for 1, 2;
reload_with($node, synchronous_commit => 'off');
wait_until($node, 'SHOW synchronous_commit', 'switched off', expect => 'off');
my ($round, $lost, $began) = (2, 0, time);
while ($lost == 0 && time - $began < 60)
{
	$lost = lost_in_crash(++$round);
}
cmp_ok($lost, '>', 0, "the oracle misses $lost acknowledged messages in round $round");
clean_log($node, signals => 9);

done_testing();
