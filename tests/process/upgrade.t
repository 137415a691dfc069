# An upgrade: another version of the program goes on in this one's process, with its children, sockets and shared memory.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Load;
use BladePSGI::Test::Nginx;
use HTTP::Tiny;
use Test::More;

my $BINARY = bladepsgi_binary();
(my $build = $BINARY) =~ s{/[^/]+\z}{};

# A symbolic link in a folder of the test's own, which each test can turn to something else.
sub start {
    my (%o) = @_;
    my $folder = File::Temp::tempdir('bladepsgi-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    symlink $BINARY, "$folder/bladepsgi" or die "symlink: $!";
    %o = (workers => 3, control => 1, program => "$folder/bladepsgi", %o);
    my $server = delete $o{http} ? http_server(%o) : BladePSGI::Test->start(%o);
    $server->{program_folder} = $folder;
    return $server;
}

# Turns the link to another file.
sub turn {
    my ($server, $target) = @_;
    my $link = "$server->{program_folder}/bladepsgi";
    symlink $target, "$link.new" or die "symlink: $!";
    rename "$link.new", $link or die "rename: $!";
    return;
}

sub program {
    my ($server, $text) = @_;
    my $path = "$server->{program_folder}/program-" . ++$server->{programs};
    write_text($path, $text);
    chmod 0755, $path;
    turn($server, $path);
    return;
}

sub upgrade {
    my ($server, $how) = @_;
    my $from = $server->log_size;
    if ($how && $how eq 'signal') {
        $server->signal('USR2');
    }
    else {
        my $run = $server->bladectl('upgrade');
        is $run->{exit}, 'exit 0', 'bladectl upgrade' or diag $run->{err};
        like $run->{out}, qr/\Aupgraded: version [\d.]+, generation \d+ serves\n\z/, 'says what came of it';
    }
    ok $server->wait_log(qr/LOG:  overseer\[$server->{pid}\]: upgraded: version /, 30, $from), 'the log says so' or diag substr $server->log, $from;
    return substr $server->log, $from;
}

subtest 'everything goes on' => sub {
    my $loader = <<'PERL';
package My::Loader;
sub {
    my ($context) = @_;
    my $count = $context->new_atomic_int64('count', 0);
    my $sem = $context->new_semaphore('permits', 5);
    $context->request_auxiliary_process('ticker', sub {
        open my $f, '>', "ticker-$$" or die $!;
        sleep 1 while 1;
    });
    return ({}, sub {
        my ($env) = @_;
        $count->incr;
        $sem->tryacquire if $env->{PATH_INFO} eq '/take';
        return [200, [], ["$$ " . $count->load]];
    });
};
PERL
    my $server = start(app => '1', loader => $loader, options => ['--pidfile=pid']);
    my $get = sub { $server->get('/')->{body} };
    $get->() for 1 .. 5;
    my @roles = qw(zygote ticker lobby monitoring);
    my @old = ((map { $server->pid_of($_) } @roles), $server->worker_pids);
    my $inode = (stat $server->socket)[1];
    my $before = $server->stats;
    is $before->{requests}, 5, 'five requests';
    for my $how (qw(bladectl signal)) {
        my $log = upgrade($server, $how);
        unlike $log, qr/ERROR|WARNING|FATAL/, "$how: no complaint";
        like $log, qr/'\S+bladepsgi' is tried beside the running program\n.*version [\d.]+ is good; this process becomes it\n.*this is version [\d.]+ now, in the place of version [\d.]+; its \d+ processes go on\n/s,
            'the log says what happens';
        is read_text($server->folder . '/pid'), "$server->{pid}\n", 'the pid file';
        is process_title($server->pid), 'Blade: overseer', 'and the title of the overseer are what they were';
        is +(stat $server->socket)[1], $inode, 'the socket is the same';
        my $new = $server->stats;
        is $new->{atomic}{count}, $before->{atomic}{count}, 'the atomic has kept its value';
        is $new->{sem}{permits}, 5, 'the semaphore, too';
        is $new->{requests}, $before->{requests}, 'and the counter of requests';
        is $new->{start}, $before->{start}, 'the server has not started anew';
        ok wait_for { my %now = map { $_ => 1 } values %{ $server->processes }; !grep { $now{$_} } @old }, 'nobody of the old generation is left';
        is scalar(grep { /: worker [0-2]\z/ } keys %{ $server->processes }), 3, 'three workers';
        ok $server->pid_of('ticker'), 'there is one auxiliary process';
        like $get->(), qr/\A\d+ \d+\z/, 'it serves';
        my $served = $before->{requests} + 1;
        ok wait_for { $before = $server->stats; $before->{requests} == $served }, 'and counts';
        @old = ((map { $server->pid_of($_) } @roles), $server->worker_pids);
        is $server->bladectl('status')->{exit}, 'exit 0', 'the control socket answers';
    }
    is scalar(my @tickers = glob $server->folder . '/ticker-*'), 3, 'each generation has made its auxiliary process once';
    kill KILL => ($server->worker_pids)[0];
    ok wait_for { scalar(my @now = $server->worker_pids) == 3 }, 'a worker that dies is replaced';
    is $server->stop, 'exit 0', 'stops';
    ok !-e $server->$_, "no $_ is left" for qw(socket stats_path control_path);
    ok !-e $server->folder . '/pid', 'nor the pid file';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'what is no good' => sub {
    my $server = start(app => 'sub { [200, [], ["version 1 $$"]] }', options => [ '--load-timeout=2s', '--start-timeout=1s' ]);
    my @before = ($server->pid_of('zygote'), $server->pid_of('lobby'), $server->worker_pids);
    my $refused = sub {
        my ($name, $exit, $reason) = @_;
        my $from = $server->log_size;
        my $run = $server->bladectl('upgrade');
        is $run->{exit}, "exit $exit", "$name: refused";
        like $run->{err}, $reason, 'with the reason';
        ok $server->wait_log(qr/ERROR:  overseer\[$server->{pid}\]: the upgrade has failed: /, 20, $from), 'which is in the log, too';
        like $server->log, $reason;
        is_deeply [ $server->pid_of('zygote'), $server->pid_of('lobby'), $server->worker_pids ], \@before, 'the same processes';
        like $server->get('/')->{body}, qr/version 1/, 'serve';
        ok wait_for { !grep { !/\ABlade: / } keys %{ $server->processes } }, 'and nobody else is left' or diag explain $server->processes;
    };
    turn($server, '/nowhere/bladepsgi');
    $refused->('a missing file', 1, qr/cannot run the new program '.*': No such file or directory \(ENOENT\)/);
    program($server, "\x7fELFnonsense");
    $refused->('no program', 1, qr/cannot run the new program '.*': Exec format error \(ENOEXEC\)/);
    turn($server, '/bin/true');
    $refused->('a program that does nothing', 1, qr/the new program ended \(exit code 0\) before it had shown that it works/);
    program($server, "#!/bin/sh\necho cannot find libfoo >&2\nexit 1\n");
    $refused->('one that fails', 1, qr/the new program ended \(exit code 1\) before it had shown that it works: cannot find libfoo/);
    program($server, "#!/bin/sh\nkill -SEGV \$\$\n");
    $refused->('one that crashes', 1, qr/the new program ended \(signal 11 \(SIGSEGV.*\)\) before/);
    program($server, "#!$^X\nsleep 1 while 1;\n");
    $refused->('one that hangs', 3, qr/the new program has not shown within [\d.]+ s that it works/);
    turn($server, $BINARY);
    my $app = $server->folder . '/app.psgi';
    write_text($app, 'die "not this one\n";');
    $refused->('code that does not load', 3, qr/not this one/);
    write_text($app, 'sleep 1 while 1;');
    $refused->('code that hangs', 3, qr/has not loaded within 2\.0 s \(--load-timeout\)/);
    my $link = "$server->{program_folder}/bladepsgi";
    write_text($app, qq{unlink '$link'; symlink '/bin/true', '$link' or die \$!; sub { [200, [], ['version 2']] }});
    $refused->('one that is exchanged meanwhile', 1, qr/'\Q$link\E' has been changed since it was tried; ask again/);
    turn($server, $BINARY);
    write_text($app, 'sub { [200, [], ["version 2 $$"]] }');
    upgrade($server);
    like $server->get('/')->{body}, qr/version 2/, 'what is good is taken';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'connections that are kept' => sub {
    my $app = 'my $n = 0; sub { my ($env) = @_; my $body = q{}; $env->{q{psgi.input}}->read($body, 1e6); [200, [], [$env->{PATH_INFO} eq q{/large} ? q{x} x 20_000_000 : "$$ " . length $body]] }';
    my $server = start(app => $app, workers => 2);
    my @old = $server->worker_pids;
    # In a worker, in the lobby, half of a request there, and half of a response.
    my @kept = map { my $c = $server->connect; $c->send(request_bytes(uri => '/', keep => 1)); $c->read_response(1); $c } 1 .. 8;
    my $half = $server->connect;
    my $bytes = request_bytes(uri => '/', method => 'POST', body => 'y' x 5000);
    $half->send(substr $bytes, 0, 2000);
    my $slow = $server->connect;
    $slow->send(request_bytes(uri => '/large'));
    my $held = sub { my $lobby = $server->bladectl_result('status')->{lobby}; return $lobby };
    my %held;
    ok wait_for { %held = %{ $held->()->{held} }; $held{idle} + 2 >= 8 && $held{head} + $held{body} == 1 && $held{sending} == 1 }, 'the lobby holds what waits'
        or diag explain \%held;
    my ($lobby, $monitoring) = map { $server->pid_of($_) } qw(lobby monitoring);
    # One that reads the statistics slowly, and has its answer already; the other has not connected when they change.
    my $reader = IO::Socket::UNIX->new(Peer => $server->stats_path) or die $!;
    upgrade($server);
    isnt $server->pid_of('lobby', $lobby), $lobby, 'there is another lobby';
    isnt $server->pid_of('monitoring', $monitoring), $monitoring, 'and another process for statistics';
    ok !(grep { $_ == $lobby } processes_in($server->folder)), 'the old lobby has gone';
    my %now = %{ $held->()->{held} };
    is $now{$_}, $held{$_}, "$_: as many as before" for sort keys %held;
    for my $connection (@kept) {
        $connection->send(request_bytes(uri => '/', keep => 1, method => 'POST', body => 'z' x 100));
        my ($pid, $length) = split / /, eval { $connection->read_response(1)->{body} } // '';
        is $length, 100, 'a kept connection is served' or diag $@;
        ok defined $pid && !grep({ $_ eq $pid } @old), 'by a new worker';
    }
    $half->send(substr $bytes, 2000);
    like do { local $/; <$reader> }, qr/\A\d+\n/, 'whoever was asking for statistics has them';
    like $half->read_response(1)->{body}, qr/ 5000\z/, 'the request that was half there is answered';
    is length $slow->read_response(1)->{body}, 20_000_000, 'the response that was half taken is complete';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'it stops meanwhile' => sub {
    for my $signal (qw(TERM INT QUIT)) {
        my $server = start();
        write_text($server->folder . '/app.psgi', q{open my $f, '>', 'loading' or die $!; sleep 1 while 1});
        $server->signal('USR2');
        ok wait_for { -e $server->folder . '/loading' }, 'the new program loads';
        my $run = $server->bladectl('upgrade');
        is $run->{exit}, 'exit 1', 'a second one';
        like $run->{err}, qr/an upgrade is under way already/, 'is refused';
        $server->signal($signal);
        is $server->wait_exit, $signal eq 'QUIT' ? 'exit 4' : 'exit 0', "SIG$signal ends it";
        like $server->log, qr/the upgrade comes to nothing: the server stops/, 'the log says so';
        is_deeply [ $server->survivors ], [], 'nothing is left';
    }
};

subtest 'it is killed afterwards' => sub {
    my $server = start();
    my $lobby = $server->pid_of('lobby');
    upgrade($server, 'signal');
    my $hung = $server->connect;
    kill KILL => $server->pid;
    is $server->wait_exit, 'signal 9', 'the overseer is killed';
    is_deeply [ $server->survivors ], [], 'nobody survives it';
};

subtest 'a reload meanwhile' => sub {
    my $server = start(app => 'sub { [200, [], ["version 1"]] }');
    my $app = $server->folder . '/app.psgi';
    write_text($app, q{open my $f, '>', "loading-$$" or die $!; select undef, undef, undef, 0.005 until -e 'loaded'; sub { [200, [], ["version 2"]] }});
    $server->signal('HUP');
    ok wait_for { my @loading = glob $server->folder . '/loading-*'; @loading == 1 }, 'a reload is under way';
    $server->signal('USR2');
    ok wait_for { my @loading = glob $server->folder . '/loading-*'; @loading == 2 }, 'the new program loads beside it';
    write_text($server->folder . '/loaded', '');
    ok $server->wait_log(qr/all 3 workers have changed over.*this process becomes it.*all 3 workers have changed over.*upgraded: version \S+ generation 3/s, 30)
        || $server->wait_log(qr/this process becomes it.*all 3 workers have changed over.*all 3 workers have changed over.*upgraded: version \S+ generation 3/s, 30), 'both come to their end';
    like $server->get('/')->{body}, qr/version 2/, 'serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the new program is no good after all' => sub {
    my $server = start(app => 'sub { [200, [], ["version 1"]] }');
    # Once it loads, the next time it does not.
    write_text($server->folder . '/app.psgi', q{die "not again\n" if -e 'once'; open my $f, '>', 'once' or die $!; sub { [200, [], ["version 2"]] }});
    my @before = $server->worker_pids;
    my $run = $server->bladectl('upgrade');
    is $run->{exit}, 'exit 3', 'it fails';
    like $run->{err}, qr/the server has become version .*, but its workers are still those of before: .*not again/s, 'and says how';
    is_deeply [ $server->worker_pids ], \@before, 'the old workers';
    like $server->get('/')->{body}, qr/version 1/, 'serve';
    kill KILL => $before[0];
    ok wait_for { my @now = $server->worker_pids; @now == 3 && !grep { $_ == $before[0] } @now }, 'a worker that dies is replaced';
    like $server->get('/')->{body}, qr/version 1/, 'by the same code' for 1 .. 3;
    write_text($server->folder . '/app.psgi', 'sub { [200, [], ["version 3"]] }');
    is $server->bladectl('reload')->{exit}, 'exit 0', 'everything is as it should be';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'as many workers as were asked for' => sub {
    my $server = start(workers => 2);
    is $server->bladectl('scale', 4)->{exit}, 'exit 0', 'scaled';
    upgrade($server);
    ok wait_for { my @now = $server->worker_pids; @now == 4 }, 'as many as before';
    is $server->bladectl('scale', 1)->{exit}, 'exit 0', 'scaled again';
    ok wait_for { my @now = $server->worker_pids; @now == 1 }, 'to one';
    is $server->stop, 'exit 0', 'stops';
    # None while nobody asks for anything.
    $server = start(workers => 2, options => [ '--min-workers=0', '--worker-idle-timeout=1s' ]);
    upgrade($server);
    is $server->get('/')->{body}, "ok\n", 'on demand: serves';
    ok wait_for { my @now = $server->worker_pids; @now == 0 }, 'nobody is left who is idle';
    upgrade($server);
    is $server->get('/')->{body}, "ok\n", 'serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'sockets that were passed to it' => sub {
    my $listener = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', LocalPort => 0) or die $!;
    my $server = start(words => [ '--control=' . 'control.sock', '--workers=2', '--stats=stats.sock', 'app.psgi' ], descriptors => [$listener],
        env => { SERVER_STARTER_PORT => '127.0.0.1:' . $listener->sockport . '=3' });
    my $get = sub { HTTP::Tiny->new->get('http://127.0.0.1:' . $listener->sockport . '/')->{content} };
    is $get->(), "ok\n", 'are served';
    upgrade($server) for 1 .. 2;
    is $get->(), "ok\n", 'by the new program, too';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'other ways to run' => sub {
    for my $case (
        [ 'without preloading', '--no-preload' ],
        [ 'without a lobby', '--lobby-connections=0' ],
        [ 'raw output', '--raw-output' ],
        [ 'with a probe', '--probe=/up' ],
        [ 'as another user', '--user=nobody' ],
    ) {
        my ($name, @options) = @$case;
        next if $name eq 'as another user' && !as_root();
        my $server = start(options => \@options, workers => 2);
        my @old = $server->worker_pids;
        upgrade($server);
        is $server->get('/')->{body}, "ok\n", "$name: serves";
        ok wait_for { my %now = map { $_ => 1 } $server->worker_pids; keys %now == 2 && !grep { $now{$_} } @old }, 'by new workers';
        is $server->stop, 'exit 0', 'stops';
        is_deeply [ $server->survivors ], [], 'nothing is left';
    }
};

# Fresh and kept connections, GET and POST, of more clients than there are workers, directly and through nginx.
subtest 'under load' => sub {
    my $times = is_long() ? 20 : 3;
    my $server = start(http => 1, app_file => "$FindBin::Bin/../apps/load.psgi");
    my %o = (timeout => 30);
    my @loads = (
        [ 'FastCGI, fresh' => 2, keep => 0 ],
        [ 'FastCGI, kept'  => 5, keep => 1 ],
        [ 'HTTP, fresh'    => 1, keep => 0, connect => sub { http($server, %o) } ],
        [ 'HTTP, kept'     => 3, keep => 1, connect => sub { http($server, %o) } ],
    );
    my %nginx = map { $_ => BladePSGI::Test::Nginx->start(socket => $server->socket, keep_conn => $_) } qw(off on);
    for my $keep_conn (sort keys %nginx) {
        my $port = $nginx{$keep_conn}->port;
        push @loads, [ "nginx with fastcgi_keep_conn $keep_conn" => 2, keep => 1,
            connect => sub { BladePSGI::Test::HTTP->connect("127.0.0.1:$port", %o) } ];
    }
    push @$_, BladePSGI::Test::Load->start($server, %o, clients => $_->[1], @$_[2 .. $#$_]) for @loads;
    for my $time (1 .. $times) {
        my $before = $server->stats->{requests};
        upgrade($server, 'signal');
        ok wait_for { $server->stats->{requests} > $before + 50 }, 'requests go on';
    }
    for my $load (@loads) {
        my $result = $load->[-1]->stop;
        cmp_ok $result->{ok}, '>', 5 * $times, "$load->[0]: $result->{ok} requests answered";
        is_deeply $result->{failures}, [], 'none was lost';
        is $result->{retried}, 0, 'nor asked again' unless $load->[0] =~ /nginx/;
    }
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
