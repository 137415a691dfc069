package BladePSGI::Test::Nginx;

# nginx in front of a FastCGI socket, by the files under examples/nginx: the site of bladepsgi.conf with a location in it.
#
#   my $nginx = BladePSGI::Test::Nginx->start(socket => $server->socket, buffering => 'off', keep_conn => 'on');
#   is $nginx->get('/')->{content}, 'hello';
#
# start(socket, buffering => on|off, request_buffering => on|off, keep_conn => on|off, server => 'text for the server',
#       prefix => PATH: bladepsgi.prefix.conf instead of bladepsgi.location.conf, tls => 1)

use strict;
use warnings;

use parent 'BladePSGI::Test::FrontEnd';

use BladePSGI::Test;

sub program_name { return 'nginx' }

sub configure {
    my ($self, %o) = @_;
    my $folder = $self->{folder};
    my $location = defined $o{prefix} ? 'bladepsgi.prefix.conf' : 'bladepsgi.location.conf';
    my $keep = ($o{keep_conn} || 'off') eq 'on';
    write_text("$folder/$location", $self->example("nginx/$location", $keep ? undef : $o{socket},
        $keep ? ('unix:/run/bladepsgi/app.sock' => 'bladepsgi') : (),    # the site's upstream
        defined $o{prefix} ? ('/app' => $o{prefix}) : (),
    ));
    my $listen = "listen 127.0.0.1:$self->{port};";
    $listen .= <<"CONF" if $o{tls};

    listen 127.0.0.1:$self->{tls_port} ssl http2;
    ssl_certificate $folder/certificate.pem;
    ssl_certificate_key $folder/key.pem;
CONF
    write_text("$folder/bladepsgi.conf", $self->example('nginx/bladepsgi.conf', $o{socket},
        'listen 80;'                                 => $listen,
        'server_name example.org;'                   => 'server_name 127.0.0.1;' . ($o{server} // ''),
        'client_max_body_size 100m'                  => 'client_max_body_size 0',
        'include /etc/nginx/bladepsgi.location.conf' => "include $folder/$location",
        map { ("fastcgi_$_->[0] $_->[1];" => "fastcgi_$_->[0] " . ($o{ $_->[0] } || $_->[1]) . ';') }
            [ buffering => 'on' ], [ request_buffering => 'on' ], [ keep_conn => 'off' ],
    ));
    my $user = as_root() ? "user root;\n" : '';
    my $temp = join "\n    ", map { "${_}_temp_path $folder/$_;" } qw(client_body proxy fastcgi uwsgi scgi);
    write_text("$folder/nginx.conf", <<"CONF");
${user}daemon off;
master_process off;
worker_processes 1;
pid $folder/nginx.pid;
error_log $folder/error.log info;
events { worker_connections 256; }
http {
    access_log off;
    $temp
    include $folder/bladepsgi.conf;
}
CONF
    return;
}

sub check_command { return ($_[0]->command, '-t') }

sub command {
    my ($self) = @_;
    return ($self->program, '-p', $self->{folder}, '-e', "$self->{folder}/error.log", '-c', "$self->{folder}/nginx.conf");
}

# Lines of the error log that are no mere information.
sub errors { return grep { /\[(?:warn|error|crit|alert|emerg)\]/ } split /\n/, $_[0]->error_log }

1;
