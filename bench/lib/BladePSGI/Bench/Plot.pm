package BladePSGI::Bench::Plot;

# A results file as a picture: CPU time per request of each server in each workload, as bars. Each workload has a scale of its own; the
# thin line at the end of a bar goes from the least to the most of the rounds.

use strict;
use warnings;
use utf8;

use BladePSGI::Bench::Report;

use constant {
    WIDTH       => 860,
    LEFT        => 200,    # where bars begin
    BAR_SPACE   => 480,    # how long the longest is
    BAR_HEIGHT  => 14,
    LINE_HEIGHT => 20,
    TITLE       => 26,     # of a workload
    MARGIN      => 16,
};

my $STYLE = <<'CSS';
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2937; }
.page { fill: #ffffff; }
.title { font-weight: 600; }
.note { fill: #6b7280; }
.ours { fill: #2563eb; }
.floor { fill: #9ca3af; }
.peer { fill: #d97706; }
.spread { stroke: #1f2937; stroke-width: 1; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; }
  text { fill: #e5e7eb; }
  .note { fill: #9ca3af; }
  .ours { fill: #60a5fa; }
  .floor { fill: #6b7280; }
  .peer { fill: #f59e0b; }
  .spread { stroke: #e5e7eb; }
}
CSS

my %CLASSES = (bladepsgi => 'ours', 'bladepsgi-http' => 'ours', floor => 'floor', bare => 'floor');

sub _escape {
    my ($text) = @_;
    my %entities = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;');
    $text =~ s/([&<>"])/$entities{$1}/g;
    return $text;
}

sub _text {
    my ($x, $y, $text, $class, $anchor) = @_;
    return sprintf qq{<text x="%.1f" y="%.1f"%s%s>%s</text>\n}, $x, $y, $class ? qq{ class="$class"} : '',
        $anchor ? qq{ text-anchor="$anchor"} : '', _escape($text);
}

sub svg {
    my ($results) = @_;
    my $y    = MARGIN + 12;
    my $body = _text(MARGIN, $y, 'CPU time of the whole server per request, µs (shorter is better)', 'title');
    $y += 18;
    $body .= _text(MARGIN, $y, "commit $results->{commit}, $results->{machine}{cpu}, $results->{settings}{workers} workers; median, least and most of "
            . "$results->{settings}{rounds} rounds", 'note');
    for my $workload (@{ $results->{workloads} }) {
        my @bars = grep { $_->[1] } map { [$_, BladePSGI::Bench::Report::summary(@{ $_->{cpu_us} })] } @{ $workload->{entries} };
        next if !@bars;
        my ($longest) = sort { $b <=> $a } map { $_->[1]{most} } @bars;
        $y += TITLE;
        $body .= _text(MARGIN, $y, $workload->{title}, 'title');
        for my $bar (@bars) {
            my ($entry, $cpu) = @$bar;
            $y += LINE_HEIGHT;
            my ($length, $least, $most) = map { $cpu->{$_} / $longest * BAR_SPACE } qw(median least most);
            my $middle = $y - BAR_HEIGHT / 2 + 2;
            $body .= _text(LEFT - 8, $y, $entry->{label}, '', 'end');
            $body .= sprintf qq{<rect x="%d" y="%.1f" width="%.1f" height="%d" class="%s"/>\n}, LEFT, $y - BAR_HEIGHT + 3, $length,
                BAR_HEIGHT, $CLASSES{ $entry->{server} } || 'peer';
            $body .= sprintf qq{<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="spread"/>\n}, LEFT + $least, $middle, LEFT + $most, $middle;
            $body .= _text(LEFT + $most + 8, $y, BladePSGI::Bench::Report::number($cpu->{median}));
        }
    }
    $y += MARGIN;
    return sprintf(qq{<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">\n}, WIDTH, $y, WIDTH, $y)
        . "<title>CPU time per request</title>\n<style>\n$STYLE</style>\n"
        . qq{<rect width="100%" height="100%" class="page"/>\n$body</svg>\n};
}

1;
