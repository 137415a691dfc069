# CGI.pm under CGI::Emulate::PSGI, CGI::PSGI and Plack::App::WrapCGI (compiled in, and executed): fresh parameters and
# the whole body, each time, directly and behind nginx.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use BladePSGI::Test::Nginx;
use Digest::MD5 'md5_hex';
use Test::More;

my $script = <<'PERL';
#!/usr/bin/perl
use strict;
use warnings;
use CGI;
use Digest::MD5;
my $q = CGI->new;
print $q->header(-type => 'text/plain', -charset => 'utf-8', -cookie => $q->cookie(-name => 'seen', -value => $q->param('a') // 'none'));
print "method=", $q->request_method, "\n";
for my $name (sort $q->param) {
    my @values = $q->multi_param($name);
    if (my $file = $q->upload($name)) {
        binmode $file;
        print "$name: upload $values[0] ", Digest::MD5->new->addfile($file)->hexdigest, "\n";
        next;
    }
    print "$name=", join('|', map { length > 200 ? Digest::MD5::md5_hex($_) : $_ } @values), "\n";
}
print "path=", $q->path_info, " query=", $q->query_string =~ tr/;/&/r, "\n" if $q->request_method eq 'GET';
PERL

my $server = BladePSGI::Test->start(
    workers => 2,
    files   => { 'script.cgi' => $script },
    app     => <<'PERL',
use strict;
use warnings;
use CGI::Emulate::PSGI;
use CGI::PSGI;
use Digest::MD5;
use Plack::App::WrapCGI;
use Plack::Builder;
use CGI ();
chmod 0755, 'script.cgi';
my $code = do { open my $in, '<', 'script.cgi'; local $/; readline $in };
my $emulated = eval "sub { CGI::initialize_globals(); $code }" or die $@;
builder {
    mount '/emulate' => CGI::Emulate::PSGI->handler($emulated);
    mount '/wrapped' => Plack::App::WrapCGI->new(script => 'script.cgi')->to_app;
    mount '/executed' => Plack::App::WrapCGI->new(script => 'script.cgi', execute => 1)->to_app;
    mount '/cgi-psgi' => sub {
        my ($env) = @_;
        my $q = CGI::PSGI->new($env);
        my $text = 'method=' . $q->request_method . "\n";
        for my $name (sort $q->param) {
            my @values = $q->multi_param($name);
            if (my $file = $q->upload($name)) {
                $text .= "$name: upload $values[0] " . Digest::MD5->new->addfile($file)->hexdigest . "\n";
                next;
            }
            $text .= "$name=" . join('|', map { length > 200 ? Digest::MD5::md5_hex($_) : $_ } @values) . "\n";
        }
        my $cookie = $q->cookie(-name => 'seen', -value => $q->param('a') // 'none');
        return [$q->psgi_header(-type => 'text/plain', -charset => 'utf-8', -cookie => $cookie), [$text]];
    };
};
PERL
);
my $nginx = BladePSGI::Test::Nginx->start(socket => $server->socket, keep_conn => 'on', request_buffering => 'off');

my $long = join '', map { chr 97 + $_ % 26 } 1 .. 60_000;
my $longer = $long x 3;
my $file = join '', map { chr($_ * 7 % 256) } 1 .. 150_000;
my $multipart = join '', map { "--XX\r\n$_" } "Content-Disposition: form-data; name=\"a\"\r\n\r\nfield\r\n",
    "Content-Disposition: form-data; name=\"file\"; filename=\"f.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n$file\r\n";
$multipart .= "--XX--\r\n";

for my $kind (qw(emulate wrapped executed cgi-psgi)) {
    subtest $kind => sub {
        for my $round (1 .. 3) {
            my $get = $server->get("/$kind/path?a=$round&b=x%20y&b=z", env => { PATH_INFO => undef });
            is $get->{status}, 200, "round $round: GET";
            like $get->{body}, qr/\Amethod=GET\na=$round\nb=x y\|z\n/, 'its own parameters';
            like $get->{header}{'set-cookie'}, qr/seen=$round\b/, 'and headers';
            like $get->{header}{'content-type'}, qr{text/plain}, 'and type';

            my %form = (type => 'application/x-www-form-urlencoded');
            is $server->post("/$kind", "c=$round&d=", %form)->{body}, "method=POST\nc=$round\nd=\n",
                'POST: fresh parameters, nothing of the request before';
            is $server->post("/$kind", "long=$long", %form)->{body}, "method=POST\nlong=" . md5_hex($long) . "\n",
                'a body of 60 kB, whole';
            is $server->post("/$kind", "long=$longer", %form)->{body}, "method=POST\nlong=" . md5_hex($longer) . "\n",
                'a body of 180 kB, whole';
            is $server->post("/$kind", $multipart, type => 'multipart/form-data; boundary=XX')->{body},
                "method=POST\na=field\nfile: upload f.bin " . md5_hex($file) . "\n", 'an upload, whole';
            is $server->get("/$kind")->{body} =~ s/^path.*\n//mr, "method=GET\n", 'no parameters at all';
        }
        my $answer = $nginx->post("/$kind", "long=$longer&x=1", 'Content-Type' => 'application/x-www-form-urlencoded');
        is $answer->{content}, "method=POST\nlong=" . md5_hex($longer) . "\nx=1\n", 'behind nginx';
        $answer = $nginx->get("/$kind?a=behind");
        like $answer->{content}, qr/\Amethod=GET\na=behind\n/, 'behind nginx, GET';
        $answer = $nginx->post("/$kind", $multipart, 'Content-Type' => 'multipart/form-data; boundary=XX');
        is $answer->{content}, "method=POST\na=field\nfile: upload f.bin " . md5_hex($file) . "\n", 'behind nginx, upload';
    };
}

is scalar($server->worker_pids), 2, 'both workers are there';
is $server->stop, 'exit 0', 'stops';
unlike $server->log, qr/signal|exit code/, 'and none died';
done_testing;
