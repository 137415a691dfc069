# How many workers there are: as the operator says while the server runs, or as requests need them; nothing is lost either way.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Load;
use BladePSGI::Test::Nginx;
use Test::More;

my $load_app = "$FindBin::Bin/../apps/load.psgi";

# Answers with its pid; /gate/NAME waits for that gate.
my $app = BladePSGI::Test->gate_code . <<'PERL';
sub {
    my ($env) = @_;
    if ($env->{PATH_INFO} =~ m{\A/gate/(\w+)}) { mark("in-$1-$$"); gate($1) }
    return [200, ['Content-Type' => 'text/plain'], [$$]];
};
PERL

sub start { my (%o) = @_; return BladePSGI::Test->start(app => $app, control => 1, %o) }

# Numbers of the workers that there are.
sub numbers {
    my ($server) = @_;
    return sort { $a <=> $b } map { m/: worker (\d+)\z/ ? $1 : () } keys %{ $server->processes };
}

sub wait_numbers {
    my ($server, $expected, $name) = @_;
    my @now;
    ok +(wait_for { @now = numbers($server); "@now" eq "@$expected" } 30), $name or diag "workers: @now";
    return;
}

sub workers { my ($server) = @_; return $server->bladectl_result('status')->{workers} }

sub scale {
    my ($server, $number) = @_;
    my $run = $server->bladectl('scale', $number);
    return $run->{exit} eq 'exit 0' ? $run->{out} : "$run->{exit}: $run->{err}";
}

# Requests that wait for a gate, each in a worker of its own.
sub occupy {
    my ($server, $count, $gate) = @_;
    my @connections = map { $server->connect(timeout => 60) } 1 .. $count;
    $_->send(request_bytes(uri => "/gate/$gate")) for @connections;
    return @connections;
}

sub marks { my ($server, $gate) = @_; my @marks = glob $server->folder . "/mark-in-$gate-*[0-9]"; return scalar @marks }

