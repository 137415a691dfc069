# Apache with mod_proxy_fcgi: each configuration under examples/apache, with and without kept connections.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Apache;
use BladePSGI::Test::PlackSuite;
use BladePSGI::Test::Site;
use Test::More;

# Two virtual hosts keep two connections each, at most: as many as there are workers.
my $server = site_server(workers => 4, options => [ BladePSGI::Test::Apache->server_options ]);
my @workers = $server->worker_pids;

for my $reuse ('off', 'on max=2') {
    for my $example (qw(proxypass proxypass-prefix sethandler sethandler-prefix)) {
        my $apache = BladePSGI::Test::Apache->start(
            socket  => $server->socket,
            example => "$example.conf",
            reuse   => $reuse,
            tls     => 1,
        );
        subtest "$example.conf, enablereuse=$reuse" => sub {
            check_site($apache, $server,
                prefix  => $example =~ /-prefix/ ? '/app' : '',
                # Apache joins whatever is repeated by a comma. Browsers send one line.
                cookies => 'a=1, b=2',
                chunked => 'none',
            );
        };
        $apache->stop;
    }
}

subtest 'more kept connections than workers' => sub {
    my $apache = BladePSGI::Test::Apache->start(socket => $server->socket, example => 'proxypass.conf', reuse => 'on');
    # Apache does not repeat a request; it would answer 503.
    check_in_step($apache, $server, prefix => '');
    $apache->stop;
};

is_deeply [ $server->worker_pids ], \@workers, 'no worker died';
is $server->stop, 'exit 0', 'stops';

for my $example (qw(proxypass proxypass-prefix sethandler sethandler-prefix)) {
    my $prefix = $example =~ /-prefix/ ? '/app' : '';
    my $suite = plack_suite_server(prefix => $prefix, options => [ BladePSGI::Test::Apache->server_options ]);
    my $apache = BladePSGI::Test::Apache->start(socket => $suite->socket, example => "$example.conf", reuse => 'on max=2');
    subtest "Plack::Test::Suite, $example.conf" => sub { plack_suite($apache, prefix => $prefix) };
    $apache->stop;
    is $suite->stop, 'exit 0', 'stops';
}

done_testing;
