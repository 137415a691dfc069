# Malformed, oversized and slow input: what it gets, and that nobody else notices.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Digest::MD5 'md5_hex';
use JSON::PP ();
use Test::More;

my $server = BladePSGI::Test->start(
    app_file => "$FindBin::Bin/../apps/echo.psgi",
    workers  => 1,
    options  => [qw(--head-timeout=1 --body-timeout=1 --send-timeout=1 --idle-timeout=1)],
);
my ($worker) = $server->worker_pids;

sub others_are_served {
    my ($name) = @_;
    like $server->get('/others')->{body}, qr{\AGET /others $worker\z}, "$name: the next one is served, by the same worker";
    return;
}

sub dropped {
    my ($name, $bytes, %o) = @_;
    my $before = $server->get('/count')->{body};
    my $c = $server->connect;
    $c->send($bytes);
    my @records;
    while (my $record = eval { $c->read_record(10) }) { push @records, $record }
    ok $c->{eof}, "$name: the connection is dropped";
    ok !grep({ $_->{type} == FCGI_STDOUT && length $_->{content} } @records), "$name: no output" unless $o{output};
    is $server->get('/count')->{body}, $before + 1, "$name: the application was not called" unless $o{called};
    others_are_served($name);
    return;
}

my $env = nginx_env(uri => '/body');
my $x = nginx_env(uri => '/x');

