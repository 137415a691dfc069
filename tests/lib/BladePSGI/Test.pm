package BladePSGI::Test;

# The real server in a directory of its own, for tests.
#
#   my $server = BladePSGI::Test->start(app => 'sub { [200, [], ["hello"]] }', workers => 2);
#   is $server->get('/')->{body}, 'hello';
#   is $server->stop, 0;
#   done_testing;
#
# The directory is the server's working directory, and so the mark by which every process of it is recognised, orphans
# too. Nothing else is ever signalled. A test that failed prints the server's log; a server that is still running, or a
# process of it that survived, is a failure and is ended.

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use Fcntl ();
use File::Path ();
use File::Temp ();
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ':sys_wait_h';
use Test::More;
use Time::HiRes ();

use BladePSGI::Test::FastCGI;

our @EXPORT = qw(wait_for bladepsgi_binary bladectl_binary read_text write_text run_to_end as_root is_long is_sanitized free_port processes_in
    process_title within exit_of log_like);

# Machines are slow, sanitizers slower: every deadline is multiplied by this.
our $PATIENCE = $ENV{BLADEPSGI_TEST_PATIENCE} || ($ENV{ASAN_OPTIONS} ? 5 : 2);

my $ROOT = Cwd::abs_path(__FILE__ =~ s{[^/]+\z}{}r . '../../..');
my @started;    # servers that this process started, weakly owned by the tests
my $owner = $$;

# A test that is interrupted cleans up as well.
$SIG{$_} = sub { exit 1 } for qw(HUP INT TERM);

sub project_root { return $ROOT }

sub bladepsgi_binary {
    my $binary = $ENV{BLADEPSGI} || "$ROOT/build/dev/bladepsgi";
    return Cwd::abs_path($binary) || $binary;
}

# Beside it.
sub bladectl_binary { return bladepsgi_binary() =~ s{[^/]+\z}{bladectl}r }

sub is_long { return !!$ENV{BLADEPSGI_LONG} }

sub as_root { return $> == 0 }

# Sanitizers keep freed memory and surround all of it: figures of memory mean nothing then.
sub is_sanitized { return !!$ENV{ASAN_OPTIONS} }

# The only wait in these tests that looks again and again: until the block returns true, which is then returned, or
# until `seconds` (20) have passed: undef.
sub wait_for (&;$) {
    my ($condition, $seconds) = @_;
    my $deadline = Time::HiRes::time() + ($seconds || 20) * $PATIENCE;
    my $pause = 0.002;
    while (1) {
        my $result = $condition->();
        return $result if $result;
        return undef if Time::HiRes::time() > $deadline;
        select undef, undef, undef, $pause;
        $pause *= 1.5 if $pause < 0.03;
    }
}

# Runs the block; true when it took less than so many seconds.
sub within {
    my ($seconds, $block) = @_;
    my $start = Time::HiRes::time();
    $block->();
    my $took = Time::HiRes::time() - $start;
    diag(sprintf 'took %.2f s', $took) if $took >= $seconds * $PATIENCE;
    return $took < $seconds * $PATIENCE;
}

sub read_text {
    my ($path) = @_;
    open my $in, '<:raw', $path or return '';
    local $/;
    my $text = <$in>;
    return defined $text ? $text : '';
}

sub write_text {
    my ($path, $text) = @_;
    my $folder = $path =~ s{/[^/]+\z}{}r;
    File::Path::make_path($folder) if $folder ne $path;
    open my $out, '>:raw', $path or die "cannot write $path: $!";
    print {$out} $text;
    close $out or die "cannot write $path: $!";
    return $path;
}

sub free_port {
    my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0) or die "no port: $!";
    return $socket->sockport;
}

# What waitpid says, in words: "exit 3", "signal 9".
sub exit_of {
    my ($status) = @_;
    return undef unless defined $status;
    return WIFSIGNALED($status) ? 'signal ' . WTERMSIG($status) : 'exit ' . WEXITSTATUS($status);
}

