# A role is who it is, not what it is called: renamed it keeps its channels, privileges, subscriptions and feeds, in all
# databases; a new role of an old name has none of them. A handler is the function that was meant, and not what a
# stranger has put in the place of its name.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

use PostgreSQL::Test::Utils;

my $node = start_node('names', conf => "herald.sweep_interval = '1s'");
$node->safe_psql('postgres', 'CREATE DATABASE second');
install_herald($node, $_) for qw(postgres second);
$node->safe_psql('postgres', 'CREATE ROLE ren LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE mallory LOGIN');
for my $database (qw(postgres second))
{
	$node->safe_psql($database, <<"SQL");
GRANT CREATE ON DATABASE $database TO ren, mallory;
GRANT INSERT ON app.effects TO ren;
SET SESSION AUTHORIZATION ren;
SELECT herald.create_channel('rens', announce => 'off'), herald.create_channel('changes');
SELECT herald.grant_channel('rens', 'reader', '{publish,read}');
CREATE SCHEMA rens;
CREATE FUNCTION rens.work(task herald.task) RETURNS void LANGUAGE sql AS \$\$
    INSERT INTO app.effects (subscription, message_id, attempt, payload) VALUES (current_user || ':' || task.subscription, task.message_id, task.attempt, task.payload) \$\$;
CREATE FUNCTION rens.fail(task herald.task) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'secret'; END \$\$;
SELECT herald.subscribe('work', 'rens', 'rens.work'), herald.subscribe('fail', 'rens', 'rens.fail', max_attempts => 1);
CREATE TABLE rens.rows (id int PRIMARY KEY);
SELECT herald.enable_change_feed('rens.rows', 'changes');
SQL
}

