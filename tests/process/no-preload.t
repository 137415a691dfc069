# --no-preload: every worker loads the application for itself, after its fork.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::Load;
use Test::More;

my @no_preload = (options => ['--no-preload']);

# Counts its runs in files of the working directory, as shared memory would be the server's.
my $loader = BladePSGI::Test->gate_code . <<'PERL';
package My::Loader;
sub {
    my ($context) = @_;
    my $pid = $$;
    my $loads = $context->new_atomic_int64('loads', 0);
    my $runs = $context->new_atomic_int64('runs', 0);
    $loads->incr;
    $context->request_auxiliary_process('first', sub { select undef, undef, undef, 3600 while 1 });
    $context->request_auxiliary_process('second', sub {
        $runs->incr;
        main::mark('second', "$$ $pid");
        select undef, undef, undef, 3600 while 1;
    });
    return ({ 'my.pid' => $pid }, sub { [200, [], ["$_[0]{'my.pid'} $$"]] });
};
PERL

subtest 'a PSGI file' => sub {
    my $server = BladePSGI::Test->start(
        workers => 3, @no_preload,
        app => <<'PERL');
use IO::Socket::UNIX;
use Socket;
our ($one, $two) = do { socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, 0 or die; ($a, $b) };
my $pid = $$;
sub { [200, [], ["$pid $$"]] };
PERL
    my @workers = $server->worker_pids;
    is scalar @workers, 3, 'all of them serve';
    for (1 .. 5) {
        my ($loaded, $serves) = split / /, $server->get('/')->{body};
        is $loaded, $serves, 'loaded by the process that serves';
    }
    log_like $server, qr/ready: 3 workers, each of which loaded the application, in up to [\d.]+ s/, 'the log says so';
    unlike $server->log, qr/WARNING.*(?:opened while it loaded)/, 'nothing is shared, so nothing is warned of';
    unlike $server->log, qr/ERROR|FATAL/, 'no error';
    my $sockets = sub { scalar grep { (readlink($_) // '') =~ /^socket:/ } glob "/proc/$workers[0]/fd/*" };
    ok wait_for { $sockets->() == 1 + 2 + 2 }, 'a worker holds the listening socket, the two of the lobby and the two of the application' or diag $sockets->();
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a loader with auxiliary processes' => sub {
    my $server = BladePSGI::Test->start(workers => 3, @no_preload, loader => $loader);
    ok $server->wait_mark('second'), 'they run';
    my ($serves, $loaded) = split / /, $server->wait_mark('second');
    is $serves, $loaded, 'in a process that loaded the application itself';
    ok wait_for { $server->stats->{atomic}{loads} == 5 }, 'three workers and two auxiliary processes have loaded';
    is $server->stats->{atomic}{runs}, 1, 'each auxiliary process runs once, not once a worker';
    my ($first) = split / /, $server->get('/')->{body};
    ok grep({ $_ == $first } $server->worker_pids), 'a worker answers';

    $server->remove_mark('second');
    kill KILL => $serves;
    ok $server->wait_mark('second'), 'one that dies is replaced';
    my $worker = $server->pid_of('worker 1');
    kill KILL => $worker;
    ok $server->pid_of('worker 1', $worker), 'a worker too';
    ok wait_for { $server->stats->{atomic}{loads} == 7 }, 'each loads for itself';
    is $server->stats->{atomic}{runs}, 2, 'a new worker makes no auxiliary process';
    is $server->stop, 'exit 0', 'stops';
    unlike $server->log, qr/WARNING: .*loader/, 'without a warning';
};

subtest 'the zygote is killed under load' => sub {
    my $server = BladePSGI::Test->start(app_file => "$FindBin::Bin/../apps/load.psgi", workers => 2, @no_preload);
    my $load = BladePSGI::Test::Load->start($server, clients => 3);
    ok wait_for { $server->stats->{requests} > 50 }, 'load is on';
    my $workers = join ' ', $server->worker_pids;
    my $zygote = $server->pid_of('zygote');
    kill KILL => $zygote;
    ok $server->pid_of('zygote', $zygote), 'there is a new one';
    ok wait_for { $server->worker_pids == 2 && !grep { $workers =~ /\b$_\b/ } $server->worker_pids }, 'with new workers';
    my $before = $server->stats->{requests};
    ok wait_for { $server->stats->{requests} > $before + 50 }, 'and requests go on';
    my $result = $load->stop;
    is_deeply $result->{failures}, [], "every one of $result->{ok} requests was answered";
    is $server->stop, 'exit 0', 'stops';
};

subtest 'an application that does not load' => sub {
    my $server = BladePSGI::Test->start(workers => 4, @no_preload, ready => 0, app => "use strict;\nmy \$x = ;\nsub { }");
    ok within(3, sub { is $server->wait_exit(10), 'exit 3', 'exit code 3' }), 'soon';
    my @errors = $server->log =~ /(syntax error at \S*app\.psgi line 2)/g;
    is scalar @errors, 1, 'the error is reported once, not by each worker';
    unlike $server->log, qr/ready:/, 'never ready';
    ok !-e $server->socket && !-e $server->stats_path, 'no socket is left behind';
    is_deeply [ $server->survivors ], [], 'no process either';
};

subtest 'one that hangs' => sub {
    my $server = BladePSGI::Test->start(workers => 2, ready => 0, options => [qw(--no-preload --load-timeout=1)],
        app => 'select undef, undef, undef, 3600; sub { }');
    is $server->wait_exit(15), 'exit 3', 'exit code 3';
    log_like $server, qr/worker 0 within 1\.0 s \(--load-timeout\)/, 'the log says why';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'one that does not load any more' => sub {
    my $server = BladePSGI::Test->start(workers => 2, @no_preload, app => 'sub { [200, [], [$$]] }');
    my $path = $server->folder . '/app.psgi';
    write_text($path, 'die "broken now\n";');
    my ($victim) = $server->worker_pids;
    kill KILL => $victim;
    log_like $server, qr/worker 0 \(pid \d+\) could not load the application; a new one is started in/, 'the log says what happens';
    log_like $server, qr/FATAL:  worker\[\d+\]: .*broken now/, 'and why';
    like $server->get('/')->{body}, qr/\A\d+\z/, 'the other one serves' for 1 .. 3;
    my $last = $server->get('/')->{body};
    write_text("$path.new", 'sub { [200, [], ["mended"]] }');
    rename "$path.new", $path or die "rename: $!";
    kill KILL => $last;
    is $server->get('/')->{body}, 'mended', 'then a request waits until one loads again';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the zygote is killed while a worker loads' => sub {
    # Worker 1 stops loading when it is told, worker 0 serves.
    my $server = BladePSGI::Test->start(workers => 2, ready => 0, @no_preload, app => BladePSGI::Test->gate_code . <<'PERL');
if (-e 'mark-first') { mark('second') if !-e 'mark-second'; gate('go') }
else                 { mark('first') }
sub { [200, [], [$$]] };
PERL
    ok $server->wait_mark('second'), 'one serves, one loads';
    my $zygote = $server->pid_of('zygote');
    kill KILL => $zygote;
    ok $server->pid_of('zygote', $zygote), 'there is a new zygote';
    $server->open_gate('go');
    ok $server->wait_ready, 'all is well in the end';
    is $server->get('/')->{ended}, 1, 'a request is answered';
    log_like $server, qr/worker 1 \(pid \d+\) has loaded in vain: its zygote died meanwhile/, 'the log says that one has loaded in vain';
    unlike $server->log, qr/could not load|FATAL/, 'which nobody blames';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'descriptors of the server are closed while it loads' => sub {
    my $server = BladePSGI::Test->start(workers => 1, ready => 0, @no_preload, app => <<'PERL');
use POSIX ();
for my $fd (3 .. 60) { POSIX::close($fd) if (readlink("/proc/self/fd/$fd") // '') =~ /^socket/ }
sub { [200, [], []] };
PERL
    isnt $server->wait_exit(10), 'exit 0', 'it does not start';
    log_like $server, qr/FATAL:  worker\[\d+\]: .*has the application closed descriptors that are the server's\?/, 'the log says why';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'an application that fails slowly' => sub {
    plan skip_all => 'takes half a minute (BLADEPSGI_LONG)' unless is_long();
    my $server = BladePSGI::Test->start(workers => 1, @no_preload, app => 'select undef, undef, undef, 11 if -e "slow"; die "broken\n" if -e "slow"; sub { [200, [], []] }');
    write_text($server->folder . '/slow', '');
    kill KILL => $server->pid_of('worker 0');
    my $log = $server->wait_log(qr/could not load.*\n(?:.*\n)*.*could not load.*\n/, 60);
    unlike $log, qr/could not load the application; a new one is started at once/, 'is tried again after a pause, however long its load took';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'stopped while it loads' => sub {
    for my $case ([ TERM => 'exit 0' ], [ INT => 'exit 0' ], [ QUIT => 'exit 4' ]) {
        my ($signal, $exit) = @$case;
        my $server = BladePSGI::Test->start(workers => 2, ready => 0, @no_preload,
            app => BladePSGI::Test->gate_code . 'mark("loading"); gate("never"); sub { }');
        ok $server->wait_mark('loading'), 'it loads';
        ok within(3, sub { is $server->stop($signal, 10), $exit, "SIG$signal: $exit" }), 'at once';
        is_deeply [ $server->survivors ], [], 'nothing is left';
        unlike $server->log, qr/ERROR|FATAL/, 'and nothing to complain about';
    }
};

subtest 'a loader that changes its mind' => sub {
    my $server = BladePSGI::Test->start(workers => 2, @no_preload, ready => 0, loader => <<'PERL');
package My::Loader;
sub {
    my ($context) = @_;
    my $n = $context->new_atomic_int64('n', 0)->fetch_add(1);
    $context->request_auxiliary_process($_, sub { select undef, undef, undef, 3600 while 1 }) for $n == 0 ? 'early' : 'late';
    return ({}, sub { [200, [], ['ok']] });
};
PERL
    log_like $server, qr/WARNING: .*worker 1.*no effect/, 'is told so';
    log_like $server, qr/no auxiliary process 'early'/, 'the process it does not know any more as well';
    is $server->get('/')->{body}, 'ok', 'requests are served meanwhile';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
