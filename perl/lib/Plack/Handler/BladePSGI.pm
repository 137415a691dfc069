package Plack::Handler::BladePSGI;

use strict;
use warnings;

use Getopt::Long ();

our $VERSION = '2.0.0';

sub new {
    my ($class, %options) = @_;
    return bless {%options}, $class;
}

sub run {
    my ($self, @rest) = @_;
    my ($runner, $given) = _runner();
    my @command = _command($runner, $given, @ARGV);
    my $program = $ENV{BLADEPSGI};
    $program = 'bladepsgi' if !defined $program || !length $program;
    no warnings 'exec';    # what is said about it is said below
    exec {$program} $program, @command;
    die "cannot run $program: $!; is it installed? The environment variable BLADEPSGI may say where it is\n";
}

# The Plack::Runner that has called us, and what its run was given.
sub _runner {
    for (my $depth = 0;; ++$depth) {
        my @frame = do { package DB; our @args; caller $depth };
        return if !@frame;
        my @arguments = @DB::args;
        return @arguments[ 0, 1 ] if $frame[3] eq 'Plack::Runner::run' && ref $arguments[0];
    }
}

sub _cannot {
    my ($why) = @_;
    die "plackup -s BladePSGI starts bladepsgi with plackup's own command line, and this cannot be repeated: $why.\n"
        . "Put the application into a file and run: bladepsgi app.psgi\n";
}

# What bladepsgi is to be started with.
sub _command {
    my ($runner, $given, @words) = @_;
    _cannot('it is not plackup that runs') if !$runner;

    my (%option, @listen, @include, @module);
    my @rest = map { /\A(-[IMe])(.+)/s ? ($1, $2) : $_ } @words;
    # The very options of Plack::Runner.
    Getopt::Long::Parser->new(config => [qw(no_auto_abbrev no_ignore_case pass_through)])->getoptionsfromarray(
        \@rest, \%option,
        'a|app=s', 'o|host=s', 'p|port=s', 's|server=s', 'S|socket=s', 'l|listen=s@' => \@listen, 'D|daemonize', 'E|env=s', 'e=s',
        'I=s@' => \@include, 'M=s@' => \@module, 'r|reload', 'R|Reload=s', 'L|loader=s', 'access-log=s', 'path=s', 'h|help',
        'v|version', 'default-middleware!',
    );

    my $is_code = 'the application is code, of which only this process knows';
    for my $known ([ app => $option{a} ], [ eval => $option{e} ], [ path => $option{path} ]) {
        my ($name, $mine) = @$known;
        my $its = $runner->{$name};
        _cannot($is_code) if ref $its;
        _cannot('what runs is not what the command line says') if ($mine // '') ne ($its // '');
    }
    my ($argument) = @{ $runner->{argv} || [] };
    for my $file (grep { defined } $given, $argument) {
        _cannot($is_code) if ref $file;
        _cannot('what runs is not what the command line says') if !grep { $_ eq $file } @rest;
    }

    my @command;
    my $loader = $runner->{loader} || 'Plack::Loader';
    if ($loader =~ /\A\+?(?:Plack::Loader::)?Delayed\z/) {
        push @command, '--no-preload';
    }
    elsif ($loader !~ /\A\+?(?:Plack::Loader|(?:Plack::Loader::)?Restarter)\z/) {
        _cannot("$loader is a loader that runs the application in plackup itself");
    }
    push @command, map { "--include=$_" } @include;
    push @command, map { "--module=$_" } @module;
    push @command, "--env=$ENV{PLACK_ENV}" if defined $ENV{PLACK_ENV} && length $ENV{PLACK_ENV};
    push @command, "--eval=$option{e}" if defined $option{e};
    push @command, "--path=$option{path}" if defined $option{path};
    if (@listen) {    # then plackup does not look at the others
        push @command, map { "--listen=$_" } @listen;
    }
    elsif (defined $option{S}) {
        push @command, "--listen=unix:$option{S}";
    }
    else {
        push @command, "--host=$option{o}" if defined $option{o};
        push @command, "--port=$option{p}" if defined $option{p};
    }
    push @command, '--daemonize' if $option{D};
    push @command, "--access-log=$option{'access-log'}" if defined $option{'access-log'};
    push @command, "--app=$option{a}" if defined $option{a};
    push @command, @rest;
    push @command, 'app.psgi' if !defined $option{a} && !defined $option{e} && !defined $argument && !defined $given;
    return @command;
}

1;
__END__

=head1 NAME

Plack::Handler::BladePSGI - let plackup start BladePSGI

=head1 SYNOPSIS

  plackup -s BladePSGI app.psgi
  plackup -s BladePSGI -E production -I lib -p 8080 --workers 8 app.psgi
  plackup -r -s BladePSGI app.psgi

=head1 DESCRIPTION

BladePSGI is a program of its own, C<bladepsgi>, that loads a PSGI application once and serves it over HTTP and FastCGI from
preforked processes. This handler is for those who start everything by L<plackup>: it replaces plackup by C<bladepsgi> with
plackup's own command line. C<bladepsgi app.psgi> does the same without the detour, on which the application is
loaded twice: by plackup, and then by C<bladepsgi>.

What the command line does not say cannot be repeated: an application that a program hands to L<Plack::Runner> or
L<Plack::Loader> as code, or one of L<Plack::Loader::Shotgun>. C<run> then dies and says so.

=head1 OPTIONS

All of plackup's and all of C<bladepsgi>'s: plackup passes those that it does not know. Because it takes the word after such an
option for its value, write C<--workers=8> or C<--workers 8>, but options without a value after the application.

=over

=item C<-E>

is C<development> unless something else is said, as always with plackup; but no middleware is added.

=item C<-l>, C<-o>, C<-p>

HTTP, on C<127.0.0.1> where plackup's own servers listen on every interface: for that say C<-o 0.0.0.0>. A path is a socket
for FastCGI.

=item C<-L Delayed>

is C<--no-preload>: each worker loads the application itself.

=item C<-r>, C<-R>

plackup stays, and starts C<bladepsgi> again whenever a file changes.

=back

=head1 METHODS

=head2 new(%options)

What plackup does with the handlers of all servers. The options are not looked at.

=head2 run($app)

Replaces this process by C<bladepsgi>. The application is not looked at. Dies when the command line cannot be repeated, or
C<bladepsgi> cannot be run.

=head1 ENVIRONMENT

C<BLADEPSGI> is the program to run, C<bladepsgi> in the search path otherwise.

=head1 SEE ALSO

L<plackup>, L<Plack::Runner>, L<BPSGI>, bladepsgi(1)

=cut
