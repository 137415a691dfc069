# A smart stop: who is inside is served, whatever he has done so far; who comes later is refused.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Load;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Test::More;

# /waits/X waits for the gate X; /leaves ends its worker; /dies kills it; others answer with their path, and the body's length.
my $app = BladePSGI::Test->gate_code . <<'PERL';
sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    if ($path =~ m{^/waits/(\w+)}) { mark("in-$1"); gate($1) }
    $env->{'psgix.harakiri.commit'} = 1 if $path =~ m{^/leaves};
    kill KILL => $$ if $path eq '/dies';
    my $length = 0;
    while (my $n = $env->{'psgi.input'}->read(my $bytes, 65536)) { $length += $n }
    return [200, ['Content-Type' => 'text/plain'], ["$path $length"]];
};
PERL

# A server with one worker, which waits for the gate "go".
sub busy_server {
    my (%o) = @_;
    my $server = BladePSGI::Test->start(workers => 1, app => $app, %o);
    $server->{busy} = BladePSGI::Test::FastCGI->connect($o{over} ? $o{over}->($server) : $server->socket);
    $server->{busy}->send(request_bytes(uri => '/waits/go'));
    $server->wait_mark('in-go') or die 'the worker is not busy';
    return $server;
}

sub queue_up {
    my ($address, @paths) = @_;
    return map { my $c = BladePSGI::Test::FastCGI->connect($address, timeout => 40); $c->send(request_bytes(uri => $_)); $c } @paths;
}

# How many of them are answered, each with its own.
sub count_answered {
    my ($clients, @paths) = @_;
    return scalar grep {
        my $answer = eval { $clients->[$_]->read_response } || {};
        $answer->{ended} && $answer->{body} eq "$paths[$_] 0";
    } 0 .. $#paths;
}

sub is_refused { return !IO::Socket::UNIX->new(Peer => $_[0]) }

my @many = map { "/queued/$_" } 1 .. 64;

