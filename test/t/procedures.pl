# Procedures that COMMIT and ROLLBACK, exception blocks and savepoints among publications: what committed
# arrives, nothing else does. Whoever publishes notes it in a table in the same (sub)transaction, and that
# table is the oracle. And parallel workers, which must not publish.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldSessions;
use HeraldTest;
use Test::More;

my $node = start_herald('procedures', conf => "herald.sweep_interval = 1h\n");
$node->safe_psql('postgres', <<'SQL');
SELECT herald.create_channel('jobs', announce => 'payload');
SELECT herald.create_channel('prices', durable => false);
SELECT herald.subscribe('work', 'jobs', 'app.note', run_as => 'app');
CREATE SEQUENCE public.numbers;
CREATE TABLE public.published (n bigint NOT NULL);
CREATE FUNCTION public.one() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number bigint := nextval('public.numbers');
BEGIN
    INSERT INTO public.published VALUES (number);
    PERFORM herald.publish('jobs', jsonb_build_object('n', number));
    PERFORM herald.notify('prices', number::text);
END $$;

CREATE PROCEDURE public.commits_and_rolls_back(rounds integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. rounds LOOP
        FOR j IN 0 .. i % 4 LOOP
            PERFORM public.one();
        END LOOP;
        IF i % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
    END LOOP;
    PERFORM public.one();
END $$;

CREATE PROCEDURE public.with_exceptions(rounds integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. rounds LOOP
        PERFORM public.one();
        BEGIN
            PERFORM public.one();
            BEGIN
                PERFORM public.one();
                IF i % 2 = 0 THEN RAISE EXCEPTION 'inner'; END IF;
            EXCEPTION WHEN raise_exception THEN
                PERFORM public.one();
            END;
            IF i % 3 = 0 THEN PERFORM 1 / 0; END IF;
        EXCEPTION WHEN division_by_zero THEN
            PERFORM public.one();
        END;
        IF i % 5 = 0 THEN ROLLBACK; ELSIF i % 5 < 3 THEN COMMIT; END IF;
    END LOOP;
END $$;

-- Each row of an open cursor gets a transaction of its own.
CREATE PROCEDURE public.over_a_cursor(rows integer) LANGUAGE plpgsql AS $$
DECLARE
    i integer;
BEGIN
    FOR i IN SELECT * FROM generate_series(1, rows) LOOP
        PERFORM public.one();
        COMMIT AND CHAIN;
        PERFORM public.one();
        IF i % 2 = 0 THEN ROLLBACK AND CHAIN; END IF;
    END LOOP;
END $$;

CREATE PROCEDURE public.nested(depth integer) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.one();
    IF depth > 0 THEN CALL public.nested(depth - 1); END IF;
    IF depth % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
    PERFORM public.one();
END $$;

-- What had committed before the error stays.
CREATE PROCEDURE public.fails_in_the_end(rounds integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. rounds LOOP
        PERFORM public.one();
        COMMIT;
    END LOOP;
    PERFORM public.one();
    RAISE EXCEPTION 'in the end';
END $$;
SQL
my $listener = listen_to($node, 'jobs', 'prices');

my %arrived;

# All that committed is handled and heard, once each.
sub arrives
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $expected = $node->safe_psql('postgres', q(SELECT string_agg(n::text, ' ' ORDER BY n) FROM public.published));
	wait_until($node, q(SELECT count(*) >= (SELECT count(*) FROM public.published) FROM app.effects), "$name: handled");
	wait_idle($node, 'work');
	is($node->safe_psql('postgres', q(SELECT string_agg(payload ->> 'n', ' ' ORDER BY (payload -> 'n')::bigint) FROM app.effects)), $expected,
		"$name: what committed is handled, and nothing else");
	is($node->safe_psql('postgres', q(SELECT string_agg(payload ->> 'n', ' ' ORDER BY (payload -> 'n')::bigint) FROM stored)), $expected, "$name: and stored");
	my %heard = (jobs => [], prices => []);
	push @{ $heard{ $_->[0] } }, $_->[1] =~ /([0-9]+)/ for heard_by($node, $listener);
	my @new = grep { !$arrived{$_}++ } split / /, $expected;
	is(join(' ', sort { $a <=> $b } @{ $heard{$_} }), "@new", "$name: announced ($_)") for 'jobs', 'prices';
	return;
}

for my $case (
	[ 'COMMIT and ROLLBACK in a loop', '00000', 'CALL public.commits_and_rolls_back(100)' ],
	[ 'exception blocks', '00000', 'CALL public.with_exceptions(60)' ],
	[ 'a cursor that stays open', '00000', 'CALL public.over_a_cursor(50)' ],
	[ 'nested calls', '00000', 'CALL public.nested(7)' ],
	[ 'an error in the end', 'P0001', 'CALL public.fails_in_the_end(10)' ],
	[ 'COMMIT inside of a transaction', '2D000', 'BEGIN; SELECT public.one(); CALL public.commits_and_rolls_back(3); COMMIT' ],
	[ 'COMMIT below a function', '2D000', q(DO $$ BEGIN PERFORM public.one(); EXECUTE 'SELECT public.below()'; END $$) ],
	[ 'DO with COMMIT', '00000', q(DO $$ BEGIN PERFORM public.one(); COMMIT; PERFORM public.one(); ROLLBACK; PERFORM public.one(); END $$) ],
	[ 'savepoints', '00000', q(BEGIN; SELECT public.one(); SAVEPOINT a; SELECT public.one(); SAVEPOINT b; SELECT public.one(); ROLLBACK TO b;
		SELECT public.one(); RELEASE b; SAVEPOINT c; SELECT public.one(); ROLLBACK TO a; SELECT public.one(); SAVEPOINT a; SELECT public.one(); RELEASE a; COMMIT) ],
	[ 'COMMIT AND CHAIN, ROLLBACK AND CHAIN', '00000', q(BEGIN; SELECT public.one(); COMMIT AND CHAIN; SELECT public.one(); ROLLBACK AND CHAIN;
		SELECT public.one(); COMMIT) ],
	[ 'an implicit transaction of several statements', '22012', q(SELECT public.one() \; SELECT 1 / 0 \; SELECT public.one();) ],
	[ 'with a COMMIT in it', '22012', q(SELECT public.one() \; COMMIT \; SELECT public.one() \; SELECT 1 / 0;) ])
{
	my ($name, $state, $statement) = @$case;
	$node->safe_psql('postgres', q(CREATE OR REPLACE FUNCTION public.below() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL public.fails_in_the_end(1); END $$));
	my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM public.published');
	sqlstate_is($node, $statement, $state, $name);
	my $more = $node->safe_psql('postgres', 'SELECT count(*) FROM public.published') - $before;
	cmp_ok($more, ($state eq '2D000' || $name =~ /implicit/) ? '==' : '>', 0, "$name: $more committed");
	arrives($name);
}

# All of it by 6 sessions at once.
run_pgbench($node, '--client=6 --jobs=2 --transactions=5', 'many sessions at once',
	"CALL public.commits_and_rolls_back(12);\nCALL public.with_exceptions(10);\nCALL public.over_a_cursor(5);\nCALL public.nested(3);\n");
arrives('many sessions at once');
handled_once($node, 'work', [ split /\n/, $node->safe_psql('postgres', 'SELECT id FROM stored') ]);
failures_complete($node, 'work', 0);
is($node->safe_psql('postgres', q(SELECT bool_and(published = (SELECT count(*) FROM public.published)) FROM herald.channel_stats WHERE channel IN ('jobs', 'prices'))),
	't', 'statistics count what committed');

# Parallel workers: the functions are marked as what may not run there, so no plan brings them there. Wrapped
# into a function that claims to be safe, they say clearly what is wrong.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE public.many AS SELECT i FROM generate_series(1, 20000) AS i;
ANALYZE public.many;
CREATE FUNCTION public.bad_publish(n integer) RETURNS bigint LANGUAGE sql PARALLEL SAFE AS $$ SELECT herald.publish('jobs', jsonb_build_object('n', -n)) $$;
CREATE FUNCTION public.bad_text(n integer) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN RETURN herald.publish('jobs', '{"n": -1}'::text); END $$;
CREATE FUNCTION public.bad_ephemeral(n integer) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN RETURN herald.publish('prices', '{"n": -1}'); END $$;
CREATE FUNCTION public.bad_batch(n integer) RETURNS bigint LANGUAGE sql PARALLEL SAFE AS $$ SELECT count(*) FROM herald.publish_batch('jobs', '{"{\"n\": -1}"}'::jsonb[]) $$;
CREATE FUNCTION public.bad_notify(n integer) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN PERFORM herald.notify('prices', '-1'); RETURN ''; END $$;
CREATE FUNCTION public.bad_caught(n integer) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS $$
BEGIN RETURN herald.publish('jobs', '{"n": -1}'); EXCEPTION WHEN OTHERS THEN RETURN 0; END $$;
SQL
my $major = $node->safe_psql('postgres', q(SELECT current_setting('server_version_num')::integer / 10000));
my $force = ($major >= 16 ? 'debug_parallel_query' : 'force_parallel_mode') . ' = on';
my $cheap = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;';
for my $function ('bad_publish', 'bad_text', 'bad_ephemeral', 'bad_batch', 'bad_notify')
{
	my ($out, $err) = ('', '');
	$node->psql('postgres', "\\set VERBOSITY verbose\nSET $force;\nSELECT public.$function(1);", stdout => \$out, stderr => \$err);
	like($err, qr/ERROR:  25000: cannot execute herald\.\w+\(\) during a parallel operation/, "$function in a parallel worker is refused");
	like($err, qr/CONTEXT:.*parallel worker/s, "$function was in one");
	sqlstate_is($node, "$cheap SELECT count(public.$function(i)) FROM public.many", '25000', "$function in a parallel scan is refused");
}
is(sqlstate_of($node, "SET $force; SELECT public.bad_caught(1)") =~ /^(25000|00000)$/, 1, 'caught, it does no harm');
for my $statement (q(SELECT herald.publish('jobs', jsonb_build_object('n', n)) FROM (SELECT nextval('public.numbers') AS n) AS x),
	q(SELECT count(herald.notify('prices', '-1')) FROM public.many WHERE i = 1))
{
	is($node->safe_psql('postgres', "SET $force; $cheap EXPLAIN (COSTS off) $statement") =~ /Gather/, '', 'no plan takes the functions to a worker');
}
$node->safe_psql('postgres', "SET $force; $cheap SELECT public.one() FROM public.many WHERE i <= 20");
arrives('published with parallel plans on');
end_sessions($listener);
clean_log($node);

done_testing();
