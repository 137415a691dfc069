# Verified load over kept HTTP connections while workers are killed: a request of a killed worker may be lost, but no response is
# wrong, mixed with another one or cut without a sign. Short; tests/process/chaos.t is the long one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Load;
use Test::More;

my $kills = is_long() ? 200 : 15;

my $server = http_server(app_file => "$FindBin::Bin/../apps/load.psgi", workers => 4);
my $address = http_address($server);
my $load = BladePSGI::Test::Load->start($server, clients => 4, keep => 1, go_on => 1,
    connect => sub { BladePSGI::Test::HTTP->connect($address, timeout => 30) });
my ($killed, $served) = (0, 0);
while ($killed < $kills) {
    my $before = $served = $server->stats->{requests} // 0;
    wait_for { $served = $server->stats->{requests} // 0; $served > $before + 50 } 30 or last;
    my @workers = $server->worker_pids;
    my $pid = $workers[ rand @workers ] // next;
    $killed++ if kill KILL => $pid;
}
is $killed, $kills, "requests go on while $kills workers are killed";
my $result = $load->stop;
cmp_ok $result->{ok}, '>', 50 * $kills, "$result->{ok} requests answered, $result->{retried} asked again";
cmp_ok scalar(@{ $result->{failures} }), '<=', $kills, 'at most one request lost for each killed worker'
    or diag join "\n", @{ $result->{failures} }[ 0 .. 5 ];
is_deeply [ grep { /answered with/ } @{ $result->{failures} } ], [], 'and none answered wrongly';
like http($server)->request(uri => '/load/0/0')->{body}, qr{\A/load/0/0 \d+\z}, 'served in the end';
is $server->stop, 'exit 0', 'stops';

done_testing;
