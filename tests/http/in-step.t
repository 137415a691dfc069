# What must not bring a kept connection out of step, and peers that want more than their turn.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ();
use BladePSGI::Test::HTTP;
use Test::More;

my $app = <<'PERL';
my %cases = (
    '/blank'    => sub { [200, ['Content-Length' => ' 5'], ['hello world']] },
    '/identity' => sub { [200, ['Content-Length' => 5, 'Transfer-Encoding' => 'identity'], ['hello world']] },
    '/stream'   => sub { my ($env) = @_; sub { my $w = $_[0]->([200, []]); $w->write("first\n"); my $n = $env->{'psgi.input'}->read(my $b, 100); $w->write(defined $n ? "read $n\n" : "error\n"); $w->close } },
    '/body'     => sub { my ($env) = @_; my $n = $env->{'psgi.input'}->read(my $b, 1000); [200, [], ["called $n"]] },
);
sub { my ($env) = @_; ($cases{ $env->{PATH_INFO} } || sub { [200, [], ['ok']] })->($env) };
PERL
my $server = http_server(workers => 1, app => $app);

for my $uri ('/blank', '/identity') {
    my $c = http($server);
    $c->send(http_request(uri => $uri) . http_request(uri => '/next', close => 1));
    my $r = $c->read_response;
    is $r->{body}, 'hello', "$uri: no more than what the Content-Length says";
    is $c->read_response->{body}, 'ok', 'and the next response is the next one';
    log_like $server, qr{WARNING: .*GET $uri .*the response has 11 bytes, but its Content-Length says 5}, 'the author is told';
}

{
    my $c = http($server);
    $c->send("POST /stream HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n");
    my $r = $c->read_response;
    is_deeply $r->{malformed} || [], [], 'no 100 Continue in the middle of a response';
    is $r->{body}, "first\nerror\n", 'an application that asks for the body too late learns that there is none';
    ok $c->closes, 'and the connection ends';
}

for my $body ("Content-Length: 1000\r\n\r\n" . 'x' x 500, "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n") {
    my $c = http($server);
    $c->send("POST /body HTTP/1.1\r\nHost: x\r\n$body");
    $c->shutdown_write;
    is $c->read_response->{status}, 400, 'a body that is not complete does not reach the application';
}

subtest 'a head that has begun when its connection is to be given up' => sub {
    my $c = http($server);
    $c->send("POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 80000\r\n\r\n" . 'x' x 70_000);
    is $c->read_response->{body}, 'ok', 'answered before its body is here';
    my $other = BladePSGI::Test::FastCGI->connect($server->socket);
    $other->send(BladePSGI::Test::FastCGI::request_bytes(uri => '/other'));
    $c->send('x' x 10_000 . "GET /second HTTP/1.1\r\nHo");
    $c->send("st: x\r\n\r\n");
    is $other->read_response->{body}, 'ok', 'the other one is answered';
    my $r = eval { $c->read_response };
    ok $c->{in} eq '' && (!$r || !defined $r->{status} || $r->{body} eq 'ok'), 'and the first one is, or is not, but nothing in between';
};

subtest 'a peer with more and more requests' => sub {
    my $greedy = http($server);
    my $many = http_request(uri => '/greedy') x 200;
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        require POSIX;
        $SIG{PIPE} = 'IGNORE';
        my $socket = $greedy->socket;
        $socket->blocking(0);
        my $end = time + 60;
        while (time < $end) {
            my ($in, $out) = ('', '');
            vec($in, fileno $socket, 1) = 1;
            vec($out, fileno $socket, 1) = 1;
            select $in, $out, undef, 1;
            my $n = sysread $socket, my $b, 1 << 20;
            POSIX::_exit(0) if defined $n && !$n;
            defined syswrite $socket, $many or $!{EAGAIN} or POSIX::_exit(0);
        }
        POSIX::_exit(1);
    }
    ok wait_for { $server->stats->{requests} > 300 }, 'is served';
    is http($server)->request(uri => '/other', close => 1)->{body}, 'ok', 'somebody else is served as well';
    waitpid $pid, 0;
    is $? >> 8, 0, 'the greedy one was asked to come again';
};

is $server->stop, 'exit 0', 'stops';
done_testing;
