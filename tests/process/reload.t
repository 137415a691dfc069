# A reload: the new code is loaded beside the running one, and takes its place when it is good; no request is lost, whatever comes of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Load;
use Test::More;

# [code at its top, what it answers]
sub app_code {
    my ($version, $top) = @_;
    $top //= '';
    return <<"PERL";
use strict;
use warnings;
$top
sub {
    my (\$env) = \@_;
    if (\$env->{PATH_INFO} eq '/slow') {
        open my \$begun, '>', 'begun' or die \$!;
        select undef, undef, undef, 0.005 until -e 'gate';
    }
    return [200, ['Content-Type' => 'text/plain'], ["version $version \$\$"]];
};
PERL
}

sub change { my ($server, @app) = @_; write_text($server->folder . '/app.psgi', app_code(@app)); return }

sub start { my (%o) = @_; return http_server(app => app_code(1), workers => 3, %o) }

# Asks for a reload and waits for its end; what the log says of it.
sub reload {
    my ($server) = @_;
    my $from = $server->log_size;
    $server->signal('HUP');
    ok $server->wait_log(qr/workers? ha(?:s|ve) changed over|the reload has failed/, 30, $from), 'the reload comes to its end';
    return substr $server->log, $from;
}

subtest 'new code' => sub {
    my $server = start();
    my %old = map { $_ => 1 } $server->worker_pids, $server->pid_of('zygote');
    my $kept = http($server);
    my $fastcgi = $server->connect;
    like $kept->request(uri => '/')->{body}, qr/version 1/, 'the first version';
    $fastcgi->send(request_bytes(uri => '/', keep => 1));
    like $fastcgi->read_response(1)->{body}, qr/version 1/, 'over FastCGI, too';
    change($server, 2);
    like $server->get('/')->{body}, qr/version 1/, 'a change alone changes nothing';
    my $log = reload($server);
    like $log, qr/LOG:  overseer\[\d+\]: reload asked for on SIGHUP of pid $$: the application is loaded anew beside the running one/, 'the log says that it begins';
    like $log, qr/generation 2 is good, its application was loaded in .* s; workers change over\n.*all 3 workers have changed over/s, 'and that it is done';
    unlike $log, qr/ERROR|WARNING/, 'and nothing else';
    like $server->get('/')->{body}, qr/version 2/, 'the second version';
    like $kept->request(uri => '/')->{body}, qr/version 2/, 'on the connection that was kept, too';
    $fastcgi->send(request_bytes(uri => '/', keep => 1, method => 'POST', body => 'x' x 1000));
    like $fastcgi->read_response(1)->{body}, qr/version 2/, 'and a POST';
    ok wait_for { !grep { $old{$_} } $server->worker_pids, $server->pid_of('zygote') }, 'no old process is left';
    is scalar($server->worker_pids), 3, 'and no more than before';
    change($server, 3);
    reload($server);
    like $server->get('/')->{body}, qr/version 3/, 'and again';
    is $server->stop, 'exit 0', 'stops';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'code that is not good' => sub {
    my $server = start(options => ['--load-timeout=2s']);
    my @before = ((sort { $a <=> $b } $server->worker_pids), $server->pid_of('zygote'));
    my %broken = (
        'a syntax error'    => [ 'my $x = ;', qr/syntax error/ ],
        'dies'              => [ 'die "not today\n";', qr/not today/ ],
        'a missing module'  => [ 'use No::Such::Module;', qr/No\/Such\/Module/ ],
        'exits'             => [ 'exit 0;', qr/zygote/ ],
        'is killed'         => [ 'kill SEGV => $$; sleep 1;', qr/SIGSEGV/ ],
        'hangs'             => [ 'sleep 1 while 1;', qr/has failed: the application has not loaded within 2.0 s \(--load-timeout\)/ ],
        'is no application' => [ '0; __END__', qr/app/ ],
    );
    for my $name (sort keys %broken) {
        my ($top, $reason) = @{ $broken{$name} };
        change($server, 2, $top);
        my $log = reload($server);
        like $log, qr/ERROR:  overseer\[\d+\]: the reload has failed: .*; generation 1 goes on serving/, "$name: refused";
        like $log, $reason, 'the log says why';
        like $server->get('/')->{body}, qr/version 1/, 'the old one serves';
        is_deeply [ (sort { $a <=> $b } $server->worker_pids), $server->pid_of('zygote') ], \@before, 'by the same processes' or diag $log;
    }
    # What dies is still replaced by what it was.
    kill KILL => $before[0];
    ok wait_for { my @now = $server->worker_pids; @now == 3 && !grep { $_ == $before[0] } @now }, 'a worker that dies is replaced';
    like $server->get('/')->{body}, qr/version 1/, 'by the same code' for 1 .. 3;
    change($server, 2);
    like reload($server), qr/all 3 workers have changed over/, 'code that is good is taken';
    like $server->get('/')->{body}, qr/version 2/, 'and serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'asked for while one is under way' => sub {
    my $server = start();
    change($server, 2, q{BEGIN { open my $f, '>', 'loading' or die $!; select undef, undef, undef, 0.005 until -e 'loaded' }});
    $server->signal('HUP');
    ok wait_for { -e $server->folder . '/loading' }, 'it loads';
    change($server, 3);
    my $from = $server->log_size;
    $server->signal('HUP');
    ok $server->wait_log(qr/one is under way, another one follows it/, 20, $from), 'asked again';
    write_text($server->folder . '/loaded', '');
    ok $server->wait_log(qr/changed over.*changed over/s, 20, $from), 'both are done';
    like $server->get('/')->{body}, qr/version 3/, 'the last version serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'processes that die meanwhile' => sub {
    my $server = start();
    my $loading = q{BEGIN { open my $f, '>', 'loading' or die $!; select undef, undef, undef, 0.005 until -e 'loaded' }};
    change($server, 2, $loading);
    my $zygote = $server->pid_of('zygote');
    $server->signal('HUP');
    ok wait_for { -e $server->folder . '/loading' }, 'it loads';
    my ($victim) = $server->worker_pids;
    kill KILL => $victim;
    ok wait_for { my @now = $server->worker_pids; @now == 3 && !grep { $_ == $victim } @now }, 'a worker is replaced';
    like $server->get('/')->{body}, qr/version 1/, 'by the old code' for 1 .. 3;
    my $from = $server->log_size;
    kill KILL => $zygote;
    ok $server->wait_log(qr/zygote \(pid $zygote\) died unexpectedly: .*; the one that is being loaded takes its place/, 20, $from), 'the old zygote dies';
    write_text($server->folder . '/loaded', '');
    ok $server->wait_log(qr/all 3 workers have changed over/, 20, $from), 'it is done all the same';
    like $server->get('/')->{body}, qr/version 2/, 'the new version serves';

    # And when the new one is no good, there is a zygote again.
    unlink $server->folder . "/$_" for qw(loading loaded);
    change($server, 3, "$loading die qq{no\\n};");
    $zygote = $server->pid_of('zygote');
    $from = $server->log_size;
    $server->signal('HUP');
    ok wait_for { -e $server->folder . '/loading' }, 'another one loads';
    kill KILL => $zygote;
    ok $server->wait_log(qr/zygote \(pid $zygote\) died unexpectedly/, 20, $from), 'the old zygote dies';
    write_text($server->folder . '/loaded', '');
    ok $server->wait_log(qr/could not be loaded again: .*no/, 20, $from), 'it is not good';
    change($server, 4);
    ok $server->wait_log(qr/is good.*all 3 workers have changed over/s, 30, $from), 'a zygote is made anew, and with it what is there now';
    like $server->get('/')->{body}, qr/version 4/, 'serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the whole server stops meanwhile' => sub {
    for my $signal (qw(TERM INT)) {
        my $server = start();
        change($server, 2, q{BEGIN { open my $f, '>', 'loading' or die $!; sleep 1 while 1 }});
        $server->signal('HUP');
        ok wait_for { -e $server->folder . '/loading' }, 'it loads';
        $server->signal($signal);
        is $server->wait_exit, 'exit 0', "stops on SIG$signal";
        like $server->log, qr/the reload comes to nothing: the server stops/, 'the log says so';
        is_deeply [ $server->survivors ], [], 'nothing is left';
    }
};

subtest 'bladectl reload' => sub {
    my $server = start(control => 1);
    change($server, 2);
    my $run = $server->bladectl('reload');
    is $run->{exit}, 'exit 0', 'waits until all is done';
    is $run->{out}, "reloaded: generation 2 serves\n", 'and says what came of it';
    like $server->get('/')->{body}, qr/version 2/, 'the second version serves';
    change($server, 3, 'my $x = ;');
    $run = $server->bladectl('reload');
    is $run->{exit}, 'exit 3', 'code that does not load';
    like $run->{err}, qr/syntax error at .*app\.psgi line 3/, 'with the whole reason';
    like $server->get('/')->{body}, qr/version 2/, 'what served serves on';
    # Who stops the server meanwhile.
    change($server, 4, q{BEGIN { open my $f, '>', 'loading' or die $!; sleep 1 while 1 }});
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        my $end = $server->bladectl('reload');
        require POSIX;
        POSIX::_exit($end->{exit} eq 'exit 1' && $end->{err} =~ /the server stops/ ? 0 : 1);
    }
    ok wait_for { -e $server->folder . '/loading' }, 'one is under way';
    is $server->stop, 'exit 0', 'stops';
    waitpid $pid, 0;
    is $?, 0, 'who waited is told';
};

subtest '--reload-step' => sub {
    my $server = start(workers => 4, options => ['--no-preload', '--reload-step=2']);
    # Each worker says when it loads, and waits.
    change($server, 2, q{open my $f, '>', "loading-$$" or die $!; select undef, undef, undef, 0.005 until -e 'loaded' or -e "loaded-$$"; unlink "loading-$$";});
    my $loading = sub { sort map { m/(\d+)\z/ } glob $server->folder . '/loading-*' };
    $server->signal('HUP');
    my @first;
    ok wait_for { @first = $loading->(); @first == 1 }, 'one shows whether the application loads';
    write_text($server->folder . "/loaded-$first[0]", '');
    ok wait_for { @first = $loading->(); @first == 2 }, 'then two at once';
    like $server->get('/')->{body}, qr/version [12]/, 'requests are answered';
    write_text($server->folder . '/loaded', '');
    ok $server->wait_log(qr/all 4 workers have changed over/, 20), 'all have changed over';
    like $server->get('/')->{body}, qr/version 2/, 'the new version serves';
    # One that does not load.
    my @before = sort { $a <=> $b } $server->worker_pids;
    change($server, 3, 'die "not this one\n";');
    like reload($server), qr/the reload has failed: .*not this one.*; generation 2 goes on serving/, 'code that does not load is refused';
    is_deeply [ sort { $a <=> $b } $server->worker_pids ], \@before, 'and nobody is replaced';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'code with which only some workers can start' => sub {
    my $server = start(control => 1);
    my @before = $server->worker_pids;
    change($server, 2, <<'PERL');
use Fcntl;
use BPSGI 'on_worker_start';
on_worker_start(sub { sysopen my $f, 'first', O_CREAT | O_EXCL or die "no room for me\n" });
PERL
    my $run = $server->bladectl('reload');
    is $run->{exit}, 'exit 3', 'is told';
    like $run->{err}, qr/generation 2 was accepted, but worker \d of it could not start 3 times, which is tried again: .*no room for me/, 'with the reason';
    log_like $server, qr/ERROR: .*the reload is not complete: generation 2 was accepted, but /, 'the log has it, too';
    cmp_ok scalar(grep { my $pid = $_; grep { $_ == $pid } $server->worker_pids } @before), '==', 2, 'old workers serve where new ones cannot';
    change($server, 3);
    is $server->bladectl('reload')->{exit}, 'exit 0', 'the next one does not wait for that';
    like $server->get('/')->{body}, qr/version 3/, 'and serves' for 1 .. 5;
    is $server->stop, 'exit 0', 'stops';
};

# What lies on the disk when a zygote has to be made anew may be a release that was refused.
subtest 'a zygote that dies while a bad release lies there' => sub {
    my $server = start(control => 1, options => [ '--probe=/', '--max-workers=5' ]);
    my @before = sort { $a <=> $b } $server->worker_pids;
    write_text($server->folder . '/app.psgi', q{sub { [500, [], ['version 2']] }});
    my $from = $server->log_size;
    kill KILL => $server->pid_of('zygote');
    ok $server->wait_log(qr/ERROR: .*the application could not be loaded again: .*status 500; generation 1 goes on serving, a new zygote is started in/, 20, $from), 'it is refused';
    like $server->get('/')->{body}, qr/version 1/, 'nobody sees it' for 1 .. 5;
    for my $command ([ 'recycle', ], [ 'scale', 5 ]) {
        my $run = $server->bladectl(@$command);
        is $run->{exit}, 'exit 1', "bladectl @$command does not wait for one that is good";
        like $run->{err}, qr/there is no zygote that could make a worker, and it is tried again: .*status 500/, 'and says why';
    }
    like $server->bladectl('status')->{out}, qr/without a zygote, waiting to load again/, 'so does status';
    is $server->bladectl('scale', 3)->{exit}, 'exit 0', 'no more than there are';
    is join(' ', sort { $a <=> $b } $server->worker_pids), "@before", 'the workers are the same';
    change($server, 3);
    ok $server->wait_log(qr/all 3 workers have changed over/, 30, $from), 'one that is good is taken';
    like $server->get('/')->{body}, qr/version 3/, 'and serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a probe after which its worker leaves' => sub {
    my $server = BladePSGI::Test->start(workers => 2, control => 1, options => ['--probe=/'], app => <<'PERL');
sub { my ($env) = @_; $env->{'psgix.harakiri.commit'} = 1; [200, [], [$$]] }
PERL
    for my $time (1 .. 10) {
        my $run = $server->bladectl('reload');
        is $run->{exit}, 'exit 0', 'is no failure' or diag $run->{err};
    }
    is $server->get('/')->{status}, 200, 'it serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest '--probe' => sub {
    for my $protocol (qw(FastCGI HTTP)) {
        my @options = ('--probe=/up?deep=1', '--probe-timeout=2s');
        my $server = $protocol eq 'FastCGI' ? start(options => \@options)
            : BladePSGI::Test->start(app => app_code(1), words => [ @options, '--workers=3', '--http=127.0.0.1:0', 'app.psgi' ]);
        my $get = sub { $protocol eq 'FastCGI' ? $server->get('/')->{body} : BladePSGI::Test::HTTP::http($server)->request(uri => '/')->{body} };
        my @before = sort { $a <=> $b } $server->worker_pids;
        my $answering = sub {
            my ($version, $how) = @_;
            write_text($server->folder . '/app.psgi', <<"PERL");
use strict; use warnings;
sub {
    my (\$env) = \@_;
    if (\$env->{PATH_INFO} eq '/up') {
        open my \$f, '>>', 'asked' or die \$!;
        print \$f "\$\$ \$env->{REQUEST_METHOD} \$env->{REQUEST_URI}\\n";
        close \$f;
        $how
    }
    return [200, [], ["version $version \$\$"]];
};
PERL
        };
        for my $case (
            [ 'a status of 500' => q{return [500, [], ['no']];} => qr{the probe request '/up\?deep=1' was answered with status 500} ],
            [ 'an exception'    => q{die "not up\n";} => qr{was answered with status 500; the last error was: .*not up} ],
            [ 'a crash'         => q{kill SEGV => $$; sleep 10;} => qr{SIGSEGV|the connection ended} ],
            [ 'no answer'       => q{sleep 1 while 1;} => qr{was not answered within 2 s \(--probe-timeout\)} ],
        ) {
            my ($name, $how, $reason) = @$case;
            $answering->(2, $how);
            my $log = reload($server);
            like $log, qr/the reload has failed: .*$reason.*; generation 1 goes on serving/, "$protocol, $name: refused";
            like $get->(), qr/version 1/, 'the old one serves';
            is_deeply [ sort { $a <=> $b } $server->worker_pids ], \@before, 'by the same workers';
        }
        unlink $server->folder . '/asked';
        $answering->(2, q{return [204, [], []];});
        like reload($server), qr/all 3 workers have changed over/, "$protocol: a good answer is good";
        my @asked = split /\n/, read_text($server->folder . '/asked');
        is scalar(@asked), 1, 'one worker was asked, once';
        my ($pid, @what) = split / /, $asked[0];
        is "@what", 'GET /up?deep=1', 'for that path';
        ok scalar(grep { $_ == $pid } $server->worker_pids), 'and it serves now';
        like $get->(), qr/version 2/, 'the new version serves' for 1 .. 5;
        is $server->stop, 'exit 0', 'stops';
        is_deeply [ $server->survivors ], [], 'nothing is left';
    }
};

subtest 'auxiliary processes, semaphores and atomics' => sub {
    my $loader = sub {
        my ($version, $top) = @_;
        return "package My::Loader; use strict; use warnings; $top" . <<"PERL";
sub {
    my (\$context) = \@_;
    my \$count = \$context->new_atomic_int64('count', 0);
    my \$aux = \$context->new_atomic_int64('running', 0);
    \$context->request_auxiliary_process('ticker', sub {
        local \$SIG{TERM} = sub { \$aux->fetch_add(-1); exit };
        die 'two at once' if \$aux->fetch_add(1) != 0;
        open my \$f, '>', 'ticker-$version' or die \$!;
        sleep 1 while 1;
    });
    return ({}, sub { \$count->incr; return [200, [], ["version $version " . \$count->load]] });
};
PERL
    };
    my $server = BladePSGI::Test->start(app => '1', workers => 2, loader => $loader->(1, ''));
    ok wait_for { -e $server->folder . '/ticker-1' }, 'the auxiliary process runs';
    my $ticker = $server->pid_of('ticker');
    is $server->get('/')->{body}, 'version 1 1', 'counts';
    my $module = $server->folder . '/lib/My/Loader.pm';
    write_text($module, $loader->(2, 'die "no\n";'));
    like reload($server), qr/the reload has failed/, 'code that is not good';
    is $server->pid_of('ticker'), $ticker, 'does not touch the auxiliary process';
    write_text($module, $loader->(2, ''));
    like reload($server), qr/all 2 workers have changed over/, 'code that is good';
    is $server->get('/')->{body}, 'version 2 2', 'the value is kept';
    ok wait_for { -e $server->folder . '/ticker-2' }, 'the new auxiliary process runs';
    isnt $server->pid_of('ticker', $ticker), $ticker, 'the old one has gone';
    unlike $server->log, qr/two at once/, 'and was gone before';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'under load' => sub {
    my $times = is_long() ? 50 : 5;
    for my $keep (0, 1) {
        my $server = BladePSGI::Test->start(app_file => "$FindBin::Bin/../apps/load.psgi", workers => 3);
        my $load = BladePSGI::Test::Load->start($server, clients => 6, keep => $keep, timeout => 30);
        for my $time (1 .. $times) {
            my $before = $server->stats->{requests};
            like reload($server), qr/all 3 workers have changed over/, "reload $time";
            ok wait_for { $server->stats->{requests} > $before + 20 }, 'requests go on';
        }
        my $result = $load->stop;
        cmp_ok $result->{ok}, '>', 20 * $times, "$result->{ok} requests answered";
        is_deeply $result->{failures}, [], ($keep ? 'on kept connections' : 'on fresh connections') . ' none was lost';
        is $server->stop, 'exit 0', 'stops';
    }
};

done_testing;
