# Peers that send slowly, or not at all: only a request that is there occupies a worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::HTTP;
use IO::Socket::UNIX;
use Test::More;
use Time::HiRes ();

my $app = <<'PERL';
use strict;
use warnings;
sub {
    my ($env) = @_;
    my $all = '';
    my $path = $env->{PATH_INFO};
    if ($path =~ m{\A/begin/(\w+)}) { open my $begun, '>', "begun-$1" or die $! }
    my $n;
    while ($n = $env->{'psgi.input'}->read(my $piece, 65536)) { $all .= $piece }
    return [200, ['Content-Type' => 'text/plain'], [join ' ', $$, $env->{REQUEST_URI}, length $all, defined $n ? 'whole' : 'broken']];
}
PERL

sub server { my (%o) = @_; return http_server(app => $app, workers => 2, %o) }

# Cut everywhere: what comes in pieces with pauses between them is put together again. [protocol, bytes, what is answered]
sub requests {
    my ($uri) = @_;
    my $body = join '', map { chr(97 + $_ % 26) } 1 .. 3000;
    return (
        [ 'FastCGI' => request_bytes(uri => "$uri/get") => "$uri/get 0 whole" ],
        [ 'FastCGI' => request_bytes(uri => "$uri/post", method => 'POST', body => $body, chunk => 1000, padding => 3) => "$uri/post 3000 whole" ],
        [ 'FastCGI' => request_bytes(uri => "$uri/long", env => { HTTP_LONG => 'x' x 200_000 }) => "$uri/long 0 whole" ],
        # As Caddy does for a body whose length it does not know.
        [ 'FastCGI' => request_bytes(uri => "$uri/unknown", method => 'POST', body => $body, env => { CONTENT_LENGTH => -1 }) => "$uri/unknown 3000 whole" ],
        [ 'HTTP' => http_request(uri => "$uri/get", close => 1) => "$uri/get 0 whole" ],
        [ 'HTTP' => http_request(uri => "$uri/post", body => $body, close => 1) => "$uri/post 3000 whole" ],
        [ 'HTTP' => http_request(uri => "$uri/chunks", body => [ 'a' x 500, $body ], close => 1) => "$uri/chunks 3500 whole" ],
        [ 'HTTP' => http_request(uri => "$uri/long", headers => [ Long => 'x' x 200_000 ], close => 1) => "$uri/long 0 whole" ],
    );
}

sub connection {
    my ($server, $protocol) = @_;
    return $protocol eq 'HTTP' ? http($server, over => http_path($server)) : $server->connect;
}

