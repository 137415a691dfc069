# Time limits and --max-body over HTTP; and what a client that is slow costs the others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use Test::More;

my $app = <<'PERL';
sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    if ($path eq '/large') { return sub { my $w = $_[0]->([200, []]); $w->write('x' x 1_000_000) for 1 .. 40; $w->close } }
    if ($path eq '/body') {
        my ($all, $n) = (0);
        do { $! = 0; $n = $env->{'psgi.input'}->read(my $b, 65536); $all += $n || 0 } while $n;
        return [200, [], [join ' ', $all, defined $n ? 'whole' : 'broken: ' . ($!{ETIMEDOUT} ? 'time' : $!{EFBIG} ? 'size' : $! + 0)]];
    }
    return [200, [], ["$$"]];
};
PERL

my $head = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

sub pid_of_answer { my ($server) = @_; return http($server)->request->{body} }

subtest '--head-timeout' => sub {
    my $server = http_server(workers => 1, app => $app, options => ['--head-timeout=500ms']);
    my $pid = pid_of_answer($server);
    my $from = $server->log_size;
    my $c = http($server);
    ok !$c->is_readable, 'a connection on which nothing comes is not closed at once';
    ok $c->closes, 'but then, without a word';

    $c = http($server);
    $c->send(substr $head, 0, 10);
    ok $c->closes, 'half a head';
    ok $server->wait_log(qr/WARNING:  lobby\[\d+\]: dropped a connection: its request took too long/, 5, $from), 'that is logged';
    is(() = substr($server->log, $from) =~ /took too long/g, 1, 'and silence is not: browsers open connections that they may need');

    # A byte every now and then does not prolong it.
    $c = http($server);
    my $sent = 0;
    while ($sent < 1000 && !$c->is_readable(0.01)) { $c->send($sent < 4 ? substr $head, $sent, 1 : 'x'); $sent++ }
    cmp_ok $sent, '<', 1000, 'a head that trickles';
    ok !length $c->here, 'is dropped without a word';
    $c->close;

    $c = http($server);
    is $c->request->{body}, $pid, 'a good request';
    $c->send(substr $head, 0, 20);
    ok $c->closes, 'and half of a second one';
    $c = http($server);
    $c->send($head . substr $head, 0, 20);
    is $c->read_response->{body}, $pid, 'the same in one piece: the first is answered';
    ok $c->closes, 'the second one dropped';
    is pid_of_answer($server), $pid, 'the worker lives on';
    is $server->stop, 'exit 0', 'stops';
};

subtest '--body-timeout' => sub {
    my $server = http_server(workers => 1, app => $app, options => ['--body-timeout=500ms']);
    my $pid = pid_of_answer($server);
    my $from = $server->log_size;
    for my $body ("Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhalf", "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n") {
        my $c = http($server);
        $c->send("POST /body HTTP/1.1\r\nHost: x\r\n$body");
        my $r = $c->read_response;
        is_whole $r, 'a small body that does not come: answered';
        is $r->{status}, 408, 'with 408';
        ok $r->{closing}, 'and closed';
    }
    ok $server->wait_log(qr{WARNING:  worker\[\d+\]: POST /body \[\S+\]: refused a request: its body took too long}, 5, $from), 'and logged';
    my $c = http($server);
    $c->send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" . 'x' x 100_000);
    my $r = $c->read_response;
    is_whole $r, 'a large one';
    is $r->{body}, '100000 broken: time', 'is an error in the application';
    if (!$r->{closing}) {
        $c->send('x' x 100_000);
        is_whole $c->request, 'the connection stays in step when the rest comes after all';
    }

    # It is the longest silence, not the whole time.
    $c = http($server);
    $c->send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n");
    for (1 .. 40) { last if $c->is_readable(0.01); $c->send("x") }
    is $c->read_response->{body}, '40 whole', 'a slow body that comes';
    is pid_of_answer($server), $pid, 'the worker lives on';
    is $server->stop, 'exit 0', 'stops';
};

subtest '--idle-timeout' => sub {
    my $server = http_server(workers => 1, app => $app, options => [ '--idle-timeout=500ms', '--head-timeout=60s' ]);
    for my $version ('1.1', '1.0') {
        my $c = http($server);
        for (1 .. 3) { is_whole $c->request(version => $version, keep => $version eq '1.0'), "HTTP/$version: a kept connection" }
        ok !$c->is_readable, 'is not closed at once';
        ok $c->closes, 'but when it waits for longer';
    }
    my $c = http($server);
    ok !$c->is_readable(1), 'a fresh connection has the time for its head';
    is_whole $c->request, 'and is answered';
    is $server->stop, 'exit 0', 'stops';
    unlike $server->log, qr/dropped a connection/, 'the end of an idle connection is nothing to log';
};

