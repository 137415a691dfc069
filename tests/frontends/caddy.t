# Caddy: each configuration under examples/caddy; it has no kept connections to the application.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Caddy;
use BladePSGI::Test::PlackSuite;
use BladePSGI::Test::Site;
use Test::More;

my @options = BladePSGI::Test::Caddy->server_options;
my $server = site_server(options => \@options);
my @workers = $server->worker_pids;

my $unseen = 'Caddy 2.6 logs "aborting with incomplete response" and ends the chunks as if all were well';

for my $example (qw(bladepsgi.Caddyfile bladepsgi-prefix.Caddyfile)) {
    my $caddy = BladePSGI::Test::Caddy->start(socket => $server->socket, example => $example, tls => 1);
    subtest $example => sub {
        check_site($caddy, $server,
            prefix  => $example =~ /-prefix/ ? '/app' : '',
            # Caddy joins whatever is repeated by a comma. Browsers send one line by HTTP/1.1.
            cookies => 'a=1, b=2',
            # It sends the body only with the methods that it knows to have one.
            bodiless => ['OPTIONS'],
            # Only those without Content-Length, which is checked.
            unseen  => { map { $_ => $unseen } qw(half half-large gated) },
        );
    };
    $caddy->stop;
}

is_deeply [ $server->worker_pids ], \@workers, 'no worker died';
is $server->stop, 'exit 0', 'stops';

for my $example (qw(bladepsgi.Caddyfile bladepsgi-prefix.Caddyfile)) {
    my $prefix = $example =~ /-prefix/ ? '/app' : '';
    my $suite = plack_suite_server(prefix => $prefix, options => \@options);
    my $caddy = BladePSGI::Test::Caddy->start(socket => $suite->socket, example => $example);
    subtest "Plack::Test::Suite, $example" => sub { plack_suite($caddy, prefix => $prefix) };
    $caddy->stop;
    is $suite->stop, 'exit 0', 'stops';
}

done_testing;
