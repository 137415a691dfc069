package BPSGI::AtomicInt64;

use strict;
use warnings;

use BPSGI ();

our $VERSION = '2.0.0';

sub new {
    my ($class, $name, $initial) = @_;
    $name = BPSGI::_name($name, 'atomic');
    $initial = BPSGI::_integer($initial, "cannot create atomic '$name'", 'its initial value');
    return bless { name => $name, value => $initial }, $class;
}

sub incr {
    my ($self) = @_;
    $self->fetch_add(1);
    return 1;
}

sub fetch_add {
    my ($self, $operand) = @_;
    $operand = BPSGI::_integer($operand, "cannot add to atomic '$self->{name}'", 'the operand');
    my $before = $self->{value};
    use integer;    # wraps
    $self->{value} = $before + $operand;
    return $before;
}

sub load { return $_[0]{value} }

sub store {
    my ($self, $value) = @_;
    $self->{value} = BPSGI::_integer($value, "cannot store to atomic '$self->{name}'", 'the value');
    return 1;
}

# For tests.
sub name { return $_[0]{name} }

1;

__END__

=encoding UTF-8

=head1 NAME

BPSGI::AtomicInt64 - a 64-bit integer shared by all processes of a server

=head1 SYNOPSIS

    # in the loader
    my $hits = $context->new_atomic_int64('hits', 0);

    # in the application
    $hits->incr;
    my $ticket = $hits->fetch_add(1);

=head1 DESCRIPTION

A signed 64-bit integer on which every operation is atomic among all processes of the server. It is made by
L<BPSGI::Context/new_atomic_int64> and shown on the statistics socket. Nothing waits and nothing is
lost when a process dies.

Operands are whole numbers from -9223372036854775808 to 9223372036854775807; anything else dies. Sums that do not
fit wrap around.

=head1 METHODS

=head2 incr

Adds one. Returns a true value.

=head2 fetch_add($n)

Adds C<$n>, which may be negative, and returns the value from before.

=head2 load

The value.

=head2 store($n)

Sets the value. Returns a true value.

=head1 WITHOUT THE SERVER

The stand-in also has C<name>, for tests to look at.

=head1 SEE ALSO

L<BPSGI::Context>, L<BPSGI::Semaphore>

=cut
