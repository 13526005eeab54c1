# Whatever is done to audited tables of all shapes, the trail says what happened: replaying it makes the same table, a
# plain row trigger beside it has seen the same changes, what is hidden is nowhere, and nothing is left of what was rolled
# back. One session sends random statements, of which some fail; a model in the database (AuditModel.pm) is compared.
#
# HERALD_TEST_SEED makes another run, HERALD_TEST_STEPS a longer one.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use AuditModel;
use HeraldSessions;
use HeraldTest;
use Test::More;

use Storable 'dclone';

my $steps = $ENV{HERALD_TEST_STEPS} // 300;
seed_random();

my $node = start_node('audit_model', conf => "herald.audit_context = 'app.who'\n");
$node->safe_psql('postgres', 'CREATE EXTENSION pg_herald; CREATE ROLE clerk IN ROLE pg_execute_server_program');
install_model($node);
$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA m;
CREATE SEQUENCE m.uids;
CREATE TYPE m.mood AS ENUM ('sad', 'ok', 'glad');
CREATE DOMAIN m.amount AS numeric(12, 2) CHECK (VALUE > -1e9);
GRANT USAGE ON SCHEMA m TO clerk;
GRANT USAGE ON SEQUENCE m.uids TO clerk;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA model TO clerk;
SQL

my $session = $node->background_psql('postgres', on_error_stop => 0);
my (%made, %failed);  # how often
my $step = 0;
my $extra = 0;

sub any_of { return $_[ int(rand(@_)) ] }
sub chance { return rand() < $_[0] }

# Returns what is printed. Errors that the data explain are fine, others not.
sub run
{
	my ($sql) = @_;
	$session->{stderr} = '';
	my $out = $session->query($sql);
	if ($session->{stderr} =~ /(ERROR|FATAL|PANIC):\s+([0-9A-Z]{5}):(.*)/)
	{
		my ($state, $text) = ($2, $3);
		BAIL_OUT("$sql: $session->{stderr}") unless $state =~ /^(23|21000|27000|25P02)/ || $text =~ /no partition of relation|division by zero|would be moved|moving row to another partition/;
		$failed{$state}++;
		return undef;
	}
	return $out;
}

# The tables. columns: the name here => the one that it has now.
my @texts = qw(note secret card email doc);
my @tables;

sub columns_of { my ($t) = @_; return map { $t->{columns}{$_} } @{ $t->{order} } }
sub key_of { my ($t) = @_; return map { $t->{columns}{$_} } @{ $t->{key} } }
sub names_of { my ($t, @logical) = @_; return '{' . join(',', map { $t->{columns}{$_} } @logical) . '}' }

sub store_options
{
	my ($t) = @_;
	my @lists = map { names_of($t, @{ $t->{$_} }) } qw(key excluded masked hashed);
	return <<"SQL";
INSERT INTO model.options VALUES ('$t->{tab}', '$t->{name}', '$t->{record}', '$lists[0]', '$lists[1]', '$lists[2]', '$lists[3]', '{$t->{operations}}')
ON CONFLICT (tab) DO UPDATE SET relation = EXCLUDED.relation, record = EXCLUDED.record, key = EXCLUDED.key, excluded = EXCLUDED.excluded,
    masked = EXCLUDED.masked, hashed = EXCLUDED.hashed, operations = EXCLUDED.operations;
SQL
}

sub enable
{
	my ($t) = @_;
	my $mask = join ',', (map { $t->{columns}{$_} } @{ $t->{masked} }), map { "hash:$t->{columns}{$_}" } @{ $t->{hashed} };
	return store_options($t) . "SELECT herald.enable_audit('$t->{name}', record => '$t->{record}', exclude => '"
	  . names_of($t, @{ $t->{excluded} }) . "', mask => '{$mask}', operations => '{$t->{operations}}');";
}

