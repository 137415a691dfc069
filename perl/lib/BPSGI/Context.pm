package BPSGI::Context;

use strict;
use warnings;

use BPSGI              ();
use BPSGI::AtomicInt64 ();
use BPSGI::Semaphore   ();
use Carp               ();

our $VERSION = '2.0.0';

my %known = map { $_ => 1 } qw(application_path application_loader listen_sockfd is_worker);

sub new {
    my ($class, %given) = @_;
    for my $key (sort keys %given) {
        Carp::croak("cannot create context: unknown argument '$key'") if !$known{$key};
    }
    return bless {
        path       => defined $given{application_path} ? $given{application_path} : 'app.psgi',
        loader     => $given{application_loader},
        descriptor => defined $given{listen_sockfd} ? $given{listen_sockfd} : -1,
        is_worker  => $given{is_worker} ? 1 : 0,
        status     => '_',
        semaphores => {},
        atomics    => {},
        auxiliary  => [],
        hooks      => {},
    }, $class;
}

sub psgi_application_path   { return $_[0]{path} }
sub psgi_application_loader { return $_[0]{loader} }
sub fastcgi_listen_sockfd   { return $_[0]{descriptor} }
sub is_worker               { return !!$_[0]{is_worker} }

sub set_worker_status {
    my ($self, $octet) = @_;
    my $octets = $octet;
    if (!defined $octets || !utf8::downgrade($octets = "$octets", 1) || !length $octets) {
        Carp::croak('cannot set worker status: ' . BPSGI::_describe($octet) . ' has no octet');
    }
    Carp::croak('cannot set worker status: this is not a worker process') if !$self->{is_worker};
    $self->{status} = substr $octets, 0, 1;
    return 1;
}

sub _keep {
    my ($self, $kind, $word, $object) = @_;
    my $name  = $object->name;
    my $known = $self->{$kind}{$name};
    if ($known) {
        return $known if $self->{is_worker};
        Carp::croak("$word '$name' exists already: the loader asked for that name twice");
    }
    return $self->{$kind}{$name} = $object;
}

sub new_semaphore {
    my ($self, $name, $initial, $options) = @_;
    if (@_ < 3 || @_ > 4) {
        Carp::croak('Usage: BPSGI::Context::new_semaphore(context, name, initial, [options])');
    }
    return $self->_keep('semaphores', 'semaphore', BPSGI::Semaphore->new($name, $initial, $options));
}

sub new_atomic_int64 {
    my ($self, $name, $initial) = @_;
    Carp::croak('Usage: BPSGI::Context::new_atomic_int64(context, name, initial)') if @_ != 3;
    return $self->_keep('atomics', 'atomic', BPSGI::AtomicInt64->new($name, $initial));
}

sub request_auxiliary_process {
    my ($self, $name, $code) = @_;
    Carp::croak('Usage: BPSGI::Context::request_auxiliary_process(context, name, code)') if @_ != 3;
    $name = BPSGI::_name($name, 'auxiliary process');
    if (!ref $code || (ref $code ne 'CODE' && !eval { \&{$code} })) {
        Carp::croak("cannot create auxiliary process '$name': its code is "
                . BPSGI::_describe($code)
                . ', not a code reference');
    }
    if ($self->{is_worker}) {
        Carp::croak("auxiliary process '$name' can be requested only while the application loads");
    }
    push @{ $self->{auxiliary} }, { name => $name, code => $code };
    return 1;
}

# For tests.
sub become_worker       { $_[0]{is_worker} = 1; return $_[0] }
sub worker_status       { return $_[0]{status} }
sub _add_hook {
    my ($self, $name, $code) = @_;
    Carp::croak("$name: its code is " . BPSGI::_describe($code) . ', not a code reference')
        if ref $code ne 'CODE' && !(ref $code && BPSGI::_overloads($code));
    Carp::croak("$name: only while the application loads") if $name eq 'on_worker_start' && $self->{is_worker};
    push @{ $self->{hooks}{$name} }, $code;
    return 1;
}

sub on_worker_start { my ($self, $code) = @_; return $self->_add_hook(on_worker_start => $code) }
sub on_worker_exit  { my ($self, $code) = @_; return $self->_add_hook(on_worker_exit  => $code) }
sub on_request_end  { my ($self, $code) = @_; return $self->_add_hook(on_request_end  => $code) }

sub hooks { my ($self, $name) = @_; return @{ $self->{hooks}{$name} || [] } }

sub auxiliary_processes { return @{ $_[0]{auxiliary} } }
sub semaphore           { return $_[0]{semaphores}{ $_[1] } }
sub atomic_int64        { return $_[0]{atomics}{ $_[1] } }

