# The example application: every page behind nginx with its loader, and under plain Plack without one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Nginx;
use Digest::SHA;
use HTTP::Request::Common;
use Plack::Test;
use Plack::Util;
use Test::More;

my $tour = BladePSGI::Test::project_root() . '/examples/tour';

subtest 'behind nginx, with the loader' => sub {
    my $server = BladePSGI::Test->prepare(
        app_file => "$tour/app.psgi",
        workers  => 2,
        options  => ['--loader=Tour'],
        env      => { PERL5LIB => join ':', "$tour/lib", grep { defined } $ENV{PERL5LIB} },
    );
    ok $server->launch->wait_ready, 'starts' or return;
    my $nginx = BladePSGI::Test::Nginx->start(socket => $server->socket);
    for my $page ('', 'request', 'upload', 'stream', 'counter', 'heartbeat', 'error') {
        next if $page eq 'stream';
        my $answer = $nginx->get("/$page");
        is $answer->{status}, 200, "/$page";
        like $answer->{content}, qr{<h1>.*</html>}s, "/$page: a whole page";
        unlike $answer->{content}, qr/without BladePSGI/, "/$page: with what is shared";
    }
    like $nginx->get('/request/a%20b?name=one&name=two')->{content}, qr{PATH_INFO.*?/request/a b.*?psgi\.version}s, 'the environment';
    is $nginx->get('/static/tour.css')->{headers}{'content-type'}, 'text/css; charset=utf-8', 'the style sheet';
    is $nginx->get('/nowhere')->{status}, 404, 'no such page';

    my $path = write_text($server->folder . '/file.bin', join '', map { chr($_ % 256) } 1 .. 300_000);
    my $sha = Digest::SHA->new(256)->addfile($path, 'b')->hexdigest;
    like $nginx->curl('-F', "file=\@$path", '--form-string', 'name=<b>', '/upload')->{out}, qr/&lt;b&gt;.*file\.bin.*300000.*$sha/s, 'a form with a file';
    is $nginx->curl('-T', $path, '/upload/raw')->{out}, "$sha  300000 bytes\n", 'a bare upload';

    my $c = $nginx->connect;
    $c->send("GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n");
    like $c->read_until(qr/line 1 of 10/, 10), qr/line 1 of 10/, 'the first line of the stream is here';
    unlike $c->{in}, qr/line 3 of 10/, 'before the others are written';
    $c->close;

    $nginx->post('/counter/add', '') for 1 .. 3;
    like $nginx->get('/counter/now')->{content}, qr/\A\{"count":3,"lock":"free","worker":\d+\}\z/, 'the counter is shared';
    is $nginx->get('/counter/add')->{status}, 405, 'and changed by POST only';
    is $server->stats->{sem}{lock}, 1, 'the lock is free';
    ok wait_for { $server->stats->{atomic}{'heart beats'} > 0 }, 'the heart beats';
    ok $server->pid_of('heart'), 'in a process of its own';

    is $nginx->get('/error/now')->{status}, 500, 'an error before the response';
    isnt $nginx->curl('/error/middle')->{exit}, 'exit 0', 'an error in the middle of it';
    is $nginx->get('/error/exit')->{status}, 500, 'exit';
    is $nginx->get('/')->{status}, 200, 'the tour goes on';
    is $server->stop('INT'), 'exit 0', 'stops';
};

subtest 'under plain Plack' => sub {
    my $app = Plack::Util::load_psgi("$tour/app.psgi");
    test_psgi $app, sub {
        my ($request) = @_;
        for my $page ('', 'request', 'upload', 'counter', 'heartbeat', 'error') {
            my $answer = $request->(GET "/$page");
            is $answer->code, 200, "/$page";
            like $answer->content, qr{<h1>.*</html>}s, "/$page: a whole page";
        }
        is $request->(PUT '/upload/raw', Content => 'abc')->content,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  3 bytes\n", 'an upload';
    };
};

done_testing;