subtest 'malformed streams' => sub {
    for my $version (0, 2, 255) {
        dropped("version $version", record(FCGI_BEGIN_REQUEST, 1, "\0\1\0\0\0\0\0\0", version => $version)
            . params(1, $x) . stdin(1, ''));
    }
    dropped('HTTP on the FastCGI socket', "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    dropped('text', "hello\n" x 10);
    dropped('BEGIN_REQUEST that is too short', record(FCGI_BEGIN_REQUEST, 1, "\0\1\0\0\0") . params(1, $x) . stdin(1, ''));
    dropped('BEGIN_REQUEST that is too long', record(FCGI_BEGIN_REQUEST, 1, "\0\1\0" . "\0" x 9) . params(1, $x) . stdin(1, ''));
    dropped('BEGIN_REQUEST of an active id', begin(1) . begin(1) . params(1, $x) . stdin(1, ''));
    dropped('an unknown type for an active id', begin(1) . record(77, 1, 'x') . params(1, $x) . stdin(1, ''));
    dropped('version error within PARAMS', begin(1) . record(FCGI_PARAMS, 1, pairs($x))
        . record(FCGI_PARAMS, 1, '', version => 3) . stdin(1, ''));
    dropped('STDIN before the end of PARAMS', begin(1) . record(FCGI_PARAMS, 1, pairs($x)) . stdin(1, 'early'));
    my %lengths = (
        'a name that is longer than the stream'  => "\x20\x05NAME",
        'a value that is longer than the stream' => "\x04\x50NAMEvalue",
        'a stream that ends within a length'     => "\x04\x80\x00",
        'a stream that ends before a length'     => "\x04",
        'lengths of 2^31-1'                      => "\xff\xff\xff\xff\xff\xff\xff\xffNAME",
        'twice 2^30'                             => "\xc0\x00\x00\x00\xc0\x00\x00\x00NAME",
        '2^31-2'                                 => "\xff\xff\xff\xfe\x01NAME",
        'a name of 2^31-1'                       => "\xff\xff\xff\xff\x00N",
        'a value of 2^31-1'                      => "\x01\xff\xff\xff\xffN",
    );
    for my $name (sort keys %lengths) {
        dropped($name, begin(1) . params(1, pairs($x) . $lengths{$name}) . stdin(1, ''), output => 1);
    }
};

subtest 'random bytes' => sub {
    srand 42;
    for my $seed (1 .. 100) {
        my $bytes = request_bytes(uri => '/x', method => 'POST', body => 'body', padding => $seed % 9);
        for (1 .. 1 + $seed % 5) {
            substr($bytes, int rand length $bytes, 1) = chr int rand 256;
        }
        my $c = $server->connect;
        $c->send($bytes);
        $c->shutdown_write;
        eval { $c->read_response(1, 10) };
        fail 'a time limit' if $@;
        $c->close;
    }
    others_are_served('100 spoiled requests');
};

subtest 'parameters over the limit' => sub {
    my $memory = sub { read_text("/proc/$worker/status") =~ /^VmRSS:\s+(\d+)/m; $1 };
    my $before = $memory->();
    my $answer = $server->get('/env', env => { HTTP_X => 'v' x 1_200_000 });
    is $answer->{status}, 431, 'more than a mebibyte: 431';
    others_are_served('431');
    my %many = map { ("HTTP_X$_" => $_) } 1 .. 5000;
    is $server->get('/env', env => \%many)->{status}, 431, 'more than 4096 names: 431';
    others_are_served('names');
    is $server->get('/x', env => { HTTP_X => 'v' x 900_000 })->{status}, 200, 'below a mebibyte: served';
    my %some = map { ("HTTP_X$_" => $_) } 1 .. 4000;
    is $server->get('/x', env => \%some)->{status}, 200, '4000 names: served';
    my $c = $server->connect;
    my $sent = $c->send(begin(1) . join '', map { record(FCGI_PARAMS, 1, 'x' x 65535) } 1 .. 1000);
    ok !$sent || $c->closes(10), 'sixty megabytes: closed beyond four times the limit';
    others_are_served('sixty megabytes');
    cmp_ok $memory->() - $before, '<', 24_000, 'and memory is bounded' unless is_sanitized();

    my $small = BladePSGI::Test->start(
        app_file => "$FindBin::Bin/../apps/echo.psgi",
        workers  => 1,
        options  => [qw(--max-params-bytes=4096 --max-params=30)],
    );
    is $small->get('/x')->{status}, 200, '--max-params-bytes: within';
    is $small->get('/x', env => { HTTP_X => 'v' x 4096 })->{status}, 431, '--max-params-bytes: beyond';
    is $small->get('/x', env => { map { ("HTTP_X$_" => $_) } 1 .. 20 })->{status}, 431, '--max-params: beyond';
    is $small->stop, 'exit 0', 'stops';
};

subtest 'body over --max-body' => sub {
    my $small = BladePSGI::Test->start(
        app_file => "$FindBin::Bin/../apps/echo.psgi",
        workers  => 1,
        options  => ['--max-body=1000'],
    );
    is $small->post('/body', 'x' x 1000)->{status}, 200, 'at the limit: served';
    is $small->post('/body', 'x' x 1001)->{status}, 413, 'announced over it: 413';
    is $small->post('/body', 'x' x 200_000)->{status}, 413, 'far over it: 413';
    my $c = $small->connect;
    $c->send(begin(1) . params(1, nginx_env(uri => '/body', method => 'POST')) . stdin(1, 'x' x 200_000));
    my $answer = $c->read_response;
    ok $answer->{status} == 413 || $answer->{body} =~ /error/, 'not announced: 413, or an error where it is read';
    is $small->get('/x')->{status}, 200, 'the next one is served';
    is $small->stop, 'exit 0', 'stops';
};

subtest '--drain-limit' => sub {
    my $small = BladePSGI::Test->start(
        app_file => "$FindBin::Bin/../apps/echo.psgi",
        workers  => 1,
        options  => ['--drain-limit=200000'],
    );
    my $c = $small->connect;
    is $c->request(uri => '/unread', method => 'POST', body => 'x' x 150_000, keep => 1)->{body}, 'unread', 'within the limit';
    is $c->request(uri => '/unread', keep => 1)->{body}, 'unread', 'the connection is kept';
    my $answer = $c->request(uri => '/unread', method => 'POST', body => 'x' x 5_000_000, keep => 1);
    is $answer->{body}, 'unread', 'beyond the limit: the response arrives';
    ok $answer->{ended}, 'whole';
    ok $c->closes(10), 'and the connection is closed';
    is $small->get('/unread')->{body}, 'unread', 'the next one is served';
    is $small->stop, 'exit 0', 'stops';
};

subtest 'lengths announced cost nothing' => sub {
    my $peak = sub { read_text("/proc/$worker/status") =~ /^VmHWM:\s+(\d+)/m; $1 };
    my $before = $peak->();
    for (1 .. 20) {
        my $c = $server->connect;
        $c->send(begin(1) . record(FCGI_PARAMS, 1, "\xbf\xff\xff\xff\xbf\xff\xff\xffNAME"));
        $c->close;
        $c = $server->connect;
        $c->send(begin(1) . params(1, nginx_env(uri => '/unread', method => 'POST', env => { CONTENT_LENGTH => '9' x 15 })));
        $c->close;
    }
    others_are_served('lengths');
    cmp_ok $peak->() - $before, '<', 4096, 'memory by bytes received, never by length announced' unless is_sanitized();
};

subtest 'CONTENT_LENGTH that is no number' => sub {
    for my $length ('-2', '1e3', '18446744073709551616', '5, 5', ' 4', 'four', '0x10', '+4') {
        my $c = $server->connect;
        $c->send(begin(1) . params(1, nginx_env(uri => '/body', method => 'POST', env => { CONTENT_LENGTH => $length }))
            . stdin(1, 'body'));
        my $answer = $c->read_response;
        ok +($answer->{status} || 0) == 400 || $answer->{eof} || $answer->{body} =~ /error/,
            "'$length': refused" or diag explain $answer->{body};
    }
    others_are_served('CONTENT_LENGTH');
};

subtest 'time limits' => sub {
    my $c = $server->connect;
    ok within(10, sub { ok $c->closes(10), 'a silent connection is closed' }), 'at its time limit';
    others_are_served('silent');

    $c = $server->connect;
    $c->send(begin(1) . record(FCGI_PARAMS, 1, substr pairs($x), 0, 20));
    ok $c->closes(10), 'half a head: closed';
    others_are_served('half a head');
    $server->remove_mark('body');

    $c = $server->connect;
    $c->send(begin(1) . params(1, nginx_env(uri => '/body', method => 'POST', env => { CONTENT_LENGTH => 300_000 }))
        . record(FCGI_STDIN, 1, 'x' x 60_000) . record(FCGI_STDIN, 1, 'x' x 60_000));
    my $answer = $c->read_response;
    like $server->wait_mark('body'), qr/\A120000 error \d/, 'half a body: reading it fails';
    others_are_served('half a body');

    $c = $server->connect;
    $c->send(begin(1) . params(1, nginx_env(uri => '/body', method => 'POST', env => { CONTENT_LENGTH => 100 }))
        . record(FCGI_STDIN, 1, 'x' x 10));
    $answer = eval { $c->read_response(1, 10) } || { eof => 0, status => 0 };
    ok $answer->{eof} || $answer->{ended}, 'half a small body: it does not wait for ever';
    others_are_served('half a small body');

    $c = $server->connect;
    $c->request(uri => '/x', keep => 1);
    ok $c->closes(10), 'an idle kept connection is closed';

    $c = $server->connect;
    $c->send(request_bytes(uri => '/big/20000000'));
    ok $c->is_readable(10), 'a client that does not read';
    like $server->get('/others', timeout => 15)->{body}, qr{/others}, 'its worker is free again after the time limit';
};

subtest 'what is logged of it' => sub {
    my $log = $server->log;
    unlike $log, qr/[^\n\t\x20-\x7e]/, 'no raw bytes of a peer';
    like $log, qr/ (?:WARNING|LOG|ERROR): .*(?:malformed|protocol|version|dropped|closed|limit)/i, 'there is word of it';
    my %seconds;
    for (grep { /malformed|protocol|version/i } split /\n/, $log) { $seconds{ substr $_, 0, 19 }++ }
    my ($most) = sort { $b <=> $a } values %seconds;
    cmp_ok $most || 0, '<=', 4, 'at most once a second for each kind';
};

is_deeply [ $server->worker_pids ], [$worker], 'the worker has lived through all of it';
is $server->stop, 'exit 0', 'stops';
done_testing;
