package BPSGI::Semaphore;

use strict;
use warnings;

use BPSGI ();
use Carp  ();

our $VERSION = '2.0.0';

sub new {
    my ($class, $name, $initial, $options) = @_;
    $name = BPSGI::_name($name, 'semaphore');
    $initial = BPSGI::_integer($initial, "cannot create semaphore '$name'", 'its initial value');
    if ($initial < 0 || $initial > 2147483647) {
        Carp::croak("cannot create semaphore '$name': its initial value $initial is not between 0 and 2147483647");
    }
    my $on_death = $initial == 0 ? 'keep' : 'return';
    if (defined $options) {
        if (ref $options ne 'HASH') {
            Carp::croak("cannot create semaphore '$name': the options are "
                    . BPSGI::_describe($options)
                    . ', not a hash reference');
        }
        for my $key (sort keys %{$options}) {
            Carp::croak("cannot create semaphore '$name': unknown option '$key'") if $key ne 'on_death';
            $on_death = $options->{$key};
            if (!defined $on_death || $on_death !~ /\A(?:return|keep)\z/) {
                Carp::croak("cannot create semaphore '$name': on_death is "
                        . BPSGI::_describe($on_death)
                        . ", must be 'return' or 'keep'");
            }
        }
    }
    return bless { name => $name, value => $initial, on_death => $on_death }, $class;
}

sub acquire {
    my ($self) = @_;
    if ($self->{value} == 0) {
        Carp::croak("cannot acquire semaphore '$self->{name}': it would wait for ever, there is no other process here");
    }
    $self->{value}--;
    return 1;
}

sub tryacquire {
    my ($self) = @_;
    return !!0 if $self->{value} == 0;
    $self->{value}--;
    return 1;
}

sub release {
    my ($self) = @_;
    if ($self->{value} == 2147483647) {
        Carp::croak("cannot release semaphore '$self->{name}': its value is 2147483647");
    }
    $self->{value}++;
    return 1;
}

# For tests.
sub name     { return $_[0]{name} }
sub value    { return $_[0]{value} }
sub on_death { return $_[0]{on_death} }

1;

__END__

=encoding UTF-8

=head1 NAME

BPSGI::Semaphore - a counting semaphore shared by all processes of a server

=head1 SYNOPSIS

    # in the loader: at most three requests use the converter at once
    my $slots = $context->new_semaphore('converter', 3);

    # in the application
    $slots->acquire;
    my $pdf = eval { convert($document) };
    $slots->release;

    # or, rather than wait
    return [503, ['Retry-After' => 5], []] if !$slots->tryacquire;

=head1 DESCRIPTION

A value that never goes below zero. Semaphores are made by L<BPSGI::Context/new_semaphore> and shown on the
statistics socket.

=head1 METHODS

All return a true value unless something else is said.

=head2 acquire

Waits while the value is zero, then takes one. Waiting costs no CPU. Signal handlers of Perl run meanwhile, so
C<alarm> with a handler that dies limits the wait:

    local $SIG{ALRM} = sub { die "busy\n" };
    alarm 5;
    my $got_one = eval { $slots->acquire; 1 };
    alarm 0;

=head2 tryacquire

Takes one and returns true, or returns false at once when the value is zero.

=head2 release

Gives one back. Dies if the value is 2147483647 already.

=head1 WHEN A PROCESS DIES

The server keeps count of what each process has acquired and not released. When a process ends, however it ends,
those are put back and a warning in the log names the semaphore, the process and the number. A release
beyond what was acquired is a plain increment and owes nothing.

A semaphore made with the initial value 0 is a signal, not a lock: there nothing is put back. To
choose for yourself:

    $context->new_semaphore('jobs', 10, { on_death => 'keep' });
    $context->new_semaphore('gate', 0,  { on_death => 'return' });

A permit acquired by one process and released by another is not recognised as handed over; use C<keep> for that.

=head1 WITHOUT THE SERVER

The stand-in works in one process. C<acquire> dies where it would have to wait, for nobody else could ever
release. Besides, it has C<name>, C<value> and C<on_death>, for tests to look at.

=head1 SEE ALSO

L<BPSGI::Context>, L<BPSGI::AtomicInt64>

=cut
