# Ten pieces of 1 KB, written one after the other.
use strict;
use warnings;

my $body = substr pack('C*', 0 .. 250) x 50, 0, 10_240;
my @pieces = unpack '(a1024)*', $body;

sub {
    return sub {
        my ($respond) = @_;
        my $writer = $respond->([200, ['Content-Type' => 'application/octet-stream']]);
        $writer->write($_) for @pieces;
        $writer->close;
    };
};
