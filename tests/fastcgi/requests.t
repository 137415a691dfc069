# FastCGI 1.0: requests. Roles, KEEP_CONN, aborts, multiplexing, pipelines, half-close.

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

subtest 'KEEP_CONN' => sub {
    my $c = $server->connect;
    ok $c->request(uri => '/x')->{ended}, 'clear: answered';
    ok $c->closes, 'and closed after END_REQUEST';

    $c = $server->connect;
    for my $n (1 .. 20) {
        my $answer = $c->request(uri => "/number/$n", keep => 1, id => $n);
        like $answer->{body}, qr{\AGET /number/$n }, "set: request $n on one connection";
    }
    my $body = 'b' x 300_000;
    is $c->request(uri => '/unread', method => 'POST', body => $body, keep => 1)->{body}, 'unread', 'a body left unread';
    is $c->request(uri => '/unread', method => 'POST', body => 'small', keep => 1)->{body}, 'unread', 'also a small one';
    is $c->request(uri => '/body', method => 'POST', body => 'next', keep => 1)->{body}, '4 ' . md5_hex('next') . ' end',
        'does not come into the next request, and does not close';
    ok $c->request(uri => '/x', role => 77, keep => 1)->{ended}, 'a refused role';
    like $c->request(uri => '/after', keep => 1)->{body}, qr{/after}, 'does not close either';
    ok !$c->is_readable(0.2), 'nothing follows END_REQUEST';
    like $c->request(uri => '/last')->{body}, qr{/last}, 'the last request without the flag';
    ok $c->closes, 'ends the connection';
};

subtest 'roles' => sub {
    for my $role (0, 4, 77, 65535) {
        my $c = $server->connect;
        my $answer = $c->request(uri => '/x', role => $role, body => 'body');
        is $answer->{protocol_status}, FCGI_UNKNOWN_ROLE, "role $role: UNKNOWN_ROLE";
        is scalar(grep { $_->{type} == FCGI_STDOUT } @{ $answer->{records} }), 0, "role $role: no STDOUT";
        ok $c->closes, "role $role: closed without KEEP_CONN";
    }
    my $c = $server->connect;
    my $calls = $server->get('/count')->{status};
    $c->send(request_bytes(uri => '/x', role => 9, body => 'rest of the refused request', method => 'POST', keep => 1)
        . request_bytes(uri => '/after', keep => 1, id => 2));
    is $c->read_response->{protocol_status}, FCGI_UNKNOWN_ROLE, 'refused';
    like $c->read_response(2)->{body}, qr{\AGET /after }, 'what still arrives for it is ignored';

    subtest 'authorizer' => sub {
        my %env = (REQUEST_METHOD => 'GET', REQUEST_URI => '/env', SERVER_PROTOCOL => 'HTTP/1.1', HTTP_HOST => 'localhost');
        my $c = $server->connect;
        $c->send(begin(1, role => FCGI_AUTHORIZER, keep => 1) . params(1, \%env));
        my $answer = eval { $c->read_response(1, 10) };
        ok $answer && $answer->{ended}, 'starts at the end of PARAMS: there is no STDIN stream' or return;
        if ($answer->{protocol_status} == FCGI_UNKNOWN_ROLE) {
            pass 'refused with UNKNOWN_ROLE, which is allowed';
        }
        else {
            is $answer->{status}, 200, 'served';
        }
        $c->send(record(FCGI_STDIN, 1, ''));
        like $c->request(uri => '/after', id => 1)->{body}, qr{/after}, 'an empty STDIN record that comes later is ignored';
        $c = $server->connect;
        $c->send(begin(1, role => FCGI_AUTHORIZER) . params(1, \%env) . record(FCGI_STDIN, 1, ''));
        ok $c->read_response->{ended}, 'one that comes at once too';
    };

    subtest 'filter' => sub {
        my $c = $server->connect;
        my $env = nginx_env(uri => '/body', method => 'POST', body => 'abc',
            env => { FCGI_DATA_LAST_MOD => 1, FCGI_DATA_LENGTH => 4 });
        $c->send(begin(1, role => FCGI_FILTER, keep => 1) . params(1, $env) . stdin(1, 'abc') . stream(FCGI_DATA, 1, 'data'));
        my $answer = $c->read_response;
        ok $answer->{ended}, 'answered';
        if ($answer->{protocol_status} == FCGI_UNKNOWN_ROLE) { pass 'refused with UNKNOWN_ROLE, which is allowed' }
        else { is $answer->{body}, '3 ' . md5_hex('abc') . ' end', 'served with its STDIN' }
        like $c->request(uri => '/after')->{body}, qr{/after}, 'and the connection stays in step';
    };
};

