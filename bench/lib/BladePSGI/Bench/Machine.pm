package BladePSGI::Bench::Machine;

# What figures depend on besides the program: the machine, and the versions of what is measured beside it.

use strict;
use warnings;

use POSIX ();

sub _read {
    my ($path) = @_;
    open my $in, '<', $path or return '';
    local $/;
    my $text = readline $in;
    return defined $text ? $text : '';
}

# The first line of what a program prints; '' when there is none.
sub _first_line {
    my (@command) = @_;
    my $pid = open my $out, '-|';
    return '' if !defined $pid;
    if (!$pid) {
        open STDERR, '>', '/dev/null';
        { no warnings 'exec'; exec @command; }
        POSIX::_exit(127);
    }
    my $line = readline $out;
    close $out;
    $line = '' if !defined $line;
    chomp $line;
    return $line;
}

sub describe {
    my $cpus = _read('/proc/cpuinfo');
    my ($model)  = $cpus =~ /^model name\s*:\s*(.+)$/m;
    my ($memory) = _read('/proc/meminfo') =~ /^MemTotal:\s+(\d+) kB/m;
    my ($system) = _read('/etc/os-release') =~ /^PRETTY_NAME="?([^"\n]+)/m;
    my $cores    = () = $cpus =~ /^processor\s*:/mg;
    return {
        cpu        => $model || 'unknown',
        cores      => $cores,
        memory_mib => int(($memory || 0) / 1024),
        kernel     => (POSIX::uname())[2],
        system     => $system || 'unknown',
    };
}

sub versions {
    my %versions = (perl => sprintf('%vd', $^V), compiler => _first_line(qw(c++ --version)));
    for my $package (qw(valgrind uwsgi-core libplack-perl libfcgi-perl libfcgi-procmanager-perl starman libc6)) {
        $versions{$package} = _first_line('dpkg-query', '-W', '-f=${Version}\n', $package) || 'none';
    }
    return \%versions;
}

sub commit {
    my ($root) = @_;
    my $commit = _first_line('git', '-C', $root, 'rev-parse', '--short=10', 'HEAD') || return 'unknown';
    $commit .= '-changed' if length _first_line('git', '-C', $root, 'status', '--porcelain', '--untracked-files=no');
    return $commit;
}

sub load_average { return (split ' ', _read('/proc/loadavg'))[0] }

1;
