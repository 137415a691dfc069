package BladePSGI::Test::Caddy;

# Caddy in front of a FastCGI socket, by one of the files under examples/caddy.
#
#   my $caddy = BladePSGI::Test::Caddy->start(socket => $server->socket, example => 'bladepsgi.Caddyfile');
#
# start(socket, example => FILE, prefix => PATH instead of /app, tls => 1, exchange => { placeholder => text })

use strict;
use warnings;

use parent 'BladePSGI::Test::FrontEnd';

use BladePSGI::Test;

sub program_name { return 'caddy' }

# It would write to the home directory.
sub environment {
    my ($self) = @_;
    return { HOME => $self->{folder}, XDG_DATA_HOME => "$self->{folder}/data", XDG_CONFIG_HOME => "$self->{folder}/config" };
}

sub configure {
    my ($self, %o) = @_;
    my $folder = $self->{folder};
    my $example = sub {
        my ($address) = @_;
        return $self->example("caddy/$o{example}", $o{socket},
            'http://example.org {' => "$address {\n\tbind 127.0.0.1",
            defined $o{prefix} && length $o{prefix} ? ('/app' => $o{prefix}) : (),
            %{ $o{exchange} || {} },
        );
    };
    my $text = "{\n\tadmin off\n\tauto_https off\n}\n" . $example->("http://127.0.0.1:$self->{port}");
    if ($o{tls}) {
        my $site = $example->("https://127.0.0.1:$self->{tls_port}");
        $text .= $site =~ s/(bind 127\.0\.0\.1)/$1\n\ttls $folder\/certificate.pem $folder\/key.pem/r;
    }
    write_text("$folder/Caddyfile", $text);
    return;
}

sub check_command { return ($_[0]->program, 'validate', '--config', "$_[0]{folder}/Caddyfile", '--adapter', 'caddyfile') }

sub command {
    my ($self) = @_;
    return ($self->program, 'run', '--config', "$self->{folder}/Caddyfile", '--adapter', 'caddyfile');
}

1;
