# FastCGI 1.0: management records, at any time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Test::More;

my $server = BladePSGI::Test->start(app_file => "$FindBin::Bin/../apps/echo.psgi", workers => 2);

my @known = qw(FCGI_MAX_CONNS FCGI_MAX_REQS FCGI_MPXS_CONNS);

sub get_values { return record(FCGI_GET_VALUES, 0, pairs([ map { $_ => '' } @_ ])) }

sub values_of {
    my ($record) = @_;
    return undef unless $record && $record->{type} == FCGI_GET_VALUES_RESULT && $record->{id} == 0;
    return { unpairs($record->{content}) };
}

subtest 'GET_VALUES' => sub {
    my $c = $server->connect;
    $c->send(get_values(@known));
    my $values = values_of($c->read_record);
    is_deeply [ sort keys %$values ], \@known, 'all three names are answered';
    like $values->{FCGI_MAX_CONNS}, qr/\A[1-9]\d*\z/, 'FCGI_MAX_CONNS is a number';
    like $values->{FCGI_MAX_REQS},  qr/\A[1-9]\d*\z/, 'FCGI_MAX_REQS is a number';
    is $values->{FCGI_MPXS_CONNS}, '0', 'no multiplexing';

    $c->send(get_values('FCGI_MPXS_CONNS'));
    is_deeply values_of($c->read_record), { FCGI_MPXS_CONNS => '0' }, 'one name: one answer, on the same connection';
    $c->send(get_values(qw(UNKNOWN FCGI_MPXS_CONNS OTHER)));
    is_deeply values_of($c->read_record), { FCGI_MPXS_CONNS => '0' }, 'unknown names are left out';
    $c->send(get_values(qw(UNKNOWN OTHER)));
    is_deeply values_of($c->read_record), {}, 'all unknown: an empty result is still sent';
    $c->send(record(FCGI_GET_VALUES, 0, ''));
    is_deeply values_of($c->read_record), {}, 'none asked: an empty result';
    $c->send(get_values(('FCGI_MAX_CONNS', 'FCGI_MAX_REQS') x 1000));
    my $record = $c->read_record;
    is scalar(unpairs($record->{content})), 4, 'names repeated a thousand times are answered once';
    $c->send(record(FCGI_GET_VALUES, 0, pairs([ FCGI_MPXS_CONNS => 'a value' ], '44')));
    is_deeply values_of($c->read_record), { FCGI_MPXS_CONNS => '0' }, 'long lengths and values that should be empty';
    $c->send(record(FCGI_GET_VALUES, 0, get_values('x'), padding => 9));
    ok $c->is_readable(10), 'nonsense as content is answered or the connection is closed';
    my $d = $server->connect;
    like $d->request(uri => '/x')->{body}, qr{\AGET /x}, 'and others are served';
};

subtest 'unknown management types' => sub {
    my $c = $server->connect;
    for my $type (12, 13, 100, 255) {
        $c->send(record($type, 0, 'content that has to be skipped' x 20, padding => 7));
        my $record = $c->read_record;
        is $record->{type}, FCGI_UNKNOWN_TYPE, "type $type: UNKNOWN_TYPE";
        is $record->{id}, 0, "type $type: id 0";
        is $record->{content}, pack('Cx7', $type), "type $type: the type and seven zeros";
    }
    is $c->request(uri => '/count', keep => 1)->{status}, 200, 'and the connection carries on';
    is $c->request(uri => '/count', keep => 1)->{status}, 200, 'for more than one request';
};

subtest 'at any time' => sub {
    my $c = $server->connect;
    my $env = nginx_env(uri => '/body', method => 'POST', env => { CONTENT_LENGTH => 6 });
    my $ask = get_values('FCGI_MPXS_CONNS');
    $c->send($ask . begin(1, keep => 1) . $ask . record(FCGI_PARAMS, 1, substr pairs($env), 0, 10));
    is_deeply values_of($c->read_record), { FCGI_MPXS_CONNS => '0' }, 'before a request';
    is_deeply values_of($c->read_record), { FCGI_MPXS_CONNS => '0' }, 'after BEGIN_REQUEST';
    $c->send($ask . record(77, 0, 'x'));
    is_deeply values_of($c->read_record), { FCGI_MPXS_CONNS => '0' }, 'between PARAMS records';
    is $c->read_record->{type}, FCGI_UNKNOWN_TYPE, 'an unknown one as well';
    $c->send(record(FCGI_PARAMS, 1, substr pairs($env), 10) . record(FCGI_PARAMS, 1, '')
        . record(FCGI_STDIN, 1, 'abc') . $ask . record(FCGI_STDIN, 1, 'def') . $ask . record(FCGI_STDIN, 1, ''));
    my $answer = $c->read_response;
    like $answer->{body}, qr/\A6 \w+ end\z/, 'between STDIN records: the body is whole';
    is scalar(@{ $answer->{others} }), 2, 'and both are answered';

    my $streamed = 'y' x 100_000;
    $c->send(begin(1, keep => 1) . params(1, { %$env, CONTENT_LENGTH => length $streamed })
        . record(FCGI_STDIN, 1, substr $streamed, 0, 60_000) . $ask . record(FCGI_STDIN, 1, substr($streamed, 60_000))
        . record(FCGI_STDIN, 1, ''));
    $answer = $c->read_response;
    like $answer->{body}, qr/\A100000 \w+ end\z/, 'within a body that is streamed to the application';
    is scalar(@{ $answer->{others} }), 1, 'answered';

    $c->send(request_bytes(uri => '/block/running', keep => 1));
    ok $server->wait_mark('running'), 'while the application runs';
    $c->send($ask);
    $server->open_gate('running');
    $answer = $c->read_response;
    is $answer->{body}, 'blocked running', 'the response comes';
    my $values = @{ $answer->{others} } ? $answer->{others}[0] : $c->read_record;
    is_deeply values_of($values), { FCGI_MPXS_CONNS => '0' }, 'and the values, if late';
};

subtest 'wrong ids' => sub {
    my $c = $server->connect;
    $c->send(begin(0) . params(0, nginx_env(uri => '/x')) . stdin(0, ''));
    my $record = eval { $c->read_record(2) };
    ok !$record || $record->{type} != FCGI_STDOUT, 'a request with id 0 is not served';
    $c = $server->connect;
    $c->send(record(FCGI_GET_VALUES, 5, pairs([ FCGI_MPXS_CONNS => '' ])) . request_bytes(uri => '/x'));
    my $answer = eval { $c->read_response };
    ok !grep({ $_->{type} == FCGI_GET_VALUES_RESULT } @{ $answer->{records} }), 'GET_VALUES with an id is not answered';
    like $server->get('/x')->{body}, qr{\AGET /x}, 'and others are served';
};

is $server->stop, 'exit 0', 'stops';
done_testing;
