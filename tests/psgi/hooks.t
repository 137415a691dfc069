# on_worker_start, on_worker_exit, on_request_end: when they run, with what, and what a die in them does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Test::More;

# Lines that hooks write, "PID text", in the order in which they came.
sub said {
    my ($server) = @_;
    return map { [ split / /, $_, 2 ] } split /\n/, read_text($server->folder . '/said');
}

my $say = <<'PERL';
sub say_it { open my $out, '>>', 'said' or die; syswrite $out, "$$ @_\n" }
PERL

my $loader = <<"PERL" . <<'PERL';
package My::Loader;
$say
PERL
our ($connection, $where) = ("none");
END { say_it("END") if $where->is_worker }
sub {
    my ($context) = @_;
    $where = $context;
    say_it('loader ' . ($context->is_worker ? 1 : 0));
    $context->on_worker_start(sub { say_it('start 1 ' . ref($_[0]) . ' ' . scalar(@_) . ' ' . ($_[0]->is_worker ? 1 : 0)) });
    $context->on_worker_start(sub { $connection = "opened by $$"; say_it('start 2') });
    $context->on_worker_exit(sub { say_it('exit 1') });
    $context->on_worker_exit(sub { die "broke\n" });
    $context->on_worker_exit(sub { say_it('exit 3 ' . ref($_[0]) . ' ' . scalar @_) });
    $context->on_request_end(sub { say_it('end 1 ' . ref($_[0]) . " $_[1]{PATH_INFO} " . scalar @_) });
    $context->on_request_end(sub { die "end broke\n" if $_[1]{PATH_INFO} eq '/broken-end' });
    $context->on_request_end(sub { $_[1]{'psgix.harakiri.commit'} = 1 if $_[1]{PATH_INFO} eq '/last' });
    return ({}, sub {
        my ($env) = @_;
        my $path = $env->{PATH_INFO};
        die "app broke\n" if $path eq '/die';
        if ($path eq '/fork') { my $pid = fork // die; if (!$pid) { exit 3 } waitpid $pid, 0; return [200, [], [$? >> 8]] }
        push @{ $env->{'psgix.cleanup.handlers'} }, sub { say_it('cleanup') } if $path eq '/cleanup';
        eval { $context->on_worker_start(sub { }); 1 } and return [200, [], ['accepted']] if $path eq '/late';
        return [200, [], [$@ || $connection]];
    });
};
PERL

subtest 'when they run' => sub {
    for my $options ([], ['--no-preload']) {
        my $server = BladePSGI::Test->start(loader => $loader, workers => 1, options => $options);
        my ($worker) = $server->worker_pids;
        is $server->get('/')->{body}, "opened by $worker", "@$options: a worker has started before its first request";
        $server->get('/die');
        $server->get('/cleanup');
        is $server->get('/fork')->{body}, 3, 'a process that the application forks';
        like $server->get('/late')->{body}, qr/^on_worker_start: only while the application loads at /, 'it is too late for another start';
        $server->get('/broken-end');
        log_like $server, qr{ERROR: .*GET /broken-end \[[^]]+\]: a hook of on_request_end died: end broke$}m, 'a die at the end of a request is logged';
        is $server->get('/')->{body}, "opened by $worker", 'and the worker goes on';
        is $server->stop, 'exit 0', 'stops';
        log_like $server, qr/ERROR: .*worker\[$worker\]: a hook of on_worker_exit died: broke$/m, 'a die at the exit is logged';
        my @worker = map { $_->[1] } grep { $_->[0] == $worker } said($server);
        shift @worker if $worker[0] eq 'loader 0';
        is_deeply \@worker,
            [ 'start 1 BPSGI::Context 1 1', 'start 2', 'end 1 BPSGI::Context / 2', 'end 1 BPSGI::Context /die 2', 'cleanup',
            'end 1 BPSGI::Context /cleanup 2', 'end 1 BPSGI::Context /fork 2', 'end 1 BPSGI::Context /late 2', 'end 1 BPSGI::Context /broken-end 2',
            'end 1 BPSGI::Context / 2', 'exit 3 BPSGI::Context 1', 'exit 1', 'END' ],
            'all in their order';
        is scalar(grep { $_->[1] !~ /loader|END/ && $_->[0] != $worker } said($server)), 0, 'in no other process';
    }
};

subtest 'the end of a request may end the worker' => sub {
    my $server = BladePSGI::Test->start(loader => $loader, workers => 1);
    my ($worker) = $server->worker_pids;
    is $server->get('/last')->{status}, 200, 'answered';
    ok $server->pid_of('worker 0', $worker), 'and replaced';
    is_deeply [ map { $_->[1] } grep { $_->[0] == $worker } said($server) ]->[-2], "exit 1", 'after its hooks';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a PSGI file alone' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => $say . <<'PERL');
use BPSGI qw(on_worker_start on_worker_exit on_request_end);
my $n = 0;
on_worker_start(sub { $n = 40; say_it('start ' . ref $_[0]) });
on_worker_exit(sub { say_it('exit') });
on_request_end(sub { $n++; die { code => 5 } if $_[1]{PATH_INFO} eq '/x' });
sub { [200, [], [$n]] };
PERL
    my ($worker) = $server->worker_pids;
    is $server->get('/x')->{body}, 40, 'may have them, too';
    is $server->get('/')->{body}, 41, 'by functions of BPSGI';
    is $server->stop, 'exit 0', 'stops';
    is_deeply [ said($server) ], [ [ $worker, 'start BPSGI::Context' ], [ $worker, 'exit' ] ], 'they run in the worker';
};

