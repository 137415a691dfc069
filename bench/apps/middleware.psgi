# What stands around an application in practice: a dozen keys that middleware leaves in env, a session among them.
#
# With BLADEPSGI_BENCH_HOLD=1 the application holds on to the env of its last requests, so that no server can use these again.
use strict;
use warnings;

use Plack::Builder;
use Plack::Request;

my $holds = $ENV{BLADEPSGI_BENCH_HOLD};
my (@held, $turn);

my $app = sub {
    my ($env) = @_;
    my $request = Plack::Request->new($env);
    my $number  = $request->parameters->{n};
    my $theme   = $request->cookies->{theme};
    $env->{'psgix.session'}{last} = $number;
    $held[$turn++ & 7] = $env if $holds;
    my $text = join ' ', $request->method, $request->path, $number, $theme, $env->{'psgix.session'}{visits};
    return [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $text], [$text]];
};

my $session = sub {
    my ($inner) = @_;
    return sub {
        my ($env) = @_;
        $env->{'psgix.session'}         = { visits => 1 };
        $env->{'psgix.session.options'} = { id => '5f2c0a7be41d4b0c9d5e6f7a8b9c0d1e', expires => 3600 };
        return $inner->($env);
    };
};

my $application_keys = sub {
    my ($inner) = @_;
    return sub {
        my ($env) = @_;
        $env->{'bench.request_id'}    = 'r' . ($env->{QUERY_STRING} || '');
        $env->{'bench.started'}       = 1_234_567;
        $env->{'bench.user'}          = { name => 'somebody', groups => ['one', 'two'] };
        $env->{'bench.stash'}         = {};
        $env->{'plack.original_path'} = $env->{PATH_INFO};
        return $inner->($env);
    };
};

builder {
    enable 'ReverseProxy';
    enable $session;
    enable $application_keys;
    $app;
};