subtest 'bladectl scale' => sub {
    my $server = start(workers => 2, options => ['--max-workers=6']);
    is scale($server, 5), "there are 5 workers now\n", 'more than there were';
    is join(' ', numbers($server)), '0 1 2 3 4', 'the next numbers';
    is length $server->stats->{octets}, 5, 'an octet for each';
    is_deeply [ @{ workers($server) }{qw(configured wanted min max max-possible)} ], [ 2, 5, 5, 5, 6 ], 'status says how many are wanted';
    log_like $server, qr/LOG: .*asked through the control socket by user \d+ \(pid \d+\): 5 workers instead of 2$/m, 'the log says who wanted it';
    log_like $server, qr/LOG: .*there are 5 workers now$/m, 'and that it is done';
    my %served;
    $served{ $server->get('/')->{body} }++ for 1 .. 20;
    my @connections = occupy($server, 5, 'all');
    ok +(wait_for { marks($server, 'all') == 5 }), 'all of them serve';
    is scale($server, 1), "there is 1 worker now; 4 more still finish their requests\n", 'fewer, while all have a request';
    $server->open_gate('all');
    like $_->read_response->{body}, qr/\A\d+\z/, 'which is answered' for @connections;
    wait_numbers($server, [0], 'the first one stays');
    is length $server->stats->{octets}, 2, 'octets: as many as were configured';
    like scale($server, 0), qr/\Aexit 2: bladectl: 0 are fewer than 1, the fewest that there can be\n/, 'none';
    like scale($server, 7), qr/\Aexit 2: bladectl: 7 are more than --max-workers=6 allows\n/, 'too many';
    like scale($server, 'many'), qr/\Aexit 2: .*'many' is no number/, 'nonsense';
    like scale($server, '-1'), qr/\Aexit 2: /, 'or less';
    is scale($server, 3), "there are 3 workers now\n", 'as many as are asked for';
    my ($victim) = $server->pid_of('worker 2');
    kill KILL => $victim;
    ok $server->pid_of('worker 2', $victim), 'one that dies is replaced';
    my $from = $server->log_size;
    like $server->bladectl('reload')->{out}, qr/\Areloaded/, 'a reload';
    ok $server->wait_log(qr/all 3 workers have changed over/, 20, $from), 'with as many as are wanted now';
    is join(' ', numbers($server)), '0 1 2', 'and no others';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'SIGTTIN and SIGTTOU' => sub {
    my $server = start(workers => 1, options => ['--max-workers=2']);
    $server->signal('TTIN');
    wait_numbers($server, [ 0, 1 ], 'one more');
    log_like $server, qr/LOG: .*SIGTTIN from pid $$: 2 workers instead of 1$/m, 'the log has the new number';
    $server->signal('TTIN');
    log_like $server, qr/WARNING: .*SIGTTIN from pid $$ changes nothing: 3 are more than --max-workers=2 allows$/m, 'no more than there may be';
    $server->signal('TTOU');
    wait_numbers($server, [0], 'one fewer');
    log_like $server, qr/LOG: .*SIGTTOU from pid $$: 1 worker instead of 2$/m, 'the log has the new number';
    $server->signal('TTOU');
    log_like $server, qr/WARNING: .*SIGTTOU from pid $$ changes nothing: 0 are fewer than 1, the fewest that there can be$/m, 'never the last one';
    is $server->get('/')->{status}, 200, 'which serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a worker that cannot start' => sub {
    my $server = BladePSGI::Test->start(workers => 1, control => 1, app => <<'PERL');
use BPSGI qw(on_worker_start);
on_worker_start(sub { die "no database\n" if -e 'away' });
sub { [200, [], [$$]] }
PERL
    write_text($server->folder . '/away', '');
    like scale($server, 2), qr/\Aexit 1: bladectl: worker 1 \(pid \d+\) .*, and is tried again\n/, 'is told';
    unlink $server->folder . '/away';
    wait_numbers($server, [ 0, 1 ], 'it is tried again');
    log_like $server, qr/there are 2 workers now/, 'and then there';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'from none to one and back' => sub {
    my $server = start(workers => 8, options => [ '--min-workers=0', '--worker-idle-timeout=300ms', '--health=127.0.0.1:0' ]);
    log_like $server, qr/ready: 0 workers of up to 8, application loaded in /, 'ready without a worker';
    my $from = $server->log_size;
    is_deeply [ numbers($server) ], [], 'there is none';
    is $server->stats->{octets}, '________', 'eight octets all the same';
    my $worker = $server->get('/')->{body};
    is $worker, $server->pid_of('worker 0'), 'the first request has one made';
    is $server->get('/')->{body}, $worker, 'which serves the next one, too';
    wait_numbers($server, [], 'idle for long enough, it goes');
    # A connection is kept while nobody is there.
    my $kept = $server->connect;
    $kept->send(request_bytes(uri => '/', keep => 1));
    my $first = $kept->read_response(1)->{body};
    wait_numbers($server, [], 'its connection is kept without it');
    is workers($server)->{wanted}, 0, 'none is wanted';
    is $server->bladectl_result('status')->{lobby}{held}{idle}, 1, 'it waits in the lobby';
    $kept->send(request_bytes(uri => '/', keep => 1, method => 'POST', body => 'x' x 1000));
    isnt $kept->read_response(1)->{body}, $first, 'what comes on it has another one made';
    unlike substr($server->log, $from), qr/ERROR|WARNING/, 'all of that is normal';
    for (1 .. 5) {
        wait_numbers($server, [], 'nobody is there');
        is $server->get('/')->{status}, 200, 'somebody is';
    }
    is $server->stop, 'exit 0', 'stops';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'a server without workers is healthy' => sub {
    my $server = BladePSGI::Test->prepare(workers => 2, options => ['--min-workers=0']);
    my $health = $server->folder . '/health.sock';
    push @{ $server->{options} }, "--health=$health";
    $server->launch;
    ok $server->wait_ready, 'ready';
    my $run = run_to_end([ bladepsgi_binary(), "--ping=$health" ]);
    is "$run->{exit} $run->{out}", "exit 0 ok: 0 of 0 workers ready\n", 'it says so';
    $server->get('/');
    $run = run_to_end([ bladepsgi_binary(), "--ping=$health" ]);
    is "$run->{exit} $run->{out}", "exit 0 ok: 1 of 1 workers ready\n", 'and so with one';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'as many as wait' => sub {
    my $server = start(workers => 6, options => [ '--min-workers=1', '--worker-idle-timeout=300ms' ]);
    my @connections = occupy($server, 6, 'burst');
    ok +(wait_for { marks($server, 'burst') == 6 }), 'each of six requests has a worker';
    is workers($server)->{wanted}, 6, 'as many as there may be';
    unlike $server->log, qr/workers are busy/, 'which are enough';
    my $seventh = $server->connect(timeout => 60);
    $seventh->send(request_bytes(uri => '/'));
    log_like $server, qr/WARNING: .*all 6 workers are busy and requests wait; see --workers$/m, 'one more is too many';
    is workers($server)->{'max-reached'}, 1, 'which is counted';
    is_deeply [ numbers($server) ], [ 0 .. 5 ], 'there are no others';
    $server->open_gate('burst');
    like $_->read_response->{body}, qr/\A\d+\z/, 'answered' for @connections, $seventh;
    my $oldest = $server->pid_of('worker 0');
    wait_numbers($server, [0], 'one by one they go');
    is $server->pid_of('worker 0'), $oldest, 'the oldest stays';
    is scalar(() = $server->log =~ /workers are busy/g), 1, 'it was said once';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'requests on kept connections, too' => sub {
    my $server = start(workers => 4, options => ['--min-workers=1']);
    my @kept = map { $server->connect(timeout => 60) } 1 .. 4;
    for my $one (@kept) {
        $one->send(request_bytes(uri => '/', keep => 1));
        $one->read_response(1);
    }
    # At most one is with a worker: the others come through the ready queue.
    $_->send(request_bytes(uri => '/gate/kept', keep => 1)) for @kept;
    ok +(wait_for { marks($server, 'kept') == 4 }), 'each has a worker';
    $server->open_gate('kept');
    like $_->read_response(1)->{body}, qr/\A\d+\z/, 'answered' for @kept;
    is $server->stop, 'exit 0', 'stops';
};

subtest 'short requests need no others' => sub {
    my $server = BladePSGI::Test->start(app => 'sub { [200, [], [$$]] }', workers => 8, control => 1, options => ['--min-workers=1']);
    $server->get('/') for 1 .. 300;
    # On a machine that is busy, a worker that has to wait for its turn looks slow.
    cmp_ok workers($server)->{wanted}, '<=', 3, 'one after the other: not many workers';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'spare ones' => sub {
    my $server = start(workers => 6, options => [ '--min-workers=1', '--min-spare=2', '--max-spare=3', '--worker-idle-timeout=1h' ]);
    wait_numbers($server, [ 0, 1 ], 'as many as shall be idle');
    my @connections = occupy($server, 2, 'some');
    ok +(wait_for { marks($server, 'some') == 2 }), 'both are busy';
    wait_numbers($server, [ 0 .. 3 ], 'others are there before anybody waits for them');
    push @connections, occupy($server, 2, 'more');
    wait_numbers($server, [ 0 .. 5 ], 'and again, up to the most');
    $server->open_gate($_) for qw(some more);
    $_->read_response for @connections;
    wait_numbers($server, [ 0 .. 2 ], 'when they are too many, they go without the time-out');
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the most that there may be, while it runs' => sub {
    my $server = start(workers => 2, options => [ '--min-workers=1', '--worker-idle-timeout=300ms', '--max-workers=5' ]);
    is scale($server, 4), "there are at most 4 workers now\n", 'more';
    is join(' ', numbers($server)), '0', 'if they are needed';
    is length $server->stats->{octets}, 4, 'octets for all of them';
    my @connections = occupy($server, 4, 'four');
    ok +(wait_for { marks($server, 'four') == 4 }), 'which they are';
    is scale($server, 2), "there are at most 2 workers now; 2 more still finish their requests\n", 'fewer';
    $server->open_gate('four');
    like $_->read_response->{body}, qr/\A\d+\z/, 'answered' for @connections;
    wait_numbers($server, [0], 'back to the least');
    is $server->stop, 'exit 0', 'stops';
    $server = start(workers => 4, options => ['--min-workers=2']);
    like scale($server, 1), qr/\Aexit 2: bladectl: 1 is fewer than --min-workers=2\n/, 'not below the least';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'workers that die' => sub {
    my $server = start(workers => 3, options => [ '--min-workers=1', '--worker-idle-timeout=1h' ]);
    my @connections = occupy($server, 3, 'three');
    ok +(wait_for { marks($server, 'three') == 3 }), 'three are there';
    $server->open_gate('three');
    $_->read_response for @connections;
    ok +(wait_for { 3 == grep { $_->{state} eq 'idle' && $_->{requests} } @{ $server->bladectl_result('workers') } }), 'they have served';
    my $victim = $server->pid_of('worker 2');
    kill KILL => $victim;
    log_like $server, qr/ERROR: .*worker 2 \(pid $victim\) died unexpectedly: .*; a new one is started when it is needed$/m, 'one above the least is not replaced';
    wait_numbers($server, [ 0, 1 ], 'there are two');
    $victim = $server->pid_of('worker 1');
    kill KILL => $victim;
    log_like $server, qr/worker 1 \(pid $victim\) died unexpectedly: .*; a new one is started when it is needed$/m, 'nor is the next one';
    wait_numbers($server, [0], 'there is one');
    $victim = $server->pid_of('worker 0');
    kill KILL => $victim;
    ok $server->pid_of('worker 0', $victim), 'the last one is replaced at once';
    is $server->get('/')->{status}, 200, 'serves';
    is $server->stop, 'exit 0', 'stops';

    # Whoever waits when the only worker dies.
    $server = start(workers => 2, options => [ '--min-workers=0', '--worker-idle-timeout=1h' ]);
    my @first = occupy($server, 2, 'first');
    ok +(wait_for { marks($server, 'first') == 2 }), 'both are busy';
    my $waits = $server->connect(timeout => 60);
    $waits->send(request_bytes(uri => '/'));
    kill KILL => $server->worker_pids;
    like $waits->read_response->{body}, qr/\A\d+\z/, 'is served by a new one';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'workers that die while others come and go' => sub {
    my $server = start(workers => 3, options => ['--max-workers=8']);
    for my $n (1 .. 10) {
        my $wanted = (6, 2, 8, 1, 4)[ $n % 5 ];
        my @workers = $server->worker_pids;
        kill KILL => $workers[ $n % @workers ];
        like scale($server, $wanted), qr/\Athere |and is tried again/, "a worker is killed, and there shall be $wanted";
        wait_numbers($server, [ 0 .. $wanted - 1 ], 'there are');
        is $server->get('/')->{status}, 200, 'which serve';
    }
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a reload without workers' => sub {
    my $server = BladePSGI::Test->start(workers => 4, app => q{sub { [200, [], ['version 1']] }}, control => 1, options => [ '--min-workers=0', '--worker-idle-timeout=300ms' ]);
    is_deeply [ numbers($server) ], [], 'there is none';
    write_text($server->folder . '/app.psgi', 'my $x = ;');
    is $server->bladectl('reload')->{exit}, 'exit 3', 'code that does not load';
    is $server->get('/')->{body}, 'version 1', 'the running one serves';
    wait_numbers($server, [], 'none again');
    write_text($server->folder . '/app.psgi', q{sub { [200, [], ['version 2']] }});
    is $server->bladectl('reload')->{out}, "reloaded: generation 3 serves\n", 'code that is good';
    is $server->get('/')->{body}, 'version 2', 'serves';
    wait_numbers($server, [], 'and goes');
    my $zygote = $server->pid_of('zygote');
    my $from = $server->log_size;
    kill KILL => $zygote;
    ok $server->wait_log(qr/changed over/, 20, $from), 'a zygote that dies is replaced';
    is $server->get('/')->{body}, 'version 2', 'serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'without preloading' => sub {
    my $server = start(workers => 3, options => [ '--no-preload', '--min-workers=0', '--worker-idle-timeout=300ms' ]);
    wait_numbers($server, [], 'one has shown that it loads, and gone');
    like $server->get('/')->{body}, qr/\A\d+\z/, 'a request has one loaded';
    my @connections = occupy($server, 3, 'three');
    ok +(wait_for { marks($server, 'three') == 3 }), 'and others';
    $server->open_gate('three');
    $_->read_response for @connections;
    wait_numbers($server, [], 'they go');
    is $server->stop, 'exit 0', 'stops';
};

subtest 'without a lobby' => sub {
    my $server = start(workers => 3, options => [ '--lobby-connections=0', '--min-workers=1', '--head-timeout=60s' ]);
    # A worker waits for the rest of each of these.
    my @half = map { $server->connect } 1 .. 2;
    $_->send(substr request_bytes(uri => '/'), 0, 20) for @half;
    is $server->get('/')->{status}, 200, 'workers that only seem to be idle are not counted on';
    $_->close for @half;
    is $server->stop, 'exit 0', 'stops';
};

subtest 'what contradicts itself' => sub {
    my @cases = (
        [ '--workers=4 --min-workers=5', qr/--min-workers=5 is more than --workers=4/ ],
        [ '--workers=4 --min-spare=1', qr/--min-spare=1 means nothing unless --min-workers is less than --workers=4/ ],
        [ '--workers=4 --max-spare=1', qr/--max-spare=1 means nothing unless --min-workers is less than --workers=4/ ],
        [ '--workers=4 --min-workers=1 --min-spare=5', qr/--min-spare=5 is more than --workers=4/ ],
        [ '--workers=4 --min-workers=1 --min-spare=3 --max-spare=2', qr/--max-spare=2 is less than --min-spare=3/ ],
        [ '--workers=4 --max-workers=3', qr/--max-workers=3 is less than --workers=4/ ],
    );
    for my $case (@cases) {
        my ($words, $message) = @$case;
        my $run = run_to_end([ bladepsgi_binary(), split(/ /, $words), '--http=127.0.0.1:0', 'app.psgi' ]);
        is $run->{exit}, 'exit 2', "$words: refused";
        like $run->{err}, $message, 'with both options';
    }
};

# [name, options of the server, sub that changes the number the n-th time]
my @ways = (
    [ 'by bladectl', [], sub {
        my ($server, $n) = @_;
        my $number = (3, 6, 1, 4, 2)[ $n % 5 ];
        like scale($server, $number), qr/\Athere /, "change $n: $number";
    } ],
    [ 'by signals', [], sub {
        my ($server, $n) = @_;
        my $from = $server->log_size;
        $server->signal($n % 10 < 5 ? 'TTIN' : 'TTOU');
        ok $server->wait_log(qr/there (?:is|are) \d workers? now/, 30, $from), "change $n";
    } ],
    [ 'as needed', [ '--min-workers=0', '--worker-idle-timeout=20ms' ], sub {
        my ($server, $n) = @_;
        my $before = $server->stats->{requests};
        ok +(wait_for { $server->stats->{requests} > $before + 30 }), "look $n: requests go on";
    } ],
);

subtest 'under load' => sub {
    my $times = is_long() ? 50 : 6;
    for my $way (@ways) {
        my ($name, $options, $change) = @$way;
        for my $kind (qw(fresh kept nginx)) {
            my $server = BladePSGI::Test->start(app_file => $load_app, workers => 2, control => 1, options => [ '--max-workers=8', @$options ]);
            my $nginx = $kind eq 'nginx' ? BladePSGI::Test::Nginx->start(socket => $server->socket, keep_conn => 'on') : undef;
            my $load = BladePSGI::Test::Load->start($server,
                clients => 5, timeout => 60, keep => $kind eq 'fresh' ? 0 : 1,
                $nginx ? (connect => sub { BladePSGI::Test::HTTP->connect('127.0.0.1:' . $nginx->port, timeout => 60) }, broken => sub { ($_[0]{status} // 0) >= 500 }) : (),
            );
            for my $n (1 .. $times) {
                my $before = $server->stats->{requests};
                $change->($server, $n);
                ok +(wait_for { $server->stats->{requests} > $before + 10 }), 'requests go on';
            }
            my $result = $load->stop;
            cmp_ok $result->{ok}, '>', 10 * $times, "$name, $kind: $result->{ok} requests answered";
            is_deeply $result->{failures}, [], 'none was lost';
            is $result->{retried}, 0, 'none had to be sent again' unless $nginx;
            $nginx->stop if $nginx;
            is $server->stop, 'exit 0', 'stops';
        }
    }
};

done_testing;
