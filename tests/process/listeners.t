# Where it listens: UNIX paths, TCP on IPv4 and IPv6, and sockets that it was started with.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use IO::Socket::INET;
use IO::Socket::IP;
use Test::More;

my $app = 'sub { [200, [], ["$$ $_[0]{REQUEST_URI}"]] }';

# The ports of the ready line, in its order.
sub ports_of {
    my ($server) = @_;
    my ($line) = $server->log =~ /listening on (.*)/;
    return $line =~ /(?:127\.0\.0\.1|\[::1?\]|0\.0\.0\.0):(\d+)/g;
}

sub answers {
    my ($host, $port, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $answer = eval { BladePSGI::Test::FastCGI->connect("$host:$port")->request(uri => '/tcp') };
    return like +($answer || {})->{body} // $@, qr{ /tcp\z}, $name;
}

subtest 'TCP' => sub {
    my $server = BladePSGI::Test->start(app => $app, options => ['--listen=127.0.0.1:0', '--listen', ':0']);
    my @ports = ports_of($server);
    is scalar @ports, 2, 'the ready line names both';
    answers('127.0.0.1', $_, "port $_") for @ports;
    is $server->get('/x')->{ended}, 1, 'the UNIX socket answers as well';
    my $c = BladePSGI::Test::FastCGI->connect("127.0.0.1:$ports[0]");
    is $c->request(uri => "/$_", keep => 1)->{ended}, 1, "a kept connection, request $_" for 1 .. 3;
    my $everywhere = grep { /^\s*\d+: 0{8}:/ && (split)[3] eq '0A' && hex((split /[: ]+/, $_)[3]) == $ports[0] } split /\n/, read_text('/proc/net/tcp');
    is $everywhere, 0, 'on loopback only';
    is $server->stop, 'exit 0', 'stops';
    ok !IO::Socket::INET->new(PeerAddr => "127.0.0.1:$ports[0]"), 'and then nobody listens';
};

subtest 'IPv6' => sub {
    plan skip_all => 'no IPv6 here' unless IO::Socket::IP->new(Listen => 1, LocalHost => '::1', LocalPort => 0);
    my $server = BladePSGI::Test->start(app => $app, options => ['--listen=[::1]:0', '--listen=*:0']);
    my @ports = ports_of($server);
    is scalar @ports, 2, 'named in the ready line';
    answers('[::1]', $ports[0], 'its address');
    answers('127.0.0.1', $ports[1], 'every interface: IPv4');
    answers('[::1]', $ports[1], 'and IPv6');
    is $server->stop, 'exit 0', 'stops';
};

subtest 'an address that is taken' => sub {
    my $other = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1');
    my $port = $other->sockport;
    my $server = BladePSGI::Test->start(ready => 0, options => ["--listen=127.0.0.1:$port"]);
    is $server->wait_exit, 'exit 1', 'exit code 1';
    log_like $server, qr/FATAL: .*'127\.0\.0\.1:$port'.*EADDRINUSE/, 'the log names it';
    ok !-e $server->socket, 'no socket is left behind';
};

subtest 'a socket that it was started with' => sub {
    my $listener = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1') or die "listen: $!";
    my $port = $listener->sockport;
    my $server = BladePSGI::Test->prepare(app => $app, options => ['--listen=fd:0']);
    $server->{stdin} = $listener;
    ok $server->launch->wait_ready, 'descriptor 0' or diag $server->log;
    answers('127.0.0.1', $port, 'is served');
    is $server->stop, 'exit 0', 'stops';
    ok fileno $listener, 'the socket is still its owner\'s';
    $server = BladePSGI::Test->start(ready => 0, options => ['--listen=fd:0']);
    is $server->wait_exit, 'exit 1', 'a descriptor that is no socket: exit code 1';
    log_like $server, qr/descriptor 0 is no socket that listens/, 'the log says so';
};

subtest 'clients that have gone before their turn' => sub {
    for my $case ([ 'TCP', 1, '--listen=127.0.0.1:0' ], [ 'TCP with --abandoned-tcp', 0, '--listen=127.0.0.1:0', '--abandoned-tcp' ]) {
        my ($name, $called, @options) = @$case;
        my $server = BladePSGI::Test->start(workers => 1, options => \@options, app => BladePSGI::Test->gate_code . <<'PERL');
sub { my ($env) = @_; if ($env->{PATH_INFO} eq '/busy') { mark('busy'); gate('go') } mark('gone') if $env->{PATH_INFO} eq '/gone'; [200, [], ['ok']] }
PERL
        my ($port) = ports_of($server);
        my $busy = BladePSGI::Test::FastCGI->connect("127.0.0.1:$port");
        $busy->send(request_bytes(uri => '/busy'));
        ok $server->wait_mark('busy'), "$name: the worker is busy";
        my $gone = BladePSGI::Test::FastCGI->connect("127.0.0.1:$port");
        $gone->send(request_bytes(uri => '/gone'));
        $gone->close;
        my $last = BladePSGI::Test::FastCGI->connect("127.0.0.1:$port");
        $last->send(request_bytes(uri => '/last'));
        $server->open_gate('go');
        is $last->read_response->{body}, 'ok', 'the one behind is answered';
        is -e $server->folder . '/mark-gone' ? 1 : 0, $called, $called ? 'and the one who has gone as well' : 'and the one who has gone is not';
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'messages' => sub {
    for my $case (
        [ '--listen=127.0.0.1:http', qr/'--listen': bad address '127\.0\.0\.1:http': a port is a number/ ],
        [ '--listen=::1:80', qr/in brackets/ ],
        [ '--listen=nowhere.invalid:80', qr/FATAL: .*nowhere\.invalid/ ],
    ) {
        my ($option, $message) = @$case;
        my $run = run_to_end([ bladepsgi_binary(), $option, qw(app.psgi 1 f.sock s.sock) ]);
        isnt $run->{exit}, 'exit 0', $option;
        like $run->{err}, $message, 'the message';
    }
    my $run = run_to_end([ bladepsgi_binary(), qw(app.psgi 1 127.0.0.1:9000 s.sock) ]);
    is $run->{exit}, 'exit 2', 'an address where a path belongs';
    like $run->{err}, qr{FASTCGI_SOCKET_PATH '127\.0\.0\.1:9000' looks like a TCP address.*--listen.*\./127}, 'says what to do';
};

done_testing;
