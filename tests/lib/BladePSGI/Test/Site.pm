package BladePSGI::Test::Site;

# What must hold whichever web server is in front: the application sees the request that the browser sent, and the browser
# the response that the application gave. The application is tests/apps/site.psgi.
#
#   my $server = site_server(options => [ BladePSGI::Test::Apache->server_options ]);
#   my $front  = BladePSGI::Test::Apache->start(socket => $server->socket, …, tls => 1);
#   check_site($front, $server, prefix => '/app', cookies => 'a=1, b=2');
#
# What a web server cannot do is said by the caller, with the reason, and what it does instead is checked then.

use strict;
use warnings;

use Digest::MD5 ();
use Exporter 'import';
use JSON::PP ();
use POSIX ();
use Test::More;

use BladePSGI::Test;

our @EXPORT = qw(site_server site_folder fcgi_program check_site check_environment check_streaming check_in_step environment_in);

my $json = JSON::PP->new->latin1;
my $megabytes = 20;

# Options of BladePSGI::Test->start.
sub site_server {
    my (%o) = @_;
    my $text = read_text(BladePSGI::Test::project_root() . '/tests/apps/site.psgi');
    return BladePSGI::Test->start(workers => 2, app => BladePSGI::Test->gate_code . $text, %o);
}

# For web servers that start the application server themselves: where bladepsgi-fcgi would be, and a folder with the
# application in it. It has no process, only files; its log is the web server's, told by log_is.
sub fcgi_program { return bladepsgi_binary() =~ s{[^/]+\z}{bladepsgi-fcgi}r }

sub site_folder {
    my $server = BladePSGI::Test->prepare;
    my $folder = $server->folder;
    my $text = read_text(BladePSGI::Test::project_root() . '/tests/apps/site.psgi');
    # Gates and marks are files in the working directory, which is the web server's choice.
    write_text("$folder/app.psgi", "chdir '$folder' or die;\n" . BladePSGI::Test->gate_code . $text);
    chmod 0777, $folder;    # whoever runs it makes its marks there
    return $server;
}

# prefix       where the application is mounted, "" for the root
# cookies      what becomes of two Cookie lines, "a=1; b=2"
# chunked      CONTENT_LENGTH of an upload of 20 MB in chunks: "none", "known", or the HTTP status that refuses it
# slash        the HTTP status by which the prefix without a slash is redirected to the one with it
# bodiless     methods whose body the web server drops
# accel        the application asks nginx not to buffer what it streams
# latin1       the HTTP status that refuses a path that is not UTF-8
# unseen       { page => reason }: responses that break off and may look whole to the browser; gated: even when half of one
#              has arrived before
sub check_site {
    my ($front, $server, %o) = @_;
    $o{prefix} //= '';
    # With nobody there each of the many checks would wait for its time limit.
    my $answer = $front->get("$o{prefix}/length");
    is $answer->{content}, '12345', 'the application answers' or return;
    subtest 'the environment'   => sub { check_environment($front, $server, %o) };
    subtest 'responses'         => sub { check_responses($front, $server, %o) };
    subtest 'request bodies'    => sub { check_bodies($front, $server, %o) };
    subtest 'streaming'         => sub { check_streaming($front, $server, %o) };
    subtest 'broken responses'  => sub { check_broken($front, $server, %o) };
    subtest 'many at once'      => sub { check_in_step($front, $server, %o) };
    return;
}

