# Behind nginx: a flush in the application is a flush at the client.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Nginx;
use Test::More;
use Time::HiRes ();

my $server = BladePSGI::Test->start(workers => 2, app => BladePSGI::Test->gate_code . <<'PERL');
sub {
    my ($env) = @_;
    my (undef, $kind, $name) = split m{/}, $env->{PATH_INFO};
    my @headers = ('Content-Type' => 'text/plain');
    push @headers, 'X-Accel-Buffering' => 'no' if $env->{QUERY_STRING} eq 'accel';
    return sub {
        my $writer = $_[0]->([200, \@headers]);
        for my $n (1 .. 3) {
            $writer->write("line $n\n");
            $kind eq 'gated' ? gate("$name-$n") : select undef, undef, undef, $n < 3 ? 1 : 0;
        }
        $writer->close;
    };
};
PERL

for my $keep (qw(off on)) {
    my $unbuffered = BladePSGI::Test::Nginx->start(socket => $server->socket, buffering => 'off', keep_conn => $keep);
    my $buffered   = BladePSGI::Test::Nginx->start(socket => $server->socket, buffering => 'on',  keep_conn => $keep);
    for my $case ([ $unbuffered, "off$keep", '', 'fastcgi_buffering off' ], [ $buffered, "on$keep", '?accel', 'X-Accel-Buffering: no' ]) {
        my ($nginx, $name, $query, $title) = @$case;
        subtest "$title, keep_conn $keep" => sub {
            my $c = $nginx->connect;
            $c->send("GET /gated/$name$query HTTP/1.0\r\nHost: localhost\r\n\r\n");
            for my $n (1 .. 3) {
                like $c->read_until(qr/line $n\n/, 10), qr/line $n\n/, "line $n is here while the application still waits";
                unlike $c->{in}, qr/line @{[$n + 1]}/, 'and the next is not';
                $server->open_gate("$name-$n");
            }
            $c->read_until(qr/\0/, 5);
            ok $c->is_eof, 'then it ends';
        };
    }
    subtest "a second apart in the application, a second apart at the client, keep_conn $keep" => sub {
        my $c = $unbuffered->connect;
        $c->send("GET /timed/x HTTP/1.0\r\nHost: localhost\r\n\r\n");
        my @at;
        for my $n (1 .. 3) {
            $c->read_until(qr/line $n\n/, 10);
            push @at, Time::HiRes::time();
        }
        for my $n (1, 2) {
            my $apart = $at[$n] - $at[ $n - 1 ];
            cmp_ok $apart, '>', 0.7, sprintf 'line %d came %.2f s after line %d', $n + 1, $apart, $n;
            cmp_ok $apart, '<', 1.3 * $BladePSGI::Test::PATIENCE, 'and no later';
        }
    };
}

is $server->stop, 'exit 0', 'stops';
done_testing;
