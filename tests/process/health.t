# --health: whether requests would be answered, without asking a worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use IO::Socket::UNIX;
use Test::More;

my $server = BladePSGI::Test->prepare(workers => 1, app => BladePSGI::Test->gate_code . <<'PERL');
sub { if ($_[0]{PATH_INFO} eq '/busy') { mark('busy'); gate('go') } [200, [], [$$]] }
PERL
our $path = $server->folder . '/health.sock';
push @{ $server->{options} }, "--health=$path";
$server->launch->wait_ready or die 'not ready';

# The whole response.
sub health {
    my $socket = IO::Socket::UNIX->new(Peer => $path) or return '';
    print {$socket} "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    my $text = '';
    wait_for { my $n = sysread $socket, $text, 4096, length $text; !$n };
    return $text;
}

like health(), qr{\AHTTP/1\.1 200 OK\r\n.*\r\n\r\n1 of 1 workers ready\n\z}s, 'a worker is ready';

my $c = $server->connect;
$c->send(request_bytes(uri => '/busy'));
ok $server->wait_mark('busy'), 'it is busy';
like health(), qr{\AHTTP/1\.1 200 }, 'still healthy, and answered at once';
$server->open_gate('go');
$c->read_response;

{
    my $stopping = BladePSGI::Test->prepare(workers => 1, app => BladePSGI::Test->gate_code . <<'PERL');
sub { mark('busy'); gate('go'); [200, [], ['served to the end']] }
PERL
    local $path = $stopping->folder . '/health.sock';
    push @{ $stopping->{options} }, "--health=$path";
    $stopping->launch->wait_ready or die 'not ready';
    my $last = $stopping->connect;
    $last->send(request_bytes);
    $stopping->wait_mark('busy');
    kill TERM => $stopping->pid;
    my $is_ill = wait_for { health() =~ m{\AHTTP/1\.1 503 .*\r\n\r\n0 of 1 workers ready\n\z}s } 5;
    ok $is_ill, 'a server that is told to stop is healthy no longer';
    $stopping->open_gate('go');
    is $last->read_response->{body}, 'served to the end', 'what it has begun it still serves';
    is $stopping->wait_exit, 'exit 0', 'and then it has gone';
}

write_text($server->folder . '/app.psgi', 'die "broken now\n";');
my ($worker) = $server->worker_pids;
my $zygote = $server->pid_of('zygote');
kill KILL => $zygote;
log_like $server, qr/the application could not be loaded again: .*broken now/, 'the application does not load any more';
kill KILL => $worker;
ok wait_for { health() =~ m{\AHTTP/1\.1 503 .*\r\n\r\n0 of 1 workers ready\n\z}s }, 'no worker: ill';
my $monitoring = $server->pid_of('monitoring');
kill KILL => $monitoring;
ok $server->pid_of('monitoring', $monitoring), 'monitoring is replaced';
like health(), qr{\AHTTP/1\.1 503 }, 'and answers as before';

is $server->stop, 'exit 0', 'stops';
ok !-e $path, 'the socket is gone';
done_testing;
