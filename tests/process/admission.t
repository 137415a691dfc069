# Who may connect: --allow, and FCGI_WEB_SERVER_ADDRS for a socket that a web server has passed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI;
use File::Temp;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;

my $app = 'sub { [200, [], ["served"]] }';

sub port_of { return $_[0]->log =~ /listening on .*?127\.0\.0\.1:(\d+)/ ? $1 : die 'no port' }

# "served", or "" when the connection is closed without a byte.
sub over_tcp {
    my ($port, $from) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, LocalAddr => $from) or return "connect: $!";
    return answer($socket);
}

sub over_unix {
    my ($server) = @_;
    my $socket = IO::Socket::UNIX->new(Peer => $server->folder . "/app.sock") or return "connect: $!";
    return answer($socket);
}

sub answer {
    my ($socket) = @_;
    local $SIG{PIPE} = 'IGNORE';
    local $SIG{ALRM} = sub { die 'no end' };
    alarm 20;
    syswrite $socket, BladePSGI::Test::FastCGI::request_bytes(uri => '/');
    my $all = '';
    while (sysread $socket, my $more, 4096) { $all .= $more }
    alarm 0;
    return $all =~ /served/ ? 'served' : $all;
}

# The same in a process of another user.
sub as_user {
    my ($user, $group, $code) = @_;
    pipe my $read, my $write or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        $) = "$group $group";
        $( = $group;
        ($<, $>) = ($user, $user);
        my $answer = eval { $code->() } // $@;
        syswrite $write, $answer;
        require POSIX;
        POSIX::_exit(0);
    }
    close $write;
    my $answer = do { local $/; <$read> };
    waitpid $pid, 0;
    return $answer // '';
}

subtest 'addresses' => sub {
    my $server = BladePSGI::Test->start(app => $app, options => [ '--listen=127.0.0.1:0', '--allow=127.0.0.1,10.0.0.0/8' ]);
    my $port = port_of($server);
    is over_tcp($port, '127.0.0.1'), 'served', 'one that is named';
    is over_tcp($port, '127.0.0.2'), '', 'another one: closed';
    log_like $server, qr/WARNING:  worker\[\d+\]: refused a connection of 127\.0\.0\.2: --allow does not name it/, 'the log says whose';
    is over_unix($server), '', 'on the UNIX socket nobody is named';
    log_like $server, qr/WARNING: .*everybody who connects to \S+ \(FastCGI\) will be refused: --allow names nobody for UNIX sockets/,
        'as was said at the start';
    for (1 .. 8) {
        my $hasty = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die "connect: $!";
        setsockopt $hasty, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
        close $hasty;    # a reset
    }
    is over_tcp($port, '127.0.0.1'), 'served', 'nobody else notices';
    unlike $server->log, qr/unknown address/, 'and who has gone again is not complained about';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'HTTP' => sub {
    my $server = BladePSGI::Test->start(app => $app, options => [ '--http=127.0.0.1:0', '--allow=127.0.0.2' ]);
    my ($port) = $server->log =~ m{http://127\.0\.0\.1:(\d+)/};
    my $get = sub {
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, LocalAddr => $_[0]) or return "connect: $!";
        print {$socket} "GET / HTTP/1.0\r\n\r\n";
        return join '', <$socket>;
    };
    like $get->('127.0.0.2'), qr/served\z/, 'one that is named';
    is $get->('127.0.0.1'), '', 'another one: closed';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'users and groups' => sub {
    plan skip_all => "only root can become somebody else" unless as_root();
    my ($nobody, $nogroup) = (getpwnam 'nobody')[ 2, 3 ];
    my $mail = getgrnam 'mail';
    for my $case ([ 'user:nobody', 1, 0 ], [ "user:$nobody", 1, 0 ], [ 'group:mail', 0, 1 ], [ 'user:nobody,group:mail', 1, 1 ], [ 'unix', 1, 1 ]) {
        my ($list, $is_nobody, $is_mail) = @$case;
        my $server = BladePSGI::Test->start(app => $app, options => [ "--allow=$list", '--socket-mode=666' ]);
        chmod 0711, $server->folder;
        my $ask = sub { over_unix($server) };
        is as_user($nobody, $nogroup, $ask), $is_nobody ? 'served' : '', "$list: user nobody";
        is as_user(4242, $mail, $ask), $is_mail ? 'served' : '', "$list: a user of group mail";
        is over_unix($server), $list eq 'unix' ? 'served' : '', "$list: root, who is not named";
        log_like $server, qr/refused a connection of user \d+, group \d+: --allow does not name it/, 'the log says who' if $list ne 'unix';
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'nobody and nonsense never become everybody' => sub {
    for my $list ('', 'localhost', '10.0.0.1/8', 'user:no-such-user', '127.0.0.1,') {
        my $run = run_to_end([ bladepsgi_binary(), "--allow=$list", qw(app.psgi 1 f.sock s.sock) ]);
        is $run->{exit}, 'exit 2', "--allow=$list";
        like $run->{err}, qr/--allow\b/, 'named in the message';
    }
};

subtest 'FCGI_WEB_SERVER_ADDRS' => sub {
    my $listen = sub { IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1') || die "listen: $!" };
    for my $case ([ '127.0.0.1', 'served', '' ], [ '10.1.2.3,127.0.0.2', '', 'served' ], [ '', '', '' ], [ '127.0.0.1,web', '', '' ]) {
        my ($list, $first, $second) = @$case;
        my $socket = $listen->();
        my $server = BladePSGI::Test->start(
            app => 'sub { [200, [], [exists $ENV{FCGI_WEB_SERVER_ADDRS} ? "left" : "served"]] }',
            words => ['app.psgi'], stdin => $socket, env => { FCGI_WEB_SERVER_ADDRS => $list }
        );
        is over_tcp($socket->sockport, '127.0.0.1'), $first,  "'$list': 127.0.0.1";
        is over_tcp($socket->sockport, '127.0.0.2'), $second, "'$list': 127.0.0.2";
        log_like $server, qr/will be refused: environment variable FCGI_WEB_SERVER_ADDRS names nobody/, 'said at the start' if $list !~ /\A[\d.,]+\z/;
        is $server->stop, 'exit 0', 'stops';
    }
    my $asked = $listen->();
    my $named = BladePSGI::Test->start(app => $app, words => [qw(--fastcgi=fd:0 app.psgi)], stdin => $asked, env => { FCGI_WEB_SERVER_ADDRS => '127.0.0.2' });
    is over_tcp($asked->sockport, '127.0.0.1'), '', 'descriptor 0 by name: the same';
    is over_tcp($asked->sockport, '127.0.0.2'), 'served', 'who is named is served';
    is $named->stop, 'exit 0', 'stops';
    my $folder = File::Temp->newdir;
    my $socket = IO::Socket::UNIX->new(Local => "$folder/s", Listen => 8) or die "listen: $!";
    my $server = BladePSGI::Test->start(app => $app, words => ['app.psgi'], stdin => $socket, env => { FCGI_WEB_SERVER_ADDRS => '127.0.0.1' }, ready => 0);
    is $server->wait_exit, 'exit 1', 'a UNIX socket: refuses to start';
    log_like $server, qr/FCGI_WEB_SERVER_ADDRS: it is a list of addresses, but the socket that was passed is a UNIX socket/, 'the log says why';
    $server = BladePSGI::Test->start(app => $app, options => ['--listen=127.0.0.1:0'], env => { FCGI_WEB_SERVER_ADDRS => '10.0.0.1' });
    is over_tcp(port_of($server)), 'served', 'sockets of our own are not meant';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
