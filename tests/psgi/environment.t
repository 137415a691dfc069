# PATH_INFO and SCRIPT_NAME made right for the web server in front; --mount and --path-info; Authorization; defaults.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use JSON::PP ();
use Test::More;

my $app = <<'PERL';
use JSON::PP ();
sub { my ($env) = @_; my %plain = map { $_ => $env->{$_} } grep { !ref $env->{$_} } keys %$env;
    [200, [], [JSON::PP->new->latin1->encode(\%plain)]] };
PERL

my %servers;

sub server {
    my (@options) = @_;
    return $servers{"@options"} ||= BladePSGI::Test->start(workers => 1, app => $app, options => \@options);
}

my $json = JSON::PP->new->latin1;

sub env_of {
    my ($options, %env) = @_;
    my $answer = server(@$options)->get('/', env => \%env);
    return $answer->{status} == 200 ? $json->decode($answer->{body}) : { status => $answer->{status} };
}

# name, options, [software, SCRIPT_NAME, PATH_INFO, REQUEST_URI] => SCRIPT_NAME, PATH_INFO
sub path_case {
    my ($name, $options, $sent, $script, $info) = @_;
    my ($software, $sent_script, $sent_info, $uri) = @$sent;
    my $env = env_of($options, SERVER_SOFTWARE => $software, SCRIPT_NAME => $sent_script, PATH_INFO => $sent_info, REQUEST_URI => $uri);
    is_deeply [ @$env{qw(SCRIPT_NAME PATH_INFO)} ], [ $script, $info ], $name
        or diag explain { sent => $sent, got => [ @$env{qw(SCRIPT_NAME PATH_INFO)} ] };
    return;
}

my $uri = '/a%2Fb//c%20d?x=1';
my $decoded = '/a/b//c d';

subtest 'the application at the root, each web server as it is' => sub {
    path_case('nginx with fastcgi_params',   [], [ 'nginx/1.22.1', '/a/b/c d', undef, $uri ], '', $decoded);
    path_case('nginx, PATH_INFO empty',      [], [ 'nginx/1.22.1', '/a/b/c d', '', $uri ], '', $decoded);
    path_case('nginx, SCRIPT_NAME ""',       [], [ 'nginx/1.22.1', '', '/a/b/c d', $uri ], '', $decoded);
    path_case('nginx, the root page',        [], [ 'nginx/1.22.1', '/', undef, '/' ], '', '/');
    path_case('nginx, the root with query',  [], [ 'nginx/1.22.1', '/', undef, '/?q=/x' ], '', '/');
    path_case('lighttpd fix-root-scriptname', [], [ 'lighttpd/1.4.69', '', '/a/b/c d', $uri ], '', $decoded);
    path_case('Caddy',                       [], [ 'Caddy/v2', '', $decoded, $uri ], '', $decoded);
    path_case('httpd ScriptAlias /app',      [], [ 'Apache/2.4', '/app', '/x', '/app/x?y' ], '/app', '/x');
    path_case('httpd, the mount itself',     [], [ 'Apache/2.4', '/app', '', '/app/' ], '/app', '/');
    path_case('a trailing slash is cut',     [], [ 'Apache/2.4', '/app/', 'x', '/app/x' ], '/app', '/x');
    path_case('SCRIPT_NAME "/" is ""',       [], [ 'other', '/', '', '/x' ], '', '/x');
    path_case('nothing but REQUEST_URI',     [], [ 'other', undef, undef, '/x%41' ], '', '/xA');
    path_case('+ stays',                     [], [ 'nginx/1', '', '', '/a+b' ], '', '/a+b');
    path_case('bytes, not characters',       [], [ 'nginx/1', '', '', '/caf%C3%A9' ], '', "/caf\xc3\xa9");
    path_case('double escapes once',         [], [ 'nginx/1', '', '', '/%2541' ], '', '/%41');
    path_case('malformed escapes stay',      [], [ 'nginx/1', '', '', '/%zz/%4/%' ], '', '/%zz/%4/%');
    path_case('absolute form',               [], [ 'nginx/1', '', '/x', 'http://example.org/x/y?z' ], '', '/x/y');
    path_case('SCRIPT_NAME must end at a slash', [], [ 'Apache/2.4', '/app', '/lication/x', '/application/x' ], '/app', '/lication/x');
};