# kind: keyed, deferred, keyless, two (columns in the key), parts, parts_keyless, parent, child
sub make_table
{
	my ($kind) = @_;
	my $tab = 't' . (@tables + 1);
	my %t = (tab => $tab, name => "m.$tab", kind => $kind, parts => scalar($kind =~ /parts/), columns => {}, partitions => {});
	$t{order} = [ qw(id p q uid v note secret card email doc arr mood amount gen) ];
	splice @{ $t{order} }, 1, 0, 'ref' if $kind eq 'child';
	$t{columns}{$_} = $_ for @{ $t{order} };
	$t{key} = $kind =~ /keyless/ ? [] : $kind eq 'parts' ? [qw(id p q)] : $kind eq 'two' ? [qw(id p)] : ['id'];
	for my $what ([ excluded => 'secret' ], [ masked => 'card' ], [ hashed => 'email' ])
	{
		$t{ $what->[0] } = chance(0.6) ? [ $what->[1] ] : [];
	}
	$t{record} = @{ $t{key} } ? any_of(qw(full diff full diff keys)) : 'full';
	$t{operations} = !$t{parts} && chance(0.15) ? any_of('insert,delete', 'update', 'update,truncate') : 'insert,update,delete,truncate';
	my $key = @{ $t{key} } ? 'PRIMARY KEY (' . join(', ', @{ $t{key} }) . ')' . ($kind eq 'deferred' ? ' DEFERRABLE' : '') . ', ' : '';
	my $ref = $kind eq 'child' ? 'ref int, ' : '';
	# A transition table lacks what is generated where a partition has its columns in another order.
	my %type = (uid => "bigint DEFAULT nextval('m.uids')", v => 'int', note => 'text', secret => 'text', card => 'text', email => 'varchar(80)',
		doc => 'jsonb', arr => 'int[]', mood => 'm.mood', amount => 'm.amount', gen => $t{parts} ? 'int DEFAULT 3' : 'int GENERATED ALWAYS AS (v * 2) STORED');
	my @definitions = map { ("$_ $type{$_}", chance(0.15) ? "gone_$_ text" : ()) } sort { rand() <=> 0.5 } keys %type;
	my $sql = "CREATE TABLE m.$tab (id int, p int DEFAULT 0, ${ref}q int DEFAULT 0, $key" . join(', ', @definitions) . ')';
	$sql .= $t{parts} ? " PARTITION BY RANGE (p);\n" : ";\n";
	$sql .= "ALTER TABLE m.$tab DROP COLUMN $_;\n" for map { /^(gone_\S+)/ ? $1 : () } @definitions;
	if ($t{parts})
	{
		$sql .= "CREATE TABLE m.${tab}_a PARTITION OF m.$tab FOR VALUES FROM (0) TO (10);\n";
		$sql .= "CREATE TABLE m.${tab}_b PARTITION OF m.$tab FOR VALUES FROM (10) TO (20) PARTITION BY LIST (q);\n";
		# Columns in another order, and one that is gone.
		$sql .= "CREATE TABLE m.${tab}_b1 (junk point, amount m.amount, LIKE m.$tab INCLUDING DEFAULTS INCLUDING GENERATED);\n" =~ s/amount m.amount, //r;
		$sql .= "ALTER TABLE m.${tab}_b1 DROP COLUMN junk;\nALTER TABLE m.${tab}_b ATTACH PARTITION m.${tab}_b1 FOR VALUES IN (0, 1);\n";
		$sql .= "CREATE TABLE m.${tab}_b2 PARTITION OF m.${tab}_b DEFAULT;\n";
		%{ $t{partitions} } = map { $_ => 1 } qw(a b b1 b2);
	}
	$sql .= "ALTER TABLE m.$tab ALTER note SET STORAGE EXTERNAL;\n" if !$t{parts} && chance(0.5);
	if ($kind eq 'child')
	{
		my $action = any_of('ON DELETE CASCADE ON UPDATE CASCADE', 'ON DELETE SET NULL ON UPDATE CASCADE');
		$sql .= "ALTER TABLE m.$tab ADD FOREIGN KEY (ref) REFERENCES m.$tables[-1]{tab} $action;\n";
		$t{parent} = $#tables;
	}
	$sql .= "CREATE TRIGGER meddle BEFORE INSERT OR UPDATE OR DELETE ON m.$tab FOR EACH ROW EXECUTE FUNCTION model.meddle("
	  . ($t{parts} ? "'keep inserts'" : '') . ");\n"
	  if chance(0.4);
	$sql .= "CREATE TRIGGER shadow AFTER INSERT OR UPDATE OR DELETE ON m.$tab FOR EACH ROW EXECUTE FUNCTION model.note('$tab');\n";
	$sql .= "ALTER TABLE m.$tab ENABLE ALWAYS TRIGGER shadow;\n";
	if ($t{parts})
	{
		# ENABLE ALWAYS does not go down to clones that are there.
		$sql .= "ALTER TABLE m.${tab}_$_ ENABLE ALWAYS TRIGGER shadow;\n" for qw(a b b1 b2);
	}
	$sql .= "GRANT ALL ON ALL TABLES IN SCHEMA m TO clerk;\n";
	push @tables, \%t;
	$node->safe_psql('postgres', $sql . enable(\%t));
	return;
}

