# What a service manager is told (sd_notify(3)): that the server is ready, that it loads anew, that it stops, and that it goes on. Its socket is this test.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use File::Temp ();
use IO::Socket::UNIX;
use Socket qw(SOCK_DGRAM MSG_DONTWAIT);
use Test::More;

my $folder = File::Temp::tempdir('notify-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $path = "$folder/notify";
my $manager = IO::Socket::UNIX->new(Local => $path, Type => SOCK_DGRAM) or die "notify socket: $!";

# The next message that is this one, as { name => value }; those before it are thrown away.
sub heard {
    my ($name) = @_;
    my $found;
    wait_for {
        while (defined recv $manager, my $text, 4096, MSG_DONTWAIT) {
            my %said = map { split /=/, $_, 2 } split /\n/, $text;
            return $found = \%said if exists $said{$name};
        }
        return 0;
    };
    return $found || {};
}

my $app = 'sub { [200, [], [join ",", map { $ENV{$_} // "none" } qw(NOTIFY_SOCKET WATCHDOG_USEC)]] }';
my $server = BladePSGI::Test->start(control => 1, app => $app, env => { NOTIFY_SOCKET => $path, WATCHDOG_USEC => 200_000 });
my $ready = heard('READY');
is $ready->{READY}, 1, 'ready';
is $ready->{MAINPID}, $server->pid, 'who';
is $ready->{STATUS}, 'requests are served', 'in words, too';
is heard('WATCHDOG')->{WATCHDOG}, 1, 'that it goes on' for 1 .. 3;
is $server->get('/')->{body}, 'none,none', 'the application is not the service';

my $run = $server->bladectl('reload');
is $run->{exit}, 'exit 0', 'a reload';
my $reloading = heard('RELOADING');
like $reloading->{MONOTONIC_USEC}, qr/\A[1-9]\d+\z/, 'when it began';
is heard('READY')->{STATUS}, 'requests are served, by generation 2', 'when it was over';

write_text($server->folder . '/app.psgi', 'die "not today\n"');
$server->signal('HUP');
is heard('RELOADING')->{RELOADING}, 1, 'another one';
like heard('READY')->{STATUS}, qr/requests are served; the last reload has failed: .*not today/, 'which has failed; the service has not';

is $server->stop, 'exit 0', 'stops';
is heard('STOPPING')->{STOPPING}, 1, 'that it stops';

done_testing;
