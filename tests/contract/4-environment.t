# The compatibility contract, section 4: the PSGI environment, and the response.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use JSON::PP ();
use Test::More;

my $loader = <<'PERL';
package My::Loader;
use JSON::PP ();
my $shared = { list => [1, 2, 3] };
sub {
    my ($context) = @_;
    my %mine = (
        'my.value' => 'as loaded', 'my.shared' => $shared, 'psgix.my.extension' => 'allowed', QUERY_STRING => 'from=loader',
    );
    return (\%mine, sub {
        my ($env) = @_;
        my $path = $env->{PATH_INFO};
        if ($path eq '/env') {
            my %copy = map { $_ => ref $env->{$_} ? ref $env->{$_} : $env->{$_} } keys %$env;
            $copy{'psgi.version'} = join ',', @{ $env->{'psgi.version'} };
            $env->{'my.value'} = 'spoiled';
            $env->{'new.key'} = 1;
            return [200, ['Content-Type' => 'application/json'], [JSON::PP->new->ascii->allow_nonref->encode(\%copy)]];
        }
        if ($path eq '/errors') {
            $env->{'psgi.errors'}->print("said to psgi.errors\n");
            return [200, [], ['said']];
        }
        if ($path eq '/harakiri') {
            $env->{'psgix.harakiri.commit'} = 1;
            return [200, [], [$$]];
        }
        if ($path =~ m{\A/status/(\d+)}) { return [$1, ['X-Check' => 1], $1 == 204 || $1 == 304 ? [] : ['body']] }
        if ($path eq '/repeated') {
            return [200, ['Set-Cookie' => 'a=1', 'X-Between' => 'yes', 'Set-Cookie' => 'b=2', 'Set-Cookie' => 'c=3'], ['x']];
        }
        if ($path eq '/delayed') { return sub { $_[0]->([202, ['X-Kind' => 'delayed'], ['one', 'two']]) } }
        if ($path eq '/streaming') {
            return sub {
                my $writer = $_[0]->([203, ['X-Kind' => 'streaming']]);
                $writer->write("part $_\n") for 1 .. 3;
                $writer->close;
            };
        }
        return [200, [], ["$$"]];
    });
};
PERL

my $server = BladePSGI::Test->start(workers => 1, loader => $loader);
my $env = sub { return JSON::PP->new->decode($server->get('/env', @_)->{body}) };

my $e = $env->();
is $e->{'psgi.version'}, '1,1', 'psgi.version is [1,1]';
is $e->{'psgi.url_scheme'}, 'http', 'psgi.url_scheme is http';
ok $e->{'psgi.input'},  'psgi.input is there';
ok $e->{'psgi.errors'}, 'psgi.errors is there';
ok exists $e->{$_} && !$e->{$_}, "$_ is false" for qw(psgi.multithread psgi.run_once psgi.nonblocking);
ok $e->{$_}, "$_ is true" for qw(psgi.multiprocess psgi.streaming psgix.harakiri psgix.cleanup);
is $e->{'psgix.logger'}, 'CODE', 'psgix.logger is present';
ok exists $e->{'psgix.input.buffered'}, 'psgix.input.buffered is present';
is $e->{REMOTE_ADDR}, '127.0.0.1', 'the FastCGI parameters are in it';
is $e->{QUERY_STRING}, 'from=loader', 'the hash of the loader comes after them';
is $e->{'psgix.my.extension'}, 'allowed', 'it may set psgix.* keys';
is $e->{'my.value'}, 'as loaded', 'and others';
$e = $env->();
is $e->{'my.value'}, 'as loaded', 'its values are copied per request: what one request assigns the next one does not see';
ok !exists $e->{'new.key'}, 'nor what it added';

my %schemes = (
    on => 'https', ON => 'https', On => 'https', oN => 'https', 1 => 'https', off => 'http', 0 => 'http', '' => 'http',
    yes => 'http', 11 => 'http', onn => 'http', 'on ' => 'http',
);
for my $https (sort keys %schemes) {
    is $env->(env => { HTTPS => $https })->{'psgi.url_scheme'}, $schemes{$https}, "HTTPS '$https': $schemes{$https}";
}

subtest 'the loader may not set psgi.*' => sub {
    my $other = BladePSGI::Test->start(workers => 1, ready => 0, loader => <<'PERL');
package My::Loader;
sub { return ({ 'psgi.run_once' => 'planted', 'psgi.url_scheme' => 'gopher' },
    sub { [200, [], [$_[0]{'psgi.url_scheme'} . ($_[0]{'psgi.run_once'} ? ' planted' : '')]] }) };
PERL
    $other->wait_ready;
    if ($other->is_running) {
        is $other->get('/')->{body}, 'http', 'the values are those of the server';
        log_like $other, qr/WARNING: .*psgi\./, 'and a WARNING says so';
        is $other->stop, 'exit 0', 'stops';
    }
    else {
        is $other->wait_exit, 'exit 3', 'an error at start';
        log_like $other, qr/psgi\.(?:run_once|url_scheme)/, 'that names the key';
    }
};

