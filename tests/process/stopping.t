# Stopping under load, with kept connections, with idle ones; END blocks; connections given up.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::Load;
use Test::More;

my $load_app = "$FindBin::Bin/../apps/load.psgi";
my $echo_app = "$FindBin::Bin/../apps/echo.psgi";

subtest 'SIGTERM with idle kept connections' => sub {
    my $server = BladePSGI::Test->start(app_file => $echo_app, workers => 2);
    my @kept = map { $server->connect } 1, 2;
    for (@kept) { ok $_->request(uri => '/x', keep => 1)->{ended}, 'a kept connection' }
    ok within(5, sub { is $server->stop('TERM', 15), 'exit 0', 'exit code 0' }), 'they delay nothing';
    ok $_->closes(5), 'and are closed' for @kept;
};

subtest 'SIGTERM while a request arrives' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => BladePSGI::Test->gate_code . <<'PERL');
sub {
    my $in = $_[0]{'psgi.input'};
    $in->read(my $bytes, 1000);
    mark('in');
    my $length = length $bytes;
    while (my $n = $in->read($bytes, 65536)) { $length += $n }
    return [200, [], [$length]];
};
PERL
    my $c = $server->connect;
    my $bytes = request_bytes(uri => '/', method => 'POST', body => 'x' x 200_000);
    $c->send(substr $bytes, 0, 100_000);
    ok $server->wait_mark('in'), 'the application reads its body';
    $server->signal('TERM');
    ok $server->wait_log(qr/stopping/), 'the server stops';
    $c->send(substr $bytes, 100_000);
    is $c->read_response->{body}, 200_000, 'the request that is being served is finished';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'SIGTERM to a worker whose handler the request before has changed' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => BladePSGI::Test->gate_code . <<'PERL');
