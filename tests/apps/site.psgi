# What BladePSGI::Test::Site asks for; gate() and mark() are put in front by the test.
use strict;
use warnings;
use Digest::MD5 ();
use JSON::PP ();

my $json = JSON::PP->new->latin1->canonical;
my @text = ('Content-Type' => 'text/plain');

# A page that streams; "?accel" asks nginx not to buffer it.
sub stream_headers { return (@text, $_[0]{QUERY_STRING} eq 'accel' ? ('X-Accel-Buffering' => 'no') : ()) }

sub upload {
    my ($env) = @_;
    my $md5 = Digest::MD5->new;
    my ($length, $n) = (0, 0);
    while ($n = $env->{'psgi.input'}->read(my $bytes, 65536)) {
        $length += $n;
        $md5->add($bytes);
    }
    return [200, [@text], [join ' ', $length, $md5->hexdigest, $env->{CONTENT_LENGTH} // 'none', defined $n ? 'end' : 'error']];
}

my %page = (
    '/redirect'     => sub { [302, ['Location' => $_[0]{SCRIPT_NAME} . '/length?from=redirect'], []] },
    '/location-303' => sub { [303, ['Location' => 'http://elsewhere.example/x%2Fy?z', @text], ['See there']] },
    '/location-201' => sub { [201, ['Location' => 'http://elsewhere.example/x%2Fy?z', @text], ['made it']] },
    '/304'          => sub { [304, ['ETag' => '"x"'], []] },
    '/204'          => sub { [204, ['X-Seen' => 'yes'], []] },
    '/404'          => sub { [404, [@text], ['not here']] },
    '/500'          => sub { [500, [@text], ['on purpose']] },
    '/418'          => sub { [418, [@text], ['short and stout']] },
    '/die'          => sub { die "died\n" },
    '/length'       => sub { [200, [@text, 'Content-Length' => 5], ['12345']] },
    '/large'        => sub { [200, ['Content-Type' => 'application/octet-stream'], [map { pack 'N*', $_ * 62_500 .. $_ * 62_500 + 62_499 } 0 .. 19]] },
    '/large-header' => sub { [200, [@text, 'X-Large' => 'h' x 3000], ['large header']] },
    '/cookies'      => sub { [200, [@text, 'Set-Cookie' => 'a=1', 'Set-Cookie' => 'b=2; path=/'], ['two cookies']] },
    '/upload'       => \&upload,
    '/half'         => sub { sub { my $w = $_[0]->([200, [@text]]); $w->write("half of it\n"); die "in the middle\n" } },
    '/half-length'  => sub {
        sub { my $w = $_[0]->([200, [@text, 'Content-Length' => 100]]); $w->write('x' x 50); die "in the middle\n" }
    },
    '/half-large' => sub { sub { my $w = $_[0]->([200, [@text]]); $w->write('x' x 300_000); die "in the middle\n" } },
);

sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    return $page{$path}->($env) if $page{$path};
    if (my ($gate) = $path =~ m{\A/half-gated/(\w+)\z}) {
        return sub {
            my $writer = $_[0]->([200, [stream_headers($env)]]);
            $writer->write("half of it\n");
            gate($gate);
            die "in the middle\n";
        };
    }
    # Parts of these lengths, each written when the gate of the one before is open.
    if (my ($gate, $lengths) = $path =~ m{\A/stream/(\w+)/([\d,]+)\z}) {
        return sub {
            my $writer = $_[0]->([200, [stream_headers($env)]]);
            my $n = 0;
            for my $length (split /,/, $lengths) {
                $writer->write($n++ % 10 x $length);
                gate("$gate-$n");
            }
            $writer->close;
        };
    }
    my %plain = map { $_ => $env->{$_} } grep { !ref $env->{$_} } keys %$env;
    $plain{pid} = $$;
    if (($env->{CONTENT_LENGTH} || 0) > 0) {
        $env->{'psgi.input'}->read(my $body, $env->{CONTENT_LENGTH});
        $plain{body_digest} = Digest::MD5::md5_hex($body);
    }
    return [200, ['Content-Type' => 'application/json'], [$json->encode(\%plain)]];
};