subtest 'the listen queue of a UNIX socket' => sub {
    my $server = busy_server();
    my @queued = queue_up($server->socket, @many);
    $server->signal('TERM');
    ok wait_for { is_refused($server->socket) }, 'who comes now is refused';
    ok !-e $server->socket, 'the path is gone';
    $server->open_gate('go');
    is $server->{busy}->read_response->{body}, '/waits/go 0', 'the request under way is finished';
    is count_answered(\@queued, @many), 64, 'who waited is answered';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

# Each of these workers is over almost before its pid is known.
subtest 'several workers, and harakiri after each request' => sub {
    my @paths = map { "/leaves/$_" } 1 .. 12;
    for my $round (1 .. (is_long() ? 30 : 5)) {
        my $server = busy_server(workers => 2);
        my $second = $server->connect;
        $second->send(request_bytes(uri => '/waits/second'));
        $server->wait_mark('in-second');
        my @queued = queue_up($server->socket, @paths);
        $server->signal('TERM');
        $server->wait_log(qr/stopping/);
        $server->open_gate($_) for qw(go second);
        is count_answered(\@queued, @paths), 12, 'all are answered, though each costs a worker';
        is $server->wait_exit, 'exit 0', 'exit code 0';
    }
};

subtest 'a worker dies of one of them' => sub {
    my @paths = map { "/queued/$_" } 1 .. 10;
    my $server = busy_server();
    my @queued = queue_up($server->socket, @paths[ 0 .. 4 ], '/dies', @paths[ 5 .. 9 ]);
    my ($broken) = splice @queued, 5, 1;
    $server->signal('TERM');
    $server->wait_log(qr/stopping/);
    $server->open_gate('go');
    is count_answered(\@queued, @paths), 10, 'the others are answered';
    ok !$broken->read_response->{ended}, 'that one is not';
    is $server->wait_exit, 'exit 0', 'exit code 0';
    like $server->log, qr/worker 0 \(pid \d+\) died unexpectedly: signal 9/, 'and is in the log';
};

subtest 'a TCP socket, and who takes over its port' => sub {
    my $server = busy_server(workers => 2, options => ['--fastcgi=127.0.0.1:0']);
    my $address = $server->tcp_address;
    my $long = $server->connect;
    $long->send(request_bytes(uri => '/waits/long'));
    $server->wait_mark('in-long');
    my @queued = queue_up($address, @many);
    $server->signal('TERM');
    $server->wait_log(qr/stopping/);
    $server->open_gate('go');
    is count_answered(\@queued, @many), 64, 'who waited is answered';
    ok wait_for { !IO::Socket::INET->new(PeerAddr => $address, Timeout => 5) && $!{ECONNREFUSED} }, 'who comes now is refused';
    my $next = BladePSGI::Test->start(workers => 1, app => $app, options => ["--fastcgi=$address"]);
    my $answer = BladePSGI::Test::FastCGI->connect($address)->request(uri => '/next');
    is $answer->{body}, '/next 0', 'the port is free for another server';
    $server->open_gate('long');
    is $long->read_response->{body}, '/waits/long 0', 'while the old one still serves';
    is $server->wait_exit, 'exit 0', 'exit code 0';
    is $next->stop, 'exit 0', 'the next one stops';
};

subtest 'without a lobby' => sub {
    my $server = busy_server(options => ['--lobby-connections=0', '--fastcgi=127.0.0.1:0']);
    my @queued = (queue_up($server->socket, @many[ 0 .. 31 ]), queue_up($server->tcp_address, @many[ 32 .. 63 ]));
    $server->signal('TERM');
    $server->wait_log(qr/stopping/);
    $server->open_gate('go');
    is count_answered(\@queued, @many), 64, 'who waited is answered, on either socket';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'an inherited socket is left to the successor' => sub {
    for my $kind ('UNIX', 'TCP') {
        my $folder = File::Temp::tempdir('bladepsgi-XXXXXX', TMPDIR => 1, CLEANUP => 1);
        my $listener = $kind eq 'UNIX' ? IO::Socket::UNIX->new(Local => "$folder/s", Listen => 128) : IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128);
        my $address = $kind eq 'UNIX' ? "$folder/s" : '127.0.0.1:' . $listener->sockport;
        my @how = (options => ['--fastcgi=fd:3'], descriptors => [$listener], over => sub { $address });
        my $server = busy_server(@how);
        my @queued = queue_up($address, @many);
        $server->signal('TERM');
        $server->wait_log(qr/stopping/);
        $server->open_gate('go');
        is $server->{busy}->read_response->{body}, '/waits/go 0', "$kind: the request under way is finished";
        is $server->wait_exit, 'exit 0', 'and the server has gone';
        ok !(grep { $_->is_readable } @queued), 'nobody who waited was touched';
        push @queued, queue_up($address, '/later');
        my $next = BladePSGI::Test->start(workers => 1, app => $app, @how);
        is count_answered(\@queued, @many, '/later'), 65, 'the successor answers all of them';
        is $next->stop, 'exit 0', 'and stops';
    }
};

subtest 'requests that are not complete' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => $app, options => ['--body-ahead=100K', '--fastcgi=127.0.0.1:0']);
    my $tcp = $server->tcp_address;
    my %client = map { $_ => $server->connect } qw(head body large idle new);
    $client{fresh} = BladePSGI::Test::FastCGI->connect($tcp);
    my $head = request_bytes(uri => '/head');
    my $body = request_bytes(uri => '/body', method => 'POST', body => 'x' x 50_000);
    my $large = request_bytes(uri => '/large', method => 'POST', body => 'x' x 2_000_000);
    $client{head}->send(substr $head, 0, 20);
    $client{body}->send(substr $body, 0, 10_000);
    $client{large}->send(substr $large, 0, 50_000);
    ok $client{idle}->request(uri => '/kept', keep => 1)->{ended}, 'a kept connection';
    $server->signal('TERM');
    ok $client{idle}->closes(10), 'one without a request is closed at once';
    $client{fresh}->send(request_bytes(uri => '/fresh'));
    is $client{fresh}->read_response->{body}, '/fresh 0', 'who had just connected has a moment for his request';
    $client{head}->send(substr $head, 20);
    is $client{head}->read_response->{body}, '/head 0', 'the rest of a head comes';
    $client{body}->send(substr $body, 10_000);
    is $client{body}->read_response->{body}, '/body 50000', 'the rest of a body';
    ok $server->is_running, 'and the last one is waited for';
    $client{large}->send(substr $large, 50_000);
    is $client{large}->read_response->{body}, '/large 2000000', 'the rest of a large body';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'clients that fall silent in the middle' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => $app);
    my ($head, $body) = map { $server->connect } 1, 2;
    $head->send(substr request_bytes(uri => '/head'), 0, 20);
    $body->send(substr request_bytes(uri => '/body', method => 'POST', body => 'x' x 50_000), 0, 10_000);
    ok within(12, sub { is $server->stop(TERM => 60), 'exit 0', 'exit code 0' }), 'hold nothing up for long';
    ok $head->closes(5), 'a head is given up';
    is $body->read_response->{status}, 408, 'a body is answered';
};

