use strict;
use warnings;

use Test::More;

use BPSGI::Context;

sub dies_with {
    my ($code, $expected, $name) = @_;
    my $lived = eval { $code->(); 1 };
    ok(!$lived, "$name dies");
    return like($@, $expected, $name);
}

my $context = BPSGI::Context->new(application_path => 'x.psgi', application_loader => 'My::Loader');
is($context->psgi_application_loader, 'My::Loader');
is(BPSGI::Context->new->psgi_application_loader, undef);
dies_with(sub { BPSGI::Context->new(path => 1) }, qr/\Acannot create context: unknown argument 'path' at \Q${\__FILE__}\E/,
    'unknown argument');

# Where nothing else runs, a wait would never end.
my $gate = $context->new_semaphore('gate', 0);
dies_with(sub { $gate->acquire }, qr/\Acannot acquire semaphore 'gate': it would wait for ever.* at \Q${\__FILE__}\E/, 'acquire');
$gate->release;
ok($gate->acquire);
is($gate->on_death, 'keep');
is($context->new_semaphore('lock', 1)->on_death, 'return');
is($context->semaphore('lock')->value, 1);

# Names.
dies_with(sub { $context->new_semaphore('lock', 1) }, qr/\Asemaphore 'lock' exists already: the loader asked for that name twice at /,
    'duplicate semaphore');
$context->new_atomic_int64('lock', 5);
dies_with(sub { $context->new_atomic_int64('lock', 1) }, qr/\Aatomic 'lock' exists already/, 'duplicate atomic');
my ($raw, $upgraded) = ("caf\xe9", "caf\xe9");
utf8::upgrade($upgraded);
$context->new_atomic_int64($raw, 1);
ok($context->atomic_int64($raw), 'found by its bytes');
dies_with(sub { $context->new_atomic_int64($upgraded, 1) }, qr/exists already/, 'the same name stored otherwise');

# Auxiliary processes are remembered, not started.
my $ran = 0;
$context->request_auxiliary_process('janitor', sub { $ran = shift });
is_deeply([map { $_->{name} } $context->auxiliary_processes], ['janitor']);
($context->auxiliary_processes)[0]{code}->($context);
is($ran, $context);

# In a worker.
is($context->worker_status, '_');
$context->become_worker;
ok($context->is_worker);
ok($context->set_worker_status('Reading'));
is($context->worker_status, 'R');
is($context->new_atomic_int64('lock', 9)->load, 5, 'an existing object keeps its value');
dies_with(sub { $context->request_auxiliary_process('late', sub { }) },
    qr/\Aauxiliary process 'late' can be requested only while the application loads at /, 'auxiliary process in a worker');
dies_with(sub { $context->set_worker_status("\x{263a}") }, qr/has no octet at /, 'wide status');

done_testing;