# The environment that the application reports in a response.
sub environment_in {
    my ($answer) = @_;
    my $env = eval { $json->decode($answer->{content}) };
    diag("status $answer->{status}: " . substr $answer->{content} // '', 0, 500) unless ref $env;
    return ref $env ? $env : {};
}

sub check_environment {
    my ($front, $server, %o) = @_;
    my $prefix = $o{prefix};
    my $http = $front->http;
    my $get = sub { my ($path, %headers) = @_; environment_in($http->get($front->url($prefix . $path), { headers => \%headers })) };

    my $env = $get->('/a%2Fb//c%20d?x=%201&y');
    is $env->{SCRIPT_NAME}, $prefix, 'SCRIPT_NAME is where the application is mounted';
    is $env->{PATH_INFO}, '/a/b//c d', 'PATH_INFO is the rest, decoded, slashes as they were';
    is $env->{QUERY_STRING}, 'x=%201&y', 'QUERY_STRING is raw';
    is $env->{REQUEST_URI}, "$prefix/a%2Fb//c%20d?x=%201&y", 'REQUEST_URI, too';
    is $env->{REQUEST_METHOD}, 'GET', 'REQUEST_METHOD';
    is environment_in($front->http(local_address => '127.0.0.2')->get($front->url("$prefix/")))->{REMOTE_ADDR}, '127.0.0.2', 'REMOTE_ADDR is that of the client';
    is $env->{SERVER_NAME}, '127.0.0.1', 'SERVER_NAME';
    is $env->{SERVER_PORT}, $front->port, 'SERVER_PORT';
    is $env->{SERVER_PROTOCOL}, 'HTTP/1.1', 'SERVER_PROTOCOL';
    is $env->{HTTP_HOST}, '127.0.0.1:' . $front->port, 'HTTP_HOST';
    is $env->{'psgi.url_scheme'}, 'http', 'the scheme';
    is $env->{CONTENT_LENGTH} // 0, 0, 'no body';
    ok !exists $env->{$_}, "no $_" for qw(CONTENT_TYPE HTTP_CONTENT_LENGTH HTTP_CONTENT_TYPE HTTP_PROXY HTTP_AUTHORIZATION);
    is $env->{REMOTE_USER} // '', '', 'no REMOTE_USER';
    unlike $env->{HTTPS} // '', qr/\A(?:on|1)\z/i, 'no HTTPS';

    for my $case ([ '/', '/' ], [ '//', '//' ], [ '/x/', '/x/' ], [ '/%E4%F6%25', "/\xe4\xf6%" ], [ '/%C3%A4', "/\xc3\xa4" ], [ '/x%3Fy', '/x?y' ], [ '/a+b', '/a+b' ], [ '/a;b=c', '/a;b=c' ]) {
        my ($path, $decoded) = @$case;
        if ($o{latin1} && $path =~ /%E4/) {
            is $http->get($front->url($prefix . $path))->{status}, $o{latin1}, "the path $path is refused: it is not UTF-8";
            next;
        }
        $env = $get->($path);
        is_deeply [ @$env{qw(SCRIPT_NAME PATH_INFO REQUEST_URI QUERY_STRING)} ], [ $prefix, $decoded, $prefix . $path, '' ], "the path $path";
    }
    if (length $prefix) {
        if ($o{slash}) {
            my $answer = $front->http(max_redirect => 0)->get($front->url("$prefix?x=1"));
            is_deeply [ $answer->{status}, $answer->{headers}{location} ], [ $o{slash}, $front->url("$prefix/?x=1") ], 'the prefix without a slash is redirected';
        }
        $env = $get->('') if !$o{slash};
        is_deeply [ @$env{qw(SCRIPT_NAME PATH_INFO REQUEST_URI)} ], [ $prefix, '', $prefix ], 'the prefix without a slash' if !$o{slash};
        $env = $get->("$prefix/x");
        is_deeply [ @$env{qw(SCRIPT_NAME PATH_INFO)} ], [ $prefix, "$prefix/x" ], 'the prefix twice';
        unlike $http->get($front->url("${prefix}lication"))->{content} // '', qr/"SCRIPT_NAME"/, 'what only begins with it is not ours';
    }
    is $get->('/?a=b?c/d%2F')->{QUERY_STRING}, 'a=b?c/d%2F', 'a query with question mark and slashes';
    is $get->('/?')->{QUERY_STRING}, '', 'an empty query';

    $env = $get->('/', Authorization => 'Basic dXNlcjpw', Proxy => 'http://evil.example/', 'X-Many' => [ 'a', 'b' ], Cookie => [ 'a=1', 'b=2' ], 'X-Long' => 'l' x 5000);
    is $env->{HTTP_AUTHORIZATION}, 'Basic dXNlcjpw', 'Authorization';
    ok !exists $env->{HTTP_PROXY}, 'no Proxy';
    like $env->{HTTP_X_MANY}, qr/\Aa, ?b\z/, 'a repeated header';
    is $env->{HTTP_COOKIE}, $o{cookies} // 'a=1; b=2', 'two Cookie lines';
    is $env->{HTTP_X_LONG}, 'l' x 5000, 'a long header';

    for my $method (qw(POST PUT PATCH DELETE OPTIONS)) {
        my $answer = $http->request($method, $front->url("$prefix/m"), { content => 'body', headers => { 'Content-Type' => 'text/x; y=z' } });
        $env = environment_in($answer);
        if (grep { $_ eq $method } @{ $o{bodiless} || [] }) {
            is_deeply [ @$env{qw(REQUEST_METHOD CONTENT_LENGTH)} ], [ $method, 0 ], "$method: its body is dropped";
            next;
        }
        is_deeply [ @$env{qw(REQUEST_METHOD CONTENT_LENGTH CONTENT_TYPE body_digest)} ], [ $method, 4, 'text/x; y=z', Digest::MD5::md5_hex('body') ], "$method with a body";
    }

    if ($front->tls_port) {
        for my $version ('1.1', '2') {
            my $run = $front->curl('-k', "--http$version", '-w', "\n%{http_version}", $front->tls_url("$prefix/s%2Ft"));
            my ($content, $spoken) = $run->{out} =~ /\A(.*)\n(.*)\z/s;
            is $spoken, $version, "HTTP/$version by TLS" or diag($run->{err});
            $env = environment_in({ status => $run->{exit}, content => $content });
            is $env->{'psgi.url_scheme'}, 'https', 'the scheme';
            like $env->{HTTPS}, qr/\A(?:on|1)\z/i, 'HTTPS';
            is_deeply [ @$env{qw(HTTP_HOST SERVER_PORT PATH_INFO)} ], [ '127.0.0.1:' . $front->tls_port, $front->tls_port, '/s/t' ], 'HTTP_HOST, SERVER_PORT, PATH_INFO';
        }
    }
    return;
}

sub check_responses {
    my ($front, $server, %o) = @_;
    my $prefix = $o{prefix};
    my $http = $front->http(max_redirect => 0);
    my $get = sub { return $http->get($front->url($prefix . $_[0])) };

    my $answer = $get->('/redirect');
    is $answer->{status}, 302, 'a redirect goes to the browser';
    is $answer->{headers}{location}, "$prefix/length?from=redirect", 'as it is';
    is $front->get("$prefix/redirect")->{content}, '12345', 'and leads on';
    for my $case ([ 201, 'made it' ], [ 303, 'See there' ]) {
        my ($status, $content) = @$case;
        $answer = $get->("/location-$status");
        is_deeply [ $answer->{status}, $answer->{headers}{location}, $answer->{content} ], [ $status, 'http://elsewhere.example/x%2Fy?z', $content ], "status $status with a Location";
    }

    $answer = $get->('/204');
    is_deeply [ $answer->{status}, $answer->{content} // '', $answer->{headers}{'x-seen'} ], [ 204, '', 'yes' ], 'status 204';
    $answer = $get->('/304');
    is_deeply [ $answer->{status}, $answer->{content} // '', $answer->{headers}{etag} ], [ 304, '', '"x"' ], 'status 304';
    ok !exists $answer->{headers}{status}, 'no header Status';
    for my $case ([ 404, 'not here' ], [ 418, 'short and stout' ], [ 500, 'on purpose' ]) {
        $answer = $get->("/$case->[0]");
        is_deeply [ @$answer{qw(status content)} ], $case, "status $case->[0], the page is the application's";
    }
    is $get->('/die')->{status}, 500, 'an application that dies: 500';
    log_like $server, qr/the application died: died/, 'and the reason is in the log';

    my $expected = Digest::MD5->new;
    $expected->add(pack 'N*', $_ * 62_500 .. $_ * 62_500 + 62_499) for 0 .. 19;
    $answer = $get->('/large');
    is length $answer->{content}, 5_000_000, 'a large response';
    is Digest::MD5::md5_hex($answer->{content}), $expected->hexdigest, 'byte by byte';
    is length($get->('/large-header')->{headers}{'x-large'} // ''), 3000, 'a large header';
    is_deeply $get->('/cookies')->{headers}{'set-cookie'}, [ 'a=1', 'b=2; path=/' ], 'two cookies';

    for my $path ('/large', '/length') {
        $answer = $http->head($front->url($prefix . $path));
        is_deeply [ $answer->{status}, $answer->{content} // '' ], [ 200, '' ], "HEAD $path";
        like $answer->{headers}{'content-length'} // 'none', $path eq '/length' ? qr/\A(?:5|none)\z/ : qr/\A(?:5000000|none)\z/, 'with no wrong length';
    }
    is $get->('/length')->{content}, '12345', 'and the next one is right again';
    return;
}

# A file for uploads, and its digest.
sub upload_file {
    my ($server) = @_;
    my $path = $server->folder . '/upload.bin';
    my $md5 = Digest::MD5->new;
    my $block = join '', map { chr($_ * 11 % 256) } 1 .. 1_048_576;
    open my $out, '>:raw', $path or die "$path: $!";
    for my $n (1 .. $megabytes) {
        substr($block, 0, 8) = sprintf '%08d', $n;
        print {$out} $block;
        $md5->add($block);
    }
    close $out or die "$path: $!";
    return ($path, $md5->hexdigest);
}

sub check_bodies {
    my ($front, $server, %o) = @_;
    my $prefix = $o{prefix};
    my ($path, $digest) = @{ $server->{upload} ||= [ upload_file($server) ] };
    my $size = -s $path;
    my $run = $front->curl('-X', 'POST', '-T', $path, "$prefix/upload");
    is $run->{out}, "$size $digest $size end", "$megabytes MB" or diag($run->{err});

    my $chunked = $o{chunked} || 'none';
    $run = $front->curl('-X', 'POST', '-T', $path, '-H', 'Expect:', '-H', 'Transfer-Encoding: chunked', '-w', "\n%{http_code}", "$prefix/upload");
    if ($chunked =~ /\A\d+\z/) {
        # Without a response when it closed while the body was still being sent.
        like $run->{out}, qr/\n(?:$chunked|000)\z/, "the same in chunks: refused with $chunked";
    }
    else {
        is $run->{out}, join(' ', $size, $digest, $chunked eq 'known' ? $size : 'none', "end\n200"), "the same in chunks, CONTENT_LENGTH $chunked" or diag($run->{err});
    }
    is $front->post("$prefix/upload", '', 'Content-Type' => 'text/plain')->{content}, '0 d41d8cd98f00b204e9800998ecf8427e 0 end', 'an empty one';
    is $front->post("$prefix/length", 'x' x 500_000)->{content}, '12345', 'one that the application does not read: its response arrives';
    is $front->get("$prefix/length")->{content}, '12345', 'and the next one';
    return;
}

# Each part is here, all of it, while the application waits to be let go on; in 10 seconds at the latest.
sub check_streaming {
    my ($front, $server, %o) = @_;
    my $gate = 'stream' . ++$server->{streams};
    my $c = $front->connect;
    # Little, less, more than any buffer on the way, and little again.
    my @lengths = @{ $o{lengths} || [ 6, 1, 300_000, 2 ] };
    $c->send("GET $o{prefix}/stream/$gate/@{[ join ',', @lengths ]}@{[ $o{accel} ? '?accel' : '' ]} HTTP/1.1\r\nHost: 127.0.0.1:@{[ $front->port ]}\r\nConnection: close\r\n\r\n");
    my $expected = '';
    my $deadline = $c->deadline(10);
    my @missed;
    for my $n (1 .. @lengths) {
        $expected .= ($n - 1) % 10 x $lengths[ $n - 1 ];
        1 while length $c->body < length $expected && $c->read_some($deadline);
        push @missed, $n if $c->body ne $expected;
        $server->open_gate("$gate-$n");
    }
    is "@missed", '', @lengths . ' parts, each of them here while the application waits to write the next';
    $c->read_until(qr/\0/, 10);
    ok $c->is_eof, 'then it ends';
    is length $c->body, length $expected, 'with nothing more';
    return;
}

sub check_broken {
    my ($front, $server, %o) = @_;
    for my $page (qw(half half-length half-large)) {
        my $run = $front->curl('-H', 'Connection: close', "$o{prefix}/$page");
        if (my $reason = $o{unseen}{$page}) {
            like $run->{exit}, qr/\Aexit (?:0|18|52|56)\z/, "/$page breaks off, which may not be seen: $reason";
        }
        else {
            like $run->{exit}, qr/\Aexit (?:18|52|56)\z/, "/$page breaks off: curl sees it";
        }
        is $front->get("$o{prefix}/length")->{content}, '12345', 'the next one is whole';
    }
    return if $o{unseen}{gated};
    my $gate = 'broken' . ++$server->{streams};
    my $c = $front->connect;
    $c->send("GET $o{prefix}/half-gated/$gate@{[ $o{accel} ? '?accel' : '' ]} HTTP/1.1\r\nHost: 127.0.0.1:@{[ $front->port ]}\r\nConnection: close\r\n\r\n");
    like $c->read_until(qr/half of it\n/, 10), qr/transfer-encoding: chunked.*half of it\n/si, 'half of a response is here';
    $server->open_gate($gate);
    unlike $c->read_until(qr/\r\n0\r\n/, 20), qr/\r\n0\r\n/, 'it breaks off: no end of the chunks';
    ok $c->is_eof, 'but of the connection';
    return;
}

# Several clients at once, more than there are workers, each over one kept connection: everybody gets the answers to its
# own questions.
sub check_in_step {
    my ($front, $server, %o) = @_;
    my ($clients, $requests) = ($o{clients} || 6, 12);
    my %reader;
    for my $client (1 .. $clients) {
        pipe my $reader, my $writer or die "pipe: $!";
        my $pid = fork;
        die "fork: $!" unless defined $pid;
        if (!$pid) {
            close $reader;
            my $http = $front->http(keep_alive => 1);
            my @wrong;
            for my $n (1 .. $requests) {
                my $path = "$o{prefix}/client-$client/$n";
                my $method = $n % 2 ? 'GET' : 'POST';
                my $body = $n % 2 ? '' : "body of $path " . 'x' x (1000 * $n);
                my $answer = $http->request($method, $front->url($path), length $body ? { content => $body } : {});
                my $env = eval { $json->decode($answer->{content}) };
                push @wrong, "$method $path: $answer->{status} " . substr $answer->{content}, 0, 200
                    unless ref $env && $env->{REQUEST_URI} eq $path && $env->{REQUEST_METHOD} eq $method && ($env->{body_digest} // '') eq (length $body ? Digest::MD5::md5_hex($body) : '');
            }
            print {$writer} join "\n", @wrong;
            close $writer;
            POSIX::_exit(0);
        }
        close $writer;
        $reader{$pid} = $reader;
    }
    my $report = '';
    for my $pid (sort { $a <=> $b } keys %reader) {
        local $/;
        $report .= readline($reader{$pid}) // '';
        waitpid $pid, 0;
        $report .= "a client ended by $?\n" if $?;
    }
    is $report, '', "$clients clients with $requests requests each";
    return;
}

1;
