# The compatibility contract, section 3: the loader, the context object, semaphores and atomics.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Test::More;
use Time::HiRes ();

my $gates = BladePSGI::Test->gate_code;

# A loader whose application evaluates what the test sends as its body, with $context, %object and $env in scope.
# Answers "ok VALUES" or "died MESSAGE".
sub evaluator {
    my ($setup) = @_;
    my $text = <<'PERL';
our ($context, %object, $env);
sub {
    ($context) = @_;
    SETUP
    return ({}, sub {
        local $env = $_[0];
        $env->{'psgi.input'}->read(my $code, 65536);
        my @value = eval $code;
        return [200, [], [$@ ? "died $@" : 'ok ' . join ' ', map { $_ // 'undef' } @value]];
    });
};
PERL
    $text =~ s/SETUP/$setup/;
    return $gates . $text;
}

sub ask {
    my ($server, $code) = @_;
    return $server->post('/', $code)->{body};
}

# ---- loading -----------------------------------------------------------------------------------------------------

subtest 'how a loader is called' => sub {
    my $server = BladePSGI::Test->start(
        workers => 2,
        loader  => $gates . <<'PERL',
package My::Loader;
open my $evaluated, '>>', 'evaluated' or die; print {$evaluated} "$$\n"; close $evaluated;
sub {
    my @arguments = @_;
    open my $called, '>>', 'called' or die;
    print {$called} join(' ', $$, scalar(@arguments), ref $arguments[0], wantarray ? 'list' : 'other',
        $arguments[0]->is_worker ? 'worker' : 'no worker'), "\n";
    close $called;
    my $context = $arguments[0];
    return (
        { 'my.key' => 'from the loader', SERVER_NAME => 'overridden' },
        sub {
            my ($env) = @_;
            my $again = $env->{'my.key'};
            $env->{'my.key'} = 'spoiled';
            return [200, [], [join '|', $again, $env->{SERVER_NAME}, $context->is_worker ? 'worker' : 'no worker', $$]];
        },
        'a further value', 'is ignored',
    );
};
PERL
    );
    my @bodies = map { $server->get('/')->{body} } 1 .. 10;
    like $_, qr/\Afrom the loader\|overridden\|worker\|\d+\z/, 'the hash is merged into every environment' for @bodies;
    my @evaluated = split /\n/, read_text($server->folder . '/evaluated');
    my @called    = split /\n/, read_text($server->folder . '/called');
    is scalar(@evaluated), 1, 'the module file is evaluated once';
    is scalar(@called), 1, 'the code reference is called once';
    my ($pid, @rest) = split / /, $called[0], 4;
    is $pid, $server->pid_of('zygote'), 'in the process that loads the application';
    is "@rest", '1 BPSGI::Context list no worker', 'with one argument, the context object, in list context';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a wrong or missing value is an error at start-up that says what was returned' => sub {
    my @cases = (
        [ 'the file returns 1',           "package My::Loader;\n1;",                             qr/\b1\b/ ],
        [ 'the file returns a string',    "package My::Loader;\n'some text';",                   qr/some text/ ],
        [ 'the file returns a hash',      "package My::Loader;\n+{};",                           qr/HASH/ ],
        [ 'nothing is returned',          "package My::Loader;\nsub { return };",                qr/nothing|no value|empty|0 values/i ],
        [ 'only a hash is returned',      "package My::Loader;\nsub { return {} };",             qr/one value|1 value|only|HASH/i ],
        [ 'only an app is returned',      "package My::Loader;\nsub { return sub { } };",        qr/one value|1 value|only|CODE/i ],
        [ 'a plain value for the hash',   "package My::Loader;\nsub { return ('plain', sub { }) };", qr/plain/ ],
        [ 'undef for the hash',           "package My::Loader;\nsub { return (undef, sub { }) };",   qr/undef/ ],
        [ 'a list for the hash',          "package My::Loader;\nsub { return ([], sub { }) };",      qr/ARRAY/ ],
        [ 'a plain value for the app',    "package My::Loader;\nsub { return ({}, 'nonsense') };",   qr/nonsense/ ],
        [ 'undef for the app',            "package My::Loader;\nsub { return ({}, undef) };",        qr/undef/ ],
        [ 'a hash for the app',           "package My::Loader;\nsub { return ({}, {}) };",           qr/HASH/ ],
        [ 'the file dies',                "package My::Loader;\ndie 'at once';",                     qr/at once at \S+Loader\.pm line 2/ ],
        [ 'the loader dies',              "package My::Loader;\nsub { die 'when called' };",         qr/when called at \S+Loader\.pm line 2/ ],
        [ 'the file has a syntax error',  "package My::Loader;\nsub { my \$x = ; };",                qr/syntax error at \S+Loader\.pm line 2/ ],
        [ 'the loader exits',             "package My::Loader;\nsub { exit 0 };",                    qr/exit/ ],
    );
    for my $case (@cases) {
        my ($name, $text, $pattern) = @$case;
        my $server = BladePSGI::Test->start(loader => $text, ready => 0, workers => 1);
        is $server->wait_exit(10), 'exit 3', "$name: exit code";
        log_like $server, $pattern, "$name: the message says it";
        ok !-e $server->socket, "$name: no socket is left";
        is_deeply [ $server->survivors ], [], "$name: nothing is left";
    }
    my $server = BladePSGI::Test->start(options => ['--loader=No::Such::Loader'], ready => 0, workers => 1);
    is $server->wait_exit(10), 'exit 3', 'no such module: exit code';
    log_like $server, qr{No/Such/Loader\.pm}, 'no such module: it is named';
};

subtest 'without --loader: as Plack::Util::load_psgi' => sub {
    my $server = BladePSGI::Test->start(
        workers => 1,
        app     => <<'PERL',
use strict;
use warnings;
my @seen = (__FILE__, __PACKAGE__, $0, scalar(@ARGV), $ENV{PLACK_ENV} // 'undef', __LINE__);
package Some::Component;
use parent 'Plack::Component';
sub call { return [200, [], [join '|', @seen]] }
package main;
Some::Component->new;
__END__
text that Perl never reads
PERL
    );
    my @seen = split /\|/, $server->get('/')->{body};
    my $path = $server->folder . '/app.psgi';
    is $seen[0], $path, '__FILE__ is the file';
    like $seen[1], qr/\APlack::Sandbox::/, 'it has a package of its own';
    is $seen[2], $path, '$0 is the file while it loads (FindBin)';
    is $seen[3], 0, '@ARGV is empty';
    is $seen[4], 'deployment', 'PLACK_ENV is deployment';
    is $seen[5], 3, 'line numbers are right';
    is $server->stop, 'exit 0', 'stops';

    for my $case ([ 'a number', '42', qr/42/ ], [ 'nothing', 'undef', qr/undef/ ], [ 'a hash', '+{ a => 1 }', qr/HASH/ ]) {
        my ($name, $text, $pattern) = @$case;
        $server = BladePSGI::Test->start(app => $text, ready => 0, workers => 1);
        is $server->wait_exit(10), 'exit 3', "$name is not callable: an error at start";
        log_like $server, $pattern, "$name: the message says what it is";
    }
};

# ---- context -----------------------------------------------------------------------------------------------------

subtest 'context object' => sub {
    my $server = BladePSGI::Test->start(
        workers => 2,
        loader  => evaluator(<<'PERL'),
            $object{at_load} = [
                $context->psgi_application_path, $context->psgi_application_loader, $context->fastcgi_listen_sockfd,
                $context->is_worker ? 1 : 0,
                eval { $context->set_worker_status('X'); 1 } ? 'no error' : $@,
            ];
            $object{aux} = $context->new_atomic_int64('aux', 0);
            $context->request_auxiliary_process('aux one', sub {
                my @arguments = @_;
                my $croaked = eval { $context->set_worker_status('X'); 1 } ? 0 : 1;
                main::mark('aux', join '|', scalar(@arguments), ref $arguments[0], $arguments[0]->is_worker ? 1 : 0,
                    $arguments[0]->psgi_application_path, $croaked);
                select undef, undef, undef, 3600 while 1;
            });
            $context->request_auxiliary_process('twin', sub { $object{aux}->incr; select undef, undef, undef, 3600 while 1 })
                for 1, 2;
PERL
    );
    my $path = $server->folder . '/app.psgi';
    like ask($server, 'join "|", @{$object{at_load}}'), qr/\Aok \Q$path\E\|My::Loader\|\d+\|0\|.+/,
        'in the loader: path as given, loader, descriptor, no worker, and no status to set';
    is ask($server, 'ref $context'), 'ok BPSGI::Context', 'class BPSGI::Context';
    is ask($server, '$context->psgi_application_path'),   "ok $path",       'psgi_application_path in a worker';
    is ask($server, '$context->psgi_application_loader'), 'ok My::Loader',  'psgi_application_loader in a worker';
    is ask($server, '$context->is_worker ? 1 : 0'),       'ok 1',           'is_worker in a worker';
    is ask($server, <<'PERL'), 'ok 1 1', 'fastcgi_listen_sockfd: the listening descriptor';
        use Socket; open my $s, '+<&=', $context->fastcgi_listen_sockfd or die $!;
        $main::keep = $s; (unpack('i', getsockopt $s, SOL_SOCKET, SO_ACCEPTCONN), sockaddr_family(getsockname $s))
PERL
    is $server->wait_mark('aux'), "1|BPSGI::Context|0|$path|1", 'an auxiliary process: its argument, and what it sees';
    ok $server->pid_of('aux one'), 'its title';
    ok wait_for { $server->stats->{atomic}{aux} == 2 }, 'two auxiliary processes may share a name';

    like ask($server, '$context->request_auxiliary_process("late", sub {})'), qr/\Adied /,
        'an auxiliary process cannot be asked for after loading';
    like ask($server, '$context->set_worker_status()'), qr/\Adied /, 'a missing argument is an exception';
    is $server->stop, 'exit 0', 'stops';

    $server = BladePSGI::Test->start(workers => 1, app => 'sub { [200, [], ["x"]] }');
    is $server->stop, 'exit 0', 'starts and stops without a loader';
};

subtest 'set_worker_status' => sub {
    my $server = BladePSGI::Test->start(workers => 1, loader => evaluator(''));
    my $octet = sub {
        my ($code) = @_;
        my $connection = $server->connect;
        $connection->send(request_bytes(method => 'POST', body => "$code; main::mark('in'); main::gate('go'); 1"));
        $server->wait_mark('in');
        my $octets = $server->stats->{octets};
        $server->open_gate('go');
        my $answer = $connection->read_response->{body};
        unlink map { $server->folder . "/$_" } 'gate-go', 'mark-in';
        return "$octets $answer";
    };
    is $octet->('$context->set_worker_status("R")'),      'R ok 1', 'sets the octet while the request runs';
    is $octet->('$context->set_worker_status("longer")'), 'l ok 1', 'of a longer string the first octet';
    is $octet->('1'), '_ ok 1', 'and is _ again for the next request, until it is set';
    ok wait_for { $server->stats->{octets} eq '_' }, 'an idle worker is _';
    is $server->stop, 'exit 0', 'stops';
};

# ---- semaphores --------------------------------------------------------------------------------------------------

subtest 'semaphores' => sub {
    my $server = BladePSGI::Test->start(
        workers => 2,
        loader  => evaluator(<<'PERL'),
            $object{two}  = $context->new_semaphore('two', 2);
            $object{zero} = $context->new_semaphore('zero', 0);
            $object{most} = $context->new_semaphore('most', 2147483647);
            $object{same} = $context->new_semaphore('same name', 1);
            $object{also} = $context->new_atomic_int64('same name', 7);
PERL
    );
    is ask($server, 'ref $object{two}'), 'ok BPSGI::Semaphore', 'class BPSGI::Semaphore';
    is ask($server, '(map { $object{two}->tryacquire ? 1 : 0 } 1 .. 3)'), 'ok 1 1 0', 'tryacquire: true twice, then false';
    is $server->stats->{sem}{two}, 0, 'the value is shared';
    is ask($server, '(map { $object{two}->release ? 1 : 0 } 1, 2)'), 'ok 1 1', 'release returns a true value';
    is $server->stats->{sem}{two}, 2, 'and increments';
    is ask($server, '$object{two}->acquire ? 1 : 0'), 'ok 1', 'acquire returns a true value';
    is $server->stats->{sem}{two}, 1, 'and decrements';
    is ask($server, '$object{two}->release'), 'ok 1', 'given back';
    is $server->stats->{sem}{zero}, 0, 'an initial value of 0 is allowed';
    is ask($server, '$object{zero}->tryacquire ? 1 : 0'), 'ok 0', 'and cannot be acquired';
    is $server->stats->{sem}{most}, 2147483647, 'an initial value of 2147483647 is allowed';
    like ask($server, '$object{most}->release'), qr/\Adied .*most/s, 'release at 2147483647 croaks and names it';
    is $server->stats->{sem}{most}, 2147483647, 'and leaves the value';
    is $server->stats->{sem}{'same name'}, 1, 'names are independent of each other between semaphores';
    is $server->stats->{atomic}{'same name'}, 7, 'and atomics';

    my $waiting = $server->connect;
    $waiting->send(request_bytes(method => 'POST', body => <<'PERL'));
        my @before = times; main::mark('waiting');
        $object{zero}->acquire; my @after = times;
        (sprintf '%.2f', $after[0] + $after[1] - $before[0] - $before[1])
PERL
    ok $server->wait_mark('waiting'), 'one worker waits in acquire';
    is ask($server, 'select undef, undef, undef, 1; $object{zero}->release'), 'ok 1', 'a second later another one releases';
    my ($cpu) = $waiting->read_response->{body} =~ /\Aok (\S+)/;
    ok defined $cpu, 'acquire has waited';
    cmp_ok $cpu, '<=', 0.2, 'and took no CPU';

    is ask($server, <<'PERL'), "ok rang 0", 'alarm interrupts a waiting acquire';
        my $rang = eval { local $SIG{ALRM} = sub { die "rang\n" }; alarm 1; $object{zero}->acquire; alarm 0; "acquired\n" } || $@;
        chomp $rang; ($rang, $object{zero}->tryacquire ? 1 : 0)
PERL
    is ask($server, <<'PERL'), 'ok handled and acquired', 'a handler that returns lets it wait on';
        my $text = 'not handled';
        local $SIG{ALRM} = sub { $text = 'handled'; $object{zero}->release };
        alarm 1; $object{zero}->acquire; "$text and acquired"
PERL
    is $server->stop, 'exit 0', 'stops';
};

# ---- atomics -----------------------------------------------------------------------------------------------------

subtest 'atomics' => sub {
    my $server = BladePSGI::Test->start(
        workers => 2,
        loader  => evaluator(<<'PERL'),
            $object{a}     = $context->new_atomic_int64('a', 5);
            $object{big}   = $context->new_atomic_int64('big', 9223372036854775807);
            $object{small} = $context->new_atomic_int64('small', -9223372036854775807 - 1);
            $object{wide}  = $context->new_atomic_int64('wide', 4294967297);
            $object{count} = $context->new_atomic_int64('count', 0);
PERL
    );
    is ask($server, 'ref $object{a}'), 'ok BPSGI::AtomicInt64', 'class BPSGI::AtomicInt64';
    is ask($server, '$object{a}->load'), 'ok 5', 'load';
    is ask($server, '$object{a}->incr ? 1 : 0'), 'ok 1', 'incr returns a true value';
    is ask($server, '$object{a}->load'), 'ok 6', 'and adds one';
    is ask($server, '$object{a}->fetch_add(10)'), 'ok 6', 'fetch_add returns the previous value';
    is ask($server, '$object{a}->fetch_add(-20)'), 'ok 16', 'and adds, also a negative number';
    is $server->stats->{atomic}{a}, -4, 'to this';
    is ask($server, '$object{a}->store(0) ? 1 : 0'), 'ok 1', 'store returns a true value';
    is $server->stats->{atomic}{a}, 0, 'and stores';
    is ask($server, '$object{wide}->load'), 'ok 4294967297', 'initial values are 64 bit';
    is ask($server, '$object{wide}->fetch_add(8589934592)'), 'ok 4294967297', 'operands too';
    is ask($server, '$object{wide}->load'), 'ok 12884901889', 'and sums';
    is ask($server, '$object{wide}->store(-1234567890123456789); $object{wide}->load'), 'ok -1234567890123456789', 'store too';
    is ask($server, '$object{big}->incr; $object{big}->load'), 'ok -9223372036854775808', 'overflow wraps';
    is ask($server, '$object{small}->fetch_add(-1); $object{small}->load'), 'ok 9223372036854775807', 'both ways';
    for (1 .. 5) {
        my @connections = map { $server->connect } 1 .. 4;
        $_->send(request_bytes(method => 'POST', body => '$object{count}->incr for 1 .. 1000; 1')) for @connections;
        $_->read_response for @connections;
    }
    is $server->stats->{atomic}{count}, 20_000, 'nothing is lost between workers';
    is $server->stop, 'exit 0', 'stops';
};

# ---- names and values --------------------------------------------------------------------------------------------

subtest 'exceptions that name the object and the cause' => sub {
    my $server = BladePSGI::Test->start(
        workers => 1,
        options => ['--shared-memory=1048576'],
        loader  => evaluator(<<'PERL'),
            my $try = sub { my ($name, $code) = @_; $object{$name} = eval { $code->(); 1 } ? 'no exception' : "$@" };
            $context->new_semaphore('taken', 1);
            $context->new_atomic_int64('taken too', 1);
            $try->(duplicate_semaphore => sub { $context->new_semaphore('taken', 1) });
            $try->(duplicate_atomic    => sub { $context->new_atomic_int64('taken too', 1) });
            $try->(negative            => sub { $context->new_semaphore('negative', -1) });
            $try->(too_large           => sub { $context->new_semaphore('too large', 2147483648) });
            $try->(wrapping            => sub { $context->new_semaphore('wrapping', 4294967297) });
            $try->(newline             => sub { $context->new_semaphore("new\nline", 1) });
            $try->(nul                 => sub { $context->new_semaphore("nu\0l", 1) });
            $try->(newline_atomic      => sub { $context->new_atomic_int64("new\nline", 1) });
            $try->(nul_atomic          => sub { $context->new_atomic_int64("nu\0l", 1) });
            $try->(death               => sub { $context->new_semaphore('death', 1, { on_death => 'perhaps' }) });
            $try->(aux_newline         => sub { $context->request_auxiliary_process("new\nline", sub { }) });
            $try->(aux_code            => sub { $context->request_auxiliary_process('codeless', 'text') });
            my $made = 0;
            $try->(exhausted => sub { $context->new_atomic_int64("object $_", 0), $made++ for 1 .. 1_000_000 });
            $object{made} = $made;
PERL
    );
    my %expect = (
        duplicate_semaphore => qr/taken/, duplicate_atomic => qr/taken too/, negative => qr/negative.*-1|-1.*negative/,
        too_large => qr/too large.*2147483648|2147483648.*too large/, wrapping => qr/4294967297/, newline => qr/newline/i,
        nul => qr/NUL/i, newline_atomic => qr/newline/i, nul_atomic => qr/NUL/i, death => qr/perhaps/,
        aux_newline => qr/newline/i, aux_code => qr/codeless/, exhausted => qr/object \d+.*memory|memory.*object \d+/,
    );
    for my $case (sort keys %expect) {
        my $text = ask($server, "\$object{$case}");
        unlike $text, qr/no exception/, "$case: an exception";
        like $text, $expect{$case}, "$case: names the object and the cause";
        like $text, qr/ at \S+Loader\.pm line \d+/, "$case: and where";
    }
    my ($made) = ask($server, '$object{made}') =~ /ok (\d+)/;
    cmp_ok $made, '>', 1000, "a mebibyte holds many objects ($made)";
    is $server->stop, 'exit 0', 'stops';
};

subtest 'many objects, objects made after loading' => sub {
    my $server = BladePSGI::Test->start(
        workers => 2,
        loader  => evaluator('$object{$_} = $context->new_semaphore("s$_", $_) for 1 .. 3000;'),
    );
    my $stats = $server->stats;
    is scalar(keys %{ $stats->{sem} }), 3000, 'three thousand semaphores';
    is $stats->{sem}{s2999}, 2999, 'each with its value';
    my %pids;
    like ask($server, '$main::late = $context->new_atomic_int64("late", 41); $main::late->incr; $main::late->load'),
        qr/\Aok 4\d\z/, 'an object can be made in a worker';
    my $code = <<'PERL';
        $main::late ||= $context->new_atomic_int64("late", 41); $main::late->incr;
        select undef, undef, undef, 0.05; "$$ " . $main::late->load
PERL
    ok wait_for {
        my @both = map { $server->connect } 1, 2;
        $_->send(request_bytes(method => 'POST', body => $code)) for @both;
        $_->read_response->{body} =~ /ok (\d+) (\d+)/ and $pids{$1} = $2 for @both;
        keys %pids == 2;
    }, 'and in another one, by the same name';
    cmp_ok $server->stats->{atomic}{late}, '>=', 43, 'where it is the same object';
    is $server->stop, 'exit 0', 'stops';
};

# ---- death of a process ------------------------------------------------------------------------------------------

my $death_loader = evaluator(<<'PERL');
    $object{lock}   = $context->new_semaphore('lock', 3);
    $object{signal} = $context->new_semaphore('signal', 0);
    $object{keep}   = $context->new_semaphore('keep', 3, { on_death => 'keep' });
    $object{return} = $context->new_semaphore('return', 0, { on_death => 'return' });
PERL

subtest 'death of a worker: what it holds is put back' => sub {
    for my $end (
        [ 'killed',           'kill KILL => $$; 1' ],
        [ 'by _exit',         'require POSIX; POSIX::_exit(5)' ],
        [ 'by exit',          'exit 0' ],
        [ 'by harakiri',      '$env->{"psgix.harakiri.commit"} = 1' ],
        )
    {
        my ($name, $code) = @$end;
        my $server = BladePSGI::Test->start(workers => 2, loader => $death_loader);
        my $worker = $server->connect->request(method => 'POST', body => <<"PERL");
            \$object{return}->release for 1 .. 5;
            \$object{signal}->release for 1 .. 5;
            \$object{\$_}->acquire for qw(lock lock signal signal keep keep return return);
            \$object{lock}->release;
            main::mark('pid', \$\$);
            $code
PERL
        my $pid = $server->wait_mark('pid');
        ok $server->wait_log(qr/ WARNING: .*lock/), "$name: a WARNING for the lock" or diag $server->log;
        ok wait_for { $server->stats->{sem}{lock} == 3 }, "$name: the permit of the lock is put back";
        my ($line) = grep { /WARNING:.*lock/ } split /\n/, $server->log;
        like $line, qr/\block\b/, "$name: names the semaphore";
        like $line, qr/\b$pid\b|worker \d/, "$name: names the worker";
        like $line, qr/\b1\b/, "$name: names the number";
        my $sem = $server->stats->{sem};
        is $sem->{signal}, 3, "$name: initial value 0 is a signal: nothing is put back";
        is $sem->{keep},   1, "$name: on_death => keep";
        is $sem->{return}, 5, "$name: releases beyond what was acquired owe nothing; on_death => return puts back two";
        unlike $server->log, qr/WARNING:.*\b(?:signal|keep)\b.*(?:put|g[ia]ve|return)/, "$name: no word of the others";
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'a permit given to another process needs on_death => keep' => sub {
    my $server = BladePSGI::Test->start(workers => 2, loader => evaluator(<<'PERL'));
        $object{plain} = $context->new_semaphore('plain', 2);
        $object{keep}  = $context->new_semaphore('keep', 2, { on_death => 'keep' });
PERL
    my $holder = $server->connect;
    $holder->send(request_bytes(method => 'POST', body => <<'PERL'));
        $object{$_}->acquire for qw(plain keep);
        main::mark('held', $$); main::gate('go'); kill KILL => $$; 1
PERL
    my $pid = $server->wait_mark('held');
    like ask($server, '$object{plain}->release; $object{keep}->release; $$'), qr/\Aok (?!$pid\b)\d+/, 'another process releases';
    $server->open_gate('go');
    ok $server->wait_log(qr/ WARNING: .*plain/), 'the holder dies';
    ok wait_for { $server->stats->{sem}{plain} == 3 }, 'the permit is put back once more: a transfer is not recognised';
    is $server->stats->{sem}{keep}, 2, 'with keep it is not';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'an auxiliary process that dies' => sub {
    my $server = BladePSGI::Test->start(workers => 1, loader => evaluator(<<'PERL'));
        $object{lock} = $context->new_semaphore('lock', 1);
        $object{runs} = $context->new_atomic_int64('runs', 0);
        $context->request_auxiliary_process('holder', sub {
            $object{lock}->acquire;
            $object{runs}->incr;
            select undef, undef, undef, 3600 while 1;
        });
PERL
    ok wait_for { $server->stats->{atomic}{runs} == 1 }, 'it holds the lock';
    kill KILL => $server->pid_of('holder');
    ok wait_for { $server->stats->{atomic}{runs} == 2 }, 'its replacement gets it';
    log_like $server, qr/WARNING: .*(?:lock.*holder|holder.*lock)/, 'with a WARNING';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
