# The compatibility contract, section 5: the statistics socket.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use IO::Socket::UNIX;
use Test::More;

my $before = time;
my $server = BladePSGI::Test->start(
    workers => 3,
    loader  => BladePSGI::Test->gate_code . <<'PERL',
package My::Loader;
sub {
    my ($context) = @_;
    my $second = $context->new_atomic_int64('zz second', -5);
    my $lock   = $context->new_semaphore('lock', 4);
    my $first  = $context->new_atomic_int64('aa first', 12345678901234);
    my $other  = $context->new_semaphore('another lock', 1);
    return ({}, sub {
        my ($env) = @_;
        if ($env->{PATH_INFO} =~ m{\A/busy/(\w)}) {
            $context->set_worker_status($1) if $1 ne 'n';
            main::mark("busy-$1", $$);
            main::gate("go-$1");
        }
        kill KILL => $$ if $env->{PATH_INFO} eq '/kill';
        return [200, [], [$$]];
    });
};
PERL
);
my $after = time;

my @lines = split /\n/, $server->stats_text, -1;
like $lines[0], qr/\A\d+\z/, 'line 1: start time';
cmp_ok $lines[0], '>=', $before, 'in seconds since the epoch';
cmp_ok $lines[0], '<=', $after,  'taken when loading is done';
is $lines[1], '___', 'line 2: an octet for each worker, _ while it waits';
is $lines[2], 0, 'line 3: requests served since start';
is $lines[3], '', 'line 4 is empty';
is_deeply [ @lines[ 4 .. $#lines ] ],
    [ 'sem lock: 4', 'sem another lock: 1', 'atomic zz second: -5', 'atomic aa first: 12345678901234', '' ],
    'then semaphores and atomics, each in order of creation, and nothing else'
    or diag $server->stats_text;

$server->get('/') for 1 .. 5;
ok wait_for { $server->stats->{requests} == 5 }, 'requests are counted';

{
    my $r = $server->connect;
    $r->send(request_bytes(uri => '/busy/R'));
    $server->wait_mark('busy-R');
    my $n = $server->connect;
    $n->send(request_bytes(uri => '/busy/n'));
    $server->wait_mark('busy-n');
    my $octets = $server->stats->{octets};
    is join('', sort split //, $octets), 'R__', 'a worker shows what the application set; one that set nothing shows _';
    my $processes = $server->processes;
    my $number = index $octets, 'R';
    is $processes->{"Blade: worker $number"}, read_text($server->folder . '/mark-busy-R'), 'octets are in worker order';
    is $server->stats->{requests}, 5, 'a request that is running is not counted yet';
    $server->open_gate("go-$_") for qw(R n);
    $_->read_response for $r, $n;
    ok wait_for { $server->stats->{octets} eq '___' }, '_ again when they wait';
    ok wait_for { $server->stats->{requests} == 7 }, 'and counted';
}

{
    my @idle = map { IO::Socket::UNIX->new(Peer => $server->stats_path) or die $! } 1 .. 20;
    ok within(5, sub { like $server->stats_text, qr/\A\d+\n/, 'answered' }),
        'clients that connect and do not read delay nobody';
    my @lines = split /\n/, $server->stats_text;
    is $lines[1], '___', 'and the text is right';
}

{
    my $slow = IO::Socket::UNIX->new(Peer => $server->stats_path);
    my $text = '';
    while (sysread $slow, my $byte, 1) { $text .= $byte }
    is $text, $server->stats_text, 'a client that reads byte by byte gets all of it';
}

{
    my $start = $server->stats->{start};
    kill KILL => $server->pid_of('worker 0');
    $server->get('/kill');
    ok wait_for { $server->worker_pids == 3 }, 'workers that died are replaced';
    ok wait_for { $server->stats->{octets} eq '___' }, 'the string keeps its length';
    my $monitoring = $server->pid_of('monitoring');
    my $requests = $server->stats->{requests};
    kill KILL => $monitoring;
    ok $server->pid_of('monitoring', $monitoring), 'monitoring is replaced';
    my $stats = wait_for { my $s = $server->stats; $s->{start} && $s };
    is $stats->{start}, $start, 'the start time survives a restart of monitoring';
    is $stats->{requests}, $requests, 'and so do the numbers';
    is_deeply $stats->{order}, [ 'sem lock', 'sem another lock', 'atomic zz second', 'atomic aa first' ],
        'and the order of objects';
}

is $server->stop, 'exit 0', 'stops';

subtest 'the start time is taken when loading is done' => sub {
    my $server = BladePSGI::Test->start(
        workers => 1,
        ready   => 0,
        app     => BladePSGI::Test->gate_code . 'mark("loading"); gate("load"); sub { [200, [], ["ok"]] }',
    );
    ok $server->wait_mark('loading'), 'it is loading';
    my $began = time;
    ok wait_for { time > $began + 1 }, 'for a while';
    $server->open_gate('load');
    ok $server->wait_ready, 'then it is ready';
    cmp_ok $server->stats->{start}, '>', $began, 'the start time is a later one';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a large text reaches slow clients whole, and delays nobody' => sub {
    my $server = BladePSGI::Test->start(
        workers => 300,
        loader  => <<'PERL',
package My::Loader;
sub {
    my ($context) = @_;
    $context->new_atomic_int64(('n' x 200) . $_, $_) for 1 .. 3000;
    return ({}, sub { [200, [], ['ok']] });
};
PERL
    );
    my $slow = IO::Socket::UNIX->new(Peer => $server->stats_path);
    sysread $slow, my $first, 10;
    ok within(5, sub { like $server->stats_text, qr/\A\d+\n_{300}\n/, 'answered' }), 'another client is answered at once';
    my $text = $first;
    while (sysread $slow, $text, 1000, length $text) { }
    is scalar(() = $text =~ /^atomic /mg), 3000, 'the slow one gets every line';
    is $server->stop('TERM', 60), 'exit 0', 'stops';
};

done_testing;