make_table($_) for qw(keyed deferred keyless two parts parts parts_keyless parent child);

# Random values of a column, as SQL.
sub value_of
{
	my ($column) = @_;
	return 'NULL' if chance(0.08) && $column !~ /^(id|p|q|v)$/;
	return int(rand(40)) if $column eq 'id' || $column eq 'ref';
	return int(rand(20)) if $column eq 'p' || $column eq 'v';
	return int(rand(4)) if $column =~ /^(q|extra)$/;
	return chance(0.3) ? "(SELECT string_agg(md5(i::text || '$step'), '') FROM generate_series(1, 200) AS i)" : "'note " . int(rand(5)) . "'"
	  if $column eq 'note';
	return "'EXCLMARK " . int(rand(1000)) . "'" if $column eq 'secret';
	return "'MASKMARK " . int(rand(1000)) . "'" if $column eq 'card';
	return "'HASHMARK " . int(rand(5)) . "'" if $column eq 'email';
	return qq('{"a": [1, {"b": null}], "n": ) . int(rand(9)) . qq(.50}') if $column eq 'doc';
	return "'{" . join(',', map { int(rand(9)) } 1 .. rand(5)) . "}'" if $column eq 'arr';
	return "'" . any_of(qw(sad ok glad)) . "'" if $column eq 'mood';
	return rand(100) if $column eq 'amount';
	die "no value of $column";
}

sub written { my ($t) = @_; return grep { !/^(uid|gen)$/ } @{ $t->{order} } }

sub values_of
{
	my ($t, $rows) = @_;
	my @columns = written($t);
	return '(' . join(', ', map { $t->{columns}{$_} } @columns) . ') VALUES '
	  . join(', ', map { '(' . join(', ', map { value_of($_) } @columns) . ')' } 1 .. $rows);
}

sub assignments
{
	my ($t) = @_;
	my @columns = grep { !/^(id|p|q|uid|gen|ref)$/ } @{ $t->{order} };
	my %chosen = map { any_of(@columns) => 1 } 1 .. 1 + rand(3);
	return join ', ', map { "$t->{columns}{$_} = " . (chance(0.15) ? $t->{columns}{$_} : value_of($_)) } sort keys %chosen;
}

sub where { my ($t) = @_; return "v % " . (2 + int(rand(6))) . " = " . int(rand(3)) }

# The name of the table, or of a partition that is attached.
sub some_name
{
	my ($t) = @_;
	return $t->{name} unless $t->{parts} && chance(0.35);
	return partition_name($t, any_of(grep { $t->{partitions}{$_} } sort keys %{ $t->{partitions} }));
}

sub partition_name { my ($t, $partition) = @_; return "m.$t->{tab}_$partition" }

sub conflict_target { my ($t) = @_; return join ', ', key_of($t) }

