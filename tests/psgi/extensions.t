# psgix.harakiri, psgix.cleanup, psgix.logger, psgix.input.buffered, psgix.request_id: meaning and order.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Test::More;

my $app = BladePSGI::Test->gate_code . <<'PERL';
use strict;
our @order;
our $served = 0;
package Guard { sub new { my ($c, $t) = @_; bless \$t, $c } sub DESTROY { push @main::order, "destroyed ${$_[0]}" } }
package main;
sub {
    my ($env) = @_;
    $served++;
    my ($name, $argument) = $env->{PATH_INFO} =~ m{\A/(\w*)/?(.*)};
    my $handlers = $env->{'psgix.cleanup.handlers'};
    if ($name eq 'about') {
        return [200, [], [join ',', $env->{'psgix.cleanup'} ? 1 : 0, ref $handlers, scalar @$handlers,
            $env->{'psgix.harakiri'} ? 1 : 0, exists $env->{'psgix.harakiri.commit'} ? 'preset' : 'unset',
            ref $env->{'psgix.logger'}, exists $env->{'psgix.io'} ? 'io' : 'no io']];
    }
    if ($name eq 'cleanup') {
        push @$handlers, sub { my ($e) = @_; mark('cleanup', join ',', ref $e, $e->{PATH_INFO}, scalar @_); gate('cleanup'); mark('cleaned') };
        return [200, [], ['response']];
    }
    if ($name eq 'order') {
        @order = ();
        $env->{guard} = Guard->new('env');
        push @$handlers, sub { push @order, 'first' },
            sub { push @order, 'second'; push @{ $_[0]{'psgix.cleanup.handlers'} }, sub { push @order, 'pushed during cleanup' } },
            sub { push @order, 'dies'; die "in cleanup\n" }, sub { push @order, 'after the one that died' };
        return sub { my $w = $_[0]->([200, []]); $w->write('x'); push @order, 'written'; $w->close };
    }
    return [200, [], [join ',', @order]] if $name eq 'order_was';
    if ($name eq 'harakiri') {
        $env->{'psgix.harakiri.commit'} = 1;
        push @$handlers, sub { mark('harakiri-cleanup') } if $argument eq 'cleanup';
        return [200, [], [$$]];
    }
    if ($name eq 'harakiri_in_cleanup') {
        push @$handlers, sub { $_[0]{'psgix.harakiri.commit'} = 1 };
        return [200, [], [$$]];
    }
    if ($name eq 'exit_in_cleanup') {
        push @$handlers, sub { exit 0 };
        return [200, [], [$$]];
    }
    if ($name eq 'no_harakiri') { $env->{'psgix.harakiri.commit'} = 0; return [200, [], [$$]] }
    if ($name eq 'replaced') {
        $env->{'psgix.cleanup.handlers'} = [ sub { push @order, 'replaced' } ];
        @order = ();
        return [200, [], ['x']];
    }
    if ($name eq 'log') {
        $env->{'psgix.logger'}->({ level => $argument, message => "a message of level $argument" });
        return [200, [], ['logged']];
    }
    if ($name eq 'log_lines') {
        $env->{'psgix.logger'}->({ level => 'info', message => "first line\nsecond line\n2026-01-01 00:00:00.000 PANIC:  forged" });
        return [200, [], ['logged']];
    }
    if ($name eq 'log_wrong') {
        my $ok = eval { $env->{'psgix.logger'}->({ level => 'info' }); $env->{'psgix.logger'}->({}); $env->{'psgix.logger'}->('x'); 1 };
        return [200, [], [$ok ? 'lives' : "died $@"]];
    }
    if ($name eq 'id') {
        warn "warned with an id\n";
        $env->{'psgix.logger'}->({ level => 'info', message => 'logged with an id' });
        return [200, [], [$env->{'psgix.request_id'}]];
    }
    die "died with an id\n" if $name eq 'die';
    return [200, [], ["$$ $served"]];
};
PERL

my $server = BladePSGI::Test->start(workers => 1, app => $app);
my $worker = sub { ($server->worker_pids)[0] };

is $server->get('/about')->{body}, '1,ARRAY,0,1,unset,CODE,no io', 'what is there, and what is not';

