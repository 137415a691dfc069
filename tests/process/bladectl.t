# bladectl and the control socket: what it says, that it waits for what it asked for, and who may ask.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use IO::Socket::UNIX;
use JSON::PP;
use Test::More;

my $app = BladePSGI::Test->gate_code . <<'PERL';
sub {
    my ($env) = @_;
    if ($env->{PATH_INFO} eq '/busy') { mark('busy'); gate('go') }
    [200, [], [$$]];
};
PERL

# A request of which bladectl is told while it is served; returns the connection.
sub occupy {
    my ($server, $uri) = @_;
    my $c = $server->connect;
    $c->send(request_bytes(uri => $uri));
    $server->wait_mark('busy') or die 'nobody is busy';
    return $c;
}

# The answers to these bytes, as lines, until the server closes.
sub converse {
    my ($path, $bytes, $seconds) = @_;
    my $socket = IO::Socket::UNIX->new(Peer => $path) or return "cannot connect: $!";
    local $SIG{PIPE} = 'IGNORE';
    my $text = '';
    my $sent = 0;
    wait_for {
        if ($sent < length $bytes) { $sent += syswrite($socket, $bytes, 4096, $sent) // length $bytes }
        return 0 if $sent < length $bytes;
        my $n = sysread $socket, $text, 65536, length $text;
        return !$n;
    } $seconds;
    return $text;
}

# bladectl in the background: its process, and what it has printed, both streams.
{
    package Running;

    sub start {
        my ($class, $server, @words) = @_;
        my $file = File::Temp->new(TEMPLATE => 'ctl-XXXXXX', TMPDIR => 1);
        my $pid = fork // die "fork: $!";
        if (!$pid) {
            BladePSGI::Test::die_with_the_test();
            open STDOUT, '>&', $file or POSIX::_exit(126);
            open STDERR, '>&', $file or POSIX::_exit(126);
            exec main::bladectl_binary(), '--socket=' . $server->control_path, @words or POSIX::_exit(127);
        }
        return bless { pid => $pid, file => $file }, $class;
    }
    sub text { return main::read_text("$_[0]{file}") }
    sub is_over {
        my ($self) = @_;
        return 1 if exists $self->{status};
        return 0 if waitpid($self->{pid}, POSIX::WNOHANG()) != $self->{pid};
        $self->{status} = $?;
        return 1;
    }
    sub wait_exit {
        my ($self) = @_;
        main::wait_for { $self->is_over } 60;
        return main::exit_of($self->{status});
    }
}

subtest 'status' => sub {
    my $server = BladePSGI::Test->start(control => 1, app => $app, loader => <<'PERL');
package My::Loader;
sub {
    my ($context) = @_;
    $context->new_semaphore('the lock', 3);
    $context->new_atomic_int64('hits', 42);
    $context->request_auxiliary_process('mailer', sub { sleep 1 while 1 });
    return ({}, do $context->psgi_application_path);
};
PERL
    $server->get('/') for 1 .. 3;
    IO::Socket::UNIX->new(Peer => $server->socket)->syswrite("nonsense\n" x 10);
    my $status;
    ok wait_for { $status = $server->bladectl_result('status'); $status->{events}{malformed} }, 'what went wrong is counted';
    is $status->{pid}, $server->pid, 'pid';
    is $status->{state}, 'ready', 'state';
    is $status->{application}, $server->{app_path}, 'application';
    is $status->{loader}, 'My::Loader', 'loader';
    is_deeply $status->{listeners}, [ $server->socket . ' (FastCGI)' ], 'listeners';
    is $status->{requests}, 3, 'requests';
    is $status->{events}{malformed}, 1, 'one event';
    is_deeply [ sort keys %{ $status->{events} } ],
        [ sort qw(abandoned client-gone malformed refused timed-out application-failed not-admitted application-timed-out) ], 'every event has a name';
    is $status->{workers}{configured}, 2, 'workers';
    is $status->{generation}, 1, 'generation';
    ok $status->{lobby}{there}, 'there is a lobby';
    is_deeply $status->{lobby}{slow_bodies}, { configured => 1, free => 1 }, 'with its permits';
    is_deeply $status->{semaphores}, [ { name => 'the lock', value => 3 } ], 'semaphores';
    is_deeply $status->{atomics}, [ { name => 'hits', value => 42 } ], 'atomics';
    is $status->{auxiliaries}[0]{pid}, $server->pid_of('mailer'), 'auxiliary processes';
    is_deeply [ sort map { $_->{name} } @{ $status->{processes} } ], [qw(lobby monitoring zygote)], 'and the others';

    my $c = $server->connect;
    $c->send(substr request_bytes(uri => '/'), 0, 20);
    ok wait_for { $server->bladectl_result('status')->{lobby}{held}{head} }, 'half a request waits in the lobby';

    my $run = $server->bladectl('status');
    is $run->{exit}, 'exit 0', 'for people';
    like $run->{out}, qr/^server +bladepsgi \S+, pid @{[ $server->pid ]}, ready$/m, 'what it is';
    like $run->{out}, qr/^semaphores +the lock: 3$/m, 'what is shared';
    is $run->{err}, '', 'and nothing else';
};

subtest 'workers' => sub {
    my $server = BladePSGI::Test->start(control => 1, workers => 2, app => $app);
    my @rows = @{ $server->bladectl_result('workers') };
    is_deeply [ map { $_->{number} } @rows ], [ 0, 1 ], 'a row for each';
    is_deeply [ sort map { $_->{pid} } @rows ], [ sort $server->worker_pids ], 'with its pid';
    my $c = occupy($server, "/busy?\e[2J\x07");
    my ($row) = grep { $_->{state} eq 'busy' } @{ $server->bladectl_result('workers') };
    ok $row, 'a busy one';
    is $row->{request}{method}, 'GET', 'with its request';
    is $row->{request}{uri}, "/busy?\e[2J\x07", 'as it is';
    ok $row->{request}{age} >= 0 && length $row->{request}{id}, 'its age and id';
    for my $words ([], ['--json']) {
        my $run = $server->bladectl('workers', @$words);
        unlike $run->{out}, qr/[^\n\x20-\x7e]/, "nothing that a terminal obeys (@$words)";
    }
    like $server->bladectl('workers')->{out}, qr{GET /busy\?\\x1b\[2J\\x07 \[}, 'in a table, escaped';
    $server->open_gate('go');
    $c->read_response;
    ok wait_for { ($row) = grep { $_->{requests} } @{ $server->bladectl_result('workers') }; $row && $row->{state} eq 'idle' }, 'then idle';
    is $row->{request}, undef, 'without a request';
    ok $row->{bytes_in} > 0 && $row->{bytes_out} > 0 && defined $row->{last_duration}, 'with what it has served';
};

subtest 'a worker that cleans up' => sub {
    my $server = BladePSGI::Test->start(control => 1, workers => 1, app => BladePSGI::Test->gate_code . <<'PERL');
sub { my ($env) = @_; push @{ $env->{'psgix.cleanup.handlers'} }, sub { gate('cleaned') } if $env->{PATH_INFO} eq '/x'; [200, [], ['done']] }
PERL
    $server->get('/');
    is $server->get('/x')->{body}, 'done', 'the client has its answer';
    my $row;
    ok wait_for { ($row) = @{ $server->bladectl_result('workers') }; $row->{state} eq 'cleanup' }, 'the worker is shown to clean up';
    my $duration = $row->{last_duration};
    $server->open_gate('cleaned');
    ok wait_for { ($row) = @{ $server->bladectl_result('workers') }; $row->{state} eq 'idle' }, 'then idle';
    is $row->{last_duration}, $duration, 'which is no part of how long the request took';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'stop waits for the end' => sub {
    my $server = BladePSGI::Test->start(control => 1, app => $app);
    my $c = occupy($server, '/busy');
    my $stop = Running->start($server, 'stop');
    ok wait_for { $stop->text =~ m{^bladectl: waiting for \d workers?, 1 still serving, oldest GET /busy \d}m }, 'it says what is waited for'
        or diag $stop->text;
    log_like $server, qr/asked through the control socket to stop, by user $> \(pid $stop->{pid}\)/, 'the log says who asked';
    my $second = Running->start($server, 'stop');
    ok wait_for { $second->text =~ /waiting for/ }, 'a second one waits, too';
    is $server->bladectl_result('status')->{state}, 'stopping', 'questions are answered meanwhile';
    my ($row) = grep { $_->{state} eq 'busy' } @{ $server->bladectl_result('workers') };
    ok $row->{leaving}, 'the busy worker is to leave';
    ok !$stop->is_over && !$second->is_over, 'nobody is told before it is over';
    $server->open_gate('go');
    like $c->read_response->{body}, qr/\A\d+\z/, 'the request was served to its end';
    is $stop->wait_exit, 'exit 0', 'then it is done';
    is $server->wait_exit, 'exit 0', 'the server has stopped';
    is $second->wait_exit, 'exit 0', 'for both';
    ok !-e $server->control_path, 'the socket is gone';
    my $run = $server->bladectl('status');
    is $run->{exit}, 'exit 1', 'nobody is there to ask';
    like $run->{err}, qr/\Abladectl: cannot connect to control socket '[^\n]+: No such file [^\n]*\n\z/, 'and it says so';
};

subtest 'the process has gone when stop returns' => sub {
    for (1 .. 5) {
        my $server = BladePSGI::Test->start(control => 1, app => $app);
        is $server->bladectl('stop')->{exit}, 'exit 0', 'stopped';
        is waitpid($server->pid, POSIX::WNOHANG()), $server->pid, 'its end is there to be collected';
        $server->{status} = $?;
    }
};

subtest 'stop --fast and --immediate' => sub {
    for (['--fast', 'exit 0'], ['--immediate', 'exit 4']) {
        my ($how, $exit) = @$_;
        my $server = BladePSGI::Test->start(control => 1, app => $app);
        my $c = occupy($server, '/busy');
        my $smart = Running->start($server, 'stop');
        ok wait_for { $smart->text =~ /waiting for/ }, 'it would take long';
        my $run = $server->bladectl('stop', $how, '--json');
        is $run->{exit}, 'exit 0', "$how: done as asked";
        is_deeply decode_json($run->{out}), { exit => 0 + $exit =~ s/\D//gr }, 'with the exit code of the server';
        is $server->wait_exit, $exit, 'which it has';
        is $smart->wait_exit, 'exit 0', 'who asked for a smart stop sees the end, too';
    }
};

subtest 'while the application loads' => sub {
    my $server = BladePSGI::Test->prepare(control => 1, app => BladePSGI::Test->gate_code . "mark('loading'); gate('load'); sub { [200, [], []] }");
    $server->launch;
    ok $server->wait_mark('loading'), 'it loads';
    my $status = $server->bladectl_result('status');
    is $status->{state}, 'starting', 'status says so';
    is_deeply $server->bladectl_result('workers'), [], 'there are no workers';
    is $server->bladectl('stop')->{exit}, 'exit 0', 'and it can be stopped';
    is $server->wait_exit, 'exit 0', 'which ends it';
};

subtest 'whoever asks nonsense' => sub {
    my $server = BladePSGI::Test->start(control => 1, app => $app);
    my $path = $server->control_path;
    my $mode = (stat $path)[2] & 07777;
    is sprintf('%04o', $mode), '0600', 'nobody else can connect';
    like converse($path, "stop\n"), qr/\A\{"ok":false,"exit":2,"error":"the request is not JSON at byte \d+"\}\n\z/, 'no JSON';
    like converse($path, qq({"command":"dance"}\n)), qr/"exit":2,"error":"the server knows no command 'dance'"/, 'an unknown command';
    like converse($path, qq({"command":"stop","slowly":true}\n)), qr/"exit":2,"error":"the server knows no 'slowly'/, 'an unknown argument';
    like converse($path, qq({"command":"stop","fast":1}\n)), qr/"exit":2,"error":"'fast' is neither true nor false"/, 'a wrong one';
    like converse($path, '[' x 70_000), qr/"error":"the request is longer than 65536 bytes"/, 'a line without an end';
    like converse($path, ('[' x 60_000) . "\n"), qr/"error":"the request is too many arrays/, 'a deep one';
    is converse($path, ''), '', 'a client that says nothing is let go' if is_long();
    my @silent = map { IO::Socket::UNIX->new(Peer => $path) || die "connection $_: $!" } 1 .. 1000;
    ok within(10, sub { is $server->bladectl_result('status')->{pid}, $server->pid, 'a thousand silent ones do not keep others away' }), 'nor delay them';
    is $server->get('/')->{status}, 200, 'requests are served';
    undef @silent;
    ok $server->is_running, 'nobody has stopped it';
    my $run = $server->bladectl('dance');
    is $run->{exit}, 'exit 2', 'bladectl knows its commands';
    like $run->{err}, qr/\Abladectl: unknown command 'dance'\nUsage: /, 'and says how it is used';
};

subtest 'other users' => sub {
    plan skip_all => 'needs root' if !as_root();
    my $server = BladePSGI::Test->start(control => 1, app => $app);
    my $ask = sub {
        open my $out, '-|' or do {
            $( = $) = 65534;
            POSIX::setuid(65534);
            print converse($server->control_path, qq({"command":"stop","immediate":true}\n), 10);
            close STDOUT;
            POSIX::_exit(0);
        };
        local $/;
        return scalar <$out>;
    };
    like $ask->(), qr/\Acannot connect: Permission denied/, 'cannot connect';
    chmod 0666, $server->control_path or die;
    is $ask->(), qq({"ok":false,"exit":1,"error":"only root and user 0 may command this server"}\n), 'and are refused where they can';
    log_like $server, qr/WARNING: .*control socket: refused user 65534 \(pid \d+\)/, 'which the log says';
    is $server->bladectl_result('status')->{state}, 'ready', 'nothing has happened';
};

subtest 'nobody else has the socket' => sub {
    my $server = BladePSGI::Test->start(control => 1, app => $app, loader => <<'PERL');
package My::Loader;
sub { my ($context) = @_; $context->request_auxiliary_process('mailer', sub { sleep 1 while 1 }); ({}, do $context->psgi_application_path) };
PERL
    my $client = IO::Socket::UNIX->new(Peer => $server->control_path);
    ok wait_for { $server->bladectl_result('status') }, 'there is a client';
    kill KILL => $server->pid_of('worker 0');
    ok wait_for { $server->worker_pids == 2 }, 'and a worker that was made beside it';
    # The kernel knows a socket, and what was accepted on it, by the name that it was bound to; it was the first to be made.
    my $name = $server->folder . '/.bladepsgi-' . $server->pid . '-0';
    my %is_of_control = map { m{(\d+) \Q$name\E\z} ? ($1 => 1) : () } split /\n/, read_text('/proc/net/unix');
    my $holders = sub {
        my ($pid) = @_;
        return scalar grep { (readlink($_) // '') =~ /\Asocket:\[(\d+)\]\z/ && $is_of_control{$1} } glob "/proc/$pid/fd/*";
    };
    cmp_ok $holders->($server->pid), '>=', 2, 'the overseer has it, and its client';
    my $processes = $server->processes;
    is $holders->($processes->{$_}), 0, "$_ has not" for grep { !/overseer/ } sort keys %$processes;
};

subtest 'where it lies' => sub {
    my $live = BladePSGI::Test->start(control => 1, app => $app);
    my $other = BladePSGI::Test->prepare(options => [ '--control=' . $live->control_path ]);
    $other->launch;
    is $other->wait_exit, 'exit 1', 'a living one is not replaced';
    like $other->log, qr/FATAL: .*control\.sock' is in use/, 'and the log says so';
    is $live->bladectl_result('status')->{pid}, $live->pid, 'nothing has happened to that';
    kill KILL => $live->pid;
    $live->wait_exit;
    $live->survivors;
    ok -e $live->control_path, 'one that was killed leaves its socket';
    my $next = BladePSGI::Test->start(options => [ '--control=' . $live->control_path ]);
    is $live->bladectl_result('status')->{pid}, $next->pid, 'which is replaced';
    $next->stop;

    my $nowhere = BladePSGI::Test->prepare(options => ['--control=/nonexistent/control']);
    $nowhere->launch;
    is $nowhere->wait_exit, 'exit 1', 'one that cannot be made is an error when it was asked for';

    my $folder = $live->folder . '/runtime';
    mkdir $folder, 0700 or die;
    my $wrong = BladePSGI::Test->start(env => { XDG_RUNTIME_DIR => "$folder/nothing" });
    log_like $wrong, qr/LOG: .*cannot make the folder '\Q$folder\E\/nothing\/bladepsgi'.*going on without a control socket/, 'else the server goes on without';
    is $wrong->get('/')->{status}, 200, 'and serves';
    $wrong->stop;
    my $none = BladePSGI::Test->start(options => ['--control=none'], env => { XDG_RUNTIME_DIR => $folder });
    ok !-e "$folder/bladepsgi", 'with none there is none';
    $none->stop;
    my $of_unit = BladePSGI::Test->start(env => { RUNTIME_DIRECTORY => "$folder:/run/x" });
    ok -S "$folder/" . $of_unit->pid . '.control', 'in the folder of systemd';
    $of_unit->stop;
    is_deeply [ glob "$folder/*" ], [], 'and then not any more';
};

subtest 'how it is found' => sub {
    my $one = BladePSGI::Test->prepare(app => $app);
    my $folder = $one->folder . '/runtime';
    mkdir $folder, 0700 or die;
    # As root there may be others, in /run.
    my @as;
    if (as_root()) {
        @as = qw(setpriv --reuid=65534 --regid=65534 --clear-groups);
        chown 65534, 65534, $folder, $one->folder or die;
        my $may = run_to_end([ @as, 'perl', '-e', 'exit !(-r $ARGV[0] && -x $ARGV[1])', bladepsgi_binary() =~ s{[^/]+\z}{runtime/perl.so}r, bladepsgi_binary() ]);
        plan skip_all => 'nobody else may read the program here' if $may->{exit} ne 'exit 0';
    }
    my %env = (XDG_RUNTIME_DIR => $folder, RUNTIME_DIRECTORY => undef, BLADECTL_SOCKET => undef);
    my $ctl = sub { my ($words, %more) = @_; return run_to_end([ @as, bladectl_binary(), @$words ], env => { %env, %more }) };
    my $run = $ctl->(['status']);
    is $run->{exit}, 'exit 2', 'no server';
    like $run->{err}, qr{no server whose control socket is in \Q$folder\E/bladepsgi, /run/bladepsgi}, 'it says where it looked';

    my $make = sub {
        my $server = shift // BladePSGI::Test->prepare(app => $app);
        chown 65534, 65534, $server->folder if @as;
        $server->{wrap} = \@as;
        $server->{env} = \%env;
        $server->launch->wait_ready or die 'not ready';
        return $server;
    };
    $one = $make->($one);
    $run = $ctl->([ 'status', '--json' ]);
    is $run->{exit}, 'exit 0', 'the only one is found' or diag $run->{err};
    is decode_json($run->{out})->{pid}, $one->pid, 'it is that';
    my $two = $make->();
    $run = $ctl->(['stop']);
    is $run->{exit}, 'exit 2', 'several: nothing is done';
    like $run->{err}, qr/\(pid @{[ $_->pid ]}, \Q$_->{app_path}\E\)$/m, 'each is named' for $one, $two;
    my $socket = "$folder/bladepsgi/" . $two->pid . '.control';
    $run = $ctl->([ 'status', '--json' ], BLADECTL_SOCKET => $socket);
    is decode_json($run->{out})->{pid}, $two->pid, 'BLADECTL_SOCKET chooses';
    kill KILL => $two->pid;
    $two->wait_exit;
    $two->survivors;
    ok -e $socket, 'a server that was killed leaves its socket';
    is decode_json($ctl->([ 'status', '--json' ])->{out})->{pid}, $one->pid, 'where nobody is found any more';
    my $three = $make->();
    ok !-e $socket, 'and the next server sweeps it away';
    $_->stop for $one, $three;
    ok !-e "$folder/bladepsgi", 'the last one takes the folder away';
};

subtest 'help' => sub {
    my $run = run_to_end([ bladectl_binary(), '--help' ]);
    is $run->{exit}, 'exit 0', 'help';
    like $run->{out}, qr/\AUsage: bladectl .*^  stop .*^ +--immediate/ms, 'with every command';
    like run_to_end([ bladectl_binary(), '--version' ])->{out}, qr/\Abladectl \d+\.\d+\.\d+\n\z/, 'version';
    is run_to_end([ bladectl_binary() ])->{exit}, 'exit 2', 'no command';
};

done_testing;
