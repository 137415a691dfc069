# Under the name bladepsgi-fcgi: the options of `plackup -s FCGI` and of Catalyst's *_fastcgi.pl, and being spawned by a web server.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI;
use IO::Socket::INET;
use Test::More;

my $program = bladepsgi_binary() =~ s{[^/]+\z}{bladepsgi-fcgi}r;
-x $program or BAIL_OUT("no program to test: $program");

sub ask { return eval { BladePSGI::Test::FastCGI->connect($_[0])->request(uri => '/')->{body} } // $@ }

subtest 'as a Catalyst script is started' => sub {
    my $server = BladePSGI::Test->start(program => $program, words => [qw(-l app.sock -n 3 -p app.pid -e -M FCGI::ProcManager --proc_title shop app.psgi)]);
    is ask($server->socket), "ok\n", '-l';
    is scalar($server->worker_pids), 3, '-n';
    is read_text($server->folder . '/app.pid'), $server->pid . "\n", '-p: the overseer\'s pid';
    like process_title($server->pid), qr/\Ashop: overseer\z/, '--proc_title';
    log_like $server, qr/LOG: .*--manager is without effect/, '-M: said to be without effect';
    is_deeply [ grep { /monitoring/ } keys %{ $server->processes } ], [], 'no statistics';
    is $server->stop, 'exit 0', 'stops';
    ok !-e $server->folder . "/$_", "$_ is removed" for 'app.pid', 'app.sock';
};

subtest 'TCP' => sub {
    my $server = BladePSGI::Test->start(program => $program, words => [qw(--listen=127.0.0.1:0 --nproc=1 app.psgi)]);
    my ($address) = $server->log =~ /listening on (\S+) \(FastCGI\)/;
    is ask($address), "ok\n", 'FastCGI';
    is scalar($server->worker_pids), 1, '--nproc';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'in the background' => sub {
    my $server = BladePSGI::Test->prepare;
    my $folder = $server->folder;
    my $run = run_to_end([ $program, qw(-d -l app.sock -p app.pid -n 1 app.psgi) ], in => $folder);
    is $run->{exit}, 'exit 0', 'returns';
    like $run->{err}, qr/ready: 1 worker/, 'when it is ready';
    my $pid = read_text("$folder/app.pid") + 0;
    is ask($server->socket), "ok\n", 'and serves';
    is process_title($pid), 'Blade: overseer', 'the pid file names the overseer';
    my ($session, $terminal) = (split ' ', read_text("/proc/$pid/stat") =~ s/.*\) //sr)[ 3, 4 ];
    is $session,  $pid, 'in a session of its own';
    is $terminal, 0,    'without terminal';
    is readlink("/proc/$pid/fd/$_"), '/dev/null', "descriptor $_ is nobody's" for 0, 1;

    # A second one must not touch what the first one has.
    my $second = run_to_end([ $program, qw(-d -l app.sock -p app.pid app.psgi) ], in => $folder);
    is $second->{exit}, 'exit 1', 'a second one: its exit code';
    like $second->{err}, qr/app\.sock/, 'and reason';
    is read_text("$folder/app.pid"), "$pid\n", 'the pid file is that of the first';

    kill TERM => $pid;
    ok wait_for { !processes_in($folder) }, 'ends on SIGTERM';
    ok !-e "$folder/$_", "$_ is removed" for 'app.pid', 'app.sock';

    write_text("$folder/dying.psgi", 'die "no\n"');
    $run = run_to_end([ $program, qw(-d -l app.sock -p app.pid dying.psgi) ], in => $folder);
    is $run->{exit}, 'exit 3', 'an application that does not load: its exit code';
    ok !-e "$folder/app.pid", 'no pid file';
    is_deeply [ processes_in($folder) ], [], 'nothing is left';

    $run = run_to_end([ bladepsgi_binary(), qw(-D -p 0 --pidfile=http.pid app.psgi) ], in => $folder);
    is $run->{exit}, 'exit 0', 'plackup\'s -D';
    ($pid) = read_text("$folder/http.pid") =~ /\A(\d+)\n\z/;
    kill TERM => $pid;
    ok wait_for { !processes_in($folder) }, 'ends on SIGTERM';
};

subtest 'a pid file that cannot be written' => sub {
    my $run = run_to_end([ $program, qw(-l app.sock -p no/such/folder.pid app.psgi) ]);
    is $run->{exit}, 'exit 1', 'exit code 1';
    like $run->{err}, qr{cannot write pid file 'no/such/folder\.pid': No such file}, 'the message';
};

subtest 'spawned with its socket as descriptor 0' => sub {
    for my $case ([ 'one worker', 1 ], [ 'as many as asked for', 3, '-n3' ]) {
        my ($name, $workers, @options) = @$case;
        my $socket = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1') or die "listen: $!";
        my $server = BladePSGI::Test->start(program => $program, words => [ @options, 'app.psgi' ], stdin => $socket);
        is ask('127.0.0.1:' . $socket->sockport), "ok\n", 'served';
        is scalar($server->worker_pids), $workers, $name;
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'environment' => sub {
    my %env = (FCGI_SOCKET_PATH => 'env.sock', FCGI_SOCKET_PERM => '0600', FCGI_LISTEN_QUEUE => 5, PM_MAX_REQUESTS => 10, PM_MAX_SIZE => 100000);
    my $server = BladePSGI::Test->start(program => $program, words => ['app.psgi'], env => \%env);
    is ask($server->folder . '/env.sock'), "ok\n", 'FCGI_SOCKET_PATH';
    is sprintf('%04o', (stat $server->folder . '/env.sock')[2] & 07777), '0600', 'FCGI_SOCKET_PERM';
    log_like $server, qr/LOG: .*PM_MAX_SIZE is without effect/, 'PM_MAX_SIZE: said to be without effect';
    my %old = map { $_ => 1 } $server->worker_pids;
    ask($server->folder . '/env.sock') for 1 .. 10 * keys %old;
    ok +(wait_for { grep { !$old{$_} } $server->worker_pids }), 'PM_MAX_REQUESTS: a worker is replaced';
    is $server->stop, 'exit 0', 'stops';
    my $port = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "listen: $!";
    $server = BladePSGI::Test->start(program => $program, words => ['app.psgi'], env => { SERVER_STARTER_PORT => $port->sockport . '=3' }, descriptors => [$port]);
    is ask('127.0.0.1:' . $port->sockport), "ok\n", 'SERVER_STARTER_PORT: FastCGI';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'wrong usage' => sub {
    for my $case (
        [ ['app.psgi'], qr/nothing to listen on/ ],
        [ ['-l', 'a.sock'], qr/expected one argument, the application, got none/ ],
        [ [qw(-l a.sock app.psgi 2)], qr/got 2/ ],
        [ [qw(--nprco=2 -l a.sock app.psgi)], qr/unknown option '--nprco'/ ],
    ) {
        my ($words, $message) = @$case;
        my $run = run_to_end([ $program, @$words ]);
        is $run->{exit}, 'exit 2', "@$words: exit code 2";
        like $run->{err}, $message, 'the message';
        like $run->{err}, qr/^bladepsgi-fcgi: .*\nUsage: bladepsgi-fcgi \[OPTION\]\.\.\. APPLICATION_PATH\n/, 'by its own name';
    }
};

done_testing;
