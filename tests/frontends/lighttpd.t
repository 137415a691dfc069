# lighttpd: each configuration under examples/lighttpd; it has no kept connections to the application.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Lighttpd;
use BladePSGI::Test::PlackSuite;
use BladePSGI::Test::Site;
use Test::More;

my %limits = (
    # Its default; server.http-parseopts has url-invalid-utf8-reject to let them pass.
    latin1 => 400,
    # Then it takes what there is for all of it, and announces its length.
    unseen => { map { $_ => 'lighttpd may learn of it before it has sent the header' } qw(half half-large) },
);

my @options = BladePSGI::Test::Lighttpd->server_options;
my $server = site_server(options => \@options);
my @workers = $server->worker_pids;

for my $case (
    [ 'bladepsgi.conf', chunked => 'known' ],
    [ 'bladepsgi-prefix.conf', chunked => 'known' ],
    # What streams to the application must have a length: 411.
    [ 'bladepsgi.conf', chunked => 411, 'server.stream-request-body = 0' => 'server.stream-request-body = 2' ],
) {
    my ($example, undef, $chunked, %exchange) = @$case;
    my $lighttpd = BladePSGI::Test::Lighttpd->start(socket => $server->socket, example => $example, tls => 1, exchange => \%exchange);
    subtest join(', ', $example, values %exchange) => sub {
        check_site($lighttpd, $server,
            prefix  => $example =~ /-prefix/ ? '/app' : '',
            chunked => $chunked,
            %limits,
        );
    };
    $lighttpd->stop;
}

my $unlimited = BladePSGI::Test::Lighttpd->start(socket => $server->socket, example => 'bladepsgi.conf', exchange => { 'server.stream-response-body = 2' => 'server.stream-response-body = 1' });
subtest 'server.stream-response-body = 1' => sub { check_streaming($unlimited, $server, prefix => '') };
$unlimited->stop;

# As documented, with what would be right in front of it: when this fails the documentation can forget it.
my $normalizing = BladePSGI::Test::Lighttpd->start(socket => $server->socket, example => 'bladepsgi.conf', exchange => {
    'server.stream-request-body = 0' => 'server.http-parseopts = ( "url-normalize-required" => "enable" )',
});
is environment_in($normalizing->get('/?a=b'))->{QUERY_STRING}, 'a=b', 'url-normalize-required leaves a query alone';
is environment_in($normalizing->get('/?a=b?c'))->{QUERY_STRING}, 'c', 'but not one with a second question mark';
$normalizing->stop;

is_deeply [ $server->worker_pids ], \@workers, 'no worker died';
is $server->stop, 'exit 0', 'stops';

for my $example (qw(bladepsgi.conf bladepsgi-prefix.conf)) {
    my $prefix = $example =~ /-prefix/ ? '/app' : '';
    my $suite = plack_suite_server(prefix => $prefix, options => \@options);
    my $lighttpd = BladePSGI::Test::Lighttpd->start(socket => $suite->socket, example => $example);
    subtest "Plack::Test::Suite, $example" => sub { plack_suite($lighttpd, prefix => $prefix) };
    $lighttpd->stop;
    is $suite->stop, 'exit 0', 'stops';
}

subtest 'bladepsgi-spawn.conf: lighttpd starts the application server' => sub {
    my $program = fcgi_program();
    my $site = site_folder();
    my $folder = $site->folder;
    my $lighttpd = BladePSGI::Test::Lighttpd->start(example => 'bladepsgi-spawn.conf', tls => 1, exchange => {
        '/usr/bin/bladepsgi-fcgi -n 8 /srv/app/app.psgi' => "$program -n 2 $folder/app.psgi",
        '/run/lighttpd/app.sock'                      => "$folder/spawned.sock",
    });
    $site->{log} = $lighttpd->folder . '/error.log';
    check_site($lighttpd, $site, chunked => 'known', %limits);
    $lighttpd->stop;
    is_deeply [ $site->survivors ], [], 'the application server ends with it';
};

done_testing;
