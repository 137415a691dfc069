package BladePSGI::Test::ApacheFcgid;

# Apache that starts the application server itself, by one of the files under examples/apache-fcgid.
#
#   my $apache = BladePSGI::Test::ApacheFcgid->start(program => PATH of bladepsgi-fcgi, app => PATH, example => 'bladepsgi.conf');

use strict;
use warnings;

use parent 'BladePSGI::Test::Apache';

sub folder_of_examples { return 'apache-fcgid' }
sub modules { return qw(fcgid) }

sub exchange {
    my ($self, %o) = @_;
    return (
        '/usr/bin/bladepsgi-fcgi' => $o{program},
        '/srv/app/app.psgi'       => $o{app},
        'PerClass 8'              => 'PerClass 2',
        defined $o{prefix} && length $o{prefix} ? ('/app' => $o{prefix}) : (),
    );
}

sub configure {
    my ($self, %o) = @_;
    my $folder = $self->folder;
    mkdir "$folder/sockets";
    chmod 0777, "$folder/sockets";    # its processes are not root
    return $self->SUPER::configure(%o, http => <<"CONF");
FcgidIPCDir $folder/sockets
FcgidProcessTableFile $folder/processes
# How often it looks for processes that are to end; as long it starts none in their place. The default is 3 seconds each.
FcgidErrorScanInterval 1
FcgidZombieScanInterval 1
CONF
}

1;
