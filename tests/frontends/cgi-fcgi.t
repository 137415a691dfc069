# cgi-fcgi, the command line client of the FastCGI developer's kit: its environment is the request.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use JSON::PP ();
use Test::More;

my $server = BladePSGI::Test->start(app => <<'PERL');
use JSON::PP ();
sub {
    my ($env) = @_;
    return [404, ['Content-Type' => 'text/plain'], ["nothing here\n"]] if $env->{PATH_INFO} eq '/404';
    my %plain = map { $_ => $env->{$_} } grep { !ref $env->{$_} } keys %$env;
    return [200, ['Content-Type' => 'application/json'], [JSON::PP->new->latin1->encode(\%plain)]];
};
PERL

my %request = (
    REQUEST_METHOD => 'GET', SCRIPT_NAME => '', PATH_INFO => '', REQUEST_URI => '/a%20b?x=1', QUERY_STRING => 'x=1',
    SERVER_NAME => 'localhost', SERVER_PORT => 80, SERVER_PROTOCOL => 'HTTP/1.1', REMOTE_ADDR => '127.0.0.1',
);

sub cgi_fcgi {
    my (%env) = @_;
    return run_to_end([ 'cgi-fcgi', '-bind', '-connect', $server->socket ], env => { %request, %env });
}

my $run = cgi_fcgi();
is $run->{exit}, 'exit 0', 'a GET ends with the application status 0' or diag($run->{err});
like $run->{out}, qr/\AStatus: 200 OK\r\n|\r\nStatus: 200 OK\r\n/, 'its status';
my ($head, $body) = split /\r\n\r\n/, $run->{out}, 2;
like $head, qr{^Content-Type: application/json\r?$}m, 'its header';
my $env = eval { JSON::PP->new->latin1->decode($body) } || {};
is $env->{PATH_INFO}, '/a b', 'PATH_INFO';
is $env->{QUERY_STRING}, 'x=1', 'QUERY_STRING';
ok exists $env->{PATH}, 'all of its environment goes to the application';

like cgi_fcgi(REQUEST_URI => '/404')->{out}, qr/^Status: 404 Not Found\r$/m, 'another status';

is $server->stop, 'exit 0', 'stops';
done_testing;
