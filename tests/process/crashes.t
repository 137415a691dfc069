# What dies is logged, with the request it was serving, and replaced; and nobody else notices.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::Load;
use Test::More;
use Time::HiRes ();

my $load_app = "$FindBin::Bin/../apps/load.psgi";
my $echo_app = "$FindBin::Bin/../apps/echo.psgi";

subtest 'a worker is killed while it serves' => sub {
    my $server = BladePSGI::Test->start(app_file => $echo_app, workers => 2);
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/block/killed?token=x', method => 'PUT', body => ''));
    my $pid = $server->wait_mark('killed');
    ok $pid, 'it serves';
    kill KILL => $pid;
    my $answer = $c->read_response;
    ok !$answer->{ended}, 'its client sees that the response is missing';
    ok $server->wait_log(qr/\b$pid\b.*signal 9 \(SIGKILL\)/), 'logged with pid and signal';
    my ($line) = grep { /\b$pid\b.*signal 9/ } split /\n/, $server->log;
    like $line, qr/ (?:WARNING|ERROR): /, 'as a WARNING or an ERROR';
    like $line, qr/PUT/, 'with the method';
    like $line, qr{/block/killed}, 'and the URI';
    like $line, qr/\d+(?:\.\d+)? ?m?s\b/, 'and how long it had been at it';
    ok wait_for { $server->worker_pids == 2 && !grep { $_ == $pid } $server->worker_pids }, 'replaced';
    like $server->get('/x')->{body}, qr{/x}, 'and requests are answered' for 1 .. 4;
    is $server->stop, 'exit 0', 'stops';
};

