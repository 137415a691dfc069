package BladePSGI::Bench::Workloads;

# What is asked of the servers, and which of them can be asked it. One entry is one line of the table: a server, started with an
# application, under the load generator with some options.

use strict;
use warnings;
use utf8;

use constant {
    MEGABYTE => 1024 * 1024,
    WORKERS  => 2,
    CLIENTS  => 8,
};

sub _hello { return ('--uri=/hello?n=%n', '--expect=Hello, World!') }

my @fcgi_peers = qw(uwsgi plack);
my @bare_hello = ('--bare', 'Hello, World!');

# entries: names of servers, or { server, label, load => options added, env }.
my @WORKLOADS = (
    {
        name    => 'hello',
        title   => 'hello',
        app     => 'hello',
        load    => [_hello()],
        bare    => \@bare_hello,
        entries => ['bladepsgi', 'floor', 'bare', @fcgi_peers],
    },
    {
        name    => 'env',
        title   => 'env, 5 keys read',
        app     => 'env',
        load    => ['--uri=/env/path?n=%n', '--expect=GET /env/path n=%n www.example.org 1024'],
        entries => ['bladepsgi', 'floor', @fcgi_peers],
    },
    {
        name    => 'string',
        title   => '100 KB string',
        app     => 'string',
        load    => ['--expect-pattern=102400'],
        bare    => ['--pattern', 102_400, 1],
        entries => ['bladepsgi', 'floor', 'bare', @fcgi_peers],
    },
    {
        name    => 'post',
        title   => '16 KB POST',
        app     => 'length',
        load    => ['--body=16384', '--expect=16384'],
        entries => ['bladepsgi', @fcgi_peers],
    },
    {
        name    => 'stream',
        title   => '10 × 1 KB stream',
        app     => 'stream',
        load    => ['--expect-pattern=10240'],
        bare    => ['--pattern', 10_240, 10],
        entries => ['bladepsgi', 'bare', @fcgi_peers],
    },
    {
        name    => 'file',
        title   => '10 MB file handle',
        app     => 'file',
        load    => ['--expect-pattern=' . 10 * MEGABYTE],
        entries => ['bladepsgi', @fcgi_peers],
    },
    {
        name    => 'upload',
        title   => '10 MB upload',
        app     => 'length',
        load    => ['--body=' . 10 * MEGABYTE, '--expect=' . 10 * MEGABYTE],
        entries => ['bladepsgi', @fcgi_peers],
    },
    {
        name    => 'kept',
        title   => 'hello, 2 kept connections',
        app     => 'hello',
        load    => [_hello(), '--keep', '--connections=2'],
        bare    => \@bare_hello,
        entries => ['bladepsgi', 'floor', 'bare', 'plack'],    # uWSGI does not keep them
    },
    {
        name    => 'crowded',
        title   => 'hello, 8 kept connections on 2 workers',
        app     => 'hello',
        load    => [_hello()],
        entries => [
            { server => 'bladepsgi', label => 'BladePSGI, kept', load => ['--keep'] },
            { server => 'bladepsgi', label => 'BladePSGI, fresh' },
        ],
    },
    {
        name    => 'middleware',
        title   => 'a dozen keys added to env',
        app     => 'middleware',
        load    => ['--uri=/mw/path?n=%n', '--expect=GET /mw/path %n 1'],
        entries => [
            'bladepsgi',
            { server => 'bladepsgi', label => 'BladePSGI, env held', env => { BLADEPSGI_BENCH_HOLD => 1 } },
            @fcgi_peers,
        ],
    },
    {
        name    => 'http',
        title   => 'hello over HTTP',
        app     => 'hello',
        load    => [_hello()],
        entries => ['bladepsgi-http', 'starman'],
    },
    {
        name    => 'http-kept',
        title   => 'hello over HTTP, 2 kept connections',
        app     => 'hello',
        load    => [_hello(), '--keep', '--connections=2'],
        entries => ['bladepsgi-http', 'starman'],
    },
    {
        name    => 'idle',
        title   => 'hello beside 1000 idle and 1000 half-sent',
        app     => 'hello',
        load    => [_hello()],
        entries => [
            { server => 'bladepsgi', label => 'BladePSGI, with them', load => ['--idle=1000', '--half=1000'] },
            { server => 'bladepsgi', label => 'BladePSGI, without' },
        ],
    },
);

sub all { return @WORKLOADS }

sub named {
    my ($name) = @_;
    my ($found) = grep { $_->{name} eq $name } @WORKLOADS;
    return $found;
}

1;
