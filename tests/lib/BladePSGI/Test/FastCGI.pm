package BladePSGI::Test::FastCGI;

# A FastCGI client that can say anything: any record with any padding, cut anywhere, and listen to what comes back
# record by record. Written from the FastCGI 1.0 text, with nothing of the server in it.

use strict;
use warnings;

use Errno qw(EAGAIN EINTR EPIPE ECONNRESET);
use Exporter 'import';
use IO::Socket::IP;
use IO::Socket::UNIX;
use Socket qw(SHUT_WR);
use Time::HiRes ();

use constant {
    FCGI_BEGIN_REQUEST => 1, FCGI_ABORT_REQUEST => 2, FCGI_END_REQUEST => 3, FCGI_PARAMS => 4, FCGI_STDIN => 5,
    FCGI_STDOUT => 6, FCGI_STDERR => 7, FCGI_DATA => 8, FCGI_GET_VALUES => 9, FCGI_GET_VALUES_RESULT => 10,
    FCGI_UNKNOWN_TYPE => 11,
    FCGI_RESPONDER => 1, FCGI_AUTHORIZER => 2, FCGI_FILTER => 3, FCGI_KEEP_CONN => 1,
    FCGI_REQUEST_COMPLETE => 0, FCGI_CANT_MPX_CONN => 1, FCGI_OVERLOADED => 2, FCGI_UNKNOWN_ROLE => 3,
};

our @CONSTANTS = map { "FCGI_$_" } qw(BEGIN_REQUEST ABORT_REQUEST END_REQUEST PARAMS STDIN STDOUT STDERR DATA
    GET_VALUES GET_VALUES_RESULT UNKNOWN_TYPE RESPONDER AUTHORIZER FILTER KEEP_CONN REQUEST_COMPLETE CANT_MPX_CONN
    OVERLOADED UNKNOWN_ROLE);
our @EXPORT_OK = (@CONSTANTS, qw(record begin pair pairs params stream stdin nginx_env request_bytes unpairs));
our %EXPORT_TAGS = (all => \@EXPORT_OK);

# ---- bytes -------------------------------------------------------------------------------------------------------