# In a child, before exec: it shall not outlive a test that is killed (prctl PR_SET_PDEATHSIG).
sub die_with_the_test {
    my ($number) = map { $_->{(POSIX::uname())[4]} } { x86_64 => 157, aarch64 => 167, riscv64 => 167 };
    syscall $number, 1, POSIX::SIGKILL(), 0, 0, 0 if $number;
    return;
}

# Runs a program to its end: { exit => "exit 0", out => …, err => … }. Killed when it takes longer than `seconds`.
sub run_to_end {
    my ($command, %o) = @_;
    my $folder = $o{in} || File::Temp::tempdir('bladepsgi-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    my ($out, $err) = map { File::Temp->new(TEMPLATE => 'run-XXXXXX', TMPDIR => 1) } 1, 2;
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        chdir $folder or POSIX::_exit(126);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>&', $out or POSIX::_exit(126);
        open STDERR, '>&', $err or POSIX::_exit(126);
        local %ENV = (%ENV, %{ $o{env} || {} });
        delete @ENV{ grep { !defined $ENV{$_} } keys %ENV };
        setpgrp 0, 0;
        die_with_the_test();
        { no warnings 'exec'; exec { $command->[0] } @$command; }
        POSIX::_exit(127);
    }
    my $status;
    my $done = wait_for { waitpid($pid, WNOHANG) == $pid && do { $status = $?; 1 } } $o{seconds} || 20;
    if (!$done) {
        kill KILL => $pid;
        waitpid $pid, 0;
    }
    return {
        exit => $done ? exit_of($status) : 'time limit',
        out  => read_text("$out"),
        err  => read_text("$err"),
    };
}

