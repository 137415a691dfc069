# The example application as a person sees it: its pages in Chromium, from BladePSGI's own HTTP and from nginx in front.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Browser;
use BladePSGI::Test::Nginx;
use Digest::SHA;
use HTTP::Tiny;
use Test::More;

binmode Test::More->builder->$_, ':encoding(UTF-8)' for qw(output failure_output todo_output);

my %PAGES = (
    ''        => 'A tour of the server',
    request   => 'Request',
    upload    => 'Upload',
    counter   => 'Counter',
    heartbeat => 'Heartbeat',
    error     => 'Error',
    'request/with%20a%20space//and%2Fslashes?name=%c3%a9&name=%3Cb%3E' => 'Request',
);

my $tour = BladePSGI::Test::project_root() . '/examples/tour';
my $server = BladePSGI::Test->start(
    app_file => "$tour/app.psgi",
    workers  => 3,
    options  => [ '--loader=Tour', '--http=127.0.0.1:0', BladePSGI::Test::Nginx->server_options ],
    env      => { PERL5LIB => join ':', "$tour/lib", grep { defined && length } $ENV{PERL5LIB} },
);

# A stream that goes on when the test says so.
my $gated = BladePSGI::Test->start(
    workers => 2,
    options => [ '--http=127.0.0.1:0', BladePSGI::Test::Nginx->server_options ],
    app     => BladePSGI::Test->gate_code . <<'PERL');
sub {
    my ($env) = @_;
    return [ 404, [], [] ] unless $env->{PATH_INFO} =~ m{\A/stream/(\w+)\z};
    my $name = $1;
    return sub {
        my $writer = $_[0]->([ 200, [ 'Content-Type' => 'text/html; charset=utf-8', 'X-Accel-Buffering' => 'no' ] ]);
        $writer->write("<!doctype html><html lang=en><title>Stream</title><link rel=icon href=data:,><body><p>first</p>\n");
        gate("$name-1");
        $writer->write("<p>second</p>\n");
        gate("$name-2");
        $writer->write("<p>last</p></body></html>\n");
        $writer->close;
    };
};
PERL

my $browser = BladePSGI::Test::Browser->start;

