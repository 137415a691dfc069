# Plack::Test::Suite, all of it, behind nginx: buffering on and off, kept connections on and off, also under
# Plack::Middleware::Lint.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Nginx;
use Plack::LWPish;
use Plack::Test::Suite;
use Test::More;

$ENV{PLACK_TEST_SCRIPT_NAME} = '';
delete @ENV{qw(http_proxy HTTP_PROXY)};

for my $lint (0, 1) {
    my $server = BladePSGI::Test->start(workers => 2, app => <<'PERL' . ($lint ? 'Plack::Middleware::Lint->wrap($app);' : '$app;'));
use Plack::Test::Suite;
use Plack::Middleware::Lint;
$ENV{PLACK_TEST_SCRIPT_NAME} = '';
my $app = Plack::Test::Suite->test_app_handler;
PERL
    for my $buffering (qw(on off)) {
        for my $keep_conn (qw(on off)) {
            my $nginx = BladePSGI::Test::Nginx->start(
                socket            => $server->socket,
                buffering         => $buffering,
                request_buffering => $buffering,
                keep_conn         => $keep_conn,
            );
            subtest "buffering $buffering, keep_conn $keep_conn" . ($lint ? ', under Lint' : '') => sub {
                my $agent = Plack::LWPish->new(no_proxy => ['127.0.0.1'], timeout => 20);
                for my $i (0 .. $#Plack::Test::Suite::TEST) {
                    my ($name, $client) = @{ $Plack::Test::Suite::TEST[$i] };
                    subtest $name => sub {
                        $client->(sub {
                            my ($request) = @_;
                            $request->uri->port($nginx->port);
                            $request->header('X-Plack-Test' => $i);
                            return $agent->request($request);
                        });
                    };
                }
            };
            $nginx->stop;
        }
    }
    is $server->stop, 'exit 0', 'stops';
}

done_testing;
