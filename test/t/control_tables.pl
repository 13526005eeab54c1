# The tables of the extension decide what runs as whom. Who may write to all tables may not write to these; and what
# somebody has put on them or in them all the same is refused, or does no harm.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('control', conf => "herald.batch_time = 1h\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE writer LOGIN; GRANT pg_write_all_data, pg_read_all_data TO writer;
CREATE ROLE granted LOGIN; GRANT CREATE ON SCHEMA public TO granted, writer;
CREATE ROLE other LOGIN;
SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app');
SELECT herald.create_channel('feed'); CREATE TABLE public.fed (id int PRIMARY KEY);
SELECT herald.enable_change_feed('public.fed', 'feed'), herald.enable_audit('public.fed');
SQL
my ($id) = publish_many($node, 'jobs', 1);
wait_for_effects($node, 'work', 1);

# Every table, by every kind of statement that writes, with and without rows.
my @tables = split /\n/, $node->safe_psql('postgres', q(SELECT relname FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relkind = 'r' ORDER BY relname));
cmp_ok(scalar(@tables), '>', 30, 'tables');
for my $table (@tables)
{
	my ($column) = split /\n/, $node->safe_psql('postgres', "SELECT attname FROM pg_attribute WHERE attrelid = 'herald_internal.$table'::regclass AND attnum > 0 ORDER BY attnum LIMIT 1");
	my @statements = ("INSERT INTO herald_internal.$table SELECT * FROM herald_internal.$table", "UPDATE herald_internal.$table SET $column = $column", "DELETE FROM herald_internal.$table", "COPY herald_internal.$table FROM '/dev/null'", "TRUNCATE herald_internal.$table",
		"MERGE INTO herald_internal.$table AS t USING (SELECT 1) AS s ON false WHEN MATCHED THEN DELETE", "WITH gone AS (DELETE FROM herald_internal.$table RETURNING 1) SELECT count(*) FROM gone",
		"CREATE TRIGGER t BEFORE INSERT ON herald_internal.$table FOR EACH ROW EXECUTE FUNCTION app.trg()", "ALTER TABLE herald_internal.$table DISABLE TRIGGER ALL");
	my @states = split /\n/, ($node->psql('postgres', join('', "SET SESSION AUTHORIZATION writer;\n", map { "$_;\n\\echo :SQLSTATE\n" } @statements), on_error_stop => 0))[1];
	is("@states", join(' ', ('42501') x @statements), "$table: not for members of pg_write_all_data");
}
is($node->safe_psql('postgres', "SELECT herald.wait_idle('work', '20 s'), count(*) FROM app.effects"), 't|1', 'nothing has changed');
# There is no way to guard a sequence.
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace AND relkind = 'S')), '0', 'no sequences');

# What stands in a table is not trusted: the checks refuse it,
for my $update ("subscription = repeat('x', 5000)", "subscription = ''", "run_as = repeat('x', 64)", 'max_concurrency = 0', 'max_attempts = -1', "retry_backoff = 'NaN'", "state = 'other'", 'handler = NULL')
{
	like(sqlstate_of($node, "UPDATE herald_internal.subscription_store SET $update"), qr/^23/, "$update: refused, also to a superuser");
}
like(sqlstate_of($node, "INSERT INTO herald_internal.channel_store (channel, owner, durable, announce, accept_notify) VALUES (repeat('x', 64), 'app', true, 'off', false)"), qr/^23/, 'as are channels');
# and where they are gone it is cut.
$node->safe_psql('postgres', <<'SQL');
DO $$ DECLARE c record; BEGIN
    FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint WHERE contype = 'c' AND conrelid IN ('herald_internal.subscription_store'::regclass, 'herald_internal.change_feed_store'::regclass)
    LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP;
END $$;
UPDATE herald_internal.subscription_store SET subscription = repeat('x', 5000), max_concurrency = 0;
UPDATE herald_internal.change_feed_store SET channel = repeat('y', 5000);
SELECT pg_terminate_backend(pid) FROM herald.workers WHERE kind IN ('dispatcher', 'worker');
SQL
publish_many($node, 'jobs', 1);
wait_for('a worker runs the task', sub { $node->safe_psql('postgres', 'SELECT count(*) FROM app.effects') eq '2' });
sqlstate_is($node, 'INSERT INTO public.fed VALUES (1)', '00000', 'a feed to a name that is none does not fail the writer');
$node->safe_psql('postgres', "UPDATE herald_internal.subscription_store SET subscription = 'work', max_concurrency = 4; UPDATE herald_internal.change_feed_store SET channel = 'feed'");
clean_log($node, name => 'no process has crashed');
end_process($node, 'TERM', 'dispatcher');

