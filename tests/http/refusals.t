# What could be read in two ways is refused: with the right status, the connection closed, nothing behind it served, and the
# application not called.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use Test::More;

my $app = <<'PERL';
sub {
    my ($env) = @_;
    open my $calls, '>>', 'calls' or die "calls: $!";
    syswrite $calls, "$env->{REQUEST_METHOD} $env->{REQUEST_URI}\n";
    return [200, [], ['unread']] if $env->{PATH_INFO} eq '/unread';
    my ($all, $n) = (0);
    do { $n = $env->{'psgi.input'}->read(my $b, 65536); $all += $n || 0 } while $n;
    return [200, [], [join ' ', $$, $all, defined $n ? 'whole' : 'broken']];
};
PERL

my $server = http_server(workers => 1, app => $app);
my $calls = $server->folder . '/calls';

sub called { return split /\n/, read_text($calls) }

my ($pid) = http($server)->request(uri => '/first')->{body} =~ /\A(\d+)/;
my $smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
my $host = "Host: x\r\n";

# status, bytes, name. Behind the bytes comes a request that nobody may see.
sub is_refused {
    my ($status, $bytes, $name, %o) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $from = server_of(%o);
    my $before = -s $calls;
    for my $chunk (0, length $bytes < 1000 ? 1 : ()) {
        my $c = http($from);
        $c->send($bytes . $smuggled, chunk => $chunk);
        my $r = $c->read_response(method => $o{method});
        is $r->{status}, $status, $name . ($chunk ? ', byte by byte' : '');
        ok $r->{complete} && $r->{closing} && !@{ $r->{malformed} }, 'a whole answer, closed, and nothing more'
            or diag explain { %$r, stdout => substr $r->{stdout}, 0, 500 };
        $c->close;
    }
    is -s $calls, $before, 'the application was not called' if $from == $server;
    return;
}

sub server_of { my (%o) = @_; return $o{server} || $server }

sub lives { my ($name) = @_; return like http($server)->request(uri => '/lives')->{body}, qr/\A$pid /, "$name: the worker lives on" }

subtest 'the length of a body' => sub {
    my $post = sub { my (@lines) = @_; return "POST /refused HTTP/1.1\r\n$host" . join('', map { "$_\r\n" } @lines) . "\r\n" };
    my $chunks = "5\r\nhello\r\n0\r\n\r\n";
    is_refused(400, $post->('Content-Length: 5', 'Transfer-Encoding: chunked') . $chunks, 'Content-Length, then Transfer-Encoding');
    is_refused(400, $post->('Transfer-Encoding: chunked', 'Content-Length: 5') . $chunks, 'Transfer-Encoding, then Content-Length');
    is_refused(400, $post->('Content-Length: 5', 'Content-Length: 6') . 'hello', 'two lengths');
    is_refused(400, $post->('Content-Length: 5', 'Content-Length: 5') . 'hello', 'the same length twice');
    is_refused(400, $post->("Content-Length: $_") . 'hello', "Content-Length '$_'")
        for '5, 5', '+5', '-5', '0x5', '5 5', '', '1e1', '5.0', "\xb2", '18446744073709551616', '18446744073709551621', '9' x 40, '9223372036854775807';
    is_refused(400, $post->("Transfer-Encoding: $_") . $chunks, "Transfer-Encoding '$_'")
        for 'chunked, chunked', 'gzip, chunked', 'chunked, identity', 'chunked;q=1', '"chunked"', 'chunked,', ',chunked', '';
    is_refused(400, $post->("Transfer-Encoding: \x0bchunked") . $chunks, 'Transfer-Encoding behind a control character');
    is_refused(501, $post->("Transfer-Encoding: $_") . $chunks, "Transfer-Encoding '$_'") for qw(gzip xchunked chunkedx identity);
    is_refused(400, $post->('Transfer-Encoding: chunked', 'Transfer-Encoding: chunked') . $chunks, 'Transfer-Encoding twice');
    is_refused(400, $post->('Transfer-Encoding: chunked', 'Transfer-Encoding: identity') . $chunks, 'and another one');
    is_refused(400, $post->('Transfer-Encoding : chunked') . $chunks, 'a space before its colon');
    is_refused(400, $post->('Content-Length : 5') . 'hello', 'before that of Content-Length');
    is_refused(400, $post->("Transfer-Encoding:\r\n chunked") . $chunks, 'Transfer-Encoding on a folded line');
    is_refused(400, $post->('X: y', " Transfer-Encoding: chunked") . $chunks, 'as a folded line');
    is_refused(400, "POST /refused HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n$chunks", 'Transfer-Encoding in HTTP/1.0');
    is_refused(417, $post->('Expect: 200-ok', 'Content-Length: 5') . 'hello', 'an unknown expectation');
    lives('lengths');
};

