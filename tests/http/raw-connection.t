# psgix.io and 101: an application that speaks on the client's connection by itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use Test::More;

my $app = BladePSGI::Test->gate_code . <<'PERL';
use strict;
use warnings;

our @kept;
sub lines { my ($io, $out) = @_; while (defined(my $line = <$io>)) { last if $line eq "bye\n"; $out->("you said $line") } }

my %cases = (
    pid  => sub { [200, [], [$$]] },
    # There is one, and to see that is not to ask for it.
    there => sub { my ($env) = @_; [200, [], [join ',', (exists $env->{'psgix.io'} ? 'exists' : 'none'), $$]] },
    what  => sub { my ($env) = @_; my $io = $env->{'psgix.io'}; die 'two handles' if $io != $env->{'psgix.io'};
        my $open = $env->{QUERY_STRING} ? fileno $io : $io->opened;    # by an operator, by a method
        [200, [], [join ',', ref $io, $io->connected ? 'connected' : 'gone', $io->isa('IO::Socket::IP') ? $io->peerport == $env->{REMOTE_PORT} ? 'the same peer' : 'another peer' : 'unix', fileno $io > 2 ? 'open' : 'closed']] },
    # The whole conversation on the handle: the responder is never called.
    raw   => sub { my ($env) = @_; sub {
        my $io = $env->{'psgix.io'};
        print {$io} "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n";
        lines($io, sub { print {$io} @_ });
        print {$io} "good bye\n";
    } },
    # By a response: the server says the head, then both have the connection.
    switch => sub { my ($env) = @_; sub {
        my $writer = $_[0]->([101, [Upgrade => 'lines', 'Content-Length' => 3]]);
        lines($env->{'psgix.io'}, sub { $writer->write(@_) });
        $writer->close;
    } },
    # The connection goes on in another process, the worker serves others.
    fork => sub { my ($env) = @_; sub {
        my $io = $env->{'psgix.io'};
        $io->opened or die;
        my $pid = fork // die "fork: $!";
        return if $pid;
        print {$io} "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n";
        lines($io, sub { print {$io} @_ });
        require POSIX; POSIX::_exit(0);
    } },
    dies  => sub { my ($env) = @_; my $io = $env->{'psgix.io'}; die 'after a look' if fileno $io },
    never => sub { sub { } },
    copy  => sub { my ($env) = @_; my %copy = %$env; [200, [], [(grep { "$_" =~ /Connection/ } map { $copy{$_} ? $copy{$_} : () } keys %copy) == 1 ? 'a handle' : 'none']] },
    select => sub { my ($env) = @_; my $io = $env->{'psgix.io'}; require IO::Select; [200, [], [IO::Select->new($io)->can_read(0) ? 'input' : 'no input']] },
    isa   => sub { my ($env) = @_; my $io = $env->{'psgix.io'}; [200, [], [join ',', map { $io->isa($_) ? 1 : 0 } qw(IO::Socket IO::Handle IO::File)]] },
    no_longer => sub { [200, [], [join ',', map { my $io = $_; defined fileno $io ? 'open' : 'closed' } our @handles]] },
    hold  => sub { my ($env) = @_; push our @handles, $env->{'psgix.io'}; [200, [], ['x']] },
    own   => sub { my ($env) = @_; $env->{'psgix.io'} = 'mine'; [200, [], [$env->{'psgix.io'}]] },
    locally => sub { my ($env) = @_; { local $env->{'psgix.io'} = 'mine'; die if $env->{'psgix.io'} ne 'mine' } [200, [], [ref $env->{'psgix.io'} ? 'a handle' : 'none']] },
    keep  => sub { push @kept, $_[0]; [200, [], ['kept']] },
    # An env that has outlived its request must not give away the connection of another.
    stale => sub { [200, [], [join ',', map { defined $_->{'psgix.io'} ? 'a handle' : 'undef' } @kept]] },
    clean => sub { my ($env) = @_; push @{ $env->{'psgix.cleanup.handlers'} }, sub { our $late = defined $_[0]{'psgix.io'} ? 'a handle' : 'undef' }; [200, [], ['x']] },
    late  => sub { our $late; [200, [], [$late]] },
    body  => sub { my ($env) = @_; my $io = $env->{'psgix.io'}; my $got = ''; 1 while $env->{'psgi.input'}->read($got, 65536, length $got); [200, [], [length $got]] },
);
sub { my ($env) = @_; my ($name) = $env->{PATH_INFO} =~ m{\A/(\w+)}; $cases{$name}->($env) };
PERL

my $server = http_server(workers => 1, app => $app);
my $pid = http($server)->request(uri => '/pid')->{body};

