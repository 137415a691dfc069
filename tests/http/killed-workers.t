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

# A body whose end is the end of the connection: that of a killed worker must not look like it.
{
    my $streaming = http_server(workers => 1, app => BladePSGI::Test->gate_code . <<'PERL');
sub { sub { my $w = $_[0]->([200, []]); $w->write("begin $$\n"); gate('end') if $_[0]; $w->write("end\n"); $w->close } };
PERL
    my $ask = sub {
        my $c = http($streaming);
        $c->send(http_request(version => '1.0'));
        my $r = $c->read_head(version => '1.0');
        is $r->{framing}, 'close', 'its end is the end of the connection';
        my ($pid) = $c->read_body_until($r, qr/begin \d+\n/) =~ /begin (\d+)/;
        return ($c, $r, $pid);
    };
    my ($c, $r, $pid) = $ask->();
    kill KILL => $pid;
    $c->finish_response($r);
    ok $r->{reset}, 'killed: the client sees an error, not an end' or diag explain $r;
    ($c, $r) = $ask->();
    $streaming->open_gate('end');
    $c->finish_response($r);
    ok $r->{eof} && !$r->{reset}, 'completed: an orderly end';
    like $r->{body}, qr/end\n\z/, 'with all of it';
    is $streaming->stop, 'exit 0', 'stops';
}

done_testing;
