# A canary: of a new generation a share of the workers serves first, and is judged by how it does; what is no good is taken back, and the old one
# never stops serving.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Load;
use Test::More;

# What it answers says of which version it is; $how is what else it does.
sub app_code {
    my ($version, $how) = @_;
    $how //= '';
    return BladePSGI::Test->gate_code . <<"PERL";
use strict;
use warnings;
my \$served = 0;
sub {
    my (\$env) = \@_;
    my \$path = \$env->{PATH_INFO};
    \$served++;
    $how
    return [200, ['Content-Type' => 'text/plain'], ["version $version \$\$ \$path"]];
};
PERL
}

sub change { my ($server, @app) = @_; write_text($server->folder . '/app.psgi', app_code(@app)); return }

sub start {
    my (%o) = @_;
    my $options = delete $o{options};
    return BladePSGI::Test->start(app => app_code(1), workers => 4, control => 1, options => [ '--canary=25%', @{ $options || [] } ], %o);
}

sub ask { my ($server) = @_; return $server->bladectl_later('reload') }

sub status { return $_[0]->bladectl_result('status') }

# Waits until the new worker serves and the old ones have stepped back.
sub wait_trial {
    my ($server) = @_;
    return wait_for { my $s = status($server)->{reload}; $s->{phase} eq 'judging' && ($s->{progress} // '') =~ /\A1 of 4 workers is new/ };
}

# One request after the other until the block says that it is enough: { version => number }.
sub ask_one_by_one (&$;$) {
    my ($enough, $server, $most) = @_;
    my %answers;
    for my $n (1 .. $most || 2000) {
        my $answer = $server->get("/x$n");
        my $version = ($answer->{body} // '') =~ /version (\d+)/ ? $1 : $answer->{status} // 'none';
        $answers{$version}++;
        last if $enough->(\%answers);
    }
    return \%answers;
}

subtest 'a good one' => sub {
    my $server = start(options => ['--canary-requests=100']);
    my @old = $server->worker_pids;
    change($server, 2);
    my $asked = ask($server);
    ok wait_trial($server), 'a worker is exchanged, and judged';
    is scalar($server->worker_pids), 4, 'no more workers than before';
    is scalar(grep { my $pid = $_; grep { $_ == $pid } $server->worker_pids } @old), 3, 'the others are the old ones';
    my $answers = ask_one_by_one { $_[0]{2} && $_[0]{2} >= 99 } $server;
    cmp_ok $answers->{2}, '==', 99, 'it gets requests';
    cmp_ok $answers->{1} // 0, '<', 99, 'more than all others have, where one comes after the other';
    like status($server)->{reload}{progress}, qr/\A1 of 4 workers is new: 99 of 100 requests, none failed\z/, 'status counts them';
    ask_one_by_one { $_[0]{2} } $server;
    my $run = $asked->outcome;
    is $run->{exit}, 'exit 0', 'bladectl reload waits for the outcome';
    is $run->{out}, "reloaded: generation 2 serves\n", 'which is good';
    log_like $server, qr/generation 2 is tried: 1 of 4 workers is exchanged, and judged by 100 requests, or after 30.0 s\n.*generation 2 has passed its trial: of the new workers' 100 requests, none failed; of the old ones' \d+ requests?.*\n.*generation 2 is good.*\n.*all 4 workers have changed over/, 'so says the log';
    like $server->get('/')->{body}, qr/version 2/, 'the new version serves' for 1 .. 8;
    my $last = status($server)->{reload}{last};
    is "$last->{outcome} $last->{generation}", 'done 2', 'and status';
    unlike $server->log =~ s/.*running as root.*//r, qr/ERROR|WARNING/, 'nothing was wrong';
    is $server->stop, 'exit 0', 'stops';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

# The same on kept connections, which the old workers have when it begins, and over HTTP.
subtest 'kept connections' => sub {
    for my $protocol (qw(FastCGI HTTP)) {
        my $server = start($protocol eq 'HTTP' ? (options => [ '--http=127.0.0.1:0', '--access-log=off' ]) : ());
        my $c = $protocol eq 'HTTP' ? http($server) : $server->connect;
        my $get = sub { $c->request(uri => '/', keep => 1)->{body} };
        like $get->(), qr/version 1/, "$protocol: a connection is kept by an old worker";
        change($server, 2);
        my $asked = ask($server);
        ok wait_trial($server), 'the new one is tried';
        my %answers;
        for (1 .. 300) {
            my ($version) = $get->() =~ /version (\d)/;
            $answers{$version}++;
            last if ($answers{2} // 0) >= 100;
        }
        is $answers{2}, 100, 'and gets what comes on it';
        cmp_ok $answers{1} // 0, '<=', 5, 'at once';
        is $asked->outcome->{exit}, 'exit 0', 'which decides';
        is $server->stop, 'exit 0', 'stops';
    }
};

# Under load: what fails is what the new workers themselves answered with an error.
subtest 'one that is no good' => sub {
    my %broken = (
        'dies in every request' => {
            how => 'die "no such table: orders\n" if $path =~ m{^/load};',
            reason => qr/too many requests fail: of the new workers' \d+ requests, \d+ failed; of the old ones' .*none failed.*the last error was: (?:GET|POST) \S+ \[\S+\]: the application died: no such table: orders/,
            status => 500,
        },
        'answers with a page of its own' => {
            how => 'return [500, [], ["sorry, $path"]] if $path =~ m{^/load};',
            reason => qr/too many requests fail: of the new workers' \d+ requests, \d+ failed/,
            status => 500,
        },
        'crashes at its third request' => {
            how => 'kill SEGV => $$ if $served == 3;',
            reason => qr/worker 0 \(pid \d+\) died unexpectedly: .*SIGSEGV.* while it served (?:GET|POST) /,
            status => 'none',
        },
        'hangs' => {
            how => 'sleep 60 if $path =~ m{^/load};',
            reason => qr/too many requests fail: of the new workers' \d+ requests, \d+ failed/,
            status => 504,
        },
    );
    for my $name (sort keys %broken) {
        my ($how, $reason, $status) = @{ $broken{$name} }{qw(how reason status)};
        for my $preload (1, 0) {
            my $server = start(options => [ '--request-timeout=300ms', '--request-timeout-grace=200ms', $preload ? () : '--no-preload' ]);
            my @old = sort { $a <=> $b } $server->worker_pids;
            my $load = BladePSGI::Test::Load->start($server, clients => 3, go_on => 1,
                broken => sub { my ($answer) = @_; return ($answer->{status} // 0) >= 500 });
            change($server, 2, $how);
            my $run = $server->bladectl('reload');
            my $title = "$name, " . ($preload ? 'preloaded' : '--no-preload');
            is $run->{exit}, 'exit 3', "$title: refused";
            like $run->{err}, $reason, 'bladectl says why';
            like $server->get('/load/after')->{body}, qr/version 1/, 'the old version serves' for 1 .. 8;
            # Where each worker loads, nobody could load the old code any more.
            my $stay = $preload ? 3 : 4;
            ok +(wait_for { my @now = $server->worker_pids; @now == 4 && $stay == grep { my $pid = $_; grep { $_ == $pid } @now } @old }), "$stay old workers all the time, and four in all";
            my $result = $load->stop;
            cmp_ok $result->{ok}, '>', 100, "$result->{ok} requests were answered";
            my @lost = grep { !/not answered by the application|not answered completely|Connection reset|no answer/ } @{ $result->{failures} };
            is_deeply \@lost, [], 'and none failed but those';
            if ($status eq 'none') { cmp_ok scalar(@{ $result->{failures} }), '<=', 1, 'that the crash took with it' }
            else { is scalar(grep { !/not answered by the application/ } @{ $result->{failures} }), 0, 'that the new worker itself answered with an error' }
            like $server->log, qr/ERROR:  overseer\[\d+\]: the reload has failed: .*; generation 1 goes on serving/, 'the log says it';
            like $server->log, $reason, 'and why';
            my $last = status($server)->{reload}{last};
            is $last->{outcome}, 'failed', 'so does status';
            like $last->{reason}, $reason, 'with the reason';
            like $server->bladectl('status')->{out}, qr/^last reload\s+failed at \d{4}-/m, 'for people, too';
            # And one that is good then.
            change($server, 3);
            my $asked = ask($server);
            ask_one_by_one { $asked->is_over } $server, 3000;
            is $asked->outcome->{exit}, 'exit 0', 'a good one is taken';
            is $server->stop, 'exit 0', 'stops';
            is_deeply [ $server->survivors ], [], 'nothing is left';
        }
    }
};

subtest 'a few failures that are usual' => sub {
    my $flaky = 'if ($path =~ m{^/flaky}) { return [503, [], ["not now"]] }';
    my $server = BladePSGI::Test->start(app => app_code(1, $flaky), workers => 4, control => 1, options => [ '--canary=25%', '--canary-requests=60' ]);
    $server->get($_ % 4 ? '/' : '/flaky') for 1 .. 100;
    change($server, 2, $flaky);
    my $asked = ask($server);
    ok wait_trial($server), 'it is tried';
    my $n = 0;
    ok +(wait_for { $server->get(++$n % 4 ? '/' : '/flaky'); $n % 20 == 0 && $asked->is_over }), 'with failures as before';
    is $asked->outcome->{exit}, 'exit 0', 'it is as good';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'nothing to do' => sub {
    my $server = start(options => ['--canary-time=300ms']);
    change($server, 2);
    my $run = $server->bladectl('reload');
    is $run->{exit}, 'exit 0', 'is accepted when the time is over';
    log_like $server, qr/WARNING: .*generation 2 has passed its trial: no request has come to the new workers: nothing is known of them/, 'and the log says that this means nothing';
    is $server->stop, 'exit 0', 'stops';
    $server = start(options => ['--canary-time=3s']);
    change($server, 3, 'die "not this one\n" if $path =~ /x/;');
    my $asked = ask($server);
    ok wait_trial($server), 'another one';
    is $server->get('/x')->{status}, 500, 'has one request, which fails';
    $run = $asked->outcome;
    is $run->{exit}, 'exit 3', 'which is all that it has';
    like $run->{err}, qr/all requests fail: of the new workers' 1 request, 1 failed.*not this one/s, 'as it says';
    like $server->get('/x')->{body}, qr/version 1/, 'the old version serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a single worker' => sub {
    my $server = start(workers => 1, options => [ '--canary=10', '--canary-requests=5' ]);
    my ($old) = $server->worker_pids;
    change($server, 2, 'die "no\n";');
    my $asked = ask($server);
    ok wait_for { (status($server)->{reload}{progress} // '') =~ /\A1 of 1 worker is new/ }, 'another one is tried';
    my $beside = sub { grep { /worker 0\z/ } map { process_title($_) } processes_in($server->folder) };
    is scalar($beside->()), 2, 'beside it';
    my $answers = ask_one_by_one { $asked->is_over } $server, 200;
    cmp_ok $answers->{500}, '>=', 3, 'fails';
    is $asked->outcome->{exit}, 'exit 3', 'is taken back';
    ok +(wait_for { "@{[ $server->worker_pids ]}" eq $old }), 'the old one has been there all the time';
    change($server, 3);
    $asked = ask($server);
    ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 0', 'one that is good is taken';
    ok +(wait_for { my @now = $server->worker_pids; @now == 1 && $now[0] != $old && $beside->() == 1 }), 'and takes its place';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'several' => sub {
    my $server = start(workers => 8, options => [ '--canary=40%', '--reload-step=2' ]);
    change($server, 2);
    my $asked = ask($server);
    ok wait_for { (status($server)->{reload}{progress} // '') =~ /\A3 of 8 workers are new: 0 of 100/ }, 'of eight three are exchanged for 40%';
    is scalar($server->worker_pids), 8, 'and there are eight';
    my $answers = ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 0', 'good';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the only worker of the running generation' => sub {
    my $server = start(workers => 1);
    my ($old) = $server->worker_pids;
    change($server, 2);
    my $asked = ask($server);
    ok wait_for { (status($server)->{reload}{progress} // '') =~ /\A1 of 1 worker is new/ }, 'stays beside the one that is tried';
    my ($new) = grep { $_ != $old } $server->worker_pids;
    kill KILL => $old;
    ok wait_for { my @now = grep { $_ != $old && $_ != $new } $server->worker_pids; @now == 1 }, 'and is replaced when it dies';
    ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 0', 'the new one is good';
    ok wait_for { "@{[ $server->worker_pids ]}" eq $new }, 'and stays alone';
    is $server->stop, 'exit 0', 'stops';
};

# They are told to step back while they serve, too.
subtest 'nobody spins afterwards' => sub {
    my $server = start(workers => 4, options => [ '--canary-requests=20' ]);
    my $load = BladePSGI::Test::Load->start($server, clients => 6, keep => 1, go_on => 1, broken => sub { 1 });
    for my $version (2 .. 6) {
        change($server, $version, 'die "no\n";');
        is $server->bladectl('reload')->{exit}, 'exit 3', 'tried, and refused';
    }
    $load->stop;
    my $ticks = sub {
        my $all = 0;
        for my $pid ($server->worker_pids) { $all += $_ for (split ' ', read_text("/proc/$pid/stat") =~ s/.*\)//r)[11, 12] }
        return $all;
    };
    my $before = $ticks->();
    ok !wait_for(sub { $ticks->() - $before > 30 }, 1), 'workers that have nothing to do use no CPU';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'applications that leave after each request' => sub {
    my $server = start(workers => 4, options => [ '--canary=75%', '--canary-requests=10' ]);
    change($server, 2, '$env->{"psgix.harakiri.commit"} = 1;');
    my $asked = ask($server);
    my $answers = ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 0', 'can be tried, too';
    is_deeply [ grep { !/\A[12]\z/ } keys %$answers ], [], 'nobody has noticed';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'workers that come and go' => sub {
    my $server = BladePSGI::Test->start(app => app_code(1), control => 1, words => [ '--canary=50%', '--canary-requests=20', '--control=control.sock', '--workers=4', '--min-workers=0',
        '--worker-idle-timeout=100ms', '--fastcgi=app.sock', 'app.psgi' ]);
    is scalar($server->worker_pids), 0, 'there is no worker';
    change($server, 2);
    my $asked = ask($server);
    ok wait_for { (status($server)->{reload}{progress} // '') =~ /\A1 of 1 worker is new/ }, 'one is tried';
    ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 0', 'and accepted';
    ok wait_for { !$server->worker_pids }, 'then there is none again';
    like $server->get('/')->{body}, qr/version 2/, 'until somebody asks';
    change($server, 3, 'die "no\n";');
    $asked = ask($server);
    ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 3', 'one that is no good';
    like $server->get('/')->{body}, qr/version 2/, 'is taken back';
    ok wait_for { !$server->worker_pids }, 'and its successor ends, too';
    # The operator wants fewer meanwhile.
    change($server, 4);
    is $server->bladectl('scale', 2)->{exit}, 'exit 0', 'scale';
    $asked = ask($server);
    ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 0', 'reload';
    is $server->stop, 'exit 0', 'stops';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'asked for while one is judged' => sub {
    my $server = start(options => [ '--canary-requests=20' ]);
    change($server, 2, 'die "no\n";');
    my $first = ask($server);
    ok wait_trial($server), 'one is judged';
    change($server, 3);
    my $from = $server->log_size;
    my $second = ask($server);
    ok $server->wait_log(qr/one is under way, another one follows it/, 20, $from), 'asked again';
    ask_one_by_one { $second->is_over } $server;
    is $first->outcome->{exit}, 'exit 3', 'the first one was no good';
    is $second->outcome->{exit}, 'exit 0', 'the second one was';
    like $server->get('/')->{body}, qr/version 3/, 'and serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'processes that die meanwhile' => sub {
    my $server = start();
    change($server, 2);
    my $asked = ask($server);
    ok wait_trial($server), 'one is judged';
    my $from = $server->log_size;
    my ($victim) = reverse $server->worker_pids;
    kill KILL => $victim;
    ok +(wait_for { my @now = $server->worker_pids; @now == 4 && !grep { $_ == $victim } @now }), 'an old worker is replaced';
    my $new = $server->pid_of('zygote 2');
    kill KILL => $new;
    my $run = $asked->outcome;
    is $run->{exit}, 'exit 3', 'without its zygote the new generation is taken back';
    like $run->{err}, qr/zygote \(pid $new\) died unexpectedly/, 'the reason';
    like $server->get('/')->{body}, qr/version 1/, 'the old version serves' for 1 .. 8;
    is scalar($server->worker_pids), 4, 'by all its workers';

    # Without the old zygote it is judged all the same.
    $asked = ask($server);
    ok wait_trial($server), 'another one is judged';
    kill KILL => $server->pid_of('zygote');
    ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 0', 'it is accepted';
    like $server->get('/')->{body}, qr/version 2/, 'and serves' for 1 .. 8;

    # The old zygote dies, and the new generation is no good: nobody makes workers of the old one any more, but those there are serve.
    change($server, 3, 'die "no\n" if $path =~ m{^/x};');
    $asked = ask($server);
    ok wait_trial($server), 'another one is judged';
    kill KILL => $server->pid_of('zygote');
    ok $server->wait_log(qr/the one that is being loaded takes its place/), 'the old zygote dies';
    change($server, 4);
    ask_one_by_one { $asked->is_over } $server, 100;
    is $asked->outcome->{exit}, 'exit 3', 'it is taken back';
    ok +(wait_for { my $answer = $server->get('/x'); $answer->{status} == 200 && $answer->{body} =~ /version 4/ }), 'and what is there then is loaded';
    is $server->stop, 'exit 0', 'stops';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'the whole server stops meanwhile' => sub {
    for my $signal (qw(TERM INT)) {
        my $server = start();
        change($server, 2);
        my $asked = ask($server);
        ok wait_trial($server), 'one is judged';
        is $server->stop($signal), 'exit 0', "stops on SIG$signal";
        my $run = $asked->outcome;
        is $run->{exit}, 'exit 1', 'whoever waits is told';
        like $run->{err}, qr/the server stops/, 'why';
        is_deeply [ $server->survivors ], [], 'nothing is left';
    }
};

subtest 'auxiliary processes' => sub {
    my $loader = sub {
        my ($version, $how) = @_;
        return "package My::Loader; use strict; use warnings;" . <<"PERL";
sub {
    my (\$context) = \@_;
    \$context->request_auxiliary_process('ticker', sub { open my \$f, '>', 'ticker-$version' or die \$!; sleep 1 while 1 });
    return ({}, sub { my (\$env) = \@_; $how return [200, [], ["version $version"]] });
};
PERL
    };
    my $server = BladePSGI::Test->start(app => '1', workers => 2, control => 1, options => [ '--canary=50%', '--canary-requests=10' ], loader => $loader->(1, ''));
    ok wait_for { -e $server->folder . '/ticker-1' }, 'the auxiliary process runs';
    my $ticker = $server->pid_of('ticker');
    my $module = $server->folder . '/lib/My/Loader.pm';
    write_text($module, $loader->(2, 'die "no\n";'));
    my $asked = ask($server);
    ask_one_by_one { $_[0]{500} } $server;
    is $server->pid_of('ticker'), $ticker, 'a trial does not touch it';
    ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 3', 'it is taken back';
    is $server->pid_of('ticker'), $ticker, 'nor does that';
    ok !-e $server->folder . '/ticker-2', 'and there was no other one';
    write_text($module, $loader->(3, ''));
    $asked = ask($server);
    ask_one_by_one { $asked->is_over } $server;
    is $asked->outcome->{exit}, 'exit 0', 'one that is accepted';
    ok wait_for { -e $server->folder . '/ticker-3' }, 'brings its own';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'values' => sub {
    my $refused = sub { run_to_end([ bladepsgi_binary(), @_, 'app.psgi' ])->{err} };
    for my $bad ('101%', '-1', 'x', '%', '10%%', '1.5%', '') {
        like $refused->("--canary=$bad"), qr/option '--canary': .*(?:expected 0% to 100%|is empty)/, "--canary=$bad";
    }
    like $refused->('--canary-requests=0'), qr/option '--canary-requests': bad value '0'; expected 1 to/, 'no requests';
    my $print = run_to_end([ bladepsgi_binary(), '--canary=10', '--print-config', '--http=:1', 'app.psgi' ]);
    like $print->{out}, qr/^--canary='?10%'?$/m, 'with or without the sign';
};

done_testing;
