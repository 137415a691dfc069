package BladePSGI::Test::Apache;

# Apache in front of a FastCGI socket, by one of the files under examples/apache.
#
#   my $apache = BladePSGI::Test::Apache->start(socket => $server->socket, example => 'proxypass.conf', reuse => 'on');
#
# start(socket, example => FILE, prefix => PATH instead of /app, reuse => off | 'on max=2', tls => 1, modules => [names],
#       exchange => { placeholder => text }, http => 'text for the whole', server => 'text for each virtual host')

use strict;
use warnings;

use parent 'BladePSGI::Test::FrontEnd';

use File::Path ();

use BladePSGI::Test;

sub program_name { return 'apache2' }
sub folder_of_examples { return 'apache' }
sub modules { return qw(proxy proxy_fcgi) }

sub configure {
    my ($self, %o) = @_;
    my ($folder, $port) = @$self{qw(folder port)};
    my $example = $self->example($self->folder_of_examples . "/$o{example}", $o{socket}, $self->exchange(%o), %{ $o{exchange} || {} });
    write_text("$folder/example.conf", $example);
    File::Path::make_path("$folder/documents");

    my ($modules) = grep { -d } '/usr/lib/apache2/modules', '/usr/lib/httpd/modules', '/usr/lib64/httpd/modules';
    my @names = (qw(mpm_event authz_core alias env), $self->modules, $o{tls} ? qw(ssl http2) : (), @{ $o{modules} || [] });
    my $load = join '', map { "LoadModule ${_}_module $modules/mod_$_.so\n" } @names;
    my $user = as_root() ? "User www-data\nGroup www-data\n" : '';
    my $host = join "\n    ", $o{server} || (), "Include $folder/example.conf";
    my $tls = $o{tls} ? <<"CONF" : '';
Listen 127.0.0.1:$self->{tls_port}
<VirtualHost 127.0.0.1:$self->{tls_port}>
    LogLevel ssl:error
    SSLEngine on
    Protocols h2 http/1.1
    SSLCertificateFile $folder/certificate.pem
    SSLCertificateKeyFile $folder/key.pem
    $host
</VirtualHost>
CONF
    write_text("$folder/apache.conf", <<"CONF");
ServerRoot $folder
DefaultRuntimeDir $folder
PidFile $folder/apache.pid
ErrorLog $folder/error.log
LogLevel notice
ServerName 127.0.0.1
DocumentRoot $folder/documents
$load$user
# One process with as many threads as there are clients in a test.
ServerLimit 1
StartServers 1
ThreadsPerChild 16
MaxRequestWorkers 16
MinSpareThreads 1
MaxSpareThreads 16
@{[ $o{http} || '' ]}
Listen 127.0.0.1:$port
<VirtualHost 127.0.0.1:$port>
    $host
</VirtualHost>
$tls
CONF
    return;
}

# What is another in this test than in the file.
sub exchange {
    my ($self, %o) = @_;
    return (
        $o{reuse} ? ('enablereuse=off' => "enablereuse=$o{reuse}") : (),
        defined $o{prefix} && length $o{prefix} ? ('/app' => $o{prefix}) : (),
    );
}

sub check_command { return ($_[0]->command, '-t') }

sub command {
    my ($self) = @_;
    return ($self->program, '-DFOREGROUND', '-d', $self->{folder}, '-f', "$self->{folder}/apache.conf");
}

1;
