# What was loaded before the fork stays shared: also where loading has freed half of what it made, here and there, a worker that makes
# some thousand values does not copy the pages where those would fit.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use Test::More;

plan skip_all => 'figures of memory mean nothing under a sanitizer' if is_sanitized();

my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
use strict;
use warnings;

my (%records, $number);
$records{"record $_"} = { number => $_, tags => [$_ % 97, $_ % 89], name => "name of record $_" } for 1 .. 40_000;
for my $name (sort keys %records) { delete $records{$name} if ++$number % 2 }
# Something large that is read while it loads, and left.
{ my @lines = map { "line $_ of a file " x 20 } 1 .. 40_000; $records{lines} = @lines }

sub {
    my @rows = map { { id => $_, name => "row number $_", score => $_ * 1.5 } } 1 .. 500;
    return [200, ['Content-Type' => 'text/plain'], [scalar(@rows), ' of ', scalar keys %records]];
};
PERL

# MiB of a process: all it has mapped, and what it has for itself.
sub memory {
    my ($role) = @_;
    my $text = read_text('/proc/' . $server->pid_of($role) . '/smaps_rollup');
    return map { $text =~ /^\Q$_\E:\s+(\d+) kB/m ? $1 / 1024 : 0 } qw(Rss Private_Dirty);
}

is $server->get('/')->{body}, '500 of 20001', 'answers' for 1 .. 20;
my ($all, $own) = memory('worker 0');
plan skip_all => 'the memory of a worker cannot be looked into here' if !$all;
note sprintf 'worker: %.1f MiB, %.1f of them its own', $all, $own;
cmp_ok $all, '>', 15, 'the application is there';
cmp_ok $own, '<', 2.5, 'the worker shares nearly all of it';
($all, $own) = memory('zygote');
note sprintf 'zygote: %.1f MiB, %.1f of them its own', $all, $own;
cmp_ok $all, '<', 40, 'and what was freed is not there any more';
is $server->stop, 'exit 0', 'stops';

done_testing;
