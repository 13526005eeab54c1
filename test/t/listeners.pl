# herald.listeners shows who LISTENs to what, as core has it: many sessions, rolled-back commands, sessions that
# end in any way, names with odd characters, and a table that one role can't fill for others.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('listeners');
$node->safe_psql('postgres', q(
	CREATE ROLE guest LOGIN;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	CREATE DATABASE other));

sub session
{
	my ($database, $role) = @_;
	return $node->background_psql($database // 'postgres',
		on_error_stop => 0, extra_params => defined $role ? [ '-U', $role ] : []);
}

sub shown { return $node->safe_psql('postgres', 'SELECT count(*) FROM herald.listeners') }

# The session's own channels, as core has them and as we show them.
my $own = q(SELECT string_agg(quote_ident(channel), ' ' ORDER BY channel COLLATE "C") FROM );
my $core = "$own pg_listening_channels() AS c (channel);";
my $ours = "$own herald.listeners WHERE pid = pg_backend_pid();";

sub agrees
{
	my ($session, $commands, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	# One by one: several commands in one message would be one transaction.
	$session->query($_) for map { "$_;" } split /;\s*/, $commands;
	$session->{stderr} = '';
	is($session->query($core), $expected, "$name: core") and is($session->query($ours), $expected, $name);
	return;
}

# What changes the set, and when.
my $session = session();
my $pid = $session->query('SELECT pg_backend_pid();');
my $long = 'n' x 70;
agrees($session, 'LISTEN a; LISTEN a; LISTEN b', 'a b', 'LISTEN, twice the same');
agrees($session, 'BEGIN; LISTEN c; UNLISTEN a; ROLLBACK', 'a b', 'ROLLBACK');
agrees($session, 'BEGIN; LISTEN c; SELECT 1/0; COMMIT', 'a b', 'an error');
agrees($session, 'BEGIN; LISTEN c; SAVEPOINT s; LISTEN d; UNLISTEN a; ROLLBACK TO s; LISTEN e; COMMIT', 'a b c e', 'ROLLBACK TO');
agrees($session, 'BEGIN; SAVEPOINT s; LISTEN f; SAVEPOINT t; UNLISTEN e; RELEASE t; RELEASE s; COMMIT', 'a b c f', 'RELEASE');
agrees($session, 'BEGIN; SAVEPOINT s; SAVEPOINT t; LISTEN g; RELEASE t; ROLLBACK TO s; COMMIT', 'a b c f', 'released, then rolled back');
agrees($session, 'BEGIN; LISTEN g; UNLISTEN g; UNLISTEN a; LISTEN a; COMMIT', 'a b c f', 'to and fro');
agrees($session, 'UNLISTEN nothing; UNLISTEN c', 'a b f', 'UNLISTEN');
agrees($session, 'BEGIN; UNLISTEN *; LISTEN h; COMMIT', 'h', 'UNLISTEN *, then LISTEN');
agrees($session, 'BEGIN; LISTEN i; UNLISTEN *; ROLLBACK', 'h', 'UNLISTEN * rolled back');
agrees($session, q(LISTEN "Odd ""name"" äöü"), '"Odd ""name"" äöü" h', 'an odd name');
agrees($session, 'UNLISTEN *', '', 'UNLISTEN *');
agrees($session, "LISTEN $long", substr($long, 0, 63), 'a name that core cuts');
agrees($session, "UNLISTEN $long", '', 'and cuts again');
agrees($session, 'LISTEN 1', '', 'a syntax error');
agrees($session, "BEGIN; LISTEN a; PREPARE TRANSACTION 'p'; ROLLBACK", '', 'a prepared transaction is refused');
agrees($session, "BEGIN; UNLISTEN a; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'", '', 'UNLISTEN of nothing may be prepared');
agrees($session, 'LISTEN a; DISCARD PLANS', 'a', 'DISCARD PLANS');
agrees($session, 'DISCARD ALL', '', 'DISCARD ALL');
$session->query(<<'SQL');
DO $$
BEGIN
    EXECUTE 'LISTEN kept';
    BEGIN
        EXECUTE 'LISTEN dropped';
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        EXECUTE 'LISTEN handled';
    END;
END $$;
SQL
agrees($session, 'SELECT 1', 'handled kept', 'PL/pgSQL');
$session->query(q(PREPARE pool AS SELECT 1;));
$session->query(q(SET application_name = 'the pool';));
is($node->safe_psql('other', 'SELECT 1'), '1', 'the extension is not needed where one listens');
is($node->safe_psql('postgres', "SELECT database, role, application_name, client_address IS NULL, channel, since <= now() FROM herald.listeners WHERE pid = $pid ORDER BY channel LIMIT 1"),
	$node->safe_psql('postgres', q(SELECT concat_ws('|', 'postgres', CURRENT_USER, 'the pool', 't', 'handled', 't'))), 'what is shown of a session');
$session->quit;
wait_until($node, 'SELECT count(*) = 0 FROM herald.listeners', 'a session that ends is gone');

# Many sessions of several roles and databases.
my @sessions = map { session($_ % 2 ? 'postgres' : 'other', $_ % 3 ? 'app' : 'guest') } 1 .. 24;
$_->query('LISTEN orders;') for @sessions;
$_->query('LISTEN "of some";') for @sessions[ 0 .. 5 ];
is(shown(), 30, 'many sessions');
is($node->safe_psql('postgres', q(SELECT database, role, count(*) FROM herald.listeners WHERE channel = 'orders' GROUP BY 1, 2 ORDER BY 1, 2)),
	"other|app|8\nother|guest|4\npostgres|app|8\npostgres|guest|4", 'their databases and roles');

# Who sees whom.
for my $case ([ 'app', 'app' ], [ 'guest', 'guest' ], [ 'monitor', 'app guest' ])
{
	my ($role, $seen) = @$case;
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT role, ' ' ORDER BY role) FROM herald.listeners", extra_params => [ '-U', $role ]),
		$seen, "what $role sees");
}
$node->safe_psql('postgres', 'GRANT app TO guest');
is($node->safe_psql('postgres', q(SELECT count(DISTINCT role) FROM herald.listeners), extra_params => [ '-U', 'guest' ]), '2', 'a member sees those of the role');