subtest 'a worker whose start dies' => sub {
    my $server = BladePSGI::Test->start(ready => 0, workers => 1, app => <<'PERL');
use BPSGI qw(on_worker_start);
on_worker_start(sub { die "no database\n" if !-e 'database' });
sub { [200, [], ['served']] };
PERL
    ok $server->wait_log(qr/ERROR: .*worker\[\d+\]: a hook of on_worker_start died: no database$/m), 'says so';
    ok $server->wait_log(qr/a new one is started in/), 'and is tried again, with a pause';
    ok !-e $server->socket, 'nobody can connect meanwhile';
    write_text($server->folder . '/database', '');
    ok $server->wait_ready, 'when it works, the server is ready';
    is $server->get('/')->{body}, 'served', 'and serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'wrong use' => sub {
    for my $case (
        [ 'use BPSGI qw(on_nothing);', qr/BPSGI exports no 'on_nothing' at \S+app\.psgi line 1/ ],
        [ 'use BPSGI qw(on_worker_exit); on_worker_exit("text");', qr/on_worker_exit: its code is 'text', not a code reference at \S+app\.psgi line 1/ ],
        [ 'use BPSGI qw(on_request_end); on_request_end();', qr/Usage: .*on_request_end/ ],
    ) {
        my $server = BladePSGI::Test->start(ready => 0, app => "$case->[0]\nsub { }");
        is $server->wait_exit, 'exit 3', 'does not load';
        like $server->log, $case->[1], 'and says why';
    }
};

subtest 'hooks that hang' => sub {
    my $app = <<'PERL';
use POSIX ();
use BPSGI qw(on_worker_start on_worker_exit);
sub deaf { POSIX::sigprocmask(POSIX::SIG_BLOCK(), do { my $all = POSIX::SigSet->new; $all->fillset; $all }) }
sub wait_for_a_lock { sleep 60 while 1 }
on_worker_start(sub { return unless -e 'start'; deaf() if -e 'deaf'; wait_for_a_lock() });
on_worker_exit(sub { return unless -e 'exit'; deaf() if -e 'deaf'; wait_for_a_lock() });
END { wait_for_a_lock() if -e 'end' }
sub { my ($env) = @_; $env->{'psgix.harakiri.commit'} = 1 if $env->{PATH_INFO} eq '/last'; [200, [], [$$]] }
PERL
    my $server = BladePSGI::Test->start(app => $app, workers => 2, control => 1, options => [ '--start-timeout=200ms', '--exit-timeout=200ms' ]);
    my $file = sub { my ($name, $there) = @_; my $path = $server->folder . "/$name"; $there ? write_text($path, '') : unlink $path; return };
    # At the start: of a replacement, and of a new generation.
    $file->(start => 1);
    for my $deaf (0, 1) {
        $file->(deaf => $deaf);
        my $from = $server->log_size;
        my $run = $server->bladectl('recycle', 0);
        is $run->{exit}, 'exit 1', 'a replacement whose on_worker_start hangs is ended';
        if ($deaf) {
            like $run->{err}, qr/worker 0 serves on, .*SIGKILL/, 'also if it lets no signal in';
        }
        else {
            like $run->{err}, qr/on_worker_start still runs after \d+\.\d s \(--start-timeout\), and worker 0 ends\. It was at/, 'it is said why';
            like $server->wait_log(qr/a new one is started in/, 10, $from) // '', qr/ERROR: .*wait_for_a_lock at \S+app\.psgi line \d+/, 'and where it was';
        }
        is $server->get('/')->{status}, 200, 'the old ones serve';
    }
    $file->(deaf => 0);
    my $run = $server->bladectl('reload');
    is $run->{exit}, 'exit 3', 'such a generation is refused';
    like $run->{err}, qr/on_worker_start still runs/, 'with the reason';
    $file->(start => 0);
    ok +(wait_for { !grep { ($_->{generation} // 0) != 1 || $_->{state} ne 'idle' } @{ $server->bladectl_result('workers') } }), 'the old one is complete';

    # At the end.
    for my $where ([ exit => 'wait_for_a_lock' ], [ end => 'wait_for_a_lock' ], [ 'deaf exit', '' ]) {
        my ($files, $function) = @$where;
        $file->($_ => 1) for split / /, $files;
        my $from = $server->log_size;
        my @before = $server->worker_pids;
        $run = $server->bladectl('recycle', 1);
        is $run->{exit}, 'exit 0', "$files: who leaves does not live for ever";
        ok !-d "/proc/$before[1]", 'it has gone';
        my $log = substr $server->log, $from;
        like $log, qr/ERROR: .*worker\[$before[1]\]: on_worker_exit or an END block still runs after \d+\.\d s \(--exit-timeout\), and worker 1 ends\. It was at\n.*$function/, 'the log says why' if $function;
        like $log, qr/worker 1 \(pid $before[1]\) died unexpectedly: .*; its successor is there already/, 'and what became of it';
        $file->($_ => 0) for split / /, $files;
    }
    # Of its own accord.
    $file->(exit => 1);
    my $last = $server->get('/last')->{body};
    ok +(wait_for { !-d "/proc/$last" }), 'who has said that it leaves, too';
    $file->(exit => 0);
    ok +(wait_for { 2 == $server->worker_pids }), 'and is replaced';
    is $server->stop, 'exit 0', 'stops';

    # At a stop.
    $server = BladePSGI::Test->start(app => $app, workers => 1, options => ['--exit-timeout=200ms']);
    write_text($server->folder . '/exit', '');
    is $server->stop, 'exit 0', 'a stop comes to its end';
    like $server->log, qr/on_worker_exit or an END block still runs/, 'and says what it waited for';
};

done_testing;
