# A message from a publisher whose clock was ahead doesn't keep its segment from being left.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('clock', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\nherald.segment_size = 0\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'off');
SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app');
SQL
# The first one of a segment, whichever is written to.
$node->safe_psql('postgres', <<"SQL") for 0 .. 2;
COPY herald_internal.log_$_ (id, published_at, channel_id, payload) FROM PROGRAM \$\$echo "100000$_	2120-01-01 00:00:00+00	1	{}"\$\$;
SQL
wait_for_effects($node, 'work', 3);
my ($id) = publish_many($node, 'jobs', 1);
wait_for_effects($node, 'work', 4);
wait_until($node, 'SELECT count(*) = 0 FROM stored', 'all segments are left and emptied', seconds => 60);
clean_log($node);

done_testing();
