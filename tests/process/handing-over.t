# What can go wrong when a connection is handed over between a worker and the lobby, in running processes: its request is served all the
# same or its connection visibly closed, the log says so, everybody goes on, and when there is enough again nothing is left of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Refusals;
use Errno ();
use Test::More;

my $size = 6_000_000;    # more than any socket takes

my $app = BladePSGI::Test->gate_code . <<'PERL';
use strict;
use warnings;
my $text = 'x' x 6_000_000;
open my $out, '>', 'large' or die $!;
print $out $text;
close $out or die $!;
sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    if ($path =~ m{\A/hold/(\w+)}) { mark($1); gate($1) }
    return [200, ['Content-Type' => 'text/plain'], [$text]] if $path eq '/string';
    if ($path eq '/file') {
        open my $file, '<', 'large' or die $!;
        return [200, ['Content-Type' => 'text/plain'], $file];
    }
    return [200, ['Content-Type' => 'text/plain'], ["$$ $path " . length($env->{HTTP_X} // '')]];
};
PERL

my @options = ('--head-timeout=60s', '--send-timeout=60s');

# With a single worker who comes later is served later: when he is, the lobby has what that worker did not keep.
sub server { my (%o) = @_; return http_server(app => $app, workers => 2, %o, options => [@options]) }

# One that is no root's: root has as many descriptors under way as it likes.
my @as_nobody = as_root() ? qw(setpriv --reuid=nobody --regid=nogroup --clear-groups) : ();

sub server_of_nobody {
    my $server = BladePSGI::Test->prepare(app => $app, workers => 2, wrap => [@as_nobody]);
    chmod 0777, $server->folder;
    push @{ $server->{options} }, @options, '--http=127.0.0.1:0', '--http=' . http_path($server);
    $server->launch->wait_ready or die 'not ready';
    return $server;
}

sub descriptors_of { my ($pid) = @_; return map { m{(\d+)\z} } glob "/proc/$pid/fd/*" }

# prlimit(1) is in util-linux, which every Debian has. Whom the process belongs to may always change its limits.
sub limit_descriptors {
    my ($pid, $limit, @as) = @_;
    system(@as, 'prlimit', "--pid=$pid", "--nofile=$limit:") == 0 or die "prlimit: $?";
    return;
}

# So many more descriptors may be opened, whatever gaps there are.
sub leave_descriptors {
    my ($pid, $spare) = @_;
    my %used = map { $_ => 1 } descriptors_of($pid);
    my $limit = 0;
    while ($spare > 0 || $used{$limit}) { $spare-- unless $used{$limit}; $limit++ }
    return limit_descriptors($pid, $limit);
}

my $plenty = 1024;

sub connection { my ($server, %o) = @_; return http($server, over => $o{over} // http_path($server)) }

# The beginning of a head of about so many bytes, on so many connections.
sub half {
    my ($server, $count, $bytes) = @_;
    my @half = map { connection($server) } 1 .. $count;
    $_->send("GET /half HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " . 'x' x ($bytes || 10)) for @half;
    return @half;
}

sub complete { my ($server, @half) = @_; $_->send("\r\n\r\n") for @half; return }

sub are_served {
    my ($name, $bytes, @half) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @bodies = map { my $body = $_->read_response->{body} // 'nothing'; $_->close; $body =~ s/\A\d+ //r } @half;
    is_deeply(\@bodies, [ ("/half $bytes") x @half ], $name) or diag explain \@bodies;
    return;
}

sub others_are_served {
    my ($server, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @served = map { connection($server)->request(uri => "/other-$_", close => 1)->{body} // 'nothing' } 1 .. 3;
    return is_deeply [ map { s/\A\d+ //r } @served ], [ map { "/other-$_ 0" } 1 .. 3 ], $name;
}

# While the lobby takes nobody: who has to go to it because his request came a moment after the connection is closed, and may try again.
sub others_are_served_again {
    my ($server, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $tries = 0;
    ok wait_for { ++$tries; (connection($server)->request(uri => '/other', close => 1)->{body} // '') =~ m{/other 0\z} }, $name;
    note "$tries tries";
    return;
}

# That all are as they were: the same processes, with no more descriptors, and half-sent requests wait without occupying a worker.
sub snapshot {
    my ($server) = @_;
    others_are_served($server, 'all is well');
    return { map { $_ => scalar descriptors_of($_) } $server->worker_pids, $server->pid_of('lobby') };
}

sub is_equal { my ($one, $other) = @_; return join(' ', map { "$_ $one->{$_}" } sort keys %$one) eq join ' ', map { "$_ $other->{$_}" } sort keys %$other }

sub is_as_before {
    my ($server, $before, %o) = @_;
    my @half = half($server, 5, $_) for 10, 10_000;
    my @waiting = map { half($server, 3, $_) } 10, 10_000;
    others_are_served($server, 'afterwards more half-sent requests than workers wait, and others are served');
    complete($server, @waiting);
    are_served('and they are', 10, @waiting[ 0 .. 2 ]);
    are_served('and long ones', 10_000, @waiting[ 3 .. 5 ]);
    $_->close for @half;
    my $now;
    ok wait_for { $now = { map { $_ => scalar descriptors_of($_) } $server->worker_pids, $server->pid_of('lobby') }; is_equal($now, $before) },
        'the same processes have as many descriptors as before' or diag explain $before, $now;
    is $server->stop, 'exit 0', 'stops';
    unlike $server->log, qr/died unexpectedly|PANIC/, 'nobody has ended for any of this';
    return;
}

subtest 'too many descriptors under way (ETOOMANYREFS)' => sub {
    plan skip_all => 'nobody cannot run the program where it lies' if @as_nobody && system @as_nobody, 'test', '-x', bladepsgi_binary();
    my $server = server_of_nobody();
    my $before = snapshot($server);
    my $lobby = $server->pid_of('lobby');
    my $round = sub {
        my ($while) = @_;
        kill STOP => $lobby;
        my @half = half($server, 120);
        $while->(@half);
        kill CONT => $lobby;
        others_are_served($server, 'when the lobby goes on, others are served');
        complete($server, grep { !$_->is_readable } @half);
        are_served('and all of them', 10, @half);
        return;
    };
    $round->(sub { });
    unlike $server->log, qr/the lobby is behind/, 'the lobby stands still: there is room for a hundred and twenty on their way to it';
    limit_descriptors($_, 60, @as_nobody) for $server->worker_pids;
    $round->(sub {
        my @half = @_;
        log_like $server, qr/WARNING:  worker\[\d+\]: the lobby is behind: connections that wait are kept by workers meanwhile/, 'more than a process may have open: workers keep what is more, and the log says so';
        complete($server, @half);
        ok wait_for { grep { $_->is_readable } @half }, 'who is kept is served when the rest comes, though the lobby still stands';
    });
    limit_descriptors($_, $plenty, @as_nobody) for $server->worker_pids;
    is_as_before($server, $before);
};

subtest 'a worker has no descriptor for the memory of a long head (EMFILE)' => sub {
    my $server = server();
    my $before = snapshot($server);
    leave_descriptors($_, 1) for $server->worker_pids;    # for the connection itself
    my @long = half($server, 1, 20_000);
    log_like $server, qr/WARNING:  worker\[\d+\]: cannot hand a connection over to the lobby: too many open files; this worker keeps it meanwhile/, 'the worker keeps it, and the log says so';
    my @short = half($server, 3);
    others_are_served($server, 'the other one serves, and hands over what is short');
    complete($server, @long, @short);
    are_served('who is kept is served when the rest comes', 20_000, @long);
    are_served('who was handed over, too', 10, @short);
    limit_descriptors($_, $plenty) for $server->worker_pids;
    is_as_before($server, $before);
};

subtest 'the lobby has no descriptor for a message (a truncated control message)' => sub {
    my $server = server(workers => 1);
    my $before = snapshot($server);
    my $lobby = $server->pid_of('lobby');
    leave_descriptors($lobby, 0);
    my @lost = half($server, 3);
    ok $_->closes, 'it cannot be held, and is closed' for @lost;
    log_like $server, qr/ERROR:  lobby\[$lobby\]: a connection that shall wait is lost: too many open files/, 'the log says so';
    for my $uri ('/string', '/file') {
        my $slow = connection($server, over => http_address($server));
        $slow->send("GET $uri HTTP/1.0\r\n\r\n");
        ok $slow->is_readable(20), "$uri: a response begins that is not taken";
        others_are_served_again($server, 'the only worker gives it away');
        my $r = $slow->read_response(version => '1.0');
        ok !$r->{complete}, 'it cannot be held either, and is seen not to be complete' or diag explain { %$r, body => length $r->{body}, stdout => '' };
        cmp_ok length $r->{body}, '<', $size, 'nor does all of it come';
        $slow->close;
    }
    limit_descriptors($lobby, $plenty);
    is_as_before($server, $before);
};

subtest 'the lobby has no descriptor for the memory of a long head' => sub {
    my $server = server(workers => 1);
    my $before = snapshot($server);
    my $lobby = $server->pid_of('lobby');
    my @long = half($server, 3, 20_000);
    others_are_served($server, 'it has them, and others are served');
    leave_descriptors($lobby, 0);
    complete($server, @long);
    log_like $server, qr/WARNING:  lobby\[$lobby\]: cannot hand a request over to a worker: too many open files; trying again/, 'it keeps them when they are complete, and the log says so';
    others_are_served_again($server, 'others are served');
    limit_descriptors($lobby, $plenty);
    are_served('and they are when there are descriptors again', 20_000, @long);
    is_as_before($server, $before);
};

subtest 'a worker has no descriptor for what comes from the lobby' => sub {
    my $server = server(workers => 1);
    my $before = snapshot($server);
    my ($worker) = $server->worker_pids;
    my @half = map { half($server, 1, $_) } 10, 20_000;
    others_are_served($server, 'the lobby has them');
    leave_descriptors($worker, 0);
    complete($server, $half[0]);
    ok $half[0]->closes, 'it cannot be taken, and is closed';
    # Of both it says one line a second, so whichever was first.
    log_like $server, qr/ERROR:  worker\[$worker\]: (?:a connection that had waited in the lobby is lost: too many open files|cannot accept connection: .*EMFILE)/, 'the log says so';
    leave_descriptors($worker, 1);
    complete($server, $half[1]);
    ok $half[1]->closes, 'one of two descriptors is not enough';
    limit_descriptors($worker, $plenty);
    is_as_before($server, $before);
};

subtest 'more at once than the queue to the workers holds' => sub {
    my $server = server(workers => 1);
    my $before = snapshot($server);
    my @half = half($server, 700);
    others_are_served($server, 'the lobby has them');
    my $busy = connection($server);
    $busy->send(http_request(uri => '/hold/queue', close => 1));
    ok $server->wait_mark('queue'), 'the worker is busy';
    complete($server, @half);
    my $lobby = $server->pid_of('lobby');
    # What is under way is not open there any more; for the others there is no room.
    my $open = -1;
    ok wait_for { my $last = $open; $open = descriptors_of($lobby); $open == $last && $open < 700 }, 'some of them are under way';
    cmp_ok $open, '>', 100, 'and not all';
    $server->open_gate('queue');
    like $busy->read_response->{body}, qr{/hold/queue}, 'when the worker has time';
    are_served('all are served', 10, @half);
    $busy->close;
    is_as_before($server, $before);
};

# From here on what this machine does not do by itself.
my ($library, $why) = refusing_library();

subtest 'a worker cannot send' => sub {
    plan skip_all => $why unless $library;
    for my $case ([ EMSGSIZE => 'the message is too large' ], [ ENOBUFS => 'out of memory' ], [ ENOMEM => 'out of memory' ]) {
        my ($name, $said) = @$case;
        my $server = server(env => { LD_PRELOAD => $library });
        my $before = snapshot($server);
        my $from = $server->log_size;
        refuse($server, sendmsg => Errno->$name, 'worker');
        my @half = half($server, 1);
        ok $server->wait_log(qr/WARNING:  worker\[\d+\]: cannot hand a connection over to the lobby: $said; this worker keeps it meanwhile/, 20, $from), "$name: the worker keeps it, and the log says so";
        others_are_served($server, 'the other one serves');
        complete($server, @half);
        are_served('who is kept is served when the rest comes', 10, @half);
        my $refused = times_refused($server, 'sendmsg');
        my $slow = connection($server);
        $slow->send(http_request(uri => '/string'));
        ok wait_for { times_refused($server, 'sendmsg') > $refused }, 'a response that is not taken cannot be given away';
        others_are_served($server, 'it keeps one worker, the other one serves');
        is length $slow->read_response->{body}, $size, 'and comes whole';
        like $slow->request(uri => '/next')->{body}, qr{ /next 0\z}, 'the next one on its connection is the next one';
        $slow->close;
        allow($server, 'sendmsg');
        is_as_before($server, $before);
    }
};

subtest 'the lobby cannot send' => sub {
    plan skip_all => $why unless $library;
    for my $case ([ ENOBUFS => 'out of memory' ], [ ETOOMANYREFS => 'too many descriptors are under way' ]) {
        my ($name, $said) = @$case;
        my $server = server(workers => 1, env => { LD_PRELOAD => $library });
        my $before = snapshot($server);
        my @half = half($server, 5);
        others_are_served($server, 'the lobby has them');
        refuse($server, sendmsg => Errno->$name, 'lobby');
        complete($server, @half);
        log_like $server, qr/WARNING:  lobby\[\d+\]: cannot hand a request over to a worker: $said; trying again/, "$name: it keeps them, and the log says so";
        others_are_served($server, 'others are served');
        my $tries = times_refused($server, 'sendmsg');
        ok wait_for { times_refused($server, 'sendmsg') > $tries + 2 }, 'it tries again';
        allow($server, 'sendmsg');
        are_served('until it can', 10, @half);
        is_as_before($server, $before);
    }
    # Nothing that it has is; but if it were, it would not try for ever.
    my $server = server(workers => 1, env => { LD_PRELOAD => $library });
    my $before = snapshot($server);
    my @half = half($server, 2);
    others_are_served($server, 'the lobby has them');
    refuse($server, sendmsg => Errno::EMSGSIZE(), 'lobby');
    complete($server, @half);
    ok $_->closes, 'EMSGSIZE: it is closed' for @half;
    log_like $server, qr/ERROR:  lobby\[\d+\]: dropped a request: it cannot be handed over to a worker: the message is too large/, 'and the log says so';
    allow($server, 'sendmsg');
    is_as_before($server, $before);
};

subtest 'who receives has no memory' => sub {
    plan skip_all => $why unless $library;
    for my $role (qw(lobby worker)) {
        my $server = server(workers => 1, env => { LD_PRELOAD => $library });
        my $before = snapshot($server);
        my @half = half($server, 30);
        others_are_served($server, 'the lobby has them');
        refuse($server, recvmsg => Errno::ENOMEM(), $role);
        push @half, half($server, 30) if $role eq 'lobby';
        complete($server, @half) if $role eq 'worker';
        ok wait_for { times_refused($server, 'recvmsg') > 2 }, "$role: it is tried again";
        complete($server, @half) if $role eq 'lobby';
        allow($server, 'recvmsg');
        are_served('and nothing is lost', 10, @half);
        is_as_before($server, $before);
    }
};

done_testing;
