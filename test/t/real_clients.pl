# Five real clients listen to the same channels while 16 sessions publish: psql, psycopg, asyncpg, node-postgres and
# pg-listen. Each must hear every message exactly once, byte for byte, those of each session in order, and nothing
# else; and all of them the same sequence, from the announcer. The clients and the publishers are in test/clients.
#
# The Node.js modules are handed over in HERALD_NODE_MODULES; where they can't be had, HERALD_NODE_MISSING says why.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use IPC::Run ();
use List::Util qw(sum0);
use MIME::Base64 qw(decode_base64 encode_base64);
use PostgreSQL::Test::Utils;

my $sources = "$FindBin::RealBin/../clients";
my $python = '/usr/bin/python3';
# More than the silence after which a client gives up by itself.
my $limit = 150;
my $end = 'the end';

# Each of them is heard as a name of its own, and none is folded to lower case, cut or normalised.
my @undeclared = ('orders', 'ORDERS', 'Kanäle ☂', "e\xcc\x81", "\xc3\xa9", 'it\'s "quoted" \\ $1 %s', "two\nlines");
my @durable = ('Lager 📦', "\xf0\x90\x8d\x88" x 15 . 'abc');
my @ephemeral = ('select');
my @channels = (@undeclared, @durable, @ephemeral);

