use strict;
use warnings;

use FindBin    ();
use File::Temp ();
use Test::More;

# plackup -s BladePSGI becomes bladepsgi with the same command line. Here that is a program that prints what it was given.
require Plack::Runner;
require Plack::Loader;

my $folder = File::Temp::tempdir(CLEANUP => 1);

sub write_file {
    my ($name, $text) = @_;
    open my $out, '>', "$folder/$name" or die "$name: $!";
    print {$out} $text;
    close $out or die "$name: $!";
    return;
}
write_file('bladepsgi', "#!$^X\nprint map { qq{\$_\\n} } \@ARGV;\n");
chmod 0755, "$folder/bladepsgi";
write_file($_, 'sub { [200, [], ["ok"]] }') for 'app.psgi', 'my.psgi';
write_file('Mine.pm', 'package Mine; sub import { } 1;');
write_file('plackup', 'use Plack::Runner; my $r = Plack::Runner->new; $r->parse_options(@ARGV); $r->run;');
write_file('code.pl', 'use Plack::Runner; my $r = Plack::Runner->new; $r->parse_options(@ARGV); $r->run(sub { [200, [], []] });');
write_file('app.pl', 'use Plack::Runner; my $r = Plack::Runner->new(app => sub { [200, [], []] }); $r->parse_options(@ARGV); $r->run;');
write_file('other.pl', 'use Plack::Runner; my $r = Plack::Runner->new; $r->parse_options(@ARGV, "my.psgi"); $r->run;');
write_file('loader.pl', 'use Plack::Loader; Plack::Loader->load("BladePSGI")->run(sub { [200, [], []] });');

sub started {
    my ($script, @words) = @_;
    local %ENV = (%ENV, BLADEPSGI => "$folder/bladepsgi");
    delete @ENV{qw(PLACK_ENV PLACK_SERVER)};
    my $pid = open my $out, '-|';
    die "fork: $!" if !defined $pid;
    if (!$pid) {
        chdir $folder;
        open STDERR, '>&', \*STDOUT;
        exec $^X, "-I$FindBin::Bin/../lib", $script, @words;
    }
    chomp(my @lines = <$out>);
    close $out;
    return join ' ', @lines;
}

sub is_command {
    my ($words, $expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is(started('plackup', '-s', 'BladePSGI', @$words), $expected, "@$words");
}

my $env = '--env=development';
is_command([], "$env app.psgi");
is_command(['my.psgi'], "$env my.psgi");
is_command([qw(-a my.psgi)], "$env --app=my.psgi");
is_command([qw(--app my.psgi --path /x)], "$env --path=/x --app=my.psgi");
is_command([ qw(-E production -I . -IMore -MMine -M), "Mine=a,b", "my.psgi" ], '--include=. --include=More --module=Mine --module=Mine=a,b --env=production my.psgi');
is_command([ '-e', 'sub { }' ], "$env --eval=sub { }");
is_command([ '-e', 'enable sub { $_[0] };', 'my.psgi' ], "$env --eval=enable sub { \$_[0] }; my.psgi");
is_command([qw(-o 0.0.0.0 -p 8080)], "$env --host=0.0.0.0 --port=8080 app.psgi");
is_command([qw(-port 8080 my.psgi)], "$env --port=8080 my.psgi");
is_command([qw(-l :80 --listen /x -p 9)], "$env --listen=:80 --listen=/x app.psgi");
is_command([qw(-S a.sock)], "$env --listen=unix:a.sock app.psgi");
is_command([qw(--workers 8 --backlog=9 my.psgi --no-preload)], "$env --workers 8 --backlog=9 my.psgi --no-preload");
is_command([qw(-D --no-default-middleware)], "$env --daemonize app.psgi");
is_command([qw(-L Delayed my.psgi)], "--no-preload $env my.psgi");

my $explained = qr/\Aplackup -s BladePSGI starts bladepsgi with plackup's own command line, and this cannot be repeated: /;
for my $case (
    [ 'code.pl', qr/the application is code/ ],
    [ 'app.pl', qr/the application is code/ ],
    [ 'other.pl', qr/not what the command line says/ ],
    [ 'loader.pl', qr/it is not plackup that runs/ ],
    [ 'plackup', qr/Plack::Loader::Shotgun|Shotgun is a loader/, '-L', 'Shotgun' ],
) {
    my ($script, $reason, @words) = @$case;
    my $said = started($script, '-s', 'BladePSGI', @words);
    like($said, $explained, "$script @words: explained");
    like($said, $reason, 'with the reason');
    like($said, qr/run: bladepsgi app\.psgi/, 'and what to do');
}

{
    local $ENV{PLACK_ENV};
    my $said = do { local %ENV = (%ENV, BLADEPSGI => "$folder/missing"); `cd $folder; $^X -I$FindBin::Bin/../lib plackup -s BladePSGI 2>&1` };
    like($said, qr/cannot run \Q$folder\E\/missing: No such file.*installed/, 'no program');
}

done_testing;