subtest 'chunks' => sub {
    for my $case (
        [ 'no size', "\r\nhello\r\n0\r\n\r\n" ], [ 'negative', "-5\r\nhello\r\n0\r\n\r\n" ], [ 'with a sign', "+5\r\nhello\r\n0\r\n\r\n" ], [ '0x', "0x5\r\nhello\r\n0\r\n\r\n" ],
        [ 'no digit', "g\r\nhello\r\n0\r\n\r\n" ], [ 'a space in front', " 5\r\nhello\r\n0\r\n\r\n" ], [ 'a space behind', "5 \r\nhello\r\n0\r\n\r\n" ],
        [ 'a tab behind', "5\t\r\nhello\r\n0\r\n\r\n" ], [ 'comma', "5,5\r\nhello\r\n0\r\n\r\n" ], [ '17 digits', '0' x 16 . "5\r\nhello\r\n0\r\n\r\n" ], [ 'that wraps', "10000000000000005\r\nhello\r\n0\r\n\r\n" ],
        [ 'impossible', "ffffffffffffffff\r\nhello\r\n0\r\n\r\n" ], [ 'negative as 64 bits', "8000000000000005\r\nhello\r\n0\r\n\r\n" ],
        [ 'LF alone behind the size', "5\nhello\r\n0\r\n\r\n" ], [ 'CR alone behind the size', "5\rhello\r\n0\r\n\r\n" ], [ 'LF alone in an extension', "5;a\nhello\r\n0\r\n\r\n" ],
        [ 'LF alone in a quoted extension', "5;a=\"b\nc\"\r\nhello\r\n0\r\n\r\n" ], [ 'NUL in an extension', "5;a\0\r\nhello\r\n0\r\n\r\n" ],
        [ 'longer than its size', "4\r\nhello\r\n0\r\n\r\n" ], [ 'shorter than its size', "6\r\nhello\r\n0\r\n\r\n" ], [ 'LF alone behind the data', "5\r\nhello\n0\r\n\r\n" ], [ 'nothing behind the data', "5\r\nhello0\r\n\r\n" ],
        [ 'a trailer without colon', "5\r\nhello\r\n0\r\nTrailer\r\n\r\n" ], [ 'a trailer with a space', "5\r\nhello\r\n0\r\nTrai ler: x\r\n\r\n" ], [ 'a folded trailer', "5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n" ],
        [ 'LF alone in the trailers', "5\r\nhello\r\n0\r\nA: b\n\r\n\r\n" ], [ 'LF alone as the end', "5\r\nhello\r\n0\r\n\n" ], [ 'a size of zero is no size', "5\r\nhello\r\n0 \r\n\r\n" ],
        [ 'many bytes of extensions', '5;' . 'x' x 20_000 . "\r\nhello\r\n0\r\n\r\n" ], [ 'many bytes of trailers', "5\r\nhello\r\n0\r\nX: " . 'x' x 20_000 . "\r\n\r\n" ],
    ) {
        my ($name, $body) = @$case;
        is_refused(400, "POST /refused HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n$body", "a chunk: $name");
    }
    lives('chunks');

    # The application has begun by then, so that it is told.
    my $c = http($server);
    $c->send("POST /streamed HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n", 200_000) . 'x' x 200_000 . "\r\nmalformed\r\n$smuggled");
    my $r = $c->read_response;
    ok $r->{complete} && $r->{closing} && !@{ $r->{malformed} }, 'a large body, malformed in the middle: closed' or diag explain $r->{malformed};
    is $r->{body}, "$pid 200000 broken", 'and the application gets an error' if $r->{status} == 200;
    lives('a malformed large body');

    # Nobody reads it, so that it is found when the rest is read away.
    $c = http($server);
    $c->send("POST /unread HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n", 200_000) . 'x' x 200_000 . "\r\nmalformed\r\n$smuggled");
    $r = $c->read_response;
    is $r->{body}, 'unread', 'a large body that nobody reads, malformed in the middle: answered';
    ok $r->{closing} || $c->closes, 'and closed, with nothing more';
    lives('a malformed body that nobody reads');
};

