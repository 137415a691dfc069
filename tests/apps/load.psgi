# For tests under load: answers with its path and its body, and counts in the file "served" (one byte a request).

use strict;
use warnings;

use Fcntl qw(O_WRONLY O_APPEND O_CREAT);

sub {
    my ($env) = @_;
    my $body = '';
    while ($env->{'psgi.input'}->read(my $bytes, 65536)) { $body .= $bytes }
    sysopen my $served, 'served', O_WRONLY | O_APPEND | O_CREAT or die "served: $!";
    syswrite $served, '.';
    my $path = $env->{PATH_INFO};
    return [500, [], ["wrong body '$body'"]] if $env->{REQUEST_METHOD} eq 'POST' && $body ne "body of $path";
    return [200, ['Content-Type' => 'text/plain'], ["$path $$"]];
};
