# Drawing an id of ours leaves the session's last value alone: lastval() after an INSERT is the id of the row,
# for ordinary roles as for superusers, whatever the triggers on the table record or publish. And what draws
# ids instead of nextval() keeps its promises: no id twice, neither among sessions nor after a crash.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('last_value');
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE shop LOGIN;
SELECT herald.create_channel('jobs');
SELECT herald.create_channel('small', durable => false);
SELECT herald.grant_channel(c, 'shop') FROM unnest('{jobs,small}'::text[]) AS c;
CREATE TABLE public.plain (id serial PRIMARY KEY, v text);
CREATE TABLE public.audited (LIKE public.plain INCLUDING INDEXES);
CREATE TABLE public.fed (LIKE public.plain INCLUDING INDEXES);
CREATE TABLE public.publishing (LIKE public.plain INCLUDING INDEXES);
CREATE TABLE public.large (LIKE public.plain INCLUDING INDEXES);
CREATE SEQUENCE public.audited_id_seq START 101;
CREATE SEQUENCE public.fed_id_seq START 201;
CREATE SEQUENCE public.publishing_id_seq START 301;
CREATE SEQUENCE public.large_id_seq START 401;
ALTER TABLE public.audited ALTER id SET DEFAULT nextval('public.audited_id_seq');
ALTER TABLE public.fed ALTER id SET DEFAULT nextval('public.fed_id_seq');
ALTER TABLE public.publishing ALTER id SET DEFAULT nextval('public.publishing_id_seq');
ALTER TABLE public.large ALTER id SET DEFAULT nextval('public.large_id_seq');
SELECT herald.enable_audit('public.audited');
SELECT herald.enable_change_feed('public.fed', 'jobs');
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM herald.publish('jobs', '{}'), herald.publish_batch('jobs', '{1,2,3}'::jsonb[]);
    RETURN NULL;
END $$;
CREATE FUNCTION public.tell_much() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM herald.publish('small', to_jsonb(repeat('x', 20000)));
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON public.publishing FOR EACH ROW EXECUTE FUNCTION public.tell();
CREATE TRIGGER tell AFTER INSERT ON public.large FOR EACH ROW EXECUTE FUNCTION public.tell_much();
GRANT ALL ON ALL TABLES IN SCHEMA public TO shop;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO shop;
SQL

# Each entry of a session: the first, which takes a block of ids, and those in which a block ends.
my %first = (plain => 1, audited => 101, fed => 201, publishing => 301, large => 401);
for my $role ('shop', 'postgres')
{
	for my $table (sort keys %first)
	{
		my $at = $first{$table};
		my $got = $node->safe_psql('postgres', <<"SQL", extra_params => [ '-U', $role ]);
INSERT INTO $table (v) VALUES ('a');
SELECT lastval();
INSERT INTO $table (v) VALUES ('b');
SELECT lastval();
SQL
		is($got, $at . "\n" . ($at + 1), "$role, $table: the row's id");
		$first{$table} += 2;
	}
	my $at = $first{audited};
	my $wrong = $node->safe_psql('postgres', <<'SQL', extra_params => [ '-U', $role ]);
CREATE TEMP TABLE wrong (id bigint, last bigint);
DO $$
DECLARE
    new_id bigint;
BEGIN
    FOR i IN 1 .. 2100 LOOP
        INSERT INTO public.audited (v) VALUES (i) RETURNING id INTO new_id;
        IF new_id <> lastval() THEN INSERT INTO wrong VALUES (new_id, lastval()); END IF;
    END LOOP;
END $$;
SELECT * FROM wrong;
SQL
	is($wrong, '', "$role: after each of 2,100 audited rows");
	$first{audited} += 2100;
}
is($node->safe_psql('postgres', <<'SQL'), '5', 'calls that declare something neither');
INSERT INTO public.plain (v) VALUES ('c');
SELECT FROM (SELECT herald.create_channel('another'), herald.subscribe('another', 'another', 'app.note', run_as => 'app'),
                    herald.enable_audit('public.plain'), herald.enable_change_feed('public.plain', 'another')) AS x;
SELECT lastval();
SQL

# Drawn by hand, or raised as a restore does, which never sets one back.
my $at = $node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}')));
is($node->safe_psql('postgres', q(SELECT herald_internal.next_id('message'))), $at + 1, 'an id by hand');
is($node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}'))), $at + 2, 'and the extension goes on from there');
$node->safe_psql('postgres', q(INSERT INTO herald_internal.id_store VALUES (2000000, 'message'), (5, 'audit')));
is($node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}'))), '2000001', 'raised');
$node->safe_psql('postgres', q(INSERT INTO herald_internal.id_store VALUES (1000, 'message')));
cmp_ok($node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}'))), '>', 2000001, 'and not set back');
is($node->safe_psql('postgres', q(SELECT count(*), count(DISTINCT counter) FROM herald_internal.id_store)), '9|9', 'one row for each');
sqlstate_is($node, q(SELECT herald_internal.next_id('message')), '42501', 'ids are not for everybody', role => 'shop');
sqlstate_is($node, q(SELECT herald_internal.next_id('nothing')), '22023', 'nor of everything');
sqlstate_is($node, q(INSERT INTO herald_internal.id_store VALUES (9223372036854775807, 'message')), '22003', 'no id is that high');
sqlstate_is($node, q(INSERT INTO herald_internal.id_store VALUES (1, 'nothing')), '22023', 'a counter that is none');
sqlstate_is($node, q(INSERT INTO herald_internal.id_store VALUES (1, NULL)), '23502', 'and none at all');

