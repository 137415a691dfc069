# Two workers, and clients that only want to be a nuisance: idle connections, requests that stop half-way, garbage. Whoever behaves is
# served all the while. In the long tier there are thousands of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use File::Basename qw(dirname);
use IO::Socket::UNIX;
use Test::More;

my %many = is_long()
    ? (idle => 10_000, half => 1000, stalled => 500, garbage => 500)
    : (idle => 200, half => 50, stalled => 20, garbage => 20);
my $generator = dirname(bladepsgi_binary()) . '/bin/bladepsgi-load';
my $ordinary = is_long() ? 5000 : 300;

my $app = <<'END';
my $large = 'x' x 3_000_000;
open my $out, '>', 'large' or die $!;
print $out $large;
close $out or die $!;
sub {
    my ($env) = @_;
    my $length = 0;
    while ($env->{'psgi.input'}->read(my $bytes, 65536)) { $length += length $bytes }
    my $path = $env->{PATH_INFO};
    return [200, [], [$large]] if $path eq '/string';
    if ($path eq '/file') {
        open my $file, '<', 'large' or die $!;
        return [200, [], $file];
    }
    return sub { my $writer = $_[0]->([200, []]); $writer->write($large) for 1 .. 3; $writer->close } if $path eq '/stream';
    return [200, ['Content-Type' => 'text/plain'], ['served']];
};
END

sub connect_to { my ($server) = @_; return IO::Socket::UNIX->new(Peer => $server->socket) || die "connect: $!" }

# All of it is written, whatever happens to it.
sub send_raw {
    my ($server, $bytes) = @_;
    my $socket = connect_to($server);
    local $SIG{PIPE} = 'IGNORE';
    syswrite $socket, $bytes;
    return $socket;
}

sub post { my ($length) = @_; return nginx_env(uri => '/half', method => 'POST', env => { CONTENT_LENGTH => $length }) }

my $whole = request_bytes(uri => '/whole', keep => 1);
my %half = (
    'nothing'         => '',
    'within the head' => substr($whole, 0, 100),
    'behind the head' => begin(1, keep => 1) . params(1, post(100)),
    'within the body' => begin(1, keep => 1) . params(1, post(100_000)) . record(FCGI_STDIN, 1, 'x' x 30_000),
);

my $server = BladePSGI::Test->start(app => $app, workers => 2, options => ['--head-timeout=10m', '--body-timeout=10m', '--send-timeout=10m', '--min-body-rate=0']);
my @workers = sort { $a <=> $b } $server->worker_pids;
my @nuisances;

# Every byte is verified; more clients than there are workers.
my $served = sub {
    my ($what, @options) = @_;
    my $result = run_to_end([ $generator, @options, '--unix=' . $server->socket, "--requests=$ordinary", '--connections=4', '--time-limit=30', '--uri=/plain?n=%n', '--expect=served' ]);
    is $result->{exit}, 'exit 0', "all are served $what" or diag $result->{out}, $result->{err};
    note $result->{out};
};
$served->('alone');

$served->('beside 1000 idle connections and 1000 half-sent requests that come at once', '--idle=1000', '--half=1000');

for (1 .. $many{idle}) {
    my $socket = connect_to($server);
    syswrite $socket, $whole;
    sysread $socket, my $answer, 4096 or die "no answer: $!";
    push @nuisances, $socket;
}
$served->("beside $many{idle} idle connections");

for my $kind (sort keys %half) {
    push @nuisances, map { send_raw($server, $half{$kind}) } 1 .. $many{half};
    $served->("beside $many{half} requests that stop: $kind");
}

for my $uri (qw(/string /file)) {
    push @nuisances, map { send_raw($server, request_bytes(uri => $uri, keep => $_ % 2)) } 1 .. $many{stalled};
    $served->("beside $many{stalled} that do not read their response, $uri");
}

push @nuisances, send_raw($server, request_bytes(uri => '/stream'));
$served->('beside a stream that nobody reads, which keeps one of the workers');

for (1 .. $many{garbage}) { push @nuisances, send_raw($server, join '', map { chr int rand 256 } 1 .. 200) }
$served->("beside $many{garbage} connections of garbage");

is_deeply [ sort { $a <=> $b } $server->worker_pids ], \@workers, 'by the same two workers';
@nuisances = ();
$served->('when all have gone');
is $server->stop, 'exit 0', 'stops';

done_testing;
