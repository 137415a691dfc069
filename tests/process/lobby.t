# The lobby: connections outlive workers, and only a request that is there occupies one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::HTTP;
use File::Temp ();
use Test::More;

my $app = <<'PERL';
use strict;
use warnings;
sub wait_for_gate { my ($gate) = @_; until (-e $gate) { select undef, undef, undef, 0.005 } return }
sub {
    my ($env) = @_;
    my $body = do { my ($all, $piece) = (''); while ($env->{'psgi.input'}->read($piece, 8192)) { $all .= $piece } $all };
    my $path = $env->{PATH_INFO};
    if ($path =~ m{\A/hold/(\w+)}) {
        open my $begun, '>', "begun-$1" or die $!;
        wait_for_gate("gate-$1");
    }
    $env->{'psgix.harakiri.commit'} = 1 if $path eq '/leave';
    return [200, ['Content-Type' => 'text/plain'], [join ' ', $$, $env->{REMOTE_ADDR} // '-', $env->{REQUEST_URI}, length $body, $body =~ /\A(.?)/s]];
}
PERL

sub open_gate { my ($server, $name) = @_; write_text($server->folder . "/gate-$name", ''); return }
sub has_begun { my ($server, $name) = @_; return wait_for { -e $server->folder . "/begun-$name" } }

# One connection for each way to speak to the server: { request => sub { uri, %o → body }, bytes => sub { uri, %o → text }, … }
sub ways {
    my ($server) = @_;
    my ($tcp) = $server->log =~ m{(127\.0\.0\.1:\d+) \(FastCGI\)};
    my $fastcgi = sub {
        my ($address) = @_;
        return sub {
            my $c = BladePSGI::Test::FastCGI->connect($address);
            return {
                c       => $c,
                bytes   => sub { my ($uri, %o) = @_; request_bytes(uri => $uri, keep => 1, %o, defined $o{body} ? (method => 'POST') : ()) },
                read    => sub { $c->read_response(1)->{body} },
            };
        };
    };
    my $http = sub {
        my ($address) = @_;
        return sub {
            my $c = http($server, over => $address);
            return { c => $c, bytes => sub { my ($uri, %o) = @_; http_request(uri => $uri, %o) }, read => sub { $c->read_response->{body} } };
        };
    };
    return (
        'FastCGI over a path' => $fastcgi->($server->socket), 'FastCGI over TCP' => $fastcgi->($tcp),
        'HTTP over a path' => $http->(http_path($server)), 'HTTP over TCP' => $http->(http_address($server)),
    );
}

sub ask {
    my ($way, $uri, %o) = @_;
    $way->{c}->send($way->{bytes}->($uri, %o));
    return $way->{read}->();
}

sub server { return http_server(app => $app, workers => 2, @_, options => ['--fastcgi=127.0.0.1:0', @{ {@_}->{options} || [] }]) }

subtest 'more kept connections than workers' => sub {
    my $server = server();
    my %ways = ways($server);
    for my $name (sort keys %ways) {
        my @kept = map { $ways{$name}->() } 1 .. 8;
        my %served;
        for my $round (1 .. 3) {
            my @answers = map { ask($kept[$_], "/$round/$_") } 0 .. 7;
            is_deeply [ map { m{ (/\S+) } } @answers ], [ map { "/$round/$_" } 0 .. 7 ], "$name: each of eight is answered, round $round";
            my $address = $name =~ /HTTP over TCP|FastCGI/ ? '127.0.0.1' : '';
            is_deeply [ grep { (split / /, $_)[1] ne ($address || '-') && (split / /, $_, 3)[1] ne $address } @answers ], [], 'the address of the peer is right';
        }
        # All at once, in one go.
        $_->{c}->send($_->{bytes}->('/burst')) for @kept;
        is scalar(grep { $_->{read}->() =~ m{ /burst 0} } @kept), 8, 'all at once';
        # A request with a body as well.
        is scalar(grep { ask($_, '/post', body => 'b' x 5000) =~ m{ /post 5000 b\z} } @kept), 8, 'with bodies';
    }
    is $server->stop, 'exit 0', 'stops';
    unlike $server->log, qr/ (?:WARNING|ERROR|PANIC): (?!.*running as root)/, 'nothing went wrong';
};

subtest 'nobody waits for a busy worker while another one is free' => sub {
    my $server = BladePSGI::Test->start(workers => 2, app => $app);
    my $busy = $server->connect(timeout => 60);
    $busy->send(request_bytes(uri => '/hold/busy'));
    ok has_begun($server, 'busy'), 'one of two is busy';
    my %answered;
    for my $round (1 .. 5) {
        my @fresh = map { my $c = $server->connect; $c->send(request_bytes(uri => '/', keep => 1)); $c } 1 .. 20;
        for my $c (@fresh) {
            my $body = eval { $c->read_response(1)->{body} } // 'none';
            $answered{ (split / /, $body)[0] }++;
        }
        for my $c (@fresh) {
            $c->send(request_bytes(uri => '/'));
            my $body = eval { $c->read_response->{body} } // 'none';
            $answered{ (split / /, $body)[0] }++;
        }
    }
    is join(' ', values %answered), 200, 'the other one answers everybody';
    open_gate($server, 'busy');
    ok !$answered{ (split / /, $busy->read_response->{body})[0] }, 'it is another one';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a worker that leaves loses no connection' => sub {
    my $server = server(workers => 1);
    my %ways = ways($server);
    for my $name (sort keys %ways) {
        my $kept = $ways{$name}->();
        my ($first) = split / /, ask($kept, '/leave');
        my ($second) = split / /, ask($kept, '/post', body => 'x' x 100_000);
        isnt $second, $first, "$name: a POST on the kept connection of a worker that has left is served by the next one";
    }
    is $server->stop, 'exit 0', 'stops';
};

subtest 'changing over to new workers' => sub {
    my $server = server();
    my %ways = ways($server);
    my @kept = map { $_->() } (values %ways) x 2;
    ask($_, '/') for @kept;
    my $from = $server->log_size;
    kill KILL => $server->pid_of('zygote');
    my $round = 0;
    wait_for {
        ++$round;
        is_deeply [ grep { !m{ /round-$round 10 y} } map { ask($_, "/round-$round", body => 'y' x 10) } @kept ], [], "round $round" if $round < 500;
        $server->log =~ /workers have changed over/;
    };
    like substr($server->log, $from), qr/workers have changed over/, 'done';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the lobby dies' => sub {
    my $server = server();
    my %ways = ways($server);
    my @kept = map { $_->() } (values %ways) x 2;
    ask($_, '/before') for @kept;
    my $lobby = $server->pid_of('lobby');
    kill KILL => $lobby;
    isnt $server->pid_of('lobby', $lobby), $lobby, 'there is a new one';
    log_like $server, qr/lobby \(pid $lobby\) died unexpectedly: .*a new one is started/, 'the log says so';
    my ($closed, $open) = (0, 0);
    # Those of a process that is gone are closed already.
    for my $way (@kept) {
        if ($way->{c}->is_readable(0)) { ok $way->{c}->closes, 'one that it held is closed'; $closed++ }
        else { like ask($way, '/after', body => 'z'), qr{ /after 1 z}, 'one that a worker held, or that was on its way, is served'; $open++ }
    }
    is $closed + $open, 8, 'all are accounted for';
    # And it is at work again.
    my @again = map { $_->() } (values %ways) x 2;
    is scalar(grep { ask($_, '/again') =~ m{ /again 0} } @again, @again), 16, 'new ones wait in the new one';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'stopping' => sub {
    my $server = server();
    my %ways = ways($server);
    my @kept = map { $_->() } (values %ways) x 2;
    ask($_, '/') for @kept;
    my $held = $ways{'HTTP over TCP'}->();
    $held->{c}->send($held->{bytes}->('/hold/stop'));
    has_begun($server, 'stop');
    $server->signal('TERM');
    ok $_->{c}->closes, 'an idle connection is closed at once' for @kept;
    open_gate($server, 'stop');
    like $held->{read}->(), qr{ /hold/stop 0}, 'the request under way is completed';
    is $server->wait_exit, 'exit 0', 'stops';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest 'idle connections end in time' => sub {
    my $server = server(options => ['--idle-timeout=100ms']);
    my %ways = ways($server);
    my @kept = map { $_->() } (values %ways) x 2;
    for (@kept) { ask($_, '/'); }
    ok $_->{c}->closes, 'closed' for @kept;
    is $server->stop, 'exit 0', 'stops';
    $server = server(options => ['--head-timeout=100ms']);
    %ways = ways($server);
    my @silent = map { $_->() } values %ways;
    ok $_->{c}->closes, 'one on which nothing ever came, too' for @silent;
    is $server->stop, 'exit 0', 'stops';
};

subtest 'too many' => sub {
    my $server = server(workers => 1, options => ['--lobby-connections=3']);
    my %ways = ways($server);
    # One after the other, so that each is older than the next.
    my @kept = map { my $way = $ways{'HTTP over a path'}->(); ask($way, '/'); $way } 1 .. 6;
    ok $kept[$_]{c}->closes, "the oldest idle one gives way ($_)" for 0, 1;
    like ask($_, '/again'), qr{ /again 0}, 'the others are served' for @kept[3 .. 5];
    log_like $server, qr/WARNING:  lobby\[\d+\]: dropped an idle connection: more than 3 connections wait \(--lobby-connections/, 'the log says so';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
