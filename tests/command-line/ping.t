# --ping: asks an address of --health, for the health checks of containers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use File::Copy ();
use IO::Socket::INET;
use IO::Socket::UNIX;
use Test::More;

my $binary = bladepsgi_binary();

sub ping {
    my ($address, @more) = @_;
    return run_to_end([ $binary, "--ping=$address", @more ]);
}

# It says this on standard error, in one line, and that it is not well by its exit code.
sub ill {
    my ($address, $pattern, $name) = @_;
    my $run = ping($address);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $run->{exit}, 'exit 1', "$name: exit code 1";
    is $run->{out}, '', 'nothing on standard output';
    like $run->{err}, qr/\Abladepsgi: [^\n]*$pattern[^\n]*\n\z/, 'one line says what it is';
    return;
}

# In a process of its own somebody listens at the path and does this with each connection.
my @peers;
sub peer {
    my ($path, $answer) = @_;
    my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 5) or die "$path: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        BladePSGI::Test::die_with_the_test();
        $SIG{PIPE} = 'IGNORE';
        while (my $socket = $listener->accept) { $answer->($socket) }
        POSIX::_exit(0);
    }
    push @peers, $pid;
    return $path;
}

my $port = free_port();
my $server = BladePSGI::Test->prepare(workers => 1, app => BladePSGI::Test->gate_code . <<'PERL');
sub { if ($_[0]{PATH_INFO} eq '/busy') { mark('busy'); gate('go') } [200, [], ["1 of 1 workers ready"]] }
PERL
my $folder = $server->folder;
my $health = "$folder/health.sock";
push @{ $server->{options} }, "--health=$health", "--health=:$port", '--http=127.0.0.1:0';
$server->launch->wait_ready or die 'not ready';

for my $address ($health, "unix:$health", "127.0.0.1:$port", "localhost:$port", ":$port", "*:$port", $port) {
    my $run = ping($address);
    is $run->{exit}, 'exit 0', "$address: exit code 0";
    is $run->{out}, "ok: 1 of 1 workers ready\n", 'a line says how it is';
    is $run->{err}, '', 'and nothing else';
}
is run_to_end([ $binary =~ s{[^/]+\z}{bladepsgi-fcgi}r, '--ping', $health ], env => { FCGI_LISTEN_QUEUE => 'x' })->{out},
    "ok: 1 of 1 workers ready\n", 'the same under the other name, whatever the environment says about starting';

subtest 'another socket of the server' => sub {
    ill($server->socket, qr/closes the connection without a word, as a FastCGI socket does; --ping asks an address of --health/, 'FastCGI');
    ill($server->url =~ m{//([^/]+)/}, qr/answers in HTTP, with status 200, but not about health/, 'HTTP');
    ill($server->stats_path, qr/is the statistics socket of a server/, 'statistics');
};

subtest 'somebody else' => sub {
    ill(peer("$folder/garbage.sock", sub { print { $_[0] } "\0\1garbage\nmore\n" }), qr/answers '\\x00\\x01garbage\\x0amore\\x0a', which is not HTTP/, 'garbage');
    ill(peer("$folder/flood.sock", sub { print { $_[0] } 'x' x 1_000_000 }), qr/answers 'x+…', which is not HTTP/, 'far too much');
    ill(peer("$folder/half.sock", sub { print { $_[0] } "HTTP/1.1 200 OK\r\n\r\n1 of 1 work" }), qr/with status 200, but not about health/, 'an answer that breaks off');
    my @held;
    ill(peer("$folder/silent.sock", sub { push @held, $_[0] }), qr/no answer from '\S+silent\.sock' within 5 s: it takes the connection and says nothing/, 'silence');
    ill(
        peer("$folder/slow.sock", sub { while (print { $_[0] } ' ') { $_[0]->flush; select undef, undef, undef, 0.2 } }),
        qr/answers ' +', which is not HTTP/, 'an answer without an end');
};

subtest 'nobody' => sub {
    ill("$folder/none.sock", qr{no answer from '\S+none\.sock': No such file or directory \(ENOENT\); is the server running, with --health=\S+none\.sock\?}, 'no socket');
    IO::Socket::UNIX->new(Local => "$folder/stale.sock", Listen => 1)->close;
    ok -S "$folder/stale.sock", 'a socket that nobody listens on any more';
    ill("$folder/stale.sock", qr/no answer from '\S+stale\.sock': Connection refused \(ECONNREFUSED\); is the server running/, 'stale');
    my $closed = free_port();
    ill("127.0.0.1:$closed", qr/no answer from '127\.0\.0\.1:$closed': Connection refused \(ECONNREFUSED\)/, 'a closed port');
    ill('no-such-host.invalid:80', qr/no answer from 'no-such-host\.invalid:80': \w/, 'no such host');
};

subtest 'somebody who may not connect' => sub {
    my @as = ($binary);
    if (as_root()) {
        File::Copy::copy($binary, "$folder/program") && chmod 0755, "$folder/program" or die "copy: $!";
        @as = (qw(setpriv --reuid=65534 --regid=65534 --clear-groups), "$folder/program");
    }
    chmod 0000, $health or die "chmod: $!";
    my $run = run_to_end([ @as, "--ping=$health" ], in => '/');
    is $run->{exit}, 'exit 1', 'exit code 1';
    like $run->{err}, qr/Permission denied \(EACCES\); this user may not connect, see --socket-mode and --socket-group$/, 'and why';
    chmod 0660, $health;
};

subtest 'a server that is busy, or ill' => sub {
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/busy'));
    ok $server->wait_mark('busy'), 'the only worker is busy';
    is ping($health)->{out}, "ok: 1 of 1 workers ready\n", 'that is healthy';
    $server->open_gate('go');
    $c->read_response;

    write_text("$folder/app.psgi", 'die "broken now\n";');
    my ($worker) = $server->worker_pids;
    kill KILL => $server->pid_of('zygote');
    log_like $server, qr/the application could not be loaded again: .*broken now/, 'the application does not load any more';
    kill KILL => $worker;
    ok wait_for { ping($health)->{exit} eq 'exit 1' }, 'without a worker it is ill';
    ill($health, qr/not healthy: 0 of 1 workers ready/, 'no worker');
};

subtest 'wrong usage' => sub {
    for my $case (
        [ qr/option '--ping' stands alone, .*; leave out '--workers'/, '--workers=2' ],
        [ qr/option '--ping' stands alone, .*; leave out 'app\.psgi'/, 'app.psgi' ],
        [ qr/option '--ping' stands alone, .*; leave out 'app\.psgi'/, qw(app.psgi 1 a.sock b.sock) ],
    ) {
        my ($pattern, @more) = @$case;
        my $run = ping($health, @more);
        is $run->{exit}, 'exit 2', "@more: exit code 2";
        like $run->{err}, $pattern, 'says why';
    }
    my $run = ping('fd:3');
    is $run->{exit}, 'exit 2', 'a descriptor is no address to connect to';
    like $run->{err}, qr/nobody can connect to 'fd:3'/, 'says so';
};

is $server->stop, 'exit 0', 'stops';
ill($health, qr/ENOENT/, 'after the end');
for my $pid (@peers) {
    kill KILL => $pid;
    waitpid $pid, 0;
}
done_testing;
