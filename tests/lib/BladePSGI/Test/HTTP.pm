package BladePSGI::Test::HTTP;

# An HTTP/1.1 client that can send any bytes, cut anywhere, and reads what comes back without mercy: whatever is not as
# RFC 9112 wants it of a server is listed in `malformed`. Written from the RFC, with nothing of the server in it.
#
#   my $server = http_server(app => $text, options => […]);
#   my $r = http($server)->request(uri => '/x');
#   is $r->{status}, 200;

use strict;
use warnings;

use Errno qw(EAGAIN EINTR);
use Exporter 'import';
use IO::Socket::IP;
use IO::Socket::UNIX;
use Socket qw(IPPROTO_TCP SHUT_WR TCP_NODELAY);
use Test::More ();
use Time::HiRes ();

use BladePSGI::Test;

our @EXPORT = qw(http_server http http_address http_request http_path chunked is_whole);

my $TOKEN = qr/[!#\$%&'*+\-.^_`|~0-9A-Za-z]+/;
my $DATE = qr/(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT/;

# ---- the server ----------------------------------------------------------------------------------------------------

# BladePSGI::Test->start with HTTP on a port of the loopback and on the path of http_path().
sub http_server {
    my (%o) = @_;
    my $server = BladePSGI::Test->prepare(%o);
    unshift @{ $server->{options} }, '--http=127.0.0.1:0', '--http=' . http_path($server);
    $server->launch;
    $server->wait_ready or do {
        Test::More::diag($server->log);
        die 'the server did not become ready';
    };
    return $server;
}

sub http_path { return $_[0]->folder . '/http.sock' }

# Its n-th TCP address as in the ready line.
sub http_address {
    my ($server, $n) = @_;
    return ($server->log =~ m{http://([^/\s]+)/}g)[ $n || 0 ] // die 'no HTTP address in the log';
}

# A fresh connection; over => an address or path other than the first TCP address.
sub http {
    my ($server, %o) = @_;
    return __PACKAGE__->connect($o{over} // http_address($server), %o);
}

# ---- bytes ---------------------------------------------------------------------------------------------------------

# The bytes of a request: method, uri, version (1.1), host (undef: none), headers [name => value, …], body (text, or a list for
# chunks), close => 1, keep => 1 (HTTP/1.0).
sub http_request {
    my (%o) = @_;
    my $version = $o{version} // '1.1';
    my $bytes = ($o{method} // (defined $o{body} ? 'POST' : 'GET')) . ' ' . ($o{uri} // '/') . " HTTP/$version\r\n";
    my $host = exists $o{host} ? $o{host} : 'test.example';
    $bytes .= "Host: $host\r\n" if defined $host;
    my @headers = @{ $o{headers} || [] };
    while (my ($name, $value) = splice @headers, 0, 2) { $bytes .= "$name: $value\r\n" }
    $bytes .= "Connection: close\r\n" if $o{close};
    $bytes .= "Connection: keep-alive\r\n" if $o{keep};
    return "$bytes\r\n" unless defined $o{body};
    return "${bytes}Transfer-Encoding: chunked\r\n\r\n" . chunked(@{ $o{body} }) if ref $o{body};
    return "${bytes}Content-Length: " . length($o{body}) . "\r\n\r\n$o{body}";
}

sub chunked { return join '', (map { sprintf "%x\r\n%s\r\n", length, $_ } @_), "0\r\n\r\n" }

# ---- connection ----------------------------------------------------------------------------------------------------

# connect(path or host:port, timeout => 20)
sub connect {
    my ($class, $address, %o) = @_;
    my $socket = $address =~ m{\A[^/]*:\d+\z}
        ? IO::Socket::IP->new(PeerAddr => $address)
        : IO::Socket::UNIX->new(Peer => $address);
    die "cannot connect to $address: $!" unless $socket;
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 if $socket->isa('IO::Socket::IP');    # what is cut shall arrive cut
    return $class->new($socket, %o);
}

# On a socket that is connected already.
sub new {
    my ($class, $socket, %o) = @_;
    $socket->blocking(0);
    return bless { socket => $socket, in => '', timeout => ($o{timeout} || 20) * $BladePSGI::Test::PATIENCE, eof => 0 }, $class;
}

sub socket { return $_[0]{socket} }
sub close { my ($self) = @_; close $self->{socket} if $self->{socket}; delete $self->{socket}; return }
sub shutdown_write { my ($self) = @_; shutdown $self->{socket}, SHUT_WR; return $self }

sub _select {
    my ($self, $read, $write, $seconds) = @_;
    my ($in, $out) = ('', '');
    vec($in,  fileno $self->{socket}, 1) = 1 if $read;
    vec($out, fileno $self->{socket}, 1) = 1 if $write;
    my $n = select $in, $out, undef, $seconds < 0 ? 0 : $seconds;
    return if $n <= 0;
    return ($read && vec($in, fileno $self->{socket}, 1), $write && vec($out, fileno $self->{socket}, 1));
}

# Takes what is there.
sub _fill {
    my ($self) = @_;
    my $n = sysread $self->{socket}, $self->{in}, 262144, length $self->{in};
    if (!defined $n) {
        return if $! == EAGAIN || $! == EINTR;
        @$self{qw(eof reset)} = (1, "$!");
    }
    elsif (!$n) { $self->{eof} = 1 }
    return;
}

# Waits for more; false at the end of the stream. Dies at the time limit.
sub _more {
    my ($self) = @_;
    return 0 if $self->{eof};
    my $deadline = $self->{deadline} //= Time::HiRes::time() + $self->{timeout};
    my $before = length $self->{in};
    while (!$self->{eof} && length $self->{in} == $before) {
        my $left = $deadline - Time::HiRes::time();
        die "time limit while waiting for a response\n" if $left <= 0;
        my ($readable) = $self->_select(1, 0, $left);
        $self->_fill if $readable;
    }
    return length $self->{in} > $before;
}

# Sends all of it, taking in meanwhile what the server says (a server that answers early must not dead-lock with us).
# chunk => bytes per write. Returns false when the server closed (what it had sent can still be read).
sub send {
    my ($self, $bytes, %o) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $deadline = Time::HiRes::time() + $self->{timeout};
    my $at = 0;
    while ($at < length $bytes) {
        my $left = $deadline - Time::HiRes::time();
        die "time limit while sending (sent $at of " . length($bytes) . ")\n" if $left <= 0;
        my ($readable, $writable) = $self->_select(!$self->{eof}, 1, $left);
        $self->_fill if $readable;
        next unless $writable;
        my $n = syswrite $self->{socket}, $bytes, $o{chunk} || 262144, $at;
        if (!defined $n) {
            next if $! == EAGAIN || $! == EINTR;
            $self->{send_error} = "$!";
            return 0;
        }
        $at += $n;
    }
    return $self;
}

# True when a byte or the end of the stream is there to read within so many seconds.
sub is_readable {
    my ($self, $seconds) = @_;
    return 1 if length $self->{in} || $self->{eof};
    my ($readable) = $self->_select(1, 0, $seconds || 0);
    return !!$readable;
}

# What has come and was not read yet; stays unread.
sub here { my ($self) = @_; $self->_fill unless $self->{eof}; return $self->{in} }

# True when the server closes in an orderly way and has nothing more to say, within the time limit.
sub closes {
    my ($self) = @_;
    delete $self->{deadline};
    return 0 if length $self->{in};
    my $more = eval { $self->_more };
    return !$@ && !$more && !$self->{reset};
}

# ---- responses -----------------------------------------------------------------------------------------------------

# A line without its end; undef at the end of the stream.
sub _line {
    my ($self, $r) = @_;
    my $at;
    while (($at = index $self->{in}, "\n") < 0) {
        die "a line without end\n" if length $self->{in} > 1_000_000;
        $self->_more or return undef;
    }
    my $line = substr $self->{in}, 0, $at + 1, '';
    $r->{stdout} .= $line;
    chop $line;
    $line =~ s/\r\z// or push @{ $r->{malformed} }, "a line ends without CR: '$line'";
    push @{ $r->{malformed} }, "control characters in '$line'" if $line =~ /[\x00-\x08\x0a-\x1f\x7f]/;
    return $line;
}

# A status line and headers into $r; false when the stream ends before.
sub _head {
    my ($self, $r) = @_;
    my $bad = $r->{malformed};
    @$r{qw(headers header)} = ([], {});
    my $line = $self->_line($r) // return 0;
    if ($line =~ m{\AHTTP/(1\.1) ([1-5]\d\d) (.*)\z}) { @$r{qw(version status reason)} = ($1, $2, $3) }
    else {
        push @$bad, "status line '$line'";
        $r->{status} = 0;
    }
    while (1) {
        $line = $self->_line($r) // return 0;
        return 1 if !length $line;
        if ($line !~ /\A($TOKEN): (\S(?:.*\S)?|)\z/s) { push @$bad, "header line '$line'"; next }
        my ($name, $value) = ($1, $2);
        push @{ $r->{headers} }, $name, $value;
        my $key = lc $name;
        $r->{header}{$key} = exists $r->{header}{$key} ? "$r->{header}{$key}, $value" : $value;
        push @{ $r->{seen}{$key} }, $value;
    }
}

# Decides how the body is delimited (RFC 9112 §6.3), and looks at what the head says of the connection.
sub _judge {
    my ($self, $r, %o) = @_;
    my ($bad, $h) = @$r{qw(malformed header)};
    for my $name (qw(content-length transfer-encoding connection date)) {
        push @$bad, "$name is there more than once" if @{ $r->{seen}{$name} || [] } > 1;
    }
    push @$bad, "Content-Length '$h->{'content-length'}'" if exists $h->{'content-length'} && $h->{'content-length'} !~ /\A\d+\z/;
    push @$bad, "Transfer-Encoding '$h->{'transfer-encoding'}'" if exists $h->{'transfer-encoding'} && $h->{'transfer-encoding'} ne 'chunked';
    push @$bad, 'Content-Length and Transfer-Encoding' if exists $h->{'content-length'} && exists $h->{'transfer-encoding'};
    push @$bad, 'Transfer-Encoding to HTTP/1.0' if exists $h->{'transfer-encoding'} && ($o{version} // '1.1') eq '1.0';
    push @$bad, 'no Date' unless exists $h->{date};
    push @$bad, "Date '$h->{date}'" if exists $h->{date} && $h->{date} !~ /\A$DATE\z/;
    push @$bad, "Connection '$h->{connection}'" if exists $h->{connection} && $h->{connection} !~ /\A(?:close|keep-alive)\z/;
    push @$bad, "$_ in a response" for grep { exists $h->{$_} } qw(te trailer upgrade keep-alive proxy-connection status);
    my $has_none = $r->{status} == 204 || $r->{status} == 304;
    if ($r->{status} == 204) {
        push @$bad, "$_ with 204" for grep { exists $h->{$_} } qw(content-length transfer-encoding);
    }
    $r->{closing} = ($h->{connection} // '') eq 'close' || ($o{version} // '1.1') eq '1.0' && ($h->{connection} // '') ne 'keep-alive';
    if ($has_none || ($o{method} // 'GET') eq 'HEAD') { $r->{framing} = 'none' }
    elsif (exists $h->{'transfer-encoding'})          { $r->{framing} = 'chunked' }
    elsif (exists $h->{'content-length'}) {
        $r->{framing} = 'length';
        $r->{left} = $h->{'content-length'} =~ /\A(\d+)/ ? $1 : 0;
    }
    else {
        $r->{framing} = 'close';
        push @$bad, 'the connection is the end of the body, and the head does not say that it closes' unless $r->{closing};
    }
    return;
}

# Reads the head of a response, and those of informational ones before it. Options: method and version of the request.
#
#   { status, reason, headers [name => value …], header {lower-case name => value}, informational [{…}], framing none|length|
#     chunked|close, closing, body, chunks [size …], complete, malformed [text …], reset, eof, ended, stdout (all of it) }
sub read_head {
    my ($self, %o) = @_;
    delete $self->{deadline};
    my $r = { malformed => [], informational => [], body => '', chunks => [], complete => 0, stdout => '', status => undef,
        framing => '' };
    while (1) {
        $r->{seen} = {};
        if (!$self->_head($r)) {    # incomplete
            $r->{stdout} .= $self->{in};
            @$r{qw(eof reset)} = (1, $self->{reset});
            return $r;
        }
        last if ($r->{status} || 0) !~ /\A1\d\d\z/ || $r->{status} == 101;
        push @{ $r->{informational} }, { map { $_ => $r->{$_} } qw(status reason headers header) };
        push @{ $r->{malformed} }, "$_ with $r->{status}" for grep { exists $r->{header}{$_} } qw(content-length transfer-encoding);
    }
    $self->_judge($r, %o);
    delete $r->{seen};
    return $r;
}

# The next piece of the body as it is framed (a whole chunk; of other bodies what is there); undef when there is none left,
# and then complete tells why.
sub read_piece {
    my ($self, $r) = @_;
    delete $self->{deadline};
    my $piece = $self->_piece($r);
    if (defined $piece) { $r->{body} .= $piece }
    return $piece;
}

sub _piece {
    my ($self, $r) = @_;
    return undef if $r->{complete} || $r->{eof};
    my $take = sub {
        my ($size) = @_;
        my $piece = substr $self->{in}, 0, $size, '';
        $r->{stdout} .= $piece if length $r->{stdout} < 100_000;
        return $piece;
    };
    my $end = sub {
        my ($complete) = @_;
        $r->{complete} = $complete;
        @$r{qw(eof reset)} = (1, $self->{reset}) if $self->{eof} && !length $self->{in};
        return undef;
    };
    if ($r->{framing} eq 'length') {
        return $end->(1) unless $r->{left};
        if (!length $self->{in} && !$self->_more) { return $end->(0) }
        my $size = length $self->{in} < $r->{left} ? length $self->{in} : $r->{left};
        $r->{left} -= $size;
        return $take->($size);
    }
    if ($r->{framing} eq 'close') {
        return $take->(length $self->{in}) if length $self->{in} || $self->_more;
        return $end->(!$self->{reset});
    }
    if ($r->{framing} eq 'chunked') {
        my $line = $self->_line($r) // return $end->(0);
        if ($line !~ /\A(?:0|[1-9a-f][0-9a-f]{0,15})\z/) {
            push @{ $r->{malformed} }, "chunk size '$line'";
            return $end->(0);
        }
        my $size = hex $line;
        while (length $self->{in} < $size + 2) {
            next if $self->_more;
            $r->{body} .= $take->(length $self->{in} < $size ? length $self->{in} : $size);    # of a chunk without end
            return $end->(0);
        }
        my $piece = $take->($size);
        my $tail = $take->(2);
        if ($tail ne "\r\n") {
            push @{ $r->{malformed} }, 'no CRLF behind ' . ($size ? 'a chunk' : 'the last chunk');
            return $end->(0);
        }
        return $end->(1) unless $size;
        push @{ $r->{chunks} }, $size;
        return $piece;
    }
    return $end->($r->{framing} eq 'none' ? 1 : 0);
}

# Reads until `pattern` is in the body so far; returns that body, or undef when it ended before.
sub read_body_until {
    my ($self, $r, $pattern) = @_;
    while ($r->{body} !~ $pattern) { $self->read_piece($r) // return undef }
    return $r->{body};
}

# The rest of a response. Where the server said that it closes, that is waited for: a byte more is malformed.
sub finish_response {
    my ($self, $r) = @_;
    while (defined $self->read_piece($r)) { }
    if ($r->{complete} && $r->{closing} && $r->{framing} ne 'close') {
        delete $self->{deadline};
        my $more = length $self->{in} || $self->_more;
        push @{ $r->{malformed} }, "bytes behind the last response: '" . substr($self->{in}, 0, 80) . "'" if $more;
        push @{ $r->{malformed} }, "reset behind a complete response: $self->{reset}" if $self->{reset};
        @$r{qw(eof reset)} = ($self->{eof}, $self->{reset});
    }
    $r->{ended} = $r->{complete} && !@{ $r->{malformed} };
    return $r;
}

sub read_response {
    my ($self, %o) = @_;
    return $self->finish_response($self->read_head(%o));
}

# One request and its response on this connection; options as of http_request, write_chunk => bytes per write.
sub request {
    my ($self, %o) = @_;
    my $early = length $self->{in};
    $self->send(http_request(%o), chunk => $o{write_chunk});
    my $r = $self->read_response(%o);
    push @{ $r->{malformed} }, 'bytes before the request' if $early;
    return $r;
}

# One check: the response is there to its end and as RFC 9112 wants it.
sub is_whole {
    my ($r, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $ok = Test::More::ok($r->{complete} && !@{ $r->{malformed} }, $name);
    Test::More::diag(join "\n", @{ $r->{malformed} }, $r->{complete} ? () : 'incomplete', $r->{reset} // (),
        substr $r->{stdout}, 0, 1000) unless $ok;
    return $ok;
}

1;
