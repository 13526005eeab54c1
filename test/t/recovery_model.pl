# Anything may happen in any order, and in the end each subscription has handled exactly what was committed, each
# message once. Sessions publish in transactions that stay open, fail, are prepared, or commit late, while processes are
# terminated, the server crashes, segments are rotated, rows move, and ids have gaps. A model here knows what committed:
# it sends one statement at a time and waits for the answer, so it knows for sure.
#
# HERALD_TEST_SEED makes another run, as far as timing allows the same again; HERALD_TEST_STEPS a longer one.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

use List::Util qw(first max min);

my $steps = $ENV{HERALD_TEST_STEPS} // 240;  # of an epoch
my $epochs = 3;
seed_random();

# Rotation and sweeps would find in the end what was forgotten. So there are no sweeps, and rotation is a fault like others.
my $node = start_herald('model', conf => <<'CONF');
herald.rotation_period = 1h
herald.sweep_interval = 1h
herald.outbox_size = 64kB
herald.max_workers = 6
CONF
# Workers of grim are not terminated: a second loss of the same task would be a failed attempt, and the only one.
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE grim LOGIN;
ALTER TABLE app.effects ADD place bigint GENERATED ALWAYS AS IDENTITY;
CREATE TABLE app.amnesty ();
GRANT USAGE ON SCHEMA app TO grim;
GRANT INSERT ON app.effects TO grim;
GRANT SELECT ON app.amnesty TO app, grim;
CREATE FUNCTION app.act(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO app.effects (subscription, message_id, attempt, payload)
    VALUES (task.subscription, task.message_id, task.attempt, task.payload);
    IF task.payload ? 'seconds' THEN
        PERFORM pg_sleep((task.payload ->> 'seconds')::float);  -- a slow handler
    END IF;
    IF task.subscription = 'flaky' AND task.attempt <= (task.payload ->> 'fails')::integer THEN
        RAISE EXCEPTION 'as asked' USING ERRCODE = 'HT001';
    END IF;
    IF task.subscription = 'strict' AND task.payload ? 'dies' AND NOT EXISTS (SELECT FROM app.amnesty) THEN
        RAISE EXCEPTION 'as asked' USING ERRCODE = 'HT002';
    END IF;
END $$;
SELECT herald.create_channel('jobs', announce => 'off'), herald.create_channel('news');
SELECT herald.subscribe('plain', 'jobs', 'app.act', run_as => 'app'),
       herald.subscribe('flaky', 'jobs', 'app.act', run_as => 'app', retry_delay => '20 ms', retry_backoff => 1, max_attempts => 1000),
       herald.subscribe('lazy', 'jobs', 'app.act', run_as => 'app'),
       herald.subscribe('strict', 'news', 'app.act', run_as => 'grim', max_attempts => 1),
       herald.subscribe('reader', 'news', 'app.act', run_as => 'app', batch => false);
SQL
my %channel_of = (plain => 'jobs', flaky => 'jobs', lazy => 'jobs', strict => 'news', reader => 'news');

# The model. Every message has a number, which its payload shows; every transaction its messages. What counts as
# before and after is the number of the statement.
my $clock = 0;
my @messages = (undef);      # number => { channel, key, id, at, transaction, fails, dies }
my @prepared;                # transactions
my $gid = 0;
my %made;                    # what has happened how often
my %ended;                   # processes terminated since the server started: the launcher gets slower and slower
my $late_from;               # when "late" subscribed
my @sessions;                # { psql, transaction }
my $old;                     # a session with a snapshot that is older than rotation's first step

sub any_of { return $_[ int(rand(@_)) ] }

sub new_transaction { return { state => 'open', messages => [], ended => undef } }

sub end_transaction
{
	my ($transaction, $state) = @_;
	$transaction->{state} = $state;
	$transaction->{ended} = $clock++;
	return;
}

sub open_sessions
{
	push @sessions, { psql => $node->background_psql('postgres', on_error_stop => 0), transaction => undef } while @sessions < 5;
	return;
}

# The server has ended them: what was open is rolled back.
sub lose_sessions
{
	for (@sessions)
	{
		end_transaction($_->{transaction}, 'lost') if $_->{transaction};
		end_sessions($_->{psql});
	}
	@sessions = ();
	%ended = ();
	open_sessions();
	end_rotation();
	return;
}

sub run
{
	my ($session, $sql) = @_;
	$session->{psql}{stderr} = '';
	my $out = $session->{psql}->query($sql);
	$clock++;
	my $err = $session->{psql}{stderr};
	my $refused = $err =~ /the outbox has no room for the announcements of a prepared transaction/;
	BAIL_OUT(substr($sql, 0, 200) . ": $err") if $err =~ /ERROR|FATAL|PANIC/ && $sql !~ m{1/0} && !$refused;
	return $refused ? undef : $out;
}

sub begin
{
	my ($session) = @_;
	return if $session->{transaction};
	run($session, 'BEGIN;');
	$session->{transaction} = new_transaction();
	return;
}

# A message that is about to be published.
sub new_message
{
	my ($channel, $transaction) = @_;
	my %message = (channel => $channel, at => $clock, transaction => $transaction);
	my $number = @messages;
	my @parts = (qq("n": $number));
	$message{key} = any_of(qw(k1 k2 k3)) if rand() < 0.4;
	push @parts, '"seconds": 0.03' if rand() < 0.1;
	if ($channel eq 'jobs' && rand() < 0.15)
	{
		$message{fails} = 1 + int(rand(3));
		push @parts, qq("fails": $message{fails});
	}
	if ($channel eq 'news' && rand() < 0.2)
	{
		$message{dies} = 1;
		push @parts, '"dies": true';
	}
	$message{payload} = '{' . join(', ', @parts) . '}';
	push @messages, \%message;
	return \%message;
}

sub key_of { return defined $_[0]{key} ? "'$_[0]{key}'" : 'NULL' }

# Publishes some in a session, in its transaction if it has one.
sub publish
{
	my ($session, $count) = @_;
	my $channel = rand() < 0.6 ? 'jobs' : 'news';
	my $transaction = $session->{transaction} // new_transaction();
	my @new = map { new_message($channel, $transaction) } 1 .. $count;
	my $sql = "SELECT herald.publish('$channel', '$new[0]{payload}', " . key_of($new[0]) . ");";
	if ($count > 1)
	{
		my $payloads = join ',', map { "'$_->{payload}'" } @new;
		my $keys = join ',', map { key_of($_) } @new;
		$sql = "SELECT string_agg(id::text, ',' ORDER BY place)"
		  . " FROM herald.publish_batch('$channel', ARRAY[$payloads]::jsonb[], ARRAY[$keys]::text[]) WITH ORDINALITY AS p (id, place);";
	}
	my @ids = split /,/, run($session, $sql);
	die "ids: @ids\n" unless @ids == $count;
	$_->{id} = shift @ids for @new;
	push @{ $transaction->{messages} }, @new;
	end_transaction($transaction, 'committed') unless $session->{transaction};
	return;
}

# More than the outbox takes.
sub publish_many_at_once
{
	my ($session) = @_;
	my $transaction = $session->{transaction} // new_transaction();
	my ($first, $last) = (scalar @messages, @messages + 999);
	my ($id, $end) = split /\|/, run($session, <<"SQL");
SELECT min(id), max(id) FROM herald.publish_batch('jobs', (SELECT array_agg(jsonb_build_object('n', n)) FROM generate_series($first, $last) AS n)) AS id;
SQL
	die "ids: $id, $end\n" unless $end - $id == 999;
	push @messages, map { { channel => 'jobs', at => $clock, transaction => $transaction, id => $id++ } } $first .. $last;
	push @{ $transaction->{messages} }, @messages[ $first .. $last ];
	end_transaction($transaction, 'committed') unless $session->{transaction};
	return;
}

# Savepoints in savepoints: what is published before ROLLBACK TO is gone.
sub publish_in_savepoint
{
	my ($session, $depth) = @_;
	begin($session);
	run($session, "SAVEPOINT s$depth;");
	my $kept = @{ $session->{transaction}{messages} };
	publish($session, 1 + int(rand(2)));
	publish_in_savepoint($session, $depth + 1) if $depth < 3 && rand() < 0.5;
	if (rand() < 0.6)
	{
		run($session, "ROLLBACK TO s$depth;");
		my @gone = splice @{ $session->{transaction}{messages} }, $kept;
		$_->{transaction} = { state => 'rolled back to a savepoint' } for @gone;
	}
	else
	{
		run($session, "RELEASE s$depth;");
	}
	return;
}

sub end_open
{
	my ($session, $how) = @_;
	my $transaction = $session->{transaction} // return;
	if ($how eq 'prepare')
	{
		return if @prepared >= 6;
		$transaction->{gid} = 'g' . ++$gid;
		if (defined run($session, "PREPARE TRANSACTION '$transaction->{gid}';"))
		{
			push @prepared, $transaction;
		}
		else
		{
			end_transaction($transaction, 'refused');
		}
	}
	elsif ($how eq 'fail')
	{
		run($session, 'SELECT 1/0;');
		run($session, 'COMMIT;');
		end_transaction($transaction, 'failed');
	}
	else
	{
		run($session, "$how;");
		end_transaction($transaction, $how eq 'COMMIT' ? 'committed' : 'rolled back');
	}
	$session->{transaction} = undef;
	return;
}

sub end_prepared
{
	return unless @prepared;
	my $transaction = splice @prepared, int(rand(@prepared)), 1;
	my $session = first { !$_->{transaction} } @sessions;
	unless ($session)
	{
		end_open($sessions[0], 'COMMIT');
		$session = $sessions[0];
	}
	my $commit = rand() < 0.7;
	run($session, ($commit ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$transaction->{gid}';");
	end_transaction($transaction, $commit ? 'committed' : 'rolled back');
	return;
}

sub terminate
{
	my ($kind) = @_;
	return if $kind ne 'worker' && ++$ended{$kind} > 3;
	$made{$kind}++;
	$node->safe_psql('postgres', <<"SQL");
SELECT pg_terminate_backend(pid) FROM (
    SELECT pid FROM herald.workers WHERE kind = '$kind' AND role IS DISTINCT FROM 'grim' ORDER BY state = 'running' DESC, random() LIMIT 1) AS p
SQL
	return;
}

sub restart
{
	my ($mode) = @_;
	$node->stop($mode);
	$node->start;
	lose_sessions();
	return;
}

# A process is killed. Where that is a worker with a task, the task is charged and its subscription rests for a while,
# longer from time to time.
sub crash
{
	my $launcher = pid_of($node, 'launcher');
	my $kind = $made{'worker killed'} ? any_of('dispatcher', 'announcer') : 'worker';
	my ($victim) = $node->safe_psql('postgres', <<"SQL");
SELECT pid FROM herald.workers WHERE kind = '$kind' AND role IS DISTINCT FROM 'grim' ORDER BY state = 'running' DESC, random() LIMIT 1
SQL
	signal_process('KILL', $victim) or return;
	$made{"$kind killed"}++;
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $launcher") or die "no restart\n";
	lose_sessions();
	return;
}

# Rows move, so that addresses are wrong; only if nobody holds the table.
sub move_rows
{
	my (@segments) = @_;
	$node->psql('postgres', "SET lock_timeout = 50; VACUUM FULL herald_internal.log_$_") for @segments;
	return;
}

sub pause_or_resume
{
	my $paused = $node->safe_psql('postgres', q(SELECT state = 'paused' FROM herald.subscriptions WHERE subscription = 'lazy')) eq 't';
	$node->safe_psql('postgres', 'SELECT herald.' . ($paused ? 'resume' : 'pause') . "('lazy')");
	return;
}

sub subscribe_late
{
	return if defined $late_from;
	$node->safe_psql('postgres', q(SELECT herald.subscribe('late', 'jobs', 'app.act', run_as => 'app')));
	$late_from = $clock++;
	$channel_of{late} = 'jobs';
	return;
}

# What may happen, and how often in comparison. Faults cost time.
my @actions = (
	[ 30, 'one', sub { publish($_[0], 1) } ],
	[ 8, 'batch', sub { publish($_[0], 2 + int(rand(8))) } ],
	[ 12, 'begin', sub { begin($_[0]); publish($_[0], 1) } ],
	[ 6, 'savepoint', sub { publish_in_savepoint($_[0], 1) } ],
	[ 10, 'commit', sub { end_open($_[0], 'COMMIT') } ],
	[ 3, 'rollback', sub { end_open($_[0], 'ROLLBACK') } ],
	[ 2, 'fail', sub { end_open($_[0], 'fail') } ],
	[ 4, 'prepare', sub { end_open($_[0], 'prepare') } ],
	[ 3, 'end prepared', \&end_prepared ],
	[ 2, 'gap', sub { $node->safe_psql('postgres', q(INSERT INTO herald_internal.id_store SELECT used + (random() ^ 4 * 9000)::int, counter FROM herald_internal.id_store WHERE counter = 'message')) } ],
	[ 2, 'pause or resume', \&pause_or_resume ],
	[ 1, 'alter', sub { $node->safe_psql('postgres', "SELECT herald.alter_subscription('" . any_of('plain', 'reader') . "', max_concurrency => " . (1 + int(rand(5))) . ', batch => ' . any_of('true', 'false') . ')') } ],
	[ 1, 'move', sub { move_rows(int(rand(3))) } ],
	[ 0.3, 'overflow', sub { publish_many_at_once($_[0]) } ],
	# It makes the dispatcher read all tables, whether or not there is something to activate.
	[ 2, 'scan', sub { $node->safe_psql('postgres', 'SELECT herald.activate()') } ],
	[ 1.5, undef, sub { terminate('dispatcher') } ],
	[ 0.7, undef, sub { terminate('announcer') } ],
	[ 1.5, undef, sub { terminate('worker') } ],
	[ 0.3, 'subscribe', \&subscribe_late ],
);
my $weights = 0;
$weights += $_->[0] for @actions;
# Each of these once in an epoch, at random places, and one of them twice: not a rotation, which takes seconds.
my @faults = ([ 'rotation', \&rotate ], [ 'half a rotation', \&begin_rotation ], [ 'crash', \&crash ], [ 'immediate', sub { restart('immediate') } ], [ 'fast', sub { restart('fast') } ]);

# Rotation's first step without its second, for which an old snapshot is in the way: what was left of a segment is parked,
# and stands in the log as well. It stays like that for as long as the session with the snapshot lives.
sub begin_rotation
{
	return if $old || ++$ended{announcer} > 3;
	end_open($_, 'COMMIT') for @sessions;
	end_prepared() while @prepared;
	$node->safe_psql('postgres', q(SELECT herald.pause('lazy')));
	publish(any_of(@sessions), 5) for 1 .. 4;
	reload_with($node, 'herald.rotation_period' => '1s');
	end_process($node, 'TERM', 'announcer');
	my $looks = 0;
	wait_for('what was left is parked', sub {
		# One after the other, so that one is there all the time: for a segment of which nothing was left the next one waits, too.
		if ($looks++ % 8 == 0)
		{
			my $older = $old;
			$old = $node->background_psql('postgres');
			$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
			end_sessions($older) if $older;
		}
		publish(any_of(@sessions), 1 + int(rand(3)));
		return $node->safe_psql('postgres', 'SELECT count(*) > 0 FROM herald_internal.parked_store WHERE attempts = 0') eq 't';
	});
	# What comes in between must not change the order of what waits, which shows when it may run.
	for (1 .. 12)
	{
		my $what = any_of('one', 'batch', 'batch', 'begin', 'savepoint', 'commit', 'prepare', 'end prepared', 'scan', 'scan', 'alter', 'overflow');
		my $action = first { ($_->[1] // '') eq $what } @actions;
		$made{"$what in between"}++;
		$action->[2]->(any_of(@sessions));
	}
	$node->safe_psql('postgres', q(SELECT herald.resume('lazy')));
	return wait_idle($node, 'lazy');
}

sub end_rotation
{
	return unless $old;
	end_sessions($old);
	$old = undef;
	reload_with($node, 'herald.rotation_period' => undef);
	return;
}

# Until all of the log is parked or forgotten. Who publishes meanwhile does so in transactions of his own: open ones
# would keep their segments. A new announcer looks at once.
sub rotate
{
	end_rotation();
	end_open($_, 'COMMIT') for @sessions;
	end_prepared() while @prepared;
	$node->safe_psql('postgres', q(SELECT herald.pause('lazy')));
	publish(any_of(@sessions), 5) for 1 .. 4;
	my $last = $node->safe_psql('postgres', q(SELECT herald_internal.next_id('message')));
	reload_with($node, 'herald.rotation_period' => '1s');
	end_process($node, 'TERM', 'announcer');
	wait_for('all that was in the log has left it', sub {
		publish(any_of(@sessions), 1 + int(rand(3))) for 1 .. 3;
		terminate(any_of('worker', 'worker', 'dispatcher')) if rand() < 0.1;
		return $node->safe_psql('postgres', "SELECT count(*) FROM stored WHERE id <= $last") eq '0';
	});
	reload_with($node, 'herald.rotation_period' => undef);
	end_process($node, 'TERM', 'announcer');
	%ended = ();
	return;
}

sub act
{
	my $point = rand($weights);
	my $action = first { ($point -= $_->[0]) < 0 } @actions;
	$made{ $action->[1] }++ if defined $action->[1];
	return $action->[2]->(any_of(@sessions));
}

# What a subscription must have handled by now.
sub expected_of
{
	my ($subscription) = @_;
	return grep {
		my $message = $messages[$_];
		$message->{channel} eq $channel_of{$subscription} && $message->{transaction}{state} eq 'committed'
		  && !($subscription eq 'strict' && $message->{dies})
		  && !($subscription eq 'late' && $message->{transaction}{ended} < $late_from);
	} 1 .. $#messages;
}

sub some_of { return join ' ', @_ > 20 ? (@_[ 0 .. 19 ], '... ' . @_ . ' in all') : @_ }

# Messages of one key in the wrong order: those of one transaction, and those where one was published after the other
# one's commit.
sub disordered
{
	my ($places) = @_;
	my %lines;
	push @{ $lines{ $messages[$_]{key} } }, $_ for grep { defined $messages[$_]{key} } sort { $places->{$a} <=> $places->{$b} } keys %$places;
	my @wrong;
	for my $line (values %lines)
	{
		# From behind: whoever comes before must not have begun after the earliest commit of those that follow.
		my ($earliest, $whose);
		for my $number (reverse @$line)
		{
			my $message = $messages[$number];
			push @wrong, "$number,$whose" if defined $earliest && $message->{at} > $earliest;
			($earliest, $whose) = ($message->{transaction}{ended}, $number) if !defined $earliest || $message->{transaction}{ended} < $earliest;
		}
		my %last;
		for my $number (@$line)
		{
			my $transaction = $messages[$number]{transaction};
			push @wrong, "$last{$transaction},$number" if ($last{$transaction} // 0) > $number;
			$last{$transaction} = $number;
		}
	}
	return @wrong;
}

sub compare
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', q(SELECT herald.resume('lazy')));
	for my $subscription (sort keys %channel_of)
	{
		my @expected = expected_of($subscription);
		# Not a matter of the number: what is there too much is to be seen below, and not to be waited for.
		wait_until($node, "SELECT count(DISTINCT message_id) >= @{[ scalar @expected ]} FROM app.effects WHERE subscription = '$subscription'",
			"$name, $subscription: as many are handled as were committed", seconds => Test::More->builder->is_passing ? 60 : 5);
		wait_idle($node, $subscription);
		my (%times, %places, @wrong);
		for (split /\n/, $node->safe_psql('postgres', "SELECT payload ->> 'n', message_id, place FROM app.effects WHERE subscription = '$subscription'"))
		{
			my ($number, $id, $place) = split /\|/;
			$times{$number}++;
			$places{$number} = $place;
			push @wrong, $number if $messages[$number]{id} ne $id;
		}
		my %expected = map { $_ => 1 } @expected;
		is(some_of(grep { !$times{$_} } @expected), '', "$name, $subscription: nothing is lost (of @{[ scalar @expected ]})");
		is(some_of(map { "$_: $messages[$_]{transaction}{state}" } grep { !$expected{$_} } sort { $a <=> $b } keys %times), '', "$name, $subscription: nothing else is handled");
		is(some_of(grep { $times{$_} > 1 } sort { $a <=> $b } keys %times), '', "$name, $subscription: nothing is handled twice");
		is(some_of(@wrong), '', "$name, $subscription: each has the id that its publisher was told");
		is(some_of(disordered({ map { $_ => $places{$_} } grep { $expected{$_} } keys %places })), '', "$name, $subscription: keys are in order");
	}
	is($node->safe_psql('postgres', "SELECT count(*) FROM herald.tasks WHERE state <> 'dead'"), '0', "$name: no task is left");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM herald_internal.parked_store'), '0', "$name: nothing is parked");
	is($node->safe_psql('postgres', 'SELECT sum(pending + running + retrying) FROM herald.subscription_stats'), '0', "$name: nothing is waited for");
	return;
}

sub compare_failures
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	# Ids of what was lost in a crash may be given again.
	my %id_of = map { $messages[$_]{id} => $_ } grep { $messages[$_]{transaction}{state} eq 'committed' } 1 .. $#messages;
	my @dead = map { $id_of{$_} } split /\n/, $node->safe_psql('postgres', q(SELECT message_id FROM herald.dead_letters ORDER BY message_id));
	my @must_die = grep { $messages[$_]{dies} && $messages[$_]{transaction}{state} eq 'committed' } 1 .. $#messages;
	is(join(' ', sort { $a <=> $b } @dead), join(' ', @must_die), "$name: @{[ scalar @must_die ]} are dead letters");
	is($node->safe_psql('postgres', q(SELECT string_agg(message_id::text, ' ' ORDER BY message_id) FROM herald.failure_log WHERE subscription = 'strict' AND error_code = 'HT002' AND attempt = 1 AND next_attempt_at IS NULL)),
		join(' ', sort { $a <=> $b } map { $messages[$_]{id} } @must_die), "$name: each with its failure");

	# A worker terminated twice under the same task is a failed attempt, too, and one killed is at once.
	my (%attempts, @wrong);
	for (split /\n/, $node->safe_psql('postgres', q(SELECT message_id, array_agg(attempt ORDER BY attempt), array_agg(error_code ORDER BY attempt) FROM herald.failure_log WHERE subscription <> 'strict' GROUP BY subscription, message_id)))
	{
		my ($id, $numbers, $codes) = split /\|/;
		my $number = $id_of{$id};
		my $count = () = $codes =~ /[A-Z0-9]+/g;
		my $asked = () = $codes =~ /HT001/g;
		my $lost = () = $codes =~ /57P0[12]/g;
		push @wrong, "$number: $codes $numbers" unless $numbers eq '{' . join(',', 1 .. $count) . '}' && $asked + $lost == $count
		  && ($lost == 0 || ($made{worker} // 0) + ($made{'worker killed'} // 0)) && $asked <= ($messages[$number]{fails} // 0);
		$attempts{$number} = $count if $asked > 0;
	}
	is(some_of(@wrong), '', "$name: failed attempts are numbered, and of the expected kind");
	my %handled = map { split /\|/ } split /\n/, $node->safe_psql('postgres', q(SELECT payload ->> 'n', attempt FROM app.effects WHERE subscription = 'flaky'));
	@wrong = grep { $handled{$_} <= ($messages[$_]{fails} // 0) || $handled{$_} > 1 && $handled{$_} != ($attempts{$_} // 0) + 1 && !$made{worker} && !$made{'worker killed'} } keys %handled;
	is(some_of(@wrong), '', "$name: who succeeded did so at the attempt after them");
	# Where the worker was lost instead, that may have been the only failure.
	my %recorded = map { $id_of{$_} => 1 } split /\n/, $node->safe_psql('postgres', q(SELECT DISTINCT message_id FROM herald.failure_log WHERE subscription = 'flaky'));
	is(some_of(grep { !$recorded{$_} } grep { $messages[$_]{fails} } expected_of('flaky')), '', "$name: who fails is in the failure log");
	return;
}

open_sessions();
for my $epoch (1 .. $epochs)
{
	my %fault_at = map { int($steps * (0.1 + rand(0.85))) => $_ } @faults, any_of(@faults[ 2 .. $#faults ]);
	my %plan = map { $_ => $fault_at{$_}[0] } keys %fault_at;
	note "epoch $epoch: ", join ', ', map { "$plan{$_} at $_" } sort { $a <=> $b } keys %plan;
	for my $step (1 .. $steps)
	{
		act();
		if (my $fault = $fault_at{$step})
		{
			$made{ $fault->[0] }++;
			$fault->[1]->();
		}
	}
	subscribe_late() if $epoch == 2;
	# Some stay prepared until the next epoch, with low ids. What is open is ended last: nothing that comes after it makes
	# the dispatcher look again.
	end_prepared() while @prepared > ($epoch < $epochs ? 2 : 0);
	$node->safe_psql('postgres', q(SELECT herald.pause('lazy')));
	begin($_) for @sessions;
	publish($sessions[1], 5);
	end_open($sessions[1], 'ROLLBACK');
	publish_many_at_once($sessions[0]);
	publish($_, 1) for @sessions;
	end_open($_, 'COMMIT') for @sessions;
	move_rows(0 .. 2);
	terminate('worker') for 1 .. 2;
	note "epoch $epoch: $#messages messages, ", join ', ', map { "$_ $made{$_}" } sort keys %made;
	compare("epoch $epoch");
	end_rotation();
	compare_failures("epoch $epoch");
	# What is wrong now stays wrong.
	last unless Test::More->builder->is_passing;
}
# Dead letters get their second life.
$node->safe_psql('postgres', q(INSERT INTO app.amnesty DEFAULT VALUES; SELECT herald.replay_all('strict')));
wait_idle($node, 'strict');
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.dead_letters)), '0', 'no dead letters are left');
my @all = grep { $messages[$_]{channel} eq 'news' && $messages[$_]{transaction}{state} eq 'committed' } 1 .. $#messages;
is($node->safe_psql('postgres', q(SELECT count(*), count(DISTINCT message_id) FROM app.effects WHERE subscription = 'strict')),
	@all . '|' . @all, 'replayed, they are handled once');
end_sessions(map { $_->{psql} } @sessions);
clean_log($node, signals => '9');

done_testing();