subtest 'a second request while one is active' => sub {
    my $c = $server->connect;
    $c->send(begin(1, keep => 1) . record(FCGI_PARAMS, 1, pairs(nginx_env(uri => '/block/mpx', method => 'POST', body => 'x'))));
    $c->send(begin(2, keep => 1));
    my $record = $c->read_record;
    is $record->{type}, FCGI_END_REQUEST, 'END_REQUEST';
    is $record->{id}, 2, 'for the second';
    is unpack('x4C', $record->{content}), FCGI_CANT_MPX_CONN, 'CANT_MPX_CONN';
    $c->send(params(2, nginx_env(uri => '/x')) . stdin(2, 'ignored') . record(FCGI_PARAMS, 1, '') . stdin(1, 'x'));
    ok $server->wait_mark('mpx'), 'the first one is running';
    $c->send(begin(3) . params(3, nginx_env(uri => '/y')) . stdin(3, ''));
    $server->open_gate('mpx');
    my $answer = $c->read_response(1);
    is $answer->{body}, 'blocked mpx', 'and unaffected';
    my ($third) = @{ $answer->{others} };
    if ($third) { is unpack('x4C', $third->{content}), FCGI_CANT_MPX_CONN, 'the third was refused' }
    else        { ok $c->read_response(3)->{ended}, 'the third, sent while the first ran, is answered' }
};

subtest 'pipelined requests are not lost' => sub {
    my $c = $server->connect;
    $c->send(join '', map { request_bytes(id => $_, uri => "/pipe/$_", keep => 1, method => 'POST', body => "body $_") } 1 .. 30);
    my $right = grep { $c->read_response($_)->{body} =~ m{\APOST /pipe/$_ } } 1 .. 30;
    is $right, 30, 'thirty requests in one write';
    $c->send(join '', map { request_bytes(id => 1, uri => "/same/$_", keep => $_ < 5) } 1 .. 5);
    $right = grep { $c->read_response(1)->{body} =~ m{\AGET /same/$_ } } 1 .. 5;
    is $right, 5, 'with the same id each';
    ok $c->closes, 'closed after the last';
};

subtest 'records for inactive ids are ignored' => sub {
    my $c = $server->connect;
    $c->send(join '', map { record($_, 9, 'for nobody', padding => 3) } FCGI_ABORT_REQUEST, FCGI_PARAMS, FCGI_STDIN, FCGI_DATA, 50, 255);
    $c->send(begin(1) . record(FCGI_STDIN, 2, 'other') . params(1, nginx_env(uri => '/body', method => 'POST', body => 'mine'))
        . record(FCGI_PARAMS, 2, 'other') . record(FCGI_STDIN, 3, '') . record(FCGI_ABORT_REQUEST, 4, '') . record(60, 5, 'x')
        . record(FCGI_STDIN, 1, 'mi') . record(FCGI_STDIN, 2, 'not mine') . record(FCGI_STDIN, 1, 'ne') . record(FCGI_STDIN, 1, ''));
    is $c->read_response->{body}, '4 ' . md5_hex('mine') . ' end', 'before and within a request';
};