subtest 'lines' => sub {
    is_refused(400, "GET /refused HTTP/1.1\r\n$_\r\n", 'line: ' . s/([^ -~])/sprintf '\\x%02x', ord $1/ger) for
        "${host}X: a\r\n b\r\n", "${host}X: a\r\n\tb\r\n", " X: folded\r\n$host", "${host} \r\n", "Host: x\n", "${host}X: a\n", "${host}X: a\rb\r\n", "${host}X: a\r\r\n", "${host}X: a\0b\r\n",
        "${host}X: a\x7f\r\n", "${host}X: a\x1b\r\n", "${host}X : a\r\n", "${host}X\t: a\r\n", "${host}X\r\n", "$host: a\r\n", "${host}X Y: a\r\n", "${host}X(Y): a\r\n", "${host}caf\xe9: a\r\n",
        "${host}\0: a\r\n", "${host}\"X\": a\r\n", "${host}X\r: a\r\n", "\rHost: x\r\n";
    is_refused(400, "GET /refused HTTP/1.1\n$host\n", 'LF alone everywhere');
    is_refused(400, "GET /refused HTTP/1.1\r\n$host\n", 'LF alone at the end of the head');
    is_refused(400, "GET /refused HTTP/1.1\r$host\r", 'CR alone');
    is_refused(400, "\n", 'LF alone before a request');
    is_refused(400, "\r\n\r\n\r\n", 'three empty lines before a request');
    lives('lines');
};

subtest 'request lines' => sub {
    my %cases = (
        'no version'          => [ 400, "GET /refused\r\n" ],
        'only a method'       => [ 400, "GET\r\n" ],
        'no target'           => [ 400, "GET HTTP/1.1\r\n" ],
        'an empty target'     => [ 400, "GET  HTTP/1.1\r\n" ],
        'two spaces'          => [ 400, "GET  /refused HTTP/1.1\r\n" ],
        'two spaces before the version' => [ 400, "GET /refused  HTTP/1.1\r\n" ],
        'a space behind'      => [ 400, "GET /refused HTTP/1.1 \r\n" ],
        'a space in front'    => [ 400, " GET /refused HTTP/1.1\r\n" ],
        'a tab'               => [ 400, "GET\t/refused\tHTTP/1.1\r\n" ],
        'a tab in the target' => [ 400, "GET /re\tfused HTTP/1.1\r\n" ],
        'a space in the target' => [ 400, "GET /re fused HTTP/1.1\r\n" ],
        'NUL in the target'   => [ 400, "GET /re\0fused HTTP/1.1\r\n" ],
        'CR in the target'    => [ 400, "GET /re\rfused HTTP/1.1\r\n" ],
        'lower case version'  => [ 400, "GET /refused http/1.1\r\n" ],
        'a long version'      => [ 400, "GET /refused HTTP/1.10\r\n" ],
        'a short version'     => [ 400, "GET /refused HTTP/1\r\n" ],
        'a version with a comma' => [ 400, "GET /refused HTTP/1,1\r\n" ],
        'another protocol'    => [ 400, "GET /refused ICAP/1.0\r\n" ],
        'HTTP/0.9'            => [ 400, "GET /refused HTTP/0.9\r\n" ],
        'HTTP/2.0'            => [ 505, "GET /refused HTTP/2.0\r\n" ],
        'HTTP/3.1'            => [ 505, "GET /refused HTTP/3.1\r\n" ],
        'a method with a colon' => [ 400, "GE:T /refused HTTP/1.1\r\n" ],
        'a method of 65 bytes' => [ 501, 'M' x 65 . " /refused HTTP/1.1\r\n" ],
        'CONNECT'             => [ 501, "CONNECT example.org:443 HTTP/1.1\r\n" ],
        'CONNECT to a path'   => [ 501, "CONNECT /refused HTTP/1.1\r\n" ],
        'an authority'        => [ 400, "GET example.org:80 HTTP/1.1\r\n" ],
        'a path without slash' => [ 400, "GET refused HTTP/1.1\r\n" ],
        'a fragment'          => [ 400, "GET /refused#x HTTP/1.1\r\n" ],
        'GET *'               => [ 400, "GET * HTTP/1.1\r\n" ],
        'OPTIONS **'          => [ 400, "OPTIONS ** HTTP/1.1\r\n" ],
        'ftp:'                => [ 400, "GET ftp://example.org/refused HTTP/1.1\r\n" ],
        'no authority'        => [ 400, "GET http:///refused HTTP/1.1\r\n" ],
        'one slash'           => [ 400, "GET http:/refused HTTP/1.1\r\n" ],
        'userinfo'            => [ 400, "GET http://user\@example.org/refused HTTP/1.1\r\n" ],
        'a port that is none' => [ 400, "GET http://example.org:x/refused HTTP/1.1\r\n" ],
    );
    is_refused($cases{$_}[0], "$cases{$_}[1]$host\r\n", $_) for sort keys %cases;
    is_refused(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 'the preface of HTTP/2');
    is_refused(400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . join('', map { chr } 0 .. 255), 'TLS');
    is_refused(400, "\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00", 'FastCGI');
    lives('request lines');
};

