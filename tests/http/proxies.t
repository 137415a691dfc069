# --trust-proxy and --forwarded: whose word is taken for who the client is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use JSON::PP ();
use Test::More;

my $app = <<'PERL';
use JSON::PP ();
sub { my ($env) = @_; [200, [], [JSON::PP->new->latin1->encode({ map { $_ => $env->{$_} } grep { !ref $env->{$_} } keys %$env })]] };
PERL

my %servers;

sub server { my (@options) = @_; return $servers{"@options"} ||= http_server(workers => 1, app => $app, options => \@options) }

# What the application is told: address, port, scheme, SERVER_NAME, SERVER_PORT, HTTP_HOST.
my @SEEN = qw(REMOTE_ADDR REMOTE_PORT psgi.url_scheme SERVER_NAME SERVER_PORT HTTP_HOST);

sub seen {
    my ($options, $headers, %o) = @_;
    my $server = server(@$options);
    my $c = http($server, $o{unix} ? (over => http_path($server)) : ());
    my $r = $c->request(host => 'inner.example:8080', headers => $headers);
    die "status $r->{status}" unless $r->{status} == 200;
    my $env = JSON::PP->new->latin1->decode($r->{body});
    my $port = $o{unix} ? undef : $c->socket->sockport;
    $env->{REMOTE_PORT} = 'own' if defined $port && defined $env->{REMOTE_PORT} && $env->{REMOTE_PORT} == $port;
    return $env;
}

# name, options, headers => what differs from a request that nobody forwarded.
sub forwarded {
    my ($name, $options, $headers, $differs, %o) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %expected = (REMOTE_ADDR => $o{unix} ? undef : '127.0.0.1', REMOTE_PORT => $o{unix} ? undef : 'own', 'psgi.url_scheme' => 'http',
        SERVER_NAME => 'inner.example', SERVER_PORT => 8080, HTTP_HOST => 'inner.example:8080', %$differs);
    my $env = seen($options, $headers, %o);
    delete $expected{REMOTE_ADDR} if $o{unix} && !exists $differs->{REMOTE_ADDR};
    return is_deeply { map { $_ => $env->{$_} } keys %expected }, \%expected, $name;
}

my @all = ('X-Forwarded-For' => '192.0.2.7', 'X-Forwarded-Proto' => 'https', 'X-Forwarded-Host' => 'shop.example', 'X-Forwarded-Port' => '8443');
my %client = (REMOTE_ADDR => '192.0.2.7', REMOTE_PORT => undef);
my $trusted = ['--trust-proxy=127.0.0.1'];

subtest 'X-Forwarded-*' => sub {
    forwarded('all of it', $trusted, \@all,
        { %client, 'psgi.url_scheme' => 'https', SERVER_NAME => 'shop.example', SERVER_PORT => 8443, HTTP_HOST => 'shop.example' });
    forwarded('only the address', $trusted, [ 'X-Forwarded-For' => '192.0.2.7' ], \%client);
    forwarded('with a port', $trusted, [ 'X-Forwarded-For' => '192.0.2.7:4711' ], { %client, REMOTE_PORT => 4711 });
    forwarded('IPv6', $trusted, [ 'X-Forwarded-For' => '2001:db8::7' ], { %client, REMOTE_ADDR => '2001:db8::7' });
    forwarded('only the scheme', $trusted, [ 'X-Forwarded-Proto' => 'HTTPS' ], { 'psgi.url_scheme' => 'https' });
    forwarded('host and scheme', $trusted, [ 'X-Forwarded-Proto' => 'https', 'X-Forwarded-Host' => 'shop.example' ],
        { 'psgi.url_scheme' => 'https', SERVER_NAME => 'shop.example', SERVER_PORT => 443, HTTP_HOST => 'shop.example' });
    is seen($trusted, [ 'X-Forwarded-Proto' => 'https' ])->{HTTPS}, 'on', 'HTTPS is "on"';
    is seen($trusted, [])->{HTTPS}, undef, 'or not there';
    forwarded('what a client put in front does not count', $trusted, [ 'X-Forwarded-For' => '10.9.9.9, 192.0.2.7' ], \%client);
    forwarded('nor in a field of its own', $trusted, [ 'X-Forwarded-For' => '10.9.9.9', 'X-Forwarded-For' => '192.0.2.7' ], \%client);
    forwarded('no address', $trusted, [ 'X-Forwarded-For' => 'unknown' ], {});
    forwarded('nonsense', $trusted, [ 'X-Forwarded-For' => '999.1.1.1', 'X-Forwarded-Proto' => 'gopher', 'X-Forwarded-Host' => 'a b', 'X-Forwarded-Port' => '99999' ], {});
    forwarded('underscores are no hyphens', $trusted, [ 'X_Forwarded_For' => '192.0.2.7', 'X_Forwarded_Proto' => 'https' ], {});
    forwarded('Forwarded is not asked', $trusted, [ Forwarded => 'for=192.0.2.9;proto=https' ], {});
    is seen($trusted, \@all)->{HTTP_X_FORWARDED_FOR}, '192.0.2.7', 'the application sees the fields as they were sent';
};

