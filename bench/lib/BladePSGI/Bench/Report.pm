package BladePSGI::Bench::Report;

# What a results file says, in words: the table, what the server is held to, and both as Markdown. A ratio is that of one round; the
# figure of several rounds is their median, beside the least and the most.

use strict;
use warnings;
use utf8;

sub summary {
    my @sorted = sort { $a <=> $b } grep { defined } @_;
    return undef if !@sorted;
    my $middle = @sorted % 2 ? $sorted[ @sorted / 2 ] : ($sorted[ @sorted / 2 - 1 ] + $sorted[ @sorted / 2 ]) / 2;
    return { median => $middle, least => $sorted[0], most => $sorted[-1] };
}

# Entry of a workload by the name of its server or its label.
sub entry {
    my ($results, $workload, $name) = @_;
    my ($found) = grep { $_->{name} eq $workload } @{ $results->{workloads} };
    return undef if !$found;
    my ($entry) = grep { $_->{label} eq $name } @{ $found->{entries} };
    ($entry) = grep { $_->{server} eq $name } @{ $found->{entries} } if !$entry;
    return $entry;
}

sub ratio {
    my ($one, $other, $figure) = @_;
    return undef if !$one || !$other;
    my @ratios;
    for my $round (0 .. $#{ $one->{$figure} }) {
        my ($over, $under) = ($one->{$figure}[$round], $other->{$figure}[$round]);
        push @ratios, $over / $under if defined $over && $under;
    }
    return summary(@ratios);
}

sub number {
    my ($value) = @_;
    return '' if !defined $value;
    return '0' if $value == 0;
    return sprintf '%.0f', $value if $value >= 1000;
    return sprintf '%.1f', $value if $value >= 10;
    return sprintf '%.2f', $value;
}

sub with_spread {
    my ($summary) = @_;
    return '' if !$summary;
    return sprintf '%s (%s–%s)', map { number($summary->{$_}) } qw(median least most);
}

my @COLUMNS = ('workload', 'server', 'CPU µs/request', 'requests/s', 'p50 µs', 'p99 µs', 'PSS MiB', '÷ floor', '÷ uWSGI');

sub rows {
    my ($results) = @_;
    my @rows;
    for my $workload (@{ $results->{workloads} }) {
        my $title = $workload->{title};
        for my $entry (@{ $workload->{entries} }) {
            my @ratios = map {
                my $other = entry($results, $workload->{name}, $_);
                $other && $other != $entry ? with_spread(ratio($entry, $other, 'cpu_us')) : '';
            } qw(floor uwsgi);
            push @rows, [
                $title, $entry->{label}, with_spread(summary(@{ $entry->{cpu_us} })),
                (map { my $summary = summary(@{ $entry->{$_} }); $summary ? number($summary->{median}) : '' }
                        qw(requests_per_second p50_us p99_us pss_mib)),
                @ratios,
            ];
            $title = '';
        }
    }
    return @rows;
}

sub memory_rows {
    my ($results) = @_;
    my %titles = (bladepsgi => 'BladePSGI', uwsgi => 'uWSGI', plack => 'Plack::Handler::FCGI');
    my @rows;
    for my $server (qw(bladepsgi uwsgi plack)) {
        my ($memory, $spool, $replacement) = map { $results->{$_} ? $results->{$_}{$server} : undef } qw(memory spool replacement);
        next if !$memory && !$spool && !$replacement;
        push @rows, [
            $titles{$server},
            $memory ? (number($memory->{large_pss_mib}), number(summary(@{ $memory->{private_mib} })->{most}), number($memory->{small_pss_mib})) : ('', '', ''),
            $spool ? (sprintf('%.1f', $spool->{peak_mib}), sprintf('%.1f', $spool->{growth_mib}), $spool->{written_bytes}) : ('', '', ''),
            $replacement ? with_spread(summary(@{ $replacement->{milliseconds} })) : '',
        ];
    }
    return @rows;
}

my @MEMORY_COLUMNS = (
    'server',
    'large: PSS MiB',
    'private per worker',
    'small: PSS MiB',
    '200 MB upload: peak MiB',
    'growth MiB',
    'bytes to disk',
    'replacement ms'
);

