# A handler runs as its subscription's role and as nobody else, to the last deferred trigger; and nobody has
# rights on the tables of the extension by which a handler, or a worker, could be led astray.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('rights');
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE publisher LOGIN;
CREATE ROLE owner LOGIN;
CREATE ROLE stranger LOGIN;
GRANT app TO owner;
GRANT CREATE ON DATABASE postgres TO owner;
CREATE SCHEMA shared; GRANT ALL ON SCHEMA shared TO PUBLIC;
CREATE TABLE shared.who (what text, cu text, su text, super text, message_id bigint);
GRANT INSERT, SELECT ON shared.who TO PUBLIC;
CREATE TABLE shared.trapped (n int);
GRANT INSERT ON shared.trapped TO PUBLIC;
CREATE FUNCTION shared.trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shared.who VALUES (TG_ARGV[0], current_user, session_user, current_setting('is_superuser'));
    RETURN NULL;
END $$;
CREATE TRIGGER now AFTER INSERT ON shared.trapped FOR EACH ROW EXECUTE FUNCTION shared.trap('immediate');
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON shared.trapped DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION shared.trap('deferred');
CREATE FUNCTION shared.who(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shared.who VALUES ('handler', current_user, session_user, current_setting('is_superuser'), task.message_id);
    INSERT INTO shared.trapped VALUES (1);
END $$;
CREATE FUNCTION shared.do(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE task.payload ->> 'do';
END $$;
SELECT herald.subscribe('do', 'do', 'shared.do', run_as => 'app', max_attempts => 1);
SQL

# Owner, publisher and role are three.
$node->safe_psql('postgres', q(
	SET SESSION AUTHORIZATION owner;
	SELECT herald.subscribe('who', 'jobs', 'shared.who', run_as => 'app')));
my ($id) = acknowledged($node, "SET SESSION AUTHORIZATION publisher;\nSELECT herald.publish('jobs', '{}');");
wait_until($node, "SELECT count(*) = 3 FROM shared.who", 'the handler ran');
is($node->safe_psql('postgres', 'SELECT what, cu, su, super FROM shared.who ORDER BY what'),
	"deferred|app|app|off\nhandler|app|app|off\nimmediate|app|app|off", 'as its role, down to the deferred trigger');
is($node->safe_psql('postgres', "SELECT published_by FROM stored WHERE id = $id"), 'publisher', 'the publisher is known');
is($node->safe_psql('postgres', "SELECT DISTINCT usename FROM pg_stat_activity WHERE backend_type = 'pg_herald worker'"), 'app', 'the worker is connected as the role');

# What a handler may not do, whatever it tries.
for my $do ('CREATE ROLE evil SUPERUSER', 'ALTER ROLE app SUPERUSER', 'RESET ROLE; CREATE ROLE evil', 'RESET SESSION AUTHORIZATION; CREATE ROLE evil',
	'SET ROLE postgres', 'SET ROLE owner', 'SET SESSION AUTHORIZATION postgres', 'DELETE FROM herald_internal.subscription_store', 'SELECT * FROM herald_internal.log_0',
	"UPDATE herald_internal.subscription_store SET run_as = ''postgres''", 'INSERT INTO herald_internal.settled_0 VALUES (1, ARRAY[1])',
	"COPY shared.who TO PROGRAM ''true''", 'DROP EXTENSION pg_herald', 'TRUNCATE herald_internal.log_0',
	"SELECT herald.subscribe(''evil'', ''do'', ''shared.do'', run_as => ''postgres'')", "SELECT herald.alter_subscription(''who'', handler => ''shared.do'')",
	"SELECT herald.unsubscribe(''who'')", "SELECT herald.pause(''who'')", "SELECT herald_internal.next_id(''message'')", "SELECT herald.activate()")
{
	my $json = $do =~ s/"/\\"/gr;
	my ($tried) = publish_many($node, 'do', 1, payload => qq({"do": "$json"}));
	wait_until($node, "SELECT count(*) = 1 FROM herald.failure_log WHERE message_id = $tried", "$do is refused");
	is($node->safe_psql('postgres', "SELECT error_code FROM herald.failure_log WHERE message_id = $tried"), '42501', "$do: for want of the right");
}
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname = 'evil' OR (rolsuper AND rolname <> 'postgres')"), '0', 'no new superuser');

# Nobody may touch the tables and sequences, except those who may do anything.
is($node->safe_psql('postgres', <<'SQL'), '', 'PUBLIC has no privilege on tables but to read the views');
SELECT c.relname, a.privilege_type FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS a
 WHERE n.nspname IN ('herald', 'herald_internal') AND a.grantee <> c.relowner AND a.grantee <> 'pg_database_owner'::regrole AND NOT (c.relkind = 'v' AND a.grantee = 0 AND a.privilege_type = 'SELECT')
SQL
for my $privilege (qw(SELECT INSERT UPDATE DELETE TRUNCATE REFERENCES TRIGGER))
{
	is($node->safe_psql('postgres', <<"SQL"), '', "no role has $privilege on the tables");
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace, pg_roles AS r
 WHERE n.nspname IN ('herald', 'herald_internal') AND c.relkind = 'r' AND r.rolname IN ('app', 'stranger', 'owner', 'publisher') AND has_table_privilege(r.oid, c.oid, '$privilege')
SQL
}
is($node->safe_psql('postgres', <<'SQL'), '', 'nor CREATE in the schema');
SELECT rolname FROM pg_roles WHERE rolname IN ('app', 'stranger', 'owner') AND (has_schema_privilege(oid, 'herald', 'CREATE') OR has_schema_privilege(oid, 'herald_internal', 'CREATE'))
SQL
sqlstate_is($node, $_, '42501', "$_: refused to a stranger", role => 'stranger')
  for 'CREATE TRIGGER t AFTER INSERT ON herald_internal.log_0 FOR EACH ROW EXECUTE FUNCTION shared.trap()', 'CREATE RULE r AS ON INSERT TO herald_internal.log_0 DO NOTHING',
  'INSERT INTO herald_internal.parked_store SELECT * FROM herald_internal.parked_store', 'ALTER TABLE herald_internal.log_0 DISABLE TRIGGER ALL', 'CREATE INDEX ON herald_internal.log_0 (id)',
  'CREATE FUNCTION herald.publish(text) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$';

# Subscribing: only as a role one may become, with handlers one may execute, to channels one may read.
$node->safe_psql('postgres', q(
	SELECT herald.create_channel('private');
	CREATE FUNCTION shared.secret(task herald.task) RETURNS void LANGUAGE sql AS 'SELECT 1';
	REVOKE EXECUTE ON FUNCTION shared.secret FROM PUBLIC));
sqlstate_is($node, $_, '42501', "$_: refused to a stranger", role => 'stranger')
  for "SELECT herald.subscribe('s', 'jobs', 'shared.do', run_as => 'app')", "SELECT herald.subscribe('s', 'jobs', 'shared.do', run_as => 'postgres')",
  "SELECT herald.subscribe('s', 'private', 'shared.do')", "SELECT herald.subscribe('s', 'jobs', 'shared.secret')", "SELECT herald.publish('private', '{}')",
  "SELECT herald.pause('who')", "SELECT herald.unsubscribe('who', force => true)", "SELECT herald.replay_all('who')", "SELECT herald.drop_channel('private', force => true)",
  "SELECT herald.grant_channel('private', 'stranger')", 'SELECT herald.activate()', "SELECT herald.reset_stats('jobs')";
is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION stranger; SELECT herald.fetch($id) IS NULL"), 't', 'a message of a channel without read is not there for a stranger');
is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION stranger; SELECT (SELECT count(*) FROM herald.subscriptions), (SELECT count(*) FROM herald.tasks),
	(SELECT count(*) FROM herald.failure_log), (SELECT count(*) FROM herald.dead_letters), (SELECT count(*) FROM herald.workers WHERE kind = 'worker')"),
	'0|0|0|0|0', 'a stranger sees nothing in the views');

# A handler's search_path is the role's own, and a function planted in front changes nothing.
$node->safe_psql('postgres', q(
	SET SESSION AUTHORIZATION stranger;
	CREATE FUNCTION shared.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted'; END $$;
	CREATE OPERATOR shared.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int8ne);
	CREATE OPERATOR shared.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4ne);
	RESET SESSION AUTHORIZATION;
	ALTER DATABASE postgres SET search_path = shared, pg_catalog, public));
signal_process('TERM', $_) for pids_of($node, 'worker'), pids_of($node, 'dispatcher'), pids_of($node, 'announcer');
($id) = acknowledged($node, "SELECT herald.publish('jobs', '{}');");
wait_until($node, "SELECT count(*) OPERATOR(pg_catalog.=) 1 FROM shared.who WHERE message_id OPERATOR(pg_catalog.=) $id", 'a planted search_path changes nothing');
my ($failed) = acknowledged($node, "SELECT herald.publish('do', '{\"do\": \"nonsense\"}');");
wait_until($node, "SELECT pg_catalog.count(*) OPERATOR(pg_catalog.=) 1 FROM herald.dead_letters WHERE message_id OPERATOR(pg_catalog.=) $failed", 'nor for what is recorded');
is($node->safe_psql('postgres', "SELECT herald.wait_idle('who', '20 s'), herald.pause('who', '20 s'), herald.replay_all('do') OPERATOR(pg_catalog.>) 1::bigint"), 't|t|t', 'nor for the functions');
clean_log($node);

done_testing();