# What an administrator does with the table: ids go on above all that were drawn.
for my $change ('BEGIN; UPDATE herald_internal.id_store SET used = used + 100; ROLLBACK', 'UPDATE herald_internal.id_store SET used = used - 1000', 'VACUUM FULL herald_internal.id_store',
	'BEGIN; SELECT used FROM herald_internal.id_store FOR UPDATE; COMMIT', 'VACUUM FREEZE herald_internal.id_store', 'UPDATE herald_internal.id_store SET counter = counter',
	'ALTER TABLE herald_internal.id_store ADD COLUMN more text; ALTER TABLE herald_internal.id_store DROP COLUMN more; UPDATE herald_internal.id_store SET counter = counter; VACUUM FULL herald_internal.id_store')
{
	my $before = $node->safe_psql('postgres', q(SELECT herald_internal.next_id('message')));
	$node->safe_psql('postgres', $_) for split /; (?!ROLLBACK|COMMIT|SELECT|UPDATE herald_internal.id_store SET used)/, $change;
	my $after = $node->safe_psql('postgres', q(SELECT herald_internal.next_id('message') FROM generate_series(1, 70) OFFSET 69));
	cmp_ok($after, '>=', $before + 70, "after $change");
	$node->safe_psql('postgres', 'VACUUM herald_internal.id_store');
	cmp_ok($node->safe_psql('postgres', q(SELECT herald_internal.next_id('message') FROM generate_series(1, 70) OFFSET 69)), '>=', $after + 70, 'also when what is dead was removed');
}
sqlstate_is($node, q(BEGIN; DELETE FROM herald_internal.id_store; TRUNCATE herald_internal.id_store;
	SELECT herald.publish_batch('jobs', array_fill('1'::jsonb, '{100}'))), '55000', 'without its row');
sqlstate_is($node, q(BEGIN; INSERT INTO herald_internal.id_store VALUES (9223372036854775806, 'failure');
	SELECT herald_internal.next_id('failure')), '2200H', 'no more ids');
$node->safe_psql('postgres', q(INSERT INTO herald_internal.id_store VALUES (3000000, 'message')));

# Sessions side by side, a checkpoint, and a crash, again and again: what was acknowledged has an id of its own.
my $published = 0;
for my $round (1 .. 6)
{
	my @sessions = map { $node->background_psql('postgres') } 1 .. 4;
	for my $turn (1 .. 3)
	{
		# With few ids at once, so that the record in WAL covers some of them and not the others.
		for my $session (@sessions)
		{
			my $one = $round % 2 ? 1 : 11;
			$session->query_safe("SELECT count(herald.publish('jobs', '{}')) FROM generate_series(1, $one)");
			$session->query_safe(q(SELECT count(*) FROM herald.publish_batch('jobs', array_fill('1'::jsonb, '{300}')))) if $turn == 2 && $round > 3;
			$session->query_safe(q(INSERT INTO public.audited (v) VALUES ('x')));
			$published += $one + ($turn == 2 && $round > 3 ? 300 : 0);
		}
		$node->safe_psql('postgres', 'CHECKPOINT') if $turn == $round % 3;
	}
	$node->stop('immediate');
	eval { $_->quit } for @sessions;
	start_again($node) or BAIL_OUT('the server does not start');
}
is($node->safe_psql('postgres', 'SELECT count(*) FILTER (WHERE id > 3000000) FROM stored'), $published, "$published messages after crashes");
is($node->safe_psql('postgres', 'SELECT id FROM stored GROUP BY id HAVING count(*) > 1'), '', 'no id of a message twice');
is($node->safe_psql('postgres', 'SELECT id FROM herald.audit_log GROUP BY id HAVING count(*) > 1'), '', 'no id of an audit entry twice');
is($node->safe_psql('postgres', 'SELECT count(*) FROM herald.audit_log WHERE transaction_id IS NULL'), '0', 'each entry has its context');
cmp_ok($node->safe_psql('postgres', 'SELECT max(id) FROM stored'), '<=', $node->safe_psql('postgres', q(SELECT used FROM herald_internal.id_store WHERE counter = 'message')),
	'the counter is not behind');
clean_log($node);
done_testing();