# Of the page that is there: nothing in the console, everything from here.
sub quiet {
    my ($origin, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply [ $browser->complaints ], [], "$name: nothing to complain about";
    my $all = $browser->script('return performance.getEntriesByType("resource").map(entry => entry.name)');
    is_deeply [ grep { index($_, $origin) != 0 } @$all ], [], "$name: nothing from elsewhere";
    return;
}

my $LABELS = 'return [...document.querySelectorAll("input, select, textarea")].filter(field => !field.labels.length).length';
my $FITS   = 'return document.documentElement.scrollWidth <= window.innerWidth';
my $COLOUR = 'return getComputedStyle(document.body).backgroundColor';

sub look_at_pages {
    my ($url) = @_;
    for my $path (sort keys %PAGES) {
        my %colour;
        for my $view ([ light => 1280, 900, 0 ], [ dark => 360, 740, 1 ]) {
            my ($scheme, @size) = @$view;
            $browser->prefer($scheme);
            $browser->resize(@size);
            $browser->open("$url$path");
            my $name = "/$path, $scheme, $size[0] wide";
            is $browser->title, "$PAGES{$path} · BladePSGI tour", "$name: the title";
            is $browser->text('h1'), $PAGES{$path}, 'the heading';
            is $browser->script('return document.documentElement.lang'), 'en', 'the language';
            is $browser->script('return document.styleSheets.length && document.styleSheets[0].cssRules.length > 10'), 1, 'its style';
            ok $browser->script($FITS), 'nothing sticks out';
            is $browser->script($LABELS), 0, 'every field has a label';
            quiet($url, $name);
            $colour{ $browser->script($COLOUR) } = 1;
        }
        is keys %colour, 2, "/$path: light and dark";
    }
    $browser->prefer('light');
    $browser->resize(1280, 900);
    like $browser->open("$url" . 'request/%C3%A9?name=%c3%bc')->text('main'), qr{PATH_INFO\s+/request/é.*name\s+ü|name\s+ü.*PATH_INFO\s+/request/é}s,
        'escapes are the characters that they stand for';
    return;
}

sub send_a_form {
    my ($url) = @_;
    my $path = write_text($server->folder . '/holiday.bin', join '', map { chr($_ * 7 % 256) } 1 .. 300_000);
    my $name = 'Zoë „Ø“ 漢字 <b>&amp;';
    $browser->open("${url}upload");
    $browser->fill('input[name=name]', $name);
    $browser->fill('input[name=file]', $path);
    $browser->follow(sub { $browser->click('form button') });
    my %shown = @{ $browser->script('return [...document.querySelectorAll("tr")].flatMap(row => [...row.cells].map(cell => cell.textContent))') };
    is_deeply \%shown, {
        'Your name' => $name,
        'File'      => 'holiday.bin',
        'Bytes'     => 300_000,
        'SHA-256'   => Digest::SHA->new(256)->addfile($path, 'b')->hexdigest,
    }, 'the form and the file have arrived as they were sent';
    like $browser->text('.note'), qr{curl -T FILE \Q${url}\Eupload/raw }, 'and how to do it without a form';
    quiet($url, 'the form');
    return;
}

sub count {
    my ($url) = @_;
    my $http = HTTP::Tiny->new(max_redirect => 0);
    $browser->open("${url}counter");
    my $count = $browser->text('#count');
    like $count, qr/\A\d+\z/, 'a count';
    for my $n (1 .. 3) {
        $browser->follow(sub { $browser->click('form[action$=add] button') });
        is $browser->url, "${url}counter", 'the button leads back';
        is $browser->text('#count'), $count + $n, "it is $n more";
    }
    is $http->post("${url}counter/add")->{status}, 303, 'somebody else counts';
    ok wait_for { $browser->text('#count') == $count + 4 }, 'and it is seen without doing anything';
    is $browser->text('#lock'), 'free', 'the lock is free';
    $browser->follow(sub { $browser->click('form[action$=try] button') });
    is $browser->url, "${url}counter", 'so it can be had';

    $browser->open("${url}heartbeat");
    my $beats = $browser->text('#beats');
    is $browser->text('#heart'), 'beating', 'the heart';
    ok wait_for { $browser->text('#beats') > $beats }, 'beats while one is looking';
    quiet($url, 'counter and heart');
    return;
}

# What the page shows while it is not complete; each different text once.
sub watch_stream {
    my ($url) = @_;
    $browser->open($url);
    $browser->script('window.isOld = true');
    $browser->visit("${url}stream");
    my (%seen, $last);
    wait_for {
        my $now = eval { $browser->script('return window.isOld ? null : [document.readyState, document.querySelectorAll(".lines li").length]') };
        $seen{ $now->[1] } = 1 if $now && $now->[0] eq 'loading' && $now->[1] > 0 && $now->[1] < 10;
        $last = $now && $now->[0] eq 'complete' ? $now->[1] : undef;
        defined $last;
    } 40;
    is $last, 10, 'the stream ends with all its lines';
    cmp_ok keys %seen, '>=', 3, 'and was seen growing: ' . join ' ', sort keys %seen;
    quiet($url, 'the stream');
    return;
}

sub watch_gated_stream {
    my ($url, $name) = @_;
    my $read = sub { eval { $browser->script('return [document.body.innerText.trim(), document.readyState]') } || [ '', '' ] };
    $browser->visit("${url}stream/$name");
    my $now;
    for my $part ([ qr/\Afirst\z/, 'first' ], [ qr/\Afirst\s+second\z/, 'second' ]) {
        my ($pattern, $word) = @$part;
        ok wait_for { $now = $read->(); $now->[0] =~ $pattern }, "the $word part is there while the application waits" or diag "@$now";
        is $now->[1], 'loading', 'and the page is not complete';
        $gated->open_gate($word eq 'first' ? "$name-1" : "$name-2");
    }
    ok wait_for { $now = $read->(); $now->[0] =~ /\Afirst\s+second\s+last\z/ && $now->[1] eq 'complete' }, 'then it ends' or diag "@$now";
    return;
}

sub make_errors {
    my ($url) = @_;
    $browser->open("${url}error/now");
    ok wait_for { join("\n", $browser->complaints) =~ m{/error/now\b.* 500 } }, 'the browser knows of the error before the response';
    $browser->visit("${url}error/middle");
    ok wait_for { eval { $browser->text('main') =~ /will never come/ } }, 'half a page is shown';
    unlike $browser->text('body'), qr/request number/, 'and not its end';
    ok wait_for { join("\n", $browser->complaints) =~ /ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONTENT_LENGTH_MISMATCH|ERR_CONNECTION_RESET/ },
        'which the browser knows to be missing';
    $browser->open($url);
    quiet($url, 'after the errors');
    return;
}

my %FRONT = (
    'BladePSGI alone' => [ $server->url, $gated->url ],
    'behind nginx'    => [ map { BladePSGI::Test::Nginx->start(socket => $_->socket)->url('/') } $server, $gated ],
);
for my $front (sort keys %FRONT) {
    my ($url, $gated_url) = @{ $FRONT{$front} };
    subtest "$front: pages"  => sub { look_at_pages($url) };
    subtest "$front: form"   => sub { send_a_form($url) };
    subtest "$front: shared" => sub { count($url) };
    subtest "$front: stream" => sub { watch_stream($url) };
    subtest "$front: stream, step by step" => sub { watch_gated_stream($gated_url, $front =~ /nginx/ ? 'nginx' : 'alone') };
    subtest "$front: errors" => sub { make_errors($url) };
}

$browser->stop;
is $_->stop('INT'), 'exit 0', 'stops' for $server, $gated;
done_testing;
