# An application alone on the command line: what plackup's users expect, and what they are told about the rest.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Test::More;

my $binary = bladepsgi_binary();

# A server started with these words; {folder} in them is its directory.
sub served {
    my ($words, %o) = @_;
    my $server = BladePSGI::Test->prepare(%o);
    $server->{words} = [ map { s/\{folder\}/$server->{folder}/gr } @$words ];
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok $server->launch->wait_ready, "starts: @$words" or diag $server->log;
    return $server;
}

sub stops {
    my ($server) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is $server->stop, 'exit 0', 'stops';
}

sub processors { my $n = () = `nproc` =~ /(\d+)/; chomp(my $count = `nproc`); return $count }

my $says = 'sub { my $env = shift; [200, ["Content-Type" => "text/plain"], ["$ENV{PLACK_ENV}|$env->{SCRIPT_NAME}|$env->{PATH_INFO}"]] }';

subtest 'an application and a port' => sub {
    my $server = served([ '--port=0', 'app.psgi' ], app => $says);
    like $server->url, qr{\Ahttp://127\.0\.0\.1:\d+/\z}, 'HTTP on this machine only';
    my $answer = $server->http_get('/a/b');
    is $answer->{status}, 200, 'answers';
    is $answer->{content}, 'deployment||/a/b', 'PLACK_ENV is deployment';
    my $wanted = processors() > 2 ? processors() : 2;
    is scalar($server->worker_pids), $wanted, 'a worker for each processor, at least 2';
    is_deeply [ grep { /monitoring/ } keys %{ $server->processes } ], [], 'no statistics, no monitoring process';
    opendir my $folder, $server->folder;
    is_deeply [ grep { -S $server->folder . "/$_" } readdir $folder ], [], 'no socket file';
    stops($server);
};

subtest 'nothing but the application: port 5000' => sub {
    my $taken = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 5000, ReuseAddr => 1);
    plan skip_all => 'somebody uses port 5000' unless $taken;
    my $refused = BladePSGI::Test->start(words => ['app.psgi'], ready => 0);
    is $refused->wait_exit, 'exit 1', 'taken: exit code 1';
    log_like $refused, qr/127\.0\.0\.1:5000/, 'and it is named';
    close $taken;
    my $server = served(['app.psgi']);
    is $server->url, 'http://127.0.0.1:5000/', 'free: as plackup';
    is $server->http_get('/')->{content}, "ok\n", 'answers';
    stops($server);
};

