package BladePSGI::Test::Nginx;

# nginx in front of a FastCGI socket. Its location block is examples/nginx/bladepsgi.location.conf, the very file that the
# documentation hands out; only the socket is another.
#
#   my $nginx = BladePSGI::Test::Nginx->start(socket => $server->socket, buffering => 'off', keep_conn => 'on');
#   is $nginx->get('/')->{content}, 'hello';
#
# start(socket, buffering => on|off, request_buffering => on|off, keep_conn => on|off, http => 'text', server => 'text',
#       prefix => PATH: examples/nginx/bladepsgi.prefix.conf instead, tls => 1)

use strict;
use warnings;

use parent 'BladePSGI::Test::FrontEnd';

use BladePSGI::Test;

sub program_name { return 'nginx' }

sub configure {
    my ($self, %o) = @_;
    my $keep = ($o{keep_conn} || 'off') eq 'on';
    my $location = $self->example(
        defined $o{prefix} ? 'nginx/bladepsgi.prefix.conf' : 'nginx/bladepsgi.location.conf',
        'unix:/run/bladepsgi/app.sock' => $keep ? 'bladepsgi' : "unix:$o{socket}",
        defined $o{prefix} ? ('/app' => $o{prefix}) : (),
    );
    my $user = as_root() ? "user root;\n" : '';
    my ($buffering, $request_buffering) = map { $_ || 'on' } @o{qw(buffering request_buffering)};
    my $temp = join "\n    ", map { "${_}_temp_path $self->{folder}/$_;" } qw(client_body proxy fastcgi uwsgi scgi);
    my $tls = $o{tls} ? <<"CONF" : '';
listen 127.0.0.1:$self->{tls_port} ssl;
        ssl_certificate $self->{folder}/certificate.pem;
        ssl_certificate_key $self->{folder}/key.pem;
CONF
    write_text("$self->{folder}/nginx.conf", <<"CONF");
${user}daemon off;
master_process off;
worker_processes 1;
pid $self->{folder}/nginx.pid;
error_log $self->{folder}/error.log info;
events { worker_connections 256; }
http {
    access_log off;
    $temp
    client_max_body_size 0;
    upstream bladepsgi { server unix:$o{socket}; keepalive 8; }
    fastcgi_buffering $buffering;
    fastcgi_request_buffering $request_buffering;
    fastcgi_keep_conn @{[ $keep ? 'on' : 'off' ]};
    @{[ $o{http} || '' ]}
    server {
        listen 127.0.0.1:$self->{port};
        $tls
        server_name 127.0.0.1;
        @{[ $o{server} || '' ]}
        $location
    }
}
CONF
    return;
}

sub command {
    my ($self) = @_;
    return ($self->program, '-p', $self->{folder}, '-e', "$self->{folder}/error.log", '-c', "$self->{folder}/nginx.conf");
}

# Lines of the error log that are no mere information.
sub errors { return grep { /\[(?:warn|error|crit|alert|emerg)\]/ } split /\n/, $_[0]->error_log }

1;
