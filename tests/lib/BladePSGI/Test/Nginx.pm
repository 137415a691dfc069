package BladePSGI::Test::Nginx;

# A real nginx with a private configuration on a loopback port, in front of a FastCGI socket. Its location block is
# examples/nginx/bladepsgi.location.conf, the very file that the documentation hands out; only the socket is another.
#
#   my $nginx = BladePSGI::Test::Nginx->start(socket => $server->socket, buffering => 'off', keep_conn => 'on');
#   is $nginx->get('/')->{content}, 'hello';

use strict;
use warnings;

use File::Path ();
use File::Temp ();
use HTTP::Tiny;
use IO::Socket::INET;
use POSIX ':sys_wait_h';
use Test::More ();
use Time::HiRes ();

use BladePSGI::Test;

my @started;
my $owner = $$;

# start(socket, buffering => on|off, request_buffering => on|off, keep_conn => on|off, http => 'text', server => 'text')
sub start {
    my ($class, %o) = @_;
    my ($nginx) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
    die 'nginx is not installed' unless $nginx;
    my $folder = File::Temp::tempdir('nginx-XXXXXX', TMPDIR => 1, CLEANUP => 0);
    my $self = bless { folder => $folder, nginx => $nginx }, $class;
    push @started, $self;
    for my $try (1 .. 5) {
        $self->{port} = free_port();
        $self->configure(%o);
        $self->launch;
        my $up = wait_for {
            return 1 if $self->{status} = waitpid($self->{pid}, WNOHANG);
            IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{port}");
        };
        return $self if $up && !$self->{status};
        last unless $self->error_log =~ /Address already in use/;    # another test took the port between
    }
    die 'nginx does not start: ' . $self->error_log;
}

sub configure {
    my ($self, %o) = @_;
    my $location = read_text(BladePSGI::Test::project_root() . '/examples/nginx/bladepsgi.location.conf');
    my $keep = ($o{keep_conn} || 'off') eq 'on';
    my $pass = $keep ? 'bladepsgi' : "unix:$o{socket}";
    $location =~ s{^\s*fastcgi_pass\s+\K[^;]+}{$pass}m or die 'the example has no fastcgi_pass line';
    my $user = as_root() ? "user root;\n" : '';
    my ($buffering, $request_buffering) = map { $_ || 'on' } @o{qw(buffering request_buffering)};
    my $temp = join "\n    ", map { "${_}_temp_path $self->{folder}/$_;" } qw(client_body proxy fastcgi uwsgi scgi);
    write_text("$self->{folder}/nginx.conf", <<"CONF");
${user}daemon off;
master_process off;
worker_processes 1;
pid $self->{folder}/nginx.pid;
error_log $self->{folder}/error.log info;
events { worker_connections 256; }
http {
    access_log off;
    $temp
    client_max_body_size 0;
    upstream bladepsgi { server unix:$o{socket}; keepalive 8; }
    fastcgi_buffering $buffering;
    fastcgi_request_buffering $request_buffering;
    fastcgi_keep_conn @{[ $keep ? 'on' : 'off' ]};
    @{[ $o{http} || '' ]}
    server {
        listen 127.0.0.1:$self->{port};
        server_name 127.0.0.1;
        @{[ $o{server} || '' ]}
        $location
    }
}
CONF
    return;
}

sub launch {
    my ($self) = @_;
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        BladePSGI::Test::die_with_the_test();
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{folder}/out";
        open STDERR, '>>', "$self->{folder}/error.log";
        my @command = ($self->{nginx}, '-p', $self->{folder}, '-e', "$self->{folder}/error.log",
            '-c', "$self->{folder}/nginx.conf");
        { no warnings 'exec'; exec { $command[0] } @command; }
        POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    return;
}

sub port      { return $_[0]{port} }
sub pid       { return $_[0]{pid} }
sub folder    { return $_[0]{folder} }
sub url       { my ($self, $path) = @_; return "http://127.0.0.1:$self->{port}" . ($path // '/') }
sub error_log { return read_text("$_[0]{folder}/error.log") }

# Lines of the error log that are no mere information.
sub errors { return grep { /\[(?:warn|error|crit|alert|emerg)\]/ } split /\n/, $_[0]->error_log }

sub http { return HTTP::Tiny->new(timeout => 30 * $BladePSGI::Test::PATIENCE, keep_alive => 0) }
sub get  { my ($self, $path, @rest) = @_; return $self->http->get($self->url($path), @rest) }
sub post {
    my ($self, $path, $content, %headers) = @_;
    return $self->http->post($self->url($path), { content => $content, headers => \%headers });
}

# A raw connection that can be read bit by bit: see BladePSGI::Test::Nginx::Connection.
sub connect {
    my ($self) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{port}") or die "no connection to nginx: $!";
    return bless { socket => $socket, in => '' }, 'BladePSGI::Test::Nginx::Connection';
}

# curl with these arguments; the URL's path last. As run_to_end.
sub curl {
    my ($self, @arguments) = @_;
    my $path = pop @arguments;
    return run_to_end([ 'curl', '-sS', '--max-time', 120 * $BladePSGI::Test::PATIENCE, @arguments, $self->url($path) ],
        seconds => 130);
}

sub stop {
    my ($self) = @_;
    return unless $self->{pid};
    kill TERM => $self->{pid};
    wait_for { waitpid($self->{pid}, WNOHANG) } 5 or do {
        kill KILL => $self->{pid};
        waitpid $self->{pid}, 0;
    };
    delete $self->{pid};
    return;
}

END {
    if ($$ == $owner) {
        my $status = $?;
        $_->stop for @started;
        my $passing = Test::More->builder->is_passing && !$status;
        for my $nginx (@started) {
            Test::More::diag("---- nginx ----\n" . substr $nginx->error_log, -4000) unless $passing;
            File::Path::remove_tree($nginx->{folder}) unless $ENV{BLADEPSGI_TEST_KEEP};
        }
        $? = $status;
    }
}

package BladePSGI::Test::Nginx::Connection;

use strict;
use warnings;

sub send { my ($self, $bytes) = @_; $self->{socket}->syswrite($bytes); return $self }

# Reads until the pattern matches what came so far, or the end, or the time limit; returns all that came.
sub read_until {
    my ($self, $pattern, $seconds) = @_;
    my $deadline = Time::HiRes::time() + ($seconds || 20) * $BladePSGI::Test::PATIENCE;
    while ($self->{in} !~ $pattern) {
        my $left = $deadline - Time::HiRes::time();
        last if $left <= 0;
        my $in = '';
        vec($in, fileno $self->{socket}, 1) = 1;
        next unless select $in, undef, undef, $left;
        my $n = sysread $self->{socket}, $self->{in}, 65536, length $self->{in};
        if (!$n) { $self->{eof} = 1; last }
    }
    return $self->{in};
}

sub is_eof { return !!$_[0]{eof} }
sub close { close $_[0]{socket}; return }

1;
