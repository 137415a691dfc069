# The machine runs out of descriptors, of processes, or of whoever reads the log: the server waits, says so and recovers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use File::Temp ();
use Test::More;

sub open_descriptors {
    my ($pid) = @_;
    my @open = glob "/proc/$pid/fd/*";
    return scalar @open;
}

# prlimit(1) and setpriv(1) are in util-linux, which every Debian has. Whom the process belongs to may always change its limits.
my @as_nobody = qw(setpriv --reuid=nobody --regid=nogroup --clear-groups);

sub set_limit {
    my ($pid, $what, $soft, @as) = @_;
    system(@as, 'prlimit', "--pid=$pid", "--$what=$soft:") == 0 or die "prlimit: $?";
    return;
}

sub resident_kilobytes {
    my ($pid) = @_;
    return read_text("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : undef;
}

subtest 'descriptors run out in the overseer' => sub {
    my $server = BladePSGI::Test->start(workers => 2, app => 'sub { [200, [], ["$$"]] }');
    my $before = open_descriptors($server->pid);
    my %old = map { $_ => 1 } $server->worker_pids;
    for my $role ('monitoring', 'zygote') {
        set_limit($server->pid, nofile => 3);
        my $from = $server->log_size;
        my $pid = $server->pid_of($role);
        kill KILL => $pid;
        my $log = $server->wait_log(qr/ERROR: .*\(EMFILE\).*again in 1 s/, 20, $from);
        ok $log, "$role killed: the log says what is missing and that it will be tried again";
        like $server->get('/')->{body}, qr/\A\d+\z/, 'requests are answered meanwhile' for 1 .. 3;
        set_limit($server->pid, nofile => 1024);
        ok $server->pid_of($role, $pid), 'with descriptors there is a new one';
        my @said = substr($server->log, $from) =~ /EMFILE/g;
        cmp_ok scalar @said, '<', 30, 'it did not try in a busy loop';
    }
    ok wait_for { processes_in($server->folder) == 6 && !grep { $old{$_} } $server->worker_pids }, 'workers change over';
    set_limit($server->pid, nofile => 3);
    my ($worker) = $server->worker_pids;
    kill KILL => $worker;
    ok $server->wait_log(qr/\(pid $worker\) died.*\n(?:.*\n)*.*EMFILE/), 'a worker killed: the log says what is missing';
    like $server->get('/')->{body}, qr/\A\d+\z/, 'the other one serves';
    set_limit($server->pid, nofile => 1024);
    ok wait_for { $server->worker_pids == 2 }, 'with descriptors there are two again';
    ok wait_for { open_descriptors($server->pid) <= $before + 1 }, 'and none has leaked'
        or diag open_descriptors($server->pid) . " instead of $before";
    is $server->stop, 'exit 0', 'stops';
};

subtest 'descriptors run out in a worker' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
my @held;
sub { $_[0]{PATH_INFO} eq '/free' ? @held = () : $_[0]{PATH_INFO} eq '/hold' ? do { while (open my $f, '<', '/dev/null') { push @held, $f } } : ();
    [200, [], [scalar @held]] };
PERL
    my ($pid) = $server->worker_pids;
    set_limit($pid, nofile => open_descriptors($pid) + 4);
    cmp_ok $server->get('/hold')->{body}, '>', 0, 'it holds all there are';
    set_limit($pid, nofile => 3);
    my $c = $server->connect;
    log_like $server, qr/ERROR: .*worker\[$pid\].*accept.*EMFILE.*retrying/, 'the log says that nobody can be accepted';
    set_limit($pid, nofile => 1024);
    is $c->request(uri => '/free')->{body}, 0, 'the one who waited is served when there are some again';
    is_deeply [ $server->worker_pids ], [$pid], 'by the same worker';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'no more processes' => sub {
    plan skip_all => 'root is not limited, and only root can become somebody who is' unless as_root();
    plan skip_all => 'nobody cannot run the program where it lies' if system(@as_nobody, 'test', '-x', bladepsgi_binary());
    my $folder = File::Temp::tempdir('shortage-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    chmod 0777, $folder;
    my $server = BladePSGI::Test->start(
        workers => 2,
        app     => 'sub { [200, [], ["$$"]] }',
        wrap    => [@as_nobody],
        socket  => "$folder/app.sock",
        stats   => "$folder/stats.sock",
    );
    my $before = open_descriptors($server->pid);
    my ($monitoring, $zygote) = map { $server->pid_of($_) } 'monitoring', 'zygote';
    set_limit($_, nproc => 1, @as_nobody) for $server->pid, $zygote;
    kill KILL => $monitoring;
    ok $server->wait_log(qr/ERROR: .*create process.*again in 1 s/), 'monitoring cannot be replaced: it is said';
    my $from = $server->log_size;
    ok $server->wait_log(qr/ERROR: .*create process.*again in 1 s/, 20, $from), 'it is tried again';
    my ($worker) = $server->worker_pids;
    kill KILL => $worker;
    ok $server->wait_log(qr/could not be made/), 'nor can a worker';
    like $server->get('/')->{body}, qr/\A\d+\z/, 'the other one serves' for 1 .. 3;
    set_limit($_, nproc => 4096, @as_nobody) for $server->pid, $zygote;
    ok $server->pid_of('monitoring', $monitoring), 'with processes to be had monitoring is back';
    ok wait_for { $server->worker_pids == 2 }, 'and the worker';
    ok wait_for { open_descriptors($server->pid) <= $before }, 'no descriptor has leaked'
        or diag open_descriptors($server->pid) . " instead of $before";
    is $server->stop, 'exit 0', 'stops';
};

subtest 'psgix.logger into a log that nobody reads' => sub {
    plan skip_all => 'memory means nothing under a sanitizer' if is_sanitized();
    my $server = BladePSGI::Test->start(workers => 1, stderr => 'pipe', ready => 0, app => <<'PERL');
my $line = 'x' x 3000;
sub { my ($env) = @_; $env->{'psgix.logger'}->({ level => 'error', message => $line }) for 1 .. 200; [200, [], ['ok']] };
PERL
    ok wait_for { -S $server->socket }, 'up';
    $server->get('/');
    my $before = resident_kilobytes($server->pid);
    is $server->get('/')->{body}, 'ok', 'answered' for 1 .. 50;
    my $after = resident_kilobytes($server->pid);
    cmp_ok $after - $before, '<', 4096, 'thirty megabytes of lines do not stay in the overseer'
        or diag "$before kB before, $after kB after";
    close $server->{stderr_reader};
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a stray SIGTERM' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => 'sub { [200, [], [$$]] }');
    my $monitoring = $server->pid_of('monitoring');
    kill TERM => $monitoring;
    ok $server->pid_of('monitoring', $monitoring), 'to monitoring: there is a new one';
    log_like $server, qr/ERROR: .*monitoring \(pid $monitoring\) died unexpectedly/, 'and it is logged';
    my ($worker) = $server->worker_pids;
    kill TERM => $worker;
    log_like $server, qr/LOG: .*worker 0 \(pid $worker\) has left; a new one is started at once/, 'to a worker: logged';
    isnt $server->get('/')->{body}, $worker, 'and replaced';
    my $zygote = $server->pid_of('zygote');
    kill TERM => $zygote;
    my $last = $server->get('/')->{body};
    kill TERM => $last;
    ok $server->pid_of('worker 0', $last), 'a zygote ignores it and goes on making workers';
    is $server->pid_of('zygote'), $zygote, 'the same one';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