my %statements = (
	insert => sub { my ($t) = @_; return "INSERT INTO " . some_name($t) . ' ' . values_of($t, 1 + rand(4)) },
	insert_free => sub {
		my ($t) = @_;
		return insert_on($t, 'DO NOTHING');
	},
	upsert => sub {
		my ($t) = @_;
		my $note = $t->{columns}{note};
		return insert_on($t, '(' . conflict_target($t) . ") DO UPDATE SET v = EXCLUDED.v, $note = EXCLUDED.$note") if @{ $t->{key} };
		return insert_on($t, 'DO NOTHING');
	},
	update => sub { my ($t) = @_; return 'UPDATE ' . some_name($t) . ' SET ' . assignments($t) . ' WHERE ' . where($t) },
	same => sub { my ($t) = @_; return "UPDATE $t->{name} SET v = v WHERE " . where($t) },
	change_key => sub {
		my ($t) = @_;
		my $id = $t->{columns}{id};
		my ($a, $b) = (int(rand(40)), int(rand(40)));
		return "UPDATE $t->{name} SET $id = CASE $id WHEN $a THEN $b ELSE $a END WHERE $id IN ($a, $b)" if $t->{kind} eq 'deferred';
		return "UPDATE $t->{name} SET $id = $id + " . any_of(1, 40, 100) . " WHERE $id = $a";
	},
	move => sub { my ($t) = @_; return "UPDATE $t->{name} SET p = (p + " . any_of(1, 7, 10) . ") % 20, q = (q + " . any_of(0, 1) . ") % 4 WHERE " . where($t) },
	delete => sub { my ($t) = @_; return 'DELETE FROM ' . some_name($t) . ' WHERE ' . where($t) . ' AND v > ' . int(rand(15)) },
	merge => sub {
		my ($t) = @_;
		my $id = $t->{columns}{id};
		my $source = join ', ', map { '(' . int(rand(40)) . ', ' . int(rand(20)) . ')' } 1 .. 4;
		return "MERGE INTO $t->{name} AS t USING (VALUES $source) AS s (i, w) ON t.$id = s.i"
		  . ' WHEN MATCHED AND t.v > 14 THEN DELETE WHEN MATCHED THEN UPDATE SET v = s.w'
		  . " WHEN NOT MATCHED THEN INSERT ($id, p, q, v) VALUES (s.i, s.w % 20, s.w % 4, s.w)";
	},
	copy => sub {
		my ($t) = @_;
		my @rows = map { join ',', int(rand(400)), int(rand(20)), int(rand(4)), int(rand(20)), "copied $_" } 1 .. 3;
		return 'COPY ' . some_name($t) . " ($t->{columns}{id}, p, q, v, $t->{columns}{note}) FROM PROGRAM "
		  . q($$printf ') . join('\n', @rows, '') . q('$$ WITH (FORMAT csv));
	},
	with => sub {
		my ($t) = @_;
		my $id = $t->{columns}{id};
		my $other = any_of(grep { $_->{kind} ne 'child' } @tables);
		return "WITH a AS (UPDATE $t->{name} SET v = v + 1 WHERE $id % 3 = 0 RETURNING $id),"
		  . " b AS (UPDATE $t->{name} SET " . assignments($t) . " WHERE $id % 3 = 1 RETURNING $id),"
		  . " c AS (INSERT INTO $other->{name} ($other->{columns}{id}, p, q, v) SELECT $id + 5000, 3, 1, $id % 20 FROM a LIMIT 2)"
		  . " DELETE FROM $t->{name} WHERE $id % 3 = 2 AND v < 6";
	},
	block => sub {
		my ($t) = @_;
		my ($first, $second, $third) = map { simple($t) } 1 .. 3;
		return "DO \$\$ BEGIN $first; BEGIN $second; PERFORM set_config('app.who', 'lost', true); $third; RAISE division_by_zero;"
		  . ' EXCEPTION WHEN division_by_zero THEN NULL; END; ' . simple($t) . '; END $$';
	},
	cursor => sub {
		my ($t) = @_;
		return "DO \$\$ DECLARE c CURSOR FOR SELECT * FROM $t->{name} WHERE v < 12 FOR UPDATE; n int := 0; BEGIN FOR r IN c LOOP"
		  . " UPDATE $t->{name} SET " . assignments($t) . ' WHERE CURRENT OF c; n := n + 1; EXIT WHEN n = 2; END LOOP; END $$';
	},
);
my @kinds = sort keys %statements;

sub insert_on
{
	my ($t, $action) = @_;
	return "INSERT INTO $t->{name} " . values_of($t, 1 + rand(3)) . ($t->{kind} eq 'deferred' ? '' : " ON CONFLICT $action");
}

