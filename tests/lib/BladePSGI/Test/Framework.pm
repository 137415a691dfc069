package BladePSGI::Test::Framework;

# A small application in one of the frameworks, behind nginx at the root and behind Apache under a prefix. All of them have the
# same pages; see any of tests/apps/frameworks.
#
#   check_framework('catalyst', streams => 1);

use strict;
use warnings;
use utf8;

use Digest::MD5 ();
use Encode ();
use Exporter 'import';
use Test::More;

use BladePSGI::Test;
use BladePSGI::Test::Apache;
use BladePSGI::Test::Nginx;

our @EXPORT = qw(check_framework);

# streams: whether the framework can send a response bit by bit.
sub check_framework {
    my ($name, %o) = @_;
    my $folder = BladePSGI::Test::project_root() . "/tests/apps/frameworks/$name";
    my $server = BladePSGI::Test->start(
        workers => 2,
        options => [ BladePSGI::Test::Apache->server_options ],
        # The application itself is as it would be anywhere.
        app     => BladePSGI::Test->gate_code . "do '$folder/app.psgi' || die \$@ || \$!;\n",
    );
    my @workers = $server->worker_pids;
    for my $case (
        [ 'nginx', '', BladePSGI::Test::Nginx->start(socket => $server->socket, buffering => 'off') ],
        [ 'Apache, under a prefix', '/app', BladePSGI::Test::Apache->start(socket => $server->socket, example => 'proxypass-prefix.conf') ],
    ) {
        my ($title, $prefix, $front) = @$case;
        subtest $title => sub { check_pages($front, $server, $prefix, %o) };
        $front->stop;
    }
    is_deeply [ $server->worker_pids ], \@workers, 'no worker died';
    is $server->stop, 'exit 0', 'stops';
    return;
}

sub check_pages {
    my ($front, $server, $prefix, %o) = @_;
    my $http = $front->http(max_redirect => 0);
    my $get = sub { my ($path, %headers) = @_; return $http->get($front->url($prefix . $path), { headers => \%headers }) };

    my $answer = $get->('/hello');
    is $answer->{content}, 'hello', 'a page' or return;

    my $cookie;
    for my $n (1 .. 4) {
        $answer = $get->('/count', $cookie ? (Cookie => $cookie) : ());
        is $answer->{content}, "count $n", "a session, request $n";
        my $set = $answer->{headers}{'set-cookie'};
        ($cookie) = (ref $set ? $set->[0] : $set) =~ /\A([^;]+)/ if $set;
    }
    is $get->('/count')->{content}, 'count 1', 'somebody else has another';

    my $name = 'Мир é';
    my $expected = Encode::encode_utf8("Grüße, $name ☃ 5");
    my $encoded = join '', map { sprintf '%%%02X', ord } split //, Encode::encode_utf8($name);
    $answer = $get->("/utf8?name=$encoded");
    is $answer->{content}, $expected, 'UTF-8 in a query and in a page';
    like $answer->{headers}{'content-type'}, qr/charset=utf-8/i, 'which says so';
    is $front->post("$prefix/utf8", "name=$encoded", 'Content-Type' => 'application/x-www-form-urlencoded')->{content}, $expected, 'in a form';

    my $path = $server->folder . '/upload.bin';
    if (!-e $path) {
        my $block = join '', map { chr($_ * 11 % 256) } 1 .. 1_048_576;
        write_text($path, join '', map { sprintf('%08d', $_) . substr $block, 8 } 1 .. 20);
    }
    open my $file, '<:raw', $path or die "$path: $!";
    my $digest = Digest::MD5->new->addfile($file)->hexdigest;
    my $run = $front->curl('-F', "file=\@$path", '-F', "title=" . Encode::encode_utf8($name), "$prefix/upload");
    is $run->{out}, Encode::encode_utf8("upload.bin 20971520 $digest $name"), 'an upload of 20 MB in a form' or diag($run->{err});

    $answer = $get->('/static/hello.txt');
    is $answer->{content}, Encode::encode_utf8("A file.\nGrüße\n"), 'a static file';
    like $answer->{headers}{'content-type'}, qr{\Atext/plain}, 'its type';

    $answer = $get->('/redirect');
    is $answer->{status}, 302, 'a redirect';
    my $here = $front->url("$prefix/hello");
    my $path_only = "$prefix/hello";
    like $answer->{headers}{location}, qr/\A(?:\Q$here\E|\Q$path_only\E)\z/, 'to where the application is';

    is $get->('/missing/page')->{status}, 404, 'no such page';
    is $get->('/error')->{status}, 500, 'an error';
    is $get->('/hello')->{content}, 'hello', 'and on it goes';

    if ($o{streams}) {
        my $gate = 'stream' . ++$server->{streams};
        my $c = $front->connect;
        $c->send("GET $prefix/stream/$gate HTTP/1.1\r\nHost: 127.0.0.1:@{[ $front->port ]}\r\nConnection: close\r\n\r\n");
        like $c->read_until(qr/first\n/, 10), qr/first\n/, 'what it streams is here while it still works on the rest';
        unlike $c->{in}, qr/second/, 'which is not';
        $server->open_gate($gate);
        $c->read_until(qr/\0/, 10);
        like $c->{in}, qr/second\n/, 'and comes later';
    }
    return;
}

1;
