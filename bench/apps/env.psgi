# Reads five keys and answers what it read.
use strict;
use warnings;

sub {
    my ($env) = @_;
    my $text = join ' ', $env->{REQUEST_METHOD}, $env->{PATH_INFO}, $env->{QUERY_STRING}, $env->{HTTP_HOST}, length $env->{HTTP_COOKIE};
    return [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $text], [$text]];
};
