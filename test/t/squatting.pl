# Names and places that all share: who comes first, or asks for most, does not shut out the others.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use HeraldTest;
use Test::More;

my $node = start_herald('squatting', conf => "herald.max_channels = 64\n");
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE boss LOGIN; CREATE ROLE mallory LOGIN; CREATE ROLE plain LOGIN; CREATE ROLE team; CREATE ROLE lead LOGIN IN ROLE team, plain;
GRANT CREATE ON DATABASE postgres TO mallory, lead; GRANT ALL ON SCHEMA public TO mallory; ALTER DATABASE postgres OWNER TO boss;
CREATE FUNCTION public.h(payload jsonb) RETURNS void LANGUAGE sql AS '';
SQL
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', "SET SESSION AUTHORIZATION $role; $sql"); }

# The channel of locks is nobody's to take but the database's owner's.
as('plain', q(SELECT herald.try_lock('before')));
sqlstate_is($node, $_, '42501', "$_: refused", role => 'mallory') for q(SELECT herald.create_channel('locks')), q(SELECT herald.create_channel('locks', durable => false, if_not_exists => true));
as('mallory', q(SELECT herald.subscribe('all releases', 'locks', 'public.h')));
sqlstate_is($node, $_, '42501', "$_: refused to who has subscribed", role => 'mallory')
  for q(SELECT herald.revoke_channel('locks', 'public')), q(SELECT herald.drop_channel('locks', force => true)), q(SELECT herald.alter_channel('locks', announce => 'off')), q(SELECT herald.alter_channel('locks', owner => 'mallory'));
is(as('plain', q(SELECT herald.try_lock('after'))), 't', 'locks can be taken');
as('boss', q(SELECT herald.drop_channel('locks', force => true); SELECT herald.create_channel('locks', durable => false);
	SELECT herald.grant_channel('locks', 'public')));
is(as('plain', q(SELECT herald.try_lock('after'))), 't', 'also where the owner of the database has declared their channel');

# A name that others publish to.
as('plain', q(SELECT herald.publish('orders', '{}'), herald.publish('invoices', '{}'), herald.notify('plain text', 'x')));
for my $channel ('orders', 'plain text')
{
	sqlstate_is($node, "SELECT herald.create_channel('$channel')", '42501', "\"$channel\" is in use", role => 'mallory');
	sqlstate_is($node, "SELECT herald.publish('$channel', '{}')", '00000', 'and stays so', role => 'plain');
}
like(($node->psql('postgres', q(SET SESSION AUTHORIZATION mallory;
	SELECT herald.create_channel('orders'))))[2], qr/HINT: .*owner of the database "boss"/, 'the hint tells who may');
my ($status, $out, $err) = $node->psql('postgres', q(SET SESSION AUTHORIZATION mallory; SELECT herald.subscribe('m', 'orders', 'public.h')));
is($status, 0, 'to subscribe takes nothing away');
like($err, qr/NOTICE: .*belongs to the owner of the database, "boss"/, 'and leaves the channel to the owner of the database');
sqlstate_is($node, $_, '42501', "$_: refused", role => 'mallory')
  for q(SELECT herald.revoke_channel('orders', 'public')), q(SELECT herald.alter_channel('orders', schema => 'false')), q(SELECT herald.drop_channel('orders', force => true));
my ($id) = acknowledged($node, q(SET SESSION AUTHORIZATION plain; SELECT herald.publish('orders', '{}');));
ok(wait_idle($node, 'm'), 'the subscription gets what is published');
sqlstate_is($node, q(SELECT herald.alter_subscription('m', timeout => '1 s'), herald.unsubscribe('m', force => true)), '00000', 'and is its own', role => 'mallory');
# Who has the rights of all publishers, or is the only one, or owns the database.
as('mallory', q(SELECT herald.publish('own', '{}'); SELECT herald.create_channel('own')));
as('lead', q(SELECT herald.publish('invoices', '{}'); SELECT herald.create_channel('invoices')));
as('boss', q(SELECT herald.create_channel('plain text')));
is(as('postgres', q(SELECT channel, owner FROM herald.channels WHERE channel IN ('own', 'invoices', 'plain text', 'orders') ORDER BY channel)), "invoices|lead\norders|boss\nown|mallory\nplain text|boss", 'declared by whom the names belong to');
sqlstate_is($node, q(SELECT herald.create_channel('never used'), herald.create_channel('orders', if_not_exists => true)), '00000', 'what nobody uses, or is declared already, as ever', role => 'mallory');

# Statistics: names without end, of one role, in two databases.
$node->safe_psql('postgres', 'CREATE DATABASE second OWNER boss');
$node->safe_psql('second', 'CREATE EXTENSION pg_herald');
my $flood = q(SET SESSION AUTHORIZATION mallory; SELECT count(herald.publish('flood ' || i, '{}')) FROM generate_series(1, 2000) AS i);
$node->safe_psql($_, $flood) for 'second', 'postgres';
my $usage = q(SELECT ok, value FROM herald.status() WHERE name = 'channel_statistics');
like($node->safe_psql('postgres', $usage), qr/^f\|[0-9]+ of 64 places in use, 32 of 32 by undeclared channels$/, 'status() says that the places are used up');
for my $database ('postgres', 'second')
{
	$node->safe_psql($database, q(SET SESSION AUTHORIZATION plain; SELECT herald.publish('few ' || i, '{}') FROM generate_series(1, 5) AS i));
	$node->safe_psql($database, $flood);
	is($node->safe_psql($database, q(SELECT count(*), sum(published) FROM herald.channel_stats WHERE channel LIKE 'few %')), '5|5', 'a role with few names keeps its places, and gets new ones');
}
cmp_ok($node->safe_psql('postgres', q(SELECT sum(published) FROM herald.channel_stats WHERE channel = '(other)' OR channel LIKE 'flood %')) + $node->safe_psql('second', q(SELECT sum(published) FROM herald.channel_stats WHERE channel LIKE 'flood %')),
	'>=', 8000, 'and no publication is lost to the statistics');
# Declared ones, as many as there is room for, and more.
$node->safe_psql('postgres', q(SET SESSION AUTHORIZATION mallory;
	SELECT herald.create_channel('declared ' || i), herald.publish('declared ' || i, '{}') FROM generate_series(1, 100) AS i));
$node->safe_psql('postgres', q(SET SESSION AUTHORIZATION lead; SELECT herald.create_channel('lead ' || i) FROM generate_series(1, 5) AS i;
	SELECT herald.publish('lead ' || i, '{}') FROM generate_series(1, 5) AS i));
is($node->safe_psql('postgres', q(SELECT count(*), sum(published) FROM herald.channel_stats WHERE channel LIKE 'lead %')), '5|5', 'the same with declared channels');
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.channel_stats WHERE channel LIKE 'few %')), '5', 'which take nothing from few undeclared ones');
# Nothing is for good.
$node->safe_psql($_, 'SELECT herald.reset_stats()') for 'postgres', 'second';
like($node->safe_psql('postgres', $usage), qr/^[tf]\|[0-9]+ of 64 places in use, 0 of 32 by undeclared channels$/, 'reset_stats() frees the places of undeclared channels');
$node->restart;
is($node->safe_psql('postgres', q(SELECT count(*) FROM herald.channel_stats WHERE channel LIKE 'flood %')), '0', 'and a restart does not bring them back');
clean_log($node);

done_testing();
