# HAProxy: each configuration under examples/haproxy, with and without kept connections.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HAProxy;
use BladePSGI::Test::PlackSuite;
use BladePSGI::Test::Site;
use Test::More;

for my $prefix ('', '/app') {
    my $server = site_server(options => [ '--mount=' . ($prefix || '/') ]);
    my @workers = $server->worker_pids;
    for my $case ($prefix ? [ 'bladepsgi-prefix.cfg' ] : ([ 'bladepsgi.cfg' ], [ 'bladepsgi.cfg', 'no option keep-conn' => 'option keep-conn' ], [ 'bladepsgi-mpxs.cfg' ])) {
        my ($example, %exchange) = @$case;
        my $haproxy = BladePSGI::Test::HAProxy->start(socket => $server->socket, example => $example, tls => 1, exchange => \%exchange);
        subtest join(', ', $example, values %exchange) => sub {
            check_site($haproxy, $server,
                prefix  => $prefix,
                # It wants to know the length before it begins, so all of the body has to fit into a buffer of 16 KB.
                chunked => 400,
            );
        };
        $haproxy->stop;
    }
    is_deeply [ $server->worker_pids ], \@workers, 'no worker died';
    is $server->stop, 'exit 0', 'stops';
}

subtest 'without --mount' => sub {
    my $server = site_server();
    my $haproxy = BladePSGI::Test::HAProxy->start(socket => $server->socket, example => 'bladepsgi.cfg');
    for my $path ('/', '/x/y', '/x/') {
        my $env = environment_in($haproxy->get($path));
        is_deeply [ @$env{qw(SCRIPT_NAME PATH_INFO)} ], [ '', $path ], "$path: the application is at the root";
    }
    $haproxy->stop;
    is $server->stop, 'exit 0', 'stops';
};

subtest 'many little parts' => sub {
    my $server = site_server();
    my $haproxy = BladePSGI::Test::HAProxy->start(socket => $server->socket, example => 'bladepsgi.cfg');
    # Without http-no-delay each takes 0.2 s.
    check_streaming($haproxy, $server, prefix => '', lengths => [ (3) x 100 ]);
    $haproxy->stop;
    is $server->stop, 'exit 0', 'stops';
};

for my $example (qw(bladepsgi.cfg bladepsgi-prefix.cfg bladepsgi-mpxs.cfg)) {
    my $prefix = $example =~ /-prefix/ ? '/app' : '';
    my $suite = plack_suite_server(prefix => $prefix, options => [ '--mount=' . ($prefix || '/') ]);
    my $haproxy = BladePSGI::Test::HAProxy->start(socket => $suite->socket, example => $example);
    subtest "Plack::Test::Suite, $example" => sub {
        plack_suite($haproxy, prefix => $prefix, cannot => { 'no entity headers on 304' => 'HAProxy adds "content-length: 0" to it' });
    };
    $haproxy->stop;
    is $suite->stop, 'exit 0', 'stops';
}

done_testing;