# Statistics count those of this database; what nobody hears is a check.
$node->safe_psql('postgres', $_) for map { "SELECT herald.notify('$_', 'text')" } 'orders', 'of some', 'ordres';
is($node->safe_psql('postgres', q(SELECT channel, listeners FROM herald.channel_stats ORDER BY channel)), "of some|3\norders|12\nordres|0", 'listeners in the statistics');
my $unheard = q(SELECT ok, value, hint IS NULL FROM herald.status() WHERE name = 'unheard_channels');
is($node->safe_psql('postgres', $unheard), 'f|"ordres"|f', 'a channel that nobody hears');
$node->safe_psql('postgres', q(SELECT herald.create_channel('ordres', accept_notify => true)));
is($node->safe_psql('postgres', $unheard), 't|none|t', 'not where it is declared');
$node->safe_psql('postgres', q(SELECT herald.subscribe('heard', 'ordres', 'app.note', run_as => 'app')));
# It does so some time after the channel was declared.
wait_until($node, "SELECT EXISTS (SELECT FROM app.effects WHERE subscription = 'heard') FROM (SELECT pg_notify('ordres', 'one') OFFSET 0) AS n", 'the announcer listens');
is(shown(), 30, 'and is not shown');

# Ends of sessions.
$sessions[0]->query('BEGIN;');
$sessions[0]->query('LISTEN late;');
$sessions[1]->query('UNLISTEN *;');
my ($terminated, $client) = map { $sessions[$_]->query('SELECT pg_backend_pid();') } 0, 2;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($terminated)");
$sessions[2]->{run}->kill_kill;
$sessions[3]->quit;
wait_until($node, 'SELECT count(*) = 22 FROM herald.listeners', 'terminated, killed and ended sessions are gone');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald.listeners AS l WHERE NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.pid = l.pid)"), '0', 'all that are shown exist');
$_->quit for @sessions[ 4 .. 23 ];
wait_until($node, 'SELECT count(*) = 0 FROM herald.listeners', 'nobody is left');