subtest 'two half-sent requests and two workers' => sub {
    my $server = server();
    for my $request (requests('/half')) {
        my ($protocol, $bytes, $answer) = @$request;
        for my $part (0, 5, 0.5, length($bytes) - 1) {
            my $size = $part < 1 ? int $part * length $bytes : $part;
            my @half = map { connection($server, $protocol) } 1 .. 3;
            $_->send(substr $bytes, 0, $size) for @half;
            ok within(10, sub { $server->get("/other-$_")->{body} =~ m{/other} or die for 1 .. 3 }), "$protocol $answer: with $size bytes of them here, others are served";
            $_->send(substr $bytes, $size) for @half;
            is_deeply [ map { $_->read_response->{body} =~ s/\A\d+ //r } @half ], [ ($answer) x 3 ], 'and they are, when the rest has come';
        }
    }
    is $server->stop, 'exit 0', 'stops';
    unlike $server->log, qr/ (?:ERROR|PANIC|FATAL):/, 'nothing went wrong';
};

subtest 'a thousand idle and a thousand half-sent' => sub {
    my $each = is_sanitized() ? 100 : 1000;
    my $server = server(options => ['--head-timeout=60s']);
    my (@idle, @half);
    for my $n (1 .. $each) {
        push @idle, my $idle = IO::Socket::UNIX->new(Peer => $server->socket) || die "connect: $!";
        push @half, my $half = IO::Socket::UNIX->new(Peer => http_path($server)) || die "connect: $!";
        syswrite $half, ("GET / HTTP/1.1\r\nHost: x\r\nX: ", "POST /begin/never HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")[ $n % 2 ];
        next if $n % 100;
        ok within(10, sub { $server->get("/$n")->{body} =~ m{/$n} or die }), "others are served while $n of each wait";
    }
    ok !-e $server->folder . '/begun-never', 'no worker has seen one of them';
    my $lobby = $server->pid_of('lobby');
    my @held;
    ok wait_for { @held = glob "/proc/$lobby/fd/*"; @held > 2 * $each }, 'the lobby holds them all';
    close $_ for @idle, @half;
    ok wait_for { @held = glob "/proc/$lobby/fd/*"; @held < 30 }, 'and lets them go when they go';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'more at once than the queue to the lobby holds' => sub {
    my $server = server(options => ['--head-timeout=60s']);
    my $lobby = $server->pid_of('lobby');
    kill STOP => $lobby;
    my $head = "GET /burst HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    my @half = map { http($server, over => http_path($server)) } 1 .. 800;
    $_->send($head) for @half;
    log_like $server, qr/WARNING:  worker\[\d+\]: the lobby is behind/, 'the log says so';
    kill CONT => $lobby;
    ok within(10, sub { $server->get("/other-$_")->{body} =~ m{/other} or die for 1 .. 3 }), 'when it goes on, others are served';
    $_->send("\r\n") for @half;
    is scalar(grep { $_->read_response->{body} =~ m{/burst 0 whole} } @half), 800, 'and they are, when the rest has come';
    is $server->stop, 'exit 0', 'stops';
};

subtest '--slow-bodies and --body-ahead' => sub {
    my $server = server(workers => 3, options => ['--slow-bodies=1', '--body-ahead=1000']);
    my $begun = sub { -e $server->folder . "/begun-$_[0]" };
    my %c = map { $_ => http($server) } 'a' .. 'c';
    $c{$_}->send("POST /begin/$_ HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" . 'x' x 999) for sort keys %c;
    like $server->get('/other')->{body}, qr{/other}, 'served' for 1 .. 3;
    is_deeply [ grep { $begun->($_) } sort keys %c ], [], 'with less than --body-ahead none has begun';
    $c{a}->send('y' x 100_000);
    ok wait_for { $begun->('a') }, 'with more, it has';
    $c{$_}->send('y' x 100_000) for 'b', 'c';
    like $server->get('/other')->{body}, qr{/other}, 'served' for 1 .. 3;
    is_deeply [ grep { $begun->($_) } sort keys %c ], ['a'], 'but one at a time';
    $c{a}->send('z' x (200_000 - 999 - 100_000));
    is $c{a}->read_response->{body} =~ s/\A\d+ //r, '/begin/a 200000 whole', 'the first is answered';
    ok wait_for { $begun->('b') || $begun->('c') }, 'then another one begins';
    $c{$_}->send('z' x (200_000 - 999 - 100_000)) for 'b', 'c';
    is $c{$_}->read_response->{body} =~ s/\A\d+ //r, "/begin/$_ 200000 whole", 'all of it' for 'b', 'c';

    # Who holds the permit dies: it is given back.
    my $broken = http($server);
    $broken->send("POST /begin/d HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" . 'x' x 70_000);
    ok wait_for { $begun->('d') }, 'one has begun';
    my %before = map { $_ => 1 } $server->worker_pids;
    kill KILL => keys %before;
    ok wait_for { (grep { !$before{$_} } $server->worker_pids) == 3 }, 'all workers die, there are others';
    my $after = http($server);
    $after->send("POST /begin/e HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" . 'x' x 70_000);
    ok wait_for { $begun->('e') }, 'and another one may begin';
    $after->send('x' x 130_000);
    is $after->read_response->{body} =~ s/\A\d+ //r, '/begin/e 200000 whole', 'and end';
    is $server->stop, 'exit 0', 'stops';
};

# Each upload is more than a socket takes, so all but the first bytes of it come while the application reads.
subtest 'more uploads than permits take turns' => sub {
    my $server = server(workers => 3, options => [ '--slow-bodies=1', '--body-ahead=1000' ]);
    my ($size, $clients, $wanted) = (600_000, 8, is_long() ? 2000 : 240);
    my $ended = 0;
    my (@upload, @turns, @wrong);
    my $begin = sub {
        my ($n) = @_;
        my $uri = "/upload-$n-$ended";
        my $c = connection($server, 'HTTP');
        $upload[$n] = { c => $c, uri => $uri, since => $ended, at => 0, bytes => "POST $uri HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: $size\r\n\r\n" . 'u' x $size };
        return;
    };
    $begin->($_) for 0 .. $clients - 1;
    my $deadline = Time::HiRes::time() + 120 * $BladePSGI::Test::PATIENCE;
    while ($ended < $wanted && Time::HiRes::time() < $deadline) {
        my ($in, $out) = ('', '');
        for (@upload) { vec($_->{at} < length $_->{bytes} ? $out : $in, fileno $_->{c}->socket, 1) = 1 }
        select $in, $out, undef, 1;
        for my $n (0 .. $#upload) {
            my $u = $upload[$n];
            if ($u->{at} < length $u->{bytes}) {
                next unless vec $out, fileno $u->{c}->socket, 1;
                my $sent = syswrite $u->{c}->socket, $u->{bytes}, 30_000, $u->{at};
                $u->{at} += $sent // ($!{EAGAIN} ? 0 : die "sending: $!");
                next;
            }
            next unless vec $in, fileno $u->{c}->socket, 1;
            my $body = $u->{c}->read_response->{body} =~ s/\A\d+ //r;
            push @wrong, $body if $body ne "$u->{uri} $size whole";
            push @turns, $ended++ - $u->{since};
            $begin->($n);
        }
        # Somebody else is served all the while.
        push @wrong, 'other' if $ended % 20 == 1 && $server->get("/other-$ended")->{body} !~ m{/other-$ended 0};
    }
    is $ended, $wanted, "$wanted uploads by $clients clients with one permit";
    is_deeply \@wrong, [], 'each is answered';
    @turns = sort { $a <=> $b } @turns;
    cmp_ok $turns[-1], '<', 5 * $clients, "none waits while many that came later are served: for $turns[@turns / 2] in the middle, $turns[-1] at most";
    $_->{c}->close for @upload;
    is $server->stop, 'exit 0', 'stops';
};

subtest '--min-body-rate' => sub {
    plan skip_all => 'is judged over ten seconds (BLADEPSGI_LONG)' unless is_long();
    my $server = server(workers => 4, options => [ '--slow-bodies=3', '--body-timeout=60s', '--min-body-rate=100' ]);
    # Ten bytes a second, or a thousand; all of them in the lobby, or all but the first bytes in the application.
    my %sends = (
        'slow, in the lobby'       => [ 1,   2000,    0 ],
        'slow, in the application' => [ 1,   200_000, 100_000 ],
        'quick, in the lobby'      => [ 100, 15_000,  0 ],
        'quick, in the application' => [ 100, 115_000, 100_000 ],
    );
    my (%c, %left);
    for my $name (keys %sends) {
        my ($piece, $length, $first) = @{ $sends{$name} };
        $c{$name} = connection($server, 'HTTP');
        $c{$name}->send("POST /rate HTTP/1.1\r\nHost: x\r\nContent-Length: $length\r\n\r\n" . 'r' x $first);
        $left{$name} = $length - $first;
    }
    my $start = Time::HiRes::time();
    my %took;
    my $round = sub {
        select undef, undef, undef, 0.1;    # not to wait for something: that is how they send
        for my $name (keys %sends) {
            if ($c{$name}->is_readable) { $took{$name} //= Time::HiRes::time() - $start; next }
            my $piece = $sends{$name}[0] < $left{$name} ? $sends{$name}[0] : $left{$name};
            $c{$name}->send('r' x $piece);
            $left{$name} -= $piece;
        }
        return keys %took == keys %sends;
    };
    ok wait_for(sub { $round->() }, 60), 'all are answered';
    my %r = map { $_ => $c{$_}->read_response } keys %sends;
    is $r{'slow, in the lobby'}{status}, 408, 'slow, in the lobby: 408';
    like $r{'slow, in the application'}{body}, qr{/rate \d+ broken\z}, 'slow, in the application: its read fails';
    like $r{'quick, in the lobby'}{body}, qr{/rate 15000 whole\z}, 'quick, in the lobby: whole';
    like $r{'quick, in the application'}{body}, qr{/rate 115000 whole\z}, 'quick, in the application: whole';
    cmp_ok $took{$_}, '>', 9, "$_: judged over ten seconds" for grep { /slow/ } keys %sends;
    note "$_: $took{$_} s" for sort keys %took;
    log_like $server, qr{WARNING:  worker\[\d+\]: POST /rate \[\S+\]: refused a request: its body (?:took too long|came too slowly)}, 'the log says so';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'time limits' => sub {
    my $server = server(workers => 1, options => [ '--head-timeout=200ms', '--body-timeout=200ms' ]);
    my $head = $server->connect;
    $head->send(substr request_bytes(uri => '/x'), 0, 100);
    ok $head->closes, 'half a head is dropped';
    log_like $server, qr/WARNING:  lobby\[\d+\]: dropped a connection: its request took too long/, 'the log says so';
    my $body = http($server);
    $body->send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    is $body->read_response->{status}, 408, 'half a body is answered';
    is $server->get('/other')->{status}, 200, 'the worker lives on';
    is $server->stop, 'exit 0', 'stops';
};

subtest '--lobby-memory' => sub {
    my $server = server(options => [ '--lobby-memory=1M', '--max-params-bytes=1M', '--head-timeout=60s' ]);
    my @small = map { connection($server, 'HTTP') } 1 .. 5;
    $_->send("GET /small HTTP/1.1\r\nHost: x\r\n") for @small;
    my @large = map { connection($server, 'HTTP') } 1 .. 2;
    $_->send("GET /large HTTP/1.1\r\nHost: x\r\nX: " . 'x' x 700_000) for @large;
    ok wait_for { grep { $_->is_readable } @large }, 'the two do not fit: one of them is dropped';
    log_like $server, qr/WARNING:  lobby\[\d+\]: dropped a request of \d+ bytes that was not complete: .*--lobby-memory/, 'the log says so';
    $_->send("\r\n") for @small;
    like $_->read_response->{body}, qr{/small 0}, 'who has little stays' for @small;
    is $server->stop, 'exit 0', 'stops';
};

subtest 'without a lobby' => sub {
    my $server = server(options => ['--lobby-connections=0']);
    ok !(grep { /: lobby\z/ } keys %{ $server->processes }), 'there is none';
    my @kept = map { http($server) } 1 .. 4;
    like $kept[$_]->request(uri => "/$_")->{body}, qr{/$_ }, 'requests are served' for 0 .. 3;
    my $slow = $server->connect;
    my $bytes = request_bytes(uri => '/slow');
    $slow->send(substr $bytes, 0, 50);
    like $server->get('/other')->{body}, qr{/other}, 'others are served';
    $slow->send(substr $bytes, 50);
    like $slow->read_response->{body}, qr{/slow 0 whole}, 'a worker waits for the slow one';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
