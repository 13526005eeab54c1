# A database's owner, and whoever may ALTER a role, choose defaults for its sessions. The processes that have a
# superuser's rights take none of them: no operator of theirs, no identity, no timeout.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_node('settings_of_others', conf => <<'CONF');
herald.sweep_interval = 1
herald.rotation_period = 1
herald.pointer_retention = 1
CONF
$node->safe_psql('postgres', 'CREATE ROLE dbo LOGIN; CREATE DATABASE adb OWNER dbo');
install_herald($node, 'adb');

# Each operator of the owner's notes which privileged process has run it, and makes him superuser.
$node->safe_psql('adb', <<'SQL');
SET SESSION AUTHORIZATION dbo;
CREATE SCHEMA evil;
CREATE TABLE evil.seen (who text);
CREATE FUNCTION evil.notice() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
        INSERT INTO evil.seen SELECT backend_type FROM pg_catalog.pg_stat_activity
         WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
           AND backend_type OPERATOR(pg_catalog.<>) 'client backend';
        EXECUTE 'ALTER ROLE dbo SUPERUSER';
    END IF;
END $$;
DO $$
DECLARE type text; operator text; name text;
BEGIN
    FOREACH type IN ARRAY '{int4,int8,text,name,oid,bool,timestamptz,regclass}'::text[] LOOP
        FOREACH operator IN ARRAY '{=,<>,<,>,<=,>=}'::text[] LOOP
            name := quote_ident('op ' || type || operator);
            EXECUTE format('CREATE FUNCTION evil.%s(a pg_catalog.%s, b pg_catalog.%2$s) RETURNS boolean LANGUAGE plpgsql AS
                ''BEGIN PERFORM evil.notice(); RETURN a OPERATOR(pg_catalog.%3$s) b; END''', name, type, operator);
            EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = pg_catalog.%s, RIGHTARG = pg_catalog.%2$s, FUNCTION = evil.%3$s)',
                operator, type, name);
        END LOOP;
    END LOOP;
END $$;
SQL
my %defaults = (
	search_path => 'evil, pg_catalog',
	lock_timeout => "'1ms'",
	row_security => 'off',
	default_transaction_read_only => 'on',
	default_transaction_isolation => 'serializable',
	work_mem => "'64kB'",
	enable_seqscan => 'off',
	check_function_bodies => 'off',
);
$defaults{transaction_timeout} = "'1ms'" if $node->pg_version >= 17;
$node->safe_psql('adb', join ';', 'SET SESSION AUTHORIZATION dbo',
	map { "ALTER DATABASE adb SET $_ = $defaults{$_}" } sort keys %defaults);
# What only a superuser sets, but may have meant for the sessions of others.
$node->safe_psql('postgres', <<'SQL');
ALTER DATABASE adb SET session_replication_role = replica;
ALTER DATABASE adb SET role = dbo;
ALTER DATABASE adb SET session_authorization = dbo;
ALTER ROLE postgres IN DATABASE adb SET search_path = evil, pg_catalog;
ALTER ROLE ALL SET work_mem = 64;
SQL

# A session of a superuser there, which has none of these settings.
sub run_there
{
	my ($sql) = @_;
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'search_path=public', 'lock_timeout=0', 'default_transaction_read_only=off',
	  'default_transaction_isolation=read\ committed', 'session_replication_role=origin', 'role=none',
	  $node->pg_version >= 17 ? 'transaction_timeout=0' : ();
	return $node->safe_psql('adb', "SET SESSION AUTHORIZATION postgres; SET ROLE NONE; $sql");
}

sub becomes
{
	my ($query, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for($name, sub { return run_there($query) eq 't' });
}

run_there(<<'SQL');
SELECT herald.subscribe('paused', 'work', 'app.note', run_as => 'app');
SELECT herald.pause('paused');
SELECT herald.create_channel('heard', accept_notify => true);
SELECT herald.subscribe('idle', 'heard', 'app.note', run_as => 'app');
SQL
end_process($node, 'TERM', 'announcer', 'adb');
end_process($node, 'TERM', 'dispatcher', 'adb');
run_there(<<'SQL');
SELECT herald.publish('work', '{}');
SELECT herald.publish('large', to_jsonb(repeat('a', 9000)));
NOTIFY heard, '{}';
SQL
becomes('SELECT count(*) = 0 FROM herald_internal.pointer_store', 'old payloads are purged');
becomes('SELECT count(*) = 1 FROM herald_internal.parked_store', 'tasks of a paused subscription leave the log');
becomes('SELECT (SELECT count(*) FROM herald_internal.log_0) + (SELECT count(*) FROM herald_internal.log_1) + (SELECT count(*) FROM herald_internal.log_2) = 0',
	'the log is emptied');
becomes(q(SELECT count(*) = 1 FROM app.effects WHERE subscription = 'idle'), 'a notification is heard and handled');
run_there(q(SELECT herald.resume('paused')));
becomes(q(SELECT count(*) = 1 FROM app.effects WHERE subscription = 'paused'), 'a task is handled');

is($node->safe_psql('postgres', q(SELECT rolsuper FROM pg_roles WHERE rolname = 'dbo')), 'f', 'the owner has become no superuser');
is(run_there('SELECT count(*) FROM evil.seen'), '0', 'none of his operators was run with the rights of a superuser');
clean_log($node);
$node->stop;
done_testing();