subtest '--send-timeout' => sub {
    my $server = http_server(workers => 1, app => $app, options => ['--send-timeout=200ms']);
    my $pid = pid_of_answer($server);
    for my $version ('1.1', '1.0') {
        my $c = http($server);
        $c->send(http_request(uri => '/large', version => $version));
        is pid_of_answer($server), $pid, "HTTP/$version: a client that reads nothing is given up, and others are served";
        my $r = $c->read_response(version => $version);
        is $r->{status}, 200, 'it finds the beginning';
        cmp_ok length $r->{body}, '<', 40_000_000, 'not all';
        ok !$r->{complete}, 'and sees that it is not';
    }
    is $server->stop, 'exit 0', 'stops';
};

subtest '--max-body' => sub {
    my $server = http_server(workers => 1, app => $app, options => ['--max-body=1000']);
    my $pid = pid_of_answer($server);
    my $c = http($server);
    is $c->request(uri => '/body', body => 'x' x 1000)->{body}, '1000 whole', 'as long as allowed';
    is $c->request(uri => '/body', body => [ ('x' x 100) x 10 ])->{body}, '1000 whole', 'also in chunks';
    for my $case ([ 'with its length', 'x' x 1001 ], [ 'in chunks', [ ('x' x 100) x 10, 'x' ] ], [ 'a huge one', 'x' x 1_000_000 ], [ 'a huge one in chunks', [ 'x' x 1_000_000 ] ]) {
        my ($name, $body) = @$case;
        $c = http($server);
        $c->send(http_request(uri => '/body', body => $body) . http_request(uri => '/smuggled'));
        my $r = $c->read_response;
        is_whole $r, "$name: answered";
        is $r->{status}, 413, 'with 413';
        ok $r->{closing}, 'and closed';
    }
    $c = http($server);
    $c->send("POST /body HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
    my $r = $c->read_response;
    is_whole $r, 'a client that asks first';
    is $r->{status}, 413, 'is told 413';
    is_deeply $r->{informational}, [], 'and not to go on';
    $c->close;
    log_like $server, qr{WARNING:  worker\[\d+\]: POST /body \[\S+\]: refused a request: its body is too large}, 'logged';
    is pid_of_answer($server), $pid, 'the worker lives on';
    is $server->stop, 'exit 0', 'stops';

    $server = http_server(workers => 1, app => $app, options => ['--max-body=100000']);
    $c = http($server);
    $r = $c->request(uri => '/body', body => [ ('x' x 10_000) x 11 ]);
    is_whole $r, 'chunks that are streamed to the application';
    is $r->{status}, 413, 'whatever that makes of its part';
    log_like $server, qr{WARNING:  worker\[\d+\]: POST /body \[\S+\]: the application could not read all of the body: it is longer than --max-body after \d+ bytes \(answered with status 413\)}, 'logged';
    is http($server)->request->{status}, 200, 'the next one is served';
    is $server->stop, 'exit 0', 'stops';
};

subtest '--drain-limit' => sub {
    my $server = http_server(workers => 1, app => $app, options => ['--drain-limit=100000']);
    my $c = http($server);
    for my $body ('x' x 90_000, [ 'x' x 90_000 ]) {
        is_whole $c->request(uri => '/unread', body => $body), 'a body that nobody reads';
        is_whole $c->request, 'is stepped over';
    }
    my $r = $c->request(uri => '/unread', body => 'x' x 400_000);
    is_whole $r, 'a larger one';
    ok $r->{closing}, 'costs the connection';
    $c = http($server);
    $c->send(http_request(uri => '/unread', body => [ 'x' x 400_000 ]) . http_request(uri => '/smuggled'));
    $r = $c->read_response;
    is $r->{status}, 200, 'the same in one chunk';
    ok $c->closes || $r->{closing}, 'too';
    is $server->stop, 'exit 0', 'stops';
};

# As it is: a worker waits for a slow head until the time limit, so that each of them costs one worker.
subtest 'slow heads' => sub {
    my $server = http_server(workers => 2, app => $app);
    my $slow = http($server);
    $slow->send(substr $head, 0, 10);
    my @answers = map { pid_of_answer($server) } 1 .. 20;
    is scalar(grep { /\A\d+\z/ } @answers), 20, 'one of two workers waits for a head: the other one serves';
    ok !$slow->is_readable, 'while the first still waits';
    $slow->send(substr $head, 10);
    like $slow->read_response->{body}, qr/\A\d+\z/, 'and answers in the end';
    is $server->stop, 'exit 0', 'stops';

    $server = http_server(workers => 2, app => $app, options => ['--head-timeout=500ms']);
    my @slow = map { http($server) } 1 .. 2;
    $_->send(substr $head, 0, 10) for @slow;
    like pid_of_answer($server), qr/\A\d+\z/, 'both wait: others are served after the time limit';
    ok $_->closes, 'and the slow ones are closed' for @slow;
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
