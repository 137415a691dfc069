# --request-timeout: thrown into the application, then the end of the worker; never anything for anybody else.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use POSIX ();
use Test::More;

my $app = BladePSGI::Test->gate_code . <<'PERL';
use Fcntl ':flock';
use POSIX ();
use Time::HiRes ();
our @log;
our $open_transactions = 0;
sub note { push @log, @_ }
sub transaction {
    my ($code) = @_;
    $open_transactions++;
    my $result = eval { $code->() };
    my $error = $@;
    $open_transactions--;
    return defined $result ? $result : "rolled back: " . ref($error);
}
pipe our $silent, our $never;
open our $first, '>', 'lock' or die; open our $second, '>', 'lock' or die;
flock $first, LOCK_EX;
package Sticky { sub new { bless {} } sub DESTROY { sleep 60; main::note('survived in a destructor') } }
package main;
sub text { [200, ['Content-Type' => 'text/plain'], [join "\n", @_]] }
my %do = (
    pid => sub { text($$) },
    caught => sub { text(transaction(sub { My::Database::query() }), "open: $open_transactions") },
    object => sub { eval { sleep 60 }; my $e = $@;
        text(ref $e, "$e", map { defined $e->$_ ? $e->$_ : 'undef' } qw(limit elapsed method uri file line)) },
    uncaught => sub { sleep 60; text('no') },
    rewrapped => sub { eval { sleep 60; 1 } or die "the database said: $@" },
    swallowed => sub { for my $i (1 .. 2) { eval { sleep 60; 1 } or note($i) } text(splice @log) },
    destructor => sub { { my $sticky = Sticky->new } my $done = eval { sleep 60; 1 }; text(splice(@log), $done ? 'no' : ref $@) },
    sleep => sub { sleep 60 for 1 .. 3; text('no') },
    regex => sub { ("a" x 60) =~ m{^(a+)*\1(?<!a)$}; text("no") },
    select => sub { select undef, undef, undef, 60; text('no') },
    read => sub { sysread $silent, my $byte, 1; text('no') },
    readline => sub { my $line = <$silent>; text('no') },
    flock => sub { flock $second, LOCK_EX; text('no') },
    system => sub { system "sleep", 2; text('no') },
    busy => sub { my $n = 0; $n++ while 1; text('no') },
    stubborn => sub { mark('stubborn'); while (1) { eval { sleep 60 } } },
    library => sub { mark('library'); my $hash = crypt $_[0]{PATH_INFO}, q{$6$rounds=999999999$abcdefgh}; text('no') },
    deaf => sub { POSIX::sigprocmask(POSIX::SIG_BLOCK(), do { my $all = POSIX::SigSet->new; $all->fillset; $all }); mark('deaf'); sleep 60 while 1 },
    alarm => sub { my $rang = 0; local $SIG{ALRM} = sub { $rang++; die "rang\n" };
        my $start = Time::HiRes::time(); eval { Time::HiRes::ualarm(20_000); sleep 60 }; text($@, $rang) },
    own_alarm_first => sub { local $SIG{ALRM} = sub { die "rang\n" }; eval { alarm 60; sleep 60 }; my $left = alarm 0; text(ref $@, $left > 30 ? 'still set' : $left) },
    die_handler => sub { local $SIG{__DIE__} = sub { note('handler: ' . ref $_[0]) }; eval { sleep 60 }; text(splice(@log), ref $@) },
    signals => sub { my $usr1 = 0; local $SIG{USR1} = sub { $usr1++ }; kill USR1 => $$; eval { sleep 60 }; text(ref $@, $usr1) },
    begun => sub { my $w = $_[0] ; sub { my $writer = $_[0]->([200, ['Content-Type' => 'text/plain']]); $writer->write("begun\n"); sleep 60; $writer->close } },
    begun_stubborn => sub { sub { my $writer = $_[0]->([200, ['Content-Type' => 'text/plain']]); $writer->write("begun\n"); mark('begun'); while (1) { eval { sleep 60 } } } },
    streaming => sub { sub { my $writer = $_[0]->([200, ['Content-Type' => 'text/plain']]); my $end = Time::HiRes::time() + 60;
        eval { while (Time::HiRes::time() < $end) { $writer->write('x' x 100); select undef, undef, undef, 0.01 } }; $writer->write("\n" . ref $@); $writer->close } },
    writes => sub { sub { my $writer = $_[0]->([200, ['Content-Type' => 'text/plain']]);
        while (1) { eval { $writer->write('x'); select undef, undef, undef, 0.02; 1 } or do { open my $f, '>>', 'interrupted'; print $f "again\n" } } } },
    upload => sub { my $in = $_[0]{'psgi.input'}; my $n = 0; while (my $got = read $in, my $piece, 65536) { $n += $got; mark('reading') } text($n) },
    cleanup => sub { push @{ $_[0]{'psgix.cleanup.handlers'} }, sub { select undef, undef, undef, 0.02 for 1 .. 75; note('cleaned up') }; text('fine') },
    kid => sub { my $pid = fork; if (!$pid) { eval { select undef, undef, undef, 0.02 for 1 .. 75; 1 } ? POSIX::_exit(7) : POSIX::_exit(8) }
        my $done; until ($done) { $done = eval { waitpid $pid, 0; 1 } } text($? >> 8) },
    log => sub { text(splice @log) },
);
package My::Database { sub query { sleep 60; 'no' } }
package main;
sub { my ($env) = @_; my ($what) = $env->{PATH_INFO} =~ m{\A/(\w+)}; $do{$what}->($env) };
PERL

