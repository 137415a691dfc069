# FastCGI 1.0: records, streams and name-value pairs, however they are written.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Digest::MD5 'md5_hex';
use JSON::PP ();
use Test::More;

my $server = BladePSGI::Test->start(app_file => "$FindBin::Bin/../apps/echo.psgi", workers => 2);
my $json = JSON::PP->new->latin1;

sub post {
    my ($body, %o) = @_;
    return $server->post('/body', $body, %o)->{body};
}

my $body = join '', map { chr($_ * 7 % 256) } 1 .. 3000;
my $expected = '3000 ' . md5_hex($body) . ' end';

subtest 'padding on every record type' => sub {
    for my $padding (0, 1, 7, 8, 255) {
        is post($body, padding => $padding), $expected, "$padding bytes on each record";
        my $connection = $server->connect;
        $connection->send(
            record(FCGI_GET_VALUES, 0, pairs([ FCGI_MAX_CONNS => '' ]), padding => $padding)
                . record(99, 0, 'whatever', padding => $padding)
                . request_bytes(uri => '/body', method => 'POST', body => $body, padding => $padding, keep => 1)
        );
        my $answer = $connection->read_response;
        is $answer->{body}, $expected, "$padding bytes on management records too";
        is scalar(@{ $answer->{others} }), 2, 'both are answered';
        is $connection->request(uri => '/body', method => 'POST', body => 'next')->{body},
            '4 ' . md5_hex('next') . ' end', 'and the connection is in step';
    }
    my $connection = $server->connect;
    $connection->send(begin(1, padding => 255) . params(1, nginx_env(uri => '/body', env => { CONTENT_LENGTH => 4 }),
        padding => 3, end_padding => 200) . record(FCGI_STDIN, 1, 'abcd', padding => 255) . record(FCGI_STDIN, 1, '', padding => 5));
    is $connection->read_response->{body}, '4 ' . md5_hex('abcd') . ' end', 'on empty records as well';
};

subtest 'the largest record: 65535 bytes of content and 255 of padding' => sub {
    my $large = 'z' x 65535;
    is post($large, padding => 255, chunk => 65535), '65535 ' . md5_hex($large) . ' end', 'as STDIN';
    my $env = $json->decode($server->get('/env', env => { HTTP_X_LARGE => 'v' x 65000 }, padding => 255, chunk => 65535)->{body});
    is length $env->{HTTP_X_LARGE}, 65000, 'as PARAMS';
};

subtest 'reserved bytes are ignored' => sub {
    my $connection = $server->connect;
    my $request = begin(1, reserved_bytes => "\xff\x01\x02\x03\x04") . params(1, nginx_env(uri => '/x')) . stdin(1, '');
    substr($request, 7, 1) = "\xee";
    $connection->send($request);
    like $connection->read_response->{body}, qr{\AGET /x }, 'in the header and in BEGIN_REQUEST';
    $connection = $server->connect;
    $connection->send(request_bytes(uri => '/x', flags => 0xfe));
    my $answer = $connection->read_response;
    like $answer->{body}, qr{\AGET /x }, 'flags other than KEEP_CONN are ignored';
    ok $connection->closes, 'KEEP_CONN was not set among them, so the connection is closed';
};

subtest 'streams cut anywhere' => sub {
    my $value = join '', map { chr 33 + $_ % 90 } 1 .. 400;
    for my $chunk (1, 2, 3, 5, 17, 128) {
        my $answer = $server->post('/env', 'body', chunk => $chunk, env => { HTTP_X_LONG => $value }, padding => $chunk % 3);
        is $json->decode($answer->{body})->{HTTP_X_LONG}, $value, "records of $chunk bytes";
    }
    for my $write (1, 2, 3, 7, 8, 9, 100) {
        my $answer = $server->connect->request(
            uri => '/body', method => 'POST', body => substr($body, 0, 300), padding => 5, write_chunk => $write);
        is $answer->{body}, '300 ' . md5_hex(substr $body, 0, 300) . ' end', "writes of $write bytes";
    }
};

subtest 'a request cut in two by the network, at every place' => sub {
    my $bytes = request_bytes(uri => '/body', method => 'POST', body => 'abc', keep => 1,
        pairs => [ REQUEST_METHOD => 'POST', REQUEST_URI => '/body', SCRIPT_NAME => '', CONTENT_LENGTH => 3 ], padding => 2);
    my $connection = $server->connect;
    my $wrong = 0;
    for my $cut (1 .. length($bytes) - 1) {
        $connection->send(substr $bytes, 0, $cut);
        $connection->send(substr $bytes, $cut);
        my $answer = $connection->read_response;
        $wrong++ unless $answer->{body} eq '3 ' . md5_hex('abc') . ' end';
    }
    is $wrong, 0, length($bytes) - 1 . ' places';
};

