# plackup -s BladePSGI: plackup becomes the server.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use Test::More;

my ($plackup) = grep { -x } map { "$_/plackup" } split /:/, $ENV{PATH};
die 'plackup is not installed: ./dev test does that' unless $plackup;

my %env = (PERL5LIB => join(':', BladePSGI::Test::project_root() . '/perl/lib', grep { defined } $ENV{PERL5LIB}), BLADEPSGI => bladepsgi_binary());

subtest 'an application from a file' => sub {
    my $server = BladePSGI::Test->start(
        program => $plackup,
        env     => \%env,
        app     => 'use My; sub { [200, [], ["$ENV{PLACK_ENV} $My::here"]] }',
        files   => { 'lib/My.pm' => 'package My; our $here = "here"; 1;' },
        words   => [qw(-s BladePSGI -I lib -p 0 --workers=3 app.psgi)],
    );
    is $server->http_get('/')->{content}, 'development here', 'is served';
    is scalar($server->worker_pids), 3, 'options of bladepsgi are passed on';
    is process_title($server->pid), 'Blade: overseer', 'plackup has become the overseer';
    log_like $server, qr/LOG: .*no middleware is added/, 'development adds nothing, and the log says so';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'an application from the command line' => sub {
    my $server = BladePSGI::Test->start(program => $plackup, env => \%env, words => [ '-s', 'BladePSGI', '-E', 'x', '-p0', '-e', 'sub { [200, [], ["evaluated"]] }' ]);
    is $server->http_get('/')->{content}, 'evaluated', 'is served';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
