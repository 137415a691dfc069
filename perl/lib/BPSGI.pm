package BPSGI;

use strict;
use warnings;

use Carp ();

our $VERSION = '2.0.0';

# Errors are reported where the application called us.
$Carp::Internal{$_}++ for qw(BPSGI BPSGI::Context BPSGI::Semaphore BPSGI::AtomicInt64);

# use BPSGI qw(on_worker_start): outside the server this process is the worker.
sub import {
    my ($class, @names) = @_;
    my $to = caller;
    for my $name (@names) {
        Carp::croak("BPSGI exports no '$name'") if $name !~ /\Aon_(?:worker_start|worker_exit|request_end)\z/;
        no strict 'refs';
        *{"${to}::$name"} = \&{"BPSGI::$name"};
    }
    return;
}

my @at_exit;

sub on_worker_start { my ($code) = @_; require BPSGI::Context; $code->(BPSGI::Context->new(is_worker => 1)); return 1 }
sub on_worker_exit  { my ($code) = @_; unshift @at_exit, [ $$, $code ]; return 1 }
sub on_request_end  { return 1 }

END {
    for (@at_exit) {
        my ($pid, $code) = @$_;
        next if $pid != $$;
        require BPSGI::Context;
        $code->(BPSGI::Context->new(is_worker => 1));
    }
}

