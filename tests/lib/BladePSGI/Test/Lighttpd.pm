package BladePSGI::Test::Lighttpd;

# lighttpd in front of a FastCGI socket, by one of the files under examples/lighttpd.
#
#   my $lighttpd = BladePSGI::Test::Lighttpd->start(socket => $server->socket, example => 'bladepsgi.conf');
#
# start(socket, example => FILE, prefix => PATH instead of /app, tls => 1, exchange => { placeholder => text })

use strict;
use warnings;

use parent 'BladePSGI::Test::FrontEnd';

use File::Path ();

use BladePSGI::Test;

sub program_name { return 'lighttpd' }
sub log_names { return qw(error.log lighttpd.log) }

sub configure {
    my ($self, %o) = @_;
    my ($folder, $port) = @$self{qw(folder port)};
    write_text("$folder/example.conf", $self->example("lighttpd/$o{example}", $o{socket},
        defined $o{prefix} && length $o{prefix} ? ('/app' => $o{prefix}) : (),
        %{ $o{exchange} || {} },
    ));
    File::Path::make_path("$folder/documents", "$folder/uploads");
    my $tls = $o{tls} ? <<"CONF" : '';
server.modules += ( "mod_openssl" )
\$SERVER["socket"] == "127.0.0.1:$self->{tls_port}" {
    ssl.engine = "enable"
    ssl.pemfile = "$folder/certificate.pem"
    ssl.privkey = "$folder/key.pem"
}
CONF
    write_text("$folder/lighttpd.conf", <<"CONF");
server.bind = "127.0.0.1"
server.port = $port
server.document-root = "$folder/documents"
server.errorlog = "$folder/lighttpd.log"
server.upload-dirs = ( "$folder/uploads" )
server.modules = ()
$tls
include "$folder/example.conf"
CONF
    return;
}

sub check_command { return ($_[0]->program, '-tt', '-f', "$_[0]{folder}/lighttpd.conf") }

sub command {
    my ($self) = @_;
    return ($self->program, '-D', '-f', "$self->{folder}/lighttpd.conf");
}

1;
