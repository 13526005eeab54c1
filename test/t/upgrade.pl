# pg_upgrade, which copies a cluster's files and gives it another identity: messages, ids, trails and feeds are there, their
# subscriptions wait until they are told that this is not a copy, the log and status() say so, and then all goes on.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $old = start_herald('old');
$old->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off', accept_notify => true), herald.create_channel('changes', announce => 'off');
SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app');
CREATE TABLE public.orders (id int PRIMARY KEY, state text);
SELECT herald.enable_audit('public.orders'), herald.enable_change_feed('public.orders', 'changes');
INSERT INTO public.orders VALUES (1, 'new');
SQL
my @done = publish_many($old, 'jobs', 20);
wait_for_effects($old, 'work', 20);
wait_idle($old, 'work');
$old->safe_psql('postgres', q(SELECT herald.pause('work')));
my @waiting = publish_many($old, 'jobs', 30);
reload_with($old, 'herald.enabled' => 'off');
$old->safe_psql('postgres', q(SELECT herald.resume('work')));
$old->stop;

my $new = start_node('new');
$new->stop;
my ($from, $to, $bin) = ($old->data_dir, $new->data_dir, $ENV{PG_BINDIR} // `pg_config --bindir`);
chomp $bin;
my $place = PostgreSQL::Test::Utils::tempdir();
chdir $place or die "chdir: $!\n";
$new->command_ok([ 'pg_upgrade', '--no-sync', '-d', $from, '-D', $to, '-b', $bin, '-B', $bin, '-s', $new->host, '-p', $old->port, '-P', $new->port, '-U', 'postgres' ], 'pg_upgrade');
chdir "$FindBin::RealBin/../.." or die "chdir: $!\n";
$new->start;

wait_for('the log tells of it', sub { log_lines($new, qr/WARNING:  subscriptions of database "postgres" are inert/) == 1 });
is($new->safe_psql('postgres', q(SELECT ok, hint LIKE '%herald.activate()%' FROM herald.status() WHERE name = 'inert_subscriptions')), 'f|t', 'status(), too, with the call that helps');
is($new->safe_psql('postgres', q(SELECT state FROM herald.subscriptions)), 'inert', 'nothing runs by itself');
my @more = publish_many($new, 'jobs', 5);
cmp_ok($more[0], '>', $waiting[-1], 'ids go on');
$new->safe_psql('postgres', q(UPDATE public.orders SET state = 'paid'));
is($new->safe_psql('postgres', q(SELECT count(*), count(DISTINCT id) FROM herald.audit_log WHERE table_name = 'orders' AND operation IN ('insert', 'update'))), '2|2', 'the trail goes on');
is($new->safe_psql('postgres', q(SELECT count(*) FROM stored WHERE channel_id = (SELECT id FROM herald_internal.channel_store WHERE channel = 'changes'))), '2', 'the feed goes on');
is($new->safe_psql('postgres', q(SELECT count(*) FROM app.effects)), '20', 'what was done is done');
$new->safe_psql('postgres', 'SELECT herald.activate()');
wait_for_effects($new, 'work', 55, name => 'activated: what waited is handled');
ok(wait_idle($new, 'work'), 'and nothing else');
handled_once($new, 'work', [ @done, @waiting, @more ]);
is($new->safe_psql('postgres', q(SELECT count(*) FROM herald.status() WHERE NOT ok AND name NOT IN ('unheard_channels'))), '0', 'all is well');
clean_log($_) for $old, $new;
done_testing();
