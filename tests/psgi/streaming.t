# PSGI delayed and streaming responses: each write reaches the client at once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Test::More;

my $server = BladePSGI::Test->start(workers => 1, app => BladePSGI::Test->gate_code . <<'PERL');
use strict;
our $gone = 'unknown';
sub {
    my ($env) = @_;
    my ($name, $n) = $env->{PATH_INFO} =~ m{\A/(\w+)(?:/(\d+))?};
    if ($name eq 'steps') {
        return sub {
            my $writer = $_[0]->([200, ['Content-Type' => 'text/plain']]);
            for my $step (1 .. 4) {
                $writer->write("step $step\n");
                gate("step-$n-$step");
            }
            $writer->close;
        };
    }
    if ($name eq 'late') {    # headers only, then a wait
        return sub {
            my $writer = $_[0]->([200, ['X-Early' => 'yes']]);
            gate('late');
            $writer->write('body');
            $writer->close;
        };
    }
    if ($name eq 'pieces') {
        return sub {
            my $writer = $_[0]->([200, []]);
            $writer->write('') for 1 .. 3;
            $writer->write($_ % 3 ? "$_," : '') for 1 .. $n;
            $writer->close;
        };
    }
    if ($name eq 'unclosed') {
        return sub { my $writer = $_[0]->([200, []]); $writer->write('not closed by the application'); };
    }
    if ($name eq 'kept_writer') {
        return sub { our $kept = $_[0]->([200, []]); $kept->write('kept'); $kept->close; };
    }
    if ($name eq 'write_later') {
        our $kept;
        my $ok = eval { $kept->write('into the wrong response'); 1 };
        return [200, [], ['right response']];
    }
    if ($name eq 'after_close') {
        return sub {
            my $writer = $_[0]->([200, []]);
            $writer->write('before');
            $writer->close;
            eval { $writer->write('after') };
            eval { $writer->close };
        };
    }
    if ($name eq 'large') {
        return sub {
            my $writer = $_[0]->([200, []]);
            $writer->write('x' x 100_000) for 1 .. $n;
            $writer->close;
        };
    }
    if ($name eq 'client_goes') {
        return sub {
            my $writer = $_[0]->([200, []]);
            $writer->write('first');
            gate('client-gone');
            my $ok = eval { $writer->write('x' x 100_000) for 1 .. 1000; 1 };
            $gone = $ok ? 'write went on' : "died: $@";
            mark('client-gone', $gone);
        };
    }
    if ($name eq 'env_lives') {
        my $id = $env->{HTTP_X_ID};
        return sub {
            my $writer = $_[0]->([200, []]);
            $writer->write("$env->{HTTP_X_ID} $id");
            $writer->close;
        };
    }
    return [200, [], ["$$"]];
};
PERL

my ($worker) = $server->worker_pids;

subtest 'each write reaches the client before the next one' => sub {
    for my $keep (0, 1) {
        my $c = $server->connect;
        $c->send(request_bytes(uri => "/steps/$keep", keep => $keep));
        for my $step (1 .. 4) {
            my $text = $c->read_stdout_until(qr/step $step\n/, 10);
            like $text, qr/step $step\n\z/, "keep $keep: step $step is here, and the application still waits";
            ok !$c->is_readable(0.1), 'nothing more comes' if $step == 2;
            $server->open_gate("step-$keep-$step");
        }
        ok $c->read_response->{ended}, "keep $keep: ended";
    }
};

subtest 'the headers alone' => sub {
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/late'));
    my $early = $c->is_readable(1);
    $server->open_gate('late');
    my $answer = $c->read_response;
    is $answer->{header}{'x-early'}, 'yes', 'headers arrive';
    is $answer->{body}, 'body', 'and the body after them';
};

subtest 'pieces' => sub {
    my $answer = $server->get('/pieces/1000');
    is $answer->{body}, join('', map { $_ % 3 ? "$_," : '' } 1 .. 1000), 'a thousand writes, empty ones among them';
    cmp_ok $answer->{stdout_ends}, '<=', 1, 'an empty write does not end the response';
    is length $server->get('/large/100')->{body}, 10_000_000, 'large writes';
    my $head = $server->request(method => 'HEAD', uri => '/pieces/10');
    is $head->{body}, '', 'HEAD: writes succeed and send nothing';
    ok $head->{ended}, 'HEAD: ended';
};

subtest 'the end of a stream' => sub {
    my $answer = $server->get('/unclosed');
    is $answer->{body}, 'not closed by the application', 'a writer that goes out of scope has written';
    ok $answer->{ended}, 'and ends the response';
    $answer = $server->get('/after_close');
    is $answer->{body}, 'before', 'nothing is written after close';
    ok $answer->{ended}, 'ended once';
    is $server->get('/kept_writer')->{body}, 'kept', 'a writer that is kept';
    is $server->get('/write_later')->{body}, 'right response', 'does not reach into a later response';
};

is $server->get('/env_lives', env => { HTTP_X_ID => 'one' })->{body}, 'one one', 'the environment lives as long as the response';
is $server->get('/env_lives', env => { HTTP_X_ID => 'two' })->{body}, 'two two', 'and the next one has its own';

subtest 'a client that goes' => sub {
    my $c = $server->connect;
    $c->send(request_bytes(uri => '/client_goes'));
    like $c->read_stdout_until(qr/first/), qr/first/, 'it has read the beginning';
    $c->close;
    $server->open_gate('client-gone');
    like $server->wait_mark('client-gone'), qr/died: |write went on/, 'the application comes to its end';
    is $server->get('/')->{body}, $worker, 'the worker lives on';
};

is $server->stop, 'exit 0', 'stops';
done_testing;
