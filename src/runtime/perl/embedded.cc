#include "runtime/perl/embedded.h"

namespace bladepsgi::perl {

// What Plack::Util::load_psgi users rely on: an absolute path, a package of its own, $0 and @ARGV
// of its own, and a plain word meaning a class.
const char* const kLoadSource = R"perl(#line 1 "bladepsgi/load.pl"
package BPSGI::Server;
sub evaluate_text { return eval $_[0] }    # before anything that its text would inherit

use strict;
use warnings;
use Scalar::Util ();

$ENV{PLACK_ENV} ||= 'deployment';

# What the command line asks for before anything is loaded.
sub prepare {
    my ($environment_name, $directories, $modules) = @_;
    $ENV{PLACK_ENV} = $environment_name if length $environment_name;
    if (@$directories) {
        require lib;    # adds folders for one architecture as well, as perl -I does
        lib->import(@$directories);
    }
    for my $module (@$modules) {
        my $use = use_of($module);
        evaluate_text("package Plack::Sandbox::command_line; $use 1") or die "cannot load module '$module': $@";
    }
    return;
}

# As after perl -M: Foo, Foo=bar,baz, -Foo, 'Foo qw(bar)'.
sub use_of {
    my ($word, $name, $rest) = $_[0] =~ /\A(-?)([A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z0-9_]+)*)(|[=\s].*)\z/s
        or die "cannot load module '$_[0]': not a module name\n";
    $word = $word ? 'no' : 'use';
    return "$word $name$rest;" if $rest !~ s/\A=//;
    $rest =~ s/([\\'])/\\$1/g;
    return "$word $name split(/,/, '$rest');";
}

# As plackup -e: in the words of Plack::Builder, around the application of a file if there is one.
sub load_code {
    my ($code, $file, $modules) = @_;
    my @modules = @$modules;
    $code = "#line 1 \"-e\"\n$code\n;";
    if (eval { require Plack::Builder }) {
        unshift @modules, 'Plack::Builder';
        our $wrapped = $file;
        my $inner = length $file ? 'BPSGI::Server::load_file($BPSGI::Server::wrapped)' : '';
        $code = "&builder(sub {\n$code $inner })";
    }
    elsif (length $file || $@ !~ m{\ACan't locate Plack/Builder\.pm }) {
        die $@;
    }
    local $0    = '-e';
    local @ARGV = ();
    # Modules again: what they export is there already, but a pragma is for the text it stands in.
    my $value = evaluate_text(join "\n", 'package Plack::Sandbox::command_line;', (map { use_of($_) } @modules), $code);
    my $error = $@;
    die $error if ref $error || length $error;
    return $value;
}

sub load_file {
    my ($given) = @_;
    my $file;
    if ($given =~ /\A[A-Za-z0-9_:]+\z/ && !-e $given) {
        ($file = "$given.pm") =~ s{::}{/}g;
    }
    else {
        require File::Spec;
        $file = File::Spec->rel2abs($given);
        die "cannot load application '$file': it is a directory\n" if -d $file;
        open my $readable, '<', $file or die "cannot load application '$file': $!\n";
        close $readable;
    }
    (my $package = $file) =~ s/([^A-Za-z0-9_])/sprintf '_%2x', unpack 'C', $1/eg;
    return evaluate_file($file, $package);
}

sub evaluate_file {
    local $0    = $_[0];
    local @ARGV = ();
    my $found = 1;
    my $value = eval sprintf(<<'END', $_[1]);
package Plack::Sandbox::%s;
my $value = do $_[0];
die $@ if ref $@ || length $@;
$found = 0 if !defined $value && !exists $INC{$_[0]};
$value;
END
    my $error = $@;
    die $error if ref $error || length $error;
    die "cannot load application '$_[0]': not found in \@INC (\@INC contains: @INC)\n" if !$found;
    return $value;
}

sub load_loader {
    my ($module) = @_;
    $module =~ /\A[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z0-9_]+)*\z/
        or die "cannot load loader '$module': not a module name\n";
    (my $file = "$module.pm") =~ s{::}{/}g;
    package main;  # what the file says before it names a package of its own is said there
    return scalar require $file;
}

# What an exception without a text of its own holds, for a log line: plain values of its first level, in bounds, and nothing
# that looks like a secret. Runs no code of the application.
sub dump_exception {
    my ($exception) = @_;
    my $type = Scalar::Util::reftype($exception);
    return show_value($$exception) if $type eq 'SCALAR' && !tied $$exception;
    if ($type eq 'ARRAY' && !tied @$exception) {
        my @shown = map { show_value($_) } @$exception > 8 ? @$exception[ 0 .. 7 ] : @$exception;
        push @shown, '...' if @$exception > 8;
        return '[' . join(', ', @shown) . ']';
    }
    return undef if $type ne 'HASH' || tied %$exception;
    return '{' . keys(%$exception) . ' keys}' if keys %$exception > 16;
    return '{' . join(', ', map {
        my $name = show_text($_, 40);
        "$name => " . (/pass|secret|token|auth|cookie|key|session|credential/i ? '(not shown)' : show_value($exception->{$_}));
    } sort keys %$exception) . '}';
}

sub show_value {
    return 'undef' if !defined $_[0];
    return ref $_[0] if ref $_[0];
    return $_[0] =~ /\A-?[0-9]{1,15}\z/ ? $_[0] : "'" . show_text($_[0], 80) . "'";
}

sub show_text {
    my $text = substr $_[0], 0, $_[1];
    $text .= '...' if length $_[0] > $_[1];
    return $text;
}

sub database_handles {
    return unless $INC{'DBI.pm'};
    my @found;
    my %drivers = DBI->installed_drivers;
    for my $name (sort keys %drivers) {
        for my $handle (grep { defined } @{ $drivers{$name}{ChildHandles} || [] }) {
            next unless $handle->{Active};
            my ($source, $user) = @{$handle}{qw(Name Username)};
            # For some drivers that is all that was given to connect.
            $source =~ s/(\w*(?:pass|pwd|secret|token|key|credential)\w*)\s*=[^;]*/$1=(not shown)/gi if defined $source;
            push @found, sprintf 'DBI handle dbi:%s:%s (%s)', $name, defined $source ? $source : '',
                defined $user && length $user ? "user $user" : 'no user';
        }
    }
    return @found;
}

1;
)perl";

// Tied methods use Perl's own operators on an inner handle, so that offsets, padding, $/ and layers
// mean exactly what they mean elsewhere. The tie object is a reference to a scalar that holds the
// inner handle once it is needed.
const char* const kInputSource = R"perl(#line 1 "bladepsgi/input.pl"
package BPSGI::Input;
use strict;
use warnings;
use IO::Handle   ();
use IO::Seekable ();
our @ISA = ('IO::Handle', 'IO::Seekable');

# Reaches the tied face; IO::Handle's own would push bytes back where only XS code sees them.
sub ungetc {
    my $inner = tied(*{ $_[0] });
    return ($$inner || BPSGI::Input::Tie::open_inner($inner))->ungetc($_[1]);
}

# IO::Handle has none.
sub binmode { return @_ > 1 ? CORE::binmode($_[0], $_[1]) : CORE::binmode($_[0]) }

package BPSGI::Input::Tie;

sub READ     { my $in = ${ $_[0] } || open_inner($_[0]); return read $in, $_[1], $_[2], $_[3] || 0 }
sub READLINE { my $in = ${ $_[0] } || open_inner($_[0]); return readline $in }
sub GETC     { my $in = ${ $_[0] } || open_inner($_[0]); return getc $in }
sub EOF      { my $in = ${ $_[0] } || open_inner($_[0]); return eof $in }
sub SEEK     { my $in = ${ $_[0] } || open_inner($_[0]); return seek $in, $_[1], $_[2] }
sub TELL     { my $in = ${ $_[0] } || open_inner($_[0]); return tell $in }
sub FILENO   { my $in = ${ $_[0] } || open_inner($_[0]); return fileno $in }
sub CLOSE    { my $in = ${ $_[0] } || open_inner($_[0]); return close $in }

sub BINMODE {
    my $in = ${ $_[0] } || open_inner($_[0]);
    return @_ > 1 ? binmode $in, $_[1] : binmode $in;
}

sub OPEN {
    my $in = ${ $_[0] } || open_inner($_[0]);
    return @_ == 2 ? open $in, $_[1] : open $in, $_[1], $_[2], @_[3 .. $#_];
}

# What writing to a handle opened for input does: a warning where they are on, and false with $!.
sub PRINT  { my $in = ${ $_[0] } || open_inner($_[0]); shift; return print {$in} @_ }
sub PRINTF { my $in = ${ $_[0] } || open_inner($_[0]); shift; return printf {$in} @_ }
sub WRITE  { my $in = ${ $_[0] } || open_inner($_[0]); return syswrite $in, $_[1], $_[2], $_[3] || 0 }

1;
)perl";

const char* const kErrorsSource = R"perl(#line 1 "bladepsgi/errors.pl"
package BPSGI::Errors;
use strict;
use warnings;
use IO::Handle ();
our @ISA = ('IO::Handle');

sub binmode { return @_ > 1 ? CORE::binmode($_[0], $_[1]) : CORE::binmode($_[0]) }

package BPSGI::Errors::Tie;

sub PRINT {
    my $self = shift;
    return $self->send_bytes(join(defined $, ? $, : '', map { defined $_ ? $_ : '' } @_) . (defined $\ ? $\ : ''));
}
sub PRINTF { my $self = shift; my $format = shift; return $self->send_bytes(sprintf $format, @_) }

sub WRITE {
    my ($self, $text, $length, $offset) = @_;
    my $part = substr $text, $offset || 0, defined $length ? $length : length $text;
    return $self->send_bytes($part) ? length $part : undef;
}
sub BINMODE { return 1 }
sub CLOSE   { return 1 }
sub FILENO  { return fileno STDERR }

1;
)perl";

