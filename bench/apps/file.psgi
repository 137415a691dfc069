# A file handle as the body.
use strict;
use warnings;

my $path = $ENV{BLADEPSGI_BENCH_FILE};
my $size = -s $path;

sub {
    open my $file, '<:raw', $path or die "cannot open $path: $!";
    return [200, ['Content-Type' => 'application/octet-stream', 'Content-Length' => $size], $file];
};
