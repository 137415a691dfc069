# The compatibility contract, section 2: processes, signals, the log.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use File::Temp ();
use IO::Socket::UNIX;
use POSIX ();
use Test::More;

my $gates = BladePSGI::Test->gate_code;

# One application for most of this: /pid, /block (marks "in", waits for gate "go"), /die (_exit 7), and so on.
my $app = $gates . <<'PERL';
use POSIX ();
our $loaded_by = $$;
END { mark("end-$$", $$) }
sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    if ($path eq '/block') {
        mark('in');
        gate('go');
        return [200, [], ["blocked and finished\n"]];
    }
    if ($path eq '/fifo') {
        open my $fifo, '<', 'fifo' or die "fifo: $!";
        mark('in');
        my $n = sysread $fifo, my $text, 100;
        return [200, [], [defined $n ? "read $text" : "cut short: $!"]];
    }
    if ($path eq '/exit7') { POSIX::_exit(7) }
    if ($path eq '/child') {
        my $text = qx(cat /proc/self/status);
        return [200, [], [$text]];
    }
    return [200, [], ["$$ $loaded_by"]];
};
PERL

my $auxiliary_loader = <<'PERL';
package My::Loader;
sub {
    my ($context) = @_;
    $context->request_auxiliary_process('heart', sub { select undef, undef, undef, 3600 while 1 });
    return ({}, Plack::Util::load_psgi($context->psgi_application_path));
};
PERL
$auxiliary_loader =~ s/^sub/use Plack::Util;\nsub/m;

sub mapped { my ($pid, $what) = @_; return read_text("/proc/$pid/maps") =~ $what }

sub marks_of_end {
    my ($server) = @_;
    my @pids = map { m{mark-end-(\d+)\z} ? $1 : () } glob $server->folder . '/mark-end-*';
    return @pids;
}

subtest 'which processes there are' => sub {
    my $server = BladePSGI::Test->start(app => $app, loader => $auxiliary_loader, workers => 3);
    ok $server->pid_of('heart'), 'the auxiliary process runs';
    my $processes = $server->processes;
    is process_title($server->pid), 'Blade: overseer', 'the overseer is the process that was started';
    is scalar(grep { /: worker \d+\z/ } keys %$processes), 3, 'workers';
    is scalar(grep { /: monitoring\z/ } keys %$processes), 1, 'one monitoring process';
    my %loaders = map { (split / /, $server->get('/')->{body})[1] => 1 } 1 .. 20;
    is scalar(keys %loaders), 1, 'the application was loaded once, before the workers were forked';
    is +(keys %loaders)[0], $processes->{'Blade: zygote'}, 'by the zygote';
    for my $title (grep { /worker/ } sort keys %$processes) {
        my @threads = glob "/proc/$processes->{$title}/task/*";
        is scalar(@threads), 1, "$title is single-threaded";
    }
    for my $role (qw(overseer monitoring)) {
        ok !mapped($processes->{"Blade: $role"}, qr/libperl/), "$role maps no Perl";
    }
    is $server->stop, 'exit 0', 'an auxiliary process does not keep the overseer from ending';
};

