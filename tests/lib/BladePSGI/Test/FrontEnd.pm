package BladePSGI::Test::FrontEnd;

# A real web server in front of a FastCGI socket: a private configuration in a folder of its own, on a loopback port. What
# all of them have in common is here; a subclass has
#
#   sub program_name { 'sample' }               # looked for in PATH and where daemons are
#   sub configure { my ($self, %o) = @_; … }    # writes its files to $self->folder, for $self->port
#   sub command { my ($self) = @_; … }          # that keeps it in the foreground
#   sub check_command { my ($self) = @_; … }    # that only looks at its configuration
#
# and may have log_names (files in its folder), environment, is_port_taken (does the log say so?).
#
#   my $front = BladePSGI::Test::Sample->start(socket => $server->socket);    # or $server->tcp_address
#   is $front->get('/')->{content}, 'hello';
#
# It is a child in a process group of its own and is ended with it. When the test failed its log is shown.

use strict;
use warnings;

use File::Path ();
use File::Temp ();
use HTTP::Tiny;
use IO::Socket::INET;
use POSIX ':sys_wait_h';
use Test::More ();

use BladePSGI::Test;

my @started;
my $owner = $$;

# Options for BladePSGI so that the web server may connect: like everywhere it has no rights of its own (some refuse to be
# root), and like everywhere the socket is given to its group.
sub server_options { return as_root() ? ('--socket-group=www-data') : () }

# start(socket => PATH or HOST:PORT, tls => 1, …): further options are the subclass's.
sub start {
    my ($class, %o) = @_;
    my $self = $class->prepare(%o);
    for my $try (1 .. 5) {
        $self->{port} = free_port();
        $self->{tls_port} = free_port() if $o{tls};
        $self->configure(%o);
        $self->launch;
        my $up = wait_for {
            if (waitpid($self->{pid}, WNOHANG)) { $self->{status} = $?; return 1 }
            !grep { !IO::Socket::INET->new(PeerAddr => "127.0.0.1:$_") } grep { $_ } @$self{qw(port tls_port)};
        };
        return $self if $up && !defined $self->{status};
        my $taken = defined delete $self->{status} && $self->is_port_taken;
        $self->stop;
        last unless $taken;    # by another test, between
    }
    die "$class does not start: " . $self->error_log;
}

sub prepare {
    my ($class, %o) = @_;
    my $self = bless { folder => File::Temp::tempdir($class->program_name . '-XXXXXX', TMPDIR => 1, CLEANUP => 0) }, $class;
    chmod 0755, $self->{folder};
    push @started, $self;
    $self->make_certificate if $o{tls};
    return $self;
}

# What the web server itself says to a configuration that start would run; as run_to_end.
sub check {
    my ($class, %o) = @_;
    my $self = $class->prepare(%o);
    $self->{port} = free_port();
    $self->configure(%o);
    return run_to_end([ $self->check_command ], in => $self->{folder}, env => $self->environment);
}

sub is_port_taken { return $_[0]->error_log =~ /Address already in use/i }
sub environment   { return {} }
sub log_names     { return ('error.log') }

sub program {
    my ($self) = @_;
    my $name = $self->program_name;
    my ($program) = grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
    return $program || die "$name is not installed";
}

