# An administrator changes the tables of the extension, or an upgrade script does while another library is loaded. Rows
# are formed and read by column number, past the executor: so each change either makes no difference, or is refused
# with a hint; the server goes on, nothing is lost, and when the change is undone all goes on by itself.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('altered', conf => "herald.sweep_interval = 1s\n");

my $setup = q(
	CREATE TABLE app.orders (id serial PRIMARY KEY, note text);
	SELECT herald.enable_audit('app.orders');
	SELECT herald.create_channel('jobs'), herald.create_channel('feed'), herald.enable_change_feed('app.orders', 'feed');
	SELECT herald.subscribe('work', 'jobs', 'app.work', run_as => 'app', max_attempts => 2, retry_delay => '1 ms'));
$node->safe_psql('postgres', $setup);

# What applications do, one statement after the other, whatever becomes of it. Returns the errors.
my $work = q(
	SELECT herald.publish('jobs', '{"marker": 0}', key => 'k');
	SELECT count(*) FROM herald.publish_batch('jobs', ARRAY['{}', '{"failures": 1}', '{"failures": 9}']::jsonb[]);
	SELECT herald.publish('nowhere', to_jsonb(repeat('x', 9000)));
	INSERT INTO app.orders (note) VALUES ('one');
	INSERT INTO app.orders (note) SELECT repeat('x', i) FROM generate_series(1, 20) AS i;
	UPDATE app.orders SET note = 'two' WHERE id < 5;
	DELETE FROM app.orders WHERE id < 3;
	SELECT herald.fetch(1), herald.fetch(999999);
	SELECT herald.create_channel('other'); SELECT herald.grant_channel('other', 'app', '{publish}');
	SELECT herald.alter_channel('other', description => 'x'); SELECT herald.subscribe('more', 'other', 'app.work', run_as => 'app');
	SELECT herald.pause('more'); SELECT herald.resume('more'); SELECT herald.alter_subscription('more', max_attempts => 3);
	SELECT herald.unsubscribe('more', force => true); SELECT herald.drop_channel('other', force => true);
	SELECT herald.enable_audit('app.orders', 'diff'); SELECT herald.enable_change_feed('app.orders', 'feed', 'diff');
	SELECT count(*) FROM herald.channels; SELECT count(*) FROM herald.subscriptions; SELECT count(*) FROM herald.subscription_stats;
	SELECT count(*) FROM herald.tasks; SELECT count(*) FROM herald.failure_log; SELECT count(*) FROM herald.dead_letters;
	SELECT count(*) FROM herald.audit_log; SELECT count(*) FROM herald.audit_history('app.orders', '{"id": 7}');
	SELECT count(*) FROM herald.audited_tables; SELECT count(*) FROM herald.change_feeds;
	SELECT herald.replay_all('work'); SELECT herald.discard_dead_letters('work'); SELECT herald.purge_audit_log(now() - interval '1 hour');
	SELECT count(*) FROM herald.status(););
sub work_on
{
	my ($database) = @_;
	my ($out, $err);
	$node->psql($database, "\\set VERBOSITY verbose\n$work", stdout => \$out, stderr => \$err, on_error_stop => 0);
	return grep { /ERROR:/ } split /(?=^psql:)/m, $err;
}

# Those that a changed table may be the reason of. What is the matter must be said.
sub only_refusals
{
	my ($what, @errors) = @_;
	my @bad = grep { !(/ERROR:\s+(?:55000|0A000|42703|42804|42P10)/ && /^HINT:/m) && !/ERROR:\s+(?:23505|23514|42704|42710|42501|53400):/ } @errors;
	return is(join('', @bad), '', "$what: done or refused with a hint" . (@errors ? ' (' . @errors . ' refused)' : ''));
}

sub handles_again
{
	my ($what) = @_;
	my $marker = $node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}')));
	return wait_until($node, "SELECT count(*) = 1 FROM app.effects WHERE message_id = $marker", "$what: a message is handled");
}