sub simple
{
	my ($t) = @_;
	return $statements{ any_of(qw(insert_free update delete move)) }->($t);
}

# Transactions: what the tables are called goes back with them.
my @stack;

sub begin { return if @stack; run('BEGIN'); push @stack, dclone(\@tables); return }
sub savepoint { run('SAVEPOINT s' . @stack); push @stack, dclone(\@tables); return }

sub roll_back
{
	my $before = pop @stack;
	run(@stack ? 'ROLLBACK TO s' . @stack : 'ROLLBACK');
	@tables = @$before;
	return;
}

sub finish
{
	return unless @stack;
	roll_back() while @stack > 1 && chance(0.3);
	return roll_back() if chance(0.25);
	# What a savepoint holds is kept. A deferred constraint can still fail.
	my $first = $stack[0];
	my $done = run('COMMIT');
	@tables = @$first unless defined $done;
	@stack = ();
	return;
}

sub can_replay { my ($t) = @_; return $t->{operations} eq 'insert,update,delete,truncate' && ($t->{record} ne 'keys' || !@{ $t->{key} }) }

# The trail makes the table as it is.
sub check_replay
{
	my ($t) = @_;
	return unless can_replay($t);
	my $wrong = run("SELECT model.replay('$t->{tab}')");
	is($wrong, '', "step $step: the trail of $t->{tab} ($t->{kind}, $t->{record}) makes the table") if !defined $wrong || $wrong ne '';
	$made{replays}++;
	return;
}

sub rebase { my ($t) = @_; return run("SELECT model.rebase('$t->{tab}')") }

