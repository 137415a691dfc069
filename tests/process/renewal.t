# The last step of an upgrade: another lobby and another monitoring process take the places of those of before, and nobody who waits
# there notices.

use strict;
use warnings;

use Errno ();
use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Load;
use BladePSGI::Test::Refusals;
use Digest::MD5 qw(md5_hex);
use Test::More;

# More than any socket takes. With a file of that name, each load waits for the test's word.
my $size = 12_000_000;
my $app = BladePSGI::Test::gate_code() . <<'PERL';
use strict;
use warnings;
if (-e 'wait-at-load') {
    my ($time) = grep { !-e "mark-load-$_" } 1 .. 9;
    mark("load-$time");
    gate("load-$time");
}
my $text = join '', map { sprintf('%07d ', $_) . 'x' x 992 } 1 .. 12_000;
open my $out, '>', "large.$$" or die $!;
print $out $text;
close $out or die $!;
rename "large.$$", 'large' or die $!;
sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    return [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $text], [$text]] if $path eq '/string';
    if ($path eq '/file' || $path eq '/chunks') {
        open my $file, '<', 'large' or die $!;
        return [200, ['Content-Type' => 'text/plain', $path eq '/file' ? ('Content-Length' => -s $file) : ()], $file];
    }
    my $body = do { my ($all, $piece) = (''); while ($env->{'psgi.input'}->read($piece, 8192)) { $all .= $piece } $all };
    return [200, ['Content-Type' => 'text/plain'], ["$path " . length $body]];
}
PERL
my $digest = md5_hex(join '', map { sprintf('%07d ', $_) . 'x' x 992 } 1 .. $size / 1000);

sub server {
    my (%o) = @_;
    return http_server(app => $app, workers => 2, control => 1, %o, options => [ '--fastcgi=127.0.0.1:0', @{ $o{options} || [] } ]);
}

# For each way to speak to the server, how a connection is made: { bytes => sub { uri, %o → text }, send => sub { text }, read => sub { → body } }
sub ways {
    my ($server) = @_;
    my $fastcgi = sub {
        my ($address) = @_;
        return sub {
            my $c = BladePSGI::Test::FastCGI->connect($address);
            return { c => $c, bytes => sub { my ($uri, %o) = @_; request_bytes(uri => $uri, keep => 1, %o, defined $o{body} ? (method => 'POST') : ()) },
                send => sub { $c->send($_[0]) }, read => sub { $c->read_response(1)->{body} } };
        };
    };
    my $http = sub {
        my ($address) = @_;
        return sub {
            my $c = http($server, over => $address);
            return { c => $c, bytes => sub { my ($uri, %o) = @_; http_request(uri => $uri, %o) }, send => sub { $c->send($_[0]) },
                read => sub { my $r = $c->read_response; is_deeply $r->{malformed}, [], 'well-formed'; $r->{body} } };
        };
    };
    return (
        'FastCGI over a path' => $fastcgi->($server->socket), 'FastCGI over TCP' => $fastcgi->($server->tcp_address),
        'HTTP over a path' => $http->(http_path($server)), 'HTTP over TCP' => $http->(http_address($server)),
    );
}

sub lobby { return $_[0]->bladectl_result('status')->{lobby} }

# Of all that live.
sub pids_of { my ($server, $role) = @_; return grep { process_title($_) =~ /: \Q$role\E\z/ } processes_in($server->folder) }

sub upgrade {
    my ($server) = @_;
    my $run = $server->bladectl('upgrade');
    is $run->{exit}, 'exit 0', 'bladectl upgrade' or diag $run->{err};
    return $run;
}

