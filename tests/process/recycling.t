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
