# JSON Schema across processes: a change reaches sessions that have published already, plain NOTIFYs obey the
# schema without a trace of their text in the server's log, and the schema's version stays with the message.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('json_schema', conf => "herald.rotation_period = 1s\nherald.sweep_interval = 1s\n");
$node->safe_psql('postgres', q(
	CREATE TABLE app.versions (message_id bigint, version integer, attempt integer);
	ALTER TABLE app.versions OWNER TO app;
	CREATE FUNCTION app.remember(task herald.task) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF task.payload ? 'fail' AND task.attempt = 1 OR task.payload ? 'die' THEN RAISE 'not now'; END IF;
		INSERT INTO app.versions VALUES (task.message_id, task.schema_version, task.attempt);
	END $$;
	ALTER FUNCTION app.remember(herald.task) OWNER TO app;
	SELECT herald.create_channel('orders');
	SELECT herald.create_channel('heard', accept_notify => true, schema => '{"required": ["order"]}');
	SELECT herald.create_channel('warned', accept_notify => true, schema => '{"required": ["order"]}', validation => 'warn');
	SELECT herald.subscribe('orders', 'orders', 'app.remember', run_as => 'app', retry_delay => '1 ms', max_attempts => 2);
	SELECT herald.subscribe('heard', 'heard', 'app.note', run_as => 'app');
	SELECT herald.subscribe('warned', 'warned', 'app.note', run_as => 'app')));

# A session that stays, and has the channel in its cache.
my $session = $node->background_psql('postgres', on_error_stop => 0);
sub publish { return $session->query("SELECT herald.publish('orders', '$_[0]') IS NOT NULL;") }

is(publish('{"n": "text"}'), 't', 'without a schema all is published');
$node->safe_psql('postgres', q(SELECT herald.alter_channel('orders', schema => '{"properties": {"n": {"type": "integer"}}}', force => true)));
is(publish('{"n": "text"}'), '', 'another session heard of the schema');
is(publish('{"n": 1}'), 't', 'and publishes what fits');
is(publish('{"n": 2, "fail": true}'), 't', 'also what fails');
is(publish('{"n": 3, "die": true}'), 't', 'and what dies');
$node->safe_psql('postgres', q(SELECT herald.alter_channel('orders', schema => '{"properties": {"n": {"type": "string"}}}', force => true)));
is(publish('{"n": 1}'), '', 'another schema takes its place');
is(publish('{"n": "again"}'), 't', 'for what fits as well');
$node->safe_psql('postgres', q(BEGIN; SELECT herald.alter_channel('orders', schema => 'false', force => true); ROLLBACK));
is(publish('{"n": "rolled back"}'), 't', 'what was rolled back counts for nobody');
wait_until($node, 'SELECT count(*) = 5 FROM app.versions', 'all but one are handled');
wait_until($node, 'SELECT count(*) = 1 FROM herald.dead_letters', 'and that one is dead');
is($node->safe_psql('postgres', q(SELECT string_agg(concat(version, '/', attempt), ' ' ORDER BY message_id) FROM app.versions)),
	'/1 1/1 1/2 2/1 2/1', 'handlers see the version, also at a second attempt');
is($node->safe_psql('postgres', q(SELECT schema_version FROM herald.dead_letters)), '1', 'so do those who look at dead letters');

# Parked by rotation, and replayed.
$node->safe_psql('postgres', q(SELECT herald.pause('orders'); SELECT herald.publish('orders', '{"n": "parked"}'); SELECT herald.replay_all('orders')));
wait_until($node, q(SELECT count(*) = 2 AND min(schema_version) = 1 AND max(schema_version) = 2 FROM herald_internal.parked_store), 'parked tasks keep it');
$node->safe_psql('postgres', q(SELECT herald.resume('orders')));
wait_until($node, q(SELECT count(*) = 6 AND count(*) FILTER (WHERE version = 2) = 3 FROM app.versions), 'and tell it to the handler');
is($node->safe_psql('postgres', q(SELECT rejected FROM herald.channel_stats WHERE channel = 'orders')), '2', 'what was refused is counted');
$session->quit;

# Plain NOTIFYs. The last of each kind shows that those before it were dealt with.
$node->safe_psql('postgres', q(NOTIFY heard, 'secret words'; NOTIFY heard, '{"secret": "secret words"}'; NOTIFY heard, '{"order": 1}'));
wait_for_effects($node, 'heard', 1, name => 'a notification that fits is stored');
is($node->safe_psql('postgres', q(SELECT payload FROM app.effects WHERE subscription = 'heard')), '{"order": 1}', 'and nothing else');
wait_until($node, q(SELECT rejected = 2 AND warned = 0 AND published = 1 FROM herald.channel_stats WHERE channel = 'heard'), 'the others are counted');
$node->safe_psql('postgres', q(NOTIFY warned, 'secret words'; NOTIFY warned, '{"order": 1}'));
wait_for_effects($node, 'warned', 2, name => 'a channel that warns stores both');
wait_until($node, q(SELECT rejected = 0 AND warned = 1 AND published = 2 FROM herald.channel_stats WHERE channel = 'warned'), 'and counts one of them');
is(scalar(log_lines($node, qr/WARNING:.*channel "heard".*lacks the required property "order"/)), 2, 'the log tells what was refused');
is(scalar(log_lines($node, qr/WARNING:.*channel "warned".*lacks the required property "order"/)), 1, 'and what was warned of');
is(scalar(log_lines($node, qr/secret words/)), 0, 'without the text');

# A schema that takes for ever does not stop the announcer.
$node->safe_psql('postgres', q(SELECT herald.alter_channel('heard', force => true, schema =>
	(SELECT jsonb_build_object('properties', jsonb_build_object('slow', jsonb_build_object('$ref', '#/$defs/n50')), '$defs', jsonb_object_agg('n' || n, CASE n WHEN 0 THEN '{"type": "null"}'::jsonb
		ELSE jsonb_build_object('anyOf', jsonb_build_array(jsonb_build_object('$ref', '#/$defs/n' || n - 1), jsonb_build_object('$ref', '#/$defs/n' || n - 1))) END)) FROM generate_series(0, 50) AS n))));
$node->safe_psql('postgres', q(NOTIFY heard, '{"slow": 1}'; NOTIFY heard, '{"order": 2}'));
wait_for_effects($node, 'heard', 2, name => 'the announcer goes on');
is(scalar(log_lines($node, qr/WARNING:.*channel "heard" takes too many steps to check/)), 1, 'and says what it refused');

$node->stop;
clean_log($node);
done_testing();