subtest 'listeners' => sub {
    my $server = served([
        '-l', '127.0.0.1:0', '-l', '{folder}/fcgi.sock', '--http', '{folder}/http.sock', '--fastcgi=127.0.0.1:0', '-o',
        'localhost', '-p0', '--workers=3', '--stats={folder}/s', 'app.psgi'
    ]);
    like $server->log, qr{listening on 127\.0\.0\.1:\d+ \(FastCGI\), \S+http\.sock \(HTTP\), http://127\.0\.0\.1:\d+/, \S+fcgi\.sock \(FastCGI\), http://},
        'which protocol where';
    is $server->http_get('/')->{content}, "ok\n", 'TCP: HTTP';
    is +BladePSGI::Test::FastCGI->connect($server->folder . '/fcgi.sock')->request(uri => '/')->{body}, "ok\n", 'UNIX: FastCGI';
    my ($port) = $server->log =~ /127\.0\.0\.1:(\d+) \(FastCGI\)/;
    is +BladePSGI::Test::FastCGI->connect("127.0.0.1:$port")->request(uri => '/')->{body}, "ok\n", '--fastcgi: FastCGI';
    my $http = IO::Socket::UNIX->new(Peer => $server->folder . '/http.sock');
    print {$http} "GET / HTTP/1.0\r\n\r\n";
    like join('', <$http>), qr{\AHTTP/1\.1 200 .*ok\n\z}s, '--http: HTTP';
    is scalar($server->worker_pids), 3, '--workers';
    $server->{stats} = $server->folder . '/s';
    like $server->stats_text, qr/\A\d+\n_{3}\n/, '--stats';
    stops($server);

    $server = served([qw(-s FCGI -p 0 app.psgi)]);
    like $server->log, qr{listening on 127\.0\.0\.1:\d+ \(FastCGI\)}, '-s FCGI';
    stops($server);
};

subtest '-I, -M and -E' => sub {
    my %files = (
        'lib/My/First.pm'  => 'package My::First; our @got; sub import { shift; push @got, @_ } 1;',
        'more/My/Second.pm' => 'package My::Second; our @got; sub unimport { push @got, "un" } sub import { push @got, "im" } 1;',
        'lib/My/Third.pm'  => 'package My::Third; our $env = $ENV{PLACK_ENV}; sub import { our $args = "@_" } 1;',
    );
    my $app = 'use My::Third (); my $inc = "$INC[0] $INC[1]"; sub { [200, [], ["$inc|@My::First::got|@My::Second::got|$My::Third::args|$My::Third::env"]] }';
    my $server = served([ '-I', 'lib', '-Imore', '-MMy::First=a,b', '-M', '-My::Second', '-MMy::Third qw(x y)', '-E', 'staging', '-p0', 'app.psgi' ],
        app => $app, files => \%files);
    is $server->http_get('/')->{content}, 'lib more|a b|un|My::Third x y|staging', 'all as with perl and plackup';
    stops($server);

    for my $options ([], ['--no-preload']) {
        my $broken = BladePSGI::Test->start(words => [ @$options, qw(-MNo::Such::Module -p0 app.psgi) ], ready => 0);
        is $broken->wait_exit, 'exit 3', "a module that is not there: exit code 3 @$options";
        log_like $broken, qr/FATAL: .*cannot load module 'No::Such::Module': Can't locate/, 'the log says which';
    }

    $server = served([ '--env=test', '--include=lib', '--module=My::First=four', 'app.psgi', 1, 'a.sock', 'b.sock' ], app => $app, files => \%files);
    $server->{socket} = $server->folder . '/a.sock';
    like $server->get('/')->{body}, qr/\Alib \S+\|four\|\|My::Third\|test\z|\Alib \S+\|four\|\|\|test\z/, 'with four arguments, by their long names';
    stops($server);
};

subtest '-e' => sub {
    my $server = served([ '-p0', '-e', 'sub { [200, [], ["evaluated in " . __PACKAGE__ . " $0 @ARGV" . (eval q{$no_strict = 1} ? "" : $@)]] } # a comment' ]);
    is $server->http_get('/')->{content}, 'evaluated in Plack::Sandbox::command_line -e ', 'code is the application';
    stops($server);

    {
        $server = served([ '-p0', '-e', 'enable sub { my $app = shift; sub { my $r = $app->(@_); push @{ $r->[2] }, "wrapped"; $r } };', 'app.psgi' ]);
        is $server->http_get('/')->{content}, "ok\nwrapped", 'code is around the application of a file';
        stops($server);
        $server = served([ '-p0', '-MPlack::App::Cascade', '-Mstrict', '-e', 'mount "/x" => sub { [200, [], ["mounted"]] }; mount "/" => Plack::App::Cascade->new(apps => [sub { [200, [], ["root"]] }])->to_app' ]);
        is $server->http_get($_->[0])->{content}, $_->[1], "Plack::Builder's words: $_->[0]" for [ '/x', 'mounted' ], [ '/y', 'root' ];
        stops($server);
    }
    for my $case (
        [ 'sub {',     qr/cannot load the application of -e: .*at -e line/ ],
        [ 'die "no\n"', qr/cannot load the application of -e: no/ ],
        [ '42',        qr/cannot load the application of -e: it returned '?42'?, must be a code reference/ ],
    ) {
        my $broken = BladePSGI::Test->start(words => [ '-p0', '-e', $case->[0] ], ready => 0);
        is $broken->wait_exit, 'exit 3', "-e '$case->[0]': exit code 3";
        log_like $broken, $case->[1], 'the reason';
        log_like $broken, qr/cannot start: the application of -e did not load/, 'and that this is the end';
    }
    my $broken = BladePSGI::Test->start(words => [ '-p0', '-Mstrict', '-e', '$undeclared = 1; sub {}' ], ready => 0);
    is $broken->wait_exit, 'exit 3', 'a pragma of -M is in force';
    log_like $broken, qr/Global symbol "\$undeclared"/, 'the reason';
};

subtest '--path, -E development and -s' => sub {
    my $server = served([qw(--path /shop/ -E development -s Twiggy -p 0 -a app.psgi)], app => $says);
    is $server->http_get('/shop/a')->{content}, 'development|/shop|/a', 'mounted';
    is(() = $server->log =~ /LOG: .*no middleware is added/g, 1, 'no middleware, and the log says so once');
    log_like $server, qr/LOG: .*--server=Twiggy changes nothing/, 'nor another server';
    stops($server);
};

subtest 'wrong usage' => sub {
    my $both = qr/Usage: bladepsgi \[OPTION\]\.\.\. APPLICATION_PATH\n       bladepsgi \[OPTION\]\.\.\. APPLICATION_PATH NUM_WORKERS /;
    for my $case (
        [ [], qr/got none/ ],
        [ [qw(app.psgi 2)], qr/got 2: 'app\.psgi' '2'; missing FASTCGI_SOCKET_PATH and STATS_SOCKET_PATH/ ],
        [ [qw(app.psgi 2 a.sock)], qr/missing STATS_SOCKET_PATH/ ],
        [ [qw(-p 0 app.psgi 2 a.sock)], qr/got 3/ ],
        [ [qw(-a x.psgi y.psgi)], qr/two applications/ ],
        [ [qw(-r app.psgi)], qr/'--reload': nothing is reloaded/ ],
        [ [qw(-L Shotgun app.psgi)], qr/Shotgun is a loader of plackup/ ],
        [ [qw(-L Delayed app.psgi)], qr/--no-preload/ ],
        [ [qw(--workers=3 app.psgi 2 a b)], qr/'--workers'.*NUM_WORKERS/ ],
        [ [qw(-I lib app.psgi 2 a b)], qr/unknown option '-I' with four arguments/ ],
        [ [qw(--wrokers=3 app.psgi)], qr/did you mean '--workers'\?/ ],
        [ [qw(--prot 80 app.psgi)], qr/did you mean '--port'\?/ ],
    ) {
        my ($words, $message) = @$case;
        my $run = run_to_end([ $binary, @$words ]);
        is $run->{exit}, 'exit 2', "@$words: exit code 2";
        like $run->{err}, $message, 'the message';
        like $run->{err}, $both, 'and both usage lines';
        is $run->{out}, '', 'nothing on stdout';
    }
};

done_testing;
