# Between two requests a worker holds no credentials and no form of a client, in none of its buffers; nor does the lobby of what it has given away. (The line of the request is in the
# log and in the statistics anyway.)

use strict;
use warnings;
no warnings 'portable';    # addresses have more than 32 bits

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI;
use BladePSGI::Test::HTTP;
use Test::More;

my $server = http_server(workers => 1, options => ['--max-body=200000'], app => <<'PERL');
sub {
    my ($env) = @_;
    my $seen = join ',', map { length($env->{$_} // '') } qw(HTTP_AUTHORIZATION HTTP_COOKIE QUERY_STRING);
    return [200, [], ['not read']] if $env->{PATH_INFO} eq '/unread';
    $env->{'psgi.input'}->read(my $body, 100_000) if $env->{CONTENT_LENGTH};
    my $length = length($body // '');
    # What the application has copied is its own affair; Perl keeps the buffer of a lexical.
    substr($body, 0) = "\0" x $length if $length;
    return [200, ['Content-Type' => 'text/plain'], ["$seen,$length"]];
};
PERL
my ($pid) = $server->worker_pids;

# How often each text stands in the memory of a process.
sub count_in_memory {
    my ($process, @texts) = @_;
    open my $maps, '<', "/proc/$process/maps" or return;
    open my $memory, '<:raw', "/proc/$process/mem" or return;
    my %count = map { $_ => 0 } @texts;
    while (my $line = <$maps>) {
        my ($from, $to, $may, $name) = $line =~ /\A([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)/ or next;
        next if $may !~ /\Arw/ || $name =~ /\[v/;
        return if hex($to) - hex($from) > 1 << 30;    # of a sanitizer
        sysseek $memory, hex $from, 0 or next;
        my $all = '';
        my $left = hex($to) - hex($from);
        while ($left > 0) {
            my $n = sysread $memory, $all, $left > 1 << 20 ? 1 << 20 : $left, length $all;
            last if !$n;
            $left -= $n;
        }
        for my $text (@texts) { $count{$text}++ while $all =~ /\Q$text\E/g }
    }
    return \%count;
}

# Different every time, and in this process only in pieces.
my $number = 0;
sub secret { my ($kind) = @_; return join '-', 'Secret', $kind, ++$number, $$ }

SKIP: {
    skip 'the memory of a worker cannot be read here', 1 unless count_in_memory($pid, 'x');
    ok count_in_memory($pid, "Blade: worker\0")->{"Blade: worker\0"} || count_in_memory($pid, 'HTTP_AUTHORIZATION')->{HTTP_AUTHORIZATION}, 'what is there is found';

    for my $kept (0, 1) {
        for my $over (qw(FastCGI HTTP)) {
            my %secret = map { $_ => secret($_) } qw(authorization cookie form);
            my $body = "password=$secret{form}";
            my $got;
            my $connection;
            if ($over eq 'HTTP') {
                $connection = http($server);
                my $r = $connection->request(uri => "/?query", body => $body, close => !$kept,
                    headers => [ Authorization => "Basic $secret{authorization}", Cookie => $secret{cookie} ]);
                $got = $r->{body};
            }
            else {
                $connection = BladePSGI::Test::FastCGI->connect($server->socket);
                my $r = $connection->request(keep => $kept, method => 'POST', uri => "/?query", body => $body,
                    env => { HTTP_AUTHORIZATION => "Basic $secret{authorization}", HTTP_COOKIE => $secret{cookie} });
                $got = $r->{body};
            }
            is $got, join(',', length($secret{authorization}) + 6, length $secret{cookie}, length 'query', length $body),
                "$over, " . ($kept ? 'kept' : 'closed') . ': the application has seen all of it';
            my $left;
            # The response comes before the worker is done.
            wait_for { $left = count_in_memory($pid, values %secret); !grep { $_ } values %$left } 5;
            is_deeply [ grep { $left->{ $secret{$_} } } sort keys %secret ], [], 'and nothing of it is left';
            $connection->close;
        }
    }

    # The ways by which more than the receive buffer sees it.
    for my $case (
        [ 'a header in two lines'     => '/',       [ Cookie => 'COOKIE', Cookie => 'b=1' ] ],
        [ 'a form that is streamed'   => '/',       [], 80_000 ],
        [ 'a form that nobody reads'  => '/unread', [], 100_000 ],
        [ 'a form that is too long'   => '/',       [], 300_000 ],
    ) {
        my ($name, $uri, $headers, $size) = @$case;
        my %secret = map { $_ => secret($_) } qw(authorization cookie form);
        my $connection = http($server);
        my $body = defined $size ? "password=$secret{form}&" . 'x' x ($size - 200) . "&again=$secret{form}" : undef;
        my $r = $connection->request(uri => $uri, body => $body,
            headers => [ Authorization => "Basic $secret{authorization}", map { s/COOKIE/$secret{cookie}/r } @$headers ]);
        is $r->{status}, $size && $size > 200_000 ? 413 : 200, "$name: answered";
        my $left;
        wait_for { $left = count_in_memory($pid, values %secret); !grep { $_ } values %$left } 5;
        is_deeply [ grep { $left->{ $secret{$_} } } sort keys %secret ], [], 'and forgotten';
        $connection->close;
    }

    # What comes in two parts has been in the lobby: short, and longer than what a message between processes takes in.
    my $lobby = $server->pid_of('lobby');
    for my $over (qw(FastCGI HTTP)) {
        for my $length (100, 50_000) {
            my %secret = map { $_ => secret($_) } qw(authorization cookie form);
            my $body = "password=$secret{form}&" . 'x' x $length;
            my ($connection, $bytes);
            if ($over eq 'HTTP') {
                $connection = http($server);
                $bytes = http_request(uri => '/', body => $body, headers => [ Authorization => "Basic $secret{authorization}", Cookie => $secret{cookie} ]);
            }
            else {
                $connection = $server->connect;
                $bytes = BladePSGI::Test::FastCGI::request_bytes(uri => '/', method => 'POST', body => $body, env => { HTTP_AUTHORIZATION => "Basic $secret{authorization}", HTTP_COOKIE => $secret{cookie} });
            }
            $connection->send(substr $bytes, 0, -20);
            is http($server)->request(uri => '/other', close => 1)->{status}, 200, "$over, $length bytes in two parts: the worker has given the first one away";
            $connection->send(substr $bytes, -20);
            like $connection->read_response->{body}, qr/,${\length $body}\z/, 'answered';
            my $left;
            wait_for { $left = { map { my $process = $_; my $count = count_in_memory($process, values %secret); map { ("$_ $process" => $count->{$_}) } values %secret } $pid, $lobby }; !grep { $_ } values %$left } 5;
            my %name = ($pid => 'worker', $lobby => 'lobby', reverse %secret);
            is_deeply [ map { join ' ', map { $name{$_} } split / / } grep { $left->{$_} } sort keys %$left ], [], 'and forgotten, by worker and lobby';
            $connection->close;
        }
    }
}
is_deeply [ $server->worker_pids ], [$pid], 'by the same worker';
is $server->stop, 'exit 0', 'stops';
done_testing;