# Triggers with the right to make them: the statement that waits for the trigger's maker refuses it.
$node->safe_psql('postgres', q(GRANT TRIGGER ON herald_internal.channel_store, herald_internal.pointer_store, herald_internal.log_0 TO granted; SET ROLE granted;
	CREATE FUNCTION public.trg() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER ROLE granted SUPERUSER'; RETURN NEW; END $$));
my $maker = $node->background_psql('postgres');
$maker->query_safe('SET SESSION AUTHORIZATION granted; BEGIN; CREATE TRIGGER t BEFORE INSERT ON herald_internal.channel_store FOR EACH ROW EXECUTE FUNCTION public.trg()');
my $creator = $node->background_psql('postgres', on_error_stop => 0);
$creator->query_until(qr/begun/, "\\echo begun\n\\set VERBOSITY verbose\nSELECT herald.create_channel('new');\n\\echo state :SQLSTATE\n");
wait_until($node, "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'herald_internal.channel_store'::regclass", 'a declaration waits for it');
$maker->query_safe('COMMIT');
like($creator->query_until(qr/state .*\n/, ''), qr/state 55000/, 'and is refused');
$creator->quit;
$maker->quit;
sqlstate_is($node, "SELECT herald.create_channel('new')", '55000', 'as later ones');
sqlstate_is($node, q(SELECT herald.publish('jobs', '{}')), '00000', 'what does not write there goes on');
$node->safe_psql('postgres', q(DROP TRIGGER t ON herald_internal.channel_store; SET ROLE granted;
	CREATE TRIGGER t BEFORE TRUNCATE ON herald_internal.log_0 EXECUTE FUNCTION public.trg()));
$node->safe_psql('postgres', q(ALTER SYSTEM SET herald.rotation_period = '1 s'; SELECT pg_reload_conf()));
wait_for('rotation refuses one on a TRUNCATE', sub {
	$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}')));
	return log_lines($node, qr/WARNING:  table "herald_internal\.log_0" can't be trusted/) > 0;
});
like($node->safe_psql('postgres', q(SELECT value FROM herald.status() WHERE name = 'foreign_rights')), qr/"log_0": trigger t/, 'and status() tells');
is(scalar(log_lines($node, qr/announcer ERROR/)), 0, 'the announcer goes on');
$node->safe_psql('postgres', q(DROP TRIGGER t ON herald_internal.log_0; ALTER SYSTEM RESET herald.rotation_period; SELECT pg_reload_conf()));
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'"), '0', 'nobody has become superuser');

# Whatever else there is to put on a table, status() tells.
my $row = q(SELECT ok::text || ' ' || value FROM herald.status() WHERE name = 'foreign_rights');
$node->safe_psql('postgres', 'REVOKE ALL ON ALL TABLES IN SCHEMA herald_internal FROM granted');
is($node->safe_psql('postgres', $row), 'true none', 'nothing foreign');
for my $case (
	[ 'GRANT SELECT ON herald_internal.log_0 TO granted', 'REVOKE ALL ON herald_internal.log_0 FROM granted', '"log_0": SELECT for granted' ],
	[ 'GRANT INSERT (payload) ON herald_internal.log_0 TO granted', 'REVOKE ALL (payload) ON herald_internal.log_0 FROM granted', '"log_0": INSERT for granted' ],
	[ 'GRANT UPDATE ON herald_internal.id_store TO PUBLIC', 'REVOKE ALL ON herald_internal.id_store FROM PUBLIC', '"id_store": UPDATE for PUBLIC' ],
	[ 'GRANT CREATE ON SCHEMA herald TO granted', 'REVOKE CREATE ON SCHEMA herald FROM granted', '"schema herald": CREATE for granted' ],
	[ 'ALTER TABLE herald_internal.settled_1 OWNER TO granted', 'ALTER TABLE herald_internal.settled_1 OWNER TO postgres', '"settled_1": it belongs to another role' ],
	[ 'CREATE TRIGGER t AFTER INSERT ON herald_internal.failure_store EXECUTE FUNCTION public.trg()', 'DROP TRIGGER t ON herald_internal.failure_store', '"failure_store": trigger t', q(UPDATE) ],
	[ 'ALTER TABLE herald_internal.parked_store DISABLE TRIGGER guard', 'ALTER TABLE herald_internal.parked_store ENABLE ALWAYS TRIGGER guard', '"parked_store": its guard is missing' ],
	[ 'ALTER TABLE herald_internal.subscription_store ENABLE ROW LEVEL SECURITY', 'ALTER TABLE herald_internal.subscription_store DISABLE ROW LEVEL SECURITY', '"subscription_store": row level security' ],
	[ 'CREATE RULE r AS ON UPDATE TO herald_internal.channel_store DO ALSO SELECT 1', 'DROP RULE r ON herald_internal.channel_store', '"channel_store": rule r', q(SELECT herald.alter_channel('feed', description => 'x')) ],
	[ 'CREATE RULE r AS ON DELETE TO herald_internal.channel_grant_store DO INSTEAD NOTHING', 'DROP RULE r ON herald_internal.channel_grant_store', '"channel_grant_store": rule r', q(SELECT herald.revoke_channel('feed', 'app')) ],
	[ 'CREATE TABLE public.child () INHERITS (herald_internal.subscription_store)', 'DROP TABLE public.child', '"subscription_store": child tables', q(SELECT herald.pause('work')) ],
	[ 'CREATE TABLE public.refers (id int REFERENCES herald_internal.channel_store)', 'DROP TABLE public.refers', '"channel_store": trigger "RI_', q(SELECT herald.drop_channel('feed', force => true)) ])
{
	my ($do, $undo, $tells, $refused) = @$case;
	$node->safe_psql('postgres', $do);
	like($node->safe_psql('postgres', $row), qr/^false \Q$tells\E/, "$do: status() tells");
	sqlstate_is($node, $refused, '55000', 'and what meets it is refused') if defined $refused && $refused =~ /^SELECT/;
	$node->safe_psql('postgres', $undo);
	is($node->safe_psql('postgres', $row), 'true none', 'until it is gone');
}
sqlstate_is($node, q(SELECT herald.alter_channel('feed', description => 'x'), herald.pause('work'), herald.resume('work')), '00000', 'then all works again');

# Dealt to the worker of one role, not begun yet, and meant for another role by now.
$node->safe_psql('postgres', 'TRUNCATE app.effects; GRANT ALL ON app.effects TO other; GRANT ALL ON app.runs TO other; GRANT app TO postgres');
$node->safe_psql('postgres', q(CREATE TABLE public.who (role name); GRANT ALL ON public.who TO PUBLIC;
	CREATE FUNCTION public.who(task herald.task) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	    IF task.payload ? 'gate' THEN PERFORM pg_advisory_xact_lock_shared(7); END IF; INSERT INTO public.who VALUES (current_user); END $$;
	SELECT herald.subscribe('who', 'who', 'public.who', run_as => 'app', max_concurrency => 1)));
publish_many($node, 'who', 40);
ok(wait_idle($node, 'who'), 'the batches have grown');
$node->safe_psql('postgres', 'TRUNCATE public.who');
my $gate = close_gate($node, 7);
$node->safe_psql('postgres', q(BEGIN; SELECT herald.publish('who', '{"gate": 7}'); SELECT count(herald.publish('who', '{}')) FROM generate_series(1, 9); COMMIT));
wait_until($node, q(SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted), 'the first one of a batch runs');
# Behind the dispatcher's back, which would call back what is not begun; the worker alone reads the row anew.
$node->safe_psql('postgres', q(UPDATE herald_internal.subscription_store SET run_as = 'other', run_as_role = NULL WHERE subscription = 'who';
	ANALYZE herald_internal.channel_store));
$gate->quit;
ok(wait_idle($node, 'who'), 'all are done');
is($node->safe_psql('postgres', 'SELECT role, count(*) FROM public.who GROUP BY role ORDER BY role'), "app|1\nother|9", 'the rest of the batch ran as the role that they are for');
clean_log($node);

done_testing();
