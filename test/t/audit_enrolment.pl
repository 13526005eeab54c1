# Audited tables stay audited: with partitions that come and go, through renames, dump and restore; what
# is masked stays so. The trail is emptied when its time is over, and not before.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use PostgreSQL::Test::Utils;

my $node = start_node('audit');
$node->safe_psql('postgres', q(
	CREATE EXTENSION pg_herald;
	CREATE ROLE keeper LOGIN;
	CREATE ROLE auditor LOGIN;
	GRANT CREATE ON SCHEMA public TO keeper;
	GRANT SELECT ON herald.audit_log TO auditor));

# As its owner, who is no superuser. Columns that are dropped make the numbers others in the copy.
sub as_keeper { my ($sql, $where, $database) = @_; return ($where // $node)->safe_psql($database // 'postgres', "SET ROLE keeper; $sql") }
as_keeper(q(
	CREATE TABLE orders (gone integer, id integer PRIMARY KEY, gone_too text, card text, email text, note text);
	ALTER TABLE orders DROP gone, DROP gone_too;
	SELECT herald.enable_audit('orders', mask => '{card,hash:email}', exclude => '{note}');
	CREATE TABLE events (id integer, day date, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	SELECT herald.enable_audit('events', 'diff');
	CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
	CREATE TABLE passing (id integer PRIMARY KEY);
	SELECT herald.enable_audit('passing');
	INSERT INTO orders VALUES (1, 'secret card', 'secret@mail', 'secret note'), (2, 'secret card', 'secret@mail', 'secret note');
	INSERT INTO events VALUES (1, '2020-05-05', 'a'), (2, '2021-05-05', 'b');
	INSERT INTO events_2 VALUES (3, '2021-06-06', 'c')));

my $shown = q(SELECT operation, table_name, record_id, old, new, changed FROM herald.audit_log WHERE operation IN ('insert', 'update', 'delete', 'truncate') ORDER BY changed_at, sequence);
my $secret = q(SELECT count(*) FROM herald.audit_log AS l WHERE l::text LIKE '%secret%');
is($node->safe_psql('postgres', q(SELECT table_name, count(*) FROM herald.audit_log WHERE operation = 'insert' GROUP BY 1 ORDER BY 1)), "events|2\nevents_2|1\norders|2", 'all that was inserted is recorded');
is($node->safe_psql('postgres', $secret), '0', 'nothing that is hidden is');

# Renamed, columns are hidden as before; the new one of that name is not.
as_keeper(q(
	ALTER TABLE orders RENAME card TO plastic;
	ALTER TABLE orders RENAME note TO remark;
	ALTER TABLE orders RENAME id TO number;
	ALTER TABLE orders ADD card text;
	UPDATE orders SET plastic = 'secret plastic', remark = 'secret remark', email = 'secret@other', card = 'open' WHERE number = 1;
	UPDATE orders SET number = 10 WHERE number = 1;
	DELETE FROM orders WHERE number = 2));
is($node->safe_psql('postgres', $secret), '0', 'nor when it is renamed');
is($node->safe_psql('postgres', q(SELECT new ->> 'card', new ->> 'plastic' FROM herald.audit_log WHERE operation = 'update' ORDER BY changed_at LIMIT 1)), 'open|***', 'a new column of the old name is not hidden');
my $history = q(SELECT operation, record_id, old_record_id FROM herald.audit_history('orders', '{"number": 10}'));
my $expected = qq(insert|{"id": 1}|\nupdate|{"number": 1}|\nupdate|{"number": 10}|{"number": 1});
is(as_keeper($history), $expected, 'the history of a row goes through renamed keys and changed ones');
is(as_keeper(q(SELECT operation FROM herald.audit_history('orders', '{"id": 2}'))), "insert\ndelete", 'the old name will do');
is(sqlstate_of($node, $history, role => 'auditor'), '00000', 'an auditor may see it');

# Partitions leave while others go on.
$node->safe_psql('postgres', 'ALTER TABLE events DETACH PARTITION events_2 CONCURRENTLY');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_trigger WHERE tgrelid = 'events_2'::regclass)), '0', 'detached concurrently, a partition has no triggers');
as_keeper(q(INSERT INTO events_2 VALUES (4, '2021-07-07', 'unseen');
	ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
	UPDATE events_2 SET body = 'seen' WHERE id = 4));
