# The loader of the tour. A loader is a Perl module whose last value is a code reference. BladePSGI calls it once, before
# any worker exists, with the context object; it returns what the workers need: a hash for every request's environment,
# and the application.
#
#   PERL5LIB=examples/tour/lib bladepsgi --loader=Tour examples/tour/app.psgi 4 /tmp/tour.sock /tmp/tour-stats.sock
#
# Everything made here before the application is loaded is shared by all workers: Perl data copy-on-write (a change stays
# in the worker that makes it), semaphores and atomics really (a change is seen by all at once).

package Tour;

use strict;
use warnings;

use Plack::Util;

sub {
    my ($context) = @_;

    # Integers of 64 bit that all processes count in together. The names show up on the statistics socket.
    my $visits = $context->new_atomic_int64('visits', 0);
    my $count  = $context->new_atomic_int64('count', 0);

    # A lock for one at a time: a semaphore of 1. If its holder dies, the server puts the permit back and says so.
    my $lock   = $context->new_semaphore('lock', 1);
    my $holder = $context->new_atomic_int64('lock holder', 0);

    # A process that lives beside the workers. It is started when loading is done, runs for ever, and is started again if
    # it dies. It talks to the workers through the atomics.
    my $beats     = $context->new_atomic_int64('heart beats', 0);
    my $last_beat = $context->new_atomic_int64('last heart beat', 0);
    $context->request_auxiliary_process('heart', sub {
        while (1) {
            $beats->incr;
            $last_beat->store(time);
            sleep 1;
        }
    });

    # The application is an ordinary PSGI file; without BladePSGI it runs as well, only without what is shared.
    my $app = Plack::Util::load_psgi($context->psgi_application_path);

    my %shared = (
        context   => $context,
        visits    => $visits,
        count     => $count,
        lock      => $lock,
        holder    => $holder,
        beats     => $beats,
        last_beat => $last_beat,
    );
    return ({ 'tour.shared' => \%shared }, $app);
};
