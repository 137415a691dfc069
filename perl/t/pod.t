use strict;
use warnings;

use FindBin     ();
use Pod::Checker ();
use Test::More;

# Every module has documentation without mistakes, and says something about each public method.
for my $module (qw(BPSGI BPSGI::Context BPSGI::Semaphore BPSGI::AtomicInt64 BPSGI::Timeout Plack::Handler::BladePSGI)) {
    (my $path = "$module.pm") =~ s{::}{/}g;
    my $file = "$FindBin::Bin/../lib/$path";
    my $checker = Pod::Checker->new(-warnings => 1);
    open my $null, '>', \my $complaints or die $!;
    $checker->parse_from_file($file, $null);
    is($checker->num_errors + $checker->num_warnings, 0, "$module: documentation is well-formed") or diag($complaints);

    require $path;
    my $text = do { local (@ARGV, $/) = $file; <> };
    my ($code, $pod) = split /^__END__$/m, $text, 2;
    for my $method ($code =~ /^sub ([a-z]\w*)/mg) {
        like($pod, qr/\b\Q$method\E\b/, "$module: $method is documented") if $method ne 'new';
    }
    no strict 'refs';
    is(${"${module}::VERSION"}, '2.0.0', "$module: version");
}

done_testing;
