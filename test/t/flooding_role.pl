# A role that floods the outbox while the announcer is held still: what of it finds no room goes another way, and
# all of it arrives. Other roles and other databases find room all the time, and their tasks need no scan.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_node('flooding_role', conf => "herald.outbox_size = 256kB\nherald.sweep_interval = 1h\n");
$node->safe_psql('postgres', 'CREATE ROLE flood LOGIN; CREATE ROLE victim LOGIN; CREATE DATABASE other');
my %listeners;
for my $database ('postgres', 'other')
{
	install_herald($node, $database);
	$node->safe_psql($database, q(
		SELECT herald.create_channel('jobs', announce => 'pointer');
		SELECT herald.grant_channel('jobs', 'public', '{publish}');
		SELECT herald.create_channel('flooded', announce => 'off');
		SELECT herald.grant_channel('flooded', 'public', '{publish}');
		SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app');
		SELECT herald.subscribe('flooded', 'flooded', 'app.note', run_as => 'app')));
	$listeners{$database} = listen_in($node, $database, 'jobs', 'flood', 'victim');
}
my %announcers = map { ($_ => pid_of($node, 'announcer', $_)) } 'postgres', 'other';

# A role publishes more than the outbox takes. Sessions that end leave what they have there; one that goes on takes
# it back when it finds no room. So many short ones fill it to the brim, then 10 long ones go on.
my $sent = 0;

sub flood
{
	my ($database) = @_;
	local $ENV{PGUSER} = 'flood';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $phase ([ 1, 5, 7000, '--connect' ], [ 2, 5, 500, '--connect' ], [ 3, 30, 10, '--connect' ], [ 4, 100, 200, '' ])
	{
		my ($number, $count, $length, $options) = @$phase;
		$sent += 10 * $count;
		run_pgbench($node, "--client=10 --jobs=2 --transactions=$count --define=n=0 $options $database", "a role floods the outbox, $number",
			"\\set n :n + 1\nSELECT herald.notify('flood', '$number:' || :client_id || ' ' || :n || repeat('x', $length));\n");
	}
	return;
}

# The same role or another one publishes tasks and announcements. Returns the tasks' ids.
sub publish_as
{
	my ($role, $database, $channel, $count) = @_;
	my @ids = acknowledged($node, join('', "SET SESSION AUTHORIZATION $role;\n",
			map { "SELECT herald.publish('$channel', '{\"role\": \"$role\"}');\nSELECT herald.notify('$role', '$role $_');\n" } 1 .. $count), $database);
	die "only " . @ids . " of $count\n" unless @ids == $count;
	return @ids;
}

# Who announced what was heard of the victim's: all of it by the announcer.
sub victim_is_heard
{
	my ($name, $database, $times, @ids) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @heard = heard_by($node, $listeners{$database}, $database);
	my @victims = grep { $_->[0] ne 'flood' } @heard;
	is_deeply([ sort map { $_->[1] =~ /"message_id": ([0-9]+)/ ? $1 : $_->[1] } @victims ],
		[ sort @ids, map { ("victim $_") x $times } 1 .. 20 ], "$name: all is heard once");
	is(scalar(grep { $_->[2] != $announcers{$database} } @victims), 0, "$name: from the announcer");
	return grep { $_->[0] eq 'flood' } @heard;
}

# Announcements: the flood has its share of the outbox, and not more.
my $refused = refusals($node);
stop_idle($node, $announcers{postgres});
flood('postgres');
cmp_ok(refusals($node), '>', $refused, 'it finds no room any more');
$refused = refusals($node);

# The log cannot be scanned meanwhile: tasks come through the outbox, or not at all.
my %locks;
for my $database ('postgres', 'other')
{
	$locks{$database} = $node->background_psql($database);
	$locks{$database}->query_safe('BEGIN; LOCK TABLE herald_internal.log_2 IN ACCESS EXCLUSIVE MODE;');
}
my @ids = publish_as('victim', 'postgres', 'jobs', 20);
wait_for_effects($node, 'work', 20, name => 'tasks of another role are handled without a scan');
my @others = publish_as('victim', 'other', 'jobs', 20);
wait_for_effects($node, 'work', 20, name => 'and those of another database', database => 'other');
is(refusals($node), $refused, 'both find room');
victim_is_heard('another database', 'other', 1, @others);
end_sessions(values %locks);
signal_process('CONT', $announcers{postgres});
wait_announced($node, $sent, 'the flood is announced', 'flood');
my @flood = victim_is_heard('another role', 'postgres', 1, @ids);
is(scalar @flood, $sent, 'the flood is heard');
my %texts = map { ($_->[1] => 1) } @flood;
is(scalar keys %texts, $sent, 'each once');
my $direct = grep { $_->[2] != $announcers{postgres} } @flood;
cmp_ok($direct, '>', 0, "$direct of $sent announced by the role itself");
my (%last, $inversions);
for (@flood)
{
	my ($client, $n) = $_->[1] =~ /^4:([0-9]+) ([0-9]+)x/ or next;
	$inversions++ if $n < ($last{$client} // 0);
	$last{$client} = $n;
}
is($inversions, undef, "each session's in order");
outbox_is_empty($node, 'after the flood');

# Tasks: the flood makes the dispatcher scan, the others' tasks are handled once all the same.
my $held = hold_consumers($node);
my @flooded = split /\n/, $node->safe_psql('postgres', q(SET SESSION AUTHORIZATION flood;
	SELECT herald.publish('flooded', '{}') FROM generate_series(1, 3000)));
push @flooded, publish_as('flood', 'postgres', 'flooded', 100);
$sent += 100;
push @ids, publish_as('victim', 'postgres', 'jobs', 20);
push @others, publish_as('victim', 'other', 'jobs', 20);
wait_for_effects($node, 'work', 40, name => 'another database goes on', database => 'other');
end_sessions($held);
wait_for_effects($node, 'work', 40, name => 'all tasks are handled when the dispatcher goes on');
wait_for_effects($node, 'flooded', 3100, name => 'those of the flood as well');
wait_idle($node, $_) for 'work', 'flooded';
handled_once($node, 'work', \@ids);
handled_once($node, 'flooded', \@flooded);
wait_idle($node, 'work', database => 'other');
handled_once($node, 'work', \@others, database => 'other');
wait_announced($node, $sent, 'the flood is announced', 'flood');
outbox_is_empty($node, 'in the end');
end_sessions(values %listeners);
clean_log($node);

done_testing();