is($node->safe_psql('postgres', q(SELECT string_agg(operation, ' ' ORDER BY changed_at, sequence) FROM herald.audit_log WHERE table_name LIKE 'events%' AND operation NOT IN ('insert'))), 'enable_audit attach detach attach update', 'and attached again, it has');
is($node->safe_psql('postgres', q(SELECT bool_and(ok) FROM herald.audited_tables)), 't', 'all triggers are there');

# Sessions that are open learn of all of it.
my $session = $node->background_psql('postgres');
$session->query_safe('INSERT INTO orders (number) VALUES (60); CREATE TABLE quiet (id integer PRIMARY KEY, word text); INSERT INTO quiet VALUES (1);');
$node->safe_psql('postgres', q(SELECT herald.enable_audit('orders', mask => '{plastic,hash:email,card}', exclude => '{remark}'); SELECT herald.enable_audit('quiet')));
$session->query_safe(q(INSERT INTO orders (number, card) VALUES (61, 'secret'); INSERT INTO quiet VALUES (2);));
$node->safe_psql('postgres', q(SELECT herald.disable_audit('quiet')));
$session->query_safe('INSERT INTO quiet VALUES (3); BEGIN; UPDATE quiet SET word = word;');
# Who changes options waits for those who write.
my $owner = $node->background_psql('postgres');
$owner->query_until(qr/begun/, "\\echo begun\nSELECT herald.enable_audit('quiet', mask => '{word}');\n");
wait_until($node, q(SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%enable_audit%' AND pid <> pg_backend_pid()), 'enable_audit waits for writers');
$session->query_safe('COMMIT;');
$owner->query_safe('SELECT 1;');
$session->query_safe(q(UPDATE quiet SET word = 'secret' WHERE id = 3;));
is($node->safe_psql('postgres', q(SELECT string_agg(concat_ws(' ', operation, COALESCE(record_id ->> 'id', record_id ->> 'number'), new ->> 'card', new ->> 'word'), ', ' ORDER BY changed_at, sequence)
	FROM herald.audit_log WHERE table_name = 'quiet' OR record_id ->> 'number' IN ('60', '61'))),
	'insert 60, enable_audit, insert 61 ***, insert 2, disable_audit, enable_audit, update 3 ***', 'open sessions learn of new options');
$_->quit for $session, $owner;

# Into another database of the server, and into another server.
my %before = map { $_ => $node->safe_psql('postgres', $_) } ($shown, 'SELECT * FROM herald.audit_log ORDER BY id', 'SELECT * FROM herald.audited_tables ORDER BY table_name', 'SELECT target_id, version, names, renamed FROM herald_internal.audit_key ORDER BY 1, 2');
my $dump = "${PostgreSQL::Test::Utils::tmp_check}/audit";
my $other = start_node('audit_copy');
$other->safe_psql('postgres', 'CREATE ROLE keeper LOGIN; CREATE ROLE auditor LOGIN; CREATE DATABASE filler');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", '-d', $node->connstr('postgres') ], 'pg_dump');
$node->command_ok([ 'pg_dump', '-f', "$dump.sql", '-d', $node->connstr('postgres') ], 'pg_dump as SQL');
$_->safe_psql('postgres', 'CREATE DATABASE copy') for $node, $other;
$node->command_ok([ 'pg_restore', '-j', '2', '-e', '-d', $node->connstr('copy'), "$dump.custom" ], 'pg_restore, in parallel');
$other->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('copy'), '-f', "$dump.sql" ], 'restored as SQL');
for my $copy ($node, $other)
{
	my $where = $copy == $node ? 'same server' : 'other server';
	is($copy->safe_psql('copy', $_), $before{$_}, "$where: $_") for sort keys %before;
	is($copy->safe_psql('copy', $history), $expected, "$where: the history of a row");
	is(sqlstate_of($copy, 'SELECT * FROM herald.audit_log', database => 'copy', role => 'auditor'), '00000', "$where: the auditor reads");
	as_keeper('DROP TABLE passing', $copy, 'copy');
	is($copy->safe_psql('copy', q(SELECT (SELECT count(*) FROM herald.audited_tables WHERE table_name = 'passing'), (SELECT count(*) FROM herald.audit_log WHERE operation = 'drop_table' AND table_name = 'passing'))),
		'0|1', "$where: a table that is dropped is an event");
	as_keeper(q(
		INSERT INTO orders (number, plastic, email, remark) VALUES (40, 'secret card', 'secret@mail', 'secret note');
		ALTER TABLE orders RENAME plastic TO credit;
		ALTER TABLE orders RENAME remark TO comment;
		ALTER TABLE orders RENAME number TO key;
		UPDATE orders SET credit = 'secret credit', comment = 'secret comment', email = 'secret@other' WHERE key = 40;
		CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2022-01-01') TO ('2023-01-01');
		INSERT INTO events_3 VALUES (40, '2022-05-05', 'd')), $copy, 'copy');
	is($copy->safe_psql('copy', q(SELECT operation, new ->> 'credit', new ->> 'comment' FROM herald.audit_history('orders', '{"key": 40}'))), "insert||\nupdate|***|", "$where: changes are recorded, under the new names");
	is($copy->safe_psql('copy', q(SELECT count(DISTINCT id) = count(*) FROM herald.audit_log)), 't', "$where: ids go on above");
	is($copy->safe_psql('copy', $secret), '0', "$where: and what is hidden stays so");
	is($copy->safe_psql('copy', q(SELECT new ->> 'email' = (SELECT new ->> 'email' FROM herald.audit_log WHERE record_id = '{"id": 1}' AND operation = 'insert')
		FROM herald.audit_log WHERE record_id = '{"number": 40}')), 't', "$where: hashes can be compared with those from before");
	is($copy->safe_psql('copy', q(SELECT count(*) FROM herald.audit_log WHERE table_name = 'events_3')), '1', "$where: a new partition is audited");
	is($copy->safe_psql('copy', q(SELECT bool_and(ok) FROM herald.audited_tables)), 't', "$where: all triggers are there");
	is($copy->safe_psql('copy', q(SELECT count(*) FROM herald.audit_log WHERE operation LIKE '%trigger')), '0', "$where: the restore is not taken for somebody's doing");
}

