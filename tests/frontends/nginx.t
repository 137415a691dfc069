# nginx: what is the same for all web servers, at the root and under a prefix, with kept connections and without. What is
# nginx's own is in tests/nginx, and its part of Plack::Test::Suite at the root in tests/psgi/plack-suite.t.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Nginx;
use BladePSGI::Test::PlackSuite;
use BladePSGI::Test::Site;
use Test::More;

my $server = site_server();
my @workers = $server->worker_pids;

for my $prefix ('', '/app') {
    for my $keep (qw(off on)) {
        my $nginx = BladePSGI::Test::Nginx->start(
            socket            => $server->socket,
            buffering         => 'off',
            request_buffering => 'off',
            keep_conn         => $keep,
            tls               => 1,
            length $prefix ? (prefix => $prefix) : (),
        );
        subtest "prefix '$prefix', keep_conn $keep" => sub {
            check_site($nginx, $server,
                prefix => $prefix,
                # Redirected, as the example says.
                slash  => 301,
            );
        };
        $nginx->stop;
    }
}

# Just as it is handed out.
my $default = BladePSGI::Test::Nginx->start(socket => $server->socket, tls => 1);
subtest 'buffering on' => sub { check_site($default, $server, prefix => '', chunked => 'known', accel => 1) };
$default->stop;

is_deeply [ $server->worker_pids ], \@workers, 'no worker died';
is $server->stop, 'exit 0', 'stops';

my $suite = plack_suite_server(prefix => '/app');
my $nginx = BladePSGI::Test::Nginx->start(socket => $suite->socket, prefix => '/app');
subtest 'Plack::Test::Suite under a prefix' => sub { plack_suite($nginx, prefix => '/app') };
$nginx->stop;
is $suite->stop, 'exit 0', 'stops';

done_testing;
