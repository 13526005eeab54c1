# A standby: nothing runs there, publishing is a clear error, and after promotion it goes on where the primary
# was.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $primary = start_herald('primary', init => { allows_streaming => 1 }, conf => "max_connections = 30\n");
$primary->safe_psql('postgres', q(
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', retry_delay => '10 ms');
	SELECT herald.subscribe('later', 'jobs', 'app.work', run_as => 'app')));
$primary->backup('base');
my $standby = HeraldNode->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my @ids = publish_many($primary, 'jobs', 50);
wait_for_effects($primary, 'work', 50);
is($primary->safe_psql('postgres', "SELECT herald.pause('later', '20 s')"), 't', 'one of two is paused');
push @ids, publish_many($primary, 'jobs', 20, payload => '{"failures": 1}');
wait_for_effects($primary, 'work', 70);
wait_idle($primary, 'work');
my ($dead) = $primary->safe_psql('postgres', q(SELECT herald.subscribe('dying', 'dying', 'app.work', run_as => 'app', max_attempts => 1);
	SELECT herald.publish('dying', '{"failures": 1}')));
wait_until($primary, 'SELECT count(*) = 1 FROM herald.dead_letters', 'a dead letter');
$primary->wait_for_catchup($standby);

# On the standby.
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_herald%'"), '0', 'no process on the standby');
sqlstate_is($standby, "SELECT herald.publish('jobs', '{}')", '25006', 'publish is refused on a standby');
my ($out, $err) = ('', '');
$standby->psql('postgres', "SELECT herald.publish('jobs', '{}')", stderr => \$err);
like($err, qr/cannot execute herald\.publish\(\) during recovery/, 'with a clear message');
sqlstate_is($standby, $_, '25006', "$_ is refused")
  for "SELECT herald.notify('jobs', 'x')", "SELECT herald.publish('ephemeral', '{}')", "SELECT herald.publish_batch('jobs', '{\"{}\"}')",
  "SELECT herald.pause('work')", "SELECT herald.subscribe('new', 'jobs', 'app.work', run_as => 'app')", "SELECT herald.create_channel('new')", "SELECT herald.replay(1)";
is($standby->safe_psql('postgres', "SELECT ok FROM herald.status() WHERE name = 'recovery'"), 'f', 'status says that it is a standby');
is($standby->safe_psql('postgres', "SELECT count(*) FROM herald.$_"), $primary->safe_psql('postgres', "SELECT count(*) FROM herald.$_"), "herald.$_ can be read")
  for qw(subscriptions tasks dead_letters failure_log channels);
$standby->safe_psql('postgres', 'SELECT * FROM herald.workers; SELECT * FROM herald.subscription_stats; SELECT * FROM herald.channel_stats');
is($standby->safe_psql('postgres', "SELECT herald.fetch($ids[0])"), '{}', 'herald.fetch reads');

# Promotion, without the primary.
$primary->stop('immediate');
$standby->promote;
wait_until($standby, "SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type IN ('pg_herald launcher', 'pg_herald dispatcher', 'pg_herald announcer')",
	'the processes start without a restart');
my @new = publish_many($standby, 'jobs', 30);
wait_for_effects($standby, 'work', 100, name => 'tasks run after promotion');
$standby->safe_psql('postgres', "SELECT herald.resume('later')");
wait_for_effects($standby, 'later', 100, name => 'those that waited, too');
wait_idle($standby, $_) for qw(work later);
cmp_ok($new[0], '>', $ids[-1], 'ids go on above');
handled_once($standby, $_, [ @ids, @new ]) for qw(work later);
is($standby->safe_psql('postgres', 'SELECT count(*) FROM herald.dead_letters'), '1', 'dead letters are kept');
clean_log($_) for $primary, $standby;
is(scalar(log_lines($standby, qr/(ERROR|FATAL):.*(worker|dispatcher|launcher|announcer)/)), 0, 'no process failed on the way');

done_testing();
