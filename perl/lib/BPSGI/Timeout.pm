package BPSGI::Timeout;

use strict;
use warnings;

use overload '""' => sub { $_[0]->message }, bool => sub { 1 }, fallback => 1;

our $VERSION = '2.0.0';

sub new        { my ($class, %fields) = @_; return bless {%fields}, $class }
sub limit      { return $_[0]{limit} }
sub elapsed    { return $_[0]{elapsed} }
sub method     { return $_[0]{method} }
sub uri        { return $_[0]{uri} }
sub request_id { return $_[0]{request_id} }
sub file       { return $_[0]{file} }
sub line       { return $_[0]{line} }

sub message {
    my ($self) = @_;
    my ($elapsed, $limit) = map { defined $_ ? $_ : 0 } @$self{qw(elapsed limit)};
    my $text = sprintf 'the request has run for %.1f s, longer than its time limit of %g s', $elapsed, $limit;
    $text .= " at $self->{file} line $self->{line}." if defined $self->{file};
    return "$text\n";
}

1;

__END__

=head1 NAME

BPSGI::Timeout - what is thrown into an application whose request takes too long

=head1 SYNOPSIS

    my $report = eval { $dbh->begin_work; my $r = make_report($dbh); $dbh->commit; $r };
    if (my $error = $@) {
        eval { $dbh->rollback };
        return [503, ['Content-Type' => 'text/plain'], ["That takes too long. Try a shorter period.\n"]]
            if ref $error && eval { $error->isa('BPSGI::Timeout') };
        die $error;
    }

=head1 DESCRIPTION

With C<--request-timeout> the server throws an object of this class into an application that has had a request for longer than that. It comes
where Perl also runs the handlers of C<%SIG>: between two statements, and in a system call that waits, which ends with EINTR.

Who catches it should clean up and answer. It comes again every second until the request has ended. Who does not catch it has the request
answered with status 504. It never comes outside a request, in a process that the application has forked, or in a cleanup handler.

Inside the server the class is always the server's own, and it is there only with C<--request-timeout>. This module is for the tests of an
application, which can throw one themselves: C<< die BPSGI::Timeout->new(limit => 2, elapsed => 2.1) >>.

=head1 METHODS

=over

=item limit

The limit, in seconds.

=item elapsed

How long the application has had the request, in seconds, without the time in which it waited for the client.

=item method, uri, request_id

Of the request.

=item file, line

Where it was thrown.

=item message

All of it as a sentence with a newline at its end; also what the object is as a string.

=back

=cut
