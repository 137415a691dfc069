use strict;
use warnings;

use FindBin    ();
use Test::More;

use BPSGI::Context;

our $context = BPSGI::Context->new(application_path => 'the/app.psgi', listen_sockfd => 7);
our ($s, $f, $a);

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output);

my @cases = do "$FindBin::Bin/cases.pl";
die $@ || $! if !@cases;

for my $case (@cases) {
    my ($code, $expected) = @{$case};
    my $got = eval "use utf8; no strict; $code";
    $got = $@ if !defined $got;
    ref $expected ? like($got, $expected, $code) : is($got, $expected, $code);
}

done_testing;
