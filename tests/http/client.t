# The client of these tests itself: it must see what is wrong with a response, or they prove nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test::HTTP;
use IO::Socket::UNIX;
use Socket;
use Test::More;

my $date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
my $ok = "HTTP/1.1 200 OK\r\n$date";

# What the client makes of these bytes and the end of the connection.
sub taken {
    my ($bytes, %o) = @_;
    my ($ours, $theirs) = IO::Socket::UNIX->socketpair(AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
    syswrite $theirs, $bytes;
    close $theirs;
    my $c = BladePSGI::Test::HTTP->new($ours);
    return ($c->read_response(%o), $c);
}

for my $case (
    [ 'a length',          "${ok}Content-Length: 2\r\n\r\nab", 'ab' ],
    [ 'chunks',            "${ok}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n", 'ab' ],
    [ 'until close',       "${ok}Connection: close\r\n\r\nab", 'ab' ],
    [ 'until close, 1.0',  "${ok}\r\nab", 'ab', version => '1.0' ],
    [ '204',               "HTTP/1.1 204 No Content\r\n$date\r\n", '' ],
    [ '304 with a length', "HTTP/1.1 304 Not Modified\r\n${date}Content-Length: 5\r\n\r\n", '' ],
    [ 'HEAD',              "${ok}Content-Length: 5\r\n\r\n", '', method => 'HEAD' ],
    [ '100 before it',     "HTTP/1.1 100 Continue\r\n\r\n${ok}Content-Length: 2\r\n\r\nab", 'ab' ],
    [ 'closing',           "${ok}Content-Length: 2\r\nConnection: close\r\n\r\nab", 'ab' ],
) {
    my ($name, $bytes, $body, %o) = @$case;
    my ($r, $c) = taken($bytes, %o);
    is_whole $r, "good: $name";
    is $r->{body}, $body, "good: $name, its body";
    ok !length $c->here, 'all of it was taken';
}

for my $case (
    [ 'nothing', '' ], [ 'half a status line', 'HTTP/1.1 200' ], [ 'a head without end', $ok ], [ 'a short length', "${ok}Content-Length: 3\r\n\r\nab" ],
    [ 'no last chunk', "${ok}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n" ], [ 'half a chunk', "${ok}Transfer-Encoding: chunked\r\n\r\n5\r\nab" ],
    [ 'half a last chunk', "${ok}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" ], [ 'only 100', "HTTP/1.1 100 Continue\r\n\r\n" ],
) {
    my ($name, $bytes) = @$case;
    my ($r) = taken($bytes);
    ok !$r->{complete} && !@{ $r->{malformed} }, "incomplete: $name" or diag explain $r;
}

for my $case (
    [ 'status line', "HTTP/1.1 OK\r\n$date\r\n" ], [ 'version of the answer', "HTTP/1.0 200 OK\r\n${date}Content-Length: 0\r\n\r\n" ], [ 'LF alone', "HTTP/1.1 200 OK\n${date}Content-Length: 0\r\n\r\n" ],
    [ 'no Date', "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" ], [ 'two Dates', "$ok${date}Content-Length: 0\r\n\r\n" ], [ 'a bad Date', "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 0\r\n\r\n" ],
    [ 'both lengths', "${ok}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" ], [ 'two lengths', "${ok}Content-Length: 1\r\nContent-Length: 1\r\n\r\na" ],
    [ 'no number', "${ok}Content-Length: +1\r\n\r\na" ], [ 'another coding', "${ok}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" ], [ 'no space behind a colon', "${ok}X:y\r\nContent-Length: 0\r\n\r\n" ],
    [ 'a space before a colon', "${ok}X : y\r\nContent-Length: 0\r\n\r\n" ], [ 'a folded line', "${ok}X: y\r\n z\r\nContent-Length: 0\r\n\r\n" ], [ 'a control character', "${ok}X: \0\r\nContent-Length: 0\r\n\r\n" ],
    [ 'until close without a word', "${ok}\r\nab" ], [ 'chunks to HTTP/1.0', "${ok}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", version => '1.0' ], [ 'a length with 204', "HTTP/1.1 204 No Content\r\n${date}Content-Length: 0\r\n\r\n" ],
    [ 'a chunk size', "${ok}Transfer-Encoding: chunked\r\n\r\n01\r\na\r\n0\r\n\r\n" ], [ 'an extension', "${ok}Transfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\n\r\n" ], [ 'a chunk that is too long', "${ok}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" ],
    [ 'a trailer', "${ok}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n" ], [ 'bytes behind the last one', "${ok}Content-Length: 1\r\nConnection: close\r\n\r\naHTTP/1.1 200 OK" ],
    [ 'a body with HEAD, and closed', "${ok}Content-Length: 1\r\nConnection: close\r\n\r\na", method => 'HEAD' ], [ 'a length with 100', "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n${ok}Content-Length: 0\r\n\r\n" ],
    [ 'a hop-by-hop field', "${ok}Keep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n" ],
) {
    my ($name, $bytes, %o) = @$case;
    my ($r) = taken($bytes, %o);
    isnt scalar @{ $r->{malformed} }, 0, "malformed: $name" or diag explain $r;
}

my (undef, $c) = taken("${ok}Content-Length: 1\r\n\r\naHTTP");
is $c->here, 'HTTP', 'what is behind a response stays for the next one';
done_testing;