# Processes whose working directory is `folder`, zombies left out (their working directory cannot be read).
sub processes_in {
    my ($folder) = @_;
    opendir my $proc, '/proc' or die "/proc: $!";
    return grep { (readlink("/proc/$_/cwd") // '') =~ /\A\Q$folder\E(?: \(deleted\))?\z/ && $_ != $$ }
        grep { /\A\d+\z/ } readdir $proc;
}

# The title that ps shows.
sub process_title {
    my ($pid) = @_;
    return read_text("/proc/$pid/cmdline") =~ s/\0.*//sr;
}

# start(app => TEXT | app_file => PATH, loader => MODULE_TEXT (package My::Loader), loader_name, files => {name => text},
#       workers => 2, options => [...], env => {...}, ready => 0 to not wait, stderr => 'pipe', user_group => …,
#       control => 1: a control socket in the directory, for bladectl,
#       words => [...]: the whole command line instead of the four arguments, program => PATH, stdin => HANDLE,
#       descriptors => [HANDLE, ...]: from 3 on)
sub start {
    my ($class, %o) = @_;
    my $server = $class->prepare(%o);
    $server->launch;
    if (!exists $o{ready} || $o{ready}) {
        $server->wait_ready or do {
            diag($server->log);
            BAIL_OUT('there is no server to test: ' . bladepsgi_binary()) unless -x bladepsgi_binary();
            die 'the server did not become ready';
        };
    }
    return $server;
}

sub prepare {
    my ($class, %o) = @_;
    my $folder = Cwd::abs_path(File::Temp::tempdir('bladepsgi-XXXXXX', TMPDIR => 1, CLEANUP => 0));
    chmod 0755, $folder;
    my $self = bless {
        folder  => $folder,
        workers => $o{workers} // 2,
        socket  => $o{socket} // "$folder/app.sock",
        stats   => $o{stats} // "$folder/stats.sock",
        options => [ @{ $o{options} || [] } ],
        env     => $o{env} || {},
        stderr  => $o{stderr} || 'file',
        log     => "$folder/server.log",
        wrap    => $o{wrap} || [],
        words   => $o{words},
        program => $o{program} || bladepsgi_binary(),
        stdin   => $o{stdin},
        descriptors => $o{descriptors} || [],
    }, $class;
    push @{ $self->{options} }, '--control=' . $self->control_path if $o{control};
    $self->{app_path} = $o{app_file} // write_text("$folder/app.psgi", $o{app} // 'sub { [200, [], ["ok\n"]] }');
    if (defined $o{loader}) {
        $self->{loader_name} = $o{loader_name} || 'My::Loader';
        write_text("$folder/lib/" . ($self->{loader_name} =~ s{::}{/}gr) . '.pm', $o{loader});
        push @{ $self->{options} }, "--loader=$self->{loader_name}";
        $self->{env}{PERL5LIB} = join ':', "$folder/lib", grep { defined && length } $ENV{PERL5LIB};
    }
    write_text("$folder/$_", $o{files}{$_}) for keys %{ $o{files} || {} };
    push @started, $self;
    return $self;
}

sub command {
    my ($self) = @_;
    my @words = $self->{words} ? @{ $self->{words} }
        : (@{ $self->{options} }, $self->{app_path}, $self->{workers}, $self->{socket}, $self->{stats});
    return (@{ $self->{wrap} }, $self->{program}, @words);
}

sub launch {
    my ($self) = @_;
    my @command = $self->command;
    my ($reader, $writer);
    if ($self->{stderr} eq 'pipe') {
        pipe $reader, $writer or die "pipe: $!";
        $self->{stderr_reader} = $reader;
    }
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        setpgrp 0, 0;
        die_with_the_test();
        chdir $self->{folder} or POSIX::_exit(126);
        if ($self->{stdin}) { open STDIN, '<&', $self->{stdin} or POSIX::_exit(126) }
        else                { open STDIN, '<', '/dev/null' }
        if ($writer) {
            open STDERR, '>&', $writer or POSIX::_exit(126);
            close $reader;
        }
        else {
            open STDERR, '>>', $self->{log} or POSIX::_exit(126);
        }
        open STDOUT, '>>', "$self->{folder}/stdout" or POSIX::_exit(126);
        delete @ENV{qw(PLACK_ENV BLADEPSGI_TEST)};
        place_descriptors(@{ $self->{descriptors} });
        local %ENV = (%ENV, %{ $self->{env} });
        delete @ENV{ grep { !defined $ENV{$_} } keys %ENV };
        { no warnings 'exec'; exec { $command[0] } @command; }
        POSIX::_exit(127);
    }
    setpgrp $pid, $pid;    # also here: whoever is first
    $self->{pid} = $pid;
    delete $self->{status};
    return $self;
}

# In a child, before exec: these handles become descriptors 3, 4, …, first out of the way of each other.
sub place_descriptors {
    my @high = map { fcntl($_, Fcntl::F_DUPFD(), 100) } @_;
    POSIX::dup2($high[$_], 3 + $_) // POSIX::_exit(126) for 0 .. $#high;
    POSIX::close($_) for @high;
    return;
}

# "http://127.0.0.1:33961/" of the ready line: the first, or that with the number.
sub url {
    my ($self, $number) = @_;
    my @urls = $self->log =~ m{ready: .*}g ? $& =~ m{(http://[^/\s]+/)}g : ();
    return $urls[ $number || 0 ];
}

# "127.0.0.1:33961" of a listener for FastCGI in the ready line, as --fastcgi=127.0.0.1:0 makes one.
sub tcp_address { return $_[0]->log =~ m{ready: .* (127\.0\.0\.1:\d+) \(FastCGI\)} ? $1 : undef }

sub http_get {
    my ($self, $path) = @_;
    require HTTP::Tiny;
    return HTTP::Tiny->new(timeout => 10 * $PATIENCE)->get(($self->url // 'http://127.0.0.1:1/') . $path =~ s{\A/}{}r);
}

sub folder   { return $_[0]{folder} }
sub pid      { return $_[0]{pid} }
sub socket   { return $_[0]{socket} }
sub stats_path { return $_[0]{stats} }
sub control_path { return "$_[0]{folder}/control.sock" }
sub log      { return read_text($_[0]{log}) }
sub output   { return read_text("$_[0]{folder}/stdout") }

sub log_size { return -s $_[0]{log} || 0 }

# Waits for a log line; returns the text of the log from `from` (a byte offset) on, or undef.
sub wait_log {
    my ($self, $pattern, $seconds, $from) = @_;
    my $text;
    return wait_for { $text = substr($self->log, $from || 0); $text =~ $pattern && $text } $seconds;
}

sub wait_ready {
    my ($self, $seconds) = @_;
    my $ready = wait_for { $self->log =~ /\bready: / || !$self->is_running } $seconds || 30;
    return $ready && $self->log =~ /\bready: /;
}

sub is_running {
    my ($self) = @_;
    return 0 unless $self->{pid};
    return 0 if defined $self->{status};
    if (waitpid($self->{pid}, WNOHANG) == $self->{pid}) {
        $self->{status} = $?;
        return 0;
    }
    return 1;
}

# Waits for the overseer's end: "exit 0", "signal 9" …, or undef.
sub wait_exit {
    my ($self, $seconds) = @_;
    wait_for { !$self->is_running } $seconds || 20;
    return exit_of($self->{status});
}

sub signal {
    my ($self, $signal) = @_;
    die 'the server is gone' unless $self->is_running;
    kill $signal => $self->{pid};
    return $self;
}

# Ends the server (TERM unless told otherwise); returns how it ended.
sub stop {
    my ($self, $signal, $seconds) = @_;
    $self->signal($signal || 'TERM') if $self->is_running;
    return $self->wait_exit($seconds);
}

# Our processes that are alive, as { title => pid }.
sub processes {
    my ($self) = @_;
    my %by_title;
    for my $pid (processes_in($self->{folder})) {
        my $title = process_title($pid);
        $by_title{$title} = $pid if length $title;
    }
    return \%by_title;
}

# The pid of the process of that role ("worker 0", "zygote", "monitoring", …); waits for it to exist.
sub pid_of {
    my ($self, $role, $other_than) = @_;
    return wait_for {
        my $processes = $self->processes;
        my ($title) = grep { /: \Q$role\E\z/ } keys %$processes;
        my $pid = $title && $processes->{$title};
        $pid && (!$other_than || $pid != $other_than) && $pid;
    };
}

sub worker_pids {
    my ($self) = @_;
    my $processes = $self->processes;
    return map { $processes->{$_} } sort grep { /: worker \d+\z/ } keys %$processes;
}

# Waits until no process of ours is left; returns those that are.
sub survivors {
    my ($self, $seconds) = @_;
    my @left;
    wait_for { @left = processes_in($self->{folder}); !@left } $seconds || 10;
    return map { "$_ (" . process_title($_) . ')' } @left;
}

# like, on the log: what the server writes comes a moment after what it does.
sub log_like {
    my ($server, $pattern, $name) = @_;
    $server->wait_log($pattern);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return like($server->log, $pattern, $name);
}

sub connect {
    my ($self, %o) = @_;
    return BladePSGI::Test::FastCGI->connect($self->{socket}, %o);
}

# One request over a fresh connection; see BladePSGI::Test::FastCGI::request.
sub request {
    my ($self, %o) = @_;
    return $self->connect(timeout => $o{timeout})->request(%o);
}

sub get {
    my ($self, $uri, %o) = @_;
    return $self->request(uri => $uri, %o);
}

sub post {
    my ($self, $uri, $body, %o) = @_;
    return $self->request(uri => $uri, method => 'POST', body => $body, %o);
}

# The text of the statistics socket.
sub stats_text {
    my ($self) = @_;
    my $socket = IO::Socket::UNIX->new(Peer => $self->{stats}) or return undef;
    my $text = '';
    wait_for {
        my $in = '';
        vec($in, fileno $socket, 1) = 1;
        select($in, undef, undef, 0.1) or return 0;
        my $n = sysread $socket, $text, 65536, length $text;
        return !$n;
    };
    return $text;
}

# Runs bladectl on a server with control => 1: as run_to_end.
sub bladectl {
    my ($self, @words) = @_;
    return run_to_end([ bladectl_binary(), '--socket=' . $self->control_path, @words ], seconds => 60);
}

# The same in a process of its own; ->is_over, and ->outcome waits for what bladectl returns.
sub bladectl_later {
    my ($self, @words) = @_;
    require JSON::PP;
    pipe my $reader, my $writer or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        close $reader;
        my $run = $self->bladectl(@words);
        print {$writer} JSON::PP::encode_json($run);
        close $writer;
        POSIX::_exit(0);
    }
    close $writer;
    return bless { reader => $reader, pid => $pid }, 'BladePSGI::Test::Later';
}

sub BladePSGI::Test::Later::is_over {
    my ($self) = @_;
    my $in = '';
    vec($in, fileno $self->{reader}, 1) = 1;
    return select $in, undef, undef, 0;
}

sub BladePSGI::Test::Later::outcome {
    my ($self) = @_;
    local $/;
    my $text = readline $self->{reader};
    waitpid $self->{pid}, 0;
    return JSON::PP::decode_json($text);
}

# What bladectl prints with --json; undef when it is not done.
sub bladectl_result {
    my ($self, @words) = @_;
    my $run = $self->bladectl(@words, '--json');
    diag($run->{err}) if length $run->{err};
    return undef if $run->{exit} ne 'exit 0';
    require JSON::PP;
    return JSON::PP::decode_json($run->{out});
}

# { start, octets, requests, sem => {name => value}, atomic => {…}, order => [names] }
sub stats {
    my ($self) = @_;
    my ($start, $octets, $requests, $empty, @rest) = split /\n/, $self->stats_text // '', -1;
    my %s = (start => $start, octets => $octets, requests => $requests, order => []);
    for (@rest) {
        /\A(sem|atomic) (.*): (-?\d+)\z/ or next;
        $s{$1}{$2} = $3;
        push @{ $s{order} }, "$1 $2";
    }
    return \%s;
}

# Opens a gate that an application waits for with BladePSGI::Test::gate_code: a file in the server's directory.
sub open_gate {
    my ($self, $name) = @_;
    write_text("$self->{folder}/gate-$name", '');
    return;
}

# Perl text for applications: gate('name') waits until the test has opened it; mark('name') tells the test; note
# that both are files in the working directory, and that waiting is a select of 10 ms with a limit.
sub gate_code {
    return <<'PERL';
package main;
sub gate {
    my ($name) = @_;
    for (1 .. 6000) {
        return 1 if -e "gate-$name";
        select undef, undef, undef, 0.01;
    }
    die "gate $name was never opened";
}
sub mark {
    my ($name, $text) = @_;
    open my $out, '>', "mark-$name.new" or die "mark: $!";
    print {$out} $text // $$;
    close $out;
    rename "mark-$name.new", "mark-$name";
}
PERL
}

# Waits for a mark; returns its text.
sub wait_mark {
    my ($self, $name, $seconds) = @_;
    my $path = "$self->{folder}/mark-$name";
    my $there = wait_for { -e $path } $seconds;
    return $there ? read_text($path) : undef;
}

sub remove_mark {
    my ($self, $name) = @_;
    unlink "$self->{folder}/mark-$name";
    return;
}

# Ends what is left; a failure of the test if there was something, unless it was told that this is expected.
sub clean_up {
    my ($self) = @_;
    return if $self->{cleaned}++;
    my $was_running = $self->is_running;
    if ($was_running) {
        kill TERM => $self->{pid};
        if (!wait_for { !$self->is_running } 10) {
            Test::More->builder->ok(0, 'the server stops when it is told to');
            kill KILL => $self->{pid};
            wait_for { !$self->is_running } 5;
        }
    }
    my @left = $self->{pid} ? $self->survivors(5) : ();
    if (@left) {
        Test::More->builder->ok(0, "nothing survives the server: @left");
        kill KILL => $_ for processes_in($self->{folder});
    }
    return;
}

sub finish_all {
    return unless $$ == $owner;
    $_->clean_up for @started;
    return;
}

# Before the plan is printed, so that a survivor still counts.
{
    no warnings 'redefine';
    my $done_testing = \&Test::More::done_testing;
    *BladePSGI::Test::done_testing = sub {
        finish_all();
        goto &$done_testing;
    };
    push @EXPORT, 'done_testing';
}

END {
    if ($$ == $owner) {
        my $status = $?;
        finish_all();
        my $passing = Test::More->builder->is_passing && !$status;
        for my $server (@started) {
            if (!$passing) {
                diag("---- log of $server->{folder} ----\n" . substr($server->log, -8000) . '----');
            }
            File::Path::remove_tree($server->{folder}) unless $ENV{BLADEPSGI_TEST_KEEP};
        }
        $? = $status;
    }
}

1;
