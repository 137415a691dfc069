# Each web server by TCP: its files under examples, with their lines for TCP in force.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Apache;
use BladePSGI::Test::Caddy;
use BladePSGI::Test::HAProxy;
use BladePSGI::Test::Lighttpd;
use BladePSGI::Test::Nginx;
use BladePSGI::Test::PlackSuite;
use BladePSGI::Test::Site;
use Test::More;

# What each cannot do, with the reasons, is in the test of its own beside this one.
my %limits = (
    Apache   => { cookies => 'a=1, b=2' },
    Caddy    => { cookies => 'a=1, b=2', bodiless => ['OPTIONS'], unseen => { map { $_ => 'Caddy ends the chunks' } qw(half half-large gated) } },
    HAProxy  => { chunked => 400 },
    Lighttpd => { chunked => 'known', latin1 => 400, unseen => { map { $_ => 'lighttpd may learn of it before it has sent the header' } qw(half half-large) } },
    Nginx    => { slash => 301 },
);
my %cannot = (HAProxy => { 'no entity headers on 304' => 'HAProxy adds "content-length: 0" to it' });

# All of it for each way to name the socket and to keep connections; where only the lines for TCP are others, what the
# application sees is enough.
my @unbuffered = (buffering => 'off', request_buffering => 'off');
my @cases = (
    [ Nginx    => 'all',         '',     @unbuffered ],
    [ Nginx    => 'all',         '',     @unbuffered, keep_conn => 'on' ],
    [ Nginx    => 'environment', '/app', @unbuffered, prefix => '/app' ],
    [ Apache   => 'all',         '',     example => 'proxypass.conf' ],
    [ Apache   => 'all',         '',     example => 'proxypass.conf', reuse => 'on max=2' ],
    [ Apache   => 'all',         '',     example => 'sethandler.conf' ],
    [ Apache   => 'all',         '',     example => 'sethandler.conf', reuse => 'on max=2' ],
    [ Apache   => 'environment', '/app', example => 'proxypass-prefix.conf' ],
    [ Apache   => 'environment', '/app', example => 'sethandler-prefix.conf' ],
    [ HAProxy  => 'all',         '',     example => 'bladepsgi.cfg' ],
    [ HAProxy  => 'all',         '',     example => 'bladepsgi.cfg', exchange => { 'no option keep-conn' => 'option keep-conn' } ],
    [ HAProxy  => 'environment', '',     example => 'bladepsgi-mpxs.cfg' ],
    [ HAProxy  => 'environment', '/app', example => 'bladepsgi-prefix.cfg' ],
    [ Lighttpd => 'all',         '',     example => 'bladepsgi.conf' ],
    [ Lighttpd => 'environment', '/app', example => 'bladepsgi-prefix.conf' ],
    [ Caddy    => 'all',         '',     example => 'bladepsgi.Caddyfile' ],
    [ Caddy    => 'environment', '/app', example => 'bladepsgi-prefix.Caddyfile' ],
);

my (%site, %suite);
for my $case (@cases) {
    my ($kind, $extent, $prefix, %o) = @$case;
    my @options = ('--fastcgi=127.0.0.1:0', $kind eq 'HAProxy' ? '--mount=' . ($prefix || '/') : ());
    # Apache's two virtual hosts keep two connections each.
    my $server = $site{"@options"} ||= site_server(workers => 4, options => \@options);
    my $name = join ', ', $kind, map { ref $o{$_} ? values %{ $o{$_} } : "$_ $o{$_}" } sort keys %o;
    my $front = "BladePSGI::Test::$kind"->start(socket => $server->tcp_address, tls => 1, %o);
    my $check = $extent eq 'all' ? \&check_site : \&check_environment;
    subtest $name => sub { $check->($front, $server, prefix => $prefix, %{ $limits{$kind} }) };
    $front->stop;
    next if $extent ne 'all';
    $server = $suite{"@options"} ||= plack_suite_server(options => \@options);
    $front = "BladePSGI::Test::$kind"->start(socket => $server->tcp_address, %o);
    subtest "Plack::Test::Suite, $name" => sub { plack_suite($front, cannot => $cannot{$kind}) };
    $front->stop;
}

for my $server (values %site, values %suite) {
    unlike $server->log, qr/died unexpectedly/, 'no worker died';
    is $server->stop, 'exit 0', 'stops';
}

done_testing;
