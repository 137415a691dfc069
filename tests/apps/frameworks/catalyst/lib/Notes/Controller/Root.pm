package Notes::Controller::Root;

use utf8;
use Digest::MD5 ();
use Moose;
use namespace::autoclean;

BEGIN { extends 'Catalyst::Controller' }

__PACKAGE__->config(namespace => '');

sub default : Path {
    my ($self, $c) = @_;
    $c->response->status(404);
    $c->response->content_type('text/plain; charset=utf-8');
    $c->response->body('Not here: ' . $c->request->path);
}

sub hello : Local { my ($self, $c) = @_; $c->response->content_type('text/plain'); $c->response->body('hello') }

sub count : Local {
    my ($self, $c) = @_;
    $c->response->content_type('text/plain');
    $c->response->body('count ' . ++$c->session->{count});
}

sub utf8 : Local {
    my ($self, $c) = @_;
    my $name = $c->request->parameters->{name};
    $c->response->content_type('text/plain; charset=utf-8');
    $c->response->body("Grüße, $name ☃ " . length $name);
}

sub upload : Local {
    my ($self, $c) = @_;
    my $upload = $c->request->upload('file');
    $c->response->content_type('text/plain; charset=utf-8');
    $c->response->body(join ' ', $upload->filename, $upload->size, Digest::MD5->new->addfile($upload->fh)->hexdigest, $c->request->parameters->{title});
}

sub redirect : Local { my ($self, $c) = @_; $c->response->redirect($c->uri_for('/hello')) }

sub error : Local { die 'on purpose' }

sub stream : Local Args(1) {
    my ($self, $c, $gate) = @_;
    $c->response->content_type('text/plain');
    $c->response->write("first\n");
    main::gate($gate);
    $c->response->write("second\n");
}

__PACKAGE__->meta->make_immutable;

1;