subtest 'a request sent on a kept connection before it was closed' => sub {
    my $server = busy_server(workers => 1);
    my @kept = map { $server->connect } 1 .. 8;
    $server->open_gate('go');
    ok $_->request(uri => '/kept', keep => 1)->{ended}, 'a kept connection' for @kept;
    my $again = $server->connect;
    $again->send(request_bytes(uri => '/waits/again'));
    $server->wait_mark('in-again');
    $_->send(request_bytes(uri => '/once-more', keep => 1)) for @kept;
    $server->signal('TERM');
    $server->wait_log(qr/stopping/);
    $server->open_gate('again');
    is scalar(grep { $_->read_response->{body} eq '/once-more 0' } @kept), 8, 'is answered';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'HTTP says that it closes' => sub {
    my $server = http_server(workers => 1, app => $app);
    my $c = http($server);
    $c->send(http_request(uri => '/waits/go'));
    $server->wait_mark('in-go');
    $server->signal('TERM');
    $server->wait_log(qr/stopping/);
    $server->open_gate('go');
    my $answer = $c->read_response;
    is $answer->{body}, '/waits/go 0', 'a request is finished';
    is $answer->{header}{connection}, 'close', 'and is the last one on its connection';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'the next server on the same path' => sub {
    my $server = busy_server();
    $server->signal('TERM');
    ok wait_for { !-e $server->socket }, 'the path is free';
    my $next = BladePSGI::Test->start(workers => 1, app => $app, socket => $server->socket, stats => $server->stats_path);
    is $next->get('/new')->{body}, '/new 0', 'the next server is there while the old one still serves';
    $server->open_gate('go');
    is $server->{busy}->read_response->{body}, '/waits/go 0', 'which it does to the end';
    is $server->wait_exit, 'exit 0', 'and goes';
    ok -e $_, 'what belongs to the next one is still there' for $next->socket, $next->stats_path;
    is $next->get('/new')->{body}, '/new 0', 'it serves';
    is $next->stop, 'exit 0', 'and stops';
};

subtest '--stop-timeout' => sub {
    my $server = busy_server(options => ['--stop-timeout=2s'], workers => 2);
    my ($worker) = map { $server->pid_of("worker $_") } 0, 1;
    my $part = $server->connect;
    $part->send(substr request_bytes(uri => '/part'), 0, 20);
    ok within(10, sub { is $server->stop, 'exit 0', 'exit code 0' }), 'in time';
    like $server->log, qr/stopping: waiting for 2 workers, 1 still serving, oldest GET \/waits\/go \d/, 'the log says how far it is';
    like $server->log, qr/WARNING: .*stopping: not done within 2\.0 s \(--stop-timeout\)/, 'then that it takes too long';
    like $server->log, qr/WARNING: .*stopping: worker \d \(pid \d+\) is killed while it served GET \/waits\/go \(request id [^)]+\), for \d+\.\d s/, 'and who is to blame';
    like $server->log, qr/WARNING: .*stopping: requests that have come in part and are cut off: 1$/m, 'a request in part, too';
    unlike $server->log, qr/died unexpectedly/, 'nobody is said to have crashed';
};

subtest 'a lobby that hangs, or is dead' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => $app, options => ['--stop-timeout=2s']);
    my $lobby = $server->pid_of('lobby');
    my $part = $server->connect;
    $part->send(substr request_bytes(uri => '/part'), 0, 20);
    kill STOP => $lobby;
    ok within(10, sub { is $server->stop, 'exit 0', 'exit code 0' }), 'one that hangs is not waited for any longer';

    $server = busy_server();
    $lobby = $server->pid_of('lobby');
    my @queued = queue_up($server->socket, @many[ 0 .. 4 ]);
    $server->signal('TERM');
    $server->wait_log(qr/stopping/);
    kill KILL => $lobby;
    $server->wait_log(qr/lobby \(pid \d+\) died unexpectedly/);
    $server->open_gate('go');
    is count_answered(\@queued, @many[ 0 .. 4 ]), 5, 'without one the queue is served all the same';
    ok within(10, sub { is $server->wait_exit, 'exit 0', 'exit code 0' }), 'and nothing is waited for';
};

