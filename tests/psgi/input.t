# psgi.input: every way to read it, in memory, streamed and spooled.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Digest::MD5 'md5_hex';
use Test::More;

my $app = <<'PERL';
use strict;
use warnings;
use Digest::MD5 ();
use Digest::SHA ();
use Fcntl ':seek';
use Plack::Request;

our $kept;
my %ways = (
    read_method => sub { my ($in) = @_; my $all = ''; while ($in->read(my $b, 1000)) { $all .= $b } $all },
    read        => sub { my ($in) = @_; my $all = ''; while (read $in, my $b, 1000) { $all .= $b } $all },
    read_offset => sub { my ($in) = @_; my $all = ''; while (read $in, $all, 777, length $all) { } $all },
    sysread     => sub { my ($in) = @_; my $all = ''; while (sysread $in, my $b, 1000) { $all .= $b } $all },
    readline    => sub { my ($in) = @_; my $all = ''; while (my $l = <$in>) { $all .= $l } $all },
    list        => sub { my ($in) = @_; join '', <$in> },
    slurp       => sub { my ($in) = @_; local $/; my $all = <$in>; $all // 'undef' },
    getline     => sub { my ($in) = @_; my $all = ''; while (defined(my $l = $in->getline)) { $all .= $l } $all },
    getlines    => sub { my ($in) = @_; join '', $in->getlines },
    getc        => sub { my ($in) = @_; my $all = ''; while (defined(my $c = getc $in)) { $all .= $c; last if length $all > 5000 } $all . do { local $/; <$in> // '' } },
    chunks      => sub { my ($in) = @_; local $/ = \4096; my $all = ''; while (my $l = <$in>) { $all .= $l } $all },
    eof         => sub { my ($in) = @_; my $all = ''; until (eof $in) { read $in, $all, 999, length $all } $all },
    eof_method  => sub { my ($in) = @_; my $all = ''; until ($in->eof) { $in->read($all, 999, length $all) } $all },
    dup         => sub { my ($in) = @_; open my $dup, '<&', $in or return "open: $!"; local $/; my $all = <$dup>; $all // 'undef' },
    binmode     => sub { my ($in) = @_; binmode $in or return 'binmode failed'; local $/; <$in> },
    md5         => sub { my ($in) = @_; Digest::MD5->new->addfile($in)->hexdigest },
    sha         => sub { my ($in) = @_; Digest::SHA->new(1)->addfile($in)->hexdigest },
    fileno      => sub { my ($in) = @_; my $f = fileno $in; defined $f ? $f : 'undef' },
    truth       => sub { my ($in) = @_; join ',', ref $in ? 'reference' : 'plain', $in->can('read') ? 'read' : '', defined $in ? 1 : 0 },
    twice       => sub { my ($in) = @_; local $/; my $one = <$in> // ''; my $n = read $in, my $more, 10; length($one) . ' ' . ($n // 'undef') },
    seek        => sub {
        my ($in, $env) = @_;
        return 'not buffered' unless $env->{'psgix.input.buffered'};
        my $first = do { local $/; <$in> };
        seek $in, 0, SEEK_SET or return "seek: $!";
        my $second = do { local $/; <$in> };
        $in->seek(2, SEEK_SET); $in->read(my $part, 3);
        return join '|', length $first, $first eq $second ? 'same' : 'different', $part, tell $in;
    },
    parameters  => sub { my ($in, $env) = @_; my $r = Plack::Request->new($env); join ',', map { "$_=" . $r->param($_) } sort $r->param },
    upload      => sub { my ($in, $env) = @_; my $u = Plack::Request->new($env)->upload('f'); $u ? join ',', $u->filename, $u->size : 'none' },
    content     => sub { my ($in, $env) = @_; Plack::Request->new($env)->content },
    about       => sub { my ($in, $env) = @_; join ',', $env->{'psgix.input.buffered'} ? 'buffered' : 'streamed', $env->{CONTENT_LENGTH} // 'none' },
    error       => sub {
        my ($in) = @_;
        my ($all, $n) = ('');
        while (1) { $! = 0; $n = $in->read(my $b, 65536); last unless $n; $all .= $b }
        my $error = $! + 0;
        my $again = $in->read(my $b, 10);
        return join ' ', length $all, defined $n ? 'end' : 'undef', $error ? 'errno' : 'no errno', defined $again ? 'end' : 'undef';
    },
    partly      => sub { my ($in) = @_; read $in, my $b, 5; $b },
    keep        => sub { my ($in) = @_; $kept = $in; read $in, my $b, 2; $b },
    use_kept    => sub { my $n = read $kept, my $b, 10; my $line = <$kept>; join ' ', $n // 'undef', defined $line ? "line $line" : 'no line', eof $kept ? 'eof' : 'more' },
    write       => sub { my ($in) = @_; my $ok = eval { no warnings; print {$in} 'x' }; $ok ? 'wrote' : 'refused' },
    lines       => sub { my ($in) = @_; my @l = <$in>; join ',', scalar @l, $. },
    paragraph   => sub { my ($in) = @_; local $/ = ''; my @p = <$in>; scalar @p },
    separator   => sub { my ($in) = @_; local $/ = '--'; my @p = <$in>; scalar @p },
    close       => sub { my ($in) = @_; close $in; my $n = eval { no warnings; read $in, my $b, 10 }; $n ? 'read' : 'closed' },
    utf8        => sub { my ($in) = @_; binmode $in, ':encoding(UTF-8)'; local $/; my $t = <$in>; join ',', map { ord } split //, $t },
);

sub {
    my ($env) = @_;
    my ($way) = $env->{PATH_INFO} =~ m{\A/(\w+)};
    my $answer = eval { $ways{$way}->($env->{'psgi.input'}, $env) } // "died $@";
    return [200, ['X-Buffered' => $env->{'psgix.input.buffered'} ? 1 : 0, 'X-Length' => $env->{CONTENT_LENGTH} // 'none'], [$answer]];
};
PERL

my @reading = qw(read_method read read_offset sysread readline list slurp getline getlines getc chunks eof eof_method dup binmode content);
my %bodies = (
    empty  => '',
    small  => join('', map { "line $_\n" } 1 .. 100),
    binary => join('', map { chr($_ * 13 % 256) } 1 .. 60_000),
    large  => join('', map { chr($_ * 29 % 256) } 1 .. 250_000) . "\nlast line without newline",
);

sub send_body {
    my ($server, $way, $body, %o) = @_;
    my $c = $server->connect;
    my $length = exists $o{length} ? $o{length} : length $body;
    $c->send(begin(1, keep => 1)
        . params(1, nginx_env(uri => "/$way", method => 'POST', env => { CONTENT_LENGTH => $length,
            CONTENT_TYPE => $o{type} || 'application/octet-stream' }))
        . stdin(1, $body, chunk => $o{chunk}));
    my $answer = $c->read_response;
    is $c->request(uri => '/about')->{status}, 200, 'the kept connection stays in step' if $o{check_kept};
    return $answer;
}

for my $mode (qw(auto stream spool)) {
    subtest "--input=$mode" => sub {
        my $server = BladePSGI::Test->start(workers => 1, app => $app, options => ["--input=$mode"]);
        for my $name (sort keys %bodies) {
            for my $length ('with', 'without') {
                my $body = $bodies{$name};
                my %o = $length eq 'with' ? () : (length => undef);
                for my $way (@reading) {
                    # Plack::Request->content reads CONTENT_LENGTH bytes, so none when there is none.
                    next if $way eq 'content' && $length eq 'without' && ($mode eq 'stream' || $mode eq 'auto' && length $body > 65536);
                    my $answer = send_body($server, $way, $body, %o, chunk => 8000);
                    is md5_hex($answer->{body}), md5_hex($body), "$name body $length CONTENT_LENGTH by $way"
                        or diag length($answer->{body}), ': ', substr $answer->{body}, 0, 200;
                }
                is send_body($server, 'md5', $body, %o)->{body}, md5_hex($body), "$name, $length: Digest::MD5->addfile";
                require Digest::SHA;
                is send_body($server, 'sha', $body, %o)->{body}, Digest::SHA::sha1_hex($body), "$name, $length: Digest::SHA->addfile";
                my $buffered = $mode eq 'spool' || ($mode eq 'auto' && length $body <= 65536);
                $buffered = 1 if $body eq '' && $mode ne 'stream';
                my $about = send_body($server, 'about', $body, %o);
                my ($is, $said) = split /,/, $about->{body};
                is $is, $buffered ? 'buffered' : 'streamed', "$name, $length: psgix.input.buffered" unless $mode eq 'stream' && $body eq '';
                is $said, length $body, "$name, $length: CONTENT_LENGTH" if $length eq 'with' && $body ne '';
                is $said, length $body, "$name, $length: CONTENT_LENGTH is set when it is known" if $buffered && $length eq 'without' && $body ne '';
                is $said, 'none', "$name, $length: no CONTENT_LENGTH when it is not" if !$buffered && $length eq 'without';
                like send_body($server, 'seek', $body, %o)->{body}, qr/\A\d+\|same\|\Q@{[substr $body, 2, 3]}\E\|5\z/s,
                    "$name, $length: seek and tell" if $buffered && length $body > 5;
            }
        }
        is send_body($server, 'fileno', 'x')->{body}, -1, 'fileno is -1: the descriptor of the connection is never shown' unless $mode eq 'spool';
        is send_body($server, 'truth', 'x')->{body}, 'reference,read,1', 'it is an object';
        is send_body($server, 'twice', 'twelve bytes')->{body}, '12 0', 'end of file stays end of file';
        is send_body($server, 'lines', "a\nb\nc")->{body}, '3,3', 'lines are counted';
        is send_body($server, 'paragraph', "a\nb\n\n\n\nc\n\nd")->{body}, 3, 'paragraph mode';
        is send_body($server, 'separator', 'a--b--c--')->{body}, 3, 'any separator';
        is send_body($server, 'write', 'x')->{body}, 'refused', 'it cannot be written to';
        is send_body($server, 'close', 'x' x 100, check_kept => 1)->{body}, 'closed', 'it can be closed';
        is send_body($server, 'utf8', "\xe2\x98\xba", check_kept => 1)->{body}, 0x263a, 'binmode with an encoding';
        is send_body($server, 'partly', $bodies{$_}, check_kept => 1)->{body}, substr($bodies{$_}, 0, 5), "$_ body read in part"
            for qw(small large);
        is send_body($server, 'keep', $bodies{large})->{body}, substr($bodies{large}, 0, 2), 'a handle that is kept after its request';
        is send_body($server, 'use_kept', 'another body')->{body}, '0 no line eof', 'is at end of file for ever';

        my %form = (type => 'application/x-www-form-urlencoded', check_kept => 1);
        is send_body($server, 'parameters', 'a=1&b=2', %form)->{body}, 'a=1,b=2', 'Plack::Request parameters';
        my $long = join '&', map { "p$_=" . 'v' x 100 } 1 .. 1000;
        is length send_body($server, 'parameters', $long, %form)->{body}, length $long, 'a long form';
        is send_body($server, 'parameters', 'a=1', %form, length => undef)->{body}, 'a=1', 'without CONTENT_LENGTH' unless $mode eq 'stream';
        my $upload = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"n.bin\"\r\n"
            . "Content-Type: application/octet-stream\r\n\r\n" . $bodies{large} . "\r\n--b--\r\n";
        is send_body($server, 'upload', $upload, type => 'multipart/form-data; boundary=b', check_kept => 1)->{body},
            'n.bin,' . length $bodies{large}, 'Plack::Request upload';
        is $server->stop, 'exit 0', 'stops';
        unlike $server->log, qr/ (?:ERROR|PANIC):/, 'nothing went wrong';
    };
}

subtest 'a body that is shorter than announced is an error, not its end' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => $app);
    my $answer = send_body($server, 'error', 'x' x 100_000, length => 200_000);
    is $answer->{body}, '100000 undef errno undef', 'a stream that ends early: undef with $!, and so ever after';
    $answer = send_body($server, 'error', 'x' x 100, length => 200);
    if (($answer->{status} || 0) == 200) {
        is $answer->{body}, '100 undef errno undef', 'also a small one';
    }
    else { is $answer->{status}, 400, 'a small one is refused before the application is called' }
    is send_body($server, 'error', 'x' x 100_000)->{body}, '100000 end no errno end', 'a whole body is none';
    is $server->stop, 'exit 0', 'stops';
};

subtest '--input-memory, --spool-directory' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => $app, options => ['--input-memory=1000']);
    is send_body($server, 'about', 'x' x 1000)->{body}, 'buffered,1000', 'up to the limit: in memory';
    is send_body($server, 'about', 'x' x 1001)->{body}, 'streamed,1001', 'beyond: streamed';
    is $server->stop, 'exit 0', 'stops';
    my $spool = File::Temp::tempdir('spool-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    $server = BladePSGI::Test->start(workers => 1, app => $app, options => [ '--input=spool', "--spool-directory=$spool" ]);
    is send_body($server, 'about', $bodies{large})->{body}, 'buffered,' . length $bodies{large}, 'spooled';
    is md5_hex(send_body($server, 'slurp', $bodies{large})->{body}), md5_hex($bodies{large}), 'and read';
    is $server->stop, 'exit 0', 'stops';
    is_deeply [ glob "$spool/*" ], [], 'nothing is left in the spool directory';
};

subtest 'a full spool' => sub {
    my $server = BladePSGI::Test->prepare(workers => 1, app => $app);
    my $spool = $server->folder . '/spool';
    mkdir $spool;
    push @{ $server->{options} }, '--input=spool', "--spool-directory=$spool";
    $server->launch->wait_ready;
    rmdir $spool;
    is send_body($server, 'about?x=1', $bodies{large})->{status}, 507, 'is answered with 507';
    log_like $server, qr{ERROR:  worker\[\d+\]: POST /about\?x=1 \[\S+\]: cannot store request body in '\Q$spool\E'.*ENOENT}, 'and the log says which request, where and why';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'an alarm while the body is awaited' => sub {
    my $server = BladePSGI::Test->start(workers => 1, options => ['--body-ahead=50000'], app => BladePSGI::Test->gate_code . <<'PERL');
sub {
    my ($env) = @_;
    my ($in, $ticks, $all) = ($env->{'psgi.input'}, 0, '');
    if ($env->{PATH_INFO} eq '/dies') {
        local $SIG{ALRM} = sub { die "too slow\n" };
        alarm 1;
        my $n = eval { $in->read($all, 200_000) };
        alarm 0;
        return [200, [], ["died: $@"]];
    }
    local $SIG{USR1} = sub { mark('tick', ++$ticks) };
    mark('reading');
    $in->read($all, 200_000);
    return [200, [], [length($all) . " after $ticks"]];
};
PERL
    my $head = sub { begin(1) . params(1, nginx_env(uri => $_[0], method => 'POST', env => { CONTENT_LENGTH => 200_000 })) . record(FCGI_STDIN, 1, 'x' x 50_000) };
    my $c = $server->connect;
    $c->send($head->('/dies'));
    is $c->read_response->{body}, "died: too slow\n", 'its handler runs, and may die out of the read';
    $c = $server->connect;
    $c->send($head->('/goes-on'));
    ok $server->wait_mark('reading'), 'another handler';
    my ($worker) = $server->worker_pids;
    for my $tick (1, 2) {
        kill USR1 => $worker;
        ok wait_for { ($server->wait_mark('tick') || 0) == $tick }, 'runs while the body is awaited';
    }
    $c->send(record(FCGI_STDIN, 1, 'x' x 50_000) x 3 . record(FCGI_STDIN, 1, ''));
    is $c->read_response->{body}, '200000 after 2', 'and nothing of the body is lost';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'a large body is streamed: the application reads before the client has sent all' => sub {
    my $server = BladePSGI::Test->start(workers => 1, app => BladePSGI::Test->gate_code . <<'PERL');
sub { my ($env) = @_; my $in = $env->{'psgi.input'}; $in->read(my $b, 50_000); mark('read', length $b);
    my $n = length $b; while (my $r = $in->read($b, 65536)) { $n += $r } [200, [], [$n]] };
PERL
    my $c = $server->connect;
    $c->send(begin(1) . params(1, nginx_env(uri => '/', method => 'POST', env => { CONTENT_LENGTH => 300_000 }))
        . record(FCGI_STDIN, 1, 'x' x 60_000) . record(FCGI_STDIN, 1, 'x' x 40_000));
    cmp_ok $server->wait_mark('read') || 0, '>', 0, 'it has read some';
    $c->send(record(FCGI_STDIN, 1, 'x' x 50_000) x 4 . record(FCGI_STDIN, 1, ''));
    is $c->read_response->{body}, 300_000, 'and then the rest';
    is $server->stop, 'exit 0', 'stops';
};

done_testing;
