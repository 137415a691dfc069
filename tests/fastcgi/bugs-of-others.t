# Bugs that other FastCGI programs had, one test for each that shows that this one does not have it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Digest::MD5 'md5_hex';
use JSON::PP ();
use Socket;
use Test::More;
use Time::HiRes ();

my $echo = "$FindBin::Bin/../apps/echo.psgi";
my $server = BladePSGI::Test->start(app_file => $echo, workers => 1, options => ['--head-timeout=1']);
my ($worker) = $server->worker_pids;
my $json = JSON::PP->new->latin1;

sub env_of { return $json->decode($server->get('/env', @_)->{body}) }

sub unharmed {
    my ($name) = @_;
    like $server->get('/unharmed')->{body}, qr{/unharmed $worker\z}, $name || 'the worker is unharmed';
    return;
}

subtest 'libfcgi CVE-2025-23016: the sum of name and value length wraps' => sub {
    for my $lengths ([ 0xc0000000, 0xc0000000 ], [ 0xffffffff, 0xffffffff ], [ 0xfffffffe, 0x80000004 ], [ 0xffffffff, 2 ]) {
        my ($name, $value) = @$lengths;
        my $c = $server->connect;
        $c->send(begin(1) . params(1, pairs(nginx_env()) . ($value > 127 ? pack 'NN', @$lengths : pack 'NC', @$lengths)
            . 'A' x 1000) . stdin(1, ''));
        my $answer = $c->read_response;
        ok !defined $answer->{status} || $answer->{status} >= 400, sprintf 'lengths %x and %x are refused', @$lengths;
        unharmed();
    }
};

subtest 'libfcgi: allocates what a length announces' => sub {
    my $size = sub { read_text("/proc/$worker/status") =~ /^VmPeak:\s+(\d+)/m; $1 };
    my $before = $size->();
    my $c = $server->connect;
    $c->send(begin(1) . record(FCGI_PARAMS, 1, pack('NN', 0xbfffffff, 0xbfffffff) . 'NAME'));
    unharmed('announcing two gigabytes');
    cmp_ok $size->() - $before, '<', 8192, 'allocates nothing like it' unless is_sanitized();
};

subtest 'libfcgi CVE-2012-6687: select with descriptors over 1024' => sub {
    my $many = BladePSGI::Test->start(workers => 1, app => <<'PERL');
my @open = map { open my $f, '<', '/dev/null' or die "open: $!"; $f } 1 .. 2000;
sub { my ($env) = @_; $env->{'psgi.input'}->read(my $body, 100_000); [200, [], [scalar(@open), ' ', length $body]] }
PERL
    my $c = $many->connect;
    my $n = $c->request(method => 'POST', body => 'x' x 70_000, keep => 1)->{body};
    SKIP: {
        skip 'this machine allows fewer descriptors', 0 unless $n;
        is $n, '2000 70000', 'an application with 2000 open files';
    }
    is $c->request(method => 'POST', body => 'x' x 70_000)->{body}, '2000 70000', 'also on a kept connection';
    is $many->stop, 'exit 0', 'stops';
};

subtest 'FCGI.xs: a name that begins with NUL' => sub {
    my $answer = $server->get('/env', env => { "\0NAME" => 'x', "MID\0DLE" => 'y', "END\0" => 'z' });
    ok defined $answer->{status}, 'answered';
    unharmed();
};

subtest 'FCGI.xs: values cut at NUL' => sub {
    my $answer = $server->get('/env', env => { HTTP_X_NUL => "before\0after" });
    if ($answer->{status} == 200) {
        isnt $json->decode($answer->{body})->{HTTP_X_NUL} // 'left out', 'before', 'not cut';
    }
    else { cmp_ok $answer->{status}, '>=', 400, 'refused' }
    unharmed();
};

