#!/usr/bin/perl
# The figures that are told are those that were measured.
use strict;
use warnings;
use utf8;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Test::More;

use lib abs_path(dirname(__FILE__)) . '/../lib';
use BladePSGI::Bench::Plot;
use BladePSGI::Bench::Report;

sub entry {
    my ($server, $label, @cpu) = @_;
    return {
        server => $server,
        label  => $label,
        cpu_us => \@cpu,
        map { $_ => [map { defined ? $_ * 10 : undef } @cpu] } qw(requests_per_second p50_us p99_us pss_mib),
    };
}

my $results = {
    commit    => 'abc',
    date      => 'today',
    command   => './dev bench',
    machine   => { cpu => 'A <fast> one', cores => 2, kernel => '6', system => 'Debian' },
    versions  => { perl => '5.36.0', map { $_ => '1' } qw(uwsgi-core libplack-perl libfcgi-perl starman) },
    settings  => { rounds => 3, seconds => 1, workers => 2, clients => 8 },
    workloads => [
        {
            name    => 'hello',
            title   => 'hello',
            entries => [entry('bladepsgi', 'BladePSGI', 10, 30, 12), entry('floor', 'floor', 20, 20, 20), entry('uwsgi', 'uWSGI', 40, 60, 24)],
        },
        {
            name    => 'crowded',
            title   => 'crowded',
            entries => [entry('bladepsgi', 'BladePSGI, kept', 10, 10, 10), entry('bladepsgi', 'BladePSGI, fresh', 5, 5, undef)],
        },
    ],
    memory => { bladepsgi => { large_pss_mib => 150, private_mib => [0.5, 0.7], small_pss_mib => 8 } },
};

is_deeply(BladePSGI::Bench::Report::summary(3, 1, undef, 2, 10), { median => 2.5, least => 1, most => 10 }, 'median of what there is');
is(BladePSGI::Bench::Report::summary(undef), undef, 'nothing of nothing');

my ($ours, $floor) = map { BladePSGI::Bench::Report::entry($results, 'hello', $_) } qw(bladepsgi floor);
is_deeply(BladePSGI::Bench::Report::ratio($ours, $floor, 'cpu_us'), { median => 0.6, least => 0.5, most => 1.5 }, 'a ratio is taken in each round');

my %targets = map { $_->{title} => $_ } BladePSGI::Bench::Report::targets($results);
my %ok      = map { $_ => $targets{$_}{ok} ? 1 : 0 } keys %targets;
is($ok{'hello: CPU against the floor'},                                1, '0.6 against the floor');
is($ok{'hello: CPU against uWSGI'},                                    0, '0.5 against uWSGI');
is($ok{'8 kept connections on 2 workers: CPU against fresh ones'},     1, 'twice is not more than twice');
is($ok{'application of 145 MB: private memory of a worker'},           0, 'each worker has to keep the limit');
is($ok{'small application, 2 workers: PSS of the server'},             1, 'as much as the limit is not more');
is($targets{'env: CPU against the floor'}{value},                      undef, 'not measured');

my $text = BladePSGI::Bench::Report::targets_text($results, 1);
like($text, qr/^hello: CPU against the floor +≤ 0\.75 +0\.60 \(0\.50–1\.50\) +ok$/m,     'met');
like($text, qr/^hello: CPU against uWSGI +≤ 0\.45 +0\.50 \(0\.25–0\.50\) +NOT MET$/m,    'not met');
like($text, qr/^env: CPU against the floor +≤ 0\.75 +not measured$/m,                    'not measured');
unlike(BladePSGI::Bench::Report::targets_text($results, 0), qr/not measured/, 'only what was measured');

like(BladePSGI::Bench::Report::table($results), qr/^hello +BladePSGI +12\.0 \(10\.0–30\.0\) +120\.0 /m, 'a line of the table');
like(BladePSGI::Bench::Report::markdown($results), qr/^\| hello \| BladePSGI \| 12\.0 \(10\.0–30\.0\) \| 120\.0 \|/m, 'the same as Markdown');

my $svg = BladePSGI::Bench::Plot::svg($results);
my @open;
my $is_sound = 1;
while ($svg =~ m{<(/?)([a-z]+)([^<>]*?)(/?)>}g) {
    my ($closes, $name, $is_empty) = ($1, $2, $4);
    if ($closes) { $is_sound = 0 if (pop @open || '') ne $name }
    elsif (!$is_empty) { push @open, $name }
}
ok($is_sound && !@open, 'every element is closed');
like($svg, qr/A &lt;fast&gt; one/, 'text is escaped');
is(scalar(() = $svg =~ /<rect x=/g), 5, 'a bar for each server of each workload');
unlike($svg, qr/(?:width|x2)="-|nan|inf/i, 'no impossible lengths');

done_testing;
