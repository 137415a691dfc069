# Plack::Test::Suite over HTTP itself: at the root and under --mount, under Plack::Middleware::Lint; and behind nginx as a
# reverse proxy.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Nginx;
use BladePSGI::Test::PlackSuite;
use Test::More;

# What plack_suite wants of a web server, for one that is its own.
sub direct { my ($server) = @_; return bless { address => http_address($server) }, 'Direct' }
sub Direct::url { my ($self, $path) = @_; return "http://$self->{address}" . ($path // '/') }

for my $case ([ 'at the root', '', 0 ], [ 'at the root, under Lint', '', 1 ], [ 'under --mount', '/app', 0 ]) {
    my ($name, $prefix, $lint) = @$case;
    my $server = plack_suite_server(
        lint    => $lint,
        prefix  => $prefix,
        options => [ '--http=127.0.0.1:0', length $prefix ? "--mount=$prefix" : () ],
    );
    subtest $name => sub { plack_suite(direct($server), prefix => $prefix) };
    if (!$lint && !length $prefix) {
        my $address = http_address($server);
        my $nginx = BladePSGI::Test::Nginx->start(socket => $server->socket, server => <<"CONF");
        location ~ ^/ {
            proxy_pass http://$address;
            proxy_http_version 1.1;
            proxy_set_header Host \$http_host;
            proxy_set_header Connection "";
        }
CONF
        subtest 'behind nginx' => sub { plack_suite($nginx) };
        is_deeply [ grep { !/buffered to a temporary file/ } $nginx->errors ], [], 'nginx has nothing to complain about';
        $nginx->stop;
    }
    is $server->stop, 'exit 0', 'stops';
    unlike $server->log, qr/refused a request|dropped a connection/, 'nothing was refused';
}

done_testing;
