# The outbox when it is full: a role that floods it leaves room for others, and the order in which a session
# published stays, though some of it goes by NOTIFYs of its own. The announcer is stopped meanwhile, so that
# nothing leaves the outbox.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('outbox_share', conf => "herald.outbox_size = 64kB\n");
$node->safe_psql('postgres', 'CREATE ROLE flood LOGIN; CREATE ROLE other LOGIN');
my $listener = $node->background_psql('postgres');
$listener->set_query_timer_restart;
$listener->query_safe('LISTEN flooded; LISTEN calm');
my $announcer = pid_of($node, 'announcer');

sub outbox
{
	my $value = $node->safe_psql('postgres', q(SELECT value FROM herald.status() WHERE name = 'outbox'));
	$value =~ /^(\d+) % in use, no room (\d+) times$/ or die "unexpected: $value";
	return ($1, $2);
}

# What the listener hears, up to $count messages, as channel:payload.
my @unread;
sub hear
{
	my ($count) = @_;
	wait_for("$count messages are heard", sub {
		push @unread, map { /^Asynchronous notification "([^"]+)" with payload "(.*)" received from/ ? "$1:$2" : () }
		  split /\n/, $listener->query("SELECT 'heard'");
		return @unread >= $count;
	});
	return splice @unread, 0;
}

# Each of these is a transaction of one session: the commits alone decide.
sub publish
{
	my ($role, @sql) = @_;
	my $session = $node->background_psql('postgres');
	$session->query_safe("SET SESSION AUTHORIZATION $role");
	$session->query_safe(join "\n", map { "$_;" } @sql);
	$session->quit;
	return;
}

my $count = 800;
stop_idle($node, $announcer);
publish('flood', map { "SELECT herald.notify('flooded', '$_')" } 1 .. $count);
my ($usage, $refused) = outbox();
cmp_ok($refused, '>', 0, 'one role alone finds no more room');
cmp_ok($usage, '<', 76, 'while there is some left');
publish('other', map { "SELECT herald.notify('calm', '$_')" } 1 .. 20);
is((outbox())[1], $refused, 'which is there for the others');
signal_process('CONT', $announcer);
my @heard = hear($count + 20);
is(join(',', map { /^flooded:(.*)/ ? $1 : () } @heard), join(',', 1 .. $count), 'the order of the one who floods is kept');
is(join(',', map { /^calm:(.*)/ ? $1 : () } @heard), join(',', 1 .. 20), 'and that of the other');
wait_for('the outbox is empty again', sub { (outbox())[0] == 0 });
publish('flood', map { "SELECT herald.notify('flooded', '$_')" } 1 .. 100);
is((outbox())[1], $refused, 'and takes announcements again');
hear(100);

# Equal messages of several transactions must not fold into one NOTIFY when they are sent together.
$announcer = pid_of($node, 'announcer');
stop_idle($node, $announcer);
publish('flood', map { "SELECT herald.notify('flooded', 'tick')" } 1 .. $count);
cmp_ok((outbox())[1], '>', $refused, 'the share is used up once more');
signal_process('CONT', $announcer);
@heard = hear($count);
is(scalar(grep { $_ eq 'flooded:tick' } @heard), $count, "$count equal messages are $count messages");

# A transaction that takes back what its session has in the queue, and then fails, puts it there again. What
# makes it fail after its last chance to do anything is a serialization failure at its commit.
wait_for('the outbox is empty', sub { (outbox())[0] == 0 });
$node->safe_psql('postgres', 'CREATE TABLE skew (n integer); INSERT INTO skew VALUES (1); GRANT ALL ON skew TO flood');
my $begin = 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM skew';
my ($session, $rival) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
$session->query_safe('SET SESSION AUTHORIZATION flood');
stop_idle($node, $announcer);
$session->query_safe("SELECT count(herald.notify('flooded', 'queued ' || i)) FROM generate_series(1, 100) AS i");
my $before = (outbox())[1];
$session->query_safe("$begin; INSERT INTO skew VALUES (2); SELECT count(herald.notify('flooded', 'lost ' || i)) FROM generate_series(1, 900) AS i");
$rival->query_safe("$begin; INSERT INTO skew VALUES (3); COMMIT");
$session->query('COMMIT');
is((outbox())[1], $before + 1, 'the transaction found no room');
$session->query("SELECT count(herald.notify('flooded', 'sent ' || i)) FROM generate_series(1, 900) AS i");
signal_process('CONT', $announcer);
@heard = hear(1000);
is(join(',', map { /^flooded:(.*)/ ? $1 : () } @heard),
	join(',', (map { "queued $_" } 1 .. 100), (map { "sent $_" } 1 .. 900)), 'it failed, and what was queued before it comes before what came after');
$session->quit;
$rival->quit;
$listener->quit;
clean_log($node);

done_testing();
