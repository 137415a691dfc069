# The log: lines of many processes never mix, on a pipe either; a log that nobody reads does not stop the service.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Fcntl;
use POSIX ();
use Test::More;

my $app = <<'PERL';
my $n = 0;
sub {
    my ($env) = @_;
    my ($length, $count) = $env->{PATH_INFO} =~ m{/(\d+)/(\d+)};
    $n++;
    print STDERR "<$$.$n.$_:", (chr(97 + $_ % 26) x $length), ":$$.$n.$_>\n" for 1 .. $count || 0;
    return [200, [], [$$]];
};
PERL

sub reads_of {
    my ($server) = @_;
    my $reader = $server->{stderr_reader};
    fcntl $reader, F_SETFL, fcntl($reader, F_GETFL, 0) | O_NONBLOCK;
    return sub {
        while (sysread $reader, my $bytes, 65536) { $server->{piped} .= $bytes }
        return $server->{piped} // '';
    };
}

subtest 'long lines from many workers, through a pipe' => sub {
    my $server = BladePSGI::Test->start(workers => 6, app => $app, stderr => 'pipe', ready => 0);
    my $read = reads_of($server);
    ok wait_for { $read->() =~ /ready:/ }, 'ready' or return;
    for my $round (1 .. 8) {
        my @c = map { $server->connect } 1 .. 12;
        $_->send(request_bytes(uri => '/9000/2')) for @c;
        ok wait_for { (() = $read->() =~ /:\d+\.\d+\.\d+>\n/g) >= $round * 24 }, 'every line came';
        $_->read_response for @c;
    }
    my @lines = grep { /</ } split /\n/, $read->();
    my @whole = grep { /\A\S+ \S+ \w+:  worker\[(\d+)\]: <(\1\.\d+\.\d+):(\w)\3{8999}:\2>\z/ } @lines;
    is scalar(@whole), 8 * 24, 'whole, and unmixed';
    is scalar(@lines), 8 * 24, 'and nothing besides';
    $server->signal('TERM');
    ok wait_for { $read->(); !$server->is_running }, 'stops';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'a log that nobody reads' => sub {
    my $server = BladePSGI::Test->start(workers => 2, app => $app, stderr => 'pipe', ready => 0);
    my $read = reads_of($server);
    ok wait_for { $read->() =~ /ready:/ }, 'ready' or return;
    my $served = 0;
    for (1 .. 100) {
        my $answer = eval { $server->connect(timeout => 10)->request(uri => '/2000/50') };
        last unless $answer && $answer->{ended};
        $served++;
    }
    is $served, 100, 'ten megabytes of log into a pipe that nobody reads: every request is answered';
    like $server->stats_text, qr/\A\d+\n/, 'statistics too';
    my ($pid) = $server->worker_pids;
    kill KILL => $pid;
    ok wait_for { $server->worker_pids == 2 && !grep { $_ == $pid } $server->worker_pids }, 'a dead worker is replaced';
    ok wait_for { $read->() =~ /dropped|lost|discarded/i }, 'when it is read again, it says what was dropped';
    ok wait_for { $read->() =~ /\b$pid\b.*signal 9/ }, 'but nothing of the server itself was';
    my @odd = grep { !/\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+:  / } split /\n/, $read->();
    is_deeply [ map { substr $_, 0, 100 } @odd ], [], 'and every line is whole';
    $server->signal('TERM');
    ok wait_for { $read->(); !$server->is_running }, 'stops';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'a log that was closed' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => $app, stderr => 'pipe', ready => 0);
    my $read = reads_of($server);
    ok wait_for { $read->() =~ /ready:/ }, 'ready' or return;
    close $server->{stderr_reader};
    for (1 .. 5) { ok $server->get('/100/10')->{ended}, 'requests are answered' }
    is $server->stop, 'exit 0', 'and it stops as always';
};