// psgix.io. Its first use as a handle, by an operator or by a method, opens it and gives it the class of the socket that it is.
const char* const kConnectionSource = R"perl(#line 1 "bladepsgi/connection.pl"
package BPSGI::Connection;
use strict;
use warnings;
use IO::Handle ();

my $is_prepared;

sub make {
    if (!$is_prepared) {
        local ($@, $!, $SIG{__DIE__});
        require overload;
        overload->import('*{}' => \&open_connection, '<>' => sub { readline open_connection($_[0]) }, fallback => 1);
        $is_prepared = 1;
    }
    return bless \do { local *CONNECTION };
}

sub open_connection {
    my ($self) = @_;
    my ($fd, $class) = descriptor($self);
    my $error = $!;
    {
        local ($@, $SIG{__DIE__});
        $class = 'IO::Handle' if !defined $class || !eval { (my $file = "$class.pm") =~ s{::}{/}g; require $file };
    }
    bless $self, $class;    # from here on it is an ordinary glob
    if (defined $fd) {
        $self->fdopen($fd, '+<');
        CORE::binmode($self);
        $self->autoflush(1);
    }
    else {
        $! = $error;
    }
    return $self;
}

# A class name has no connection.
sub isa { my ($self, $class) = @_; return ref $self ? open_connection($self)->isa($class) : $self->UNIVERSAL::isa($class) }
sub can { my ($self, $name)  = @_; return ref $self ? open_connection($self)->can($name)  : $self->UNIVERSAL::can($name) }