subtest 'an idle worker is killed' => sub {
    my $server = BladePSGI::Test->start(app_file => $echo_app, workers => 1);
    $server->get('/x');
    ok wait_for { $server->stats->{requests} == 1 }, 'it has served a request';
    my ($pid) = $server->worker_pids;
    kill SEGV => $pid;
    ok $server->wait_log(qr/\b$pid\b.*signal 11 \(SIGSEGV\)/), 'logged';
    my ($line) = grep { /\b$pid\b.*signal 11/ } split /\n/, $server->log;
    unlike $line, qr{GET|/x}, 'with no request, as it served none';
    like $server->get('/y')->{body}, qr{/y}, 'replaced';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'its last words' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
sub { syswrite STDERR, "last words without a newline"; kill KILL => $$; [200, [], []] };
PERL
    $server->get('/');
    ok $server->wait_log(qr/worker\[\d+\]: last words without a newline$/m), 'are kept';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the zygote is killed under load: no request is lost' => sub {
    for my $keep (0, 1) {
        my $server = BladePSGI::Test->start(app_file => $load_app, workers => 2);
        my $load = BladePSGI::Test::Load->start($server, clients => 3, keep => $keep);
        ok wait_for { $server->stats->{requests} > 50 }, 'load is on';
        for my $time (1, 2) {
            my $zygote = $server->pid_of('zygote');
            my $workers = join ' ', $server->worker_pids;
            kill KILL => $zygote;
            ok $server->pid_of('zygote', $zygote), "killed $time: there is a new zygote";
            my $before = $server->stats->{requests};
            ok wait_for { join(' ', $server->worker_pids) ne $workers && $server->worker_pids == 2 }, 'with new workers';
            ok wait_for { $server->stats->{requests} > $before + 50 }, 'and requests go on';
        }
        my $result = $load->stop;
        is_deeply $result->{failures}, [], "keep $keep: every one of $result->{ok} requests was answered";
        ok wait_for { $server->stats->{requests} == $result->{ok} }, "keep $keep: and counted once";
        is -s $server->folder . '/served', $result->{ok}, "keep $keep: and run once ($result->{retried} asked again)";
        log_like $server, qr/zygote.*signal 9/, 'it is logged';
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'no request waits for a worker that was killed while it was idle' => sub {
    my $server = BladePSGI::Test->start(app_file => $load_app, workers => 2);
    my $load = BladePSGI::Test::Load->start($server, clients => 2);
    for (1 .. 5) {
        my $before = $server->stats->{requests};
        kill KILL => $server->pid_of('monitoring');
        ok wait_for { my $s = $server->stats; defined $s->{requests} && $s->{requests} > $before + 20 }, 'monitoring killed: requests go on';
    }
    is_deeply $load->stop->{failures}, [], 'and none is lost';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the overseer is killed: nothing of it lives on, whatever user it has become' => sub {
    plan skip_all => 'only root can become somebody else' unless as_root();
    my $nobody = getpwnam 'nobody';
    for my $where (qw(loader worker auxiliary program)) {
        # Every one of them hangs: it would never come back to a place where it could look who its parent is.
        my $server = BladePSGI::Test->start(
            workers => 1,
            ready   => $where ne 'loader',
            loader  => BladePSGI::Test->gate_code . <<"PERL");
package My::Loader;
use POSIX ();
sub become { POSIX::setgid($nobody); POSIX::setuid($nobody); die "cannot: \$!" if \$> != $nobody }
sub {
    my (\$context) = \@_;
    chmod 0777, '.';
    if ('$where' eq 'loader') {
        become();
        main::mark('loader');
        select undef, undef, undef, 3600 while 1;
    }
    \$context->request_auxiliary_process('hangs', sub {
        become() if '$where' eq 'auxiliary';
        if ('$where' eq 'program') {
            become();
            exec 'sh', '-c', 'echo \$\$ >mark-auxiliary; exec sleep 3600';
        }
        main::mark('auxiliary');
        select undef, undef, undef, 3600 while 1;
    });
    return ({}, sub {
        become() if '$where' eq 'worker';
        main::mark('worker');
        select undef, undef, undef, 3600 while 1;
    });
};
PERL
        my $c;
        if ($where eq 'loader') {
            ok $server->wait_mark('loader'), 'the loader changes its user';
        }
        else {
            $c = $server->connect;
            $c->send(request_bytes(uri => '/'));
            ok $server->wait_mark('worker') && $server->wait_mark('auxiliary'), "$where changes its user";
        }
        kill KILL => $server->pid;
        $server->wait_exit;
        is_deeply [ $server->survivors ], [], 'nothing survives';
    }
};

subtest 'nobody is left and the application does not load any more' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => 'sub { [200, [], [$$]] }');
    my $path = $server->folder . '/app.psgi';
    write_text($path, 'die "broken now\n";');
    my $zygote = $server->pid_of('zygote');
    kill KILL => $zygote;
    log_like $server, qr/ERROR: .*the application could not be loaded again: .*broken now; generation 1 goes on serving, a new zygote is started in \d/, 'the zygote cannot load';
    my ($worker) = $server->worker_pids;
    is $server->get('/')->{body}, $worker, 'the worker goes on';
    kill KILL => $worker;
    log_like $server, qr/worker 0 \(pid $worker\) died.*; a new one is started when the zygote is there again/, 'when it dies, the log says what its successor waits for';
    log_like $server, qr/WARNING: .*no worker is left: requests wait/, 'and that nobody serves';
    my $waiting = $server->connect;
    $waiting->send(request_bytes(uri => '/'));
    write_text($path, 'sub { [200, [], ["mended"]] }');
    is $waiting->read_response->{body}, 'mended', 'who waits is served when it loads again';
    log_like $server, qr/worker 0 \(pid \d+\) serves: requests that have waited are answered again/, 'which is said';
    log_like $server, qr/workers change over\n(?:.*\n)*.*the worker has changed over/, 'as is the end of changing over';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'crash loops are slowed down' => sub {
    my $server = BladePSGI::Test->start(
        workers => 1,
        loader  => <<'PERL',
package My::Loader;
sub {
    my ($context) = @_;
    my $runs = $context->new_atomic_int64('runs', 0);
    $context->request_auxiliary_process('broken', sub { $runs->incr; die "at once\n" });
    return ({}, sub { [200, [], ['ok']] });
};
PERL
    );
    ok wait_for { $server->stats->{atomic}{runs} >= 3 }, 'it is started again';
    my $start = Time::HiRes::time();
    my $runs = $server->stats->{atomic}{runs};
    ok wait_for { Time::HiRes::time() - $start > 1.5 }, 'a while later';
    cmp_ok $server->stats->{atomic}{runs} - $runs, '<', 15, 'but not in a busy loop';
    log_like $server, qr/broken.*(?:retry|again|restart|in \d)/i, 'the log says that it is tried again';
    is $server->get('/')->{body}, 'ok', 'requests are answered meanwhile';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a worker that has served is replaced at once' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => 'sub { kill KILL => $$ if $_[0]{PATH_INFO} eq "/kill"; [200, [], [$$]] }');
    for (1 .. 5) {
        $server->get('/');
        my $from = $server->log_size;
        $server->get('/kill');
        like $server->get('/')->{body}, qr/\A\d+\z/, 'the next request is served';
        like substr($server->log, $from), qr/died unexpectedly: .*; a new one is started at once/, 'without delay';
    }
    is $server->stop, 'exit 0', 'stops';
};

subtest 'an application that leaves processes behind' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
sub {
    my ($env) = @_;
    if ($env->{PATH_INFO} eq '/orphan') {
        my $pid = fork // die;
        if (!$pid) { if (!fork) { select undef, undef, undef, 0.1; require POSIX; POSIX::_exit(0) } require POSIX; POSIX::_exit(0) }
        waitpid $pid, 0;
    }
    return [200, [], [$$]];
};
PERL
    my ($pid) = $server->worker_pids;
    $server->get('/orphan') for 1 .. 5;
    my $zombies = sub {
        my $n = 0;
        for (glob '/proc/[0-9]*/stat') {
            my ($ppid) = read_text($_) =~ /\) Z (\d+)/ or next;
            $n++ if $ppid == $server->pid;
        }
        return $n;
    };
    ok wait_for { processes_in($server->folder) == keys %{ $server->processes } && !$zombies->() }, 'they are reaped';
    is $server->get('/')->{body}, $pid, 'and nobody takes them for a worker';
    unlike $server->log, qr/ERROR/, 'nor for an error';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