# What a value is, for a message.
sub _describe {
    my ($value) = @_;
    return 'undef' if !defined $value;
    if (ref $value) {
        require Scalar::Util;
        my $class = Scalar::Util::blessed($value);
        return "an object of class $class" if defined $class;
        my $type = ref $value;
        return ($type =~ /\A[AEIOU]/ ? 'an' : 'a') . " $type reference";
    }
    return 'a bare glob' if ref \$value eq 'GLOB';
    my %escapes = ("\n" => '\n', "\r" => '\r', "\t" => '\t', "\0" => '\0', "'" => "\\'", "\\" => '\\\\');
    my $shown = length $value > 60 ? substr $value, 0, 60 : $value;
    $shown =~ s/([\n\r\t\0'\\])/$escapes{$1}/g;
    return "'$shown'" . (length $value > 60 ? '...' : '');
}

sub _overloads {
    my ($value) = @_;
    require overload;
    return overload::Overloaded($value);
}

# The bytes an object goes by: characters above 255 are UTF-8.
sub _name {
    my ($name, $what) = @_;
    if (!defined $name || (ref $name && !_overloads($name))) {
        Carp::croak("cannot create $what: its name is " . _describe($name));
    }
    $name = "$name";
    utf8::encode($name) if !utf8::downgrade($name, 1);
    my $fault =
          !length $name       ? 'the name is empty'
        : length $name > 255  ? 'the name is longer than 255 bytes'
        : $name =~ /\n/       ? 'the name has a newline'
        : $name =~ /\0/       ? 'the name has a NUL'
        :                       undef;
    Carp::croak("cannot create $what " . _describe($name) . ": $fault") if defined $fault;
    return $name;
}

# A whole number that fits 64 bits signed. $subject is "cannot store to atomic 'x'", $role "the value".
sub _integer {
    my ($value, $subject, $role) = @_;
    my $given = $value;
    my $wrong = sub { Carp::croak("$subject: $role is " . _describe($given) . ', not a whole number') };
    my $large = sub { Carp::croak("$subject: $role " . _describe($given) . ' does not fit 64 bits signed') };
    $wrong->() if !defined $value || ref \$value eq 'GLOB' || (ref $value && !_overloads($value));
    $value = "$value";
    if ($value =~ /\A\s*([+-]?)0*([0-9]+)\s*\z/) {
        my ($sign, $digits) = ($1, $2);
        my $limit = $sign eq '-' ? '9223372036854775808' : '9223372036854775807';
        $large->() if length $digits > 19 || (length $digits == 19 && $digits gt $limit);
        return $sign eq '-' ? ($digits eq $limit ? -9223372036854775807 - 1 : -$digits) : $digits + 0;
    }
    require Scalar::Util;
    $wrong->() if !Scalar::Util::looks_like_number($value);
    my $number = ref $given ? $value + 0 : $given + 0;    # a number's text may be rounded
    $wrong->() if $number != $number || $number == 9**9**9 || $number == -9**9**9 || $number != int $number;
    $large->() if $number < -2**63 || $number >= 2**63;
    return sprintf('%d', $number) + 0;
}

1;

__END__

=encoding UTF-8

=head1 NAME

BPSGI - the Perl side of BladePSGI

=head1 SYNOPSIS

    bladepsgi --loader=My::Loader app.psgi 8 /run/app.sock /run/app-stats.sock

    # My/Loader.pm
    package My::Loader;
    use strict;
    use warnings;
    use My::App;

    sub {
        my ($context) = @_;
        my $hits = $context->new_atomic_int64('hits', 0);
        my $app  = My::App->new(hits => $hits);
        return ({ 'my.config' => $app->config }, sub { $app->call(@_) });
    };

=head1 DESCRIPTION

BladePSGI serves a PSGI application from preforked worker processes. An application needs nothing of
what is described here: C<bladepsgi app.psgi> loads any PSGI file, as C<plackup> does. A I<loader> is
for applications that want to share something between their workers.

=head1 THE LOADER

C<--loader=My::Loader> names a module that is found through C<@INC>. The last value of its file must be
a code reference. The server calls it once, in the process that loads the application, before any
worker exists, with one argument, a L<BPSGI::Context>. It must return two values:

=over

=item 1.

a hash reference. Its keys and values are put into the environment of every request, after the web
server's parameters. Keys that begin with C<psgi.> are the server's and are refused; C<psgix.>
keys are welcome.

=item 2.

a code reference, the application.

=back

Everything the loader makes lives in the memory of all workers, shared until one of them writes to it. So
it is the place to load modules, compile templates and fill caches. It is the wrong place for
connections (to databases, caches, message queues): processes that share one disturb each other. Open those
in the worker, when they are first needed.

What goes wrong in a loader (C<die>, C<exit>, a wrong value) ends the start of the server with the whole
message. A reload that fails leaves the old application running.

=head1 THE OBJECTS

=over

=item L<BPSGI::Context>

what the loader is given: where it runs, and the makers of everything below;

=item L<BPSGI::Semaphore>

a counting semaphore that all processes share;

=item L<BPSGI::AtomicInt64>

a 64-bit integer that all processes share.

=back

Inside the server these classes are built in. The files of this distribution are a stand-in: the same
methods, checks and messages in pure Perl for a single process, so that the unit tests of a loader run without a
server. See L<BPSGI::Context/TESTING A LOADER>.

=head1 FUNCTIONS

For a PSGI file that has no loader; exported by C<import> when asked for: C<use BPSGI qw(on_worker_start)>.

=over

=item C<on_worker_start($code)>, C<on_worker_exit($code)>, C<on_request_end($code)>

As the methods of that name of L<BPSGI::Context>. Outside the server the process is the worker: C<on_worker_start> calls the code at once,
C<on_worker_exit> when the process ends, C<on_request_end> never. So a PSGI file that uses them runs under C<plackup>, too.

=back

=head1 THE ENVIRONMENT OF A REQUEST

The web server's parameters, then the loader's hash, then what PSGI 1.1 asks for, and of its extensions:

=over

=item C<psgix.input.buffered>

true when the whole body is here: reading never waits, C<seek> works.

=item C<psgix.cleanup>, C<psgix.cleanup.handlers>

Code references pushed onto the array run after the client has its response, and are given the environment.
A handler may push another. One that dies is logged.

=item C<psgix.harakiri>

Set C<< $env->{'psgix.harakiri.commit'} >> to a true value, at the latest in a cleanup handler, and the
worker is replaced after this request.

=item C<psgix.logger>

C<< $env->{'psgix.logger'}->({ level => 'warn', message => 'disk is filling' }) >> writes to the server's
log with the request's id. Levels: debug, info, warn, error, fatal. A loader's own logger is kept.

=item C<psgix.request_id>

what the front end sent as C<X-Request-Id>, or an id made by the server. It is in every log line about the
request.

=back

C<psgi.input> is an L<IO::Handle>. It reads from the connection as the application asks; no temporary file is
involved. A body that breaks off is an error (C<read> returns undef and sets C<$!>), never a short body.

=head1 SEE ALSO

L<PSGI>, L<Plack>, L<BPSGI::Context>

=cut
