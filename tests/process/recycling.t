# --max-requests, --max-lifetime, --max-memory: a worker is replaced when it has served its time, and nobody notices.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::Load;
use Test::More;

my $load_app = "$FindBin::Bin/../apps/load.psgi";

subtest 'requests' => sub {
    for my $keep (0, 1) {
        my $server = BladePSGI::Test->start(app_file => $load_app, workers => 4, options => ['--max-requests=50']);
        my %before = map { $_ => 1 } $server->worker_pids;
        my $load = BladePSGI::Test::Load->start($server, clients => 3, keep => $keep);
        my %seen;
        my $most = 0;
        ok +(wait_for { my @now = $server->worker_pids; $seen{$_} = 1 for @now; $most = @now if @now > $most; keys %seen >= 16 } 60), "keep $keep: workers are replaced again and again";
        my $result = $load->stop;
        is_deeply $result->{failures}, [], "every one of $result->{ok} requests was answered";
        cmp_ok $most, '<=', 6, 'a few at once';
        log_like $server, qr/LOG: .*worker \d \(pid \d+\) has served its share of requests \(--max-requests\); it serves until its replacement is ready$/m, 'the log says why';
        unlike $server->log, qr/died unexpectedly/, 'it is no crash';
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'all at once' => sub {
    my $server = BladePSGI::Test->start(workers => 8, options => ['--max-requests=1'], app => BladePSGI::Test->gate_code . <<'PERL');
use BPSGI qw(on_worker_start);
on_worker_start(sub { gate('start') if -e 'hold' });
sub { mark("in-$$"); gate('answer'); [200, [], [$$]] }
PERL
    my %old = map { $_ => 1 } $server->worker_pids;
    write_text($server->folder . '/hold', '');
    my @c = map { $server->connect } 1 .. 8;
    $_->send(request_bytes(uri => '/')) for @c;
    ok $server->wait_mark("in-$_"), 'each worker has one' for keys %old;
    $server->open_gate('answer');
    my %served = map { $_->read_response->{body} => 1 } @c;
    is scalar(keys %served), 8, 'all workers have served their time';
    ok $server->wait_log(qr/(?:.*has served its share.*\n(?:.*\n)*?){2}/), 'two are replaced';
    is $server->get('/')->{status}, 200, 'they serve meanwhile';
    is scalar(() = $server->log =~ /has served its share/g), 2, 'and no others';
    $server->open_gate('start');
    ok +(wait_for { !grep { $old{$_} } $server->worker_pids } 60), 'then all of them, two by two';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'one that still serves keeps no others from it' => sub {
    my $server = BladePSGI::Test->start(workers => 4, control => 1, app => BladePSGI::Test->gate_code . <<'PERL');
sub { my ($env) = @_; if ($env->{PATH_INFO} eq '/long') { mark('long'); gate('long') } [200, [], [$$]] }
PERL
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/long'));
    ok $server->wait_mark('long'), 'a long request';
    my %before = map { $_ => 1 } $server->worker_pids;
    my $all = $server->bladectl_later('recycle');
    ok +(wait_for { 1 >= grep { $before{$_} } $server->worker_pids }), 'all others are replaced';
    ok !$all->is_over, 'it is waited for';
    $server->open_gate('long');
    ok $before{ $c->read_response->{body} }, 'it is served to its end';
    is $all->outcome->{exit}, 'exit 0', 'then all of them have been';
    is $server->stop, 'exit 0', 'stops';
};

subtest '--recycle-share' => sub {
    my $server = BladePSGI::Test->start(workers => 4, control => 1, options => ['--recycle-share=75%'], app => BladePSGI::Test->gate_code . <<'PERL');
use BPSGI qw(on_worker_start);
on_worker_start(sub { mark("begun-$$"); gate('start') if -e 'hold' });
sub { [200, [], [$$]] }
PERL
    my %old = map { $_ => 1 } $server->worker_pids;
    write_text($server->folder . '/hold', '');
    my $begun = sub { scalar grep { !$old{$_} } map { m/begun-(\d+)\z/ } glob $server->folder . '/mark-begun-*' };
    my $asked = $server->bladectl_later('recycle');
    ok +(wait_for { $begun->() == 3 }), 'three of four are being replaced';
    is scalar(() = $server->log =~ /is to be replaced; it serves until its replacement is ready/g), 3, 'and no more';
    is $server->get('/')->{status}, 200, 'they serve meanwhile';
    $server->open_gate('start');
    my $run = $asked->outcome;
    is $run->{exit}, 'exit 0', 'all are replaced';
    is $begun->(), 4, 'one by one';
    is $server->stop, 'exit 0', 'stops';
    like run_to_end([ bladepsgi_binary(), '--recycle-share=0%', '--http=:1', 'app.psgi' ])->{err}, qr/option '--recycle-share': bad value '0%'; expected 1% to 100%/, 'a share of nothing';
};

subtest 'bladectl recycle' => sub {
    my $server = BladePSGI::Test->start(app_file => $load_app, workers => 4, control => 1);
    my $load = BladePSGI::Test::Load->start($server, clients => 3, keep => 1);
    my %old = map { $_ => $server->pid_of("worker $_") } 0 .. 3;
    my $run = $server->bladectl('recycle', 2);
    is $run->{exit}, 'exit 0', 'one worker';
    is $run->{out}, "1 of 1 worker replaced\n", 'bladectl says that it is done';
    my %now = map { $_ => $server->pid_of("worker $_") } 0 .. 3;
    is_deeply [ grep { $now{$_} != $old{$_} } 0 .. 3 ], [2], 'and it is, no other one';
    ok !-d "/proc/$old{2}", 'the old one has gone';
    $run = $server->bladectl('recycle');
    is $run->{exit}, 'exit 0', 'all workers';
    is $run->{out}, "4 of 4 workers replaced\n", 'done';
    like $run->{err}, qr/1 of 4 workers replaced/, 'with what goes on meanwhile';
    ok !-d "/proc/$now{$_}", "worker $_ is another one" for 0 .. 3;
    my $result = $load->stop;
    is_deeply $result->{failures}, [], "every one of $result->{ok} requests was answered";
    log_like $server, qr/LOG: .*asked through the control socket by user \d+ \(pid \d+\) to replace worker 2\n.*worker 2 \(pid @{[ $old{2} ]}\) is to be replaced; it serves until its replacement is ready/, 'the log says who and what';
    for my $bad ([ 4 => qr/there is no worker 4 that serves/, 1 ], [ 'x', qr/'x' is no number/, 2 ], [ 99999, qr/worker.*99999|99999.*worker|65535/, 2 ]) {
        my $refused = $server->bladectl('recycle', $bad->[0]);
        is $refused->{exit}, "exit $bad->[2]", "recycle $bad->[0]";
        like $refused->{err}, $bad->[1], 'says why not';
    }
    is $server->stop, 'exit 0', 'stops';
};

subtest 'bladectl recycle when it cannot be, or something else is under way' => sub {
    my $server = BladePSGI::Test->start(workers => 2, control => 1, app => BladePSGI::Test->gate_code . <<'PERL');
use BPSGI qw(on_worker_start);
BEGIN { if (-e 'hold') { mark('loading'); gate('load') } }
on_worker_start(sub { die "no database\n" if -e 'away' });
sub { my ($env) = @_; if ($env->{PATH_INFO} eq '/slow') { mark('slow'); gate('slow') } [200, [], [$$]] }
PERL
    my @old = $server->worker_pids;
    write_text($server->folder . '/away', '');
    my $run = $server->bladectl('recycle', 1);
    is $run->{exit}, 'exit 1', 'a replacement that cannot start';
    like $run->{err}, qr/worker 1 serves on, its replacement could not start: a hook of on_worker_start died: no database/, 'is said';
    is $server->get('/')->{status}, 200, 'the old ones serve';
    unlink $server->folder . '/away';
    ok +(wait_for { my @now = $server->worker_pids; @now == 2 && !grep { $_ == $old[1] } @now }), 'and is tried again until it can';

    # Behind a reload.
    write_text($server->folder . '/hold', '');
    my $reload = $server->bladectl_later('reload');
    ok $server->wait_mark('loading'), 'a reload is under way';
    my $recycle = $server->bladectl_later('recycle');
    ok $server->wait_log(qr/to replace all workers: that follows what is under way/), 'recycling waits';
    ok !$recycle->is_over, 'for it';
    $server->open_gate('load');
    is $reload->outcome->{exit}, 'exit 0', 'the reload is done';
    is $recycle->outcome->{exit}, 'exit 0', 'and with it every worker is another one';
    # And one that comes to nothing.
    my @before = $server->worker_pids;
    unlink $server->folder . "/$_" for qw(gate-load mark-loading);
    write_text($server->folder . '/app.psgi', BladePSGI::Test->gate_code . "BEGIN { mark('loading'); gate('load') } die qq{no\n};");
    $reload = $server->bladectl_later('reload');
    ok $server->wait_mark('loading'), 'another reload';
    $recycle = $server->bladectl_later('recycle');
    ok $server->wait_log(qr/to replace all workers: that follows what is under way.*to replace all workers: that follows what is under way/s), 'recycling waits again';
    $server->open_gate('load');
    is $reload->outcome->{exit}, 'exit 3', 'the reload has failed';
    is $recycle->outcome->{exit}, 'exit 0', 'the workers are replaced all the same';
    my @now = $server->worker_pids;
    is scalar(grep { my $pid = $_; grep { $_ == $pid } @before } @now), 0, 'each of them';

    # A request is completed first; and whoever waits is told when the server stops.
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/slow'));
    ok $server->wait_mark('slow'), 'a request is under way';
    my $from = $server->log_size;
    $recycle = $server->bladectl_later('recycle');
    ok $server->wait_log(qr/is to be replaced/, 20, $from), 'its worker is replaced';
    $server->signal('TERM');
    $run = $recycle->outcome;
    is $run->{exit}, 'exit 1', 'the server stops first';
    like $run->{err}, qr/the server stops/, 'as is said';
    $server->open_gate('slow');
    is $c->read_response->{status}, 200, 'the request was completed';
    is $server->wait_exit, 'exit 0', 'stops';
};

subtest 'lifetime, also of who has nothing to do' => sub {
    my $server = BladePSGI::Test->start(workers => 1, options => ['--max-lifetime=300ms']);
    my ($worker) = $server->worker_pids;
    ok $server->pid_of('worker 0', $worker), 'a worker is replaced';
    log_like $server, qr/worker 0 \(pid $worker\) has lived for its time \(--max-lifetime\)/, 'the log says why';
    is $server->get('/')->{body}, "ok\n", 'requests are served';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'memory' => sub {
    plan skip_all => 'sanitizers take it' if is_sanitized();
    my $server = BladePSGI::Test->start(workers => 1, options => ['--max-memory=64M'],
        app => 'our @kept; sub { push @kept, "x" x 100_000_000 if $_[0]{PATH_INFO} eq "/grow"; [200, [], [$$]] }');
    my $worker = $server->get('/')->{body};
    is $server->get('/')->{body}, $worker, 'one that is small stays';
    is $server->get('/grow')->{body}, $worker, 'one that has grown';
    ok wait_for { my $now = $server->get("/")->{body}; $now != $worker }, 'is replaced';
    log_like $server, qr/worker 0 \(pid $worker\) has taken more memory than it may \(--max-memory\)/, 'the log says why';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a replacement that does not come' => sub {
    my $server = BladePSGI::Test->start(workers => 1, options => ['--max-requests=5'], app => <<'PERL');
use BPSGI qw(on_worker_start);
on_worker_start(sub { die "no database\n" if -e 'away' });
sub { [200, [], [$$]] }
PERL
    my $worker = $server->get('/')->{body};
    write_text($server->folder . '/away', '');
    is $server->get('/')->{body}, $worker, 'the old one serves' for 1 .. 10;
    ok $server->wait_log(qr/on_worker_start died: no database.*\n(?:.*\n)*?.*on_worker_start died: no database/), 'while it is tried again and again';
    is $server->get('/')->{body}, $worker, 'the old one serves';
    unlink $server->folder . '/away';
    ok +(wait_for { my $now = $server->get("/")->{body}; $now != $worker } 60), 'until there is one';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