subtest '--mount' => sub {
    my @nginx = ('nginx/1.22.1', '/shop/a/b', undef, '/shop/a%2Fb?x=1');
    path_case('a prefix',               ['--mount=/shop'], \@nginx, '/shop', '/a/b');
    path_case('the prefix itself',      ['--mount=/shop'], [ 'nginx/1', '/shop', undef, '/shop' ], '/shop', '');
    path_case('with a slash',           ['--mount=/shop'], [ 'nginx/1', '/shop/', undef, '/shop/' ], '/shop', '/');
    path_case('given with a slash',     ['--mount=/shop/'], \@nginx, '/shop', '/a/b');
    path_case('the root',               ['--mount=/'], [ 'Apache/2.4', '/a', '/b', '/a/b' ], '', '/a/b');
    path_case('lighttpd',               ['--mount=/'], [ 'lighttpd/1.4', '/a', '/b/c d', $uri ], '', $decoded);
    path_case('lighttpd, one segment',  ['--mount=/'], [ 'lighttpd/1.4', '/seg', undef, '/seg' ], '', '/seg');
};

subtest '--path-info' => sub {
    path_case('plack: nginx',         ['--path-info=plack'], [ 'nginx/1.22.1', '/a/b//c d', undef, $uri ], '/a/b//c d', '');
    path_case('plack: SCRIPT_NAME ""', ['--path-info=plack'], [ 'nginx/1.22.1', '', '/ignored', $uri ], '', $decoded);
    path_case('plack: prefix',        ['--path-info=plack'], [ 'Apache/2.4', '/app', '/ignored', '/app/x%20y' ], '/app', '/x y');
    path_case('server: as sent',      ['--path-info=server'], [ 'nginx/1.22.1', '/script', '/info', '/something/else' ], '/script', '/info');
    path_case('server: missing is ""', ['--path-info=server'], [ 'nginx/1.22.1', '/script', undef, '/script' ], '/script', '');
};

subtest 'the rest of it' => sub {
    my $env = env_of([], Authorization => 'Basic abc');
    is $env->{HTTP_AUTHORIZATION}, 'Basic abc', 'Authorization becomes HTTP_AUTHORIZATION';
    $env = env_of([], HTTP_AUTHORIZATION => 'Basic def');
    is $env->{HTTP_AUTHORIZATION}, 'Basic def', 'and stays what it is';
    $env = env_of([], QUERY_STRING => undef);
    is $env->{QUERY_STRING}, '', 'QUERY_STRING is always defined';
    $env = env_of([], SERVER_NAME => undef, SERVER_PORT => undef, SERVER_PROTOCOL => undef);
    ok length($env->{$_} // ''), "$_ is filled in" for qw(SERVER_NAME SERVER_PORT SERVER_PROTOCOL);
    is env_of([], REQUEST_METHOD => undef)->{status}, 400, 'no REQUEST_METHOD: 400';
    is env_of([], REQUEST_METHOD => '')->{status},    400, 'an empty one as well';
    $env = env_of([], REQUEST_METHOD => 'PROPFIND');
    is $env->{REQUEST_METHOD}, 'PROPFIND', 'any method';
    $env = env_of([], REQUEST_URI => '/x?y=%20z', QUERY_STRING => 'y=%20z');
    is $env->{REQUEST_URI}, '/x?y=%20z', 'REQUEST_URI stays raw';
    is $env->{QUERY_STRING}, 'y=%20z', 'so does QUERY_STRING';
};

is $servers{$_}->stop, 'exit 0', "stops ($_)" for sort keys %servers;
done_testing;
