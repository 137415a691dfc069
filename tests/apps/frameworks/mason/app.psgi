use strict;
use warnings;

use Cwd ();
use File::Basename ();
use HTML::Mason::PSGIHandler;
use Plack::Builder;
use Plack::Session::Store::File;

my $folder = File::Basename::dirname(Cwd::abs_path(__FILE__));
my $data = Cwd::getcwd();
mkdir "$data/sessions";

my $mason = HTML::Mason::PSGIHandler->new(
    comp_root     => "$folder/components",
    data_dir      => "$data/mason",
    error_mode    => 'fatal',
    preamble      => "use utf8;\n",
    allow_globals => ['$r'],
);

builder {
    enable 'Static', path => qr{^/static/}, root => $folder;
    enable 'Session', store => Plack::Session::Store::File->new(dir => "$data/sessions");
    $mason->as_psgi;
};
