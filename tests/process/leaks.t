# Requests of every kind, one after another and among each other, leave nothing behind: what the processes of a server have for themselves
# does not grow with the number of requests. The long tier sends a million; the short one enough to see a scalar lost in each.

use strict;
use warnings;

use Cwd ();
use File::Basename qw(dirname);
use FindBin;
use JSON::PP ();
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use Test::More;

my $apps      = Cwd::abs_path("$FindBin::Bin/../../bench/apps");
my $generator = dirname(bladepsgi_binary()) . '/bin/bladepsgi-load';
plan skip_all => 'figures of memory mean nothing under a sanitizer' if is_sanitized();
plan skip_all => "needs the load generator, which is built with the tests: $generator" unless -x $generator;

# The limit is in bytes a request; an empty scalar of Perl has 24. Few requests show little: each page that is first touched late in the
# run is half a byte a request.
my ($requests, $rounds, $limit) = is_long() ? (1_000_000, 100, 1) : (20_000, 20, 6);

my $app = <<'PERL';
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
$apps{nothing} = sub { return };
$apps{loses}   = sub { my $circle; $circle = \$circle; return [200, [], ['lost']] };

sub {
    my ($env) = @_;
    my ($name) = $env->{PATH_INFO} =~ m{\A/(\w+)};
    return $apps{ $name // '' }->($env);
};
PERL

my $file_size = 300_000;

sub start {
    my $server = BladePSGI::Test->prepare(
        app     => $app,
        workers => 1,
        options => ['--access-log=/dev/null', '--http=http.sock'],
        env     => { BLADEPSGI_TEST_APPS => $apps, BLADEPSGI_BENCH_FILE => 'served.bin' },
    );
    write_text($server->folder . '/served.bin', substr pack('C*', 0 .. 250) x 1200, 0, $file_size);
    $server->launch;
    $server->wait_ready or BAIL_OUT('no server: ' . $server->log);
    return $server;
}

# What the kinds are, how many of a thousand requests, and what the generator is told. Those of a stage run at the same time; kept
# connections have one to themselves, as a worker keeps one only while nobody else waits.
sub stages {
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
            [file       => 30,  '--uri=/file',                  "--expect-pattern=$file_size"],
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
sub send_round {
    my ($server, $total, @stages) = @_;
    my $sent = 0;
    for my $stage (@stages) {
        my @running;
        for my $kind (@$stage) {
            my ($name, $share, @options) = @$kind;
            my $socket = (grep { $_ eq '--http' } @options) ? $server->folder . '/http.sock' : $server->socket;
            my $count  = int($total * $share / 1000) || 1;
            open my $out, '-|', $generator, "--unix=$socket", '--connections=1', "--requests=$count", @options or die "$generator: $!";
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

# Bytes that a process has for itself: no file's, no sibling's.
sub own_memory {
    my ($pid) = @_;
    my $text = read_text("/proc/$pid/smaps_rollup");
    my $sum  = 0;
    $sum += $1 * 1024 while $text =~ /^(?:Anonymous|Swap):\s+(\d+) kB/mg;
    return $sum;
}

# Bytes a request: the slope of the straight line with the smallest squares.
sub slope {
    my (@points) = @_;
    my ($x, $y) = map { my $i = $_; my $s = 0; $s += $_->[$i] for @points; $s / @points } 0, 1;
    my ($above, $below) = (0, 0);
    for (@points) {
        $above += ($_->[0] - $x) * ($_->[1] - $y);
        $below += ($_->[0] - $x)**2;
    }
    return $above / $below;
}

# Sends so many requests in so many rounds; returns { role => bytes a request } over the last 80 %.
sub growth {
    my ($server, $total, $count, @stages) = @_;
    my %pid = (worker => $server->pid_of('worker 0'), map { $_ => $server->pid_of($_) } qw(overseer monitoring));
    my %samples;
    my $sent = 0;
    for (1 .. $count) {
        $sent += send_round($server, $total / $count, @stages);
        $server->stats;
        push @{ $samples{$_} }, [$sent, own_memory($pid{$_})] for keys %pid;
    }
    my %slope;
    for my $role (sort keys %samples) {
        my @last = @{ $samples{$role} };
        splice @last, 0, @last * 0.2;
        $slope{$role} = slope(@last);
        note sprintf '%s: %.2f bytes a request; %d KiB at first, %d KiB at the end', $role, $slope{$role}, map { $_->[1] / 1024 } $samples{$role}[0], $last[-1];
    }
    is $server->pid_of('worker 0'), $pid{worker}, "$sent requests, all by the same worker";
    return \%slope;
}

my $server = start();
plan skip_all => 'the memory of a worker cannot be looked into here' unless own_memory($server->pid_of('worker 0'));
my $page = $server->get('/dies')->{body};

my $slope = growth($server, $requests, $rounds, stages($page));
cmp_ok $slope->{$_}, '<', $limit, "$_: grows by less than $limit a request" for sort keys %$slope;
is $server->stop, 'exit 0', 'stops';

# Would it be seen?
$server = start();
$slope = growth($server, 4000, 20, [[loses => 1000, '--uri=/loses', '--expect=lost']]);
cmp_ok $slope->{worker}, '>', 12, 'an application that loses a scalar in each request is noticed';
is $server->stop, 'exit 0', 'stops';

done_testing;
