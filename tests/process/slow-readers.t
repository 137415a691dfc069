# Clients that take their response slowly, or not at all: what is finished is sent by the lobby, and the worker goes on; who streams to such
# a client waits for it, but not all workers do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::HTTP;
use Digest::MD5 qw(md5_hex);
use Test::More;

# More than any socket takes.
my $size = 12_000_000;

my $app = <<'PERL';
use strict;
use warnings;
my $size = 12_000_000;
my $text = join '', map { sprintf('%07d ', $_) . 'x' x 992 } 1 .. $size / 1000;
open my $out, '>', 'large' or die $!;
print $out $text;
close $out or die $!;
sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    my @type = ('Content-Type' => 'text/plain');
    my @length = $env->{QUERY_STRING} =~ /nolength/ ? () : ('Content-Length' => $size);
    return [200, [@type, @length], [$text]] if $path eq '/string';
    return [200, [@type, @length], [unpack '(a20000)*', $text]] if $path eq '/pieces';
    if ($path eq '/file') {
        open my $file, '<', 'large' or die $!;
        return [200, [@type, @length], $file];
    }
    if ($path eq '/stream') {
        return sub {
            my $writer = $_[0]->([200, [@type]]);
            $writer->write($text) for 1 .. 2;
            $writer->close;
        };
    }
    return [200, [@type], ["$$ $env->{REQUEST_URI}"]];
}
PERL

my $text = join '', map { sprintf('%07d ', $_) . 'x' x 992 } 1 .. $size / 1000;

sub server { my (%o) = @_; return http_server(app => $app, workers => 1, %o, options => [ '--fastcgi=127.0.0.1:0', @{ $o{options} || [] } ]) }

sub ways {
    my ($server) = @_;
    my ($tcp) = $server->log =~ m{(127\.0\.0\.1:\d+) \(FastCGI\)};
    my $fastcgi = sub {
        my ($address) = @_;
        return sub {
            my $c = BladePSGI::Test::FastCGI->connect($address);
            return { c => $c, send => sub { my ($uri) = @_; $c->send(request_bytes(uri => $uri, keep => 1)) }, read => sub { $c->read_response(1)->{body} } };
        };
    };
    my $http = sub {
        my ($address) = @_;
        return sub {
            my $c = http($server, over => $address);
            return { c => $c, send => sub { my ($uri) = @_; $c->send(http_request(uri => $uri)) }, read => sub { $c->read_response->{body} } };
        };
    };
    return (
        'FastCGI over a path' => $fastcgi->($server->socket), 'FastCGI over TCP' => $fastcgi->($tcp),
        'HTTP over a path' => $http->(http_path($server)), 'HTTP over TCP' => $http->(http_address($server)),
    );
}