sub sql { my (@statements) = @_; run($_) // BAIL_OUT("$_: $session->{stderr}") for @statements; return }

# Where a trigger refuses, something may be left.
sub emptied
{
	my ($t, $partition, $where) = @_;
	my $name = partition_name($t, $partition);
	sql("DELETE FROM $name WHERE $where");
	return run("SELECT count(*) FROM $name WHERE $where") eq '0';
}

my %alterations = (
	options => sub {
		my ($t) = @_;
		return if $t->{operations} ne 'insert,update,delete,truncate' || !@{ $t->{key} };
		$t->{record} = any_of(qw(full diff keys));
		sql(enable($t));
	},
	add_column => sub {
		my ($t) = @_;
		return if grep { /^extra/ } @{ $t->{order} };
		my $name = 'extra' . ++$extra;
		sql("ALTER TABLE $t->{name} ADD COLUMN $name int DEFAULT 5");
		push @{ $t->{order} }, 'extra';
		$t->{columns}{extra} = $name;
	},
	drop_column => sub {
		my ($t) = @_;
		return unless grep { /^extra/ } @{ $t->{order} };
		sql("ALTER TABLE $t->{name} DROP COLUMN $t->{columns}{extra}");
		@{ $t->{order} } = grep { $_ ne 'extra' } @{ $t->{order} };
	},
	rename_column => sub {
		my ($t) = @_;
		my $column = any_of(qw(id secret card email doc));
		my $name = $column . ++$extra;
		sql("ALTER TABLE $t->{name} RENAME COLUMN $t->{columns}{$column} TO $name");
		$t->{columns}{$column} = $name;
		sql(store_options($t));
	},
	# The name of a hidden column goes to another one.
	swap_names => sub {
		my ($t) = @_;
		my ($secret, $doc) = ($t->{columns}{secret}, $t->{columns}{doc});
		sql("ALTER TABLE $t->{name} RENAME COLUMN $secret TO between", "ALTER TABLE $t->{name} RENAME COLUMN $doc TO $secret",
			"ALTER TABLE $t->{name} RENAME COLUMN between TO $doc");
		@{ $t->{columns} }{qw(secret doc)} = ($doc, $secret);
		sql(store_options($t));
	},
	rename_table => sub {
		my ($t) = @_;
		my $name = "$t->{tab}_r" . ++$extra;
		sql("ALTER TABLE $t->{name} RENAME TO $name");
		$t->{name} = "m.$name";
		sql(store_options($t));
	},
	detach => sub {
		my ($t) = @_;
		return unless $t->{partitions}{b1};
		sql("ALTER TABLE m.$t->{tab}_b DETACH PARTITION m.$t->{tab}_b1");
		run("DELETE FROM m.$t->{tab}_b1");  # of nobody's interest
		$t->{partitions}{b1} = 0;
	},
	attach => sub {
		my ($t) = @_;
		return if !$t->{parts} || $t->{partitions}{b1};
		return unless emptied($t, 'b2', 'q IN (0, 1)');
		check_replay($t);
		sql("ALTER TABLE m.$t->{tab}_b ATTACH PARTITION m.$t->{tab}_b1 FOR VALUES IN (0, 1)", "ALTER TABLE m.$t->{tab}_b1 ENABLE ALWAYS TRIGGER shadow");
		$t->{partitions}{b1} = 1;
	},
	new_partition => sub {
		my ($t) = @_;
		return if !$t->{parts} || $t->{partitions}{b3};
		return unless emptied($t, 'b2', 'q = 3');
		check_replay($t);
		sql("CREATE TABLE m.$t->{tab}_b3 PARTITION OF m.$t->{tab}_b FOR VALUES IN (3)", "ALTER TABLE m.$t->{tab}_b3 ENABLE ALWAYS TRIGGER shadow",
			"GRANT ALL ON m.$t->{tab}_b3 TO clerk");
		$t->{partitions}{b3} = 1;
	},
	truncate => sub {
		my ($t) = @_;
		my $name = $t->{kind} eq 'parent' ? $t->{name} : some_name($t);
		my ($child) = $t->{kind} eq 'parent' ? grep { $_->{kind} eq 'child' } @tables : ();
		check_replay($child) if $child;
		my @emptied = map { /^m\.(.*)/ } $name, $child ? $child->{name} : ();
		my $alone = !@stack;
		run('BEGIN') if $alone;
		run("TRUNCATE $name CASCADE");
		for my $emptied (@emptied)
		{
			my ($tab) = $emptied =~ /^(t[0-9]+)/;
			my ($audited) = grep { $_->{tab} eq $tab } @tables;
			run("INSERT INTO model.truncated VALUES (DEFAULT, '$emptied')") if $audited->{operations} =~ /truncate/;
		}
		run('COMMIT') if $alone;
		rebase($child) if $child;
	},
);
my @alterations = sort keys %alterations;

sub alter
{
	my ($t) = @_;
	my $what = any_of(@alterations);
	# What is detached must still fit when it comes back.
	return if $what =~ /column|names/ && $t->{parts} && !$t->{partitions}{b1};
	check_replay($t);
	$made{$what}++;
	note "step $step: $what of $t->{tab}";
	$alterations{$what}->($t);
	rebase($t);
	return;
}

sub write_something
{
	my ($t) = @_;
	my $kind = any_of(@kinds);
	# Nobody checks references and deferrable keys of what is replicated.
	my $replica = $t->{kind} !~ /parent|child|deferred/ && $kind ne 'with' && chance(0.15);
	my $clerk = !$replica && chance(0.2);
	my $who = any_of('', qw(ann bob cleo));
	$step++;
	sql("SET model.step = '$step'", "SET app.who = '$who'");
	sql('SET session_replication_role = replica') if $replica;
	sql('SET ROLE clerk') if $clerk;
	$made{$kind}++;
	$made{replica}++ if $replica;
	run($statements{$kind}->($t));
	sql('RESET ROLE') if $clerk;
	sql('SET session_replication_role = origin') if $replica;
	return;
}

sql("\\set VERBOSITY verbose\n\\set ON_ERROR_ROLLBACK on\nSET client_min_messages = error");
rebase($_) for @tables;
while ($step < $steps)
{
	my $dice = rand();
	if ($dice < 0.08) { begin() }
	elsif ($dice < 0.13 && @stack && @stack < 4) { savepoint() }
	elsif ($dice < 0.17 && @stack > 1) { roll_back() }
	elsif ($dice < 0.25) { finish() }
	elsif ($dice < 0.32) { alter(any_of(@tables)) }
	elsif ($dice < 0.36) { check_replay(any_of(@tables)) }
	else { write_something(any_of(@tables)) }
}
finish();
check_replay($_) for @tables;
$session->quit;
note join ', ', map { "$_: $made{$_}" } sort keys %made;
note join ', ', map { "failed with $_: $failed{$_}" } sort keys %failed;

sub is_nothing
{
	my ($query, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(substr($node->safe_psql('postgres', $query), 0, 4000), '', $name);
}

my $columns = 'transaction_id, tab, operation, who, user_name, record_id::text, old_record_id::text, old::text, new::text, changed';
is_nothing("SELECT $columns FROM model.expected EXCEPT ALL SELECT $columns FROM model.actual LIMIT 5", 'what row triggers have seen is in the trail');
is_nothing("SELECT $columns FROM model.actual WHERE operation <> 'truncate' EXCEPT ALL SELECT $columns FROM model.expected LIMIT 5",
	'and nothing else, with whom it was by');
is_nothing(<<'SQL', 'each TRUNCATE is in the trail once');
(SELECT transaction_id, table_name FROM model.truncated EXCEPT ALL SELECT transaction_id, table_name FROM model.actual WHERE operation = 'truncate')
UNION ALL (SELECT transaction_id, table_name FROM model.actual WHERE operation = 'truncate' EXCEPT ALL SELECT transaction_id, table_name FROM model.truncated)
SQL
is_nothing("SELECT DISTINCT operation FROM model.actual WHERE transaction_id IS NULL", 'every entry has its context');
is_nothing("SELECT transaction_id, sequence FROM model.actual GROUP BY 1, 2 HAVING count(*) > 1 LIMIT 5", 'no number twice in a transaction');
is_nothing(<<'SQL', 'the numbers follow the order');
SELECT transaction_id, sequence FROM (SELECT *, lag(changed_at) OVER w AS before, lag(id) OVER w AS id_before FROM model.actual
                                      WINDOW w AS (PARTITION BY transaction_id ORDER BY sequence)) AS a
 WHERE changed_at < before OR id < id_before LIMIT 5
SQL
for my $t (grep { @{ $_->{key} } && $_->{operations} eq 'insert,update,delete,truncate' } @tables)
{
	is_nothing("SELECT * FROM model.wrong_histories('$t->{tab}') LIMIT 3", "histories of rows of $t->{tab} ($t->{kind})");
}

my $parts = join ' UNION ALL ', map { my $n = $_; map { "SELECT t.target_id, t::text AS row FROM herald_internal.audit_$n AS t" } 1 } 0 .. 7;
for my $t (@tables)
{
	my %mark = (excluded => 'EXCLMARK', masked => 'MASKMARK', hashed => 'HASHMARK');
	for my $how (grep { @{ $t->{$_} } } sort keys %mark)
	{
		is_nothing("SELECT row FROM ($parts) AS s WHERE row LIKE '%$mark{$how}%' AND target_id = (SELECT id FROM herald_internal.audit_target WHERE table_name = '"
			. ($t->{name} =~ s/^m\.//r) . "') LIMIT 1", "nothing shows what is $how in $t->{tab}");
	}
}
is_nothing(<<'SQL', 'equal values have equal hashes, and others have not');
WITH pairs AS (
    SELECT a.tab, a.id, s.after ->> (s.options).hashed[1] AS value, l.new ->> (s.options).hashed[1] AS hash
      FROM model.seen AS s JOIN herald.audit_log AS l ON l.operation = 'insert' AND l.transaction_id = s.transaction_id AND l.new -> 'uid' = s.after -> 'uid'
           JOIN model.actual AS a ON a.id = l.id AND a.tab = (s.options).tab
     WHERE s.operation = 'insert' AND (s.options).hashed <> '{}' AND (s.options).record <> 'keys')
SELECT tab FROM pairs WHERE value IS NOT NULL GROUP BY tab HAVING count(DISTINCT value) <> count(DISTINCT hash)
    OR count(DISTINCT (value, hash)) <> count(DISTINCT hash)
SQL
is($node->safe_psql('postgres', 'SELECT count(*) FROM herald.audited_tables WHERE ok'), scalar(@tables), 'every table is audited as it should be');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM model.actual'), '>', $steps / 2, 'there was something to compare');
clean_log($node);
$node->stop;
done_testing();