# Retention: a segment goes when everything in it is too old, and it is not about to be written to.
reload_with($node, 'herald.audit_retention' => '60min');
$node->poll_query_until('postgres', 'SHOW herald.audit_retention', '1h') or die "no reload\n";
$node->safe_psql('postgres', 'SELECT herald.purge_audit_log()');
my $current = q((floor(extract(epoch FROM clock_timestamp() - '2000-01-01 00:00:00+00') / 600)::bigint % 8)::integer);
my $entry = q(INSERT INTO herald_internal.audit_%s (id, context_id, changed_at, target_id, sequence, operation, schema_name, table_name) VALUES (%s, 0, clock_timestamp() - interval '%s', 1, 0, 'I', 'public', 'orders'));
my $now = $node->safe_psql('postgres', "SELECT $current");
my ($old, $mixed, $held) = map { ($now + $_) % 8 } 3, 4, 5;
$node->safe_psql('postgres', sprintf($entry, @$_)) for [ $old, 1, '2 h' ], [ $old, 2, '61 min' ], [ $mixed, 3, '2 h' ], [ $mixed, 4, '50 min' ], [ $held, 5, '2 h' ];
$node->safe_psql('postgres', "INSERT INTO herald_internal.audit_context_$old (id, transaction_id, session_user_name, current_user_name) VALUES (0, '1', 'a', 'b')");
my $reader = $node->background_psql('postgres');
$reader->query_safe("BEGIN; SELECT count(*) FROM herald_internal.audit_$held;");
end_process($node, 'TERM', 'announcer', 'postgres');
my $left = q(SELECT string_agg(id::text, ' ' ORDER BY id) FROM herald.audit_log WHERE id < 1000);
wait_until($node, $left, 'what is too old is gone, what somebody reads stays', expect => '3 4 5');
is($node->safe_psql('postgres', "SELECT count(*) FROM herald_internal.audit_context_$old"), '0', 'with its contexts');
$reader->query_safe('COMMIT;');
$reader->quit;
end_process($node, 'TERM', 'announcer', 'postgres');
wait_until($node, $left, 'until it is read', expect => '3 4');
$node->safe_psql('postgres', "SELECT herald.purge_audit_log(clock_timestamp() - interval '1 h')");
is($node->safe_psql('postgres', $left), '4', 'a purge takes single entries');
reload_with($node, 'herald.audit_retention' => undef);

# Without its library, a server can still change tables, but not audited ones unseen.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(sqlstate_of($node, 'INSERT INTO orders (number) VALUES (50)'), '55000', 'without the library, nothing is written unseen');
as_keeper('CREATE TABLE unrelated (id integer); DROP TABLE unrelated; ALTER TABLE orders RENAME plastic TO paper');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_herald'");
$node->restart;
as_keeper(q(INSERT INTO orders (number, paper) VALUES (50, 'secret')));
is($node->safe_psql('postgres', $secret), '0', 'what was renamed meanwhile is hidden');

