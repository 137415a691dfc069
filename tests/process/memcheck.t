# A worker under valgrind, which serves requests of every kind: nothing is read or written that is not ours, nothing used that was never set, and
# what is lost, or merely held at the end, does not grow with the number of requests. Perl needs no suppressions for this.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Mix;
use Test::More;

plan skip_all => 'takes long: BLADEPSGI_LONG=1' unless is_long();
plan skip_all => 'a sanitizer and valgrind exclude each other' if is_sanitized();
plan skip_all => 'needs valgrind' unless run_to_end(['valgrind', '--version'])->{exit} eq 'exit 0';
plan skip_all => 'needs the load generator, which is built with the tests: ' . generator() unless -x generator();

$BladePSGI::Test::PATIENCE *= 20;
my ($few, $many) = (1000, 4000);

# What valgrind has written of the only worker in its whole life, in which it served so many requests: { errors => [text …],
# bytes => {definite, indirect, held} }.
sub worker_under_valgrind {
    my ($requests, @stages) = @_;
    my $server = start_mix(wrap => [qw(valgrind --tool=memcheck --leak-check=full --num-callers=30 --log-file=valgrind.%p)]);
    my $worker = $server->get('/pid')->{body};
    my $page   = $server->get('/dies')->{body};
    my $sent   = send_mix($server, $requests, @stages ? @stages : mix($page));
    is $server->get('/pid')->{body}, $worker, "$sent requests, all by the same worker";
    is $server->stop, 'exit 0', 'stops';
    my $text = read_text($server->folder . "/valgrind.$worker");
    my ($errors, $summary) = split /^==\d+== HEAP SUMMARY:\n/m, $text;
    like $summary, qr/ERROR SUMMARY/, 'valgrind has seen its end' or diag $text;
    # Paragraphs; the first one is about valgrind itself.
    my (undef, @errors) = grep { /\S/ } split /^\s*\n/m, $errors =~ s/^==\d+== ?//mgr;
    my %bytes = (held => $summary =~ /in use at exit: ([\d,]+) bytes/);
    for my $kind (qw(definitely indirectly)) { ($bytes{$kind}) = $summary =~ /$kind lost: ([\d,]+) bytes/ }
    tr/,//d for values %bytes;
    return { errors => \@errors, bytes => \%bytes, summary => $summary };
}

sub ours { return grep { /bladepsgi|perl\.so/ } @_ }

my @run = map { worker_under_valgrind($_) } $few, $many;
for (@run) {
    is_deeply [ ours(@{ $_->{errors} }) ], [], 'no error with a frame of ours';
    note "elsewhere:\n$_" for grep { !ours($_) } @{ $_->{errors} };
}
for my $kind (qw(definitely indirectly held)) {
    my ($less, $more) = map { $_->{bytes}{$kind} } @run;
    my $each = ($more - $less) / ($many - $few);
    note sprintf '%s: %d bytes after %d requests, %d after %d: %.2f a request', $kind, $less, $few, $more, $many, $each;
    cmp_ok $each, '<', 1, "$kind" . ($kind eq 'held' ? '' : ' lost') . ' at the end: less than a byte a request' or diag $run[1]{summary};
}

# Would it be seen?
my @losing = map { worker_under_valgrind($_, [[loses => 1000, '--uri=/loses', '--expect=lost']]) } $few, $many;
cmp_ok $losing[1]{bytes}{held} - $losing[0]{bytes}{held}, '>', 12 * ($many - $few), 'an application that loses a scalar in each request is noticed';
my $stray = worker_under_valgrind(1, [[strays => 1000, '--uri=/strays', '--expect=read']]);
like join('', ours(@{ $stray->{errors} })), qr/Invalid read/, 'and one that reads what was freed';

done_testing;