subtest 'ABORT_REQUEST' => sub {
    my $abort = record(FCGI_ABORT_REQUEST, 1, '');
    my $c = $server->connect;
    $c->send(begin(1, keep => 1) . $abort);
    my $answer = $c->read_response;
    is $answer->{protocol_status}, FCGI_REQUEST_COMPLETE, 'after BEGIN_REQUEST: END_REQUEST at once';
    is $answer->{stdout}, '', 'no output';
    like $c->request(uri => '/after', keep => 1)->{body}, qr{/after}, 'the connection serves the next request';

    $c->send(begin(1, keep => 1) . record(FCGI_PARAMS, 1, pairs(nginx_env(uri => '/body'))) . $abort);
    ok $c->read_response->{ended}, 'between PARAMS: END_REQUEST';
    like $c->request(uri => '/after', keep => 1)->{body}, qr{/after}, 'the next request';

    $c->send(begin(1, keep => 1) . params(1, nginx_env(uri => '/body', method => 'POST', env => { CONTENT_LENGTH => 1000 }))
        . record(FCGI_STDIN, 1, 'some') . $abort);
    $answer = $c->read_response;
    ok $answer->{ended}, 'in the body, before the application started: END_REQUEST';
    like $c->request(uri => '/after', keep => 1)->{body}, qr{/after}, 'the next request';

    my $large = 'l' x 60_000;
    $server->remove_mark('body');
    $c->send(begin(1, keep => 1) . params(1, nginx_env(uri => '/body', method => 'POST', env => { CONTENT_LENGTH => 300_000 }))
        . record(FCGI_STDIN, 1, $large) . record(FCGI_STDIN, 1, $large) . $abort);
    $answer = $c->read_response;
    ok $answer->{ended}, 'while the application reads the body: END_REQUEST';
    is scalar(grep { $_->{type} == FCGI_END_REQUEST } @{ $answer->{records} }), 1, 'exactly one';
    like $server->wait_mark('body'), qr/\A120000 error \d/, 'the application sees an error, not the end of the body';
    like $c->request(uri => '/after', keep => 1)->{body}, qr{/after}, 'the next request';

    $c->send(request_bytes(uri => '/write/aborted', keep => 1));
    like $c->read_stdout_until(qr/first/), qr/first/, 'while the application writes';
    $server->wait_mark('aborted');
    $c->send($abort);
    $server->open_gate('aborted');
    $answer = $c->read_response;
    ok $answer->{ended}, 'END_REQUEST comes with its next write';
    is scalar(() = $answer->{stdout} =~ /second 100$/mg), 0, 'its output is discarded';
    ok $server->wait_mark('written-aborted'), 'the application lives on';
    like $c->request(uri => '/after', keep => 1)->{body}, qr{/after}, 'the connection serves the next request';
    $c->send($abort);
    like $c->request(uri => '/after')->{body}, qr{/after}, 'an abort for an inactive id is ignored';
    is scalar(grep { kill 0, $_ } $server->worker_pids), 2, 'no worker was lost';
};

subtest 'closing is an abort' => sub {
    my @pids = $server->worker_pids;
    for (1 .. 10) {
        my $c = $server->connect;
        $c->send(begin(1) . record(FCGI_PARAMS, 1, 'x'));
        $c->close;
        $c = $server->connect;
        $c->send(request_bytes(uri => '/big/500000'));
        $c->close;
    }
    like $server->get('/x')->{body}, qr{/x}, 'served' for 1 .. 4;
    is_deeply [ $server->worker_pids ], \@pids, 'by the same workers';
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/write/closed'));
    $server->wait_mark('closed');
    $c->close;
    $server->open_gate('closed');
    ok $server->wait_mark('written-closed'), 'an application that writes to a client that has gone comes to its end';
    is_deeply [ $server->worker_pids ], \@pids, 'the worker lives';
};

