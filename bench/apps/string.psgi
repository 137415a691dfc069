# 100 KB in one string.
use strict;
use warnings;

my $body = substr pack('C*', 0 .. 250) x 500, 0, 102_400;

sub { return [200, ['Content-Type' => 'application/octet-stream', 'Content-Length' => length $body], [$body]] };
