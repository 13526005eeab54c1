# A message that does not fit a new schema is handled while the others are checked.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('misfit', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off');
SELECT herald.subscribe('lazy', 'jobs', 'app.note', run_as => 'app');
SELECT herald.pause('lazy');
SQL
my ($id) = publish_many($node, 'jobs', 1, payload => '1');
wait_until($node, q(SELECT count(*) = 1 FROM herald_internal.parked_store), 'the misfit is parked');
wait_until($node, q(SELECT count(*) = 0 FROM stored), 'and no more in the log');
$node->safe_psql('postgres', q(SELECT herald.publish('jobs', to_jsonb(repeat('ab', 50000))) FROM generate_series(1, 3000)));
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_until(qr/begun/, "\\echo begun\nSELECT herald.alter_channel('jobs', schema => '{\"type\": \"string\", \"pattern\": \"^(ab)*\$\"}');\n");
wait_until($node, q(SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%alter_channel%' AND state = 'active' AND pid <> pg_backend_pid()), 'it checks');

$node->safe_psql('postgres', "DELETE FROM herald_internal.parked_store WHERE message_id = $id");  # as a worker does at the end of the task
wait_until($node, q(SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE '%alter_channel%' AND state = 'active' AND pid <> pg_backend_pid()), 'it has checked');
eval { $session->quit };
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server lives');
my @crashes = grep { /terminated by signal/ } log_lines($node);
is("@crashes", '', 'no crash');
done_testing();
