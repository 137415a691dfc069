# Broken applications over HTTP: a complete 500, or a response that is visibly broken however its body is delimited; the log
# says what and for which request; the worker lives on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::HTTP;
use Test::More;

my $app = <<'PERL';
use strict;
use warnings;
package Lines { sub new { my ($c, @l) = @_; bless [@l], $c } sub getline { my $l = shift @{ $_[0] }; ref $l ? $l->() : $l } sub close { } }
package main;
our @headers;    # of this request: a Content-Length that is right, or none
sub stream { my (@steps) = @_; return sub { my $w = $_[0]->([200, [@headers]]); ref $_ ? $_->($w) : $w->write($_) for @steps; $w->close } }
my %cases = (
    die            => sub { die "the application died" },
    die_object     => sub { die bless { why => 'x' }, 'Plain' },
    wide_body      => sub { [200, [], ["\x{263a}"]] },
    wide_header    => sub { [200, ['X-Wide' => "\x{263a}"], ['x']] },
    newline_value  => sub { [200, ['X-Split' => "a\r\nSet-Cookie: stolen=1"], ['x']] },
    newline_name   => sub { [200, ["X-Na\r\nme" => 'a'], ['x']] },
    lf_value       => sub { [200, ['X-Split' => "a\nstolen: b"], ['x']] },
    nul_value      => sub { [200, ['X-Nul' => "a\0b"], ['x']] },
    status_word    => sub { ['OK', [], ['x']] },
    status_99      => sub { [99, [], ['x']] },
    status_1000    => sub { [1000, [], ['x']] },
    return_undef   => sub { undef },
    odd_headers    => sub { [200, ['X-Odd'], ['x']] },
    body_string    => sub { [200, [], 'a plain string'] },
    body_hash      => sub { [200, [], {}] },
    getline_first  => sub { [200, [@headers], Lines->new(sub { die "in getline\n" })] },
    stream_before  => sub { sub { die "before the responder\n" } },
    stream_never   => sub { sub { } },
    exit           => sub { exit 0 },
    exit_7         => sub { exit 7 },

    getline_later  => sub { [200, [@headers], Lines->new("a line\n", "another\n", sub { die "in getline\n" })] },
    getline_exit   => sub { [200, [@headers], Lines->new("a line\n", "another\n", sub { exit 0 })] },
    stream_middle  => sub { stream("half of it\n", sub { die "in the middle\n" }) },
    stream_wide    => sub { stream("narrow\n", "\x{263a}") },
    stream_exit    => sub { stream("half of it\n", sub { exit 0 }) },
    stream_much    => sub { stream(('x' x 100_000) x 20, sub { die "after much\n" }) },
    stream_kill    => sub { stream("half of it\n", sub { kill KILL => $$; select undef, undef, undef, 10 }) },

    shrinks        => sub { my ($env) = @_; open my $o, '>', 'shrinks.bin' or die; print {$o} 'x' x 30_000_000; close $o; open my $f, '<', 'shrinks.bin' or die;
        [200, [$env->{QUERY_STRING} eq 'file' ? ('Content-Length' => 30_000_000) : ()], $f] },
    after_close    => sub { sub { my $w = $_[0]->([200, []]); $w->write('all of it'); $w->close; die "after close\n" } },
    twice          => sub { sub { $_[0]->([200, [], ['one']]); $_[0]->([200, [], ['two']]) } },
    status_header  => sub { [200, ['Status' => '302 Found'], ['x']] },
    status_100     => sub { [100, [], ['x']] },
    status_101     => sub { [101, [], ['x']] },
    print          => sub { print "printed to STDOUT\n"; syswrite STDOUT, "and by syswrite\n"; [200, [], ['clean']] },
    ok             => sub { [200, [], [$$]] },
);
sub { my ($env) = @_; @headers = $env->{QUERY_STRING} eq 'length' ? ('Content-Length' => 3_000_000) : (); $cases{ $env->{PATH_INFO} =~ s{\A/}{}r }->($env) };
PERL

my $server = http_server(workers => 1, app => $app);
my ($pid) = $server->worker_pids;

sub lives {
    my ($name, $ended) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $now = http($server)->request(uri => '/ok')->{body};
    $ended ? isnt $now, $pid, "$name: the worker is recycled" : is $now, $pid, "$name: the worker lives on";
    $pid = $now;
    return;
}

# Nothing was sent yet.
my %five_hundred = (
    die => qr/the application died at \S+app\.psgi line \d+/, die_object => qr/object of class Plain/, wide_body => qr/wide character/i, wide_header => qr/X-Wide/,
    newline_value => qr/X-Split/, newline_name => qr/header/i, lf_value => qr/X-Split/, nul_value => qr/X-Nul/, status_word => qr/status.*OK/i, status_99 => qr/status.*99/i,
    status_1000 => qr/status.*1000/i, return_undef => qr/undef/, odd_headers => qr/header|odd/i, body_string => qr/body/i, body_hash => qr/HASH/,
    getline_first => qr/in getline/, stream_before => qr/before the responder/, stream_never => qr/respon/i, exit => qr/exit/, exit_7 => qr/exit.*7|7.*exit/,
);
for my $name (sort keys %five_hundred) {
    my $ends = $name =~ /exit/;
    for my $request ({}, { version => '1.0' }, $name eq 'getline_first' ? () : { method => 'HEAD' }, { uri => "/$name?length" }, $ends ? () : { body => 'x' x 100_000 }) {
        my $from = $server->log_size;
        my $c = http($server);
        my $r = $c->request(uri => "/$name", %$request);
        my $title = join ' ', $name, map { "$_ " . substr $request->{$_}, 0, 10 } sort keys %$request;
        is $r->{status}, 500, "$title: 500";
        is_whole $r, "$title: complete";
        unlike $r->{stdout}, qr/app\.psgi|stolen/, "$title: and tells the client nothing";
        my $log = $server->wait_log(qr/ ERROR: .*\n/, 5, $from) // '';
        like $log, $five_hundred{$name}, "$title: the log says what is wrong";
        like $log, qr{ERROR:  worker\[$pid\]: (?:GET|HEAD|POST) /$name\S* \[\S+\]: }, "$title: and for which request";
        if ($ends) { $c->close; lives($title, 1) }
        elsif (!$r->{closing}) { is $c->request(uri => '/ok')->{body}, $pid, "$title: the connection is kept, and in step" }
    }
    lives($name) unless $ends;
}