# What has come until $end, with a deadline.
sub read_until {
    my ($c, $end) = @_;
    $c->{deadline} = undef;
    while ($c->{in} !~ $end) { last unless $c->_more }
    my $got = $c->{in};
    $c->{in} = '';
    return $got;
}

my @upgrade = (headers => [ Connection => 'Upgrade', Upgrade => 'lines' ]);

subtest 'there when asked for' => sub {
    my $c = http($server);
    for (['/there', "exists,$pid"], ['/copy', 'a handle'], ['/there', "exists,$pid"]) {
        my ($uri, $body) = @$_;
        my $r = $c->request(uri => $uri);
        is $r->{body}, $body, "$uri: it is there";
        ok !exists $r->{header}{connection}, 'and who does not use it keeps the connection';
    }
    for my $query ('', '?1') {
        $c = http($server);
        my $r = $c->request(uri => "/what$query");
        is_whole $r, 'an ordinary response of an application that uses it';
        is $r->{body}, 'IO::Socket::IP,connected,the same peer,open', 'it is a socket';
        is $r->{header}{connection}, 'close', 'the connection ends with it';
        is http($server, over => http_path($server))->request(uri => "/what$query")->{body}, 'IO::Socket::UNIX,connected,unix,open', 'over a UNIX socket, too';
    }
    is http($server)->request(uri => '/select')->{body}, 'no input', 'IO::Select takes it';
    is http($server)->request(uri => '/isa')->{body}, '1,1,0', 'and it is what it is';
    is http($server)->request(uri => '/own')->{body}, 'mine', 'what is put in its place stays';
    is http($server)->request(uri => '/locally')->{body}, 'a handle', 'also for a while';
    my $kept = http($server);
    $kept->request(uri => '/hold');
    is $kept->request(uri => '/no_longer')->{body}, 'closed', 'a handle first used after its request has no connection';
    is $kept->request(uri => '/pid')->{body}, $pid, 'and does not disturb the one that is there';
    is http($server)->request(uri => '/body', body => 'x' x 300_000)->{body}, 300_000, 'the body of the request is still in psgi.input';
};

for my $path (qw(raw switch fork)) {
    for my $over ('TCP', 'UNIX') {
        subtest "a conversation: $path, $over" => sub {
            my $c = http($server, $over eq 'UNIX' ? (over => http_path($server)) : ());
            $c->send(http_request(uri => "/$path", @upgrade));
            my $head = read_until($c, qr/\r\n\r\n/);
            like $head, qr{\AHTTP/1\.1 101 Switching Protocols\r\n}, 'it switches';
            like $head, qr{^Connection: Upgrade\r$}m, 'and says so';
            like $head, qr{^Upgrade: lines\r$}m, 'to what';
            unlike $head, qr{Content-Length|Transfer-Encoding|close}i, 'nothing about a body';
            for my $word (qw(one two three)) {
                $c->send("$word\n");
                is read_until($c, qr/\n/), "you said $word\n", "answered: $word";
                is http($server)->request(uri => '/pid')->{body}, $pid, 'meanwhile the worker serves others' if $path eq 'fork';
            }
            $c->send("bye\n");
            is read_until($c, qr/\z(?!)/), $path eq 'raw' ? "good bye\n" : '', 'and its end is the end of the connection';
            ok $c->{eof} && !$c->{reset}, 'an orderly one';
        };
    }
}

subtest 'what goes wrong' => sub {
    my $dying = http($server);
    $dying->send(http_request(uri => '/dies'));
    ok $dying->closes, 'when the application dies after it has used it, the connection ends without a word of ours';
    my $r = http($server)->request(uri => '/never');
    is_whole $r, 'one that neither looks nor answers';
    is $r->{status}, 500, 'is a 500';
    is http($server)->request(uri => '/keep')->{body}, 'kept', 'an env that is kept';
    is http($server)->request(uri => '/stale')->{body}, 'undef', 'has no connection of a later request';
    http($server)->request(uri => '/clean');
    is http($server)->request(uri => '/late')->{body}, 'undef', 'nor has a cleanup handler, whose connection may be serving another';
    my $c = http($server);
    $c->send(http_request(uri => '/raw', @upgrade));
    read_until($c, qr/\r\n\r\n/);
    $c->close;
    is http($server)->request(uri => '/pid')->{body}, $pid, 'a client that goes away in the middle of a conversation ends it, nothing else';
};

is http($server)->request(uri => '/pid', version => '1.0')->{body}, $pid, 'one worker served all of it';
unlike $server->log, qr/psgix\.io|unexpectedly/, 'and nothing was said';
$server->stop;
done_testing;