subtest '--drain-delay' => sub {
    my $server = BladePSGI::Test->prepare(workers => 1, app => $app, control => 1);
    my $health = $server->folder . '/health.sock';
    push @{ $server->{options} }, "--health=$health", '--drain-delay=3s';
    $server->launch->wait_ready or die 'not ready';
    my $ask = sub { return run_to_end([ bladepsgi_binary(), "--ping=$health" ]) };
    is $ask->()->{out}, "ok: 1 of 1 workers ready\n", 'healthy';
    $server->signal('TERM');
    my $state;
    ok wait_for { ($state = $ask->())->{exit} eq 'exit 1' }, 'not any more, from the signal on';
    like $state->{out} . $state->{err}, qr{not healthy: draining, 1 of 1 workers ready$}m, 'which says why';
    is $server->get('/late')->{body}, '/late 0', 'but who comes is served';
    is $server->bladectl_result('status')->{state}, 'draining', 'bladectl knows';
    my $worker = $server->pid_of('worker 0');
    kill KILL => $worker;
    ok $server->pid_of('worker 0', $worker), 'a worker that dies is replaced';
    is $server->get('/later')->{body}, '/later 0', 'and serves';
    is $server->wait_exit, 'exit 0', 'then it stops';
    like $server->log, qr/to be stopped: serving on for 3\.0 s first \(--drain-delay\).*stopping: waiting for 1 worker/s, 'as the log says';

    $server = BladePSGI::Test->start(workers => 1, app => $app, options => ['--drain-delay=1h']);
    $server->signal('TERM');
    $server->wait_log(qr/--drain-delay/);
    ok within(10, sub { is $server->stop('TERM'), 'exit 0', 'exit code 0' }), 'SIGTERM again: fast';
};

subtest 'no worker at all' => sub {
    my $server = BladePSGI::Test->start(app => $app, workers => 2, options => ['--min-workers=0']);
    is_deeply [ $server->worker_pids ], [], 'none is running';
    ok within(10, sub { is $server->stop, 'exit 0', 'exit code 0' }), 'it stops';
    unlike $server->log, qr/ERROR/, 'without any trouble';
};

subtest 'in the middle of something else' => sub {
    my $server = BladePSGI::Test->start(workers => 1, ready => 0, app => BladePSGI::Test->gate_code . "mark('loads'); gate('never'); sub { }");
    $server->wait_mark('loads');
    ok within(10, sub { is $server->stop, 'exit 0', 'exit code 0' }), 'while it loads';

    my $slow = "mark('loads-' . ++\$main::n . \$\$); gate('load') if -e 'slow';\n";
    for my $case ([ 'a reload' ], [ 'a reload without preloading', '--no-preload' ]) {
        my ($name, @options) = @$case;
        $server = BladePSGI::Test->start(workers => 2, app => $app =~ s/(?=^sub \{\n    my \(\$env)/$slow/mr, options => \@options);
        my $c = $server->connect;
        $c->send(request_bytes(uri => '/waits/go'));
        $server->wait_mark('in-go');
        write_text($server->folder . '/slow', '');
        $server->signal('HUP');
        ok wait_for { $server->log =~ /reload asked for/ }, "in $name";
        $server->signal('TERM');
        $server->wait_log(qr/stopping/);
        $server->open_gate('go');
        is $c->read_response->{body}, '/waits/go 0', 'the request under way is finished';
        ok within(10, sub { is $server->wait_exit, 'exit 0', 'exit code 0' }), 'and nothing else waited for';
    }

    $server = BladePSGI::Test->start(workers => 4, app => $app, options => ['--max-requests=5']);
    my $load = BladePSGI::Test::Load->start($server, clients => 3, keep => 0, go_on => 0);
    ok wait_for { $server->stats->{requests} > 200 }, 'while workers are recycled';
    is $server->stop, 'exit 0', 'exit code 0';
    my @cut = grep { !/cannot connect/ } @{ $load->stop->{failures} };
    is_deeply \@cut, [], 'whoever was let in was answered';
};

subtest 'a successor on the same path takes over, under load' => sub {
    my $rounds = is_long() ? 30 : 3;
    my $server = BladePSGI::Test->start(workers => 3, app => $app);
    my ($socket, $stats) = ($server->socket, $server->stats_path);
    # A connection that was refused was never made: the client tries again.
    my $connect = sub {
        for (1 .. 4000) {
            my $c = eval { BladePSGI::Test::FastCGI->connect($socket, timeout => 20) };
            return $c if $c;
            select undef, undef, undef, 0.005;
        }
        die 'nobody there';
    };
    my $keeping = BladePSGI::Test::Load->start($server, clients => 2, keep => 1, connect => $connect);
    my $fresh = BladePSGI::Test::Load->start($server, clients => 6, keep => 0, connect => $connect);
    for my $round (1 .. $rounds) {
        my $before = $server;
        ok wait_for { ($before->stats->{requests} || 0) > 200 }, "round $round: load is on" or last;
        $before->signal('TERM');
        wait_for { !-e $socket } or die 'the path is not freed';
        $server = BladePSGI::Test->start(workers => 3, app => $app, socket => $socket, stats => $stats);
        is $before->wait_exit, 'exit 0', 'the one before has gone';
    }
    for my $load ($keeping, $fresh) {
        my $result = $load->stop;
        is_deeply $result->{failures}, [], "nothing is lost: $result->{ok} answered, $result->{retried} asked again on a kept connection that was closed";
    }
    is $server->stop, 'exit 0', 'the last one stops';
};

done_testing;