subtest 'whom to believe' => sub {
    forwarded('nobody', [], \@all, {});
    forwarded('another address', ['--trust-proxy=127.0.0.2'], \@all, {});
    forwarded('another network', ['--trust-proxy=10.0.0.0/8,2001:db8::/32,::/0'], \@all, {});
    forwarded('only peers on UNIX sockets', ['--trust-proxy=unix'], \@all, {});
    my %all = (%client, 'psgi.url_scheme' => 'https', SERVER_NAME => 'shop.example', SERVER_PORT => 8443, HTTP_HOST => 'shop.example');
    forwarded('its network', ['--trust-proxy=10.0.0.0/8, 127.0.0.0/8'], \@all, \%all);
    forwarded('everybody', ['--trust-proxy=*'], \@all, \%all);
    forwarded('a peer on a UNIX socket', ['--trust-proxy=unix'], \@all, \%all, unix => 1);
    forwarded('not unless told so', $trusted, \@all, { 'psgi.url_scheme' => 'http' }, unix => 1);
    my @chain = ('X-Forwarded-For' => '192.0.2.1, 10.1.1.1, 192.0.2.7, 10.2.2.2, 10.3.3.3');
    forwarded('two front ends, one of them named', ['--trust-proxy=127.0.0.1'], \@chain, { %client, REMOTE_ADDR => '10.3.3.3' });
    forwarded('back to the first that is not', ['--trust-proxy=127.0.0.1,10.0.0.0/8'], \@chain, \%client);
    forwarded('all of them are', ['--trust-proxy=127.0.0.1,10.0.0.0/8'], [ 'X-Forwarded-For' => '10.1.1.1, 10.2.2.2' ], { %client, REMOTE_ADDR => '10.1.1.1' });
    forwarded('a scheme for each', ['--trust-proxy=127.0.0.1,10.0.0.0/8'],
        [ 'X-Forwarded-For' => '192.0.2.1, 192.0.2.7, 10.2.2.2', 'X-Forwarded-Proto' => 'http, https, http' ], { %client, 'psgi.url_scheme' => 'https' });
};

subtest 'Forwarded' => sub {
    my $only = [ '--trust-proxy=127.0.0.1,10.0.0.0/8', '--forwarded=forwarded' ];
    forwarded('address, scheme and host', $only, [ Forwarded => 'for=192.0.2.7;proto=https;host=shop.example' ],
        { %client, 'psgi.url_scheme' => 'https', SERVER_NAME => 'shop.example', SERVER_PORT => 443, HTTP_HOST => 'shop.example' });
    forwarded('quoted, with ports', $only, [ Forwarded => 'For="192.0.2.7:4711"; Host="shop.example:81"' ],
        { %client, REMOTE_PORT => 4711, SERVER_NAME => 'shop.example', SERVER_PORT => 81, HTTP_HOST => 'shop.example:81' });
    forwarded('IPv6', $only, [ Forwarded => 'for="[2001:db8::7]:4711"' ], { REMOTE_ADDR => '2001:db8::7', REMOTE_PORT => 4711 });
    forwarded('a chain', $only, [ Forwarded => 'for=10.9.9.9, for=192.0.2.7;proto=https, for=10.2.2.2;proto=http' ], { %client, 'psgi.url_scheme' => 'https' });
    forwarded('a chain in two fields', $only, [ Forwarded => 'for=10.9.9.9', Forwarded => 'for=192.0.2.7, for=10.2.2.2' ], \%client);
    forwarded('hidden', $only, [ Forwarded => 'for=_hidden;proto=https' ], { 'psgi.url_scheme' => 'https' });
    forwarded('malformed', $only, [ Forwarded => 'for=192.0.2.7;proto="https' ], {});
    forwarded('behind something malformed', $only, [ Forwarded => 'for="192.0.2.7, for=192.0.2.8' ], {});
    forwarded('X-Forwarded-* is not asked', $only, \@all, {});
    forwarded('from somebody else', ['--forwarded=forwarded'], [ Forwarded => 'for=192.0.2.7;proto=https' ], {});
    my $both = [ '--trust-proxy=127.0.0.1', '--forwarded=both' ];
    forwarded('both: Forwarded', $both, [ @all, Forwarded => 'for=192.0.2.9' ], { REMOTE_ADDR => '192.0.2.9', REMOTE_PORT => undef });
    forwarded('both: without it', $both, [ 'X-Forwarded-For' => '192.0.2.7' ], \%client);
};

subtest 'a kept connection' => sub {
    my $c = http(server(@$trusted));
    my $address_of = sub { JSON::PP->new->latin1->decode($c->request(@_)->{body})->{REMOTE_ADDR} };
    is $address_of->(headers => [ 'X-Forwarded-For' => '192.0.2.7' ]), '192.0.2.7', 'one client';
    is $address_of->(headers => [ 'X-Forwarded-For' => '192.0.2.8' ]), '192.0.2.8', 'another one';
    is $address_of->(), '127.0.0.1', 'and none';
};

subtest 'messages' => sub {
    for my $list ('10.0.0.1/8', 'localhost', '10.0.0.0/33', '10.0.0.1,,nobody') {
        my $run = run_to_end([ bladepsgi_binary(), "--trust-proxy=$list", qw(app.psgi 1 f.sock s.sock) ]);
        is $run->{exit}, 'exit 2', "--trust-proxy=$list";
        like $run->{err}, qr/trust-proxy/, 'named in the message';
    }
    is run_to_end([ bladepsgi_binary(), '--forwarded=sometimes', qw(app.psgi 1 f.sock s.sock) ])->{exit}, 'exit 2', '--forwarded=sometimes';
};

is $servers{$_}->stop, 'exit 0', "stops ($_)" for sort keys %servers;
done_testing;
