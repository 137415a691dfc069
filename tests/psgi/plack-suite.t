# Plack::Test::Suite behind nginx: buffering on and off, kept connections on and off, also under Plack::Middleware::Lint.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Nginx;
use BladePSGI::Test::PlackSuite;
use Test::More;

for my $lint (0, 1) {
    my $server = plack_suite_server(lint => $lint);
    for my $buffering (qw(on off)) {
        for my $keep_conn (qw(on off)) {
            my $nginx = BladePSGI::Test::Nginx->start(
                socket            => $server->socket,
                buffering         => $buffering,
                request_buffering => $buffering,
                keep_conn         => $keep_conn,
            );
            subtest "buffering $buffering, keep_conn $keep_conn" . ($lint ? ', under Lint' : '') => sub { plack_suite($nginx) };
            $nginx->stop;
        }
    }
    is $server->stop, 'exit 0', 'stops';
}

done_testing;