1;

__END__

=encoding UTF-8

=head1 NAME

BPSGI::Context - what a loader is given

=head1 SYNOPSIS

    package My::Loader;
    use strict;
    use warnings;

    sub {
        my ($context) = @_;

        my $hits = $context->new_atomic_int64('hits', 0);
        my $lock = $context->new_semaphore('cache', 1);
        $context->request_auxiliary_process('janitor', sub {
            my ($context) = @_;
            while (1) { clean_up(); sleep 60 }
        });

        return ({}, sub {
            my ($env) = @_;
            $context->set_worker_status('R');
            $hits->incr;
            return [200, ['Content-Type' => 'text/plain'], ['Visit ', $hits->load, "\n"]];
        });
    };

=head1 DESCRIPTION

The context is the argument of the loader's code (see L<BPSGI/THE LOADER>) and of the code of auxiliary processes. It
means the same in every process, so the loader may keep it for the application.

=head1 METHODS

=head2 psgi_application_path

C<APPLICATION_PATH> as it was given on the command line.

=head2 psgi_application_loader

The name of the loader.

=head2 fastcgi_listen_sockfd

The number of the listening descriptor. Accepting from it is the workers' business.

=head2 is_worker

True in a worker, false while loading and in auxiliary processes.

=head2 set_worker_status($octet)

Sets this worker's octet on the statistics socket; of a longer string the first octet counts. While a worker waits for a
request the octet is C<_>. Dies outside a worker.

=head2 request_auxiliary_process($name, $code)

Asks for a process beside the workers that runs C<< $code->($context) >>. The process's title ends in C<$name>; two
may share a name. The code should run until the process is told to stop by SIGTERM, which it gets when the last worker has
gone. Returning, dying and C<exit> are logged as errors, and the process is started again.

Only while loading.

=head2 new_semaphore($name, $initial, [ { on_death => 'return' | 'keep' } ])

A L<BPSGI::Semaphore> with that value, from 0 to 2147483647. About C<on_death> see L<BPSGI::Semaphore/WHEN A PROCESS DIES>.

=head2 new_atomic_int64($name, $initial)

A L<BPSGI::AtomicInt64> with that value.

=head2 on_worker_start($code)

Calls C<< $code->($context) >> in each worker before its first request, in the order in which they were asked for; while loading only. If one
dies or exits, the worker does not serve: the reason is in the log, and it is tried again after a pause.

=head2 on_worker_exit($code)

Calls C<< $code->($context) >> in each worker that leaves, before its END blocks, the last asked for first. One that dies is logged. Not after a crash or a
fast stop.

=head2 on_request_end($code)

Calls C<< $code->($context, $env) >> after each request, when its client has the response and the cleanup handlers have run, in the order in which they
were asked for. One that dies is logged. Not when the application called exit.

None of these runs in an auxiliary process, or in a process that the application forked.

=head1 NAMES

The names of semaphores and those of atomics are independent of each other. A name has 1 to 255 bytes, no newline and no
NUL. Asking twice for one name while loading is an error. Asking for it again later, from another process or after a
reload, gives the existing object with the value it has.

=head1 TESTING A LOADER

Outside the server this class is a stand-in in pure Perl, for one process:

    use Test::More;
    use BPSGI::Context;

    my $context = BPSGI::Context->new(application_path => 'app.psgi');
    my ($extra, $app) = (require My::Loader)->($context);

    is($context->atomic_int64('hits')->load, 0);
    my ($janitor) = grep { $_->{name} eq 'janitor' } $context->auxiliary_processes;
    ok($janitor, 'asks for a janitor');

    $context->become_worker;
    my $response = $app->({ %{$extra}, REQUEST_METHOD => 'GET' });
    is($response->[0], 200);
    is($context->worker_status, 'R');

It checks what the server checks and dies with the same messages. Only here there are:

=over

=item C<< BPSGI::Context->new(%arguments) >>

C<application_path>, C<application_loader>, C<listen_sockfd>, C<is_worker>.

=item C<< $context->become_worker >>

From now on this is a worker.

=item C<< $context->worker_status >>

The octet; C<_> until it is set.

=item C<< $context->auxiliary_processes >>

Hashes with C<name> and C<code>, in the order they were asked for. Nothing is started.

=item C<< $context->hooks($name) >>

The code references given to C<on_worker_start>, C<on_worker_exit> or C<on_request_end>. Nothing is called.

=item C<< $context->semaphore($name) >>, C<< $context->atomic_int64($name) >>

The object of that name, or undef.

=back

=head1 SEE ALSO

L<BPSGI>, L<BPSGI::Semaphore>, L<BPSGI::AtomicInt64>

=cut