sub literal
{
	my ($text) = @_;
	return "E'" . $text =~ s/['\\]/\\$&/gr . "'";
}

sub identifier
{
	my ($text) = @_;
	return '"' . $text =~ s/"/""/gr . '"';
}

sub slurp_lines
{
	my ($file) = @_;
	return -f $file ? split /\n/, slurp_file($file) : ();
}

my $node = start_herald('real_clients');
$node->safe_psql('postgres', 'SELECT herald.create_channel(' . literal($_) . ", announce => 'payload')") for @durable;
$node->safe_psql('postgres', 'SELECT herald.create_channel(' . literal($_) . ', durable => false)') for @ephemeral;
my $announcer = pid_of($node, 'announcer');
my $directory = PostgreSQL::Test::Utils::tempdir();

local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'postgres';
local $ENV{PGCLIENTENCODING} = 'UTF8';
local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
local $ENV{NODE_PATH} = $ENV{HERALD_NODE_MODULES};

my %programs = (
	psycopg => [ $python, "$sources/listen_psycopg.py" ],
	asyncpg => [ $python, "$sources/listen_asyncpg.py" ],
	'node-postgres' => [ 'node', "$sources/listen_pg.js" ],
	'pg-listen' => [ 'node', "$sources/listen_pg_listen.js" ],
);
my @of_node = ('node-postgres', 'pg-listen');
my $node_missing = $ENV{HERALD_NODE_MODULES} ? undef : $ENV{HERALD_NODE_MISSING} // 'HERALD_NODE_MODULES is not set';
if (defined $node_missing)
{
	delete @programs{@of_node};
	diag("NOT TESTED: @of_node: $node_missing");
}

# psql shows notifications after a command, so it gets some while messages are published. What it printed is
# kept as it is.
my ($psql, $psql_in, $psql_out, $psql_turns);

sub psql_turn
{
	my ($sql) = @_;
	my $mark = "psql is done with turn " . ++$psql_turns . "\n";
	my $from = length $psql_out;
	$psql_in .= "$sql;\n\\echo '" . substr($mark, 0, -1) . "'\n";
	$psql->pump while index($psql_out, $mark, $from) < 0;
	substr($psql_out, -length $mark) = '';
	return substr($psql_out, $from);
}

sub start_psql
{
	($psql_in, $psql_out, $psql_turns) = ('', '', 0);
	$psql = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-f', '-' ], '<', \$psql_in, '>', \$psql_out, IPC::Run::timeout($limit));
	psql_turn('LISTEN ' . identifier($_)) for $end, @channels;
	return;
}

my $notification = qr/Asynchronous notification "(.*?)"(?: with payload "(.*?)")? received from server process with PID ([0-9]+)\.\n/s;
my $pointer = qr/^\{"herald": \{"message_id": ([0-9]+), "bytes": [0-9]+\}\}$/;

# Writes down what psql heard as the other clients do it.
sub psql_heard
{
	my ($file) = @_;
	my ($lines, @pointers) = ('');
	my $rest = $psql_out =~ s{$notification}{
		my ($channel, $payload, $pid) = ($1, $2 // '', $3);
		push @pointers, $1 if $payload =~ $pointer;
		$lines .= join("\t", $pid, encode_base64($channel, ''), encode_base64($payload, '')) . "\n";
		''}gerx;
	is($rest, '', 'psql prints notifications and nothing else');
	for (@pointers)
	{
		# As bytes: what psql takes for no character, it leaves out of a result, though not of a notification.
		my ($bytes) = psql_turn("SELECT convert_to(herald.fetch($_)::text, 'UTF8')") =~ /^\\x([0-9a-f]+)$/;
		$lines .= join("\t", '=', $_, encode_base64(pack('H*', $bytes), '')) . "\n";
	}
	append_to_file($file, $lines);
	return;
}

# What was published: how often a payload was sent, who sent those that one session sent once, what was rolled back.
sub read_published
{
	my (%sent, %place, %unheard);
	for my $session (glob "$directory/publisher-*")
	{
		my $number = 0;
		for (slurp_lines($session))
		{
			my $rolled_back = s/^-\t//;
			if ($rolled_back) { $unheard{$_}++ }
			else
			{
				$sent{$_}++;
				$place{$_} = [ $session, ++$number ];
			}
		}
	}
	return { sent => \%sent, place => \%place, unheard => \%unheard };
}

# What a client heard, in the form of what was published, pointers replaced by what they point to.
sub read_heard
{
	my ($client) = @_;
	my (@heard, @pids, @pointers, %fetched);
	for (slurp_lines("$directory/$client"))
	{
		my ($pid, $channel, $payload) = split /\t/, $_, -1;
		if ($pid eq '=')
		{
			$fetched{$channel} = $payload;
			next;
		}
		next if decode_base64($channel) eq $end;
		push @pids, $pid;
		push @pointers, [ scalar @heard, $1 ] if decode_base64($payload) =~ $pointer;
		push @heard, "$channel\t$payload";
	}
	for (@pointers)
	{
		my ($index, $id) = @$_;
		$heard[$index] =~ s/\t.*/"\t" . ($fetched{$id} \/\/ "not fetched")/e;
	}
	return { heard => \@heard, pids => \@pids, pointers => { map { $heard[ $_->[0] ] => 1 } @pointers } };
}

# A few of the messages of a list, readable.
sub some
{
	my @lines = map { join ': ', map { substr(decode_base64($_), 0, 60) } split /\t/, $_, -1 } @_[ 0 .. ($#_ < 4 ? $#_ : 4) ];
	return join "\n", @lines;
}

sub none
{
	my ($name, @bad) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(scalar @bad, 0, $name) || diag(some(@bad));
}

sub judge
{
	my ($client, $published, $heard) = @_;
	my ($sent, $place) = @$published{qw(sent place)};
	my (%times, %last, @inverted);
	$times{$_}++ for @{ $heard->{heard} };
	for (grep { ($sent->{$_} // 0) == 1 } @{ $heard->{heard} })
	{
		my ($session, $number) = @{ $place->{$_} };
		push @inverted, $_ if $number < ($last{$session} // 0);
		$last{$session} = $number;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	none("$client: nothing is missing", grep { ($times{$_} // 0) < $sent->{$_} } sort keys %$sent);
	none("$client: nothing is heard twice", grep { exists $sent->{$_} && $times{$_} > $sent->{$_} } sort keys %times);
	none("$client: nothing of what was rolled back or refused", grep { exists $published->{unheard}{$_} } sort keys %times);
	none("$client: nothing else", grep { !exists $sent->{$_} && !exists $published->{unheard}{$_} } sort keys %times);
	none("$client: each session's in order", @inverted);
	my @long = grep { length decode_base64((split /\t/, $_, -1)[1]) > 7999 } keys %$sent;
	none("$client: what is too long for a notification is fetched", grep { !$heard->{pointers}{$_} } @long);
	is(keys %{ $heard->{pointers} }, @long, "$client: and nothing else");
	is(join(' ', keys %{ { map { $_ => 1 } @{ $heard->{pids} } } }), $announcer, "$client: the sender is the announcer");
	return;
}

# All listen, the sessions publish as told, and then everybody must have heard what they did.
sub hear_all
{
	my ($messages, @options) = @_;
	my %running;
	unlink glob "$directory/*";
	start_psql();
	for my $client (sort keys %programs)
	{
		my $errors = '';
		my $run = IPC::Run::start([ @{ $programs{$client} }, "$directory/$client", $end, @channels ], '<', \undef, '&>', \$errors, IPC::Run::timeout($limit));
		$running{$client} = [ $run, \$errors ];
	}
	my $all_listen = 'SELECT count(*) FROM (SELECT FROM herald.listeners GROUP BY pid HAVING count(*) = ' . (1 + @channels) . ') AS l';
	wait_until($node, $all_listen, 'all listen', expect => 1 + keys %programs)
	  or diag(map { $running{$_}[0]->pump_nb; ${ $running{$_}[1] } } sort keys %running);

	# Whenever a publisher tells how far it is, psql runs something.
	my $told = '';
	my $publishers = IPC::Run::start(
		[ $python, "$sources/publish.py", '--directory', $directory, '--text', @undeclared, @durable,
			'--ephemeral', @undeclared, @ephemeral, '--durable', @durable, @options ],
		'<', \undef, '&>', \$told, IPC::Run::timeout($limit));
	while ($publishers->pumpable)
	{
		$publishers->pump;
		psql_turn('SELECT WHERE false');
	}
	ok($publishers->finish, 'all is published') or diag($told);
	my $published = read_published();
	my $sent = $published->{sent};
	my %expected;
	$expected{ (split /\t/)[0] } += $sent->{$_} for keys %$sent;
	is(sum0(values %expected), $messages, "$messages messages");

	# psql tells the others how many there were, and hears it itself, as anybody's.
	my $counts = $node->safe_psql('postgres', 'SELECT jsonb_object_agg(convert_from(decode(c, $$base64$$), $$UTF8$$), n) FROM (VALUES '
		  . join(', ', map { "('$_', $expected{$_})" } sort keys %expected) . ') AS e (c, n)');
	psql_turn("SELECT WHERE herald.notify('$end', " . literal($counts) . ') IS NULL');
	for my $client (sort keys %running)
	{
		my ($run, $errors) = @{ $running{$client} };
		ok($run->finish, "$client hears all of it") or diag($$errors);
	}
	my $began = time;
	1 until psql_turn('SELECT WHERE false') =~ /notification "$end"/ || time - $began > $HeraldTest::patience;
	psql_heard("$directory/psql");
	$psql_in .= "\\q\n";
	ok($psql->finish, 'psql ends');

	my $first = read_heard('psql');
	judge('psql', $published, $first);
	for my $client ('psycopg', 'asyncpg', @of_node)
	{
	  SKIP:
		{
			skip "$client: $node_missing", 9 if !exists $programs{$client};
			my $heard = read_heard($client);
			judge($client, $published, $heard);
			my ($differs) = grep { ($first->{heard}[$_] // '') ne ($heard->{heard}[$_] // '') } 0 .. $messages;
			is($differs, undef, "$client hears the same sequence as psql");
		}
	}
	return $published;
}

my $published = hear_all(10_000, '--sessions', 16, '--messages', 625);
cmp_ok(10_000 - keys %{ $published->{sent} }, '>', 500, 'some were sent by many sessions');
cmp_ok(scalar(keys %{ $published->{unheard} }), '>', 1000, 'others were rolled back or refused');
clean_log($node);

done_testing();
