# As process 1 of a container: orphans are reaped, signals are followed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use Test::More;

my @alone = qw(unshare --pid --fork --mount-proc --kill-child);
plan skip_all => 'a pid namespace of its own needs root, or a machine that permits it' if run_to_end([ @alone, 'true' ])->{exit} ne 'exit 0';

# /orphan: a process whose parent has ended, and which ends when the gate is opened; what it answers is the pid, as it is there.
# /children: the processes there, "pid state ppid" each.
my $app = BladePSGI::Test->gate_code . <<'PERL';
use POSIX ();
sub {
    my ($env) = @_;
    if ($env->{PATH_INFO} =~ m{/orphan/(\w+)}) {
        my $gate = $1;
        pipe my $reader, my $writer;
        my $child = fork;
        if (!$child) {
            my $orphan = fork;
            if (!$orphan) { close $writer; gate($gate); POSIX::_exit(7) }
            syswrite $writer, $orphan;
            POSIX::_exit(0);
        }
        close $writer;
        waitpid $child, 0;
        return [200, [], [scalar readline $reader]];
    }
    if ($env->{PATH_INFO} eq '/processes') {
        my @found;
        for my $stat (glob '/proc/[0-9]*/stat') {
            open my $in, '<', $stat or next;
            push @found, join ' ', (readline $in) =~ /\A(\d+) \(.*\) (\w) (\d+)/;
        }
        return [200, [], [join "\n", @found]];
    }
    if ($env->{PATH_INFO} =~ m{/waits/(\w+)}) { mark("in-$1"); gate($1) }
    return [200, [], [$$]];
};
PERL

sub alone {
    my (%o) = @_;
    my $server = BladePSGI::Test->start(workers => 2, app => $app, wrap => \@alone, %o);
    $server->{first} = $server->pid_of('overseer');
    return $server;
}

sub states {
    my ($server) = @_;
    return { map { my ($pid, $state, $parent) = split / /; $pid => [ $state, $parent ] } split /\n/, $server->get('/processes')->{body} };
}

subtest 'orphans' => sub {
    my $server = alone();
    like read_text("/proc/$server->{first}/status"), qr/^NSpid:\s+\d+\s+1$/m, 'it is process 1';
    my @orphans = map { $server->get("/orphan/end$_")->{body} } 1 .. 5;
    my $states = states($server);
    is scalar(grep { ($states->{$_} || ['', 0])->[1] == 1 } @orphans), 5, 'what an application leaves behind is its child';
    $server->open_gate("end$_") for 1 .. 5;
    ok wait_for { my $now = states($server); !grep { $now->{$_} } @orphans }, 'and reaped when it ends';
    is scalar(grep { $_->[0] eq 'Z' } values %{ states($server) }), 0, 'no zombie is left';
    my $worker = $server->pid_of('worker 0');
    kill KILL => $worker;
    ok $server->pid_of('worker 0', $worker), 'a worker that dies is replaced';
    my $zygote = $server->pid_of('zygote');
    kill KILL => $zygote;
    ok $server->pid_of('zygote', $zygote), 'so is the zygote';
    ok $server->get('/')->{ended}, 'it serves';
    kill TERM => $server->{first};
    is $server->wait_exit, 'exit 0', 'SIGTERM: exit code 0';
    unlike $server->log, qr/unknown|no child/i, 'and no complaint about strangers';
};

subtest 'signals' => sub {
    my $server = alone(options => ['--stop-timeout=2s']);
    my $c = $server->connect;
    $c->send(BladePSGI::Test::FastCGI::request_bytes(uri => '/waits/never'));
    $server->wait_mark('in-never');
    $server->get('/orphan/never');
    kill TERM => $server->{first};
    ok within(10, sub { is $server->wait_exit, 'exit 0', 'SIGTERM with a request that does not end: exit code 0' }), 'in time';
    ok !$server->survivors, 'and nobody is left, no orphan either';

    for my $case ([ INT => 'exit 0' ], [ QUIT => 'exit 4' ]) {
        my ($signal, $exit) = @$case;
        $server = alone();
        kill $_ => $server->{first} for qw(USR1 HUP);
        ok $server->wait_log(qr/changed over/), 'SIGHUP is a reload';
        kill $signal => $server->{first};
        is $server->wait_exit, $exit, "SIG$signal: $exit";
    }
};

subtest 'its death' => sub {
    my $server = alone();
    kill KILL => $server->{first};
    ok $server->wait_exit, 'it is killed from outside';
    ok !$server->survivors, 'nobody survives';
};

done_testing;
