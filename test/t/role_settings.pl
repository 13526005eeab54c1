# ALTER ROLE ... SET and ALTER DATABASE ... SET reach the workers that live, also busy ones, and nothing is lost or done twice.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('settings', conf => "herald.max_workers = 2\n");
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE public.seen (value text, pid int DEFAULT pg_backend_pid()); GRANT ALL ON public.seen TO PUBLIC; GRANT CREATE, USAGE ON SCHEMA app TO PUBLIC;
CREATE FUNCTION app.tell(task herald.task) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    IF task.payload ? 'gate' THEN PERFORM pg_advisory_xact_lock_shared(7); END IF;
    INSERT INTO public.seen VALUES (current_setting('work_mem')); END $$;
CREATE ROLE other LOGIN;
SELECT herald.subscribe('tell', 'tell', 'app.tell', run_as => 'app', max_concurrency => 1);
SELECT herald.subscribe('others', 'others', 'app.tell', run_as => 'other', max_concurrency => 1);
SQL
sub seen
{
	my ($channel) = @_;
	$node->safe_psql('postgres', 'TRUNCATE public.seen');
	publish_many($node, $channel, 1);
	wait_idle($node, $channel eq 'tell' ? 'tell' : 'others');
	return $node->safe_psql('postgres', 'SELECT value FROM public.seen');
}
sub worker_of { my ($role) = @_; return $node->safe_psql('postgres', "SELECT pid FROM herald.workers WHERE kind = 'worker' AND role = '$role'"); }

is(seen('tell'), '4MB', 'as it begins');
is(seen('others'), '4MB', 'for both');
my ($app, $other) = (worker_of('app'), worker_of('other'));
$node->safe_psql('postgres', q(ALTER ROLE app SET work_mem = '5MB'));
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $app", 'its worker ends');
is(seen('tell'), '5MB', 'the next one has the setting');
is(worker_of('other'), $other, 'those of other roles stay');
$node->safe_psql('postgres', q(ALTER ROLE app IN DATABASE postgres SET work_mem = '6MB'));
wait_until($node, q(SELECT count(*) = 0 FROM herald.workers WHERE kind = 'worker' AND role = 'app'), 'for a database alone');
is(seen('tell'), '6MB', 'as well');
$node->safe_psql('postgres', q(ALTER ROLE app RESET ALL; ALTER ROLE app IN DATABASE postgres RESET ALL; ALTER DATABASE postgres SET work_mem = '7MB'));
wait_until($node, q(SELECT count(*) = 0 FROM herald.workers WHERE kind = 'worker'), 'of a database: all of its workers');
is(seen('tell'), '7MB', 'one role');
is(seen('others'), '7MB', 'and the other');

# What is rolled back, or refused, changes nothing.
$app = worker_of('app');
$node->safe_psql('postgres', q(BEGIN; ALTER ROLE app SET work_mem = '8MB'; ROLLBACK; BEGIN; SAVEPOINT s; ALTER ROLE app SET work_mem = '8MB'; ROLLBACK TO s; COMMIT));
is(sqlstate_of($node, q(ALTER ROLE app SET work_mem = '8MB'), role => 'other'), '42501', 'of a stranger');
is(seen('tell'), '7MB', 'nothing has changed');
is(worker_of('app'), $app, 'the same worker');

# A worker that is busy all the time: after the tasks that it has.
my $gate = close_gate($node, 7);
$node->safe_psql('postgres', 'TRUNCATE public.seen');
my @ids = publish_many($node, 'tell', 200);
$node->safe_psql('postgres', q(SELECT herald.publish('tell', '{"gate": 7}')));
wait_until($node, q(SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted), 'it is busy');
$node->safe_psql('postgres', q(ALTER ROLE app SET work_mem = '9MB'));
publish_many($node, 'tell', 200);
$gate->quit;
ok(wait_idle($node, 'tell'), 'all are done');
is($node->safe_psql('postgres', 'SELECT count(*) FROM public.seen'), '401', 'each once');
is($node->safe_psql('postgres', q(SELECT value FROM public.seen ORDER BY ctid DESC LIMIT 1)), '9MB', 'the last ones with the setting');
clean_log($node);
done_testing();
