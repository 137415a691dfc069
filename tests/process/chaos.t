# Long: verified load while workers, lobby, zygote and monitoring are killed at random. Only requests inside a killed process may
# fail.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Load;
use Test::More;
use Time::HiRes ();

plan skip_all => 'takes two minutes (BLADEPSGI_LONG)' unless is_long();

my $seconds = $ENV{BLADEPSGI_CHAOS_SECONDS} || 60;
my $seed = $ENV{BLADEPSGI_CHAOS_SEED} || time;
note "BLADEPSGI_CHAOS_SEED=$seed";
srand $seed;

for my $keep (0, 1) {
    subtest $keep ? 'kept connections' : 'a connection for each request' => sub {
        my $server = BladePSGI::Test->start(app_file => "$FindBin::Bin/../apps/load.psgi", workers => 4);
        # More kept connections than workers: most of them wait in the lobby.
        my $clients = $keep ? 12 : 4;
        my $load = BladePSGI::Test::Load->start($server, clients => $clients, keep => $keep, go_on => 1, timeout => 30);
        my ($worker_kills, $lobby_kills, $others) = (0, 0, 0);
        my $end = Time::HiRes::time() + $seconds;
        while (Time::HiRes::time() < $end) {
            my $before = $server->stats->{requests} // 0;
            my $what = rand;
            my $processes = $server->processes;
            my ($role) = $what < 0.7 ? grep { /: worker/ && rand() < 0.4 } keys %$processes
                : $what < 0.8 ? 'Blade: zygote' : $what < 0.9 ? 'Blade: lobby' : 'Blade: monitoring';
            my $pid = $role && $processes->{$role};
            if ($pid) {
                kill KILL => $pid;
                $role =~ /worker/ ? $worker_kills++ : $role =~ /lobby/ ? $lobby_kills++ : $others++;
            }
            wait_for { (($server->stats->{requests} // 0) > $before + 20) } 30 or do { fail 'requests go on'; last };
        }
        my $result = $load->stop;
        cmp_ok $worker_kills, '>', 10, "$worker_kills workers killed, $lobby_kills lobbies, $others other processes";
        cmp_ok $result->{ok}, '>', 1000, "$result->{ok} requests answered";
        cmp_ok scalar(@{ $result->{failures} }), '<=', $worker_kills + $clients * $lobby_kills,
            'at most one request lost for each killed worker, and those in a killed lobby'
            or diag join "\n", @{ $result->{failures} }[ 0 .. 5 ];
        my @wrong = grep { /answered with/ } @{ $result->{failures} };
        is_deeply \@wrong, [], 'and none answered wrongly';
        ok wait_for { $server->worker_pids == 4 }, 'all workers are there in the end';
        like $server->get('/load/0/0')->{body}, qr{/load/0/0}, 'and serve';
        is $server->stop, 'exit 0', 'stops';
    };
}

done_testing;