subtest 'Host' => sub {
    is_refused(400, "GET /refused HTTP/1.1\r\n\r\n", 'none');
    is_refused(400, "GET /refused HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 'two');
    is_refused(400, "GET /refused HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 'the same twice');
    is_refused(400, "GET /refused HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 'two in HTTP/1.0');
    is_refused(400, "GET http://a/refused HTTP/1.1\r\n\r\n", 'none, and an absolute target');
    is_refused(400, "GET /refused HTTP/1.1\r\nHost: $_\r\n\r\n", "'$_'")
        for 'a b', 'a, b', 'a/b', 'u@a', 'a:b', 'a:99999', 'a:80:80', '[::1', '::1', '[x]', ':80', 'a?b', 'a#b', "a\\b", 'a"b', 'a<b';
    lives('Host');
};

subtest 'too much' => sub {
    is_refused(414, 'GET /' . 'a' x 70_000 . " HTTP/1.1\r\n$host\r\n", 'a target of 70 kB');
    is_refused(414, 'GET /' . 'a' x 200_000, 'a target without end');
    is_refused(501, 'M' x 65 . " /refused HTTP/1.1\r\n$host\r\n", 'a long method');
    is_refused(431, "GET /refused HTTP/1.1\r\n$host" . "X: y\r\n" x 5000 . "\r\n", '5000 header lines');
    is_refused(431, "GET /refused HTTP/1.1\r\n${host}X: " . 'y' x 1_100_000 . "\r\n\r\n", 'a header line of 1.1 MB');
    is_refused(431, "GET /refused HTTP/1.1\r\n${host}" . ('X: ' . 'y' x 10_000 . "\r\n") x 110 . "\r\n", '110 lines of 10 kB');
    lives('too much');
    my $small = http_server(workers => 1, app => $app, options => [ '--max-params-bytes=2K', '--max-params=16' ]);
    is_refused(431, "GET /refused HTTP/1.1\r\n$host" . "X: y\r\n" x 16 . "\r\n", '--max-params: 17 lines', server => $small);
    is http($small)->request(headers => [ map { (X => 'y') } 1 .. 15 ])->{status}, 200, '16 lines';
    is_refused(431, "GET /refused HTTP/1.1\r\n${host}X: " . 'y' x 2048 . "\r\n\r\n", '--max-params-bytes', server => $small);
    is http($small)->request(headers => [ X => 'y' x 1900 ])->{status}, 200, 'less than that';
    is_refused(431, 'GET /' . 'a' x 2500 . " HTTP/1.1\r\n$host\r\n", '--max-params-bytes, by the target', server => $small);
    unlike read_text($small->folder . '/calls'), qr/refused|smuggled/, 'the application was not called';
    is $small->stop, 'exit 0', 'stops';
};

subtest 'in the middle of a connection' => sub {
    my $before = () = called();
    my $c = http($server);
    $c->send(http_request(uri => '/good') . http_request(uri => '/good', body => 'x' x 1000) . "GET /refused HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n$smuggled");
    my @answers = map { $c->read_response } 1 .. 3;
    is_deeply [ map { $_->{status} } @answers ], [ 200, 200, 400 ], 'good requests before are answered, what is behind is not';
    is_whole $_, 'whole' for @answers;
    is scalar(my @now = called()), $before + 2, 'the application was called for the good ones';

    $c = http($server);
    $c->send("HEAD /refused HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n$smuggled");
    my $r = $c->read_response(method => 'HEAD');
    is $r->{status}, 400, 'HEAD is refused as well';
    ok $r->{complete} && $r->{closing}, 'and closed';
    is_deeply $r->{malformed}, [], 'without a body';
};

is_deeply [ grep { /refused|smuggled/ } called() ], [], 'nothing of all that has reached the application';
lives('in the end');
is $server->stop, 'exit 0', 'stops';
log_like $server, qr/WARNING:  worker\[\d+\]: refused a request: /, 'the log tells';
unlike $server->log, qr/ (?:ERROR|PANIC|FATAL):/, 'nothing went wrong';
done_testing;
