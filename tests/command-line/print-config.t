# --print-config: what would be in force, in words that can be given again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use File::Temp ();
use Test::More;

my $binary = bladepsgi_binary();

sub printed {
    my ($program, @words) = @_;
    my $run = run_to_end([ $program, @words ]);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $run->{exit}, 'exit 0', "@words: exit code 0";
    is $run->{err}, '', 'nothing on standard error';
    return $run->{out};
}

for my $case (
    [ $binary, qw(--print-config app.psgi) ],
    [ $binary, qw(app.psgi 3 a.sock b.sock --print-config --listen=:9000) ],
    [ $binary, '--print-config', '-e', qq{sub { [200, [], ["it's"]] }}, '-p', 80, '-p', 0, '-I', 'a folder' ],
    [ $binary =~ s{[^/]+\z}{bladepsgi-fcgi}r, qw(--print-config -l a.sock -n 2 -d app.psgi) ],
) {
    my $text = printed(@$case);
    my $file = write_text(File::Temp::tempdir(CLEANUP => 1) . '/config', $text);
    my $shell = q{eval "set -- $(grep -v '^#' "$1" | tr '\n' ' ')"; exec "$BINARY" "$@" --print-config};
    my $again = run_to_end([ '/bin/sh', '-c', $shell, 'sh', $file ], env => { BINARY => $binary })->{out};
    is $again, $text, 'given again it says the same';
}

my $text = printed($binary, qw(--print-config app.psgi));
my $processors = `nproc` > 2 ? `nproc` + 0 : 2;
like $text, qr/^--workers=$processors$/m, 'workers: what this machine has';
like $text, qr/^--http=127\.0\.0\.1:5000$/m, 'and the address it would serve';
$text = printed($binary, qw(app.psgi 3 a.sock b.sock --print-config));
like $text, qr{^$_$}m, $_ for qw(--app=app\.psgi --workers=3 --fastcgi=unix:a\.sock --stats=b\.sock);

for my $words ([ '--print-config', '--user=no-such-user', 'app.psgi' ], ['--print-config']) {
    my $run = run_to_end([ $binary, @$words ]);
    is $run->{exit}, 'exit 2', "@$words: wrong usage stays that";
    is $run->{out}, '', 'and nothing is printed';
}

done_testing;