# The text of a file under examples/, for that socket, with placeholders exchanged. All of them must be there, or it would be
# another file that is tested than the one handed out. With a socket HOST:PORT the file's lines for TCP are in force: each
# stands as "# TCP: …" below the one that it takes the place of. Without a socket there is none in it.
sub example {
    my ($self, $name, $socket, %exchange) = @_;
    my $text = read_text(BladePSGI::Test::project_root() . "/examples/$name") || die "no example $name";
    if (defined $socket && $socket !~ m{/}) {
        my ($port) = $socket =~ /\A127\.0\.0\.1:(\d+)\z/ or die "no address on this machine: $socket";
        $text =~ s{^([ \t]*).*app\.sock.*\n[ \t]*# TCP: }{$1}mg or die "examples/$name: there are no lines for TCP";
        die "examples/$name: a line has none for TCP below it: $1" if $text =~ /^(?!\s*#)(.*app\.sock.*)/m;
        $exchange{9000} = $port;
    }
    elsif (defined $socket) {
        $exchange{'/run/bladepsgi/app.sock'} = $socket;
    }
    for my $placeholder (keys %exchange) {
        $text =~ s/\Q$placeholder\E/$exchange{$placeholder}/g or die "examples/$name: there is no $placeholder";
    }
    return $text;
}

# For HTTPS: certificate and key in PEM, both in one file as HAProxy wants it, or apart.
sub make_certificate {
    my ($self) = @_;
    my $run = run_to_end([ qw(openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1),
        '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1',
        '-keyout', "$self->{folder}/key.pem", '-out', "$self->{folder}/certificate.pem" ]);
    die "openssl: $run->{err}" unless $run->{exit} eq 'exit 0';
    write_text("$self->{folder}/both.pem", join '', map { read_text("$self->{folder}/$_.pem") } qw(certificate key));
    return;
}

sub launch {
    my ($self) = @_;
    my @command = $self->command;
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        setpgrp 0, 0;
        BladePSGI::Test::die_with_the_test();
        chdir $self->{folder} or POSIX::_exit(126);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{folder}/out";
        open STDERR, '>>', "$self->{folder}/error.log";
        local %ENV = (%ENV, %{ $self->environment });
        { no warnings 'exec'; exec { $command[0] } @command; }
        POSIX::_exit(127);
    }
    setpgrp $pid, $pid;    # also here: whoever is first
    $self->{pid} = $pid;
    return;
}

sub port     { return $_[0]{port} }
sub tls_port { return $_[0]{tls_port} }
sub pid      { return $_[0]{pid} }
sub folder   { return $_[0]{folder} }
sub url      { my ($self, $path) = @_; return "http://127.0.0.1:$self->{port}" . ($path // '/') }
sub tls_url  { my ($self, $path) = @_; return "https://127.0.0.1:$self->{tls_port}" . ($path // '/') }

sub error_log { my ($self) = @_; return join '', map { read_text("$self->{folder}/$_") } $self->log_names }

sub http { my ($self, %o) = @_; return HTTP::Tiny->new(timeout => 30 * $BladePSGI::Test::PATIENCE, keep_alive => 0, %o) }
sub get  { my ($self, $path, @rest) = @_; return $self->http->get($self->url($path), @rest) }
sub post {
    my ($self, $path, $content, %headers) = @_;
    return $self->http->post($self->url($path), { content => $content, headers => \%headers });
}

# A raw connection that can be read bit by bit: see BladePSGI::Test::FrontEnd::Connection.
sub connect {
    my ($self) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{port}") or die "no connection to the web server: $!";
    return bless { socket => $socket, in => '' }, 'BladePSGI::Test::FrontEnd::Connection';
}

# curl with these arguments; the path last, or a whole URL. As run_to_end.
sub curl {
    my ($self, @arguments) = @_;
    my $path = pop @arguments;
    return run_to_end([ 'curl', '-sS', '--max-time', 120 * $BladePSGI::Test::PATIENCE, @arguments,
        $path =~ m{\Ahttps?:} ? $path : $self->url($path) ], seconds => 130);
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    if (kill TERM => $pid) {
        wait_for { waitpid($pid, WNOHANG) } 5 or do {
            kill KILL => $pid;
            waitpid $pid, 0;
        };
    }
    # What it started itself; the group is there as long as one of them is.
    if (!wait_for { !kill 0 => -$pid } 5) {
        Test::More->builder->ok(0, ref($self) . ' takes its own processes with it');
        kill KILL => -$pid;
    }
    return;
}

END {
    if ($$ == $owner) {
        my $status = $?;
        $_->stop for @started;
        my $passing = Test::More->builder->is_passing && !$status;
        for my $front (@started) {
            Test::More::diag('---- ' . ref($front) . " ----\n" . substr $front->error_log, -4000) unless $passing;
            File::Path::remove_tree($front->{folder}) unless $ENV{BLADEPSGI_TEST_KEEP};
        }
        $? = $status;
    }
}

package BladePSGI::Test::FrontEnd::Connection;

use strict;
use warnings;

use Time::HiRes ();

sub send { my ($self, $bytes) = @_; $self->{socket}->syswrite($bytes); return $self }

# Reads what there is, or waits for it; false at the end and at the time limit.
sub read_some {
    my ($self, $deadline) = @_;
    my $left = $deadline - Time::HiRes::time();
    return 0 if $left <= 0 || $self->{eof};
    my $in = '';
    vec($in, fileno $self->{socket}, 1) = 1;
    return 1 unless select $in, undef, undef, $left;
    my $n = sysread $self->{socket}, $self->{in}, 65536, length $self->{in};
    $self->{eof} = 1 if !$n;
    return !!$n;
}

# So many seconds from now.
sub deadline { my (undef, $seconds) = @_; return Time::HiRes::time() + ($seconds || 20) * $BladePSGI::Test::PATIENCE }

# Reads until the pattern matches what came so far, or the end, or the time limit; returns all that came.
sub read_until {
    my ($self, $pattern, $seconds) = @_;
    my $deadline = $self->deadline($seconds);
    1 while $self->{in} !~ $pattern && $self->read_some($deadline);
    return $self->{in};
}

# What has come of a response's body, out of its chunks if it has such.
sub body {
    my ($self) = @_;
    my ($head, $rest) = split /\r\n\r\n/, $self->{in}, 2;
    return '' unless defined $rest;
    return $rest unless $head =~ /^transfer-encoding:\s*chunked/im;
    my ($body, $at) = ('', 0);
    while (substr($rest, $at) =~ /\A([0-9a-f]+)[^\r\n]*\r\n/i) {
        my $length = hex $1;
        $body .= substr $rest, $at + length $&, $length;
        $at += length($&) + $length + 2;
        last if $at > length $rest;
    }
    return $body;
}

sub is_eof { return !!$_[0]{eof} }
sub close { close $_[0]{socket}; return }

1;