# record(type, id, content, padding => n, version => 1, reserved => "\0")
sub record {
    my ($type, $id, $content, %o) = @_;
    $content = '' unless defined $content;
    my $padding = $o{padding} || 0;
    return pack('CCnnCa1', $o{version} // 1, $type, $id, length $content, $padding, $o{reserved} // "\0") . $content
        . ($o{garbage} // 'P') x $padding;
}

# begin(id, role => 1, keep => 0, flags => bits, padding => n)
sub begin {
    my ($id, %o) = @_;
    my $flags = $o{flags} // ($o{keep} ? FCGI_KEEP_CONN : 0);
    my $body = pack 'nCa5', $o{role} // FCGI_RESPONDER, $flags, $o{reserved_bytes} // "\0" x 5;
    return record(FCGI_BEGIN_REQUEST, $id, $body, padding => $o{padding});
}

sub _length {
    my ($length, $long) = @_;
    return $long || $length > 127 ? pack('N', $length | 0x80000000) : pack('C', $length);
}

# pair(name, value, "14"): the form says for each length whether it takes 1 or 4 bytes.
sub pair {
    my ($name, $value, $form) = @_;
    $form ||= '11';
    return _length(length $name, substr($form, 0, 1) eq '4') . _length(length $value, substr($form, 1, 1) eq '4')
        . $name . $value;
}

# pairs([name => value, …]) or pairs({…})
sub pairs {
    my ($list, $form) = @_;
    my @list = ref $list eq 'HASH' ? map { $_ => $list->{$_} } sort keys %$list : @$list;
    my $bytes = '';
    while (my ($name, $value) = splice @list, 0, 2) {
        $bytes .= pair($name, $value, $form);
    }
    return $bytes;
}

# The reverse, into a flat list.
sub unpairs {
    my ($bytes) = @_;
    my (@out, @lengths);
    my $at = 0;
    while ($at < length $bytes) {
        my @l;
        for (1, 2) {
            my $l = ord substr $bytes, $at, 1;
            if ($l & 0x80) { $l = unpack('N', substr $bytes, $at, 4) & 0x7fffffff; $at += 4 }
            else           { $at++ }
            push @l, $l;
        }
        push @out, substr($bytes, $at, $l[0]), substr($bytes, $at + $l[0], $l[1]);
        $at += $l[0] + $l[1];
    }
    return @out;
}

# A whole stream: records of at most `chunk` bytes and the empty record that ends it (unless end => 0).
sub stream {
    my ($type, $id, $bytes, %o) = @_;
    my $chunk = $o{chunk} || 32760;
    my $out = '';
    for (my $at = 0; $at < length $bytes; $at += $chunk) {
        $out .= record($type, $id, substr($bytes, $at, $chunk), padding => $o{padding});
    }
    $out .= record($type, $id, '', padding => $o{end_padding} // $o{padding}) unless exists $o{end} && !$o{end};
    return $out;
}

sub params {
    my ($id, $pairs, %o) = @_;
    return stream(FCGI_PARAMS, $id, ref $pairs ? pairs($pairs, $o{form}) : $pairs, %o);
}

sub stdin {
    my ($id, $bytes, %o) = @_;
    return stream(FCGI_STDIN, $id, $bytes, %o);
}

# What nginx sends for a request, as a hash reference.
sub nginx_env {
    my (%o) = @_;
    my $uri = $o{uri} // '/';
    my ($path, $query) = split /\?/, $uri, 2;
    $path =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
    my %env = (
        GATEWAY_INTERFACE => 'CGI/1.1', SERVER_SOFTWARE => 'nginx/1.22.1', QUERY_STRING => $query // '',
        REQUEST_METHOD => $o{method} // 'GET', CONTENT_TYPE => '', CONTENT_LENGTH => '', SCRIPT_NAME => $path,
        REQUEST_URI => $uri, DOCUMENT_URI => $path, DOCUMENT_ROOT => '/usr/share/nginx/html',
        SERVER_PROTOCOL => 'HTTP/1.1', REQUEST_SCHEME => 'http', REMOTE_ADDR => '127.0.0.1', REMOTE_PORT => '40000',
        SERVER_ADDR => '127.0.0.1', SERVER_PORT => '80', SERVER_NAME => 'localhost', HTTP_HOST => 'localhost',
    );
    if (defined $o{body}) {
        $env{CONTENT_LENGTH} = length $o{body};
        $env{CONTENT_TYPE} = $o{type} // 'application/octet-stream';
    }
    for my $name (keys %{ $o{env} || {} }) {
        if (defined $o{env}{$name}) { $env{$name} = $o{env}{$name} }
        else                        { delete $env{$name} }
    }
    return \%env;
}

# The bytes of one whole request. Options: those of nginx_env, id, keep, role, padding, chunk (of records), form (of
# lengths), pairs (a list instead of env: duplicates, order).
sub request_bytes {
    my (%o) = @_;
    my $id = $o{id} // 1;
    my $pairs = $o{pairs} || nginx_env(%o);
    my %shape = (padding => $o{padding}, chunk => $o{chunk});
    return begin($id, role => $o{role}, keep => $o{keep}, flags => $o{flags}, padding => $o{padding})
        . params($id, $pairs, %shape, form => $o{form})
        . stdin($id, $o{body} // '', %shape);
}

# ---- connection --------------------------------------------------------------------------------------------------

# connect(path or host:port, timeout => 20)
sub connect {
    my ($class, $address, %o) = @_;
    my $socket = $address =~ m{\A[^/]*:\d+\z}
        ? IO::Socket::IP->new(PeerAddr => $address)
        : IO::Socket::UNIX->new(Peer => $address);
    die "cannot connect to $address: $!" unless $socket;
    $socket->blocking(0);
    my $patience = $BladePSGI::Test::PATIENCE || 1;
    return bless { socket => $socket, in => '', timeout => ($o{timeout} || 20) * $patience, eof => 0 }, $class;
}

sub close { my ($self) = @_; close $self->{socket} if $self->{socket}; delete $self->{socket}; return }

# Closes so that the peer sees it at once even with unread bytes.
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

# Takes what is there. False at the end of the stream.
sub _fill {
    my ($self) = @_;
    my $n = sysread $self->{socket}, $self->{in}, 262144, length $self->{in};
    if (!defined $n) {
        return 1 if $! == EAGAIN || $! == EINTR;
        $self->{eof} = 1;
        $self->{error} = $!;
        return 0;
    }
    $self->{eof} = 1 unless $n;
    return $n;
}

# Sends all of it, taking in meanwhile what the server says (a server that answers early must not dead-lock with us).
# Options: chunk => bytes per write. Returns false when the server closed (what it had sent can still be read).
sub send {
    my ($self, $bytes, %o) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $deadline = Time::HiRes::time() + $self->{timeout};
    my $at = 0;
    while ($at < length $bytes) {
        my $left = $deadline - Time::HiRes::time();
        die "time limit while sending (sent $at of " . length($bytes) . ')' if $left <= 0;
        my ($readable, $writable) = $self->_select(!$self->{eof}, 1, $left);
        $self->_fill if $readable;
        next unless $writable;
        my $n = syswrite $self->{socket}, $bytes, $o{chunk} || 262144, $at;
        if (!defined $n) {
            next if $! == EAGAIN || $! == EINTR;
            $self->{send_error} = $!;
            return 0;
        }
        $at += $n;
    }
    return $self;
}

# The next record as { type, id, content, padding, version }, or undef at the end of the stream. Dies at the time limit.
sub read_record {
    my ($self, $seconds) = @_;
    my $deadline = Time::HiRes::time() + ($seconds ? $seconds * ($BladePSGI::Test::PATIENCE || 1) : $self->{timeout});
    while (1) {
        if (length $self->{in} >= 8) {
            my ($version, $type, $id, $length, $padding) = unpack 'CCnnC', $self->{in};
            if (length $self->{in} >= 8 + $length + $padding) {
                my $content = substr $self->{in}, 8, $length;
                substr($self->{in}, 0, 8 + $length + $padding) = '';
                return { version => $version, type => $type, id => $id, content => $content, padding => $padding };
            }
        }
        return undef if $self->{eof};
        my $left = $deadline - Time::HiRes::time();
        die "time limit while waiting for a record\n" if $left <= 0;
        my ($readable) = $self->_select(1, 0, $left);
        $self->_fill if $readable;
    }
}

# True when the server has closed and nothing is left to read, within the time limit.
sub closes {
    my ($self, $seconds) = @_;
    my $record = eval { $self->read_record($seconds || $self->{timeout}) };
    return 0 if $@ || $record;
    return $self->{eof} && !length $self->{in};
}

# True when a byte or the end of the stream is there to read within so many seconds.
sub is_readable {
    my ($self, $seconds) = @_;
    return 1 if length $self->{in} || $self->{eof};
    my ($readable) = $self->_select(1, 0, $seconds || 0);
    return !!$readable;
}

# Reads up to the END_REQUEST of `id` or the end of the stream:
#   { ended, app_status, protocol_status, stdout, stderr, records => […], others => […], eof,
#     status, reason, headers => [name, value …], body, header => {lower-case name => value} }
sub read_response {
    my ($self, $id, $seconds) = @_;
    $id //= 1;
    my %r = (stdout => '', stderr => '', records => [], others => [], ended => 0, eof => 0, stdout_ends => 0);
    while (1) {
        my $record = $self->read_record($seconds);
        if (!$record) { $r{eof} = 1; last }
        push @{ $r{records} }, $record;
        if ($record->{id} != $id) { push @{ $r{others} }, $record; next }
        if ($record->{type} == FCGI_STDOUT) {
            $r{stdout} .= $record->{content};
            $r{stdout_ends}++ unless length $record->{content};
        }
        elsif ($record->{type} == FCGI_STDERR) { $r{stderr} .= $record->{content} }
        elsif ($record->{type} == FCGI_END_REQUEST) {
            @r{qw(app_status protocol_status)} = unpack 'NC', $record->{content};
            $r{ended} = 1;
            last;
        }
        else { push @{ $r{others} }, $record }
    }
    return parse_response(\%r);
}

# Reads until `pattern` is in STDOUT; returns STDOUT so far. For responses that are still under way.
sub read_stdout_until {
    my ($self, $pattern, $seconds) = @_;
    my $text = '';
    while (1) {
        my $record = $self->read_record($seconds);
        return undef unless $record;
        next unless $record->{type} == FCGI_STDOUT;
        $text .= $record->{content};
        return $text if $text =~ $pattern;
    }
}

# Splits CGI output into status, headers and body, in place.
sub parse_response {
    my ($r) = @_;
    my ($head, $body) = split /\r?\n\r?\n/, $r->{stdout}, 2;
    $r->{body} = $body // '';
    $r->{headers} = [];
    $r->{header} = {};
    for (split /\r?\n/, $head // '') {
        my ($name, $value) = split /:[ \t]*/, $_, 2;
        $value //= '';
        if (lc $name eq 'status') { @$r{qw(status reason)} = split / /, $value, 2; next }
        push @{ $r->{headers} }, $name, $value;
        $r->{header}{ lc $name } = $value;
    }
    $r->{status} //= 200 if length($head // '');
    return $r;
}

# One request and its response on this connection.
sub request {
    my ($self, %o) = @_;
    $self->send(request_bytes(%o), chunk => $o{write_chunk});
    return $self->read_response($o{id} // 1);
}

1;