# Names of databases with other encodings are text in this one.
my %encoded = (LATIN1 => [ 'café', q(LISTEN U&"caf\00e9") ], EUC_JP => [ '日本', q(LISTEN U&"\65e5\672c") ],
	SQL_ASCII => [ '\xe9t', q(DO $$ BEGIN EXECUTE format('LISTEN %I', convert_from('\xe974', 'SQL_ASCII')); END $$) ],
	UTF8 => [ 'ĳs', q(LISTEN U&"\0133s") ]);
my @encoded;
for my $encoding (sort keys %encoded)
{
	$node->safe_psql('postgres', qq(CREATE DATABASE in_\L$encoding\E TEMPLATE template0 ENCODING '$encoding' LOCALE 'C')) if $encoding ne 'UTF8';
	push @encoded, session($encoding eq 'UTF8' ? 'postgres' : "in_\L$encoding", 'postgres');
	$encoded[-1]->query("$encoded{$encoding}[1];");
}
is($node->safe_psql('postgres', q(SELECT channel FROM herald.listeners ORDER BY database)), join("\n", map { $encoded{$_}[0] } qw(EUC_JP LATIN1 SQL_ASCII UTF8)),
	'channels of databases with other encodings');
$node->safe_psql('in_latin1', 'CREATE EXTENSION pg_herald');
is($node->safe_psql('in_latin1', q(SELECT convert_to(string_agg(channel, ' ' ORDER BY database), 'UTF8') FROM herald.listeners)),
	'\x' . unpack('H*', '\xc6\xfc\xcb\xdc café ét \xc4\xb3s'), 'and what can not be converted');
$_->quit for @encoded;
wait_until($node, 'SELECT count(*) = 0 FROM herald.listeners', 'they are gone');

# A role that listens to very many channels leaves room for others.
my $greedy = session('postgres', 'app');
$greedy->query(q(DO $$ BEGIN FOR i IN 1 .. 5000 LOOP EXECUTE 'LISTEN c' || i; END LOOP; END $$;));
is(shown(), 4096, 'one role gets half of the table');
is($node->safe_psql('postgres', q(SELECT ok, value FROM herald.status() WHERE name = 'listeners')), 'f|4096 of 8192 places in use, 904 more not recorded', 'status says what is missing');
is($node->safe_psql('postgres', q(SELECT ok, value FROM herald.status() WHERE name = 'unheard_channels')), 't|unknown', 'and that nothing is sure');
my $modest = session('postgres', 'guest');
$modest->query(q(DO $$ BEGIN FOR i IN 1 .. 100 LOOP EXECUTE 'LISTEN c' || i; END LOOP; END $$;));
is(shown(), 4196, 'others find room');
$greedy->query('UNLISTEN *;');
is(shown(), 100, 'all of it is given back');
is($node->safe_psql('postgres', q(SELECT ok, value FROM herald.status() WHERE name = 'listeners')), 't|100 of 8192 places in use, 0 more not recorded', 'and status is content');
$greedy->query('LISTEN again;');
is(shown(), 101, 'and can be taken again');

# A process that was killed outright restarts the server: nobody listens any more.
$greedy->query('BEGIN;');
$greedy->query('LISTEN never;');
my $killed = $greedy->query('SELECT pg_backend_pid();');
signal_process('KILL', $killed);
wait_until($node, "SELECT count(*) = 0 FROM herald.listeners", 'a crash leaves no listeners');
$_->ended for $greedy, $modest;
$node->safe_psql('postgres', 'LISTEN afterwards');
wait_until($node, "SELECT count(*) = 0 FROM herald.listeners", 'and none of those who came since');
clean_log($node, signals => '9');

done_testing();
