# Behind nginx: large uploads without memory growth or a file on disk; chunked ones without CONTENT_LENGTH.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Nginx;
use Digest::MD5 ();
use Test::More;

my $megabytes = is_long() ? 500 : 20;

my $spool = File::Temp::tempdir('spool-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $server = BladePSGI::Test->start(workers => 1, env => { TMPDIR => $spool }, options => ["--spool-directory=$spool"], app => <<'PERL');
use strict;
use Digest::MD5;
sub {
    my ($env) = @_;
    return [200, [], ['warm']] if $env->{PATH_INFO} eq '/warm';
    return [200, [], ['not looked at']] if $env->{PATH_INFO} eq '/unread';
    my $md5 = Digest::MD5->new;
    my ($length, $files, $n) = (0, 0);
    while ($n = $env->{'psgi.input'}->read(my $bytes, 262144)) {
        $length += $n;
        $md5->add($bytes);
        next if $length & 0x7fffff && $length > 1_000_000;
        my @open = grep { m{^/} && !m{^/(?:dev|proc)/} } map { readlink($_) // () } glob '/proc/self/fd/*';
        $files += grep { !/memfd/ } @open;
        $files += glob "$ENV{TMPDIR}/*" if glob "$ENV{TMPDIR}/*";
    }
    return [200, [], [join ' ', $length, $md5->hexdigest, $files, $env->{CONTENT_LENGTH} // 'none', defined $n ? 'end' : 'error']];
};
PERL

my $path = $server->folder . '/upload.bin';
my $md5 = Digest::MD5->new;
{
    my $block = join '', map { chr($_ * 11 % 256) } 1 .. 1_048_576;
    open my $out, '>:raw', $path or die $!;
    for my $n (1 .. $megabytes) {
        substr($block, 0, 8) = sprintf '%08d', $n;
        print {$out} $block;
        $md5->add($block);
    }
    close $out or die $!;
}
my ($size, $digest) = (-s $path, $md5->hexdigest);
my ($worker) = $server->worker_pids;

sub peak { read_text("/proc/$worker/status") =~ /^VmHWM:\s+(\d+)/m; return $1 }

for my $keep (qw(off on)) {
    my $nginx = BladePSGI::Test::Nginx->start(socket => $server->socket, request_buffering => 'off', keep_conn => $keep);
    subtest "$megabytes MB, request buffering off, keep_conn $keep" => sub {
        $nginx->get('/warm');
        $nginx->curl('-T', '/etc/passwd', '/warm-up-of-the-same-code');
        my $before = peak();
        my $run = $nginx->curl('-X', 'POST', '-T', $path, '-H', 'Expect:', '/');
        is $run->{out}, "$size $digest 0 $size end", 'whole, with its length, and no file was open'
            or diag $run->{err};
        my $growth = peak() - $before;
        cmp_ok $growth, '<', 2048, "memory of the worker grew by $growth kB" unless is_sanitized();
        $before = peak();
        $run = $nginx->curl('-X', 'POST', '-T', $path, '-H', 'Transfer-Encoding: chunked', '-H', 'Expect:', '/');
        is $run->{out}, "$size $digest 0 none end", 'chunked, without CONTENT_LENGTH';
        $growth = peak() - $before;
        cmp_ok $growth, '<', 2048, "memory of the worker grew by $growth kB" unless is_sanitized();
        is_deeply [ glob "$spool/*" ], [], 'nothing in the spool directory';
        is $nginx->get('/warm')->{content}, 'warm', 'the next request is served';
    };
    subtest "an upload that the application does not read, keep_conn $keep" => sub {
        my $run = $nginx->curl('-X', 'POST', '-T', '/etc/passwd', '-H', 'Expect:', '/unread');
        is $run->{out}, 'not looked at', 'a small one: its response arrives';
        is $nginx->get('/warm')->{content}, 'warm', 'and the next request is served';
        is $nginx->post('/unread', 'x' x 500_000)->{content}, 'not looked at', 'half a megabyte';
        is $nginx->get('/warm')->{content}, 'warm', 'and the next request is served';
    };
}

my $buffering = BladePSGI::Test::Nginx->start(socket => $server->socket, request_buffering => 'on');
my $run = $buffering->curl('-X', 'POST', '-T', $path, '-H', 'Transfer-Encoding: chunked', '-H', 'Expect:', '/');
is $run->{out}, "$size $digest 0 $size end", 'request buffering on: nginx collects it and sends its length';

is_deeply [ $server->worker_pids ], [$worker], 'by one worker';
is $server->stop, 'exit 0', 'stops';
done_testing;
