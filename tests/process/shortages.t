# The machine runs out of descriptors, of memory, of processes, or of whoever reads the log: the server waits, says so and recovers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::Refusals;
use Errno ();
use File::Temp ();
use IO::Socket::UNIX;
use Test::More;
use Time::HiRes ();

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
        my $log = $server->wait_log(qr/ERROR: .*\(EMFILE\).*(?:again|started) in \d/, 20, $from);
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
    set_limit($server->pid, nofile => 3);
    my $from = $server->log_size;
    $server->signal('HUP');
    ok $server->wait_log(qr/ERROR: .*the reload has failed: .*EMFILE.*; generation \d+ goes on serving/, 20, $from), 'a reload: it fails';
    like $server->get('/')->{body}, qr/\A\d+\z/, 'and requests are answered';
    set_limit($server->pid, nofile => 1024);
    $from = $server->log_size;
    $server->signal('HUP');
    ok $server->wait_log(qr/all 2 workers have changed over/, 20, $from), 'with descriptors it does not';
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

subtest 'accept fails' => sub {
    my ($library, $why) = refusing_library();
    plan skip_all => $why unless $library;
    my $server = BladePSGI::Test->start(workers => 2, control => 1, app => 'sub { [200, [], ["$$"]] }', env => { LD_PRELOAD => $library });
    my %old  = map { $_ => 1 } $server->worker_pids;
    for my $name (qw(ENFILE ENOMEM ENOBUFS EMFILE EPERM)) {
        my $error = Errno->$name;
        my $from  = $server->log_size;
        # Whoever has a connection already keeps it, and who waits gets the next.
        my $kept = $server->connect;
        my ($worker) = $kept->request(uri => '/', keep => 1)->{body};
        ok $old{$worker}, "$name: a kept connection";
        refuse($server, accept => $error);
        my @waiting = map { $server->connect } 1 .. 5;
        $_->send(request_bytes(uri => '/')) for @waiting;
        ok $server->wait_log(qr/ERROR: .*worker\[$_\]: cannot accept connection: .*\($name\); retrying in 0\.1 s/, 5, $from), "worker $_ says so"
            for sort keys %old;
        my $before = times_refused($server, 'accept');
        my $start  = Time::HiRes::time();
        if ($name ne 'EMFILE') {
            my @by = map { $kept->request(uri => '/', keep => 1)->{body} } 1 .. 100;
            is_deeply \@by, [ ($worker) x 100 ], 'the kept connection is served meanwhile';
            cmp_ok Time::HiRes::time() - $start, '<', 3 * $BladePSGI::Test::PATIENCE, 'at once, every time';
        }
        select undef, undef, undef, 1.2;    # not to wait for something: to count what happens
        my $took  = Time::HiRes::time() - $start;
        my $tries = times_refused($server, 'accept') - $before;
        cmp_ok $tries, '<=', 2 * (10 * $took + 2), "$tries tries in $took s are no busy loop";
        cmp_ok scalar(() = substr($server->log, $from) =~ /cannot accept/g), '<=', 2 * (1 + $took + 1), 'nor are they all logged';
        allow($server, 'accept');
        ok !grep({ !$old{ $_->read_response->{body} // '' } } @waiting), 'those who waited are served, by the same workers';
        $kept->close;
    }
    my $error = Errno::EPROTO();
    refuse($server, accept => $error);
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/'));
    ok wait_for { times_refused($server, 'accept') > 0 }, 'a connection that was broken before it was accepted (EPROTO)';
    allow($server, 'accept');
    ok $old{ $c->read_response->{body} // '' }, 'is no reason to end';
    for my $name (qw(ENFILE EPERM)) {
        my $from = $server->log_size;
        refuse($server, accept => Errno->$name);
        my $client = IO::Socket::UNIX->new(Peer => $server->control_path) or die "no connection: $!";
        ok $server->wait_log(qr/WARNING: .*overseer\[\d+\]: cannot accept a client of the control socket: .*\($name\); trying again/, 5, $from), "$name: the overseer says so";
        allow($server, 'accept');
        is $server->bladectl_result('status')->{pid}, $server->pid, 'and then answers';
    }
    unlike $server->log, qr/died unexpectedly|PANIC/, 'nobody has ended for any of this';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the last descriptor is that of a kept connection' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
my @held;
sub { $_[0]{PATH_INFO} eq '/hold' ? do { while (open my $f, '<', '/dev/null') { push @held, $f } } : (); [200, [], [scalar @held]] };
PERL
    my ($pid) = $server->worker_pids;
    set_limit($pid, nofile => open_descriptors($pid) + 4);
    my $kept = $server->connect;
    cmp_ok $kept->request(uri => '/hold', keep => 1)->{body}, '>', 0, 'the application holds all others';
    my $c = $server->connect;
    ok within(10, sub { cmp_ok $c->request(uri => '/')->{body}, '>', 0, 'who waits is served all the same' }), 'soon';
    cmp_ok $kept->request(uri => '/')->{body}, '>', 0, 'and the kept one, which waited in the lobby meanwhile';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'no process can be made' => sub {
    my ($library, $why) = refusing_library();
    plan skip_all => $why unless $library;
    my $loader = <<'PERL';
sub {
    my ($context) = @_;
    $context->request_auxiliary_process('heartbeat', sub { sleep 1 while 1 });
    return ({}, sub { [200, [], ["$$"]] });
};
PERL
    for my $name (qw(EAGAIN ENOMEM)) {
        my $server = BladePSGI::Test->prepare(workers => 2, loader => $loader, env => { LD_PRELOAD => $library });
        refuse($server, fork => Errno->$name);
        $server->launch;
        is $server->wait_exit, 'exit 1', "$name at the start: it fails";
        like $server->log, qr/FATAL: .*cannot create process: .*\($name\)/, 'with the reason';

        $server = BladePSGI::Test->start(workers => 2, loader => $loader, env => { LD_PRELOAD => $library });
        my %pid    = map { $_ => $server->pid_of($_) } 'monitoring', 'heartbeat', 'worker 0';
        my $before = open_descriptors($server->pid);
        my ($from, $start) = ($server->log_size, Time::HiRes::time());
        refuse($server, fork => Errno->$name);
        kill KILL => values %pid;
        ok $server->wait_log(qr/ERROR: .*overseer\[\d+\]: cannot create process: .*\($name\); trying again in 1 s/, 20, $from), 'monitoring: said';
        ok $server->wait_log(qr/ERROR: .*zygote\[\d+\]: cannot create process: .*\($name\)/, 20, $from), 'and by the zygote';
        ok $server->wait_log(qr/$_ could not be made; a new one is started in [\d.]+ s(?:.*\n)+.*$_ could not be made/, 30, $from), "$_: tried again"
            for 'worker 0', 'heartbeat';
        ok $server->get('/')->{ended}, 'the other worker serves' for 1 .. 3;
        my $zygote = $server->pid_of('zygote');
        my $middle = $server->log_size;
        kill KILL => $zygote;
        ok $server->wait_log(qr/zygote \(pid $zygote\) died(?:.*\n)+.*cannot create process.*trying again in 1 s/, 20, $middle), 'nor is there a zygote';
        ok $server->get('/')->{ended}, 'the worker that is left serves';
        my $took = Time::HiRes::time() - $start;
        cmp_ok times_refused($server, 'fork'), '<', 10 + 10 * $took, sprintf '%d tries in %.1f s are no busy loop', times_refused($server, 'fork'), $took;
        allow($server, 'fork');
        ok $server->pid_of($_, $pid{$_}), "with processes to be had there is a new $_" for 'monitoring', 'heartbeat', 'worker 0';
        ok $server->pid_of('zygote', $zygote), 'a zygote';
        ok $server->wait_log(qr/all 2 workers have changed over/, 30, $from), 'and all workers';
        ok wait_for { open_descriptors($server->pid) <= $before }, 'no descriptor has leaked'
            or diag open_descriptors($server->pid) . " instead of $before";
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'no room for shared memory at the start' => sub {
    my $server = BladePSGI::Test->start(
        ready   => 0,
        options => ['--shared-memory=4G'],
        wrap    => is_sanitized() ? ['prlimit', '--fsize=1000000'] : ['prlimit', '--as=1000000000'],
    );
    is $server->wait_exit, 'exit 1', 'address space: the start fails';
    like $server->log, qr/FATAL: .*cannot (?:map|size) shared memory '\d+': .*\((?:ENOMEM|EFBIG)\); see --shared-memory/, 'with the reason, and what to look at';
    is_deeply [ glob $server->folder . '/*.sock' ], [], 'and leaves no sockets';
    $server = BladePSGI::Test->start(ready => 0, wrap => ['prlimit', '--fsize=1000000']);
    is $server->wait_exit, 'exit 1', 'file size: the start fails';
    like $server->log, qr/FATAL: .*cannot size shared memory '\d+': File too large \(EFBIG\); see --shared-memory/, 'the same';
};

subtest 'shared memory is full' => sub {
    my $server = BladePSGI::Test->start(workers => 2, options => ['--shared-memory=1M'], loader => <<'PERL');
sub {
    my ($context) = @_;
    my $old = $context->new_atomic_int64('old', 0);
    my $lock = $context->new_semaphore('lock', 1);
    return ({}, sub {
        my ($env) = @_;
        if ($env->{PATH_INFO} eq '/fill') { $context->new_atomic_int64("filler $_", 0) for 1 .. 1_000_000 }
        if ($env->{PATH_INFO} eq '/find') { return [200, [], [$context->new_atomic_int64('filler 7', 0)->incr ? 'there' : '']] }
        $lock->acquire;
        $old->incr;
        $lock->release;
        return [200, [], [$old->load]];
    });
};
PERL
    is $server->get('/')->{body}, 1, 'served';
    is $server->get('/fill')->{status}, 500, 'a request that makes too many objects fails' for 1 .. 3;
    log_like $server, qr/ERROR: .*cannot create atomic 'filler \d+': shared memory is exhausted \(1048576 bytes; see --shared-memory\) at /, 'with the reason, the size and the place';
    is $server->get('/')->{body}, 1 + $_, 'objects that exist work' for 1 .. 4;
    is $server->get('/find')->{body}, 'there', 'and are found' for 1 .. 4;
    my ($pid) = $server->worker_pids;
    kill KILL => $pid;
    ok wait_for { $server->worker_pids == 2 && !grep { $_ == $pid } $server->worker_pids }, 'a new worker finds its way';
    is $server->get('/')->{body}, 5 + $_, 'and serves' for 1 .. 4;
    is $server->stats->{atomic}{old}, 9, 'statistics show them';
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