subtest 'a worker serves one request at a time' => sub {
    my $server = BladePSGI::Test->start(app => $app, workers => 1);
    my $first = $server->connect;
    $first->send(request_bytes(uri => '/block'));
    ok $server->wait_mark('in'), 'the worker is busy';
    my $second = $server->connect;
    $second->send(request_bytes(uri => '/'));
    ok !$second->is_readable(0.3), 'a second request waits';
    $server->open_gate('go');
    is $first->read_response->{body}, "blocked and finished\n", 'the first is answered';
    like $second->read_response->{body}, qr/\A\d+ /, 'then the second';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'SIGTERM: smart' => sub {
    my $server = BladePSGI::Test->start(app => $app, loader => $auxiliary_loader, workers => 2);
    my $busy = $server->connect;
    $busy->send(request_bytes(uri => '/block'));
    ok $server->wait_mark('in'), 'a request is running';
    my $heart = $server->pid_of('heart');
    $server->signal('TERM');
    ok wait_for { $server->worker_pids == 1 }, 'the idle worker goes';
    ok $server->is_running, 'the overseer waits for the busy one';
    ok kill(0, $heart), 'auxiliary processes are told after the last worker has gone';
    my ($worker) = $server->worker_pids;
    $server->open_gate('go');
    my $answer = $busy->read_response;
    is $answer->{body}, "blocked and finished\n", 'the request is finished';
    ok $answer->{ended}, 'and completely answered';
    is $server->wait_exit, 'exit 0', 'exit code 0 when all have gone';
    is_deeply [ $server->survivors ], [], 'nothing is left';
    is scalar(marks_of_end($server)), 2, 'END blocks run in each worker that leaves, and nowhere else';
};

subtest 'SIGTERM must not cut short a system call of the running request' => sub {
    my $server = BladePSGI::Test->start(app => $app, workers => 2);
    POSIX::mkfifo($server->folder . '/fifo', 0600);
    my $busy = $server->connect;
    $busy->send(request_bytes(uri => '/fifo'));
    open my $fifo, '>', $server->folder . '/fifo' or die $!;
    ok $server->wait_mark('in'), 'a request is waiting in read(2)';
    $server->signal('TERM');
    ok wait_for { $server->worker_pids == 1 }, 'the idle worker is gone, so the signal has been delivered';
    ok !$busy->is_readable(0.2), 'the read goes on';
    syswrite $fifo, 'whole';
    is $busy->read_response->{body}, 'read whole', 'and gets its bytes';
    is $server->wait_exit, 'exit 0', 'exit code 0';
};

subtest 'SIGTERM again: fast' => sub {
    my $server = BladePSGI::Test->start(app => $app, loader => $auxiliary_loader, workers => 2);
    my $busy = $server->connect;
    $busy->send(request_bytes(uri => '/block'));
    ok $server->wait_mark('in'), 'a request is running';
    my @workers = $server->worker_pids;
    $server->signal('TERM');
    ok wait_for { $server->worker_pids == 1 }, 'the idle worker goes';
    $server->signal('TERM');
    is $server->wait_exit(10), 'exit 0', 'the second one ends the rest';
    my $answer = $busy->read_response;
    ok !$answer->{ended}, 'the request is not answered';
    is_deeply [ $server->survivors ], [], 'nothing is left';
    is scalar(marks_of_end($server)), 1, 'END blocks ran only in the worker that had left before';
};

subtest 'SIGINT: fast' => sub {
    my $server = BladePSGI::Test->start(app => $app, loader => $auxiliary_loader, workers => 2);
    my $busy = $server->connect;
    $busy->send(request_bytes(uri => '/block'));
    ok $server->wait_mark('in'), 'a request is running';
    is $server->stop('INT', 10), 'exit 0', 'everything ends at once, exit code 0, though an auxiliary process lives';
    ok !$busy->read_response->{ended}, 'the request is not answered';
    is scalar(marks_of_end($server)), 0, 'no END blocks on a fast shutdown';
    ok !-e $server->socket && !-e $server->stats_path, 'the sockets are removed';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'SIGQUIT: immediate' => sub {
    my $server = BladePSGI::Test->start(app => $app, loader => $auxiliary_loader, workers => 2);
    my $busy = $server->connect;
    $busy->send(request_bytes(uri => '/block'));
    ok $server->wait_mark('in'), 'a request is running';
    is $server->stop('QUIT', 10), 'exit 4', 'exit code non-zero';
    is scalar(marks_of_end($server)), 0, 'no cleanup of application state';
    is_deeply [ $server->survivors ], [], 'everything is killed';
};

subtest 'a fast shutdown ends a waiting acquire and an idle read at once' => sub {
    my $server = BladePSGI::Test->start(
        workers => 2,
        loader  => $gates . <<'PERL',
package My::Loader;
sub {
    my ($context) = @_;
    my $never = $context->new_semaphore('never', 0);
    return ({}, sub {
        my ($env) = @_;
        if ($env->{PATH_INFO} eq '/acquire') {
            main::mark('acquire');
            $never->acquire;
        }
        else {
            main::mark('read');
            $env->{'psgi.input'}->read(my $bytes, 200_000);
        }
        return [200, [], ['never']];
    });
};
PERL
    );
    my $acquire = $server->connect;
    $acquire->send(request_bytes(uri => '/acquire'));
    my $read = $server->connect;
    $read->send(begin(1) . params(1, nginx_env(uri => '/read', method => 'POST', env => { CONTENT_LENGTH => 200_000 }))
        . record(FCGI_STDIN, 1, 'x' x 60_000) . record(FCGI_STDIN, 1, 'x' x 60_000));
    ok $server->wait_mark('acquire'), 'one worker waits in acquire';
    ok $server->wait_mark('read'),    'one waits for more of a body';
    ok within(5, sub { is $server->stop('INT', 10), 'exit 0', 'exit code 0' }), 'and both end at once';
};

subtest 'Ctrl-C reaches every process of the group' => sub {
    my $server = BladePSGI::Test->start(app => $app, loader => $auxiliary_loader, workers => 2);
    my $processes = $server->processes;
    $server->pid_of('heart');
    $processes = $server->processes;
    for my $role ('zygote', 'monitoring', 'heart', 'worker 0', 'worker 1') {
        my $pid = $processes->{"Blade: $role"} or do { fail "$role runs"; next };
        kill INT => $pid;
    }
    like $server->get('/')->{body}, qr/\A\d+ /, 'requests are answered' for 1 .. 4;
    like $server->stats_text, qr/\A\d+\n/, 'so are statistics';
    is_deeply $server->processes, $processes, 'all but the overseer shrug at it';

    my $status = $server->get('/child')->{body};
    my ($ignored) = $status =~ /^SigIgn:\s*([0-9a-f]+)/m;
    my ($blocked) = $status =~ /^SigBlk:\s*([0-9a-f]+)/m;
    is hex($ignored) & (1 << (POSIX::SIGINT() - 1)), 0, 'a program started by the application does not ignore SIGINT';
    is hex($ignored) & (1 << (POSIX::SIGTERM() - 1)), 0, 'nor SIGTERM';
    is hex($blocked), 0, 'and has no signal blocked';

    kill INT => -$server->pid;
    is $server->wait_exit(10), 'exit 0', 'with the overseer in the group everything ends';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'if the overseer dies for any reason, no process of ours survives it' => sub {
    # AddressSanitizer turns a SIGSEGV, whoever sends it, into a report of its own.
    for my $signal (is_sanitized() ? qw(KILL ABRT) : qw(KILL SEGV ABRT)) {
        my $server = BladePSGI::Test->start(
            workers => 2,
            loader  => <<'PERL',
package My::Loader;
sub {
    my ($context) = @_;
    $context->request_auxiliary_process('stubborn', sub {
        $SIG{$_} = 'IGNORE' for qw(TERM QUIT INT HUP USR1 USR2);
        select undef, undef, undef, 3600 while 1;
    });
    return ({}, sub {
        $SIG{$_} = 'IGNORE' for qw(TERM QUIT INT HUP USR1 USR2);
        return [200, [], ['ignoring']];
    });
};
PERL
        );
        is $server->get('/')->{body}, 'ignoring', 'a worker ignores every signal that can be ignored';
        ok $server->pid_of('stubborn'), 'an auxiliary process too';
        kill $signal => $server->pid;
        like $server->wait_exit, qr/\Asignal /, "the overseer dies of SIG$signal";
        is_deeply [ $server->survivors ], [], 'nothing survives';
    }
};

sub dies {
    my ($name, $role, $end, $pattern) = @_;
    subtest $name => sub {
        my $server = BladePSGI::Test->start(app => $app, loader => $auxiliary_loader, workers => 2);
        my $pid = $server->pid_of($role);
        $server->get('/');
        $end->($server, $pid);
        my $line = qr/^.* (?:WARNING|ERROR): .*\b\Q$pid\E\b.*$pattern.*$/m;
        my $dead = $server->pid_of('worker 0') && !kill(0, $pid) ? 1 : wait_for { !kill 0, $pid };
        ok $dead, 'it is gone';
        ok $server->wait_log($line), 'it is logged with its pid and how it ended' or diag $server->log;
        ok wait_for { my $new = $server->processes->{"Blade: $role"}; $new && $new != $pid }, 'it is replaced';
        like $server->get('/')->{body}, qr/\A\d+ /, 'and requests are answered' for 1 .. 4;
        like $server->stats_text, qr/\A\d+\n/, 'statistics too';
        is $server->stop, 'exit 0', 'stops';
    };
    return;
}

for my $role ('worker 0', 'worker 1', 'monitoring', 'heart', 'zygote') {
    dies("unexpected end: $role is killed", $role, sub { kill KILL => $_[1] }, qr/signal 9 \(SIGKILL\)/);
}

subtest 'unexpected end: a worker leaves by _exit' => sub {
    my $server = BladePSGI::Test->start(app => $app, workers => 1);
    my ($pid) = $server->worker_pids;
    my $answer = $server->get('/exit7?why=not');
    ok !$answer->{ended}, 'its request is not answered';
    ok my $log = $server->wait_log(qr/\b$pid\b.*exit code 7/), 'logged with its pid and exit code';
    like $log, qr{^.*\b$pid\b.*GET.*/exit7\?why=not}m, 'and the request that it was serving';
    like $server->get('/')->{body}, qr/\A\d+ /, 'its replacement answers';
    is $server->stop, 'exit 0', 'stops';
};

for my $role ('worker 1', 'heart', 'monitoring') {
    subtest "--on-crash=stop: $role" => sub {
        my $server = BladePSGI::Test->start(
            app     => $app,
            loader  => $auxiliary_loader,
            workers => 2,
            options => ['--on-crash=stop'],
        );
        my $pid = $server->pid_of($role);
        kill KILL => $pid;
        is $server->wait_exit(10), 'exit 1', 'every process ends and the overseer exits 1';
        log_like $server, qr/\b$pid\b.*signal 9/, 'the reason is logged';
        is_deeply [ $server->survivors ], [], 'nothing is left';
        ok !-e $server->socket && !-e $server->stats_path, 'the sockets are removed';
    };
}

for my $how (
    [ 'returns', 'return 1',                     qr/return/ ],
    [ 'dies',    "die qq(heart attack\n)",       qr/heart attack/ ],
    [ 'exits',   'exit 3',                       qr/exit/ ],
    )
{
    my ($what, $code, $pattern) = @$how;
    my $loader = <<"PERL";
package My::Loader;
sub {
    my (\$context) = \@_;
    my \$runs = \$context->new_atomic_int64('runs', 0);
    \$context->request_auxiliary_process('short', sub { \$runs->incr; $code });
    return ({}, sub { [200, [], [\$runs->load]] });
};
PERL
    subtest "an auxiliary process that $what" => sub {
        my $server = BladePSGI::Test->start(loader => $loader, workers => 1);
        ok wait_for { $server->stats->{atomic}{runs} >= 2 }, 'it is started again';
        log_like $server, qr/ (?:WARNING|ERROR): .*short.*/, 'and logged as an error';
        log_like $server, $pattern, 'with its reason';
        like $server->get('/')->{body}, qr/\A\d+\z/, 'requests are answered meanwhile';
        is $server->stop, 'exit 0', 'stops';
    };
    subtest "an auxiliary process that $what, --on-crash=stop" => sub {
        my $server = BladePSGI::Test->start(loader => $loader, ready => 0, workers => 1, options => ['--on-crash=stop']);
        is $server->wait_exit(10), 'exit 1', 'treated like a crash';
        is_deeply [ $server->survivors ], [], 'nothing is left';
    };
}

subtest 'auxiliary processes get SIGTERM after the last worker has gone' => sub {
    my $server = BladePSGI::Test->start(
        workers => 2,
        loader  => $gates . <<'PERL',
package My::Loader;
sub {
    my ($context) = @_;
    $context->request_auxiliary_process('graceful', sub {
        my $told = 0;
        $SIG{TERM} = sub {
            my @workers = grep {
                open my $in, '<', "/proc/$_/cmdline";
                $in && (readline($in) // '') =~ /: worker/ && readlink("/proc/$_/cwd") eq readlink '/proc/self/cwd';
            } map { m{(\d+)} } glob '/proc/[0-9]*';
            main::mark('told', scalar @workers);
            $told = 1;
        };
        main::mark('aux-up');
        select undef, undef, undef, 0.05 until $told;
        POSIX::_exit(0);
    });
    return ({}, sub { main::mark('in'); main::gate('go'); [200, [], ['done']] });
};
PERL
    );
    ok $server->wait_mark('aux-up'), 'the auxiliary process is up';
    my $busy = $server->connect;
    $busy->send(request_bytes());
    ok $server->wait_mark('in'), 'a request is running';
    $server->signal('TERM');
    ok wait_for { $server->worker_pids == 1 }, 'the idle worker goes';
    ok !-e $server->folder . '/mark-told', 'the auxiliary process has not been told yet';
    $server->open_gate('go');
    is $busy->read_response->{body}, 'done', 'the request is finished';
    is $server->wait_mark('told'), 0, 'SIGTERM comes when no worker is left';
    is $server->wait_exit(10), 'exit 0', 'exit code 0';
};

SKIP: {
    skip 'takes 30 seconds (BLADEPSGI_LONG)', 1 unless is_long();
    subtest 'an auxiliary process that ignores SIGTERM is killed 30 s later' => sub {
        my $server = BladePSGI::Test->start(
            workers => 1,
            loader  => <<'PERL',
package My::Loader;
sub {
    my ($context) = @_;
    $context->request_auxiliary_process('deaf', sub { $SIG{TERM} = 'IGNORE'; select undef, undef, undef, 3600 while 1 });
    return ({}, sub { [200, [], ['ok']] });
};
PERL
        );
        ok $server->pid_of('deaf'), 'it runs';
        $server->get('/');
        my $start = time;
        is $server->stop('TERM', 60), 'exit 0', 'it is gone in the end';
        cmp_ok time - $start, '>=', 28, 'after its 30 seconds';
        cmp_ok time - $start, '<=', 40, 'and no more';
    };
}

subtest 'log lines' => sub {
    my $server = BladePSGI::Test->start(
        workers => 4,
        options => [],
        app     => $gates . <<'PERL',
use POSIX ();
warn "a warning while loading\n";
my $line = 0;
sub {
    my ($env) = @_;
    mark("in-$$");
    gate('go');
    if ($env->{PATH_INFO} eq '/locale') {
        my $set = POSIX::setlocale(POSIX::LC_ALL(), 'de_DE.UTF-8');
        return [200, [], [$set // 'none']];
    }
    my $letter = chr(97 + $$ % 26);
    print STDERR "begin$$ ", ("$letter" x 9000), " end$$\n";
    print STDOUT "to stdout $$\n";
    warn "by warn $$";
    $env->{'psgi.errors'}->print("by psgi.errors $$\n");
    syswrite STDERR, "unfinished ";
    syswrite STDERR, "line $$\n";
    return [200, [], [$$]];
};
PERL
    );
    my @connections = map { $server->connect } 1 .. 40;
    $_->send(request_bytes()) for @connections;
    # All at once: none has answered before each has a request.
    my @workers = $server->worker_pids;
    ok $server->wait_mark("in-$_"), "worker $_ has begun" for @workers;
    $server->open_gate('go');
    my %pids = map { $_->read_response->{body} => 1 } @connections;
    is_deeply [ sort keys %pids ], [ sort @workers ], 'all of them wrote';
    ok wait_for { (() = $server->log =~ /unfinished line/g) == 40 }, 'every request wrote its lines';
    is $server->stop, 'exit 0', 'stops';
    my @lines = split /\n/, $server->log;
    my $form = qr/\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (?:LOG|WARNING|ERROR|FATAL|PANIC):  (?:[\w ]+\[\d+\]: )?\S/;
    my @odd = grep { $_ !~ $form } @lines;
    is_deeply \@odd, [], 'every line is "YYYY-MM-DD HH:MM:SS.mmm SEVERITY:  [ROLE[PID]: ]text"';
    my @long = grep { /begin/ } @lines;
    is scalar(@long), 40, 'every long line is there';
    my @mixed = grep {
        my ($pid) = /worker\[(\d+)\]: begin/;
        !$pid || !/: begin$pid (\w)\1{8999} end$pid\z/;
    } @long;
    is_deeply [ map { length } @mixed ], [], 'lines of several processes never mix, and are not cut, however long';
    for my $pid (sort keys %pids) {
        log_like $server, qr/worker\[$pid\]: to stdout $pid$/m,       "output to STDOUT goes to the log ($pid)";
        log_like $server, qr/worker\[$pid\]: by warn $pid at /m,      "warn goes to the log ($pid)";
        log_like $server, qr/worker\[$pid\]: by psgi\.errors $pid$/m, "psgi.errors goes to the log ($pid)";
        log_like $server, qr/worker\[$pid\]: unfinished line $pid$/m, "a line written in pieces is one line ($pid)";
    }
    log_like $server, qr/zygote\[\d+\]: a warning while loading$/m, 'output while loading too';
    is $server->output, '', 'nothing on the standard output of the server';
};

subtest 'numbers and times in the log follow no locale' => sub {
    # A locale of our own, with a decimal comma: a machine need not have any.
    my $locales = File::Temp::tempdir('locale-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    chmod 0755, $locales;
    write_text("$locales/comma.src", <<'LOCALE');
LC_NUMERIC
decimal_point ","
thousands_sep "."
grouping 3;3
END LC_NUMERIC
LOCALE
    run_to_end([ 'localedef', '-c', '--no-archive', '-i', "$locales/comma.src", "$locales/comma" ]);
    ok -e "$locales/comma/LC_NUMERIC", 'there is a locale with a decimal comma' or return;
    my $server = BladePSGI::Test->start(
        workers => 2,
        env     => { LC_ALL => 'comma', LOCPATH => $locales },
        app     => <<'PERL',
use POSIX ();
POSIX::setlocale(POSIX::LC_ALL(), '') or die 'setlocale';
my $point = POSIX::localeconv()->{decimal_point};
sub { kill KILL => $$ if $_[0]{PATH_INFO} eq '/kill'; [200, [], [$point]] };
PERL
    );
    is $server->get('/')->{body}, ',', 'the application uses it';
    $server->get('/kill');
    ok $server->wait_log(qr/signal 9/), 'a worker dies';
    is $server->stop, 'exit 0', 'stops';
    log_like $server, qr/loaded in \d+\.\d s/, 'a point, not a comma';
    unlike $server->log, qr/\d,\d/, 'in every line';
    is scalar(grep { !/\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} / } split /\n/, $server->log), 0, 'times too';
};

done_testing;