subtest 'lengths of names and values' => sub {
    for my $form (qw(11 14 41 44)) {
        my $env = $json->decode($server->get('/env', form => $form)->{body});
        is $env->{HTTP_HOST}, 'localhost', "form $form";
        is $env->{REQUEST_METHOD}, 'GET', "form $form";
    }
    for my $length (0, 1, 126, 127, 128, 129, 255, 256, 65535, 65536, 200_000) {
        my $env = $json->decode($server->get('/env', env => { HTTP_X_V => 'v' x $length })->{body});
        is length $env->{HTTP_X_V}, $length, "a value of $length bytes";
    }
    for my $length (127, 128, 129, 1000) {
        my $name = 'HTTP_' . 'N' x ($length - 5);
        my $env = $json->decode($server->get('/env', env => { $name => 'there' })->{body});
        is $env->{$name}, 'there', "a name of $length bytes";
    }
    my $env = $json->decode($server->request(pairs =>
        [ %{ nginx_env(uri => '/env') }, HTTP_X_EMPTY => '', '' => 'nameless', HTTP_X_LAST => '' ])->{body});
    is $env->{HTTP_X_EMPTY}, '', 'an empty value';
    is $env->{HTTP_X_LAST},  '', 'also as the last pair';
};

subtest 'values are bytes' => sub {
    my $bytes = join '', map { chr } 1 .. 255;
    my $env = $json->decode($server->get('/env', env => { HTTP_X_BYTES => $bytes })->{body});
    is $env->{HTTP_X_BYTES}, $bytes, 'every byte but NUL arrives as it was sent';
    my $nul = $server->get('/env', env => { HTTP_X_NUL => "before\0after" });
    if ($nul->{status} && $nul->{status} == 200) {
        my $value = $json->decode($nul->{body})->{HTTP_X_NUL};
        ok !defined $value || $value eq "before\0after", 'a value with NUL is kept or left out, never cut';
    }
    else {
        pass 'a value with NUL is refused';
    }
};

subtest 'order and duplicates' => sub {
    my $env = nginx_env(uri => '/env');
    my @sorted   = map { $_ => $env->{$_} } sort keys %$env;
    my @reversed = map { $_ => $env->{$_} } reverse sort keys %$env;
    my %answers = map { $server->request(pairs => $_)->{body} =~ s/"psgix?\.[^,}]*[,}]//gr => 1 } \@sorted, \@reversed;
    is scalar(keys %answers), 1, 'the order does not matter';
};

subtest 'what we send' => sub {
    my $answer = $server->get('/big/1000000');
    is length $answer->{body}, 1_000_000, 'a large body';
    my @bad = grep { $_->{version} != 1 || $_->{id} != 1 } @{ $answer->{records} };
    is scalar(@bad), 0, 'version 1, and our id back';
    my @large = grep { length($_->{content}) + $_->{padding} > 65528 } @{ $answer->{records} };
    is scalar(@large), 0, 'content and padding stay within 65528 bytes';
    is $answer->{records}[-1]{type}, FCGI_END_REQUEST, 'END_REQUEST is the last record';
    is length $answer->{records}[-1]{content}, 8, 'of 8 bytes';
    is scalar(grep { $_->{type} == FCGI_END_REQUEST } @{ $answer->{records} }), 1, 'exactly one';
    is $answer->{protocol_status}, FCGI_REQUEST_COMPLETE, 'REQUEST_COMPLETE';
    is $answer->{app_status}, 0, 'application status 0';
    cmp_ok scalar(grep { $_->{type} == FCGI_STDOUT } @{ $answer->{records} }), '>=', 1, 'at least one STDOUT record';
    my ($middle) = grep {
        my $r = $answer->{records};
        $r->[$_]{type} == FCGI_STDOUT && !length $r->[$_]{content} && $r->[ $_ + 1 ]{type} == FCGI_STDOUT
    } 0 .. $#{ $answer->{records} } - 1;
    ok !defined $middle, 'no empty STDOUT record in the middle';
    $answer = $server->connect->request(id => 65535, uri => '/x');
    ok $answer->{ended}, 'request id 65535';
    $answer = $server->connect->request(id => 256, uri => '/x');
    ok $answer->{ended}, 'request id 256';
};

is $server->stop, 'exit 0', 'stops';
done_testing;