subtest 'all that waits goes on, however it came' => sub {
    my $server = server();
    my %ways = ways($server);
    my $was = lobby($server)->{held};
    is_deeply [ grep { $_ } values %$was ], [], 'nobody waits';
    my (%half_head, %half_body, %slow);
    for my $way (sort keys %ways) {
        $half_head{$way} = $ways{$way}->();
        $half_head{$way}{send}->(substr $half_head{$way}{bytes}->('/half-head'), 0, 20);
        $half_body{$way} = $ways{$way}->();
        my $bytes = $half_body{$way}{bytes}->('/half-body', body => 'b' x 20_000);
        $half_body{$way}{send}->(substr $bytes, 0, 9000, '');
        $half_body{$way}{rest} = $bytes;
        for my $uri (qw(/string /file /chunks)) {
            my $slow = $slow{"$way, $uri"} = $ways{$way}->();
            $slow->{send}->($slow->{bytes}->($uri));
        }
    }
    my $held;
    ok wait_for { $held = lobby($server)->{held}; $held->{sending} == 12 && $held->{head} == 4 && $held->{body} == 4 }, 'all of it is in the lobby' or diag explain $held;
    my ($old) = pids_of($server, 'lobby');
    upgrade($server);
    my @lobbies = pids_of($server, 'lobby');
    is scalar(@lobbies), 1, 'one lobby';
    isnt $lobbies[0], $old, 'another one';
    my $now = lobby($server);
    is_deeply $now->{held}, $held, 'the same wait in it';
    is_deeply [ grep { $_ } values %{ $now->{dropped} } ], [], 'nobody was dropped';
    for my $name (sort keys %slow) {
        is md5_hex($slow{$name}{read}->()), $digest, "$name: complete";
        $slow{$name}{send}->($slow{$name}{bytes}->('/next', body => 'n'));
        is $slow{$name}{read}->(), '/next 1', 'and the next request of the connection is answered';
    }
    for my $way (sort keys %ways) {
        $half_head{$way}{send}->(substr $half_head{$way}{bytes}->('/half-head'), 20);
        is $half_head{$way}{read}->(), '/half-head 0', "$way: half a head";
        $half_body{$way}{send}->($half_body{$way}{rest});
        is $half_body{$way}{read}->(), '/half-body 20000', 'half a body';
    }
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a thousand that are idle' => sub {
    my $server = server(workers => 2, options => ['--lobby-connections=1100']);
    my %ways = ways($server);
    my @names = sort keys %ways;
    my @kept;
    for my $number (0 .. 999) {
        my $one = $ways{ $names[ $number % 4 ] }->();
        $one->{send}->($one->{bytes}->("/$number"));
        is $one->{read}->(), "/$number 0", 'served' if $number < 4;
        $one->{read}->() if $number >= 4;
        push @kept, $one;
    }
    ok wait_for { lobby($server)->{held}{idle} >= 998 }, 'they wait';
    my $load = BladePSGI::Test::Load->start($server, clients => 3, keep => 1);
    upgrade($server) for 1 .. 2;
    my $result = $load->stop;
    is_deeply $result->{failures}, [], "beside them, $result->{ok} requests were answered";
    is $result->{retried}, 0, 'none of them twice';
    my $lobby = lobby($server);
    cmp_ok $lobby->{held}{idle}, '>=', 998, 'they wait';
    is $lobby->{dropped}{'gave-way'}, 0, 'none had to go';
    my $served = 0;
    for my $number (0 .. 999) {
        $kept[$number]{send}->($kept[$number]{bytes}->("/again-$number"));
        ++$served if (eval { $kept[$number]{c}->can('read_head') ? $kept[$number]{c}->read_response->{body} : $kept[$number]{read}->() } // '') eq "/again-$number 0";
    }
    is $served, 1000, 'each of them is served';
    is $server->stop, 'exit 0', 'stops';
};

# The lobby of before, with half a request and a response that is half taken, does not come to passing on.
sub half_way {
    my ($server) = @_;
    my %ways = ways($server);
    my $half = $ways{'HTTP over TCP'}->();
    my $bytes = $half->{bytes}->('/half', body => 'b' x 20_000);
    $half->{send}->(substr $bytes, 0, 9000, '');
    $half->{rest} = $bytes;
    my $slow = $ways{'HTTP over a path'}->();
    $slow->{send}->($slow->{bytes}->('/chunks'));
    my $held;
    ok wait_for { $held = lobby($server)->{held}; $held->{sending} == 1 && $held->{body} == 1 }, 'a request and a response wait' or diag explain $held;
    my ($old) = pids_of($server, 'lobby');
    kill STOP => $old;
    my $upgrade = $server->bladectl_later('upgrade');
    ok wait_for { pids_of($server, 'lobby') == 2 && $server->log =~ /workers have changed over/ }, 'there are two lobbies';
    return ($half, $slow, $old, $upgrade);
}

subtest 'while it takes its time' => sub {
    my $server = server();
    my ($half, $slow, $old, $upgrade) = half_way($server);
    my %ways = ways($server);
    for my $way (sort keys %ways) {
        my $one = $ways{$way}->();
        for my $uri (qw(/first /second)) {
            $one->{send}->($one->{bytes}->($uri));
            is $one->{read}->(), "$uri 0", "$way: requests are answered";
        }
    }
    my $second = $server->bladectl('upgrade');
    is $second->{exit}, 'exit 1', 'another upgrade';
    like $second->{err}, qr/an upgrade is under way already/, 'is refused';
    is $server->bladectl('reload')->{exit}, 'exit 0', 'a reload is done';
    ok !$upgrade->is_over, 'the upgrade is not over';
    kill CONT => $old;
    is $upgrade->outcome->{exit}, 'exit 0', 'until it has passed everything on';
    $half->{send}->($half->{rest});
    is $half->{read}->(), '/half 20000', 'the request is answered';
    is md5_hex($slow->{read}->()), $digest, 'the response is complete';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the server stops meanwhile' => sub {
    my $server = server();
    my ($half, $slow, $old, $upgrade) = half_way($server);
    # What the new one closes says that it knows of the stop.
    my $connect = { ways($server) }->{'HTTP over a path'};
    my @idle = map { my $one = $connect->(); $one->{send}->($one->{bytes}->('/first')); $one->{read}->(); $one } 1 .. 4;
    ok wait_for { lobby($server)->{held}{idle} >= 2 }, 'connections wait in the new lobby' or diag explain lobby($server);
    $server->signal('TERM');
    is scalar(grep { $_->{c}->closes } @idle), 4, 'they are closed';
    my $outcome = $upgrade->outcome;
    is $outcome->{exit}, 'exit 1', 'the upgrade';
    like $outcome->{err}, qr/the server stops/, 'is not waited for';
    kill CONT => $old;
    ok wait_for { !grep { $_ == $old } processes_in($server->folder) }, 'the lobby of before passes everything on and ends';
    ok lobby($server)->{there}, 'workers know that there is one';
    $half->{send}->($half->{rest});
    is $half->{read}->(), '/half 20000', 'the request is answered';
    is md5_hex($slow->{read}->()), $digest, 'the response is complete';
    is $server->wait_exit, 'exit 0', 'it has stopped';
    unlike $server->log, qr/ERROR|died/, 'no complaint';
    is_deeply [ $server->survivors ], [], 'nothing is left';

    # With nothing to be done the new one has to be told that it is the only one now.
    $server = server();
    ($old) = pids_of($server, 'lobby');
    kill STOP => $old;
    $upgrade = $server->bladectl_later('upgrade');
    ok wait_for { pids_of($server, 'lobby') == 2 }, 'there are two lobbies, that have nothing';
    $server->signal('TERM');
    ok $server->wait_log(qr/the upgrade comes to nothing: the server stops/), 'it stops';
    kill CONT => $old;
    ok within(10, sub { is $server->wait_exit, 'exit 0', 'it has stopped' }), 'soon';
    $upgrade->outcome;
};

subtest 'one of the two dies' => sub {
    my $server = server();
    my ($half, $slow, $old, $upgrade) = half_way($server);
    kill KILL => $old;
    is $upgrade->outcome->{exit}, 'exit 0', 'the one of before: that is all';
    like $server->log, qr/ERROR:  \S+ lobby \(pid $old\) died unexpectedly: signal 9.*; its successor is there already/, 'in the log';
    ok !eval { length($slow->{read}->()) == $size }, 'what it had is lost';
    my ($new) = pids_of($server, 'lobby');
    $server->get('/');
    is_deeply [ pids_of($server, 'lobby') ], [$new], 'the new one goes on';
    is $server->stop, 'exit 0', 'stops';

    $server = server();
    ($half, $slow, $old, $upgrade) = half_way($server);
    ($new) = grep { $_ != $old } pids_of($server, 'lobby');
    kill KILL => $new;
    ok wait_for { my ($newer) = grep { $_ != $old && $_ != $new } pids_of($server, 'lobby'); $newer }, 'the new one: there is another one';
    kill CONT => $old;
    is $upgrade->outcome->{exit}, 'exit 0', 'to which everything is passed on';
    $half->{send}->($half->{rest});
    is $half->{read}->(), '/half 20000', 'the request is answered';
    is md5_hex($slow->{read}->()), $digest, 'the response is complete';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'the new ones are no good' => sub {
    my ($library, $why) = refusing_library();
    plan skip_all => $why unless $library;
    for my $case (
        [ 'no lobby can be made', [ fork => Errno::EAGAIN(), 'overseer' ], qr/EAGAIN/, 'lobby' ],
        [ 'the lobby does not start', [ signalfd => Errno::EMFILE(), 'lobby' ], qr/EMFILE/, 'lobby' ],
        [ 'monitoring does not start', [ signalfd => Errno::EMFILE(), 'monitoring' ], qr/EMFILE/, 'monitoring' ],
    ) {
        my ($name, $refusal, $reason, $still) = @$case;
        my $server = server(env => { LD_PRELOAD => $library }, options => ['--access-log=access']);
        my %old = map { $_ => [ pids_of($server, $_) ] } qw(lobby monitoring);
        my $kept = (ways($server))[1]->();
        $kept->{send}->($kept->{bytes}->('/first'));
        is $kept->{read}->(), '/first 0', "$name: a connection is kept";
        # The trial, and then the load of the new generation, from where on nothing is made by the overseer but these.
        write_text($server->folder . '/wait-at-load', '');
        my $upgrade = $server->bladectl_later('upgrade');
        ok $server->wait_mark('load-1', 30), 'the new program is tried';
        $server->open_gate('load-1');
        ok $server->wait_mark('load-2', 30), 'and taken';
        unlink $server->folder . '/wait-at-load';
        refuse($server, @$refusal);
        $server->open_gate('load-2');
        my $outcome = $upgrade->outcome;
        is $outcome->{exit}, 'exit 1', 'it fails';
        like $outcome->{err}, qr/the server has become version \S+, generation 2, but (?:the )?$still is still that of before: /, 'and says so';
        like $outcome->{err}, $reason, 'and why';
        ok $server->wait_log(qr/ERROR:  overseer\[\d+\]: the upgrade has failed: the server has become/), 'the log, too';
        allow($server, $refusal->[0]);
        is_deeply [ pids_of($server, $still) ], $old{$still}, 'the one of before is there';
        ok $server->stats->{requests} >= 1, 'monitoring answers';
        $kept->{send}->($kept->{bytes}->('/second'));
        is $kept->{read}->(), '/second 0', 'the connection is served';
        upgrade($server);
        isnt join(' ', pids_of($server, $_)), join(' ', @{ $old{$_} }), "the next time $_ is exchanged" for sort keys %old;
        is $server->stop, 'exit 0', 'stops';
    }
};

done_testing;