subtest '--raw-output' => sub {
    my $server = BladePSGI::Test->start(workers => 1, options => ['--raw-output'], app => <<'PERL');
$| = 1;
sub { print STDERR "raw error\n"; print STDOUT "raw output\n"; [200, [], ['ok']] };
PERL
    is $server->get('/')->{body}, 'ok', 'served';
    ok wait_for { $server->log =~ /^raw error$/m }, 'descriptor 2 is left as it was inherited';
    ok wait_for { $server->output =~ /^raw output$/m }, 'and so is 1';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'bytes that could deceive a terminal or a reader' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => 'sub { die "died\n" }');
    $server->get("/x", env => { REQUEST_URI => "/x\e[31mred\n2026-01-01 00:00:00.000 PANIC:  forged" });
    ok $server->wait_log(qr/died/), 'logged';
    unlike $server->log, qr/\e/, 'no escape sequences of a client';
    unlike $server->log, qr/^2026-01-01 00:00:00/m, 'no forged lines';
    is $server->stop, 'exit 0', 'stops';
    $server = BladePSGI::Test->start(workers => 1, app => 'sub { warn "red\\e[31m nul\\0 tab\\t caf\\xc3\\xa9 bell\\a\\n"; [200, [], []] }');
    $server->get('/');
    log_like $server, qr/red\\x1b\[31m nul\\x00 tab\t caf\xc3\xa9 bell\\x07$/m, 'what the application prints: visible, and no more than that';
    is $server->stop, 'exit 0', 'stops';
};

# What logrotate does: the file gets another name, and the server is told.
subtest 'the access log is opened anew' => sub {
    my $server = BladePSGI::Test->start(control => 1, app => 'sub { [200, [], []] }', options => ['--access-log=access.log']);
    my $path = $server->folder . '/access.log';
    my $asked = sub { my ($uri) = @_; $server->get($uri); return $uri };
    my $says = sub {
        my ($file, @uris) = @_;
        return wait_for { join(' ', read_text($file) =~ m{"GET (\S+) }g) eq "@uris" };
    };

    $asked->('/first');
    ok $says->($path, '/first'), 'a line';
    rename $path, "$path.1" or die "rename: $!";
    $asked->('/second');
    ok $says->("$path.1", '/first', '/second'), 'a file that was renamed is written on';
    my $run = $server->bladectl('reopen');
    is $run->{exit}, 'exit 0', 'bladectl reopen';
    like $run->{out}, qr{the access log 'access\.log' has been opened anew}, 'says what it did';
    $asked->('/third');
    ok $says->($path, '/third'), 'then lines go to the new one';
    ok $says->("$path.1", '/first', '/second'), 'alone';

    rename $path, "$path.2" or die "rename: $!";
    $server->signal('USR1');
    ok $server->wait_log(qr{the access log 'access\.log' has been opened anew on SIGUSR1 of pid $$}), 'SIGUSR1 does the same';
    $asked->('/fourth');
    ok $says->($path, '/fourth'), 'seen';

    # Without the right, or the room, to make another one.
    rename $path, "$path.3" or die "rename: $!";
    mkdir $path or die "mkdir: $!";
    $run = $server->bladectl('reopen');
    is $run->{exit}, 'exit 1', 'a failure is an exit code';
    like $run->{err}, qr{cannot open access log 'access\.log': Is a directory \(EISDIR\)}, 'with its reason';
    $asked->('/fifth');
    ok $says->("$path.3", '/fourth', '/fifth'), 'and the old file is written on';
    is $server->stop, 'exit 0', 'stopped';
};

subtest 'an access log that is nobody\'s file' => sub {
    my $server = BladePSGI::Test->start(control => 1, app => 'sub { [200, [], []] }');
    my $run = $server->bladectl('reopen');
    is $run->{exit}, 'exit 0', 'nothing to do';
    like $run->{out}, qr/standard output/, 'and why';
    is $server->stop, 'exit 0', 'stopped';
};

done_testing;
