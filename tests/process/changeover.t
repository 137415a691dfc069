#!/usr/bin/perl
# A new generation takes over from the old one: never more workers than asked for, and no request is cut short by it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Test::More;

my $app = BladePSGI::Test->can('gate_code')->() . <<'PERL';
sub {
    my ($env) = @_;
    if ($env->{PATH_INFO} eq '/sleep') {
        my $end = time + 3;
        mark('in');
        my $left = select undef, undef, undef, 3;
        return [200, [], [$left == 0 && time >= $end - 1 ? 'whole' : "cut short: $left $!"]];
    }
    return [200, [], [$$]];
};
PERL

subtest 'zygote and workers die together' => sub {
    my $server = BladePSGI::Test->start(app => $app, workers => 4);
    my $zygote = $server->pid_of('zygote');
    my @workers = $server->worker_pids;
    kill KILL => $zygote, @workers[0 .. 2];
    ok $server->wait_log(qr/is good.*; workers change over/), 'the application is loaded again';
    ok wait_for(sub { my @now = $server->worker_pids; @now == 4 && !grep { my $pid = $_; grep { $_ == $pid } @workers } @now }, 20),
        'four new workers, and no old one';
    ok !wait_for(sub { $server->worker_pids != 4 }, 1.5), 'and it stays at four when the back-off is over';
    is $server->stop, 'exit 0', 'stops';
};

for my $case (['SIGTERM to the overseer', sub { $_[0]->signal('TERM') }], ['a changeover', sub { kill KILL => $_[0]->pid_of('zygote') }]) {
    my ($name, $action) = @$case;
    subtest "$name does not cut a sleep or select short" => sub {
        my $server = BladePSGI::Test->start(app => $app, workers => 1);
        my $c = $server->connect;
        $c->send(request_bytes(uri => '/sleep'));
        ok $server->wait_mark('in'), 'the request sleeps';
        $action->($server);
        is $c->read_response->{body}, 'whole', 'it slept as long as it wanted';
        $name =~ /overseer/ ? is($server->wait_exit, 'exit 0', 'stops') : is($server->stop, 'exit 0', 'stops');
    };
}

done_testing;
