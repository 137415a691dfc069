package BladePSGI::Bench::Servers;

# The servers that are compared, and how each is started: two workers, the application loaded before they are forked, no access log,
# nothing else tuned.

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;
use Time::HiRes qw(sleep time);

use BladePSGI::Bench::Session;

my %SERVERS = (
    bladepsgi => {
        title    => 'BladePSGI',
        protocol => 'fastcgi',
        command  => sub {
            my ($o) = @_;
            return ["$o->{build}/bladepsgi", "--fastcgi=$o->{socket}", "--stats=$o->{socket}.stats", "--workers=$o->{workers}", $o->{app}];
        },
    },
    'bladepsgi-http' => {
        title    => 'BladePSGI',
        protocol => 'http',
        command  => sub {
            my ($o) = @_;
            return [
                "$o->{build}/bladepsgi",    "--http=$o->{address}", "--stats=$o->{socket}.stats", "--workers=$o->{workers}",
                '--access-log=off',         $o->{app}
            ];
        },
    },
    floor => {
        title    => 'floor',
        protocol => 'fastcgi',
        command  => sub { my ($o) = @_; return ["$o->{build}/bin/bladepsgi-floor", $o->{socket}, $o->{workers}, $o->{app}] },
    },
    bare => {
        title    => 'bare system calls',
        protocol => 'fastcgi',
        command  => sub { my ($o) = @_; return ["$o->{build}/bin/bladepsgi-floor", $o->{socket}, $o->{workers}, @{ $o->{bare} }] },
    },
    uwsgi => {
        title    => 'uWSGI',
        protocol => 'fastcgi',
        command  => sub {
            my ($o) = @_;
            return [
                'uwsgi',          '--plugins', 'psgi',          '--fastcgi-socket', $o->{socket},
                '--psgi',         $o->{app},   '--master',      '--processes',      $o->{workers},
                '--die-on-term',  '--need-app', '--no-orphans', '--buffer-size',    '32768',
                '--disable-logging'
            ];
        },
    },
    plack => {
        title    => 'Plack::Handler::FCGI',
        protocol => 'fastcgi',
        command  => sub {
            my ($o) = @_;
            return ['plackup', '-s', 'FCGI', '--listen', $o->{socket}, '--nproc', $o->{workers}, '-E', 'deployment', $o->{app}];
        },
    },
    starman => {
        title    => 'Starman',
        protocol => 'http',
        command  => sub {
            my ($o) = @_;
            return [
                'starman',      '--listen', $o->{address}, '--workers', $o->{workers}, '-E', 'deployment', '--preload-app',
                '--max-requests', 10_000_000, $o->{app}
            ];
        },
    },
);

sub names { return sort keys %SERVERS }

sub title { my ($name) = @_; return $SERVERS{$name}{title} }

# Starts it: { session, target => [options of the load generator] }.
#   name, build => directory, folder => for its socket and log, app, workers, bare => [...], env => {...},
#   under => [a program that runs it, and its options]
sub start {
    my (%o) = @_;
    my $server = $SERVERS{ $o{name} } or die "no server '$o{name}'\n";
    my $serial = ++our $started;
    $o{socket} = "$o{folder}/$serial.sock";
    my @target = ("--unix=$o{socket}");
    if ($server->{protocol} eq 'http') {
        $o{address} = '127.0.0.1:' . free_port();
        @target = ("--tcp=$o{address}", '--http');
    }
    my $session = BladePSGI::Bench::Session->start(
        command => [@{ $o{under} || [] }, @{ $server->{command}->(\%o) }],
        log     => "$o{folder}/$serial-$o{name}.log",
        env     => $o{env},
    );
    my $self = {
        name     => $o{name},
        protocol => $server->{protocol},
        session  => $session,
        target   => \@target,
        socket   => $o{socket},
        address  => $o{address},
    };
    my $deadline = time + 60;
    until (is_listening($self)) {
        fail_to_start($self) if !$session->is_running || time > $deadline;
        sleep 0.02;
    }
    ask($self);    # some listen before they have loaded the application
    return $self;
}

sub fail_to_start {
    my ($self) = @_;
    my $log = $self->{session}->log_text;
    $self->{session}->stop;
    die title($self->{name}) . " does not start:\n$log\n";
}

sub _connect {
    my ($self) = @_;
    return IO::Socket::UNIX->new(Peer => $self->{socket}) if $self->{protocol} ne 'http';
    return IO::Socket::INET->new(PeerAddr => $self->{address}, Timeout => 2);
}

sub is_listening {
    my ($self) = @_;
    return !!_connect($self);
}

# One request, answered.
sub ask {
    my ($self) = @_;
    my $socket = _connect($self) or die "cannot connect to $self->{name}: $!\n";
    my $request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if ($self->{protocol} ne 'http') {
        my $record = sub { my ($type, $content) = @_; return pack 'CCnnCCa*', 1, $type, 1, length $content, 0, 0, $content };
        my %params = (
            REQUEST_METHOD => 'GET', SCRIPT_NAME => '', PATH_INFO => '/', REQUEST_URI => '/', QUERY_STRING => '', SERVER_NAME => 'localhost',
            SERVER_PORT    => 80, SERVER_PROTOCOL => 'HTTP/1.1', REMOTE_ADDR => '127.0.0.1',
        );
        my $pairs = join '', map { pack 'CCa*a*', length, length $params{$_}, $_, $params{$_} } sort keys %params;
        $request = join '', $record->(1, pack 'nCx5', 1, 0), $record->(4, $pairs), $record->(4, ''), $record->(5, '');
    }
    local $SIG{ALRM} = sub { die title($self->{name}) . " does not answer\n" };
    alarm 60;
    syswrite $socket, $request;
    my $answer = '';
    while (sysread $socket, my $more, 65_536) { $answer .= $more }
    alarm 0;
    $answer =~ m{\AHTTP/1\.\d 200|200 OK|Status: 200}
        or die title($self->{name}) . " does not answer as it has to:\n" . substr($answer, 0, 500) . "\n" . $self->{session}->log_text;
    return;
}

sub free_port {
    my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0) or die "no free port: $!\n";
    return $socket->sockport;
}

1;
