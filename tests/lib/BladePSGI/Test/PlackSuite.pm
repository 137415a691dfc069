package BladePSGI::Test::PlackSuite;

# Plack::Test::Suite, all of it, through a web server.
#
#   my $server = plack_suite_server(prefix => '/app', options => […]);
#   my $front  = BladePSGI::Test::Apache->start(socket => $server->socket, …);
#   plack_suite($front, prefix => '/app', cannot => { 'name of a test' => 'why' });

use strict;
use warnings;

use Exporter 'import';
use Plack::LWPish;
use Plack::Test::Suite;
use Test::More;
use URI;

use BladePSGI::Test;

our @EXPORT = qw(plack_suite_server plack_suite);

# prefix, lint => 1 (under Plack::Middleware::Lint), and the options of BladePSGI::Test->start.
sub plack_suite_server {
    my (%o) = @_;
    my ($prefix, $lint) = (delete $o{prefix} // '', delete $o{lint});
    return BladePSGI::Test->start(workers => 2, %o, app => <<"PERL" . ($lint ? 'Plack::Middleware::Lint->wrap($app);' : '$app;'));
use Plack::Test::Suite;
use Plack::Middleware::Lint;
\$ENV{PLACK_TEST_SCRIPT_NAME} = '$prefix';
my \$app = Plack::Test::Suite->test_app_handler;
PERL
}

# cannot: names of tests that this web server makes impossible, each with the reason; they are skipped.
sub plack_suite {
    my ($front, %o) = @_;
    my $prefix = $o{prefix} // '';
    my %cannot = %{ $o{cannot} || {} };
    local $ENV{PLACK_TEST_SCRIPT_NAME} = $prefix;
    delete local @ENV{qw(http_proxy HTTP_PROXY)};
    my $agent = Plack::LWPish->new(no_proxy => ['127.0.0.1'], timeout => 20 * $BladePSGI::Test::PATIENCE);
    for my $i (0 .. $#Plack::Test::Suite::TEST) {
        my ($name, $client) = @{ $Plack::Test::Suite::TEST[$i] };
        my $reason = delete $cannot{$name};
        subtest $name => sub {
            plan skip_all => $reason if $reason;
            $client->(sub {
                my ($request) = @_;
                # As text: a setter of the path would encode it anew.
                my $after = $request->uri =~ s{\Ahttp://[^/]+}{}r;
                $request->uri(URI->new($front->url($prefix . $after)));
                $request->header('X-Plack-Test' => $i);
                return $agent->request($request);
            });
        };
    }
    is_deeply [ sort keys %cannot ], [], 'what is listed as impossible is in the suite';
    return;
}

1;
