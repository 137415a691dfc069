# A kept connection and a peer that ends a request's body late, as Apache does (a write of its own for the empty STDIN record)
# and nginx with fastcgi_request_buffering off: the response is complete before the request is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Test::More;

my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
sub { my ($env) = @_; $env->{'psgi.input'}->read(my $body, 100); [200, [], ["$env->{REQUEST_URI} $body"]] }
PERL

my $kept = $server->connect;
$kept->send(begin(1, keep => 1) . params(1, nginx_env(uri => '/first', method => 'POST', body => 'body')) . stdin(1, 'body', end => 0));
my $response = $kept->read_response(1);
is $response->{body}, '/first body', 'the response is there before the body was said to be over';
# The rest is waited for elsewhere.
my $other = $server->connect;
$other->send(request_bytes(uri => '/second'));
ok $kept->send(stdin(1, '')), 'the end of the body can still be sent when somebody else waits';
is $other->read_response->{body}, '/second ', 'who is served then';
$kept->send(request_bytes(id => 1, keep => 1, uri => '/next'));
is $kept->read_response(1)->{body}, '/next ', 'and the kept connection goes on';

$kept = $server->connect;
$kept->send(begin(1, keep => 1) . params(1, nginx_env(uri => '/third', method => 'POST', body => 'body')) . stdin(1, 'body', end => 0));
is $kept->read_response(1)->{body}, '/third body', 'another one that never ends';
is $server->get('/fourth')->{body}, '/fourth ', 'holds nobody up for long';

is $server->stop, 'exit 0', 'stops';
done_testing;