sub as { my ($role, $sql, $database) = @_; return $node->safe_psql($database // 'postgres', "SET SESSION AUTHORIZATION $role; $sql"); }
sub ran { my ($role, $count, $name, %options) = @_; return wait_until($node, "SELECT count(*) = $count FROM app.effects WHERE subscription = '$role'", $name, %options); }

# What a role sees of its own.
my $seen = q(SELECT (SELECT count(*) FROM herald.channels WHERE channel IN ('rens', 'changes')), (SELECT count(*) FROM herald.subscriptions),
	(SELECT count(*) FROM herald.failure_log), (SELECT count(*) FROM herald.dead_letters), (SELECT count(*) FROM herald.change_feeds));

as('ren', q(SELECT herald.publish('rens', '{}')), $_) for qw(postgres second);
wait_until($node, q(SELECT count(*) = 1 FROM herald.dead_letters), "$_: the first ones", database => $_) for qw(postgres second);
ran('ren:work', 1, "$_: and ran", database => $_) for qw(postgres second);
is(as('ren', $seen, $_), '2|2|1|1|1', "$_: the owner sees what is his") for qw(postgres second);

# In between, before the names in the tables have followed, too.
my $locker = $node->background_psql('second');
$locker->query_safe('BEGIN; SELECT FROM herald_internal.channel_store FOR NO KEY UPDATE; SELECT FROM herald_internal.channel_grant_store FOR NO KEY UPDATE; SELECT FROM herald_internal.subscription_store FOR NO KEY UPDATE');
$node->safe_psql('postgres', 'ALTER ROLE ren RENAME TO ren2; CREATE ROLE ren LOGIN; ALTER ROLE reader RENAME TO reader2; CREATE ROLE reader LOGIN;
	GRANT CREATE ON DATABASE postgres TO ren; GRANT CREATE ON DATABASE second TO ren');
for my $database (qw(postgres second))
{
	my $tell = "renamed, in $database";
	is(as('ren2', $seen, $database), '2|2|1|1|1', "$tell: sees what is his");
	is(as('ren', $seen, $database), '0|0|0|0|0', "$tell: a new role of the name sees nothing");
	is($node->safe_psql($database, q(SELECT string_agg(DISTINCT owner, ' ') FROM (SELECT owner FROM herald.channels UNION ALL SELECT owner FROM herald.subscriptions
		UNION ALL SELECT run_as FROM herald.subscriptions UNION ALL SELECT owner FROM herald.change_feeds) AS o)), 'ren2', "$tell: the views have the new name");
	is($node->safe_psql($database, q(SELECT privileges FROM herald.channels WHERE channel = 'rens')), '{"reader2=publish,read"}', "$tell: of grantees, too");
	my ($id) = acknowledged($node, "SET SESSION AUTHORIZATION reader2;\nSELECT herald.publish('rens', '{}');", $database);
	is(as('reader2', "SELECT herald.fetch($id)", $database), '{}', "$tell: privileges go with the role");
	ran('ren2:work', 1, "$tell: handlers run as it", database => $database);
	wait_until($node, q(SELECT count(*) = 2 FROM herald.dead_letters), "$tell: and fail as it", database => $database);
	as('ren2', q(INSERT INTO rens.rows VALUES (1)), $database);
	is($node->safe_psql($database, q(SELECT count(*) FROM stored JOIN herald_internal.channel_store AS c ON c.id = channel_id WHERE c.channel = 'changes')), '1', "$tell: its feed publishes");
	is(as('ren2', 'SELECT ok FROM herald.change_feeds', $database), 't', "$tell: and is all right");
	# These look under a lock.
	$locker->quit if $database eq 'second';
	sqlstate_is($node, $_, '42501', "$tell: $_: not for the new role of the name", role => 'ren', database => $database)
	  for q(SELECT herald.alter_channel('rens', description => 'mine')), q(SELECT herald.drop_channel('rens', force => true)), q(SELECT herald.grant_channel('rens', 'ren')),
	  q(SELECT herald.publish('rens', '{}')), q(SELECT herald.pause('work')), q(SELECT herald.replay_all('fail')), q(SELECT herald.subscribe('mine', 'rens', 'rens.work'));
	sqlstate_is($node, q(SELECT herald.publish('rens', '{}')), '42501', "$tell: nor are privileges", role => 'reader', database => $database);
	is($node->safe_psql($database, q(SELECT herald.has_channel_privilege('reader', 'rens', 'publish'), herald.has_channel_privilege('reader2', 'rens', 'publish'))), 'f|t', "$tell: which can be asked for");

	# Who bears a name is granted and revoked; who bore it is not concerned.
	as('ren2', q(SELECT herald.grant_channel('rens', 'reader')), $database) unless $database eq 'second';
	as('ren2', q(SELECT herald.revoke_channel('rens', 'reader')), $database) unless $database eq 'second';
	is($node->safe_psql($database, q(SELECT herald.has_channel_privilege('reader2', 'rens', 'publish'))), 't', "$tell: revoked from the new one only");
}
wait_until($node, q(SELECT (SELECT bool_and(owner = 'ren2') FROM herald_internal.channel_store) AND (SELECT bool_and(grantee = 'reader2') FROM herald_internal.channel_grant_store)
	AND (SELECT bool_and((owner, run_as, handler_owner) = ('ren2', 'ren2', 'ren2')) FROM herald_internal.subscription_store) AND (SELECT owner = 'ren2' FROM herald_internal.change_feed_store)),
	"the names in the tables of $_ follow", database => $_) for qw(postgres second);

# A grantee that is dropped.
$node->safe_psql('postgres', q(CREATE ROLE brief; SELECT herald.grant_channel('rens', 'brief'); DROP ROLE brief; CREATE ROLE brief));
is($node->safe_psql('postgres', q(SELECT herald.has_channel_privilege('brief', 'rens', 'publish'))), 'f', 'a new role does not inherit a privilege');
wait_until($node, q(SELECT count(*) = 0 FROM herald_internal.channel_grant_store WHERE grantee = 'brief'), 'the privilege goes');

# The owner of a subscription: what he may not any more, nobody may for his being gone.
$node->safe_psql('postgres', q(CREATE ROLE boss LOGIN; GRANT app TO boss;
	SELECT herald.create_channel('jobs'), herald.grant_channel('jobs', 'boss', '{publish,subscribe}')));
as('boss', q(SELECT herald.subscribe('job', 'jobs', 'app.work', run_as => 'app')));
as('boss', q(SELECT herald.publish('jobs', '{}')));
ran('job', 1, 'runs at first');
sub held_for
{
	my ($subscription, $reason, $name) = @_;
	wait_until($node, "SELECT state = 'held' FROM herald.subscriptions WHERE subscription = '$subscription'", "$name: held");
	like($node->safe_psql('postgres', "SELECT reason FROM herald.subscriptions WHERE subscription = '$subscription'"), $reason, "$name: the reason");
	return;
}
sub held_again
{
	my ($subscription, $reason, $name) = @_;
	my $before = $node->safe_psql('postgres', "SELECT count(*) FROM herald.failure_log WHERE subscription = '$subscription'");
	$node->safe_psql('postgres', "SELECT herald.resume('$subscription')");
	wait_until($node, "SELECT count(*) > $before FROM herald.failure_log WHERE subscription = '$subscription'", "$name: found again");
	return held_for($subscription, $reason, $name);
}
$node->safe_psql('postgres', 'REVOKE app FROM boss');
$node->safe_psql('postgres', q(SELECT herald.publish('jobs', '{}')));
held_for('job', qr/no longer a member/, 'owner no longer a member');
$node->safe_psql('postgres', 'DROP ROLE boss');
held_again('job', qr/owner "boss" was dropped/, 'owner dropped');
$node->safe_psql('postgres', 'CREATE ROLE boss LOGIN; GRANT app TO boss');
held_again('job', qr/owner "boss" was dropped/, 'owner made anew');
like($node->safe_psql('postgres', q(SELECT value FROM herald.status() WHERE name = 'roles')), qr/job.*was dropped/, 'status says so');
sqlstate_is($node, $_, '42501', "$_: not for the new role", role => 'boss')
  for q(SELECT herald.resume('job')), q(SELECT herald.alter_subscription('job', owner => 'boss')), q(SELECT herald.unsubscribe('job', force => true));
is($node->safe_psql('postgres', q(SELECT count(*) FROM app.effects WHERE subscription = 'job')), '1', 'nothing ran meanwhile');

# Another owner.
$node->safe_psql('postgres', 'CREATE ROLE heir LOGIN; CREATE ROLE poor LOGIN; GRANT app TO heir');
sqlstate_is($node, q(SELECT herald.alter_subscription('job', owner => 'nobody')), '42704', 'an owner that does not exist');
sqlstate_is($node, q(SELECT herald.alter_subscription('job', owner => 'poor')), '42501', 'an owner that may not become the role');
$node->safe_psql('postgres', q(SELECT herald.alter_subscription('job', owner => 'heir')));
ran('job', 2, 'a new owner takes it off hold');
is($node->safe_psql('postgres', q(SELECT owner, state FROM herald.subscriptions WHERE subscription = 'job')), 'heir|active', 'which is the owner');
sqlstate_is($node, q(SELECT herald.alter_subscription('job', owner => 'poor')), '42501', 'not to a role that one is no member of', role => 'heir');
$node->safe_psql('postgres', 'GRANT poor TO heir; GRANT app TO poor');
sqlstate_is($node, q(SELECT herald.alter_subscription('job', owner => 'poor')), '42501', 'nor to one that may not subscribe', role => 'heir');
$node->safe_psql('postgres', q(SELECT herald.grant_channel('jobs', 'poor', '{subscribe}')));
as('heir', q(SELECT herald.alter_subscription('job', owner => 'poor')));
is(as('poor', q(SELECT herald.pause('job', '20 s'))), 't', 'which has it then');

# The handler that was meant. `$place` makes another function of its name.
my $runs = 0;
sub taken_over
{
	my ($name, $break, $place, $mend) = @_;
	$node->safe_psql('postgres', "SET SESSION AUTHORIZATION ren2; CREATE SCHEMA box; CREATE FUNCTION box.work(task herald.task) RETURNS SETOF int LANGUAGE sql AS
		\$\$ INSERT INTO app.effects (subscription, message_id, attempt) VALUES ('box', task.message_id, 0) RETURNING 1 \$\$; SELECT herald.subscribe('box', 'boxes', 'box.work')");
	as('ren2', q(SELECT herald.publish('boxes', '{}')));
	ran('box', ++$runs, "$name: runs at first");
	as('ren2', $break);
	$node->safe_psql('postgres', $place);
	my ($id) = acknowledged($node, "SELECT herald.publish('boxes', '{\"secret\": 42}');");
	held_for('box', qr/box.*belongs to role "mallory" now, not to "ren2"/, $name);
	held_again('box', qr/belongs to role "mallory" now/, "$name, resumed");
	like($node->safe_psql('postgres', q(SELECT value FROM herald.status() WHERE name = 'handlers')), qr/belongs to role "mallory"/, "$name: status says so");
	sqlstate_is($node, q(SELECT herald.alter_subscription('box', run_as => 'ren2')), '42501', "$name: it must be named again");
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT message, '; ') FROM herald.failure_log WHERE subscription = 'box' AND message LIKE 'mallory%'"), '', "$name: never run");
	$node->safe_psql('postgres', "$mend; SELECT herald.resume('box')");
	ran('box', ++$runs, "$name: mended");
	$node->safe_psql('postgres', q(SELECT herald.unsubscribe('box', force => true), herald.drop_channel('boxes', force => true); DROP SCHEMA IF EXISTS box CASCADE;
		DROP SCHEMA IF EXISTS boxed CASCADE));
	return;
}
my $evil = q(FUNCTION box.work(task herald.task) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'mallory runs as %', current_user; END $$);
my $planted = "SET SESSION AUTHORIZATION mallory; CREATE SCHEMA box; GRANT USAGE ON SCHEMA box TO PUBLIC; CREATE $evil; RESET SESSION AUTHORIZATION";
taken_over('schema renamed', 'ALTER SCHEMA box RENAME TO boxed', $planted, 'DROP SCHEMA box CASCADE; ALTER SCHEMA boxed RENAME TO box');
taken_over('schema dropped', 'DROP SCHEMA box CASCADE', $planted, q(DROP SCHEMA box CASCADE; SET SESSION AUTHORIZATION ren2; CREATE SCHEMA box; CREATE FUNCTION box.work(task herald.task) RETURNS void
	LANGUAGE sql AS $$ INSERT INTO app.effects (subscription, message_id, attempt) VALUES ('box', task.message_id, 0) $$; RESET SESSION AUTHORIZATION));
taken_over('function given away', 'SELECT 1', 'ALTER FUNCTION box.work(herald.task) OWNER TO mallory', q(SELECT herald.alter_subscription('box', handler => 'box.work')));
# Of whom the role's are anyway.
$node->safe_psql('postgres', q(DROP FUNCTION rens.fail; CREATE FUNCTION rens.fail(task herald.task) RETURNS void LANGUAGE sql AS $$
	INSERT INTO app.effects (subscription, message_id, attempt) VALUES ('superuser', task.message_id, 0) $$));
$node->safe_psql('postgres', q(SELECT herald.publish('rens', '{}')));
ran('superuser', 1, 'a function of a superuser may take the place');

# Counting up ids tells nothing of what is private, and locks nothing of it.
$node->safe_psql('postgres', q(SET SESSION AUTHORIZATION ren2; CREATE TABLE rens.parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
	CREATE TABLE rens.part PARTITION OF rens.parts FOR VALUES FROM (1) TO (9); SELECT herald.enable_change_feed('rens.parts', 'changes'); ALTER TABLE rens.part DISABLE TRIGGER ALL));
my ($dead, $id) = split /\|/, $node->safe_psql('postgres', 'SELECT id, message_id FROM herald.dead_letters LIMIT 1');
my $feed = $node->safe_psql('postgres', q(SELECT max(id) FROM herald_internal.change_feed_store));
isnt(as('ren2', "SELECT herald_internal.feed_problem($feed)"), '', 'the owner is told of a fault');
is(as('mallory', "SELECT herald.fetch($id) IS NULL, herald.fetch(-1) IS NULL, herald.replay($dead), herald.replay(-1), herald_internal.feed_problem($feed) IS NULL"), 't|t|f|f|t',
	'a stranger hears the same of what is there and of what is not');
my $session = $node->background_psql('postgres');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe("SET SESSION AUTHORIZATION mallory; BEGIN; SELECT herald_internal.feed_problem(id) FROM generate_series(1, $feed) AS id; SELECT FROM herald.change_feeds");
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation WHERE l.pid = $pid AND c.relnamespace = 'rens'::regnamespace"), '0',
	'no table of others is locked');
$session->quit;

# Elsewhere the name counts, until the role is known: here oids are other ones.
my $dump = "${PostgreSQL::Test::Utils::tmp_check}/dump.sql";
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('second') ], 'pg_dump');
my $other = start_node('other', conf => "herald.sweep_interval = '1s'");
$other->safe_psql('postgres', 'CREATE ROLE mallory LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE ren LOGIN; CREATE ROLE ren2 LOGIN; CREATE ROLE app LOGIN');
$other->safe_psql('postgres', 'CREATE DATABASE second');
$other->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('second'), '-f', $dump ], 'restored');
is($other->safe_psql('second', "SET SESSION AUTHORIZATION $_->[0]; $seen"), $_->[1], "restored: $_->[0]") for [ 'ren2', '2|2|2|2|1' ], [ 'ren', '0|0|0|0|0' ], [ 'mallory', '0|0|0|0|0' ];
is($other->safe_psql('second', q(SELECT privileges FROM herald.channels WHERE channel = 'rens')), '{"reader2=publish,read"}', 'a role that is missing keeps its privilege');
$other->safe_psql('postgres', 'CREATE ROLE reader2');
is($other->safe_psql('second', q(SELECT herald.has_channel_privilege('reader2', 'rens', 'publish'))), 't', 'until it comes');
my $noted = q(SELECT bool_and(split_part(role, '/', 1) = (SELECT system_identifier::text FROM pg_control_system())) FROM );
wait_until($other, "$noted (SELECT owner_role FROM herald_internal.channel_store UNION ALL SELECT grantee_role FROM herald_internal.channel_grant_store UNION ALL SELECT owner_role FROM herald_internal.change_feed_store) AS r (role)",
	'roles of channels are noted', database => 'second');
my $of_subscriptions = "$noted (SELECT unnest(ARRAY[owner_role, run_as_role, handler_owner_role]) FROM herald_internal.subscription_store UNION ALL SELECT run_as_role FROM herald_internal.failure_store) AS r (role)";
is($other->safe_psql('second', $of_subscriptions), 'f', 'those of subscriptions are not yet');
$other->safe_psql('second', 'SELECT herald.activate()');
is($other->safe_psql('second', $of_subscriptions), 't', 'now they are');
$other->safe_psql('postgres', 'ALTER ROLE ren2 RENAME TO ren3; CREATE ROLE ren2 LOGIN');
is($other->safe_psql('second', "SET SESSION AUTHORIZATION $_->[0]; $seen"), $_->[1], "activated, then renamed: $_->[0]") for [ 'ren3', '2|2|2|2|1' ], [ 'ren2', '0|0|0|0|0' ];
$other->safe_psql('second', q(SET SESSION AUTHORIZATION ren3; SELECT herald.publish('rens', '{}')));
wait_until($other, q(SELECT count(*) = 1 FROM app.effects WHERE subscription = 'ren3:work'), 'and runs there', database => 'second');
clean_log($_) for $node, $other;

done_testing();
