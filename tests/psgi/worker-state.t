# What differs between workers and what does not: rand, PLACK_ENV, loaded memory, preloading.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Test::More;

sub from_all {
    my ($server, $uri, $workers) = @_;
    my %answers;
    wait_for {
        my @c = map { $server->connect } 1 .. $workers * 2;
        $_->send(request_bytes(uri => $uri)) for @c;
        for (@c) {
            my ($pid, $text) = split / /, $_->read_response->{body}, 2;
            $answers{$pid} //= $text;
        }
        keys %answers >= $workers;
    };
    return \%answers;
}

my $app = <<'PERL';
my $at_load = rand;    # seeds the generator in the process that loads
sub { my ($env) = @_; select undef, undef, undef, 0.01;
    $env->{PATH_INFO} eq '/rand' ? [200, [], ["$$ " . rand]]
    : $env->{PATH_INFO} eq '/keys' ? [200, [], ["$$ " . join '', keys %{ { map { $_ => 1 } 'a' .. 'z' } }]]
    : [200, [], ["$$ $ENV{PLACK_ENV}"]] };
PERL

subtest 'rand differs between workers' => sub {
    for my $text ($app, $app =~ s/rand;/srand(42);/r, $app =~ s/= rand;/= 0;/r) {
        my $server = BladePSGI::Test->start(workers => 4, app => $text);
        my $answers = from_all($server, '/rand', 4);
        my %values = reverse %$answers;
        is scalar(keys %values), scalar(keys %$answers), 'each worker draws its own numbers';
        my ($pid) = $server->worker_pids;
        kill KILL => $pid;
        wait_for { !grep { $_ == $pid } $server->worker_pids and $server->worker_pids == 4 };
        my $more = from_all($server, '/rand', 4);
        %values = (%values, reverse %$more);
        cmp_ok scalar(keys %values), '>=', 5, 'so does a replacement';
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'PLACK_ENV' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => $app);
    like $server->get('/')->{body}, qr/ deployment\z/, 'defaults to deployment';
    is $server->stop, 'exit 0', 'stops';
    $server = BladePSGI::Test->start(workers => 1, app => $app, env => { PLACK_ENV => 'staging' });
    like $server->get('/')->{body}, qr/ staging\z/, 'and is left alone when it is set';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'what the application changes stays in its worker' => sub {
    my $server = BladePSGI::Test->start(workers => 2, app => <<'PERL');
our $counter = 100;
sub { my ($env) = @_; select undef, undef, undef, 0.01; my $n = ++$counter; [200, [], ["$$ $n"]] };
PERL
    my %count;
    for (1 .. 30) {
        my ($pid, $n) = split / /, $server->get('/')->{body};
        is $n, 100 + ++$count{$pid}, 'each worker counts for itself';
    }
    is $server->stop, 'exit 0', 'stops';
};

subtest 'signal handlers that the application set while loading' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
my $hits = 0;
$SIG{USR2} = sub { $hits++ };
sub { my ($env) = @_; kill USR2 => $$ if $env->{PATH_INFO} eq '/kill'; select undef, undef, undef, 0.01; [200, [], [$hits]] };
PERL
    kill USR2 => $server->pid_of('zygote');
    is $server->get('/')->{body}, 0, 'run in no other process';
    is $server->get('/kill')->{body}, 1, 'work in a worker';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'programs that the application starts' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
sub { my ($env) = @_;
    return [200, [], [join ' ', map { (readlink $_ // '') =~ s/\d{3,}/N/gr } sort glob '/proc/self/fd/*']] if $env->{PATH_INFO} eq '/own';
    my $out = $env->{PATH_INFO} eq '/fds' ? qx(ls -l /proc/self/fd) : $env->{PATH_INFO} eq '/system' ? system('exit 3;') >> 8
        : $env->{PATH_INFO} eq '/wait' ? do { my $pid = fork // die; if (!$pid) { require POSIX; POSIX::_exit(9) } waitpid $pid, 0; $? >> 8 } : qx(echo hello);
    [200, [], [$out]] };
PERL
    is $server->get('/')->{body}, "hello\n", 'backticks';
    is $server->get('/system')->{body}, 3, 'system';
    is $server->get('/wait')->{body}, 9, 'fork and waitpid';
    my $fds = $server->get('/fds')->{body};
    my @sockets = $fds =~ /socket:/g;
    is scalar(@sockets), 0, 'inherit no socket of ours' or diag $fds;
    my @numbers = $fds =~ / (\d+) -> /g;
    is scalar(grep { $_ > 3 } @numbers), 0, 'and no other descriptor' or diag $fds;
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
