# What was loaded before the fork stays shared: also where loading has freed half of what it made, here and there, a worker that makes
# some thousand values does not copy the pages where those would fit.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use Test::More;

# MiB of a process: all it has mapped, and what it has for itself.
sub memory_of {
    my ($pid) = @_;
    open my $file, '<', "/proc/$pid/smaps_rollup" or return;
    my $text = do { local $/; <$file> } // '';
    return map { $text =~ /^\Q$_\E:\s+(\d+) kB/m ? $1 / 1024 : 0 } qw(Rss Private_Dirty);
}

plan skip_all => 'figures of memory mean nothing under a sanitizer' if is_sanitized();
plan skip_all => 'the memory of a process cannot be looked into here' if !(memory_of($$))[0];

my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
use strict;
use warnings;

my (%records, $number);
$records{"record $_"} = { number => $_, tags => [$_ % 97, $_ % 89], name => "name of record $_" } for 1 .. 40_000;
# Freed in the order of a hash, so that what is free next lies anywhere; and nothing else is freed after it, side by side.
while (my ($name) = each %records) { delete $records{$name} if ++$number % 2 }
# Something large that is read while it loads, of which a little stays, here and there.
my @lines;
push @lines, "line $_ of a file " x 50 for 1 .. 40_000;
for my $at (0 .. $#lines) { undef $lines[$at] if $at % 40 }

sub {
    my @rows = map { { id => $_, name => "row number $_", score => $_ * 1.5 } } 1 .. 500;
    return [200, ['Content-Type' => 'text/plain'], [scalar(@rows), ' of ', scalar keys %records, ' and ', length $lines[0]]];
};
PERL

is $server->get('/')->{body}, '500 of 20000 and 850', 'answers' for 1 .. 20;
my ($all, $own) = memory_of($server->pid_of('worker 0'));
note sprintf 'worker: %.1f MiB, %.1f of them its own', $all, $own;
cmp_ok $all, '>', 15, 'the application is there';
cmp_ok $own, '<', 2.5, 'the worker shares nearly all of it';
($all, $own) = memory_of($server->pid_of('zygote'));
note sprintf 'zygote: %.1f MiB, %.1f of them its own', $all, $own;
cmp_ok $all, '<', 55, 'and what was freed is not there any more';
is $server->stop, 'exit 0', 'stops';

done_testing;
