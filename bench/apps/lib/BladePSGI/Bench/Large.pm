package BladePSGI::Bench::Large;

# As much data as the code and the tables of a large application: about 145 MB with a 64-bit Perl, in small pieces.
use strict;
use warnings;

our %RECORDS;

for my $number (1 .. 166_500) {
    $RECORDS{"record $number"} = {
        number => $number,
        name   => "name of record $number",
        tags   => ["tag " . $number % 97, "tag " . $number % 89],
        text   => 'x' x (40 + $number % 60),
    };
}

1;