subtest 'parameters that web servers send and PSGI does not want' => sub {
    my $e = $env->(
        env => {
            HTTP_CONTENT_TYPE => 'text/plain', HTTP_CONTENT_LENGTH => '5', HTTP_PROXY => 'http://evil/',
            HTTP_TRANSFER_ENCODING => 'chunked', CONTENT_TYPE => '', CONTENT_LENGTH => '',
        },
    );
    ok !exists $e->{$_}, "$_ is removed"
        for qw(HTTP_CONTENT_TYPE HTTP_CONTENT_LENGTH HTTP_PROXY HTTP_TRANSFER_ENCODING CONTENT_TYPE CONTENT_LENGTH);
    my @pairs = %{ nginx_env(uri => '/env', env => { HTTP_X_TWICE => undef }) };
    my $answer = $server->request(pairs => [ @pairs, HTTP_X_TWICE => 'one', HTTP_COOKIE => 'a=1', HTTP_X_TWICE => 'two',
        HTTP_COOKIE => 'b=2', REMOTE_USER => 'first', REMOTE_USER => 'last' ]);
    my $twice = JSON::PP->new->decode($answer->{body});
    is $twice->{HTTP_X_TWICE}, 'one, two', 'repeated HTTP_* are joined';
    is $twice->{HTTP_COOKIE}, 'a=1; b=2', 'cookies as cookies';
    is $twice->{REMOTE_USER}, 'last', 'of any other repeated name the last counts';
};

subtest 'psgi.errors' => sub {
    my $answer = $server->get('/errors');
    is $answer->{stderr}, '', 'does not go to the FastCGI stderr stream';
    ok $server->wait_log(qr/ worker\[\d+\]: said to psgi\.errors$/m), 'but to the log of the server';
    my $other = BladePSGI::Test->start(workers => 1, loader => $loader, options => ['--errors=fastcgi']);
    $answer = $other->get('/errors');
    is $answer->{stderr}, "said to psgi.errors\n", 'an option can change that';
    is $other->stop, 'exit 0', 'stops';
    unlike $other->log, qr/said to psgi/, 'then it is not in the log';
};

subtest 'psgix.harakiri.commit' => sub {
    my ($pid) = $server->worker_pids;
    my $answer = $server->get('/harakiri');
    is $answer->{body}, $pid, 'the response is sent';
    ok $answer->{ended}, 'completely';
    ok wait_for { !kill 0, $pid }, 'the worker ends after it';
    isnt $server->get('/')->{body}, $pid, 'another one answers the next';
};

subtest 'responses' => sub {
    my %reason = (
        200 => 'OK', 201 => 'Created', 202 => 'Accepted', 204 => 'No Content', 206 => 'Partial Content',
        301 => 'Moved Permanently', 302 => 'Found', 303 => 'See Other', 304 => 'Not Modified',
        307 => 'Temporary Redirect', 308 => 'Permanent Redirect', 400 => 'Bad Request', 401 => 'Unauthorized',
        403 => 'Forbidden', 404 => 'Not Found', 405 => 'Method Not Allowed', 409 => 'Conflict', 410 => 'Gone',
        429 => 'Too Many Requests', 500 => 'Internal Server Error', 502 => 'Bad Gateway', 503 => 'Service Unavailable',
    );
    for my $status (sort keys %reason) {
        my $answer = $server->get("/status/$status");
        is "$answer->{status} $answer->{reason}", "$status $reason{$status}", "status line $status $reason{$status}";
        is $answer->{header}{'x-check'}, 1, 'with its headers';
    }
    my $answer = $server->get('/repeated');
    is_deeply [ @{ $answer->{headers} }[ 0 .. 7 ] ],
        [ 'Set-Cookie' => 'a=1', 'X-Between' => 'yes', 'Set-Cookie' => 'b=2', 'Set-Cookie' => 'c=3' ],
        'a header repeated stays repeated, in order';
    $answer = $server->get('/delayed');
    is "$answer->{status} $answer->{header}{'x-kind'} $answer->{body}", '202 delayed onetwo', 'a delayed response';
    $answer = $server->get('/streaming');
    is "$answer->{status} $answer->{header}{'x-kind'} $answer->{body}", "203 streaming part 1\npart 2\npart 3\n",
        'a streaming response';
    ok $answer->{ended}, 'ended as it should be';
};

subtest 'output to STDOUT goes to the log' => sub {
    my $other = BladePSGI::Test->start(workers => 1, app => 'sub { print "printed\n"; [200, [], ["body"]] }');
    is $other->get('/')->{body}, 'body', 'and not to the client';
    ok $other->wait_log(qr/ worker\[\d+\]: printed$/m), 'it is in the log';
    is $other->stop, 'exit 0', 'stops';
};

is $server->stop, 'exit 0', 'stops';
done_testing;
