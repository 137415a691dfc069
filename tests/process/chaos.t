# Verified load, directly and through nginx, over kept connections and fresh ones, while workers, lobby, monitoring and zygote are
# killed: whatever was not inside a killed process is answered, nothing is answered wrongly, and at no time does all of it stand still.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use BladePSGI::Test::Load;
use BladePSGI::Test::Nginx;
use Test::More;
use Time::HiRes ();

my $seconds = $ENV{BLADEPSGI_CHAOS_SECONDS} || (is_long() ? 60 : 6);
my $seed = $ENV{BLADEPSGI_CHAOS_SEED} || time;
note "BLADEPSGI_CHAOS_SEED=$seed";
srand $seed;

my $workers = 4;
my $server = http_server(app_file => "$FindBin::Bin/../apps/load.psgi", workers => $workers);
my %nginx = map { $_ => BladePSGI::Test::Nginx->start(socket => $server->socket, keep_conn => $_) } qw(on off);

# More kept connections than workers: most of them wait in the lobby.
my $timeout = 30;
my %connect = (
    http  => sub { http($server, timeout => $timeout) },
    path  => sub { http($server, over => http_path($server), timeout => $timeout) },
    map { my $port = $nginx{$_}->port; ("nginx-$_" => sub { BladePSGI::Test::HTTP->connect("127.0.0.1:$port", timeout => $timeout) }) } keys %nginx,
);
my @loads = (
    [ 'FastCGI'                       => 2, keep => 0 ],
    [ 'FastCGI, kept'                 => 6, keep => 1 ],
    [ 'HTTP'                          => 1, keep => 0, connect => $connect{http} ],
    [ 'HTTP, kept'                    => 3, keep => 1, connect => $connect{http} ],
    [ 'HTTP on a UNIX socket, kept'   => 2, keep => 1, connect => $connect{path} ],
    [ 'nginx'                         => 2, keep => 0, connect => $connect{'nginx-off'} ],
    [ 'nginx with kept connections'   => 3, keep => 1, connect => $connect{'nginx-on'} ],
);
my $clients = 0;
for my $load (@loads) {
    my ($name, $count, %o) = @$load;
    $clients += $count;
    # What nginx says when its upstream has gone in the middle.
    push @$load, BladePSGI::Test::Load->start($server, clients => $count, timeout => $timeout, go_on => 1, broken => sub { ($_[0]{status} // 0) == 502 }, %o);
}

# Every 100 ms one of them; the zygote in addition, whenever a new one has been ready for a second.
my %kills = map { $_ => 0 } qw(worker lobby monitoring zygote);
my $loads = sub { return scalar(() = $server->log =~ /is good, its application was loaded in/g) };
my $start = Time::HiRes::time();
my ($ready_since, $loads_before, $ready) = ($start, 0, 1);
for (my $next = $start; Time::HiRes::time() < $start + $seconds; $next += 0.1) {
    my $processes = $server->processes;
    my @roles = grep { /: (?:worker|lobby|monitoring)/ } sort keys %$processes;
    my $role = $roles[ rand @roles ] // '';
    $kills{$1}++ if $role =~ /: (\w+)/ && kill KILL => $processes->{$role};
    my $now = Time::HiRes::time();
    if (!$ready && $loads->() > $loads_before) { ($ready, $ready_since) = (1, $now) }
    if ($ready && $now > $ready_since + 1 && $processes->{'Blade: zygote'}) {
        ($ready, $loads_before) = (0, $loads->());
        $kills{zygote}++ if kill KILL => $processes->{'Blade: zygote'};
    }
    my $left = $next + 0.1 - Time::HiRes::time();
    select undef, undef, undef, $left if $left > 0;
}

my (@failures, %answered, $ok);
for my $load (@loads) {
    my ($name) = @$load;
    my $result = $load->[-1]->stop;
    note "$name: $result->{ok} answered, $result->{retried} of them asked again, " . @{ $result->{failures} } . ' not';
    cmp_ok $result->{ok}, '>', 5 * $seconds, "$name: answered";
    is_deeply [ grep { /answered with/ } @{ $result->{failures} } ], [], "$name: none wrongly";
    push @failures, @{ $result->{failures} };
    $answered{$_} = 1 for keys %{ $result->{answered} };
    $ok += $result->{ok};
}
note join ', ', map { "$_ killed $kills{$_} times" } sort keys %kills;
ok $kills{$_}, "$_ was killed" for sort keys %kills;
cmp_ok scalar(@failures), '<=', $kills{worker} + $clients * $kills{lobby}, 'not answered are at most one for each killed worker, and those in a killed lobby'
    or diag join "\n", @failures[ 0 .. 9 ];
my @at = sort { $a <=> $b } keys %answered;
my $longest = 0;
for (1 .. $#at) { $longest = $at[$_] - $at[ $_ - 1 ] if $at[$_] - $at[ $_ - 1 ] > $longest }
# By tenths of a second; on a machine that is busy with something else nobody may be let run for longer.
cmp_ok $longest, '<=', 10 * (is_long() ? 1 : $BladePSGI::Test::PATIENCE), sprintf 'at most %.1f s without an answer', $longest / 10;

ok wait_for { $server->worker_pids == $workers && $server->pid_of('lobby') }, 'all are there in the end';
like $server->get("/load/0/$_")->{body}, qr{/load/0/$_ }, 'and serve' for 1 .. 10;
$nginx{$_}->stop for keys %nginx;
is $server->stop, 'exit 0', 'stops';
unlike $server->log, qr/PANIC|Assertion|invariant/, 'nobody has ended by himself';

done_testing;
