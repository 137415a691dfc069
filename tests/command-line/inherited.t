# Sockets that the server was started with: descriptor 0, systemd's LISTEN_FDS, Server::Starter's SERVER_STARTER_PORT.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Test::More;

my $app = 'sub { [200, [], [join ",", "seen", grep { /\A(?:LISTEN_|SERVER_STARTER_PORT)/ } sort keys %ENV]] }';

sub tcp { return IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1') || die "listen: $!" }

sub fastcgi { return eval { BladePSGI::Test::FastCGI->connect("127.0.0.1:" . $_[0]->sockport)->request(uri => '/')->{body} } // $@ }

sub http {
    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $_[0]->sockport) or return "connect: $!";
    print {$client} "GET / HTTP/1.0\r\n\r\n";
    return join('', <$client>) =~ s/\A.*\r\n\r\n//sr;
}

# LISTEN_PID must be the pid of the server, which is known only after the fork: a shell says it.
my @as_systemd = ('/bin/sh', '-c', 'LISTEN_PID=$$ exec "$@"', 'sh');

subtest 'descriptor 0' => sub {
    my $socket = tcp();
    my $server = BladePSGI::Test->start(app => $app, words => ['app.psgi'], stdin => $socket);
    log_like $server, qr/ready: .* listening on 127\.0\.0\.1:\d+ \(FastCGI\)$/m, 'is all there is, and FastCGI';
    is fastcgi($socket), 'seen', 'served';
    my $pid = $server->pid;
    is readlink("/proc/$pid/fd/0"), '/dev/null', 'descriptor 0 itself is free for others';
    is $server->stop, 'exit 0', 'stops';

    $server = BladePSGI::Test->start(app => $app, words => [qw(-p 0 app.psgi)], stdin => $socket);
    unlike $server->log, qr/FastCGI/, 'with a listener asked for it is not looked at';
    is $server->stop, 'exit 0', 'stops';

    $server = BladePSGI::Test->start(app => $app, stdin => $socket);
    unlike $server->log, qr/127\.0\.0\.1/, 'nor with four arguments';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'systemd' => sub {
    my ($first, $second, $third) = (tcp(), tcp(), tcp());
    my %start = (app => $app, words => ['app.psgi'], descriptors => [ $first, $second, $third ], wrap => \@as_systemd);
    my $server = BladePSGI::Test->start(%start, env => { LISTEN_FDS => 3, LISTEN_FDNAMES => 'app.socket:http-local:x' });
    is fastcgi($first), 'seen', 'FastCGI, and no variable is left';
    is http($second),   'seen', 'HTTP for one that is called so';
    is fastcgi($third), 'seen', 'the third';
    is $server->stop, 'exit 0', 'stops';

    $server = BladePSGI::Test->start(%start, words => undef, env => { LISTEN_FDS => 1 });
    is fastcgi($first), 'seen', 'with four arguments, too';
    is $server->get('/')->{body}, 'seen', 'beside what was asked for';
    is $server->stop, 'exit 0', 'stops';

    $server = BladePSGI::Test->start(%start, wrap => [], words => [qw(-p 0 app.psgi)], env => { LISTEN_FDS => 3, LISTEN_PID => 1 });
    is $server->http_get('/')->{content}, 'seen', 'meant for another process: left alone';
    unlike $server->log, qr/FastCGI/, 'not served';
    is $server->stop, 'exit 0', 'stops';

    $server = BladePSGI::Test->start(%start, env => { LISTEN_FDS => 4 }, ready => 0);
    is $server->wait_exit, 'exit 1', 'one that is not there: exit code 1';
    log_like $server, qr/FATAL: .*descriptor 6 is no socket that listens/, 'the log says which';
    $server = BladePSGI::Test->start(%start, env => { LISTEN_FDS => 'x' }, ready => 0);
    is $server->wait_exit, 'exit 2', 'nonsense: exit code 2';
    log_like $server, qr/LISTEN_FDS: bad value 'x'/, 'the message';
};

subtest 'Server::Starter' => sub {
    my ($first, $second) = (tcp(), tcp());
    my $ports = '127.0.0.1:' . $first->sockport . '=3;' . $second->sockport . '=4';
    my %start = (app => $app, descriptors => [ $first, $second ], env => { SERVER_STARTER_PORT => $ports, SERVER_STARTER_GENERATION => 1 });
    my $server = BladePSGI::Test->start(%start, words => ['app.psgi']);
    is http($_), 'seen', 'HTTP' for $first, $second;
    is $server->stop, 'exit 0', 'stops';
    $server = BladePSGI::Test->start(%start, words => [qw(-s FCGI app.psgi)]);
    is fastcgi($_), 'seen', '-s FCGI: FastCGI' for $first, $second;
    is $server->stop, 'exit 0', 'stops';
    ok fileno $first, 'the sockets are still their owner\'s';
};

subtest 'a socket file that was passed is not removed' => sub {
    my $folder = File::Temp::tempdir(CLEANUP => 1);
    my $socket = IO::Socket::UNIX->new(Local => "$folder/s", Listen => 5) or die $!;
    my $server = BladePSGI::Test->start(words => ['app.psgi'], stdin => $socket);
    is +BladePSGI::Test::FastCGI->connect("$folder/s")->request(uri => '/')->{body}, "ok\n", 'served';
    is $server->stop, 'exit 0', 'stops';
    ok -S "$folder/s", 'still there';
};

done_testing;
