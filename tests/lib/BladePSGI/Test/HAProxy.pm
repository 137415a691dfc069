package BladePSGI::Test::HAProxy;

# HAProxy in front of a FastCGI socket, by one of the files under examples/haproxy.
#
#   my $haproxy = BladePSGI::Test::HAProxy->start(socket => $server->socket, example => 'bladepsgi.cfg');
#
# start(socket, example => FILE, prefix => PATH instead of /app, workers => 2, tls => 1, exchange => { placeholder => text })

use strict;
use warnings;

use parent 'BladePSGI::Test::FrontEnd';

use BladePSGI::Test;

sub program_name { return 'haproxy' }

# Its messages go to standard error.
sub is_port_taken { return $_[0]->error_log =~ /cannot bind socket/i }

sub configure {
    my ($self, %o) = @_;
    my $folder = $self->{folder};
    my $bind = "bind 127.0.0.1:$self->{port}";
    $bind .= "\n    bind 127.0.0.1:$self->{tls_port} ssl crt $folder/both.pem alpn h2,http/1.1" if $o{tls};
    write_text("$folder/global.cfg", <<"CFG");
global
    nbthread 2
    maxconn 200
    log stderr format raw daemon notice
CFG
    write_text("$folder/example.cfg", $self->example("haproxy/$o{example}", $o{socket},
        'bind :80'                => $bind,
        'maxconn 8'               => 'maxconn ' . ($o{workers} || 2),
        defined $o{prefix} && length $o{prefix} ? ('/app' => $o{prefix}) : (),
        %{ $o{exchange} || {} },
    ));
    return;
}

sub check_command { return ($_[0]->command, '-c') }

sub command {
    my ($self) = @_;
    return ($self->program, '-db', '-f', "$self->{folder}/global.cfg", '-f', "$self->{folder}/example.cfg");
}

1;
