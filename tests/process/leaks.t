# Requests of every kind, one after another and among each other, leave nothing behind: what the processes of a server have for themselves
# does not grow with the number of requests. The long tier sends a million; the short one enough to see a scalar lost in each.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Mix;
use Test::More;

plan skip_all => 'figures of memory mean nothing under a sanitizer' if is_sanitized();
plan skip_all => 'needs the load generator, which is built with the tests: ' . generator() unless -x generator();

# The limit is in bytes a request; an empty scalar of Perl has 24. Few requests show little: each page that is first touched late in the
# run is half a byte a request, and the overseer's buffers, 100 KiB that are first filled when lines have piled up, may be up to ten.
my ($requests, $rounds, %limit) = is_long() ? (1_000_000, 100, worker => 1, others => 1) : (20_000, 20, worker => 6, others => 12);

# Bytes that a process has for itself: no file's, no sibling's.
sub own_memory {
    my ($pid) = @_;
    my $text = read_text("/proc/$pid/smaps_rollup");
    my $sum  = 0;
    $sum += $1 * 1024 while $text =~ /^(?:Anonymous|Swap):\s+(\d+) kB/mg;
    return $sum;
}

# Bytes a request: the slope of the straight line with the smallest squares.
sub slope {
    my (@points) = @_;
    my ($x, $y) = map { my $i = $_; my $s = 0; $s += $_->[$i] for @points; $s / @points } 0, 1;
    my ($above, $below) = (0, 0);
    for (@points) {
        $above += ($_->[0] - $x) * ($_->[1] - $y);
        $below += ($_->[0] - $x)**2;
    }
    return $above / $below;
}

# Sends so many requests in so many rounds; returns { role => bytes a request } over the last 80 %.
sub growth {
    my ($server, $total, $count, @stages) = @_;
    my %pid = (worker => $server->pid_of('worker 0'), map { $_ => $server->pid_of($_) } qw(overseer monitoring));
    my %samples;
    my $sent = 0;
    for (1 .. $count) {
        $sent += send_mix($server, $total / $count, @stages);
        $server->stats;
        push @{ $samples{$_} }, [$sent, own_memory($pid{$_})] for keys %pid;
    }
    my %slope;
    for my $role (sort keys %samples) {
        my @last = @{ $samples{$role} };
        splice @last, 0, @last * 0.2;
        $slope{$role} = slope(@last);
        note sprintf '%s: %.2f bytes a request; %d KiB at first, %d KiB at the end', $role, $slope{$role}, map { $_->[1] / 1024 } $samples{$role}[0], $last[-1];
    }
    is $server->pid_of('worker 0'), $pid{worker}, "$sent requests, all by the same worker";
    return \%slope;
}

my $server = start_mix();
plan skip_all => 'the memory of a worker cannot be looked into here' unless own_memory($server->pid_of('worker 0'));
my $page = $server->get('/dies')->{body};

my $slope = growth($server, $requests, $rounds, mix($page));
for my $role (sort keys %$slope) {
    my $limit = $limit{$role} // $limit{others};
    cmp_ok $slope->{$role}, '<', $limit, "$role: grows by less than $limit bytes a request";
}
is $server->stop, 'exit 0', 'stops';

# Would it be seen?
$server = start_mix();
$slope = growth($server, 4000, 20, [[loses => 1000, '--uri=/loses', '--expect=lost']]);
cmp_ok $slope->{worker}, '>', 12, 'an application that loses a scalar in each request is noticed';
is $server->stop, 'exit 0', 'stops';

done_testing;
