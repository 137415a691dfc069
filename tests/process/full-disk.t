# A disk that is full, under the log, the access log, the spool directory or the pid file: the server serves, says so, does not spin, and
# goes on by itself when there is room again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use File::Temp ();
use POSIX ();
use Test::More;
use Time::HiRes ();

# A disk of its own, so many bytes large: a tmpfs. Undef when this user must not mount one.
my @mounted;

sub small_disk {
    my ($bytes) = @_;
    my $at = File::Temp::tempdir('disk-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    return undef unless as_root() && !system "mount -t tmpfs -o size=$bytes,mode=1777 small-disk '$at' 2>/dev/null";
    push @mounted, $at;
    return $at;
}

my $owner = $$;
END {
    if ($$ == $owner) {
        my $status = $?;
        system 'umount', '--lazy', $_ for @mounted;
        $? = $status;
    }
}

sub fill {
    my ($disk) = @_;
    open my $out, '>>', "$disk/filler" or die "filler: $!";
    while (syswrite $out, "\0" x 1024) { }
    $!{ENOSPC} or die "not full, but $!";
    return;
}

sub make_room { my ($disk) = @_; return unlink "$disk/filler" }

# A second way to a file that takes nothing, for any user: it must not grow (EFBIG instead of ENOSPC).
sub limit_files {
    my ($pid, $size) = @_;
    system('prlimit', "--pid=$pid", "--fsize=$size:") == 0 or die "prlimit: $?";
    return;
}

sub cpu_seconds {
    my ($pid) = @_;
    my @field = split ' ', read_text("/proc/$pid/stat") =~ s/\A.*\) //sr;
    return ($field[11] + $field[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

sub lines { my ($text, $pattern) = @_; return scalar(() = $text =~ /$pattern/g) }

my $app = <<'PSGI';
my $line = 'x' x 1000;
sub {
    my ($env) = @_;
    my ($n) = $env->{PATH_INFO} =~ m{\A/(\d+)};
    print STDERR "<$_ $line $_>\n" for 1 .. $n // 0;
    return [200, [], ['ok']] unless $env->{CONTENT_LENGTH};
    my ($size, $n_read) = (0);
    $size += $n_read while $n_read = $env->{'psgi.input'}->read(my $buffer, 65536);
    return [200, [], [$size]];
};
PSGI

my $body = 'b' x 300_000;

sub test_spool {
    my (%o) = @_;
    my $server = BladePSGI::Test->prepare(workers => 1, app => $app, options => [ '--input=spool', '--input-memory=1000' ]);
    push @{ $server->{options} }, '--spool-directory=' . ($o{disk} // $server->folder);
    $server->launch;
    $server->wait_ready or return fail 'ready';
    my ($pid) = $server->worker_pids;
    is $server->post('/', $body)->{body}, 300_000, 'with room, a body is stored';
    is $server->get('/')->{body}, 'ok', 'and its room is given back before the next request';
    $o{full}->($pid);
    my $from   = $server->log_size;
    my $start  = Time::HiRes::time();
    my @status = map { $server->post("/$_", $body)->{status} } 1 .. 30;
    my $took   = Time::HiRes::time() - $start;
    is_deeply \@status, [ (507) x 30 ], 'without, each is answered 507';
    my $log = $server->wait_log(qr/ERROR: .*POST \/1 .*cannot store request body in .*\($o{error}\)/, 5, $from);
    ok $log, 'and the log says where and why';
    cmp_ok lines($server->log, qr/cannot store/), '<=', 1 + $took, 'at most once a second';
    is $server->get('/')->{body}, 'ok', 'requests without a body are answered';
    is $server->post('/', 'x' x 900)->{body}, 900, 'and those with one that fits into memory';
    is $server->post('/', $body, keep => 1)->{status}, 507, 'on a connection that is to be kept, too';
    $o{room}->($pid);
    is $server->post('/', $body)->{body}, 300_000, 'with room again, the next one is stored';
    is_deeply [ $server->worker_pids ], [$pid], 'by the same worker';
    is $server->stop, 'exit 0', 'stops';
    return;
}

subtest 'the spool directory, on a full disk' => sub {
    my $disk = small_disk('400k') or plan skip_all => 'only root can mount a small disk';
    test_spool(disk => $disk, error => 'ENOSPC', full => sub { fill($disk) }, room => sub { make_room($disk) });
    is_deeply [ glob "$disk/*" ], [], 'nothing is left there';
};

subtest 'the spool directory, when files must not be large' => sub {
    test_spool(error => 'EFBIG', full => sub { limit_files($_[0], 100_000) }, room => sub { limit_files($_[0], 'unlimited') });
};

# The log as a shell makes it: 2> FILE.
sub test_log {
    my ($server, %o) = @_;
    $server->launch;
    $server->wait_ready or return fail 'ready';
    my $pid = $server->pid;
    $server->get('/5');
    ok $server->wait_log(qr/<5 x+ 5>\n/), 'with room, lines arrive';
    $o{full}->($pid);
    my $cpu    = cpu_seconds($pid);
    my $served = 0;
    $served += $server->get('/50')->{body} eq 'ok' for 1 .. 40;
    is $served, 40, 'without: two megabytes of lines, and every request is answered';
    my ($worker) = $server->worker_pids;
    kill KILL => $worker;
    ok wait_for { $server->worker_pids == 2 && !grep { $_ == $worker } $server->worker_pids }, 'a dead worker is replaced';
    like $server->stats_text, qr/\A\d+\n/, 'statistics are answered';
    my $start = cpu_seconds($pid);
    select undef, undef, undef, 1.5;    # not to wait for something: to see that nothing happens
    cmp_ok cpu_seconds($pid) - $start, '<', 0.2, 'it does not try in a busy loop';
    cmp_ok $start - $cpu, '<', 5 * $BladePSGI::Test::PATIENCE, 'and writing in vain was not dear';
    unlike $server->log, qr/signal 9/, 'nothing can be said meanwhile';
    $o{room}->($pid);
    my $log = $server->wait_log(qr/WARNING: .*the log could not be written for \d+\.\d s: .*\($o{error}\); (\d+) lines were dropped/);
    ok $log, 'with room again, it says for how long, why, and how many lines are lost' or return;
    my ($dropped) = $log =~ /(\d+) lines were dropped/;
    like $log, qr/worker \d \(pid $worker\) died unexpectedly: signal 9/, 'the lines of the server itself are there';
    is lines($log, qr/<\d+ x{1000} \d+>\n/) + $dropped, 5 + 40 * 50, 'of the others, each is there or counted';
    my @odd = grep { !/\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+:  / } split /\n/, $log;
    is_deeply [ map { substr $_, 0, 100 } @odd ], [], 'and every line is whole';
    $server->get('/5');
    ok wait_for { lines($server->log, qr/<5 x+ 5>\n/) >= 2 }, 'new ones arrive';
    is $server->stop, 'exit 0', 'stops';
    like $server->log, qr/stopped\n\z/, 'and says so';
    return;
}

subtest 'the log, on a full disk' => sub {
    my $disk = small_disk('2m') or plan skip_all => 'only root can mount a small disk';
    my $server = BladePSGI::Test->prepare(workers => 2, app => $app);
    $server->{log} = "$disk/server.log";
    test_log($server, error => 'ENOSPC', full => sub { fill($disk) }, room => sub { make_room($disk) });
};

subtest 'the log, when files must not be large' => sub {
    my $server = BladePSGI::Test->prepare(workers => 2, app => $app);
    # What is printed here may be cut anywhere: in the middle of a line.
    test_log($server, error => 'EFBIG', full => sub { limit_files($_[0], $server->log_size + 777) }, room => sub { limit_files($_[0], 'unlimited') });
};

subtest '2> /dev/full' => sub {
    my $server = BladePSGI::Test->prepare(workers => 1, app => $app);
    $server->{log} = '/dev/full';
    $server->launch;
    $server->{log} = $server->folder . '/none';    # the device can be read without end
    ok wait_for { -S $server->socket }, 'it starts';
    is $server->get('/50')->{body}, 'ok', 'serves' for 1 .. 10;
    is $server->stop, 'exit 0', 'and stops';
};

sub test_access_log {
    my ($server, %o) = @_;
    $server->launch;
    $server->wait_ready or return fail 'ready';
    my $pid  = $server->pid;
    my $path = $o{path};
    $server->get("/?first=1");
    ok wait_for { read_text($path) =~ /first=1/ }, 'with room, lines arrive';
    $o{full}->($pid);
    my $sent = 0;
    my $fills = 'f' x 4000;
    for my $n (1 .. 200) { $server->get("/?n=$n&$fills")->{body} eq 'ok' and $sent++ }
    is $sent, 200, 'without, requests are answered';
    my $log = $server->wait_log(qr/ERROR: .*cannot write the access log.*\($o{error}\); .*every second/);
    ok $log, 'the log says that the other one cannot be written, and why';
    is lines($log, qr/cannot write the access log/), 1, 'once';
    my $start = cpu_seconds($pid);
    select undef, undef, undef, 1.5;    # not to wait for something: to see that nothing happens
    cmp_ok cpu_seconds($pid) - $start, '<', 0.2, 'it is not tried in a busy loop';
    $o{room}->($pid);
    $log = $server->wait_log(qr/WARNING: .*the access log.* could not be written for \d+\.\d s: .*\($o{error}\); (\d+) lines were dropped/);
    ok $log, 'with room again, the log says for how long, why, and how many lines are lost' or return;
    my ($dropped) = $log =~ /(\d+) lines were dropped/;
    my $text = read_text($path);
    is lines($text, qr/\?n=\d+&f{4000} /) + $dropped, 200, 'each line is there or counted';
    my @odd = grep { !/\A\S+ \S+ \S+ \[.*" 200 \d+ "[^"]*" "[^"]*"\z/ } split /\n/, $text;
    is_deeply [ map { substr $_, 0, 100 } @odd ], [], 'all are whole, and nothing else is among them';
    $server->get('/?last=1');
    ok wait_for { read_text($path) =~ /last=1/ }, 'new ones arrive';
    is $server->stop, 'exit 0', 'stops';
    return;
}

subtest 'the access log, on a full disk' => sub {
    my $disk = small_disk('64k') or plan skip_all => 'only root can mount a small disk';
    my $path = "$disk/access.log";
    my $server = BladePSGI::Test->prepare(workers => 1, app => $app, options => ["--access-log=$path"]);
    test_access_log($server, path => $path, error => 'ENOSPC', full => sub { fill($disk) }, room => sub {
        make_room($disk);
        system('mount', '-o', 'remount,size=8m', $disk) == 0 or die 'remount';
    });
};

subtest 'the access log, when files must not be large' => sub {
    my $server = BladePSGI::Test->prepare(workers => 1, app => $app);
    my $path   = $server->folder . '/access.log';
    push @{ $server->{options} }, "--access-log=$path";
    # The server's own log is smaller than that.
    test_access_log($server, path => $path, error => 'EFBIG', full => sub { limit_files($_[0], 30_001) }, room => sub { limit_files($_[0], 'unlimited') });
};

subtest 'the pid file' => sub {
    my $disk = small_disk('64k') or plan skip_all => 'only root can mount a small disk';
    write_text("$disk/app.pid", "4711\n");
    fill($disk);
    my $server = BladePSGI::Test->start(ready => 0, workers => 1, options => ["--pidfile=$disk/app.pid"]);
    is $server->wait_exit, 'exit 1', 'that cannot be written: the start fails';
    like $server->log, qr{FATAL: .*cannot write pid file '\Q$disk\E/app\.pid': No space left on device \(ENOSPC\)}, 'with the reason';
    is read_text("$disk/app.pid"), "4711\n", 'what was there is there';
    make_room($disk);
    is_deeply [ glob "$disk/*" ], ["$disk/app.pid"], 'and nothing else';
};

subtest 'sockets' => sub {
    my $disk = small_disk('64k,nr_inodes=1') or plan skip_all => 'only root can mount a small disk';
    my $server = BladePSGI::Test->start(ready => 0, workers => 1, socket => "$disk/app.sock");
    is $server->wait_exit, 'exit 1', 'that cannot be made: the start fails';
    like $server->log, qr{FATAL: .*\Q$disk\E/app\.sock.*\(ENOSPC\)}, 'with the reason';
};

done_testing;
