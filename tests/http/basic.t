# HTTP/1.1 and HTTP/1.0 as clients speak it: framing, connections, bodies both ways, and what the application sees of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use Digest::MD5 'md5_hex';
use HTTP::Date ();
use IO::Socket::IP;
use JSON::PP ();
use Test::More;
use Time::HiRes ();

my $app = BladePSGI::Test->gate_code . <<'PERL';
use strict;
use warnings;
use Digest::MD5 ();
use JSON::PP ();

my $large = join '', map { chr($_ * 31 % 256) } 0 .. 255;
$large x= 5 * 4096;    # 5 MB
open my $out, '>:raw', 'large.bin' or die; print {$out} $large; close $out;
open $out, '>:raw', 'small.bin' or die; print {$out} substr $large, 0, 1000; close $out;
open $out, '>:raw', 'empty.bin' or die; close $out;

package Lines { sub new { my ($c, @l) = @_; bless [@l], $c } sub getline { shift @{ $_[0] } } sub close { } }
package main;

sub opened { my ($name, $at) = @_; open my $f, '<:raw', $name or die; seek $f, $at, 0 if $at; return $f }

my %cases = (
    pid      => sub { [200, ['Content-Type' => 'text/plain'], [$$]] },
    path     => sub { [200, [], ["$_[0]{REQUEST_METHOD} $_[0]{PATH_INFO}"]] },
    array    => sub { [200, [], ['a', '', 'b', 'c']] },
    hints    => sub { my ($env) = @_; my $inform = $env->{'psgix.informational'} or return [200, [], ['unknown']];
        my @sent = map { $inform->(@$_) ? 1 : 0 } [103, [Link => '</a.css>; rel=preload', 'X-A' => 1, 'X-A' => 2]], [102, []];
        gate('hints') if $env->{QUERY_STRING} eq 'gate';
        return [200, ['X-Sent' => "@sent"], ['hinted']] },
    late_hints => sub { my ($env) = @_; my $inform = $env->{'psgix.informational'}; sub { my $w = $_[0]->([200, []]); $w->write('a'); $w->write($inform->(103, []) ? 'sent' : 'not sent'); $w->close } },
    wrong_hints => sub { my $inform = $_[0]{'psgix.informational'}; my @e = map { my $a = $_; eval { $inform->(@$a); 1 } ? 'sent' : 'refused' } [200, []], [99, []], [101, []], [103, ['X-Split' => "a\r\nb: c"]], [103], ['x', []];
        [200, [], ["@e"]] },
    harakiri => sub { $_[0]{'psgix.harakiri.commit'} = 1; [200, [], [$$]] },
    empty    => sub { [200, [], []] },
    nothing  => sub { [200, [], ['']] },
    hundreds => sub { [200, [], [map { "$_," } 1 .. 900]] },
    many     => sub { [200, [], [map { "$_," } 1 .. 5000]] },
    typed    => sub { [200, ['X-A' => 'one', 'X-A' => 'two', 'Content-Length' => 4], ['body']] },
    object   => sub { [200, [], Lines->new("one\n", "two\n", '', "three\n")] },
    no_content   => sub { [204, ['Content-Length' => 5, 'X-A' => 1], ['never']] },
    not_modified => sub { [304, ['Content-Length' => 5, ETag => '"x"'], ['never']] },
    stream_204   => sub { sub { my $w = $_[0]->([204, []]); $w->write('never'); $w->close } },
    small_file   => sub { [200, [], opened('small.bin')] },
    large_file   => sub { [200, [], opened('large.bin')] },
    length_file  => sub { [200, ['Content-Length' => -s 'large.bin'], opened('large.bin')] },
    offset_file  => sub { [200, [], opened('large.bin', 4_000_001)] },
    empty_file   => sub { [200, [], opened('empty.bin')] },
    short        => sub { [200, ['Content-Length' => 10], ['short']] },
    short_stream => sub { sub { my $w = $_[0]->([200, ['Content-Length' => 10]]); $w->write('short'); $w->close } },
    short_file   => sub { [200, ['Content-Length' => 2000], opened('small.bin')] },
    long         => sub { [200, ['Content-Length' => 4], ['long', 'er']] },
    long_stream  => sub { sub { my $w = $_[0]->([200, ['Content-Length' => 4]]); $w->write('lo'); $w->write('nger'); $w->write('more'); $w->close } },
    long_file    => sub { [200, ['Content-Length' => 999], opened('small.bin')] },
    long_large   => sub { [200, ['Content-Length' => 1_000_000], opened('large.bin')] },
    two_lengths  => sub { [200, ['Content-Length' => 4, 'Content-Length' => 5], ['body']] },
    bad_length   => sub { [200, ['Content-Length' => 'four'], ['body']] },
    own_date     => sub { [200, [Date => 'Sun, 06 Nov 1994 08:49:37 GMT'], ['x']] },
    own_close    => sub { [200, [Connection => 'close'], ['x']] },
    own_keep     => sub { [200, [Connection => 'keep-alive', 'Keep-Alive' => 'timeout=5', Upgrade => 'x', 'Proxy-Connection' => 'close'], ['x']] },
    own_chunks   => sub { [200, ['Transfer-Encoding' => 'chunked'], ["3\r\nabc\r\n0\r\n\r\n"]] },
    stream   => sub { my ($env) = @_; my $n = $env->{QUERY_STRING};
        sub { my $w = $_[0]->([200, []]); for my $s (1 .. 3) { $w->write("step $s\n"); gate("step-$n-$s") } $w->close } },
    late     => sub { sub { my $w = $_[0]->([200, ['X-Early' => 'yes']]); gate('late'); $w->write('body'); $w->close } },
    nothing_streamed => sub { sub { $_[0]->([200, []])->close } },
    megabytes => sub { my ($env) = @_; my $n = $env->{QUERY_STRING}; sub { my $w = $_[0]->([200, []]); $w->write($large) for 1 .. $n; $w->close } },
    echo     => sub { my ($env) = @_; local $/; my $in = $env->{'psgi.input'}; my $all = ''; while ($in->read(my $b, 65536)) { $all .= $b } [200, ['X-Length' => $env->{CONTENT_LENGTH} // 'none'], [$all]] },
    md5      => sub { my ($env) = @_; my ($in, $n, $d) = ($env->{'psgi.input'}, 0, Digest::MD5->new);
        while ($in->read(my $b, 65536)) { $n += length $b; $d->add($b) } [200, [], [join ' ', $n, $d->hexdigest]] },
    unread   => sub { [200, [], ['not read']] },
    partly   => sub { $_[0]{'psgi.input'}->read(my $b, 5); [200, [], [$b]] },
    error    => sub { my ($n, $all) = (1, 0); while ($n) { $! = 0; $n = $_[0]{'psgi.input'}->read(my $b, 65536); $all += $n || 0 }
        [200, [], [join ' ', defined $n ? 'end' : 'undef', $! + 0 ? 'errno' : 'no errno', $all]] },
    env      => sub { my ($env) = @_; [200, [], [JSON::PP->new->latin1->canonical->encode({ map { $_ => $env->{$_} } grep { !ref $env->{$_} } keys %$env })]] },
);
sub { my ($env) = @_; my ($name) = $env->{PATH_INFO} =~ m{\A/(\w+)}; ($cases{ $name // '' } || $cases{env})->($env) };
PERL

my $server = http_server(workers => 1, app => $app);
my $large = join('', map { chr($_ * 31 % 256) } 0 .. 255) x (5 * 4096);
my $pid = http($server)->request(uri => '/pid')->{body};

# One request on a fresh connection.
sub get { my ($uri, %o) = @_; return http($server)->request(uri => $uri, %o) }

subtest 'bodies and their length' => sub {
    my $c = http($server);
    for my $case (
        [ array => 'abc', 3 ], [ empty => '', 0 ], [ nothing => '', 0 ], [ hundreds => join('', map { "$_," } 1 .. 900), 3492 ], [ typed => 'body', 4 ],
    ) {
        my ($name, $body, $length) = @$case;
        my $r = $c->request(uri => "/$name");
        is_whole $r, "$name: whole";
        is $r->{status} . " $r->{reason}", '200 OK', "$name: status";
        is $r->{header}{'content-length'}, $length, "$name: Content-Length";
        is $r->{body}, $body, "$name: the body";
        ok !exists $r->{header}{connection}, "$name: HTTP/1.1 keeps without a word";
        my $head = $c->request(method => 'HEAD', uri => "/$name");
        is_whole $head, "HEAD, $name: whole";
        my $said = $head->{header}{'content-length'};
        ok !defined $said || $said == $length, "HEAD, $name: no wrong length";
    }
    is_deeply [ grep { /\A(?:one|two)\z/ } @{ $c->request(uri => '/typed')->{headers} } ], [qw(one two)], 'repeated headers stay two';
    is $c->request(method => 'HEAD', uri => '/typed')->{header}{'content-length'}, 4, 'HEAD: the length that the application says';
    is $c->request(method => 'DELETE', uri => '/path')->{body}, 'DELETE /path', 'any method';
    is $c->request(method => 'OPTIONS', uri => '*')->{status}, 200, 'OPTIONS *';
    is $c->request(uri => '/echo', body => 'posted')->{body}, 'posted', 'POST, and the connection is still the same';
};

subtest 'statuses without a body' => sub {
    my $c = http($server);
    for my $name (qw(no_content not_modified stream_204)) {
        is_whole $c->request(uri => "/$name"), "$name: whole, and the connection stays in step";
    }
    is $c->request(uri => '/not_modified')->{header}{'content-length'}, 5, '304 may say the length it would have';
    is $c->request(uri => '/pid')->{body}, $pid, 'the next response is the next one';
};

subtest 'streams are sent in chunks, each write at once' => sub {
    for my $version ('1.1', '1.0') {
        my $c = http($server);
        $c->send(http_request(uri => "/stream?$version", version => $version));
        my $r = $c->read_head(version => $version);
        is $r->{framing}, $version eq '1.1' ? 'chunked' : 'close', "HTTP/$version: framing";
        for my $step (1 .. 3) {
            like $c->read_body_until($r, qr/step $step\n/), qr/step $step\n\z/, "step $step is here, and the application still waits";
            $server->open_gate("step-$version-$step");
        }
        $c->finish_response($r);
        is_whole $r, 'whole';
        is_deeply $r->{chunks}, [ 7, 7, 7 ], 'a chunk for each write' if $version eq '1.1';
    }
    my $c = http($server);
    $c->send(http_request(uri => '/late'));
    $server->open_gate('late');
    my $late = $c->read_response;
    is_whole $late, 'a writer that is not used at once';
    is $late->{header}{'x-early'} . $late->{body}, 'yesbody', 'headers and body';

    $c = http($server);
    my $r = $c->request(uri => '/nothing_streamed');
    is_whole $r, 'a stream without a write';
    is $r->{body}, '', 'is empty';
    $r = $c->request(uri => '/object');
    is_whole $r, 'an object with getline';
    is $r->{body}, "one\ntwo\nthree\n", 'its lines; an empty one does not end it';
    $r = $c->request(method => 'HEAD', uri => '/megabytes?1');
    is_whole $r, 'HEAD for a stream';
    is $c->request(uri => '/pid')->{body}, $pid, 'the connection is in step';
    $r = $c->request(uri => '/many');
    is_whole $r, 'an array of many elements';
    is $r->{body}, join('', map { "$_," } 1 .. 5000), 'all of them';
};

subtest 'files' => sub {
    my $c = http($server);
    my %expected = (small_file => substr($large, 0, 1000), large_file => $large, length_file => $large, offset_file => substr($large, 4_000_001), empty_file => '');
    for my $name (sort keys %expected) {
        for my $version ('1.1', '1.0') {
            my $r = $c->request(uri => "/$name", version => $version, keep => $version eq '1.0');
            is_whole $r, "$name, HTTP/$version: whole";
            is md5_hex($r->{body}), md5_hex($expected{$name}), "$name, HTTP/$version: its bytes" or diag length $r->{body};
            $c = http($server) if $r->{closing};
        }
        is_whole $c->request(uri => "/$name", method => 'HEAD'), "HEAD, $name";
    }
    is $c->request(uri => '/length_file')->{header}{'content-length'}, length $large, 'with the length that the application says';
};

sub author_is_told {
    my ($name, $is, $said, $from) = @_;
    my $log = $server->wait_log(qr/WARNING:  .*the response has $is bytes, but its Content-Length says $said$/m, 5, $from);
    ok $log, "$name: the author is told";
    like $log, qr{WARNING:  worker\[\d+\]: GET /$name \[\S+\]: the response has}, "$name: and of which request";
    return;
}

subtest 'a Content-Length that is wrong' => sub {
    for my $name (qw(short short_stream short_file)) {
        my $from = $server->log_size;
        my $c = http($server);
        $c->send(http_request(uri => "/$name") . http_request(uri => '/pid'));
        my $r = $c->read_response;
        is $r->{status}, 200, "$name: 200";
        ok !$r->{complete} && $r->{eof} && !@{ $r->{malformed} }, "$name: the connection is closed, nothing takes the place of what is missing";
        my ($is, $said) = $name eq 'short_file' ? (1000, 2000) : (5, 10);
        $c->close;
        author_is_told($name, $is, $said, $from);
    }
    my $c = http($server);
    for my $case ([ long => 'long', 6 ], [ long_stream => 'long', 10 ], [ long_file => substr($large, 0, 999), 1000 ], [ long_large => substr($large, 0, 1_000_000), length $large ]) {
        my ($name, $body, $is) = @$case;
        my $from = $server->log_size;
        my $r = $c->request(uri => "/$name");
        is_whole $r, "$name: cut, and the connection goes on";
        ok $r->{body} eq $body, "$name: the beginning";
        my $said = length $body;
        author_is_told($name, $is, $said, $from);
    }
    for my $name (qw(two_lengths bad_length)) {
        my $r = $c->request(uri => "/$name");
        is_whole $r, "$name: one that means nothing is not passed on";
        is $r->{body}, 'body', "$name: the body is whole";
    }
    is $c->request(uri => '/pid')->{body}, $pid, 'in step to the end';
};

subtest 'headers of ours' => sub {
    my $before = time;
    my $date = get('/pid')->{header}{date};
    my $time = HTTP::Date::str2time($date);
    is HTTP::Date::time2str($time), $date, 'Date is what it says, day of the week included';
    # Perl's own time is that of the last tick of the kernel's clock.
    ok $time >= $before && $time <= Time::HiRes::time(), 'and is now';
    my $r = get('/own_date');
    is_whole $r, 'the application has a Date of its own';
    is $r->{header}{date}, 'Sun, 06 Nov 1994 08:49:37 GMT', 'which stays';
    $r = get('/own_close');
    is_whole $r, 'the application says Connection: close';
    ok $r->{closing}, 'which is so';
    my $c = http($server);
    $r = $c->request(uri => '/own_keep');
    is_whole $r, 'hop-by-hop headers of the application are not passed on';
    is $c->request(uri => '/pid')->{body}, $pid, 'and the connection is kept all the same';
    $r = $c->request(uri => '/own_chunks');
    is_whole $r, 'an application that makes chunks itself';
    is $r->{body}, 'abc', 'is not chunked twice';
};

subtest 'connections' => sub {
    my %cases = (
        'HTTP/1.1'                          => [ 1, {} ],
        'HTTP/1.1, close'                   => [ 0, { close => 1 } ],
        'HTTP/1.1, Close among others'      => [ 0, { headers => [ Connection => 'TE, CLOSE' ] } ],
        'HTTP/1.1, close and keep-alive'    => [ 0, { headers => [ Connection => 'keep-alive', Connection => 'close' ] } ],
        'HTTP/1.1, closer is not close'     => [ 1, { headers => [ Connection => 'closer' ] } ],
        'HTTP/1.0'                          => [ 0, { version => '1.0' } ],
        'HTTP/1.0, keep-alive'              => [ 1, { version => '1.0', keep => 1 } ],
        'HTTP/1.0, Keep-Alive among others' => [ 1, { version => '1.0', headers => [ Connection => 'x, Keep-Alive' ] } ],
        'HTTP/1.0 without Host'             => [ 0, { version => '1.0', host => undef } ],
        'HTTP/1.2 is spoken to as HTTP/1.1' => [ 1, { version => '1.2' } ],
    );
    for my $name (sort keys %cases) {
        my ($keeps, $request) = @{ $cases{$name} };
        for my $uri ('/array', '/pid', '/empty', '/no_content') {
            my $c = http($server);
            my $r = $c->request(uri => $uri, %$request);
            is_whole $r, "$name, $uri: whole";
            is !$r->{closing}, !!$keeps, "$name, $uri: " . ($keeps ? 'kept' : 'closed');
            is $c->request(uri => '/pid', %$request)->{body}, $pid, 'and it is' if $keeps;
        }
        is_whole http($server)->request(uri => '/object', %$request), "$name, a stream";
        is_whole http($server)->request(method => 'HEAD', uri => '/object', %$request), "$name, HEAD for a stream";
    }
    my $c = http($server);
    my @bad = grep { my $r = $c->request(uri => "/path/$_"); !($r->{complete} && !@{ $r->{malformed} } && $r->{body} eq "GET /path/$_") } 1 .. 100;
    is_deeply \@bad, [], '100 requests on one connection';
    $c->shutdown_write;
    ok $c->closes, 'the client has no more: closed';

    $c = http($server);
    $c->send(http_request(uri => '/pid'))->shutdown_write;
    is $c->read_response->{body}, $pid, 'a client that has closed its side gets its answer';
    ok $c->closes, 'and then the end';
    $c = http($server, over => http_path($server));
    $c->send(http_request(uri => '/pid'))->shutdown_write;
    is $c->read_response->{body}, $pid, 'over a UNIX path, too';

    # Closing with input on its way would reset the connection, and destroy what the client has not read yet.
    for my $over (http_address($server), http_path($server)) {
        $c = http($server, over => $over);
        $c->send(http_request(uri => '/length_file', close => 1) . 'x' x 5_000_000);
        is_whole $c->read_response, 'what is sent behind the last request does not hurt its response';
        $c->close;
    }
};

subtest 'clients that go' => sub {
    for my $over (http_address($server), http_path($server)) {
        for my $uri ('/megabytes?20', '/large_file', '/length_file') {
            my $c = http($server, over => $over);
            $c->send(http_request(uri => $uri));
            $c->read_piece($c->read_head);
            $c->close;
            is get('/pid')->{body}, $pid, "in the middle of $uri: the worker lives on";
        }
        my $c = http($server, over => $over);
        $c->send("POST /error HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" . 'x' x 100_000);
        $c->close;
        is get('/pid')->{body}, $pid, 'in the middle of a request as well';
    }
};

subtest 'pipelined requests' => sub {
    my @requests = (
        [ { uri => '/path/1' }, 'GET /path/1' ], [ { uri => '/echo', body => 'two' }, 'two' ], [ { uri => '/object' }, "one\ntwo\nthree\n" ],
        [ { method => 'HEAD', uri => '/array' }, '' ], [ { uri => '/unread', body => 'GET /smuggled HTTP/1.1' }, 'not read' ],
        [ { uri => '/echo', body => [ 'ch', 'unks' ] }, 'chunks' ], [ { uri => '/no_content' }, '' ], [ { uri => '/small_file' }, substr $large, 0, 1000 ],
        [ { uri => '/path/9', close => 1 }, 'GET /path/9' ],
    );
    my $bytes = join '', map { http_request(%{ $_->[0] }) } @requests, [ { uri => '/path/never' } ];
    for my $chunk (0, 1, 7, 100) {
        my $c = http($server);
        $c->send($bytes, chunk => $chunk);
        my @answers = map { $c->read_response(%{ $_->[0] }) } @requests;
        is_deeply [ map { $_->{body} } @answers ], [ map { $_->[1] } @requests ], 'in order, cut into pieces of ' . ($chunk || 'all');
        my @wrong = map { @{ $_->{malformed} }, $_->{complete} ? () : 'incomplete' } @answers;
        # What is sent in pieces may come when the connection has been closed behind the last response: that resets it.
        @wrong = grep { !/\Areset behind a complete response/ } @wrong if $chunk;
        is_deeply \@wrong, [], 'whole; after the last one nothing';
    }
    my $c = http($server);
    $c->send(join '', map { http_request(uri => "/path/$_") } 1 .. 500);
    is_deeply [ map { $c->read_response->{body} } 1 .. 500 ], [ map { "GET /path/$_" } 1 .. 500 ], '500 of them';
    $c = http($server);
    $c->send("\r\n\r\n" . http_request(uri => '/path/a') . "\r\n" . http_request(uri => '/path/b'));
    is_deeply [ map { $c->read_response->{body} } 1, 2 ], [ 'GET /path/a', 'GET /path/b' ], 'two empty lines before a request are stepped over';
};

subtest 'bodies of requests' => sub {
    my $c = http($server);
    for my $case (
        [ 'chunked',                     chunked('hello', ' ', 'world') ],
        [ 'upper case, leading zeros',   "000A\r\nhello worl\r\n1\r\nd\r\n000\r\n\r\n" ],
        [ 'extensions',                  "5;a\r\nhello\r\n6;b=c;d=\"e;\\\"\xff\"\r\n world\r\n0;last\r\n\r\n" ],
        [ 'trailers',                    "b\r\nhello world\r\n0\r\nX-Trailer: a\r\nContent-Length: 5\r\n\r\n" ],
    ) {
        my ($name, $body) = @$case;
        for my $chunk (0, 1) {
            $c->send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n$body", chunk => $chunk);
            my $r = $c->read_response;
            is_whole $r, "$name: whole";
            is $r->{body}, 'hello world', $name . ($chunk ? ', byte by byte' : '');
            is $r->{header}{'x-length'}, 11, 'CONTENT_LENGTH is known once the body is';
        }
    }
    $c->send("POST /env/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: a\r\n\r\n");
    unlike $c->read_response->{body}, qr/TRAILER|TRANSFER_ENCODING/, 'trailers and Transfer-Encoding are not headers';
    for my $name (qw(unread partly)) {
        for my $size (10, 60_000, 1_000_000) {
            for my $body ('GET /smuggled' . 'x' x $size, [ 'GET /smuggled', 'y' x $size ]) {
                my $r = $c->request(uri => "/$name", body => $body);
                is_whole $r, "$name, $size bytes" . (ref $body ? ', chunked' : '');
                is $r->{body}, $name eq 'unread' ? 'not read' : 'GET /', 'its response';
                is $c->request(uri => '/pid')->{body}, $pid, 'then the next request on the connection';
            }
        }
    }
    my $up = $large x 4;
    my $sum = length($up) . ' ' . md5_hex($up);
    is $c->request(uri => '/md5', body => $up)->{body}, $sum, '20 MB up, with its length';
    is $c->request(uri => '/md5', body => [ map { substr $up, $_ * 1_000_003, 1_000_003 } 0 .. length($up) / 1_000_003 ])->{body}, $sum, 'and in chunks';
    my $r = $c->request(uri => '/megabytes?4');
    is md5_hex($r->{body}), md5_hex($up), '20 MB down';
    is $c->request(uri => '/pid')->{body}, $pid, 'on one connection';
    my $text = join '', map { "line $_\n" } 1 .. 200;
    $c->send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " . length($text) . "\r\n\r\n$text", chunk => 1);
    is $c->read_response->{body}, $text, 'byte by byte';
    $c->send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    is $c->read_response->{body}, '', 'of no bytes';
    $c->send("POST /error HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" . 'x' x 100_000)->shutdown_write;
    is $c->read_response->{body}, 'undef errno 100000', 'a client that goes in the middle is an error, not the end of the body';
};

subtest 'Expect: 100-continue' => sub {
    my $c = http($server);
    for my $body ('small', 'x' x 200_000) {
        my $head = "POST /md5 HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: " . length($body) . "\r\n\r\n";
        $c->send($head);
        ok $c->is_readable(20), 'the server answers before the body';
        is $c->here, "HTTP/1.1 100 Continue\r\n\r\n", '100 Continue';
        $c->send($body);
        my $r = $c->read_response;
        is_whole $r, 'and the response behind it';
        is @{ $r->{informational} }, 1, 'once';
        is $r->{body}, length($body) . ' ' . md5_hex($body), 'to the whole body';
    }
    $c->send("POST /md5 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
    my $r = $c->read_response;
    is_whole $r, 'a client that does not wait';
    is $r->{body}, '4 ' . md5_hex('body'), 'is answered';
    $c->send("GET /pid HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n");
    $r = $c->read_response;
    is_deeply $r->{informational}, [], 'no 100 where there is no body';
    is $r->{body}, $pid, 'and an answer';
    $c->send("POST /unread HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n");
    $r = $c->read_response;
    is_whole $r, 'the application does not want the body: answered, and closed';
    is_deeply $r->{informational}, [], 'without 100 Continue';
    ok $r->{closing}, 'the head says so';

    $c = http($server);
    $c->send("POST /md5 HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    $c->send('body');
    is_deeply $c->read_response(version => '1.0')->{informational}, [], 'HTTP/1.0 knows no 100 Continue';
};

subtest 'informational responses' => sub {
    my $c = http($server);
    $c->send(http_request(uri => '/hints?gate'));
    ok wait_for { $c->here =~ /102 Processing\r\n\r\n\z/ }, 'are here at once, while the application waits';
    $server->open_gate('hints');
    my $r = $c->read_response;
    is_whole $r, 'and then the response';
    is_deeply [ map { $_->{status} } @{ $r->{informational} } ], [ 103, 102 ], 'psgix.informational: the statuses';
    is_deeply $r->{informational}[0]{headers}, [ Link => '</a.css>; rel=preload', 'X-A' => 1, 'X-A' => 2 ], 'the headers';
    is $r->{header}{'x-sent'} . " $r->{body}", '1 1 hinted', 'the application is told so';
    for my $request ({ version => '1.0' }, { method => 'HEAD' }, { body => 'x' }, { body => 'x' x 200_000 }) {
        $r = http($server)->request(uri => '/hints', %$request);
        is_whole $r, join ' ', 'with', map { "$_ " . substr $request->{$_}, 0, 10 } keys %$request;
        is scalar @{ $r->{informational} }, $request->{version} ? 0 : 2, 'only from HTTP/1.1 on';
    }
    $c = http($server);
    $r = $c->request(uri => '/late_hints');
    is_whole $r, 'too late for it';
    is $r->{body}, 'anot sent', 'is told, too';
    $r = $c->request(uri => '/wrong_hints');
    is_whole $r, 'what is none';
    is $r->{body}, join(' ', ('refused') x 6), 'is refused';
    is_deeply $r->{informational}, [], 'and not sent';
    $c->send("POST /hints HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n");
    $r = $c->read_response;
    is_deeply [ map { $_->{status} } @{ $r->{informational} } ], [ 103, 102 ], 'to a client that waits for 100 Continue: no such';
    is_whole $r, 'and an answer';
};

subtest 'the environment' => sub {
    my $json = JSON::PP->new->latin1;
    my $env_of = sub {
        my (%o) = @_;
        my $c = http($server, over => $o{over});
        my $r = $c->request(uri => '/env/a', %o);
        return ($r->{status} == 200 ? $json->decode($r->{body}) : { status => $r->{status} }, $c);
    };
    my ($env, $c) = $env_of->(uri => '/env/a?b=c%20d', host => 'Example.ORG:8080', headers => [
        'X-One' => '1', Cookie => 'a=1', 'x-one' => '2', Cookie => 'b=2', Proxy => 'evil', 'X_Under' => '1', 'X-Empty' => '', 'X.Dot' => 1,
        'Content-Type' => 'text/x', 'X-Latin' => "caf\xe9", 'Transfer-Encoding_' => 1, 'Authorization' => 'Basic x', Range => 'bytes=0-', TE => 'trailers',
    ]);
    my %expected = (
        REQUEST_METHOD => 'GET', REQUEST_URI => '/env/a?b=c%20d', PATH_INFO => '/env/a', SCRIPT_NAME => '', QUERY_STRING => 'b=c%20d',
        SERVER_PROTOCOL => 'HTTP/1.1', SERVER_NAME => 'Example.ORG', SERVER_PORT => 8080, HTTP_HOST => 'Example.ORG:8080', REMOTE_ADDR => '127.0.0.1',
        HTTP_X_ONE => '1, 2', HTTP_COOKIE => 'a=1; b=2', CONTENT_TYPE => 'text/x', HTTP_X_EMPTY => '', HTTP_X_LATIN => "caf\xe9", HTTP_AUTHORIZATION => 'Basic x',
        'psgi.url_scheme' => 'http', HTTPS => undef, HTTP_PROXY => undef, HTTP_X_UNDER => undef, HTTP_CONTENT_TYPE => undef, CONTENT_LENGTH => undef,
        HTTP_CONTENT_LENGTH => undef, HTTP_TRANSFER_ENCODING => undef, HTTP_TRANSFER_ENCODING_ => undef, 'HTTP_X.DOT' => undef, REMOTE_USER => undef,
    );
    is_deeply { map { $_ => $env->{$_} } keys %expected }, \%expected, 'as CGI wants it';
    is $env->{REMOTE_PORT}, $c->socket->sockport, 'REMOTE_PORT';
    is_deeply [ grep { /[^A-Z0-9_]/ && !/\Apsgix?\./ } keys %$env ], [], 'no other keys';
    my $port = $c->socket->peerport;
    ($env) = $env_of->(version => '1.0', host => undef);
    is_deeply [ @$env{qw(SERVER_PROTOCOL SERVER_NAME SERVER_PORT HTTP_HOST)} ], [ 'HTTP/1.0', '127.0.0.1', $port, undef ], 'without Host: the address';
    is +($env_of->(host => ''))[0]{SERVER_NAME}, '127.0.0.1', 'with an empty one too';
    ($env) = $env_of->(host => 'example.org');
    is_deeply [ @$env{qw(SERVER_NAME SERVER_PORT)} ], [ 'example.org', 80 ], 'Host without a port';
    ($env) = $env_of->(host => '[2001:db8::1]:81');
    is_deeply [ @$env{qw(SERVER_NAME SERVER_PORT)} ], [ '[2001:db8::1]', 81 ], 'Host with an IPv6 address';
    ($env) = $env_of->(body => 'four');
    is $env->{CONTENT_LENGTH}, 4, 'CONTENT_LENGTH';

    for my $case (
        [ 'http://other.example:81/env/p?q', '/env/p?q', '/env/p', 'other.example:81' ], [ 'HTTP://other.example?q', '/?q', '/', 'other.example' ],
        [ 'https://other.example', '/', '/', 'other.example' ],
        [ '/a//b', '/a//b', '/a//b' ], [ '//a/b', '//a/b', '//a/b' ], [ '/a%2Fb', '/a%2Fb', '/a/b' ], [ '/a%00b', '/a%00b', "/a\0b" ],
        [ '/a/./b/../c', '/a/./b/../c', '/a/c' ], [ '/../../etc', '/../../etc', '/etc' ], [ '/a/%2e%2e/b', '/a/%2e%2e/b', '/b' ],
        [ '/caf%C3%A9', '/caf%C3%A9', "/caf\xc3\xa9" ], [ "/caf\xe9", "/caf\xe9", "/caf\xe9" ], [ '/a%zz', '/a%zz', '/a%zz' ], [ '/?', '/?', '/' ], [ '/;a=b', '/;a=b', '/;a=b' ],
        [ '/a?http://x/', '/a?http://x/', '/a' ],
    ) {
        my ($target, $uri, $path, $host) = @$case;
        ($env) = $env_of->(uri => $target);
        is_deeply [ @$env{qw(REQUEST_URI PATH_INFO HTTP_HOST)} ], [ $uri, $path, $host // 'test.example' ], "target $target" or diag explain $env;
    }
    ($env) = $env_of->(uri => 'https://other.example/');
    is $env->{'psgi.url_scheme'}, 'http', 'the scheme of a target is only what the client says';

    ($env) = $env_of->(over => http_path($server), host => undef, version => '1.0');
    is $env->{REMOTE_PORT}, undef, 'UNIX path: no REMOTE_PORT';
    like $env->{SERVER_NAME}, qr/\S/, 'a SERVER_NAME is there';
    like $env->{SERVER_PORT}, qr/\A\d+\z/, 'and a SERVER_PORT';
    note "REMOTE_ADDR over a UNIX path: " . ($env->{REMOTE_ADDR} // 'none');
};

subtest 'UNIX path' => sub {
    my $c = http($server, over => http_path($server));
    is $c->request(uri => '/pid')->{body}, $pid, 'answers';
    is md5_hex($c->request(uri => '/large_file')->{body}), md5_hex($large), 'a large file';
    is $c->request(uri => '/md5', body => $large)->{body}, length($large) . ' ' . md5_hex($large), 'a large body';
    my $r = $c->request(uri => '/object', version => '1.0');
    is_whole $r, 'HTTP/1.0';
    is $server->get('/pid')->{body}, $pid, 'FastCGI is served beside it';
    is http($server)->request(uri => '/pid')->{body}, $pid, 'and TCP';
};

is get('/pid')->{body}, $pid, 'one worker has served all of it';
is $server->stop, 'exit 0', 'stops';
unlike $server->log, qr/ (?:ERROR|PANIC|FATAL):/, 'nothing went wrong';

subtest 'an end in good order' => sub {
    my $other = http_server(workers => 1, app => $app);
    my ($worker) = $other->worker_pids;
    my $c = http($other);
    $c->send(http_request(uri => '/harakiri') . http_request(uri => '/path/2') . http_request(uri => '/path/3'));
    is_deeply [ map { $c->read_response->{body} } 1 .. 3 ], [ $worker, 'GET /path/2', 'GET /path/3' ], 'psgix.harakiri: what has come is answered';
    isnt $c->request(uri => '/pid')->{body}, $worker, 'and its connection goes on with a new worker';

    $c = http($other);
    $c->send(http_request(uri => '/stream?end'));
    my $r = $c->read_head;
    $c->read_body_until($r, qr/step 1/);
    $other->signal('TERM');
    $other->open_gate("step-end-$_") for 1 .. 3;
    is_whole $c->finish_response($r), 'told to stop: the response under way is completed';
    is $r->{body}, "step 1\nstep 2\nstep 3\n", 'all of it';
    ok $c->closes, 'and the connection closed';
    is $other->wait_exit, 'exit 0', 'stops';
};

subtest 'a head of 150 kB' => sub {
    my $big = http_server(workers => 1, app => $app);
    my ($worker) = $big->worker_pids;
    my @head = (headers => [ map { ("X-$_" => 'b' x 1000) } 1 .. 90 ]);
    is http($big)->request(@head, uri => '/long?' . 'a' x 60_000)->{body}, 'long', 'with something to tell in the log';
    {
        is http($big)->request(uri => '/pid')->{body}, $worker, 'the worker lives on';
        ok $big->wait_log(qr{WARNING:  worker\[$worker\]: GET /long\?a+.* \[\S+\]: the response has 6 bytes}), 'and names the request';
    }
    my $c = http($big);
    is $c->request(@head, uri => '/path/' . 'a' x 60_000)->{body}, 'GET /path/' . 'a' x 60_000, 'is taken';
    is $c->request(uri => '/path/next')->{body}, 'GET /path/next', 'and the next one on the connection';
    is $big->stop, 'exit 0', 'stops';
};

subtest 'IPv6' => sub {
    plan skip_all => 'no IPv6 here' unless IO::Socket::IP->new(Listen => 1, LocalHost => '::1', LocalPort => 0);
    my $both = http_server(workers => 1, app => $app, options => [ '--http=[::1]:0', '--http=*:0' ]);
    my $env_of = sub { JSON::PP->new->latin1->decode(http($both, over => $_[0])->request(uri => '/env', version => '1.0', host => undef)->{body}) };
    my $env = $env_of->(http_address($both, 1));
    is_deeply [ @$env{qw(REMOTE_ADDR SERVER_NAME)} ], [ '::1', '[::1]' ], 'an address of its own';
    my ($port) = http_address($both, 2) =~ /:(\d+)\z/;
    $env = $env_of->("127.0.0.1:$port");
    is_deeply [ @$env{qw(REMOTE_ADDR SERVER_NAME SERVER_PORT)} ], [ '127.0.0.1', '127.0.0.1', $port ], 'IPv4 on a socket for both is IPv4';
    is $env_of->("[::1]:$port")->{REMOTE_ADDR}, '::1', 'and IPv6 on it';
    is $both->stop, 'exit 0', 'stops';
};

done_testing;
