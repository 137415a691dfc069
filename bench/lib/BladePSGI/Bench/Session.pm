package BladePSGI::Bench::Session;

# A server that is measured: started in a session of its own, which every process of it stays in whatever becomes its parent and
# whatever it calls itself. What it costs is read from /proc, over all of them.
#
#   my $session = BladePSGI::Bench::Session->start(command => [...], log => $path, env => {...});
#   my $before = $session->cpu;  ...;  my $used = $session->cpu - $before;    # nanoseconds
#   $session->stop;
#
# Nothing else is ever signalled, and nothing of it is left behind.

use strict;
use warnings;

use POSIX ':sys_wait_h';
use Time::HiRes qw(sleep time);

my @running;
my $owner     = $$;
my $tick_rate = POSIX::sysconf(POSIX::_SC_CLK_TCK());

sub start {
    my ($class, %o) = @_;
    my $pid = fork;
    die "cannot fork: $!\n" if !defined $pid;
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(HUP INT TERM);
        POSIX::setsid();
        _die_with_parent();
        open STDIN,  '<',  '/dev/null' or POSIX::_exit(126);
        open STDOUT, '>>', $o{log}     or POSIX::_exit(126);
        open STDERR, '>&', \*STDOUT    or POSIX::_exit(126);
        local %ENV = (%ENV, %{ $o{env} || {} });
        { no warnings 'exec'; exec { $o{command}[0] } @{ $o{command} }; }
        print STDERR "cannot run $o{command}[0]: $!\n";
        POSIX::_exit(127);
    }
    my $self = bless { pid => $pid, log => $o{log} }, $class;
    push @running, $self;
    return $self;
}

# A benchmark that is killed takes what it started with it (prctl PR_SET_PDEATHSIG).
sub _die_with_parent {
    my ($number) = map { $_->{(POSIX::uname())[4]} } { x86_64 => 157, aarch64 => 167, riscv64 => 167 };
    syscall $number, 1, POSIX::SIGTERM(), 0, 0, 0 if $number;
    return;
}

sub pid { return $_[0]{pid} }

sub is_running {
    my ($self) = @_;
    return 0 if $self->{ended};
    $self->{ended} = 1 if waitpid($self->{pid}, WNOHANG) == $self->{pid};
    return !$self->{ended};
}

sub log_text {
    my ($self) = @_;
    return _read($self->{log});
}

sub _read {
    my ($path) = @_;
    open my $in, '<', $path or return '';
    local $/;
    my $text = readline $in;
    return defined $text ? $text : '';
}

# The fields of /proc/PID/stat behind the name, which may contain anything: [0] is the state.
sub _stat {
    my ($pid) = @_;
    my $text = _read("/proc/$pid/stat");
    return $text =~ /\A.*\)\s+(.*)/s ? [split ' ', $1] : undef;
}

# Zombies, too: their time counts.
sub pids {
    my ($self) = @_;
    opendir my $proc, '/proc' or die "cannot read /proc: $!\n";
    my @found;
    for my $pid (grep { /\A\d+\z/ } readdir $proc) {
        my $stat = _stat($pid) or next;
        push @found, $pid if $stat->[3] == $self->{pid};
    }
    return sort { $a <=> $b } @found;
}

sub live_pids {
    my ($self) = @_;
    return grep { my $stat = _stat($_); $stat && $stat->[0] ne 'Z' } $self->pids;
}

# Kills a process of it; when this returns, that one runs no more code, though it may take a while to be gone.
sub kill_process {
    my ($self, $pid) = @_;
    my $is_exiting = 0x4;    # PF_EXITING
    kill KILL => $pid;
    my $deadline = time + 10;
    while (my $stat = _stat($pid)) {
        return if $stat->[0] =~ /[ZX]/ || $stat->[6] & $is_exiting;
        die "process $pid does not die\n" if time > $deadline;
    }
    return;
}

# Nanoseconds on a CPU of each process, its threads together.
sub cpu_by_process {
    my ($self) = @_;
    my %used;
    for my $pid ($self->pids) {
        my $sum = 0;
        $sum += (split ' ', _read($_))[0] || 0 for glob "/proc/$pid/task/*/schedstat";
        $used{$pid} = $sum;
    }
    return \%used;
}

# Of all together since they exist, those included that have ended and were waited for: their time is in their parents' figures for
# children. (In ticks; but it does not move unless somebody ends.)
sub cpu {
    my ($self) = @_;
    my $used = $self->cpu_by_process;
    my $sum  = 0;
    for my $pid (keys %$used) {
        my $stat = _stat($pid) or next;
        $sum += $used->{$pid} + ($stat->[13] + $stat->[14]) * 1e9 / $tick_rate;
    }
    return $sum;
}

# The processes that did most of the work between two looks at cpu_by_process.
sub busiest {
    my ($self, $before, $count) = @_;
    my $after = $self->cpu_by_process;
    my %grown = map { $_ => $after->{$_} - ($before->{$_} || 0) } keys %$after;
    my @sorted = sort { $grown{$b} <=> $grown{$a} } keys %grown;
    splice @sorted, $count if @sorted > $count;
    return sort { $a <=> $b } @sorted;
}

# KiB of one line, or of lines, of /proc/PID/smaps_rollup.
sub _rollup {
    my ($pid, @names) = @_;
    my $text = _read("/proc/$pid/smaps_rollup");
    my $sum  = 0;
    for my $name (@names) {
        $sum += $1 if $text =~ /^\Q$name\E:\s+(\d+) kB/m;
    }
    return $sum;
}

# MiB of the whole server; pages that processes share count once.
sub pss {
    my ($self) = @_;
    my $sum = 0;
    $sum += _rollup($_, 'Pss') for $self->pids;
    return $sum / 1024;
}

# MiB that no other process has.
sub private_memory {
    my ($self, $pid) = @_;
    return _rollup($pid, 'Private_Clean', 'Private_Dirty') / 1024;
}

# MiB, the most that a process has had since the last reset.
sub reset_peak {
    my ($self, $pid) = @_;
    open my $out, '>', "/proc/$pid/clear_refs" or die "cannot reset the peak memory of process $pid: $!\n";
    print {$out} '5';
    close $out or die "cannot reset the peak memory of process $pid: $!\n";
    return;
}

sub peak {
    my ($self, $pid) = @_;
    return _read("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m ? $1 / 1024 : 0;
}

# Bytes that all of them together have sent to a disk.
sub written {
    my ($self) = @_;
    my $sum = 0;
    for my $pid ($self->pids) {
        $sum += $1 if _read("/proc/$pid/io") =~ /^write_bytes: (\d+)/m;
    }
    return $sum;
}

# Asks, asks again, then makes them.
sub stop {
    my ($self) = @_;
    for my $signal (qw(TERM TERM KILL)) {
        last if !$self->live_pids && !$self->is_running;
        if   ($signal eq 'KILL') { kill $signal => $self->live_pids }
        elsif ($self->is_running) { kill $signal => $self->{pid} }
        my $deadline = time + 5;
        sleep 0.02 while ($self->is_running || $self->live_pids) && time < $deadline;
    }
    @running = grep { $_ != $self } @running;
    return;
}

END {
    if ($$ == $owner) {
        my $status = $?;
        $_->stop for @running;
        $? = $status;
    }
}

1;