# The head has gone out: how the client sees that the rest is missing.
my %broken = (
    getline_later => qr/in getline/, getline_exit => qr/exit/, stream_middle => qr/in the middle/, stream_wide => qr/wide character/i, stream_exit => qr/exit/, stream_much => qr/after much/,
    stream_kill => qr/SIGKILL/,
);
for my $name (sort keys %broken) {
    my $ends = $name =~ /exit|kill/;
    for my $case (
        [ 'chunks',               'chunked', {} ],
        [ 'chunks, last request', 'chunked', { close => 1 } ],
        [ 'a length',             'length',  { uri => "/$name?length" } ],
        [ 'a length, HTTP/1.0',   'length',  { uri => "/$name?length", version => '1.0', keep => 1 } ],
        [ 'until close',          'close',   { version => '1.0' } ],
        [ 'until close, though it was asked to keep', 'close', { version => '1.0', keep => 1 } ],
    ) {
        my ($how, $framing, $request) = @$case;
        # Where the end of the connection is that of the body, nobody is left to make it an unfriendly one.
        next if $name eq 'stream_kill' && ($how =~ /,/ || $framing eq 'close');
        my $from = $server->log_size;
        my $title = "$name, $how";
        my $c = http($server);
        my $r = $c->request(uri => "/$name", %$request);
        if (defined $r->{status} && $r->{status} == 500 && !$r->{reset}) { is_whole $r, "$title: nothing had been sent, so a 500" }
        else {
            # A reset may destroy what was on its way.
            is $r->{framing}, $framing, "$title: as it was meant" unless $r->{reset};
            ok !$r->{complete}, "$title: visibly broken";
        }
        $c->close;
        ok $server->wait_log($broken{$name}, 5, $from), "$title: the log says why";
        lives($title, $ends);
    }
}

subtest 'a file that shrinks while it is sent' => sub {
    for my $case ([ 'chunks', {} ], [ 'a length', { uri => '/shrinks?file' } ], [ 'until close', { version => '1.0' } ]) {
        my ($how, $request) = @$case;
        my $from = $server->log_size;
        my $c = http($server);
        $c->send(http_request(uri => '/shrinks', %$request));
        my $r = $c->read_head(%$request);
        is $r->{status}, 200, "$how: it has begun";
        truncate $server->folder . '/shrinks.bin', 1000;
        $c->finish_response($r);
        ok !$r->{complete}, "$how: visibly broken" or diag length $r->{body};
        ok $server->wait_log(qr{ERROR:  (?:worker\[\d+\]: GET /shrinks\S* \[\S+\]: .*file|lobby\[\d+\]: dropped a response: its file )}, 5, $from), 'logged by whoever sends it';
        $c->close;
        lives("a file that shrinks, $how");
    }
};

subtest 'over a UNIX path' => sub {
    for my $query ('', '?length') {
        my $r = http($server, over => http_path($server))->request(uri => "/stream_middle$query");
        ok !$r->{complete} && !@{ $r->{malformed} }, 'visibly broken';
    }
    my $r = http($server, over => http_path($server))->request(uri => '/stream_middle', version => '1.0');
    ok $r->{eof}, 'until close: there it cannot be seen, but it ends';
    lives('UNIX path');
};

subtest 'pipelined' => sub {
    my $c = http($server);
    $c->send(http_request(uri => '/ok') . http_request(uri => '/die') . http_request(uri => '/ok') . http_request(uri => '/stream_middle') . http_request(uri => '/ok'));
    is_deeply [ map { $c->read_response->{status} } 1 .. 3 ], [ 200, 500, 200 ], 'a 500 costs nobody else';
    my $r = $c->read_response;
    ok !$r->{complete} && !@{ $r->{malformed} }, 'a broken one is the last';
    ok !length $c->here, 'nothing stands behind it';
    lives('pipelined');
};

subtest 'what is no reason to break' => sub {
    my $c = http($server);
    my $from = $server->log_size;
    my $r = $c->request(uri => '/after_close');
    is_whole $r, 'died after close: complete';
    ok $server->wait_log(qr/after close/, 5, $from), 'and logged';
    $r = $c->request(uri => '/twice');
    is_whole $r, 'a responder that is called twice';
    is $r->{body}, 'one', 'the first counts';
    $r = $c->request(uri => '/status_header');
    is_whole $r, 'a Status header';
    ok $r->{status} == 500 || !grep({ lc eq 'status' } @{ $r->{headers} }), 'does not get out';
    $r = $c->request(uri => '/print');
    is_whole $r, 'printing to STDOUT';
    is $r->{body}, 'clean', 'does not get into the response';
    is $c->request(uri => '/ok')->{body}, $pid, 'nor into the next';
    for my $name (qw(status_100 status_101)) {
        $c = http($server);
        $c->send(http_request(uri => "/$name"));
        my $answer = eval { $c->read_response } || { status => 'none' };
        ok $answer->{status} eq '500' || $c->closes, "$name: refused, or the connection is closed so that nobody waits";
        $c->close;
        lives($name);
    }
};

is $server->stop, 'exit 0', 'stops';
done_testing;