our $AUTOLOAD;

sub AUTOLOAD {
    my ($name) = $AUTOLOAD =~ /([^:]+)\z/;
    my $self = shift;
    die "$self has no method $name" if !ref $self;
    return open_connection($self)->$name(@_);
}
sub DESTROY { }

1;
)perl";

// `use BPSGI::Context` inside the server finds the server's own classes.
const char* const kClassSource = R"perl(#line 1 "bladepsgi/classes.pl"
package BPSGI;
our $VERSION = '2.0.0';

# use BPSGI qw(on_worker_start);
sub import {
    my ($class, @names) = @_;
    my $to = caller;
    for my $name (@names) {
        if ($name !~ /\Aon_(?:worker_start|worker_exit|request_end)\z/) {
            require Carp;
            Carp::croak("BPSGI exports no '$name'");
        }
        no strict 'refs';
        *{"${to}::$name"} = \&{"BPSGI::$name"};
    }
    return;
}
$BPSGI::Context::VERSION = $BPSGI::Semaphore::VERSION = $BPSGI::AtomicInt64::VERSION = $VERSION;
$INC{$_} = "(bladepsgi)/$_" for qw(BPSGI.pm BPSGI/Context.pm BPSGI/Semaphore.pm BPSGI/AtomicInt64.pm);
1;
)perl";

}  // namespace bladepsgi::perl
