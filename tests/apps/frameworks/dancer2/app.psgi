package Notes;

use utf8;
use strict;
use warnings;

use Cwd ();
use Digest::MD5 ();
use File::Basename ();

my $folder;
BEGIN {
    $folder = File::Basename::dirname(Cwd::abs_path(__FILE__));
    $ENV{DANCER_CONFDIR} = $ENV{DANCER_APPDIR} = $folder;
    $ENV{DANCER_PUBLIC} = "$folder/public";
    $ENV{DANCER_ENVIRONMENT} = 'production';
}

use Dancer2;

set public_dir => "$folder/public";
set static_handler => 1;
set charset => 'UTF-8';
set content_type => 'text/plain';
set show_errors => 0;
set engines => { session => { YAML => { session_dir => Cwd::getcwd() . '/sessions' } } };
set session => 'YAML';

get '/hello' => sub { 'hello' };

get '/count' => sub {
    session count => (session('count') || 0) + 1;
    return 'count ' . session('count');
};

any [qw(get post)] => '/utf8' => sub {
    my $name = param 'name';
    return "Grüße, $name ☃ " . length $name;
};

post '/upload' => sub {
    my $upload = upload('file');
    # Not file_handle, which decodes UTF-8.
    open my $file, '<:raw', $upload->tempname or die "upload: $!";
    return join ' ', $upload->filename, $upload->size, Digest::MD5->new->addfile($file)->hexdigest, param('title');
};

get '/redirect' => sub { redirect uri_for('/hello') };

get '/error' => sub { die 'on purpose' };

get '/stream/:gate' => sub {
    my $gate = param 'gate';
    delayed {
        flush;
        content "first\n";
        main::gate($gate);
        content "second\n";
        done;
    };
};

Notes->to_app;