subtest 'CVE-2011-2766: the environment of one request is visible in the next' => sub {
    my $c = $server->connect;
    my $first = $json->decode($c->request(uri => '/env', keep => 1,
        env => { HTTP_AUTHORIZATION => 'Basic secret', HTTP_X_FIRST => 'yes' })->{body});
    is $first->{HTTP_X_FIRST}, 'yes', 'the first has it';
    my $second = $json->decode($c->request(uri => '/env', keep => 1)->{body});
    ok !exists $second->{$_}, "the second has no $_" for qw(HTTP_AUTHORIZATION HTTP_X_FIRST);
    my $environ = BladePSGI::Test->start(workers => 1, app => 'sub { [200, [], [join "\n", map { "$_=$ENV{$_}" } sort keys %ENV]] }');
    my $before = $environ->get('/')->{body};
    my $after = $environ->get('/', env => { HTTP_X_PLANTED => 'planted', PERL5OPT => '-d', LD_PRELOAD => 'x' })->{body};
    is $after, $before, '%ENV of the process is never touched by parameters';
    is $environ->stop, 'exit 0', 'stops';
};

subtest 'libfcgi: padding of BEGIN_REQUEST and of empty records is not skipped' => sub {
    my $c = $server->connect;
    $c->send(begin(1, padding => 8) . params(1, nginx_env(uri => '/body', method => 'POST', body => 'abc'), end_padding => 8)
        . record(FCGI_STDIN, 1, 'abc', padding => 5) . record(FCGI_STDIN, 1, '', padding => 8));
    is $c->read_response->{body}, '3 ' . md5_hex('abc') . ' end', 'the body is whole';
};

subtest 'libfcgi: GET_VALUES with nothing behind it blocks' => sub {
    my $c = $server->connect;
    $c->send(record(FCGI_GET_VALUES, 0, pairs([ FCGI_MPXS_CONNS => '' ])));
    ok within(5, sub { is eval { $c->read_record(5)->{type} }, FCGI_GET_VALUES_RESULT, 'answered' }), 'at once';
};

subtest 'libfcgi: the content of an unknown management record is not skipped' => sub {
    my $c = $server->connect;
    $c->send(record(42, 0, request_bytes(uri => '/planted', id => 1)) . request_bytes(uri => '/real', id => 1));
    my $answer = $c->read_response;
    like $answer->{body}, qr{/real}, 'what it contains is not taken for records';
};

subtest 'libfcgi: repeated names overflow the reply to GET_VALUES' => sub {
    my $c = $server->connect;
    $c->send(record(FCGI_GET_VALUES, 0, pairs([ ('FCGI_MAX_CONNS', '', 'FCGI_MAX_REQS', '', 'FCGI_MPXS_CONNS', '') x 400 ])));
    is scalar(unpairs($c->read_record->{content})), 6, 'three pairs at most';
    unharmed();
};

subtest 'libfcgi: a version error in PARAMS is taken for the end of the stream' => sub {
    my $before = $server->get('/count')->{body};
    my $c = $server->connect;
    $c->send(begin(1) . record(FCGI_PARAMS, 1, pairs(nginx_env(uri => '/x'))) . record(FCGI_PARAMS, 1, 'rest', version => 9)
        . stdin(1, ''));
    ok !defined $c->read_response->{status}, 'no answer';
    is $server->get('/count')->{body}, $before + 1, 'the application did not run with half its parameters';
};

subtest 'libfcgi: an error in STDIN looks like its end' => sub {
    for my $size (1000, 200_000) {
        $server->remove_mark('body');
        my $c = $server->connect;
        $c->send(begin(1) . params(1, nginx_env(uri => '/body', method => 'POST', env => { CONTENT_LENGTH => $size }))
            . record(FCGI_STDIN, 1, 'x' x ($size / 4)));
        $c->close;
        unharmed("$size bytes announced, a quarter sent, then closed");
        my $mark = read_text($server->folder . '/mark-body');
        unlike $mark, qr/ end\z/, 'the application was not called, or saw an error: ' . ($mark || 'not called');
    }
    $server->remove_mark('body');
    my $c = $server->connect;
    $c->send(begin(1) . params(1, nginx_env(uri => '/body', method => 'POST', env => { CONTENT_LENGTH => 200_000 }))
        . record(FCGI_STDIN, 1, 'x' x 60_000) . record(FCGI_STDIN, 1, 'x' x 40_000) . record(FCGI_STDIN, 1, ''));
    $c->read_response;
    like $server->wait_mark('body'), qr/\A100000 error \d/, 'a stream that ends short of CONTENT_LENGTH is an error too';
};