# A column that hides its values is renamed, replaced by another one, and dropped: audited_tables tells.
$node->safe_psql('postgres', q(CREATE TABLE public.cards (id int PRIMARY KEY, card text); SELECT herald.enable_audit('public.cards', mask => '{card}');
	ALTER TABLE public.cards RENAME card TO card_old));
my $told = q(SELECT mask, ok, problem FROM herald.audited_tables WHERE table_name = 'cards');
is($node->safe_psql('postgres', $told), '{card_old}|t|', 'a mask follows its column');
$node->safe_psql('postgres', q(ALTER TABLE public.cards ADD card text; ALTER TABLE public.cards DROP card_old));
like($node->safe_psql('postgres', $told), qr/^\{card_old\}\|f\|masked column "card_old" was dropped/, 'one that is gone is a problem');
is($node->safe_psql('postgres', q(SELECT ok FROM herald.status() WHERE name = 'audit')), 'f', 'for status() as well');
$node->safe_psql('postgres', q(SELECT herald.enable_audit('public.cards', mask => '{card}'); INSERT INTO public.cards VALUES (1, '4711')));
is($node->safe_psql('postgres', $told), '{card}|t|', 'until the table is enrolled anew');
is($node->safe_psql('postgres', q(SELECT new ->> 'card' FROM herald.audit_log WHERE table_name = 'cards' AND operation = 'insert')), '***', 'with what is to be hidden');
# One that is added again under its name is hidden as before.
$node->safe_psql('postgres', q(ALTER TABLE public.cards ADD noise text; SELECT herald.enable_audit('public.cards', mask => '{card}', exclude => '{noise}');
	ALTER TABLE public.cards DROP noise));
is($node->safe_psql('postgres', q(SELECT ok, problem LIKE 'excluded column "noise" was dropped%' FROM herald.audited_tables WHERE table_name = 'cards')), 'f|t', 'an excluded one is missed as well');
$node->safe_psql('postgres', q(ALTER TABLE public.cards ADD noise text; UPDATE public.cards SET noise = 'loud'));
is($node->safe_psql('postgres', $told), '{card}|t|', 'until there is one of its name again');
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.audit_log WHERE table_name = 'cards' AND operation = 'update')), '0', 'which is excluded');

# The role of an application behind a pooler, whose session serves one client after the other.
$node->safe_psql('postgres', q(CREATE ROLE pooled LOGIN; GRANT ALL ON public.cards TO pooled; ALTER ROLE pooled SET herald.audit_context = 'app.user_id'));
my $pooled = $node->background_psql('postgres', extra_params => [ '-U', 'pooled' ]);
$pooled->query_safe(q(BEGIN; SET LOCAL app.user_id = '42'; INSERT INTO public.cards VALUES (10); COMMIT));
$pooled->query_safe(q(INSERT INTO public.cards VALUES (11)));
$pooled->query_safe(q(BEGIN; SELECT set_config('app.user_id', '43', true); INSERT INTO public.cards VALUES (12); COMMIT));
$pooled->quit;
is($node->safe_psql('postgres', q(SELECT string_agg(coalesce(context ->> 'app.user_id', 'nobody') || ' ' || session_user_name, ', ' ORDER BY id) FROM herald.audit_log WHERE table_name = 'cards' AND session_user_name = 'pooled')),
	'42 pooled, nobody pooled, 43 pooled', 'the context is that of each transaction');

# A migration that is undone: what was only set up does not keep the extension, a single change does.
$node->safe_psql('postgres', 'CREATE DATABASE undone');
$node->safe_psql('undone', q(CREATE EXTENSION pg_herald; CREATE TABLE t (id int PRIMARY KEY);
	SELECT herald.enable_audit('t'); SELECT herald.enable_audit('t', record => 'diff'); SELECT herald.disable_audit('t')));
is(sqlstate_of($node, 'BEGIN; DROP EXTENSION pg_herald', database => 'undone'), '00000', 'events of a set-up alone are no loss');
$node->safe_psql('undone', q(SELECT herald.enable_audit('t'); INSERT INTO t VALUES (1); SELECT herald.disable_audit('t')));
is(sqlstate_of($node, 'DROP EXTENSION pg_herald', database => 'undone'), '2BP01', 'a change is');
$node->safe_psql('undone', 'SELECT herald.purge_audit_log(); DROP EXTENSION pg_herald');
is($node->safe_psql('undone', q(SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'herald%')), '0', 'the schema goes, too');
clean_log($_) for $node, $other;

done_testing();
