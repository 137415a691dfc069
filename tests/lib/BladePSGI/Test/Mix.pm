package BladePSGI::Test::Mix;

# Requests of every kind (small and large, GET and POST, strings, files, streams, delayed and failing ones, kept connections and new
# ones, both protocols), sent by the load generator, which checks every answer.
#
#   my $server = start_mix();
#   my $sent   = send_mix($server, 1000, mix($server->get('/dies')->{body}));

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Basename qw(dirname);
use JSON::PP ();
use Test::More;

use BladePSGI::Test;

our @EXPORT = qw(generator start_mix mix send_mix);

my $APPS = Cwd::abs_path(dirname(__FILE__) . '/../../../../bench/apps');

sub generator { return dirname(bladepsgi_binary()) . '/bin/bladepsgi-load' }

my $APP = <<'PERL';
use strict;
use warnings;

my %apps = map { $_ => do("$ENV{BLADEPSGI_TEST_APPS}/$_.psgi") || die $@ || $! } qw(hello env string length stream file middleware);
my (@held, $turn);
my @head = ('Content-Type' => 'text/plain');

# Keeps the last of them, so that each has to be made anew.
$apps{held} = sub { my ($env) = @_; $held[ $turn++ & 7 ] = $env; return [200, [@head], ["held $env->{QUERY_STRING}"]] };
$apps{delayed} = sub {
    my ($env) = @_;
    return sub { my ($respond) = @_; $respond->([200, [@head], ["late $env->{QUERY_STRING}"]]) };
};
$apps{cleanup} = sub {
    my ($env) = @_;
    my @much = (1) x 50;
    push @{ $env->{'psgix.cleanup.handlers'} }, sub { my ($same) = @_; push @much, $same->{QUERY_STRING}; delete $same->{PATH_INFO} };
    return [200, [@head], ["cleaned $env->{QUERY_STRING}"]];
};
$apps{unread}  = sub { return [200, [@head], ['not read']] };
$apps{dies}    = sub { my ($env) = @_; local $env->{PATH_INFO} = 'lost'; die "not today\n" };
$apps{throws}  = sub { my ($env) = @_; die bless { text => 'not today', env => $env }, 'My::Exception' };
$apps{strays}  = sub { my $text = 'x' x 5000; my $where = pack 'P', $text; undef $text; my $freed = unpack 'P100', $where; return [200, [], ['read']] };
$apps{pid}     = sub { return [200, [@head], [$$]] };
$apps{nothing} = sub { return };
$apps{loses}   = sub { my $circle; $circle = \$circle; return [200, [], ['lost']] };

sub {
    my ($env) = @_;
    my ($name) = $env->{PATH_INFO} =~ m{\A/(\w+)};
    return $apps{ $name // '' }->($env);
};
PERL

my $FILE_SIZE = 300_000;

# A server with one worker and that application; options as those of BladePSGI::Test::prepare.
sub start_mix {
    my (%o) = @_;
    my $server = BladePSGI::Test->prepare(
        app     => $APP,
        workers => 1,
        options => ['--access-log=/dev/null', '--http=http.sock'],
        %o,
        env     => { BLADEPSGI_TEST_APPS => $APPS, BLADEPSGI_BENCH_FILE => 'served.bin', %{ $o{env} || {} } },
    );
    write_text($server->folder . '/served.bin', substr pack('C*', 0 .. 250) x 1200, 0, $FILE_SIZE);
    $server->launch;
    $server->wait_ready or BAIL_OUT('no server: ' . $server->log);
    return $server;
}

# What the kinds are, how many of a thousand requests, and what the generator is told; `$page` is the text of a failure. Those of a stage run at the same time; kept
# connections have one to themselves, as a worker keeps one only while nobody else waits.
sub mix {
    my ($page) = @_;
    my @fails = ('--status=500', "--expect=$page");
    return (
        [
            [hello      => 150, '--uri=/hello?n=%n',            '--expect=Hello, World!'],
            [env        => 100, '--uri=/env/path?n=%n',         '--expect=GET /env/path n=%n www.example.org 1024'],
            [middleware => 100, '--uri=/middleware/path?n=%n',  '--expect=GET /middleware/path %n 1'],
            [held       => 50,  '--uri=/held?n=%n',             '--expect=held n=%n'],
            [post       => 60,  '--uri=/length', '--body=16384',  '--expect=16384'],
            [upload     => 10,  '--uri=/length', '--body=300000', '--expect=300000'],
            [unread     => 20,  '--uri=/unread', '--body=16384',  '--expect=not read'],
            [stream     => 60,  '--uri=/stream',                '--expect-pattern=10240'],
            [string     => 40,  '--uri=/string',                '--expect-pattern=102400'],
            [file       => 30,  '--uri=/file',                  "--expect-pattern=$FILE_SIZE"],
            [delayed    => 60,  '--uri=/delayed?n=%n',          '--expect=late n=%n'],
            [cleanup    => 50,  '--uri=/cleanup?n=%n',          '--expect=cleaned n=%n'],
            [dies       => 10,  '--uri=/dies',    @fails],
            [throws     => 10,  '--uri=/throws',  @fails],
            [nothing    => 10,  '--uri=/nothing', @fails],
            [http       => 40,  '--uri=/env/path?n=%n', '--expect=GET /env/path n=%n www.example.org 1024', '--http'],
        ],
        [[kept             => 100, '--uri=/hello?n=%n', '--expect=Hello, World!', '--keep']],
        [['kept, POST'     => 30,  '--uri=/length', '--body=16384', '--expect=16384', '--keep']],
        [['kept HTTP'      => 40,  '--uri=/held?n=%n', '--expect=held n=%n', '--keep', '--http']],
        [['kept HTTP POST' => 30,  '--uri=/length', '--body=16384', '--expect=16384', '--keep', '--http']],
    );
}

# Sends them; returns how many there were, or dies when one was not answered as it has to be.
sub send_mix {
    my ($server, $total, @stages) = @_;
    my $sent = 0;
    for my $stage (@stages) {
        my @running;
        for my $kind (@$stage) {
            my ($name, $share, @options) = @$kind;
            my $socket = (grep { $_ eq '--http' } @options) ? $server->folder . '/http.sock' : $server->socket;
            my $count  = int($total * $share / 1000) || 1;
            open my $out, '-|', generator(), "--unix=$socket", '--connections=1', "--requests=$count", @options or die generator() . ": $!";
            push @running, [$name, $count, $out];
        }
        for (@running) {
            my ($name, $count, $out) = @$_;
            my $text = do { local $/; <$out> };
            my $said = close $out && eval { JSON::PP->new->decode($text) };
            die "$name: $text" if !$said || $said->{requests} != $count;
            $sent += $count;
        }
    }
    return $sent;
}

1;