subtest 'libfcgi: bytes read ahead are dropped, a pipelined request is lost' => sub {
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/one', keep => 1) . request_bytes(uri => '/two', keep => 1) . request_bytes(uri => '/three'));
    like $c->read_response->{body}, qr{$_}, $_ for qw(/one /two /three);
};

subtest 'libfcgi: an unread body desynchronises the kept connection' => sub {
    my $c = $server->connect;
    for (1 .. 3) {
        is $c->request(uri => '/unread', method => 'POST', body => 'x' x 100_000, keep => 1)->{body}, 'unread', 'left unread';
        is $c->request(uri => '/body', method => 'POST', body => "n$_", keep => 1)->{body}, '2 ' . md5_hex("n$_") . ' end',
            'the next one is right';
    }
};

subtest 'libfcgi: ABORT_REQUEST and an unknown role close the connection' => sub {
    my $c = $server->connect;
    $c->send(begin(1, keep => 1) . record(FCGI_ABORT_REQUEST, 1, ''));
    ok $c->read_response->{ended}, 'ABORT_REQUEST: END_REQUEST';
    $c->send(begin(2, keep => 1, role => 9));
    is $c->read_response(2)->{protocol_status}, FCGI_UNKNOWN_ROLE, 'unknown role: END_REQUEST';
    like $c->request(uri => '/kept', id => 3)->{body}, qr{/kept}, 'the connection is kept';
};

subtest 'FCGI.pm: streaming is held back' => sub {
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/write/held'));
    like $c->read_stdout_until(qr/first\n/), qr/first\n/, 'a write reaches the client before the next one is made';
    $server->open_gate('held');
    ok $c->read_response->{ended}, 'then the rest';
};

subtest 'FCGI.pm: wide characters' => sub {
    my $wide = BladePSGI::Test->start(workers => 1, app => 'sub { [200, ["Content-Length" => 3], ["\x{263a}\x{263a}\x{263a}"]] }');
    my $answer = $wide->get('/');
    is $answer->{status}, 500, '500 instead of bytes of a wrong length';
    log_like $wide, qr/wide character/i, 'and the author is told';
    is $wide->stop, 'exit 0', 'stops';
};

subtest 'php-fpm CVE-2019-11043: PATH_INFO empty, missing, inconsistent' => sub {
    my @paths = (undef, '', '/', '/x', "\n", 'x' x 5000, '/%0a', '..', '/../../etc/passwd');
    my $wrong = 0;
    for my $script (@paths) {
        for my $info (@paths) {
            for my $uri (undef, '', '/env', '/a%0Ab', 'no-slash', '*', 'http://host/abs') {
                my $answer = $server->get('/env', env => { SCRIPT_NAME => $script, PATH_INFO => $info, REQUEST_URI => $uri });
                $wrong++ unless $answer->{ended} && defined $answer->{status};
            }
        }
    }
    is $wrong, 0, 'every combination is answered';
    unharmed();
};

subtest 'php-fpm, uwsgi: a pair split over two PARAMS records' => sub {
    my $pairs = pairs(nginx_env(uri => '/env', env => { HTTP_X_LONG => 'v' x 300 }));
    my $wrong = 0;
    for my $cut (1 .. length($pairs) - 1) {
        my $c = $server->connect;
        $c->send(begin(1) . record(FCGI_PARAMS, 1, substr $pairs, 0, $cut) . record(FCGI_PARAMS, 1, substr $pairs, $cut)
            . record(FCGI_PARAMS, 1, '') . stdin(1, ''));
        my $answer = $c->read_response;
        $wrong++ unless ($answer->{status} || 0) == 200 && $json->decode($answer->{body})->{HTTP_X_LONG} eq 'v' x 300;
    }
    is $wrong, 0, length($pairs) - 1 . ' places';
};

