# The application that most tests of the protocol run: it says what it was given.
#
#   /env       the environment as JSON, plain values only
#   /body      length and MD5 of the body, and how reading it ended
#   /unread    does not look at the body
#   /block/X   makes the file mark-X, waits for the file gate-X, answers; reads no body
#   /write/X   streams a line, then as /block, then a second line, and says in the file mark-written-X how that went
#   /big/N     N bytes
#   /count     how often the application was called in this worker
#   others     method, path and worker

use strict;
use warnings;

use Digest::MD5;
use JSON::PP ();

my $calls = 0;

sub mark {
    my ($name, $text) = @_;
    open my $out, '>', "mark-$name.new" or die "mark: $!";
    print {$out} $text;
    close $out;
    rename "mark-$name.new", "mark-$name";
}

sub gate {
    my ($name) = @_;
    for (1 .. 6000) {
        return if -e "gate-$name";
        select undef, undef, undef, 0.01;
    }
    die "gate $name was never opened";
}

sub {
    my ($env) = @_;
    $calls++;
    my $path = $env->{PATH_INFO};
    if ($path eq '/env') {
        my %plain = map { $_ => $env->{$_} } grep { !ref $env->{$_} } keys %$env;
        return [200, ['Content-Type' => 'application/json'], [JSON::PP->new->latin1->canonical->encode(\%plain)]];
    }
    if ($path eq '/body') {
        my $md5 = Digest::MD5->new;
        my $length = 0;
        my ($n, $error);
        while (1) {
            local $! = 0;
            $n = $env->{'psgi.input'}->read(my $bytes, 65536);
            $error = $!;
            last unless $n;
            $length += $n;
            $md5->add($bytes);
        }
        my $end = defined $n ? 'end' : 'error ' . ($error + 0);
        mark('body', "$length $end");
        return [200, [], [join ' ', $length, $md5->hexdigest, $end]];
    }
    return [200, [], ['unread']] if $path eq '/unread';
    if ($path =~ m{\A/block/(\w+)}) {
        mark($1, $$);
        gate($1);
        return [200, [], ["blocked $1"]];
    }
    if ($path =~ m{\A/write/(\w+)}) {
        my $name = $1;
        return sub {
            my $writer = $_[0]->([200, []]);
            $writer->write("first\n");
            mark($name, $$);
            gate($name);
            my $ok = eval { $writer->write("second $_\n" x 1000) for 1 .. 100; 1 };
            eval { $writer->close };
            mark("written-$name", $ok ? 'ok' : "died $@");
        };
    }
    return [200, [], ['x' x $1]] if $path =~ m{\A/big/(\d+)};
    return [200, [], [$calls]] if $path eq '/count';
    return [200, [], ["$env->{REQUEST_METHOD} $path $$"]];
};