sub holds_sockets { my ($pid) = @_; return scalar grep { (readlink // '') =~ /\Asocket:/ } glob "/proc/$pid/fd/*" }

sub is_text {
    my ($body, $what) = @_;
    return ok $body eq $text, $what if length $body == length $text;
    return is length $body, length $text, $what;
}

subtest 'a finished response does not hold its worker' => sub {
    my $server = server();
    my %ways = ways($server);
    for my $name (sort keys %ways) {
        for my $uri (qw(/string /pieces /file /string?nolength /file?nolength)) {
            my @slow = map { $ways{$name}->() } 1 .. 3;
            $_->{send}->($uri) for @slow;
            ok $_->{c}->is_readable(20), "$name: $uri begins" for @slow;
            like $server->get("/other-$_")->{body}, qr{/other-$_}, 'meanwhile the only worker serves others' for 1 .. 2;
            is_text($_->{read}->(), 'and it comes whole') for @slow;
            $_->{send}->('/next') for @slow;
            like $_->{read}->(), qr{/next}, 'the connection is kept' for @slow;
        }
        # The next ones are sent before the first one is read.
        my $eager = $ways{$name}->();
        $eager->{send}->($_) for qw(/file /string /small);
        like $server->get('/other')->{body}, qr{/other}, "$name: three at once";
        is_text($eager->{read}->(), "$_ comes whole") for qw(/file /string);
        like $eager->{read}->(), qr{/small}, 'and so does the last one';
    }
    is $server->stop, 'exit 0', 'stops';
    unlike $server->log, qr/ (?:WARNING|ERROR|PANIC): (?!.*running as root)/, 'nothing went wrong';
};

subtest 'connections that are not kept' => sub {
    my $server = server();
    my ($tcp) = $server->log =~ m{(127\.0\.0\.1:\d+) \(FastCGI\)};
    for my $uri (qw(/string /file /file?nolength)) {
        my @slow = map { BladePSGI::Test::FastCGI->connect($_) } $server->socket, $tcp;
        $_->send(request_bytes(uri => $uri)) for @slow;
        my @http = map { http($server, over => $_) } http_path($server), http_address($server);
        $_->send("GET $uri HTTP/1.0\r\n\r\n") for @http;
        ok $_->is_readable(20), "$uri begins" for @slow, @http;
        like $server->get('/other')->{body}, qr{/other}, 'meanwhile others are served';
        is_text($_->read_response->{body}, 'and it comes whole') for @slow, @http;
        ok $_->closes, 'and the connection is closed' for @slow, @http;
    }
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a smart stop waits for what is being sent' => sub {
    my $server = server();
    my $idle = holds_sockets($server->pid_of('lobby'));
    my %ways = ways($server);
    my @slow = map { $ways{$_}->() } sort keys %ways;
    $slow[$_]{send}->($_ % 2 ? '/file' : '/string') for 0 .. $#slow;
    ok $_->{c}->is_readable(20), 'begins' for @slow;
    like $server->get('/other')->{body}, qr{/other}, 'the worker is free';
    ok wait_for { holds_sockets($server->pid_of('lobby')) >= 4 + $idle }, 'the lobby has them';
    $server->signal('TERM');
    log_like $server, qr/LOG:  overseer\[\d+\]: stopping: all workers have gone; waiting for (?:4 responses|[23] responses|a response) that clients have not taken yet/, 'the log says so';
    is_text($_->{read}->(), 'it comes whole') for @slow;
    is $server->wait_exit, 'exit 0', 'stops';
    is_deeply [ $server->survivors ], [], 'nothing is left';
};

subtest '--send-timeout' => sub {
    my $server = server(options => ['--send-timeout=200ms']);
    my $slow = $server->connect;
    $slow->send(request_bytes(uri => '/string'));
    log_like $server, qr/WARNING:  lobby\[\d+\]: dropped a response: its client has taken nothing of it for 0.2 s \(--send-timeout\)/, 'the log says so';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the lobby dies' => sub {
    my $server = server();
    my $idle = holds_sockets($server->pid_of('lobby'));
    my $slow = http($server);
    $slow->send("GET /file?nolength HTTP/1.0\r\n\r\n");
    ok $slow->is_readable(20), 'begins';
    like $server->get('/other')->{body}, qr{/other}, 'the worker is free';
    my $lobby = $server->pid_of('lobby');
    ok wait_for { holds_sockets($lobby) > $idle }, 'the lobby has it';
    kill KILL => $lobby;
    my $bytes = '';
    my $read = 1;
    $slow->{socket}->blocking(1);
    local $SIG{ALRM} = sub { die "no end\n" };
    alarm 60;
    while ($read) { $read = sysread $slow->{socket}, my $piece, 1 << 20; $bytes .= $piece if $read }
    alarm 0;
    ok !defined $read && $!{ECONNRESET}, 'what it sent ends with an error, not with an orderly end' or diag defined $read ? 'end' : $!;
    cmp_ok length $bytes, '<', $size, 'before it was complete';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'more than --lobby-memory' => sub {
    my $server = server(workers => 2, options => ['--lobby-memory=1M']);
    my $string = $server->connect;
    $string->send(request_bytes(uri => '/string'));
    ok $string->is_readable(20), 'a string begins';
    my @files = map { $server->connect } 1 .. 5;
    $_->send(request_bytes(uri => '/file')) for @files;
    like $server->get("/other-$_")->{body}, qr{/other-$_}, 'one worker waits for its client, the other one serves' for 1 .. 5;
    is_text($_->read_response->{body}, 'all comes whole') for $string, @files;
    is $server->stop, 'exit 0', 'stops';
};

subtest 'more in all than --lobby-memory' => sub {
    my $server = server(options => ['--lobby-memory=30M']);
    my @slow;
    for my $n (0 .. 3) {
        push @slow, my $c = $server->connect;
        $c->send(request_bytes(uri => '/string'));
        ok $c->is_readable(20), "response $n begins";
        like $server->get('/other')->{body}, qr{/other}, 'the worker is free';
    }
    log_like $server, qr/WARNING:  lobby\[\d+\]: dropped the response that is taken most slowly: .* --lobby-memory/, 'the log says so';
    is_text($slow[3]->read_response->{body}, 'the last one comes whole');
    @slow = ();    # or it would wait for them
    is $server->stop, 'exit 0', 'stops';
};

subtest 'streams' => sub {
    my $server = server(workers => 2, options => ['--slow-bodies=1']);
    my $slow = $server->connect;
    $slow->send(request_bytes(uri => '/stream'));
    ok $slow->is_readable(20), 'one begins';
    like $server->get("/other-$_")->{body}, qr{/other-$_}, 'it keeps one worker, the other one serves' for 1 .. 5;
    my $second = $server->connect;
    $second->send(request_bytes(uri => '/stream'));
    ok $second->is_readable(20), 'another one begins';
    like $server->get('/other')->{body}, qr{/other}, 'they may not keep all workers from those who wait';
    log_like $server, qr{WARNING:  worker\[\d+\]: GET /stream \[\S+\]: dropped a response that its client takes too slowly: others wait, and as many workers as --slow-bodies}, 'the log says so';
    # Which of them has the permit is a matter of chance.
    my @lengths = map { length eval { $_->read_response }->{body} // '' } $slow, $second;
    is scalar(grep { $_ == 2 * $size } @lengths), 1, 'one comes whole, late as it is' or diag "@lengths";
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a stream that nobody else waits for' => sub {
    my $server = server(options => ['--slow-bodies=1']);
    my %ways = ways($server);
    for my $name (sort keys %ways) {
        my $slow = $ways{$name}->();
        $slow->{send}->('/stream');
        ok $slow->{c}->is_readable(20), "$name: begins";
        is length $slow->{read}->(), 2 * $size, 'comes whole';
    }
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