# Limits that leave time for what is swallowed.
sub server {
    my (%o) = @_;
    return BladePSGI::Test->start(
        app     => $app,
        workers => $o{workers} // 1,
        options => [ '--request-timeout=' . ($o{limit} // '200ms'), '--request-timeout-grace=' . ($o{grace} // '30s'), '--http=127.0.0.1:0',
            '--access-log=off', @{ $o{options} || [] } ],
    );
}

sub lines { return split /\n/, $_[0]{body} // '' }

subtest 'what the application catches' => sub {
    my $server = server(limit => '700ms');
    my ($worker) = $server->worker_pids;
    is $server->get('/pid')->{body}, $worker, 'a request in time is answered';
    is $server->get('/caught')->{body}, "rolled back: BPSGI::Timeout\nopen: 0", 'a transaction is rolled back';
    my ($class, $text, $limit, $elapsed, $method, $uri, $file, $line) = do { my @l = lines($server->get('/object?x')); splice @l, 2, 1 if $l[2] eq ''; @l };
    is $class, 'BPSGI::Timeout', 'it is an object';
    like $text, qr/\Athe request has run for \d+\.\d s, longer than its time limit of 0\.7 s at \S+app\.psgi line \d+\.\z/, 'with a text';
    is $limit, 0.7, 'limit';
    cmp_ok $elapsed, '>=', 0.7, 'elapsed';
    is "$method $uri", 'GET /object?x', 'method and uri';
    like $file, qr/app\.psgi\z/, 'file';
    like $line, qr/\A\d+\z/, 'line';
    is $server->get('/die_handler')->{body}, "handler: BPSGI::Timeout\nBPSGI::Timeout", '$SIG{__DIE__} sees it';
    is $server->get('/alarm')->{body}, "rang\n\n1", 'an alarm of its own rings';
    is $server->get('/own_alarm_first')->{body}, "BPSGI::Timeout\nstill set", 'and one that is set stays set';
    is $server->get('/signals')->{body}, "BPSGI::Timeout\n1", 'so do other signals';
    is $server->get('/pid')->{body}, $worker, 'it is the same worker all the time';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'what it does not catch is answered 504' => sub {
    my $server = server();
    my ($worker) = $server->worker_pids;
    for my $what (qw(uncaught sleep select read readline flock system busy regex rewrapped)) {
        my $answer = $server->get("/$what?a=b");
        is $answer->{status}, 504, "$what: status";
        like $answer->{body}, qr/504 Gateway Timeout/, "$what: page";
        is $server->http_get("/$what")->{status}, 504, "$what: over HTTP, too" if $what eq 'uncaught';
    }
    log_like $server, qr/WARNING: .*GET \/uncaught\?a=b \[[^]]+\]: has run for \d+\.\d s, longer than --request-timeout; the application is interrupted, in worker 0\./, 'the log names request, age and worker';
    like $server->log, qr/^.*WARNING: .* main::__ANON__ at \S+app\.psgi line \d+, in sleep$/m, 'and where it was';
    for my $op (qw(sselect sysread readline flock system)) {
        like $server->log, qr/ line \d+, in $op$/m, "in $op, too";
    }
    like $server->log, qr/ERROR: .*GET \/uncaught\?a=b \[[^]]+\]: the application died: the request has run for /, 'it is the exception that is logged';
    is $server->get('/pid')->{body}, $worker, 'the worker lives on';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'what it swallows comes again' => sub {
    my $server = server();
    is $server->get('/swallowed')->{body}, "1\n2", 'in an eval';
    my @said = lines($server->get('/destructor'));
    is $said[-1], 'BPSGI::Timeout', 'in a destructor';
    is $server->get('/pid')->{status}, 200, 'and not in the next request';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'however much it writes meanwhile' => sub {
    my $server = server(limit => '300ms', grace => '3s');
    my ($worker) = $server->worker_pids;
    my $c = $server->connect(timeout => 60);
    $c->send(request_bytes(uri => '/writes'));
    eval { $c->read_response };
    log_like $server, qr/ERROR: .*GET \/writes \[[^]]+\]: still runs after .*, and worker 0 ends/, 'its time is over in the end';
    cmp_ok scalar(() = read_text($server->folder . '/interrupted') =~ /again/g), '>=', 2, 'and it was interrupted again before that';
    isnt $server->pid_of('worker 0', $worker), $worker, 'there is another worker';
    unlike $server->log, qr/had to be killed/, 'which was nothing for the overseer';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a grace that is short, or none' => sub {
    for my $grace (0, 100) {
        my $server = server(limit => '1s', grace => "${grace}ms");
        is $server->get('/pid')->{status}, 200, "$grace ms: who is in time";
        is $server->get('/stubborn')->{status}, 504, 'who is not';
        is $server->get('/uncaught')->{status}, 504, 'nor who would stop';
        like $server->log, qr{GET /uncaught .*the application died: the request has run for}, 'which there is time for' if $grace;
        unlike $server->log, qr/had to be killed/, 'the worker ends itself';
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'the next request is left alone' => sub {
    my $server = server(limit => '1s');
    my $c = $server->connect;
    # As close to the limit as can be: whoever is done a moment before it must not leave anything behind.
    for my $round (1 .. 3) {
        my $answer = $c->request(uri => '/caught', keep => 1);
        is $answer->{body}, "rolled back: BPSGI::Timeout\nopen: 0", 'over the limit, on a kept connection';
        is $c->request(uri => '/pid', keep => 1)->{status}, 200, 'the next one on it';
    }
    is $server->get('/cleanup')->{body}, 'fine', 'a cleanup handler';
    is $server->get('/log')->{body}, 'cleaned up', 'has its time';
    is $server->get('/kid')->{body}, 7, 'so has a process that the application forked';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'waiting for the client is not the application\'s time' => sub {
    my $server = server(limit => '1s', options => [ '--body-ahead=1', '--input=stream' ]);
    my $body = 'x' x 70_000;
    my $http = IO::Socket::INET->new(PeerAddr => $server->url =~ m{//([^/]+)}) or die;
    print {$http} "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 140000\r\nConnection: close\r\n\r\n", $body;
    $http->flush;
    ok $server->wait_mark('reading'), 'an upload has begun';
    select undef, undef, undef, 1.5;    # longer than the limit: that is what is tested
    print {$http} $body;
    $http->flush;
    my $answer = join '', <$http>;
    like $answer, qr/\AHTTP\/1\.1 200 .*140000\z/s, 'and is not interrupted';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a response that has begun' => sub {
    my $server = server();
    my ($worker) = $server->worker_pids;
    my $answer = $server->get('/begun');
    is $answer->{status}, 200, 'has its status';
    ok !$answer->{ended}, 'and is visibly broken';
    my $http = $server->http_get('/begun');
    is $http->{status}, 599, 'over HTTP, too';
    like $server->get('/streaming')->{body}, qr/\Ax+\nBPSGI::Timeout\z/, 'one that goes on and on can be ended by the application';
    is $server->get('/pid')->{body}, $worker, 'the worker lives on';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'who goes on all the same' => sub {
    my $server = server(grace => '300ms');
    # AddressSanitizer's own crypt does not find the library's.
    for my $how ([ stubborn => 'swallows everything' ], is_sanitized() ? () : [ library => 'is busy where Perl cannot look' ]) {
        my ($what, $name) = @$how;
        for my $protocol (qw(FastCGI HTTP)) {
            my ($worker) = $server->worker_pids;
            my $from = $server->log_size;
            my $answer = $protocol eq 'HTTP' ? do { my $a = $server->http_get("/$what"); $a->{body} = $a->{content}; $a->{ended} = 1; $a } : $server->get("/$what");
            is $answer->{status}, 504, "$protocol: who $name is answered 504";
            like $answer->{body}, qr/504 Gateway Timeout/, 'with its page';
            ok $answer->{ended}, 'completely';
            ok $server->pid_of('worker 0', $worker), 'and there is a new worker';
            my $log = $server->wait_log(qr/a new one is started/, 10, $from) // '';
            like $log, qr/ERROR: .*GET \/$what \[[^]]+\]: still runs after \d+\.\d s \(--request-timeout-grace\); its client is answered with status 504, and worker 0 ends\. It was at$/m, 'the log says so';
            like $log, qr/ERROR: .* main::__ANON__ at \S+app\.psgi line \d+, in \w+/, 'and where it was';
            like $log, qr/worker 0 \(pid $worker\) has ended itself while it served GET \/$what .*; a new one is started at once$/m, 'at once: that is no crash loop';
            unlike $log, qr/died unexpectedly/, 'nor a crash';
        }
    }
    my $answer = $server->get('/begun_stubborn');
    ok !$answer->{ended}, 'a response that has begun is visibly broken';
    is $server->http_get('/begun_stubborn')->{status}, 599, 'over HTTP, too';
    is $server->get('/pid')->{status}, 200, 'the next one is answered';
    is $server->stop, 'exit 0', 'stops';
};

# In the library of a database nothing of Perl runs: what is thrown waits until it comes back.
subtest 'who waits for a database' => sub {
    my $database = <<'PERL';
use strict; use warnings;
use DBI;
sub orders {
    my ($milliseconds) = @_;
    my $dbh = DBI->connect('dbi:SQLite:dbname=orders.db', '', '', { RaiseError => 1, PrintError => 0 });
    $dbh->sqlite_busy_timeout(0 + $milliseconds);
    $dbh->do('update orders set done = 1');
    return 'done';
}
sub {
    my ($env) = @_;
    my ($milliseconds) = $env->{PATH_INFO} =~ /(\d+)/;
    return [200, [], [$milliseconds ? orders($milliseconds) : $$]];
};
PERL
    require DBI;
    my $server = BladePSGI::Test->start(app => $database, workers => 1, options => [ '--request-timeout=300ms', '--request-timeout-grace=4s' ]);
    my $lock = DBI->connect('dbi:SQLite:dbname=' . $server->folder . '/orders.db', '', '', { RaiseError => 1 });
    $lock->do('create table orders (done integer)');
    my ($worker) = $server->worker_pids;
    is $server->get('/60000')->{body}, 'done', 'nobody waits';
    $lock->do('begin exclusive');
    # The library gives up before the grace is over: then what was thrown arrives.
    my $answer = $server->get('/800');
    is $answer->{status}, 504, 'a library that comes back in time';
    is $server->get('/')->{body}, $worker, 'and its worker lives on';
    like $server->log, qr/WARNING: .*GET \/800 \[[^]]+\]: has run for \d+\.\d s, longer than --request-timeout/, 'the log says so';
    my $from = $server->log_size;
    $answer = $server->get('/60000?a=b');
    is $answer->{status}, 504, 'one that does not';
    like $answer->{body}, qr/504 Gateway Timeout/, 'with its page';
    ok $answer->{ended}, 'completely';
    my $log = $server->wait_log(qr/a new one is started/, 10, $from) // '';
    like $log, qr/ERROR: .*GET \/60000\?a=b \[[^]]+\]: still runs after \d+\.\d s \(--request-timeout-grace\); its client is answered with status 504, and worker 0 ends\. It was at\n/, 'the log names request, age and worker';
    like $log, qr/ERROR: .*DBD::SQLite::\w+::\w+ .*\n(?:.*\n)*?.*orders at \S+app\.psgi line \d+/, 'and the call of the database';
    like $log, qr/worker 0 \(pid $worker\) has ended itself while it served GET \/60000\?a=b .*; a new one is started at once/, 'there is a new worker';
    $lock->do('rollback');
    is $server->get('/60000')->{body}, 'done', 'which serves';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'who does not even let signals in is killed' => sub {
    my $server = server(grace => '100ms');
    my ($worker) = $server->worker_pids;
    my $answer = $server->get('/deaf');
    ok !$answer->{ended}, 'there is no answer';
    log_like $server, qr/worker 0 \(pid $worker\) had to be killed while it served GET \/deaf .*over --request-timeout.*; a new one is started at once/, 'the log says so';
    is $server->get('/pid')->{status}, 200, 'the next one is answered';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a time limit stops nothing with --on-crash=stop' => sub {
    my $server = server(grace => '100ms', options => ['--on-crash=stop']);
    is $server->get('/stubborn')->{status}, 504, 'answered';
    is $server->get('/pid')->{status}, 200, 'and the next one, too';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'without a limit' => sub {
    my $server = BladePSGI::Test->start(app => q{sub { [200, [], [$INC{'BPSGI/Timeout.pm'} // 'none', ' ', join ',', grep { /RT|NUM/ && defined $SIG{$_} } keys %SIG]] }}, workers => 1);
    is $server->get('/')->{body}, 'none ', 'there is nothing of it';
    my ($worker) = $server->worker_pids;
    my ($caught) = read_text("/proc/$worker/status") =~ /^SigCgt:\s*([0-9a-f]+)/m;
    is substr($caught, 0, 7), '0000000', 'no handler of ours either';
    unlike read_text("/proc/$worker/timers"), qr/ID:/, 'and no timer' if -e "/proc/$worker/timers";
    is $server->stop, 'exit 0', 'stops';
};

subtest 'who has waited too long in front of us' => sub {
    my $server = BladePSGI::Test->start(app => 'sub { [200, [], ["served"]] }', options => [ '--queue-timeout=10s', '--http=127.0.0.1:0', '--access-log=off' ]);
    my $now = time;
    my $with = sub { $server->request(uri => "/x", env => { HTTP_X_REQUEST_START => $_[0] }) };
    is $with->('t=' . ($now - 60) . '.5')->{status}, 503, 'is answered 503';
    is $with->(($now - 60) . '000')->{status}, 503, 'however that is written';
    is $with->("t=$now.1")->{body}, 'served', 'who has not is served';
    is $with->('t=' . ($now + 3600))->{body}, 'served', 'so is whoever comes from the future';
    is $with->('soon')->{body}, 'served', 'and whoever says nothing that we understand';
    is $server->get('/x')->{body}, 'served', 'or nothing at all';
    my $answer = HTTP::Tiny->new->post($server->url . 'x', { headers => { 'X-Request-Start' => 't=' . ($now - 60) }, content => 'x' x 200_000 });
    is $answer->{status}, 503, 'over HTTP, too';
    log_like $server, qr{WARNING: .*GET /x \[[^]]+\]: refused a request: it had waited for \d+\.\d s, longer than --queue-timeout}, 'and logged';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
