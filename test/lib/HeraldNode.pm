# A server of the tests and its sessions, for machines that are busy: limits of time are for what hangs, and what
# is slow must not run into them.

package HeraldNode;

use strict;
use warnings;
# Nothing is imported that would hide a method of the class.
use IPC::Run ();
use PostgreSQL::Test::Cluster ();
use PostgreSQL::Test::Utils ();
use Test::More import => ['diag'];
use Time::HiRes 'time';

our @ISA = ('PostgreSQL::Test::Cluster');

# True as soon as the code says so; false where it has not within a time. Somebody who was kept from running all that
# time has not looked often enough to say so.
sub becomes_true
{
	my ($seconds, $condition) = @_;
	my ($began, $looks, $pause) = (time, 0, 0.01);
	until ($condition->())
	{
		return 0 if ++$looks > 20 && time - $began > $seconds;
		select undef, undef, undef, $pause;
		$pause = $pause * 1.5 if $pause < 0.1;
	}
	return 1;
}

# What a query returns, in psql's plain format.
sub value
{
	my ($self, $sql, $database) = @_;
	return $self->safe_psql($database // 'postgres', $sql);
}

# As the original. That writes the query to psql's input, and dies when psql ends before it has read it: when the
# server is just starting again and refuses, and the test was kept from running for a moment.
sub poll_query_until
{
	my ($self, $database, $query, $expected) = @_;
	$expected //= 't';
	local %ENV = $self->_get_env();
	my @psql = ($self->installed_command('psql'), '-XAt', '-d', $self->connstr($database), '-c', $query);
	my ($out, $err);
	return 1 if becomes_true($PostgreSQL::Test::Utils::timeout_default, sub {
		IPC::Run::run(\@psql, '<', \undef, '>', \$out, '2>', \$err);
		chomp($out, $err);
		return $out eq $expected && $err eq '';
	});
	diag("poll_query_until timed out executing this query:\n$query\nexpecting this output:\n$expected\n"
		. "last actual query output:\n$out\nwith stderr:\n$err");
	return 0;
}

# Its time limit is one for each query, not for the session.
sub background_psql
{
	my ($self, @arguments) = @_;
	my $session = $self->SUPER::background_psql(@arguments);
	$session->set_query_timer_restart;
	return bless $session, 'HeraldNode::Session';
}

# Returns when the postmaster is gone: while it is just ending a new one refuses to start.
sub kill9
{
	my ($self) = @_;
	my $pid = $self->{_pid};
	$self->SUPER::kill9;
	becomes_true(20, sub { !kill 0, $pid }) if defined $pid;
	return;
}

package HeraldNode::Session;

use PostgreSQL::Test::BackgroundPsql ();

our @ISA = ('PostgreSQL::Test::BackgroundPsql');

sub quit
{
	my ($self) = @_;
	$self->{timeout}->start;
	return $self->SUPER::quit;
}

# Waits for the end of a session that the server has ended or is about to end.
sub ended
{
	my ($self) = @_;
	$self->{timeout}->start;
	$self->{run}->finish;
	return;
}

1;
