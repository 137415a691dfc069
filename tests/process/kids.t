#!/usr/bin/perl
# Processes that the application itself forks are none of the server's: they get their signal actions back and hold nothing of it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use Test::More;

my $app = <<'PERL';
my $kid;
sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    if ($path eq '/fork') {
        $kid = fork // die "fork: $!";
        if (!$kid) { select undef, undef, undef, 60; require POSIX; POSIX::_exit(0) }
        return [200, [], [$kid]];
    }
    if ($path eq '/end') {
        kill TERM => $kid;
        local $SIG{ALRM} = sub { die "still there\n" };
        alarm 10;
        my $got = eval { waitpid $kid, 0 };
        alarm 0;
        return [200, [], [defined $got ? 'ended by ' . ($? & 127) : $@]];
    }
    return [200, [], ['ok']];
};
PERL

subtest 'SIGTERM ends it, and the worker goes on undisturbed' => sub {
    my $server = BladePSGI::Test->start(app => $app, workers => 1);
    my ($worker) = $server->worker_pids;
    like $server->get('/fork')->{body}, qr/\A\d+\z/, 'forked';
    is $server->get('/end')->{body}, 'ended by 15', 'it dies of SIGTERM';
    is $server->get('/')->{body}, 'ok', 'the worker serves';
    is_deeply [ $server->worker_pids ], [$worker], 'the same worker';
    my $ticks = sub { (split ' ', read_text("/proc/$worker/stat") =~ s/.*\)//r)[11, 12] };
    my ($user, $system) = $ticks->();
    ok !wait_for(sub { my ($u, $s) = $ticks->(); $u + $s - $user - $system > 20 }, 1), 'and does not spin while idle';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'it does not hold the listening socket' => sub {
    my $server = BladePSGI::Test->start(app => $app, workers => 1);
    my $kid = $server->get('/fork')->{body};
    my $listens = sub {
        my %listening = map { $_ => 1 } map { (split)[6] } grep { (split)[3] eq '00010000' } split /\n/, read_text('/proc/net/unix');
        return grep { (readlink($_) // '') =~ /\Asocket:\[(\d+)\]/ && $listening{$1} } glob "/proc/$kid/fd/*";
    };
    ok wait_for(sub { !$listens->() }), 'none that listens, once it runs';
    ok kill(0, $kid), 'while it lives';
    kill KILL => $kid;
    is $server->stop, 'exit 0', 'stops';
};

subtest 'nor a connection' => sub {
    my $server = BladePSGI::Test->start(app => $app, workers => 1);
    my $c = $server->connect;
    my $answer = $c->request(uri => '/fork', keep => 0);
    my $kid = $answer->{body};
    like $kid, qr/\A\d+\z/, 'forked';
    ok $c->closes, 'the connection ends after the response';
    ok kill(0, $kid), 'while it lives';
    kill KILL => $kid;
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
