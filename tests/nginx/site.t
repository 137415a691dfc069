# Behind nginx with the configuration that the documentation hands out: paths, ids, kept connections, broken responses.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Nginx;
use HTTP::Tiny;
use JSON::PP ();
use Test::More;

my $server = BladePSGI::Test->start(workers => 2, app => <<'PERL');
use JSON::PP ();
use strict;
sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    if ($path eq '/half') { return sub { my $w = $_[0]->([200, []]); $w->write("half of it\n"); die "in the middle\n" } }
    if ($path eq '/half_length') {
        return sub { my $w = $_[0]->([200, ['Content-Length' => 100]]); $w->write('x' x 50); die "in the middle\n" };
    }
    return [500, [], ['on purpose']] if $path eq '/500';
    die "died\n" if $path eq '/die';
    return [200, ['X-Large' => 'h' x 3000], ['large header']] if $path eq '/large_header';
    return [302, ['Location' => '/elsewhere'], []] if $path eq '/redirect';
    return [304, ['ETag' => '"x"'], []] if $path eq '/304';
    return [204, [], []] if $path eq '/204';
    return [200, ['Content-Length' => 5], ['12345']] if $path eq '/length';
    return [200, [], ['x' x 5_000_000]] if $path eq '/large';
    my %plain = map { $_ => $env->{$_} } grep { !ref $env->{$_} } keys %$env;
    $plain{pid} = $$;
    return [200, ['Content-Type' => 'application/json'], [JSON::PP->new->latin1->encode(\%plain)]];
};
PERL

my $json = JSON::PP->new->latin1;
my @workers = $server->worker_pids;

for my $keep (qw(off on)) {
    for my $buffering (qw(on off)) {
        my $nginx = BladePSGI::Test::Nginx->start(socket => $server->socket, buffering => $buffering, keep_conn => $keep);
        subtest "buffering $buffering, keep_conn $keep" => sub {
            my $env = $json->decode($nginx->get('/a%2Fb//c%20d?x=%201&y')->{content});
            is $env->{SCRIPT_NAME}, '', 'SCRIPT_NAME is empty';
            is $env->{PATH_INFO}, '/a/b//c d', 'PATH_INFO is the whole path, decoded, slashes as they were';
            is $env->{QUERY_STRING}, 'x=%201&y', 'QUERY_STRING is raw';
            is $env->{REQUEST_URI}, '/a%2Fb//c%20d?x=%201&y', 'REQUEST_URI too';
            is $env->{REMOTE_ADDR}, '127.0.0.1', 'REMOTE_ADDR';
            is $env->{SERVER_PORT}, $nginx->port, 'SERVER_PORT';
            like $env->{HTTP_X_REQUEST_ID}, qr/\A[0-9a-f]{32}\z/, 'nginx gives each request an id';
            is $env->{'psgix.request_id'}, $env->{HTTP_X_REQUEST_ID}, 'which is that of ours';
            ok !exists $env->{$_}, "no $_" for qw(CONTENT_LENGTH CONTENT_TYPE HTTPS HTTP_PROXY REMOTE_USER);
            $env = $json->decode($nginx->http->get($nginx->url('/'), { headers => { Proxy => 'http://evil/', Authorization => 'Basic x' } })->{content});
            ok !exists $env->{HTTP_PROXY}, 'a Proxy header does not arrive';
            is $env->{HTTP_AUTHORIZATION}, 'Basic x', 'Authorization does';

            is $nginx->get('/redirect')->{status}, 200, 'a redirect is followed by the client';
            is $nginx->get('/304')->{status}, 304, '304';
            is $nginx->get('/204')->{status}, 204, '204';
            is $nginx->get('/length')->{content}, '12345', 'Content-Length';
            is length $nginx->get('/large')->{content}, 5_000_000, 'a large response';
            is length $nginx->get('/large_header')->{headers}{'x-large'}, 3000, 'a large header';
            my $head = $nginx->http->head($nginx->url('/large'));
            is $head->{status}, 200, 'HEAD';
            is $nginx->get('/500')->{content}, 'on purpose', 'a 500 of the application';
            is $nginx->get('/die')->{status}, 500, 'an application that dies: 500';
            log_like $server, qr/died/, 'and the reason is in the log';

            my $half = $nginx->curl('--max-time', 20, '/half_length');
            like $half->{exit}, qr{\Aexit (?:18|52|56)\z}, 'a response that breaks off after its length was announced: curl sees it';
            $half = $nginx->curl('--max-time', 20, '/half');
            like $half->{exit}, qr{\Aexit (?:18|52|56)\z}, 'one without Content-Length: curl sees it too';
            is $nginx->get('/length')->{content}, '12345', 'the next request is served';
        };
        subtest "kept connections: buffering $buffering" => sub {
            my %pids;
            my $wrong = 0;
            for my $n (1 .. 50) {
                my $method = $n % 2 ? 'GET' : 'POST';
                my $answer = $nginx->http->request($method, $nginx->url("/n/$n"), $n % 2 ? {} : { content => "body $n" });
                my $env = eval { $json->decode($answer->{content}) } || {};
                $wrong++ unless ($env->{PATH_INFO} || '') eq "/n/$n" && $env->{REQUEST_METHOD} eq $method;
                $pids{ $env->{pid} || 0 } = 1;
            }
            is $wrong, 0, 'fifty requests, each answered with its own response';
        } if $keep eq 'on';
        is_deeply [ $nginx->errors ? grep { !/prematurely|\[warn\]|broken|upstream sent/ } $nginx->errors : () ], [], 'nothing else in the log of nginx';
        $nginx->stop;
    }
}

is_deeply [ $server->worker_pids ], \@workers, 'no worker died';
is $server->stop, 'exit 0', 'stops';
done_testing;
