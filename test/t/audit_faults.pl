# What applications, attackers and accidents do to audit trails: whoever may write to a table can neither avoid nor forge
# its trail, what is committed is in it whatever ends the server, and recording costs bounded memory.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldNode;
use HeraldSessions;
use HeraldTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('audit_faults', init => { allows_streaming => 1 }, conf => <<'CONF');
herald.audit_context = 'app.who'
max_connections = 90
CONF
# clerk may write, and do with the table whatever a privilege allows; keeper owns it.
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION pg_herald;
CREATE ROLE keeper LOGIN;
CREATE ROLE clerk LOGIN;
CREATE SCHEMA shop AUTHORIZATION keeper;
CREATE SCHEMA clerk AUTHORIZATION clerk;
GRANT CREATE ON DATABASE postgres TO clerk;
SET ROLE keeper;
GRANT USAGE, CREATE ON SCHEMA shop TO clerk;
CREATE TABLE shop.orders (id int PRIMARY KEY, card text, note text);
GRANT ALL ON shop.orders TO clerk WITH GRANT OPTION;
CREATE TABLE shop.events (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES FROM (0) TO (10);
GRANT ALL ON shop.events, shop.events_1 TO clerk;
SQL

sub as_clerk { my ($sql) = @_; return sqlstate_of($node, $sql, role => 'clerk') }
sub as_keeper { my ($sql) = @_; return $node->safe_psql('postgres', "SET SESSION AUTHORIZATION keeper;\n$sql") }

# Before auditing begins somebody takes the names that its triggers will have.
is(as_clerk(<<'SQL'), '00000', 'somebody with TRIGGER takes names of triggers');
CREATE FUNCTION clerk.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER herald_audit_update AFTER UPDATE ON shop.orders FOR EACH STATEMENT EXECUTE FUNCTION clerk.nothing();
CREATE CONSTRAINT TRIGGER herald_audit_insert AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION clerk.nothing();
SQL
as_keeper(q(SELECT herald.enable_audit('shop.orders', mask => '{card}'), herald.enable_audit('shop.events')));
is($node->value('SELECT bool_and(ok) FROM herald.audited_tables'), 't', 'and does not keep a table from being audited');

# Who only writes.
for my $attempt (
	[ 'ALTER TABLE shop.orders DISABLE TRIGGER ALL', 'disable triggers' ],
	[ 'ALTER TABLE shop.orders DISABLE TRIGGER herald_audit_update', 'disable one' ],
	[ 'ALTER TABLE shop.orders ENABLE REPLICA TRIGGER herald_audit_update', 'let it fire at other times' ],
	[ 'DROP TRIGGER herald_audit_update ON shop.orders', 'drop one' ],
	[ 'ALTER TRIGGER herald_audit_update ON shop.orders RENAME TO harmless', 'rename one' ],
	[ 'CREATE OR REPLACE TRIGGER herald_audit_update AFTER UPDATE ON shop.orders FOR EACH STATEMENT EXECUTE FUNCTION clerk.nothing()', 'replace one' ],
	[ 'ALTER TABLE shop.events DETACH PARTITION shop.events_1', 'detach a partition' ],
	[ 'ALTER TABLE shop.events_1 NO INHERIT shop.events', 'take one out of the tree' ],
	[ 'ALTER TABLE shop.orders SET SCHEMA clerk', 'move the table' ],
	[ q(SELECT herald.disable_audit('shop.orders')), 'switch auditing off' ],
	[ q(SELECT herald.enable_audit('shop.orders', exclude => '{note}')), 'change what is recorded' ],
	[ 'SET session_replication_role = replica', 'act as replication' ],
	[ q(SET herald.audit_context = ''), 'change what is told about the session' ],
	[ 'CREATE RULE swallow AS ON UPDATE TO shop.orders DO INSTEAD NOTHING', 'make a rule' ],
	[ 'CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION clerk.nothing()', 'make an event trigger' ],
	(map { [ "CREATE TRIGGER mine AFTER UPDATE ON shop.orders FOR EACH STATEMENT EXECUTE FUNCTION herald_internal.audit_$_()", "attach herald_internal.audit_$_" ],
	  } qw(insert update delete truncate replica)),
	(map { [ "CREATE TABLE clerk.t_$_ (id int); CREATE TRIGGER mine AFTER UPDATE ON clerk.t_$_ FOR EACH ROW EXECUTE FUNCTION herald_internal.audit_$_()",
			"attach herald_internal.audit_$_ to a table of one's own" ] } qw(update replica)),
	[ 'CREATE TRIGGER g BEFORE INSERT ON herald_internal.audit_0 FOR EACH ROW EXECUTE FUNCTION clerk.nothing()', 'plant a trigger in the trail' ],
	[ 'SELECT herald.purge_audit_log()', 'purge' ],
	[ 'SELECT * FROM herald.audit_log', 'read the trail' ],
	[ q(SELECT * FROM herald.audit_history('shop.orders', '{"id": 1}')), 'read a history' ],
	[ 'SELECT salt FROM herald_internal.audit_target', 'read the salt' ],
	[ q(SELECT herald_internal.next_id('audit')), 'use up ids' ],
	[ 'CREATE VIEW clerk.v AS SELECT * FROM herald_internal.audit_0; SELECT * FROM clerk.v', 'read it through a view' ],
	[ 'CREATE TABLE clerk.k (id bigint REFERENCES herald_internal.audit_context_0)', 'refer to it' ],
	[ 'BEGIN; LOCK TABLE herald_internal.audit_0 IN ACCESS SHARE MODE', 'lock it' ],
	[ 'DROP EXTENSION pg_herald CASCADE', 'drop the extension' ])
{
	is(as_clerk($attempt->[0]), '42501', "somebody who may write can't $attempt->[1]");
}
for my $table (map { ("audit_$_", "audit_context_$_") } 0, 7)
{
	is(as_clerk("INSERT INTO herald_internal.$table SELECT"), '42501', "nor insert into $table");
	is(as_clerk("COPY herald_internal.$table FROM STDIN"), '42501', "nor copy into $table");
	# Not even who may do anything.
	is(sqlstate_of($node, $_), '42501', "nobody can: $_") for "UPDATE herald_internal.$table SET id = 1", "DELETE FROM herald_internal.$table", "TRUNCATE herald_internal.$table CASCADE",
	  "MERGE INTO herald_internal.$table USING (VALUES (1)) AS v (id) ON $table.id = v.id WHEN MATCHED THEN DELETE", "SET session_replication_role = replica; DELETE FROM herald_internal.$table";
}
isnt(as_clerk("SELECT herald_internal.audit_$_()"), '00000', "nobody can call herald_internal.audit_$_") for qw(insert update delete truncate replica);
isnt(sqlstate_of($node, "SELECT herald_internal.audit_$_()"), '00000', "not even a superuser can call herald_internal.audit_$_") for qw(insert update delete truncate replica);
# A superuser can attach them, to no use.
is(sqlstate_of($node, "CREATE TABLE public.other (id int); CREATE TRIGGER t AFTER INSERT ON public.other REFERENCING NEW TABLE AS n"
	. ' FOR EACH STATEMENT EXECUTE FUNCTION herald_internal.audit_insert(); INSERT INTO public.other VALUES (1)'), '00000', 'no table is audited without being enrolled');
is($node->value(q(SELECT count(*) FROM herald.audit_log WHERE table_name = 'other')), '0', 'nothing is recorded of it');

# All that clerk can do is to write, and to lie about what a client may say anyway.
as_clerk(<<'SQL');
CREATE FUNCTION clerk.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$;
CREATE FUNCTION clerk.hash(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$;
CREATE FUNCTION clerk.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION clerk.same(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$;
CREATE OPERATOR clerk.= (LEFTARG = int, RIGHTARG = int, FUNCTION = clerk.same);
CREATE TYPE clerk.jsonb AS (a int);
CREATE TABLE clerk.audit_target (id int);
SQL
is(as_clerk(<<'SQL'), '00000', 'what is found first in the search_path is not used');
SET search_path = clerk, pg_catalog;
CREATE TEMP TABLE audit_target (id int);
CREATE TEMP TABLE audit_7 (id int);
INSERT INTO shop.orders VALUES (1, 'MASKED', 'first');
UPDATE shop.orders SET note = 'second';
SQL
is($node->value(q(SELECT string_agg(concat_ws(' ', operation, record_id ->> 'id', new ->> 'note', new ->> 'card', current_user_name), ', ' ORDER BY id)
             FROM herald.audit_log WHERE table_name = 'orders' AND operation IN ('insert', 'update'))),
	'insert 1 first *** clerk, update 1 second *** clerk', 'the trail has it all');

# A cast to json runs with the rights of who writes, and not with more.
as_clerk(<<'SQL');
CREATE TYPE clerk.mood AS ENUM ('sad', 'glad');
CREATE TABLE clerk.ran (who text, by text);
CREATE FUNCTION clerk.spy(mood clerk.mood) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO clerk.ran VALUES (current_user, session_user);
    IF mood = 'sad' THEN
        BEGIN
            ALTER ROLE clerk SUPERUSER;
        EXCEPTION WHEN insufficient_privilege THEN NULL; END;
        BEGIN
            RESET ROLE;
            ALTER ROLE clerk SUPERUSER;
        EXCEPTION WHEN insufficient_privilege THEN NULL; END;
    END IF;
    RETURN to_json(mood::text || ' by cast');
END $$;
CREATE CAST (clerk.mood AS json) WITH FUNCTION clerk.spy(clerk.mood);
CREATE TABLE clerk.moods (id int PRIMARY KEY, mood clerk.mood);
SELECT herald.enable_audit('clerk.moods', mask => '{hash:mood}');
SELECT herald.enable_audit('clerk.moods');
INSERT INTO clerk.moods VALUES (1, 'sad'), (2, 'glad');
SQL
is($node->value(q(SELECT string_agg(DISTINCT who || ' ' || by, ', ') FROM clerk.ran)), 'clerk clerk', 'a cast to json runs as who writes');
is($node->value(q(SELECT rolsuper FROM pg_roles WHERE rolname = 'clerk')), 'f', 'and makes nobody a superuser');
is($node->value(q(SELECT string_agg(new ->> 'mood', ', ' ORDER BY id) FROM herald.audit_log WHERE table_name = 'moods' AND operation = 'insert')),
	'sad by cast, glad by cast', 'what it says is recorded');
is(as_clerk(<<'SQL'), '22012', 'where it fails, the statement does');
CREATE OR REPLACE FUNCTION clerk.spy(mood clerk.mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RETURN to_json(1 / 0); END $$;
INSERT INTO clerk.moods VALUES (3, 'sad');
SQL
# Casts that audit, write to the same table, or change the options, in the midst of it.
is(as_clerk(<<'SQL'), '00000', 'a cast may write to audited tables itself');
CREATE OR REPLACE FUNCTION clerk.spy(mood clerk.mood) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    IF mood = 'sad' THEN
        BEGIN
            SET LOCAL app.who = 'inner';
            INSERT INTO clerk.moods VALUES (100, NULL);
            RAISE division_by_zero;
        EXCEPTION WHEN division_by_zero THEN NULL; END;
        INSERT INTO clerk.moods SELECT max(id) + 1, 'glad' FROM clerk.moods;
        PERFORM herald.enable_audit('clerk.moods', record => 'diff');
    END IF;
    RETURN to_json(mood::text);
END $$;
SET app.who = 'outer';
INSERT INTO clerk.moods VALUES (10, 'glad'), (11, 'sad'), (12, 'sad'), (13, 'glad');
SQL
is($node->value(q(SELECT string_agg(new ->> 'id', ' ' ORDER BY (new ->> 'id')::int), bool_and(context ->> 'app.who' = 'outer'), count(DISTINCT sequence)
             FROM herald.audit_log WHERE table_name = 'moods' AND (new ->> 'id')::int >= 10)),
	'10 11 12 13 14 15|t|6', 'all of it is recorded, and nothing of what was rolled back');
as_clerk('ALTER TYPE clerk.mood RENAME TO m2; DROP TABLE clerk.moods');

# The owner can end it, and that is told.
as_keeper(<<'SQL');
ALTER TABLE shop.orders DISABLE TRIGGER herald_audit_update;
ALTER TABLE shop.orders ENABLE TRIGGER herald_audit_update;
DROP TRIGGER herald_audit_delete ON shop.orders;
DELETE FROM shop.orders;
SELECT herald.enable_audit('shop.orders', mask => '{card}');
SELECT herald.disable_audit('shop.events');
DROP TABLE shop.events;
SQL
is($node->value(q(SELECT string_agg(DISTINCT operation, ' ' ORDER BY operation) FROM herald.audit_log
            WHERE current_user_name = 'keeper' AND table_name IN ('orders', 'events'))),
	'alter_audit disable_audit disable_trigger drop_trigger enable_audit enable_trigger', 'what the owner does to the trail is in it');
is($node->value('SELECT bool_and(ok) FROM herald.audited_tables'), 't', 'and can be mended');

# Whatever triggers are disabled and enabled for a load, changes are recorded once.
as_keeper('ALTER TABLE shop.orders DISABLE TRIGGER ALL; ALTER TABLE shop.orders ENABLE TRIGGER ALL; INSERT INTO shop.orders VALUES (20, NULL, NULL)');
is($node->value(q(SELECT count(*) FROM herald.audit_log WHERE record_id = '{"id": 20}' AND operation = 'insert')), '1', 'after ENABLE TRIGGER ALL changes are recorded once');
as_keeper(q(SELECT herald.enable_audit('shop.orders', mask => '{card}')));

# A session can't blur what is recorded, nor put bytes into the trail that nobody can read.
as_keeper(q(CREATE TABLE shop.exact (id int PRIMARY KEY, f float8, d daterange); SELECT herald.enable_audit('shop.exact')));
$node->value(q(GRANT USAGE ON SCHEMA shop TO clerk; GRANT INSERT ON shop.exact TO clerk));
is(as_clerk(<<'SQL'), '00000', 'a session has odd settings');
SET extra_float_digits = -15; SET datestyle = 'SQL, DMY'; SET search_path = shop;
INSERT INTO exact VALUES (1, 123456.789, '[2026-02-01,2026-03-01)');
SQL
is($node->value(q(SELECT new ->> 'f', new ->> 'd' FROM herald.audit_log WHERE table_name = 'exact' AND operation = 'insert')),
	'123456.789|[2026-02-01,2026-03-01)', 'which are of no importance to the trail');
{
	local $ENV{PGOPTIONS} = "-c app.who=a\xffb";
	$node->value('INSERT INTO shop.exact VALUES (2)');
}
is(sqlstate_of($node, q(SET client_encoding = 'LATIN1';
	SELECT context FROM herald.audit_log WHERE record_id = '{"id": 2}')), '00000', 'what is no text does not get into it');

# Maintenance of the trail does not keep anybody from writing.
my $open = $node->background_psql('postgres');
$open->query_safe(q(BEGIN; INSERT INTO shop.exact VALUES (3)));
my $segment = $node->value(q(SELECT DISTINCT relation::regclass FROM pg_locks WHERE mode = 'RowExclusiveLock' AND relation::regclass::text ~ '^herald_internal.audit_[0-7]$'));
my $reindex = $node->background_psql('postgres', on_error_stop => 0);
$reindex->query_until(qr/begun/, "\\echo begun\nREINDEX TABLE CONCURRENTLY $segment;\n");
wait_until($node, q(SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock'), 'REINDEX CONCURRENTLY waits');
is(sqlstate_of($node, 'INSERT INTO shop.exact SELECT i FROM generate_series(4, 9) AS i'), '00000', 'and others write meanwhile');
$open->query_safe('COMMIT');
$open->quit;
$reindex->query('SELECT 1');
$reindex->quit;
is($node->value(q(SET enable_seqscan = off; SELECT count(*) FROM generate_series(3, 9) AS i, LATERAL herald.audit_history('shop.exact', jsonb_build_object('id', i)))),
	'7', 'the new index has all of it');

# Prepared transactions.
$node->value(q(BEGIN; INSERT INTO shop.orders VALUES (2, 'a', 'prepared'); PREPARE TRANSACTION 'kept'));
$node->value(q(BEGIN; INSERT INTO shop.orders VALUES (3, 'a', 'prepared'); PREPARE TRANSACTION 'lost'));
$node->value(q(INSERT INTO shop.orders VALUES (4, 'a', 'meanwhile')));
$node->stop('immediate');
start_again($node);
$node->value(q(COMMIT PREPARED 'kept'; ROLLBACK PREPARED 'lost'));
is($node->value(q(SELECT string_agg(l.record_id ->> 'id', ' ' ORDER BY l.record_id ->> 'id'), bool_and(transaction_id IS NOT NULL)
             FROM herald.audit_log AS l WHERE operation = 'insert' AND (record_id ->> 'id')::int BETWEEN 2 AND 4 AND table_name = 'orders')),
	'2 4|t', 'a prepared transaction is in the trail when it is committed');

# A long statement is cancelled, runs into a time limit, or its server dies.
as_keeper(<<'SQL');
CREATE TABLE shop.many (id int PRIMARY KEY, v int, note text);
SELECT herald.enable_audit('shop.many', record => 'diff', operations => '{update}');
INSERT INTO shop.many SELECT i, 0, repeat('x', 20) FROM generate_series(1, 300000) AS i;
SQL
my $entries = q(SELECT count(*) FROM herald.audit_log WHERE table_name = 'many' AND operation = 'update');

# Waits until it has begun to record; its rows can't be seen, its lock on the segment can.
sub update_many
{
	my ($name) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query('SELECT pg_backend_pid();');
	$session->query_until(qr/begun/, "\\echo begun\nUPDATE shop.many SET v = v + 1;\n");
	wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE pid = $pid AND mode = 'RowExclusiveLock' AND relation IN"
		. " (SELECT oid FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relname ~ '^audit_[0-7]\$')", "$name: it records");
	return ($session, $pid);
}
my ($session, $pid, $cancelled);
for my $attempt (1 .. 5)
{
	($session, $pid) = update_many('to be cancelled');
	$node->value("SELECT pg_cancel_backend($pid)");
	like($session->query("SELECT 'after'"), qr/after/, 'the session goes on');
	$cancelled = $session->{stderr} =~ /canceling statement due to user request/;
	$session->quit;
	is($node->value("SELECT sum(v) FROM shop.many"), $node->value($entries), 'a cancelled statement left no entries, or came to its end');
	last if $cancelled;
}
ok($cancelled, 'it was cancelled while it recorded');
is(sqlstate_of($node, q(SET statement_timeout = '300ms'; UPDATE shop.many SET v = v + 1)), '57014', 'a time limit holds for recording as well');
is($node->value("SELECT sum(v) FROM shop.many"), $node->value($entries), 'and leaves nothing');

# Beside it others write, one transaction each, and know what was committed.
my ($out, $err) = ('', '');
($session, $pid) = update_many('killed');
my $writer = $node->background_psql('postgres', on_error_stop => 0);
my @committed = grep { $writer->query("INSERT INTO shop.orders VALUES ($_, 'c', 'before the kill') RETURNING id") =~ /$_/ } 1000 .. 1100;
$node->kill9;
# It would go on to the end of its statement, and no server starts beside it.
signal_process('KILL', $pid);
end_sessions($session, $writer);
start_again($node);
is($node->value(qq(SELECT count(*) FROM herald.audit_log WHERE operation = 'insert' AND record_id ->> 'id' IN (@{[ join ',', map { "'$_'" } @committed ]}))),
	scalar(@committed), 'what was committed before the server was killed has its entry');
is($node->value(q(SELECT count(*) FROM shop.orders WHERE note = 'before the kill')), $node->value(q(SELECT count(*) FROM herald.audit_log WHERE new ->> 'note' = 'before the kill')),
	'and nothing else has');
is($node->value("SELECT sum(v) FROM shop.many"), $node->value($entries), 'the killed statement left no entries');

# Without dispatcher and announcer, with herald.enabled off, and where the library is but not the extension.
reload_with($node, 'herald.enabled' => 'off');
$node->restart;
$node->value(q(INSERT INTO shop.orders VALUES (5, 'c', 'switched off')));
is($node->value(q(SELECT count(*) FROM herald.audit_log WHERE new ->> 'note' = 'switched off')), '1', 'auditing does not depend on herald.enabled');
$node->safe_psql('postgres', 'CREATE DATABASE bare');
is(sqlstate_of($node, <<'SQL', database => 'bare'), '00000', 'a database without the extension does not notice');
CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (9);
CREATE TABLE audit_0 (id int);
CREATE SCHEMA herald_internal CREATE TABLE audit_0 (id int, a int, changed_at timestamptz);
INSERT INTO herald_internal.audit_0 VALUES (1, 1, now());
ALTER TABLE t RENAME TO u;
ALTER TABLE u DETACH PARTITION t1;
DROP TABLE audit_0, t1, u;
DROP SCHEMA herald_internal CASCADE;
SQL
reload_with($node, 'herald.enabled' => undef);
$node->restart;
is(sqlstate_of($node, $_), '2BP01', "the trail is not lost by $_") for 'DROP EXTENSION pg_herald', 'DROP EXTENSION pg_herald CASCADE', 'DROP SCHEMA herald CASCADE', 'DROP SCHEMA herald_internal CASCADE';

# Sizes: all the columns there can be, a huge value, a statement of half a million rows.
as_keeper('CREATE TABLE shop.wide (' . join(', ', 'c1 int PRIMARY KEY', map { "c$_ int" } 2 .. 1600) . "); SELECT herald.enable_audit('shop.wide', record => 'diff')");
$node->value('INSERT INTO shop.wide VALUES (' . join(',', 1 .. 1600) . '); UPDATE shop.wide SET ' . join(', ', map { "c$_ = c$_ + 1" } 2 .. 1600));
is($node->value(q(SELECT (SELECT count(*) FROM jsonb_object_keys(new)), cardinality(changed), new ->> 'c1600' FROM herald.audit_log WHERE table_name = 'wide' AND operation = 'update')),
	'1599|1599|1601', 'a table of 1600 columns');
$node->value(q(INSERT INTO shop.orders SELECT 6, NULL, repeat(md5('x'), 3276800)));
is($node->value(q(SELECT length(new ->> 'note') FROM herald.audit_log WHERE record_id = '{"id": 6}' AND table_name = 'orders')), '104857600', 'a value of 100 MB');

# The private memory of a backend, without files and shared buffers, in kB.
sub anonymous_kb { my ($id) = @_; return slurp_file("/proc/$id/smaps_rollup") =~ /^Anonymous:\s+([0-9]+)/m ? $1 : undef }
SKIP:
{
	skip 'no smaps_rollup here', 1 unless -r '/proc/self/smaps_rollup';
	as_keeper(q(CREATE TABLE shop.bulk (id int PRIMARY KEY, v int, note text); SELECT herald.enable_audit('shop.bulk')));
	$session = $node->background_psql('postgres');
	$pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_safe("INSERT INTO shop.bulk SELECT i, i, repeat('n', 30) FROM generate_series(1, 1000) AS i");
	my $before = anonymous_kb($pid);
	$session->query_safe("INSERT INTO shop.bulk SELECT i, i, repeat('n', 30) FROM generate_series(1001, 500000) AS i");
	$session->query_safe('UPDATE shop.bulk SET v = v + 1');
	my $grown = anonymous_kb($pid) - $before;
	$session->quit;
	# The transition tables take work_mem each.
	cmp_ok($grown, '<', 40_000, "memory of a backend after statements of 500,000 rows: $grown kB more");
	is($node->value(q(SELECT operation, count(*) FROM herald.audit_log WHERE table_name = 'bulk' AND operation IN ('insert', 'update') GROUP BY 1 ORDER BY 1)),
		"insert|500000\nupdate|500000", 'all of them are recorded');
}
$node->value('SELECT herald.purge_audit_log()');

# Many write while others take out what is old.
as_keeper(q(CREATE TABLE shop.busy (id bigserial PRIMARY KEY, v int); SELECT herald.enable_audit('shop.busy', operations => '{insert}')));
reload_with($node, 'herald.audit_retention' => '1min');
run_pgbench($node, '-c 64 -j 2 -t 40 -n', 'sixty-four writers', <<'PGBENCH');
\set dice random(1, 40)
\if :dice = 1
SELECT herald.purge_audit_log(clock_timestamp() - interval '1 day');
\else
INSERT INTO shop.busy (v) VALUES (1), (2);
\endif
PGBENCH
is($node->value(q(SELECT count(*), count(DISTINCT id), count(DISTINCT record_id), count(transaction_id) FROM herald.audit_log WHERE table_name = 'busy' AND operation = 'insert')),
	$node->value('SELECT count(*), count(*), count(*), count(*) FROM shop.busy'), 'none of their rows is missing or twice');
reload_with($node, 'herald.audit_retention' => undef);

# A standby that is promoted.
$node->backup('base');
my $standby = HeraldNode->new('audit_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->value(q(INSERT INTO shop.orders VALUES (7, 'c', 'on the primary')));
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q(SELECT count(*) FROM herald.audit_log WHERE new ->> 'note' = 'on the primary')), '1', 'a standby shows the trail');
is(sqlstate_of($standby, q(SELECT herald.disable_audit('shop.orders'))), '55000', 'and does not change it');
$standby->promote;
$standby->safe_psql('postgres', q(INSERT INTO shop.orders VALUES (8, 'c', 'promoted')));
is($standby->safe_psql('postgres', q(SELECT count(*), count(DISTINCT id), count(transaction_id) FROM herald.audit_log WHERE record_id ->> 'id' IN ('7', '8') AND table_name = 'orders')),
	'2|2|2', 'promoted, it goes on with it');
clean_log($standby);
$standby->stop;

clean_log($node, signals => 9);
$node->stop;
done_testing();
