# What stands around an application in practice: a dozen keys that middleware leaves in env, hashes and a session among them.
#
# Little is done with them, for the question is what such an env costs the server. With BLADEPSGI_BENCH_HOLD=1 the application holds
# on to the env of its last requests, so that no server can use these again.
use strict;
use warnings;

use Plack::Builder;
use Plack::Request;

my $holds = $ENV{BLADEPSGI_BENCH_HOLD};
my (@held, $turn);

my $app = sub {
    my ($env) = @_;
    my $request = Plack::Request->new($env);
    $request->session->{last} = $request->path;
    $held[$turn++ & 7] = $env if $holds;
    my $text = join ' ', $request->method, $request->path, $env->{'bench.number'}, $request->session->{visits};
    return [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $text], [$text]];
};

my $session = sub {
    my ($inner) = @_;
    return sub {
        my ($env) = @_;
        my ($id) = $env->{HTTP_COOKIE} =~ /\bsession=([0-9a-f]+)/;
        $env->{'psgix.session'}         = { visits => 1 };
        $env->{'psgix.session.options'} = { id => $id, expires => 3600 };
        return $inner->($env);
    };
};

my $others = sub {
    my ($inner) = @_;
    return sub {
        my ($env) = @_;
        $env->{'bench.number'}        = substr $env->{QUERY_STRING}, 2;
        $env->{'bench.request_id'}    = "r$env->{REMOTE_PORT}-$env->{QUERY_STRING}";
        $env->{'bench.started'}       = 1_234_567;
        $env->{'bench.elapsed'}       = 0.25;
        $env->{'bench.user'}          = { name => 'somebody', groups => ['one', 'two'] };
        $env->{'bench.stash'}         = {};
        $env->{'bench.language'}      = 'en';
        $env->{'bench.is_admin'}      = 0;
        $env->{'plack.original_path'} = $env->{PATH_INFO};
        $env->{'plack.finished'}      = undef;
        return $inner->($env);
    };
};

builder {
    enable 'ReverseProxy';
    enable $session;
    enable $others;
    $app;
};