subtest 'uwsgi: version, role and id are not checked; late PARAMS are accepted' => sub {
    my $c = $server->connect;
    $c->send(begin(1) . params(1, nginx_env(uri => '/env', method => 'POST', env => { CONTENT_LENGTH => 4 }))
        . record(FCGI_PARAMS, 1, pairs([ HTTP_X_LATE => 'late' ])) . stdin(1, 'body'));
    my $answer = $c->read_response;
    unlike $answer->{body}, qr/HTTP_X_LATE/, 'PARAMS after their end are never used';
    $c = $server->connect;
    $c->send(begin(1) . record(FCGI_PARAMS, 2, pairs([ HTTP_X_OTHER => 'x' ])) . params(1, nginx_env(uri => '/env')) . stdin(1, ''));
    my $body = $c->read_response->{body};
    ok length $body, 'answered';
    unlike $body, qr/HTTP_X_OTHER/, 'PARAMS of another id are never used';
};

subtest 'lighttpd CVE-2007-4727: a parameter that replaces another by a length trick' => sub {
    my $env = env_of(env => { HTTP_X_TRICK => pair('SCRIPT_FILENAME', '/etc/passwd', '11') x 5, SCRIPT_FILENAME => '/right' });
    is $env->{SCRIPT_FILENAME}, '/right', 'what looks like pairs within a value stays within it';
};

subtest 'mod_fcgid, mod_proxy_fcgi, HAProxy: overflows when reading our records' => sub {
    my $answer = $server->get('/big/5000000');
    is length $answer->{body}, 5_000_000, 'a large response';
    my ($largest) = sort { $b <=> $a } map { length($_->{content}) + $_->{padding} } @{ $answer->{records} };
    cmp_ok $largest, '<=', 65528, "modest records (at most $largest bytes)";
};

subtest 'httpoxy CVE-2016-5385' => sub {
    my $env = env_of(env => { HTTP_PROXY => 'http://evil.example/' });
    ok !exists $env->{HTTP_PROXY}, 'HTTP_PROXY never reaches the application';
};

subtest 'Plack::Handler::FCGI: extension keys can be planted' => sub {
    my %plant = map { $_ => 'planted' } qw(psgix.harakiri.commit psgix.io psgix.session psgix.logger psgi.input psgi.version
        psgix.input.buffered psgi.url_scheme PSGIX.HARAKIRI.COMMIT psgix.cleanup.handlers psgix.my psgi.my);
    my $env = env_of(env => \%plant);
    my @planted = grep { /\Apsgix?\./ && !ref $env->{$_} && ($env->{$_} // '') eq 'planted' } keys %$env;
    is_deeply \@planted, [], 'no psgi.* or psgix.* of the client';
    unharmed('and the worker does not end');
};

subtest 'closing with unread input destroys the response' => sub {
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/unread', method => 'POST', body => 'x' x 400_000));
    my $answer = $c->read_response;
    is $answer->{body}, 'unread', 'a response to a body that nobody read arrives';
    ok $answer->{ended}, 'whole';
};

subtest 'an accepted but silent connection blocks a worker' => sub {
    my @silent = map { $server->connect } 1 .. 3;
    ok within(10, sub { like $server->get('/x', timeout => 15)->{body}, qr{/x}, 'others are served' }),
        'a silent connection has a time limit';
};

subtest 'SIGPIPE' => sub {
    for (1 .. 10) {
        my $c = $server->connect;
        $c->send(request_bytes(uri => '/big/2000000'));
        $c->close;
    }
    unharmed('clients that went while we wrote');
};

is_deeply [ $server->worker_pids ], [$worker], 'the same worker lived through all of it';
is $server->stop, 'exit 0', 'stops';
done_testing;
