use utf8;
use Cwd ();
use Digest::MD5 ();
use File::Basename ();
use Mojolicious::Lite -signatures;
use Mojo::Server::PSGI;

my $folder = File::Basename::dirname(Cwd::abs_path(__FILE__));
app->home(Mojo::Home->new($folder));
app->static->paths(["$folder/public"]);
app->secrets(['not so secret']);
app->mode('production');
app->log->level('error');
app->max_request_size(100_000_000);

get '/hello' => sub ($c) { $c->render(text => 'hello', format => 'txt') };

get '/count' => sub ($c) {
    my $count = $c->session->{count} = ($c->session->{count} // 0) + 1;
    $c->render(text => "count $count", format => 'txt');
};

any '/utf8' => sub ($c) {
    my $name = $c->param('name');
    $c->render(text => "Grüße, $name ☃ " . length($name), format => 'txt');
};

post '/upload' => sub ($c) {
    my $upload = $c->req->upload('file');
    my $md5 = Digest::MD5->new;
    for (my $at = 0; $at < $upload->size; $at += 131_072) { $md5->add($upload->asset->get_chunk($at, 131_072)) }
    $c->render(text => join(' ', $upload->filename, $upload->size, $md5->hexdigest, $c->param('title')), format => 'txt');
};

get '/redirect' => sub ($c) { $c->redirect_to('/hello') };

get '/error' => sub ($c) { die 'on purpose' };

get '/stream/:gate' => sub ($c) {
    $c->res->headers->content_type('text/plain');
    # Not write_chunk: its chunks would be within those of the web server, as everywhere with PSGI.
    $c->write("first\n" => sub ($c, @) {
        main::gate($c->param('gate'));
        $c->write("second\n" => sub ($c, @) { $c->finish });
    });
};

Mojo::Server::PSGI->new(app => app)->to_psgi_app;