subtest 'psgix.cleanup' => sub {
    for my $keep (0, 1) {
        my $c = $server->connect;
        my $answer = $c->request(uri => '/cleanup/path', keep => $keep);
        is $answer->{body}, 'response', 'the response is complete';
        ok $answer->{ended}, 'before the handlers run';
        ok $c->closes, 'the connection does not wait for them' unless $keep;
        is $server->wait_mark('cleanup'), 'HASH,/cleanup/path,1', 'a handler gets the environment';
        ok !-e $server->folder . '/mark-cleaned', 'and runs still';
        $server->open_gate('cleanup');
        ok $server->wait_mark('cleaned'), 'to its end';
        # A kept connection may have been handed back before the handlers ran; then it is closed, without a byte.
        my $next = $keep ? eval { $c->request(uri => '/next') } : undef;
        $next = $server->get('/next') unless $next && length $next->{stdout};
        like $next->{body}, qr/\A\d+ /, 'the next request is served';
        unlink map { $server->folder . "/$_" } qw(mark-cleanup mark-cleaned gate-cleanup);
    }
    $server->get('/order');
    is $server->get('/order_was')->{body},
        'written,first,second,dies,after the one that died,pushed during cleanup,destroyed env',
        'order: response, handlers (also those pushed meanwhile, also after one that died), then the environment goes';
    log_like $server, qr/ (?:ERROR|WARNING): .*in cleanup/, 'what a handler died of is logged';
    $server->get('/replaced');
    is $server->get('/order_was')->{body}, 'replaced', 'the array may be replaced';
    is $server->get('/about')->{body}, '1,ARRAY,0,1,unset,CODE,no io', 'a fresh array for each request';
};

subtest 'psgix.harakiri' => sub {
    for my $path (qw(/harakiri /harakiri/cleanup /harakiri_in_cleanup /exit_in_cleanup)) {
        for my $keep (0, 1) {
            my $pid = $worker->();
            my $c = $server->connect;
            my $answer = $c->request(uri => $path, keep => $keep);
            is $answer->{body}, $pid, "$path, keep $keep: the response is sent";
            ok $answer->{ended}, "$path, keep $keep: completely";
            ok wait_for { !kill 0, $pid }, "$path, keep $keep: then the worker ends";
            if ($keep) { isnt $c->request(uri => '/pid')->{body}, $pid, "$path, keep $keep: its connection goes on with another one" }
            else       { ok $c->closes, "$path, keep $keep: with its connection" }
            ok wait_for { $worker->() && $worker->() != $pid }, "$path, keep $keep: and is replaced";
        }
    }
    ok -e $server->folder . '/mark-harakiri-cleanup', 'cleanup handlers run before';
    unlike $server->log, qr/(?:crash|signal 9)/, 'that is no crash';
    my $pid = $worker->();
    is $server->get('/no_harakiri')->{body}, $pid, 'commit set to a false value';
    is $server->get('/no_harakiri')->{body}, $pid, 'ends nothing';
    my @ends = map { $server->connect } 1 .. 10;
    $_->send(request_bytes(uri => '/harakiri')) for @ends;
    my %pids = map { $_->read_response->{body} => 1 } @ends;
    is scalar(keys %pids), 10, 'ten in a row: ten workers, and no request is lost';
};

subtest 'psgix.logger' => sub {
    my %severity = (debug => 'LOG', info => 'LOG', warn => 'WARNING', error => 'ERROR', fatal => '(?:FATAL|ERROR)');
    for my $level (sort keys %severity) {
        is $server->get("/log/$level")->{body}, 'logged', $level;
        log_like $server, qr/ $severity{$level}:  worker\[\d+\]: .*a message of level $level$/m, "$level: in the log";
    }
    $server->get('/log_lines');
    log_like $server, qr/: first line/, 'a message of several lines';
    unlike $server->log, qr/^2026-01-01 00:00:00\.000 PANIC/m, 'cannot forge a line of the log';
    ok $server->get('/log_wrong')->{status}, 'wrong arguments do not end the worker';
};

subtest 'request id' => sub {
    my $id = $server->get('/id')->{body};
    like $id, qr/\A[\x21-\x7e]{8,128}\z/, 'made when the web server sends none';
    isnt $server->get('/id')->{body}, $id, 'another one for each request';
    is $server->get('/id', env => { HTTP_X_REQUEST_ID => 'from-nginx-0815' })->{body}, 'from-nginx-0815', 'that of the front end';
    log_like $server, qr/^.*from-nginx-0815.*logged with an id$/m, 'in lines of psgix.logger';
    $server->get('/die', env => { HTTP_X_REQUEST_ID => 'dying-4711' });
    log_like $server, qr/^.* ERROR: .*dying-4711.*$/m, 'in lines about the request';
    for my $bad ("two\nlines", "esc\e[31m", 'x' x 200, "nul\0", '', "caf\xe9") {
        my $got = $server->get('/id', env => { HTTP_X_REQUEST_ID => $bad })->{body};
        like $got, qr/\A[\x20-\x7e]{1,128}\z/, 'printable ASCII of at most 128 bytes, whatever was sent';
    }
};

is $server->stop, 'exit 0', 'stops';
done_testing;