subtest 'a client that has gone before its turn' => sub {
    my $one = BladePSGI::Test->start(app_file => "$FindBin::Bin/../apps/echo.psgi", workers => 1);
    my $busy = $one->connect;
    $busy->send(request_bytes(uri => '/block/shed'));
    ok $one->wait_mark('shed'), 'the only worker is busy';
    my @impatient = map { my $c = $one->connect; $c->send(request_bytes(uri => '/count')); $c } 1 .. 20;
    my $patient = $one->connect;
    $patient->send(request_bytes(uri => '/count'));
    my $half_closed = $one->connect;
    $half_closed->send(request_bytes(uri => '/count'))->shutdown_write;
    $_->close for @impatient;
    $one->open_gate('shed');
    is $busy->read_response->{body}, 'blocked shed', 'the first is answered';
    is $patient->read_response->{body}, 2, 'then the one that waits: the application was not called for those who had gone';
    is $half_closed->read_response->{body}, 3, 'a half-close is no leaving';
    is $one->stop, 'exit 0', 'stops';
};

subtest 'half-close after the last STDIN record' => sub {
    for my $keep (0, 1) {
        my $c = $server->connect;
        $c->send(request_bytes(uri => '/body', method => 'POST', body => 'whole', keep => $keep));
        $c->shutdown_write;
        my $answer = $c->read_response;
        is $answer->{body}, '5 ' . md5_hex('whole') . ' end', "keep $keep: answered fully";
        ok $answer->{ended}, "keep $keep: with END_REQUEST";
        ok $c->closes, "keep $keep: then closed";
    }
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/block/half'));
    $c->shutdown_write;
    ok $server->wait_mark('half'), 'it is no reason not to call the application';
    $server->open_gate('half');
    is $c->read_response->{body}, 'blocked half', 'nor not to answer';
    $c = $server->connect;
    $c->send(request_bytes(uri => '/big/3000000'));
    $c->shutdown_write;
    is length $c->read_response->{body}, 3_000_000, 'a large answer comes whole';
};

subtest 'bodies' => sub {
    my $send = sub {
        my ($length, $body, %o) = @_;
        my $c = $server->connect;
        $c->send(begin(1, keep => 1) . params(1, nginx_env(uri => '/body', method => 'POST', env => { CONTENT_LENGTH => $length }))
            . stdin(1, $body, %o));
        my $text = $c->read_response->{body};
        is $c->request(uri => '/unread')->{body}, 'unread', 'the connection is in step';
        return $text;
    };
    is $send->(undef, 'no length'), '9 ' . md5_hex('no length') . ' end', 'without CONTENT_LENGTH the whole stream is the body';
    is $send->('', 'empty length'), '12 ' . md5_hex('empty length') . ' end', 'an empty CONTENT_LENGTH is none';
    my $large = join '', map { chr($_ % 251) } 1 .. 200_000;
    is $send->(undef, $large, chunk => 1000), '200000 ' . md5_hex($large) . ' end', 'also a large one';
    is $send->(4, 'more than four'), '4 ' . md5_hex('more') . ' end', 'at most CONTENT_LENGTH bytes, the rest is swallowed';
    is $send->(100_000, $large), '100000 ' . md5_hex(substr $large, 0, 100_000) . ' end', 'also of a large one';
    is $send->(0, ''), '0 ' . md5_hex('') . ' end', 'CONTENT_LENGTH 0';
    is $send->(0, 'but some'), '0 ' . md5_hex('') . ' end', 'CONTENT_LENGTH 0 and a body';
    my $c = $server->connect;
    $c->send(begin(1) . record(FCGI_PARAMS, 1, '') . stdin(1, ''));
    my $answer = $c->read_response;
    ok $answer->{ended}, 'no parameters at all: answered';
    is $answer->{status}, 400, 'with 400, as there is no method';
};

is $server->stop, 'exit 0', 'stops';
done_testing;
