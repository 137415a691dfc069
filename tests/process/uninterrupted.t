# Whatever the operator does, no request is lost: under verified load of every kind (fresh and kept connections, directly and through nginx, GET
# and POST, quick and slow requests) the application is loaded anew, broken releases are tried, and workers are recycled. The clients count.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Load;
use BladePSGI::Test::Nginx;
use Test::More;

my $timeout = 30;

# `top` runs while it loads, `early` at the beginning of each request.
sub app_code {
    my ($version, %o) = @_;
    $_ //= '' for @o{qw(top early)};
    return <<"PERL";
use strict;
use warnings;
my \$served = 0;
$o{top}
sub {
    my (\$env) = \@_;
    ++\$served;
    $o{early}
    my \$path = \$env->{PATH_INFO};
    my \$body = '';
    while (\$env->{'psgi.input'}->read(my \$bytes, 65536)) { \$body .= \$bytes }
    return [500, [], ["wrong body '\$body'"]] if \$env->{REQUEST_METHOD} eq 'POST' && \$body ne "body of \$path";
    select undef, undef, undef, 0.15 if \$path =~ /0\\z/;    # one in ten is slow
    return [200, ['Content-Type' => 'text/plain'], ["\$path version $version \$\$"]];
};
PERL
}

sub change { my ($server, @app) = @_; write_text($server->folder . '/app.psgi', app_code(@app)); return }

# The server, all loads on it, and what stops them and judges.
sub start_under_load {
    my (%o) = @_;
    my $server = BladePSGI::Test->start(control => 1, app => app_code(1), workers => 4, %o);
    my $nginx = BladePSGI::Test::Nginx->start(socket => $server->socket, keep_conn => 'on');
    my $port = $nginx->port;
    my $through_nginx = sub { BladePSGI::Test::HTTP->connect("127.0.0.1:$port", timeout => $timeout) };
    my @loads = (
        [ 'fresh connections', clients => 2, keep => 0 ],
        [ 'kept connections',  clients => 3, keep => 1 ],
        [ 'through nginx',     clients => 1, keep => 0, connect => $through_nginx ],
        [ 'through nginx, kept on both sides', clients => 2, keep => 1, connect => $through_nginx ],
    );
    push @$_, BladePSGI::Test::Load->start($server, timeout => $timeout, @$_[ 1 .. $#$_ ]) for @loads;
    my $judge = sub {
        for my $load (@loads) {
            my $result = $load->[-1]->stop;
            is_deeply $result->{failures}, [], "$load->[0]: none of $result->{ok} was lost";
            cmp_ok $result->{ok}, '>', 20, 'and there were some';
            # Where nobody is between: the server closes no connection that it has kept.
            is $result->{retried}, 0, 'none had to be asked twice' if $load->[0] eq 'kept connections';
        }
        $nginx->stop;
        is $server->stop, 'exit 0', 'stops';
        unlike $server->log, qr/PANIC|Assertion|invariant|died unexpectedly/, 'nobody has ended by himself' unless $o{may_die};
    };
    return ($server, $judge);
}

# Until the clients have had so many more answers.
sub requests_go_on {
    my ($server, $count) = @_;
    my $before = $server->stats->{requests};
    return wait_for { $server->stats->{requests} > $before + ($count || 30) } 60;
}

sub rounds { my ($long, $short) = @_; return is_long() ? $long : $short }

subtest 'reloads' => sub {
    my ($server, $judge) = start_under_load(options => ['--probe=/probe0']);
    for my $time (1 .. rounds(50, 4)) {
        change($server, $time + 1);
        is $server->bladectl('reload')->{exit}, 'exit 0', "reload $time";
        ok requests_go_on($server), 'requests go on';
        like $server->get('/')->{body}, qr/version ${\ ($time + 1)} /, 'in the new code';
    }
    $judge->();
};

subtest 'broken releases' => sub {
    my ($server, $judge) = start_under_load(may_die => 1, options => [ '--probe=/probe', '--probe-timeout=2s', '--load-timeout=2s' ]);
    my %broken = (
        'a syntax error'             => [ 'top', 'my $x = ;',                      qr/syntax error/ ],
        'one that dies at load'      => [ 'top', 'die "not today\n";',             qr/not today/ ],
        'one that hangs at load'     => [ 'top', 'sleep 1 while 1;',               qr/--load-timeout/ ],
        'one that crashes at load'   => [ 'top', 'kill SEGV => $$; sleep 1;',      qr/SIGSEGV/ ],
        'a crash at the first request' => [ 'early', 'kill SEGV => $$; sleep 1;',  qr/SIGSEGV|probe/ ],
        'an error at the first request' => [ 'early', 'die "no such table\n";',    qr/500/ ],
        'one that hangs at the first request' => [ 'early', 'sleep 1 while 1;',    qr/--probe-timeout/ ],
    );
    for my $round (1 .. rounds(5, 1)) {
        for my $name (sort keys %broken) {
            my ($where, $code, $reason) = @{ $broken{$name} };
            change($server, 2, $where => $code);
            my $run = $server->bladectl('reload');
            is $run->{exit}, 'exit 3', "$name: refused";
            like $run->{err}, $reason, 'with the reason';
            ok requests_go_on($server), 'requests go on';
            like $server->get('/')->{body}, qr/version 1 /, 'in the old code';
        }
    }
    $judge->();
};

subtest 'recycling' => sub {
    my ($server, $judge) = start_under_load(options => ['--max-requests=100']);
    my $wanted = rounds(60, 8);
    ok((wait_for { (() = $server->log =~ /has served its share of requests/g) >= $wanted } 300), "$wanted workers have been replaced");
    ok requests_go_on($server), 'requests go on';
    $judge->();
};

done_testing;