only_refusals('unchanged', work_on('postgres'));
is(join('', work_on('postgres')), '', 'unchanged: no error at all');
is($node->safe_psql('postgres', q(SELECT ok, value, hint FROM herald.status() WHERE name = 'tables')), 't|as they were made|', 'status says that all is well');

my $audit = $node->safe_psql('postgres', q(SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace
	AND relname ~ '^audit_(context_)?\d$' AND pg_relation_size(oid) > 0));
my $others = $node->safe_psql('postgres', q(SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'herald_internal'::regnamespace
	AND relkind = 'r' AND relname !~ '_\d$'));
my %retyped = (log_0 => 'schema_version', parked_store => 'schema_version', dead_letter_store => 'error_code', pointer_store => 'bytes',
	audit_target => 'masked', subscription_store => 'database_oid', audit_key => 'version', channel_grant_store => 'channel_id');

$node->safe_psql('postgres', q(CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'));
# All of them take some minutes, which are for make explore.
my @tables = ('log_0', 'settled_0', split / /, "$audit $others");
my ($audit_segment) = grep { /^audit_\d/ } @tables;
my @few = ('log_0', 'settled_0', 'parked_store', 'subscription_store', $audit_segment);
foreach my $table (($ENV{HERALD_TEST_SEED} // '') eq 'random' ? @tables : @few)
{
	my $column = $node->safe_psql('postgres', "SELECT attname FROM pg_attribute WHERE attrelid = 'herald_internal.$table'::regclass AND attnum = 1");
	my $last = $node->safe_psql('postgres', "SELECT attname FROM pg_attribute WHERE attrelid = 'herald_internal.$table'::regclass AND attnum > 1 AND NOT attisdropped ORDER BY attnum DESC LIMIT 1");
	my @changes = (
		[ 'a column more', 'ADD COLUMN extra text', 'DROP COLUMN extra' ],
		[ 'a column that must have a value', 'ADD COLUMN extra integer NOT NULL DEFAULT 1', 'DROP COLUMN extra' ],
		[ 'a column of another name', "RENAME COLUMN $last TO renamed", "RENAME COLUMN renamed TO $last" ],
		[ 'a check', "ADD CONSTRAINT extra CHECK ($column IS NULL) NOT VALID", 'DROP CONSTRAINT extra' ],
		[ 'an index', "!CREATE INDEX extra ON herald_internal.$table ($column)", '!DROP INDEX herald_internal.extra' ],
		[ 'a unique index', "!CREATE UNIQUE INDEX extra ON herald_internal.$table ($column)", '!DROP INDEX herald_internal.extra' ],
		[ 'a child', "!CREATE TABLE public.child () INHERITS (herald_internal.$table)", '!DROP TABLE public.child' ],
		[ 'unlogged', 'SET UNLOGGED', 'SET LOGGED' ],
		[ 'a rule', "!CREATE RULE extra AS ON INSERT TO herald_internal.$table DO INSTEAD NOTHING", "!DROP RULE extra ON herald_internal.$table" ],
		[ 'a trigger', "!CREATE TRIGGER extra BEFORE INSERT ON herald_internal.$table FOR EACH ROW EXECUTE FUNCTION public.swallow()", "!DROP TRIGGER extra ON herald_internal.$table" ],
		[ 'other statistics and storage', "ALTER COLUMN $column SET STATISTICS 10, SET (fillfactor = 50)", "ALTER COLUMN $column SET STATISTICS -1, RESET (fillfactor)" ],
		[ 'row security', 'ENABLE ROW LEVEL SECURITY', 'DISABLE ROW LEVEL SECURITY' ],
		[ 'rewritten', "!VACUUM FULL herald_internal.$table", '!SELECT 1' ]);
	push @changes, [ 'another type', "ALTER COLUMN $retyped{$table} TYPE text USING $retyped{$table}::text", undef ] if $retyped{$table};
	foreach (@changes)
	{
		my ($what, $do, $undo) = @$_;
		my $type = defined $retyped{$table} && !defined $undo ? $node->safe_psql('postgres',
			"SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'herald_internal.$table'::regclass AND attname = '$retyped{$table}'") : '';
		$undo //= "ALTER COLUMN $retyped{$table} TYPE $type USING $retyped{$table}::$type";
		s/^!// || s/^/ALTER TABLE herald_internal.$table / foreach ($do, $undo);
		next if $node->psql('postgres', $do) != 0;  # views depend on it, or rows that are there
		only_refusals("$table, $what", work_on('postgres'));
		$node->safe_psql('postgres', $undo);
	}
	handles_again("$table is as it was");
}
is($node->safe_psql('postgres', q(SELECT ok FROM herald.status() WHERE name = 'tables')), 't', 'status says that all is as it was');
wait_idle($node, 'work');
is($node->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT message_id) FROM app.effects'), '0', 'nothing is handled twice');

# status() and the log tell.
$node->safe_psql('postgres', 'ALTER TABLE herald_internal.settled_1 ADD CONSTRAINT extra CHECK (true)');
is($node->safe_psql('postgres', q(SELECT ok, value, hint IS NOT NULL FROM herald.status() WHERE name = 'tables')),
	'f|settled_1: It has a check constraint "extra".|t', 'status names what was changed');
wait_for('the log says why no task runs', sub { log_lines($node, qr/no task is run, as table "herald_internal\.\w+"/) > 0 });
$node->safe_psql('postgres', 'ALTER TABLE herald_internal.settled_1 DROP CONSTRAINT extra');
handles_again('without it');

# Columns that are gone.
$node->safe_psql('postgres', 'CREATE DATABASE dropped');
install_herald($node, 'dropped');
$node->safe_psql('dropped', $setup);
work_on('dropped');
$node->safe_psql('dropped', 'DROP VIEW stored');
# None that a view of the extension needs: with CASCADE the extension would go.
# Some are refused at once.
$node->psql('dropped', "ALTER TABLE herald_internal.$_") foreach ('log_0 DROP COLUMN schema_version', 'parked_store DROP COLUMN schema_version',
	'pointer_store DROP COLUMN bytes', 'audit_target DROP COLUMN salt', 'subscription_store DROP COLUMN database_oid');
only_refusals('columns that are gone', grep { !/42P01/ } work_on('dropped'));

# An index has entries for what is put into the heap past the executor, and does not decide what is found.
reload_with($node, 'herald.rotation_period' => '1s');
$node->safe_psql('postgres', q(ALTER DATABASE postgres SET enable_seqscan = off));
foreach my $index ('channel_id', 'id', 'channel_id, id', "channel_id) WHERE (key = 'x'", 'lower(key)')
{
	$node->safe_psql('postgres', "CREATE INDEX extra_$_ ON herald_internal.log_$_ ($index)") foreach 0 .. 2;
	$node->safe_psql('postgres', "CREATE INDEX extra_settled_$_ ON herald_internal.settled_$_ (subscription_id)") foreach 0 .. 2;
	ok(end_process($node, 'TERM', 'announcer', 'postgres') && end_process($node, 'TERM', 'dispatcher', 'postgres'), "$index: processes begin anew");
	$node->safe_psql('postgres', q(SELECT herald.pause('work')));
	my $first = $node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}', key => 'x')));
	my $batch = $node->safe_psql('postgres', q(SELECT count(*) FROM herald.publish_batch('jobs', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, 50)))));
	is($node->safe_psql('postgres', "SELECT count(*) FROM herald.tasks WHERE message_id >= $first"), '51', "$index: all wait");
	sqlstate_is($node, q(SELECT herald.unsubscribe('work')), '2BP01', "$index: unsubscribing would lose them");
	wait_until($node, q(SELECT count(*) = 0 FROM stored), "$index: the log is emptied");
	is($node->safe_psql('postgres', "SELECT count(*) FROM herald_internal.parked_store WHERE message_id >= $first"), '51', "$index: all are parked");
	$node->safe_psql('postgres', q(SELECT herald.resume('work')));
	wait_idle($node, 'work');
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.effects WHERE message_id >= $first"), '51', "$index: and handled");
	$node->safe_psql('postgres', "DROP INDEX herald_internal.extra_$_, herald_internal.extra_settled_$_") foreach 0 .. 2;
}

clean_log($node);
done_testing();
