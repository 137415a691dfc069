# Reads the request's body to its end and answers how long it was.
use strict;
use warnings;

sub {
    my ($env) = @_;
    my $input = $env->{'psgi.input'};
    my $length = 0;
    while (my $got = $input->read(my $buffer, 65_536)) { $length += $got }
    return [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $length], [$length]];
};