sub _text_table {
    my ($header, $left, @rows) = @_;
    my @widths = (0) x @$header;
    for my $row ($header, @rows) {
        for my $i (0 .. $#$row) { $widths[$i] = length $row->[$i] if length $row->[$i] > $widths[$i] }
    }
    my $text = '';
    for my $row ($header, @rows) {
        my $line = join '  ', map { sprintf $_ < $left ? "%-$widths[$_]s" : "%$widths[$_]s", $row->[$_] } 0 .. $#$row;
        $line =~ s/\s+\z//;
        $text .= "$line\n";
    }
    return $text;
}

sub table {
    my ($results) = @_;
    my $text = '';
    my @rows = rows($results);
    $text .= _text_table(\@COLUMNS, 2, @rows) if @rows;
    my @memory = memory_rows($results);
    $text .= "\n" . _text_table(\@MEMORY_COLUMNS, 1, @memory) if @memory;
    return $text;
}

# What the server is held to. Each: { title, value (a summary), limit, unit, ok }; without a value it was not measured.
sub targets {
    my ($results) = @_;
    my @targets;
    my $add = sub {
        my ($title, $value, $limit, $unit) = @_;
        push @targets, { title => $title, value => $value, limit => $limit, unit => $unit || '', ok => $value && $value->{median} <= $limit };
    };
    my $cpu = sub {
        my ($workload, $one, $other) = @_;
        return ratio(entry($results, $workload, $one), entry($results, $workload, $other), 'cpu_us');
    };
    my $p99 = sub {
        my ($workload, $one, $other) = @_;
        return ratio(entry($results, $workload, $one), entry($results, $workload, $other), 'p99_us');
    };
    $add->("$_: CPU against the floor", $cpu->($_, 'bladepsgi', 'floor'), 0.75) for qw(hello env);
    $add->('100 KB string: CPU against the floor', $cpu->('string', 'bladepsgi', 'floor'), 0.90);
    $add->("$_: CPU against uWSGI", $cpu->($_, 'bladepsgi', 'uwsgi'), 0.45) for qw(hello env);
    $add->("$_->[1]: CPU against uWSGI", $cpu->($_->[0], 'bladepsgi', 'uwsgi'), 0.75)
        for ['string', '100 KB string'], ['post', '16 KB POST'], ['stream', '10 × 1 KB stream'], ['file', '10 MB file handle'];
    $add->('2 kept connections: CPU against the floor on kept connections', $cpu->('kept', 'bladepsgi', 'floor'), 0.50);
    my @crowded = ('crowded', 'BladePSGI, kept', 'BladePSGI, fresh');
    $add->('8 kept connections on 2 workers: p99 against fresh ones', $p99->(@crowded), 1.5);
    $add->('8 kept connections on 2 workers: CPU against fresh ones', $cpu->(@crowded), 2.0);
    $add->('a dozen keys added to env: CPU against the same with its env held', $cpu->('middleware', 'BladePSGI', 'BladePSGI, env held'), 0.85);
    my @idle = ('idle', 'BladePSGI, with them', 'BladePSGI, without');
    $add->('1000 idle and 1000 half-sent connections: p99 against none', $p99->(@idle), 1.15);
    $add->('1000 idle and 1000 half-sent connections: CPU against none', $cpu->(@idle), 1.15);
    my ($memory, $spool, $replacement) = map { $results->{$_} && $results->{$_}{bladepsgi} } qw(memory spool replacement);
    $add->('application of 145 MB, 2 workers: PSS of the server', $memory && summary($memory->{large_pss_mib}), 156, 'MiB');
    $add->('application of 145 MB: private memory of a worker', $memory && _highest($memory->{private_mib}), 0.6, 'MiB');
    $add->('small application, 2 workers: PSS of the server', $memory && summary($memory->{small_pss_mib}), 8, 'MiB');
    $add->('200 MB upload: growth of a worker', $spool && summary($spool->{growth_mib}), 1, 'MiB');
    $add->('200 MB upload: written to disk', $spool && summary($spool->{written_bytes}), 0, 'bytes');
    $add->('a killed worker of the 145 MB application: until its replacement has answered',
        $replacement && summary(@{ $replacement->{milliseconds} }), 20, 'ms');
    return @targets;
}

# Each of them has to keep the limit.
sub _highest {
    my ($values) = @_;
    my $summary = summary(@$values) or return undef;
    return { %$summary, median => $summary->{most} };
}

sub _value {
    my ($target) = @_;
    my $value = $target->{value} or return '';
    my $text = $value->{least} == $value->{most} ? number($value->{median}) : with_spread($value);
    return $target->{unit} ? "$text $target->{unit}" : $text;
}

sub _limit {
    my ($target) = @_;
    return join ' ', '≤', $target->{limit}, $target->{unit} || ();
}

sub _verdict {
    my ($target) = @_;
    return !$target->{value} ? 'not measured' : $target->{ok} ? 'ok' : 'NOT MET';
}

# With `all` also what was not measured.
sub targets_text {
    my ($results, $all) = @_;
    my @targets = grep { $all || $_->{value} } targets($results);
    return '' if !@targets;
    return _text_table(['held to', 'limit', 'measured', ''], 4, map { [$_->{title}, _limit($_), _value($_), _verdict($_)] } @targets);
}

sub _markdown_table {
    my ($header, $left, @rows) = @_;
    my @lines = ($header, [map { $_ < $left ? '---' : '---:' } 0 .. $#$header], @rows);
    return join '', map { '| ' . join(' | ', @$_) . " |\n" } @lines;
}

# The first column of a workload's further lines is empty.
sub markdown {
    my ($results) = @_;
    my ($machine, $versions, $settings) = @$results{qw(machine versions settings)};
    my $text = sprintf "Commit %s, %s, `%s`: %d rounds of %s s, %d workers, %d clients.\n%s, %d cores, Linux %s, %s, Perl %s;"
        . " uWSGI %s, Plack %s, FCGI %s, Starman %s.\n\n",
        @$results{qw(commit date command)}, @$settings{qw(rounds seconds workers clients)},
        @$machine{qw(cpu cores kernel system)}, @$versions{qw(perl uwsgi-core libplack-perl libfcgi-perl starman)};
    $text .= _markdown_table(\@COLUMNS, 2, rows($results)) . "\n";
    my @memory = memory_rows($results);
    $text .= _markdown_table(\@MEMORY_COLUMNS, 1, @memory) . "\n" if @memory;
    $text .= _markdown_table(['held to', 'limit', 'measured', ''], 1, map { [$_->{title}, _limit($_), _value($_), _verdict($_)] } targets($results));
    return $text;
}

1;
