# Large uploads behind nginx and Apache: whole, in no more memory than small ones, with nothing left on disk, streamed and
# spooled; and those that break off.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Apache;
use BladePSGI::Test::Nginx;
use Digest::MD5 ();
use Test::More;

my $block = 1_048_576;
my $blocks = is_long() ? 500 : 20;
my $size = $blocks * $block;
my $memory = 8192;    # kB by which a worker may grow

# /upload/NAME leaves its answer in a mark as well, for those who have gone.
my $app = BladePSGI::Test->gate_code . <<'PERL';
use strict;
use Digest::MD5;
sub {
    my ($env) = @_;
    return [200, [], ['warm']] if $env->{PATH_INFO} eq '/warm';
    return [200, [], ['not looked at']] if $env->{PATH_INFO} eq '/unread';
    my ($name) = $env->{PATH_INFO} =~ m{\A/upload/(\w+)};
    my $md5 = Digest::MD5->new;
    my ($length, $files, $n) = (0, 0);
    while ($n = $env->{'psgi.input'}->read(my $bytes, 262144)) {
        $length += $n;
        $md5->add($bytes);
        next if $length & 0x7fffff && $length > 1_000_000;
        my @open = grep { m{^/} && !m{^/(?:dev|proc)/} } map { readlink($_) // () } glob '/proc/self/fd/*';
        $files = 1 if grep { !/memfd/ } @open, glob "$ENV{TMPDIR}/*";
    }
    my $how = join ' ', $length, $md5->hexdigest, $env->{CONTENT_LENGTH} // 'none', $files ? 'spooled' : 'streamed', defined $n ? 'end' : 'error';
    mark($name, $how);
    return [200, [], [$how]];
};
PERL

# What is sent, never all of it in memory.
my $content = join '', map { chr($_ * 11 % 256) } 1 .. $block;
sub block { my ($n) = @_; substr($content, 0, 8) = sprintf '%08d', $n; return $content }

my $digest = do {
    my $md5 = Digest::MD5->new;
    $md5->add(block($_)) for 1 .. $blocks;
    $md5->hexdigest;
};

# Sends so many blocks of it; the connection, with the response unread. It is closed when there is more to come.
sub send_blocks {
    my ($front, $path, $count, %o) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $c = $front->connect;
    my $deadline = $c->deadline(120);
    my $length = $o{chunked} ? 'Transfer-Encoding: chunked' : "Content-Length: $size";
    my $left = "POST $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n$length\r\n\r\n";
    $c->{socket}->blocking(0);
    for my $n (1 .. $count) {
        $left .= $o{chunked} ? sprintf("%x\r\n", $block) . block($n) . "\r\n" : block($n);
        $left .= "0\r\n\r\n" if $o{chunked} && $n == $blocks;
        while (length $left) {
            my $out = '';
            vec($out, fileno $c->{socket}, 1) = 1;
            select undef, $out, undef, 1;
            my $sent = syswrite $c->{socket}, $left;
            if (!defined $sent && !$!{EAGAIN} || Time::HiRes::time() > $deadline) {
                diag("sending stopped in block $n: $!");
                return $c;
            }
            substr($left, 0, $sent) = '' if $sent;
        }
    }
    $c->close if $count < $blocks;
    return $c;
}

sub upload {
    my ($front, $path, %o) = @_;
    my $c = send_blocks($front, $path, $blocks, %o);
    $c->read_until(qr/\0/, 60);
    return $c->body;
}

my $uploads = 0;

for my $input (qw(auto spool)) {
    my $spool = File::Temp::tempdir('spool-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    chmod 0777, $spool;
    my $server = BladePSGI::Test->start(
        workers => 1,
        app     => $app,
        env     => { TMPDIR => $spool },
        options => [ "--input=$input", "--spool-directory=$spool", BladePSGI::Test::Apache->server_options ],
    );
    my ($worker) = $server->worker_pids;
    my $peak = sub { read_text("/proc/$worker/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : die 'no VmHWM' };
    my $how = $input eq 'auto' ? 'streamed' : 'spooled';
    # CONTENT_LENGTH of what comes in chunks; whether the application is called before all of it is there.
    for my $case (
        [ 'nginx, fastcgi_request_buffering off', 'none', 1, Nginx => request_buffering => 'off' ],
        [ 'nginx, fastcgi_request_buffering off, kept', 'none', 1, Nginx => request_buffering => 'off', keep_conn => 'on' ],
        [ 'nginx', $size, 0, Nginx => () ],
        [ 'mod_proxy_fcgi by ProxyPass', 'none', 1, Apache => example => 'proxypass.conf' ],
        [ 'mod_proxy_fcgi by SetHandler, kept', 'none', 1, Apache => example => 'sethandler.conf', reuse => 'on max=1' ],
    ) {
        my ($title, $chunked, $streams, $kind, @options) = @$case;
        my $front = "BladePSGI::Test::$kind"->start(socket => $server->socket, @options);
        subtest "--input=$input, $title" => sub {
            is $front->get('/warm')->{content}, 'warm', 'the application answers' or return;
            $front->post('/upload/warm', 'x' x 2_000_000);
            my $before = $peak->();
            is upload($front, '/upload/known'), "$size $digest $size $how end", "$blocks MB, with its length";
            my $length = $input eq 'spool' && $chunked eq 'none' ? $size : $chunked;
            is upload($front, '/upload/chunked', chunked => 1), "$size $digest $length $how end", 'in chunks';
            is_deeply [ glob "$spool/*" ], [], 'nothing is left in the spool directory';

            my $name = 'broken' . ++$uploads;
            send_blocks($front, "/upload/$name", $blocks / 2);
            like $server->wait_mark($name), qr/ error\z/, 'one that breaks off: the application sees it' if $streams && $input eq 'auto';
            is $front->get('/warm')->{content}, 'warm', 'the next request is served';
            ok !-e $server->folder . "/mark-$name", 'the application has seen none of it' if !$streams || $input eq 'spool';
            is_deeply [ glob "$spool/*" ], [], 'nothing is left of it';

            for my $length (3_000, 500_000) {
                is $front->post('/unread', 'x' x $length)->{content}, 'not looked at', "$length bytes that the application does not read: its response arrives";
                is $front->get('/warm')->{content}, 'warm', 'and the next request is served';
            }
            my $growth = $peak->() - $before;
            cmp_ok $growth, '<', $memory, "the worker grew by $growth kB" unless is_sanitized();
        };
        $front->stop;
    }
    is_deeply [ $server->worker_pids ], [$worker], 'all by one worker';
    is $server->stop, 'exit 0', 'stops';
}

done_testing;