sub {
    my $path = $_[0]{PATH_INFO};
    local $SIG{TERM} = sub { } if $path eq '/changes';    # restored as the default, which would end this process
    my ($gate) = $path =~ m{^/waits/(\w+)};
    if ($gate) { mark("in-$gate"); gate($gate) }
    return [200, [], [$path]];
};
PERL
    my $first = $server->connect;
    $first->send(request_bytes(uri => '/waits/one'));
    ok $server->wait_mark('in-one'), 'the worker is busy, and others queue up';
    my @queued = map { my $c = $server->connect; $c->send(request_bytes(uri => $_)); $c } qw(/a /b /changes /waits/two);
    $server->open_gate('one');
    ok $server->wait_mark('in-two'), 'the last of them is served';
    kill TERM => $server->worker_pids;
    $server->open_gate('two');
    is $queued[-1]->read_response->{body}, '/waits/two', 'SIGTERM in the middle of it costs nothing';
    unlike $server->log, qr/died unexpectedly/, 'the worker has left by itself';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'SIGTERM while a response streams to a slow client' => sub {
    my $server = BladePSGI::Test->start(app_file => $echo_app, workers => 1);
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/big/20000000'));
    ok $c->is_readable(10), 'it has begun';
    $server->signal('TERM');
    my $answer = $c->read_response;
    is length $answer->{body}, 20_000_000, 'it is finished';
    ok $answer->{ended}, 'completely';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'SIGTERM under load: what was begun is finished' => sub {
    my $server = BladePSGI::Test->start(app_file => $load_app, workers => 2);
    my $load = BladePSGI::Test::Load->start($server, clients => 3, keep => 0, timeout => 5);
    ok wait_for { $server->stats->{requests} > 100 }, 'load is on';
    is $server->stop('TERM'), 'exit 0', 'exit code 0';
    my $result = $load->stop;
    my $served = -s $server->folder . '/served';
    is $result->{ok}, $served, 'every request that an application saw was answered';
    my @cut = grep { /not answered completely: '.+'/s } @{ $result->{failures} };
    is_deeply \@cut, [], 'and none in part';
};

subtest 'a second signal of another kind' => sub {
    my $server = BladePSGI::Test->start(app_file => $echo_app, workers => 1);
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/block/first'));
    $server->wait_mark('first');
    $server->signal('TERM');
    ok $server->wait_log(qr/SIGTERM|shutdown|stop/i), 'it says that it stops';
    $server->signal('INT');
    is $server->wait_exit(10), 'exit 0', 'INT after TERM: fast';
    $server = BladePSGI::Test->start(app_file => $echo_app, workers => 1);
    $c = $server->connect;
    $c->send(request_bytes(uri => '/block/second'));
    $server->wait_mark('second');
    $server->signal('TERM');
    $server->signal('QUIT');
    is $server->wait_exit(10), 'exit 4', 'QUIT after TERM: immediate';
};

subtest 'an auxiliary process that takes its time' => sub {
    my $server = BladePSGI::Test->start(workers => 1, loader => BladePSGI::Test->gate_code . <<'PERL');
package My::Loader;
sub {
    my ($context) = @_;
    $context->request_auxiliary_process('slow one', sub {
        $SIG{TERM} = sub { main::mark('told'); main::gate('end'); exit 0 };
        main::mark('runs');
        select undef, undef, undef, 3600 while 1;
    });
    return ({}, sub { [200, [], ['ok']] });
};
PERL
    ok $server->wait_mark('runs'), 'it runs';
    my $pid = $server->pid_of('slow one');
    $server->signal('TERM');
    ok $server->wait_mark('told'), 'it is told';
    log_like $server, qr/stopping: all workers have gone; waiting for auxiliary processes: 'slow one' \(pid $pid\)/, 'the log says who is waited for';
    ok !-e $server->socket && !-e $server->stats_path, 'nobody who connects now would be answered: the sockets are gone';
    $server->open_gate('end');
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'END blocks' => sub {
    my $app = <<'PERL';
my $loaded = $$;
END {
    my $role = $$ == $loaded ? 'zygote' : 'worker';
    open my $out, '>>', 'ended'; syswrite $out, "$role $$ $?\n";
    print "last words from END\n";
}
package Guard { sub DESTROY { open my $out, '>>', 'destroyed'; syswrite $out, "$$\n" } }
our $guard = bless {}, 'Guard';
sub { my ($env) = @_;
    $env->{'psgix.harakiri.commit'} = 1 if $env->{PATH_INFO} eq '/harakiri';
    exit 5 if $env->{PATH_INFO} eq '/exit';
    select undef, undef, undef, 0.02;
    [200, [], [$$]] };
PERL
    my $server = BladePSGI::Test->start(workers => 2, app => $app);
    my $first = $server->get('/harakiri')->{body};
    ok wait_for { read_text($server->folder . '/ended') =~ /^worker $first /m }, 'run after harakiri';
    my ($second) = grep { $_ != $first } $server->worker_pids;
    $server->get('/exit');
    ok wait_for { (() = read_text($server->folder . '/ended') =~ /^worker/mg) == 2 }, 'run after exit';
    my %serving;
    ok wait_for {
        my @c = map { $server->connect } 1 .. 4;
        $_->send(request_bytes()) for @c;
        $serving{ $_->read_response->{body} } = 1 for @c;
        2 == grep { $serving{$_} } $server->worker_pids;
    }, 'both are replaced, and serve';
    is $server->stop, 'exit 0', 'stops';
    my $ended = read_text($server->folder . '/ended');
    is scalar(() = $ended =~ /^worker/mg), 4, 'run once in each of the four workers';
    unlike $ended, qr/zygote/, 'and not in the zygote';
    is read_text($server->folder . '/destroyed'), '', 'no global destruction: objects of the zygote are not destroyed in workers';
    is scalar(() = $server->log =~ /last words from END$/mg), 4, 'what they print is in the log';
};

subtest 'a kept connection is given up when another one waits' => sub {
    my $server = BladePSGI::Test->start(app_file => $load_app, workers => 1);
    my $kept = $server->connect;
    ok $kept->request(uri => '/load/0/0', keep => 1)->{ended}, 'one worker, which keeps a connection';
    ok within(3, sub { ok $server->get('/load/0/1')->{ended}, 'another client is served' }), 'at once';
    my $load = BladePSGI::Test::Load->start($server, clients => 4, keep => 1);
    ok wait_for { $server->stats->{requests} > 500 }, 'four clients with kept connections on one worker';
    my $result = $load->stop;
    is_deeply $result->{failures}, [], "no request is lost ($result->{ok} served, $result->{retried} asked again)";
    is -s $server->folder . '/served', $result->{ok} + 2, 'and none is run twice';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
