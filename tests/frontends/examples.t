# What the web servers themselves say to the files under examples: nothing to complain about, neither with the UNIX socket nor by
# TCP. And the documentation knows them all.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Apache;
use BladePSGI::Test::ApacheFcgid;
use BladePSGI::Test::Caddy;
use BladePSGI::Test::HAProxy;
use BladePSGI::Test::Lighttpd;
use BladePSGI::Test::Nginx;
use BladePSGI::Test::Site;
use Test::More;

my $examples = BladePSGI::Test::project_root() . '/examples';
my @unix = (socket => '/run/bladepsgi/app.sock');
my @tcp = (socket => '127.0.0.1:9000');

for my $case (
    (map { [ Nginx => 'nginx', @$_ ], [ Nginx => 'nginx', @$_, prefix => '/app' ] } \@unix, \@tcp),
    cases(Apache   => 'apache', \@unix, \@tcp),
    cases(HAProxy  => 'haproxy', \@unix, \@tcp),
    cases(Caddy    => 'caddy', \@unix, \@tcp),
    (grep { "@$_" =~ /spawn/ xor "@$_" =~ /socket/ } cases(Lighttpd => 'lighttpd', [], \@unix, \@tcp)),    # spawned ones have their own
    cases(ApacheFcgid => 'apache-fcgid', [ program => fcgi_program(), app => '/srv/app/app.psgi' ]),
) {
    my ($kind, $folder, %o) = @$case;
    my $run = "BladePSGI::Test::$kind"->check(%o);
    my $name = join ', ', "$folder/" . ($o{example} // ($o{prefix} ? 'bladepsgi.prefix.conf' : 'bladepsgi.conf')), $o{socket} // 'no socket';
    is $run->{exit}, 'exit 0', $name or diag($run->{out} . $run->{err});
    unlike $run->{out} . $run->{err}, qr/warn(?!.*automatic HTTPS)|deprecat/i, 'without a warning';    # the test's own wish, Caddy says
}

my $documentation = read_text("$examples/../docs/front-ends.md");
my %linked = map { $_ => 1 } $documentation =~ m{\(\.\./examples/([^)]+)\)}g;
is_deeply [ grep { !-e "$examples/$_" } sort keys %linked ], [], 'what the documentation links to is there';
my @files = map { s{\Q$examples\E/}{}r } map { glob "$examples/$_/*" } qw(nginx apache apache-fcgid haproxy lighttpd caddy);
is_deeply [ grep { !$linked{$_} && !$linked{ s{/.*}{}r } } @files ], [], 'and all there is is linked to';

# [ kind, folder, example => FILE, options ] for each file and each list of options.
sub cases {
    my ($kind, $folder, @options) = @_;
    return map { my $path = $_; map { [ $kind, $folder, example => $path =~ s{.*/}{}r, @$_ ] } @options } sort glob "$examples/$folder/*";
}

done_testing;
