# What the loader API answers, as pairs: an expression, and the text it gives or dies with (a string: all of it; a
# pattern: part of it). The stand-in's tests and the server's own both go through this list, so that they cannot drift
# apart. $main::context is a fresh context that is still loading; later cases see what earlier ones made.
use strict;
use warnings;

my $wide = "\x{2603}";

return (
    ['ref $main::context'                                                                     => 'BPSGI::Context'],
    ['$main::context->psgi_application_path'                                                  => 'the/app.psgi'],
    ['$main::context->fastcgi_listen_sockfd'                                                  => '7'],
    ['$main::context->is_worker ? 1 : 0'                                                      => '0'],
    ['$main::context->set_worker_status("x")' => qr/\Acannot set worker status: this is not a worker process at /],
    ['$main::context->set_worker_status("")'                 => qr/\Acannot set worker status: '' has no octet at /],
    ['$main::context->set_worker_status(undef)'              => qr/\Acannot set worker status: undef has no octet at /],

    # Semaphores.
    ['$main::s = $main::context->new_semaphore("door", 2); ref $main::s'                      => 'BPSGI::Semaphore'],
    ['join ",", map { $_ ? 1 : 0 } $main::s->acquire, $main::s->tryacquire, $main::s->tryacquire' => '1,1,0'],
    ['$main::s->release ? 1 : 0'                                                              => '1'],
    ['$main::s->tryacquire ? 1 : 0'                                                           => '1'],
    ['ref $main::context->new_semaphore("gate", 0, { on_death => "return" })'                 => 'BPSGI::Semaphore'],
    ['$main::f = $main::context->new_semaphore("full", 2147483647, { on_death => "keep" }); 1' => '1'],
    ['$main::f->release' => qr/\Acannot release semaphore 'full': its value is 2147483647 at /],
    ['$main::context->new_semaphore("x", -1)' =>
            qr/\Acannot create semaphore 'x': its initial value -1 is not between 0 and 2147483647 at /],
    ['$main::context->new_semaphore("x", 2147483648)' =>
            qr/\Acannot create semaphore 'x': its initial value 2147483648 is not between 0 and 2147483647 at /],
    ['$main::context->new_semaphore("x", 4294967297)' => qr/is not between 0 and 2147483647 at /],
    ['$main::context->new_semaphore("x", "much")' =>
            qr/\Acannot create semaphore 'x': its initial value is 'much', not a whole number at /],
    ['$main::context->new_semaphore("a\nb", 1)' => qr/\Acannot create semaphore 'a\\nb': the name has a newline at /],
    ['$main::context->new_semaphore("a\0b", 1)' => qr/\Acannot create semaphore 'a\\0b': the name has a NUL at /],
    ['$main::context->new_semaphore("", 1)'     => qr/\Acannot create semaphore '': the name is empty at /],
    ['$main::context->new_semaphore(undef, 1)'  => qr/\Acannot create semaphore: its name is undef at /],
    ['$main::context->new_semaphore([], 1)'     => qr/\Acannot create semaphore: its name is an ARRAY reference at /],
    ['$main::context->new_semaphore("x" x 256, 1)' => qr/\Acannot create semaphore 'x{60}'...: the name is longer than 255 bytes at /],
    ['$main::context->new_semaphore("x", 1, 2)' =>
            qr/\Acannot create semaphore 'x': the options are '2', not a hash reference at /],
    ['$main::context->new_semaphore("x", 1, { death => 1 })' => qr/\Acannot create semaphore 'x': unknown option 'death' at /],
    ['$main::context->new_semaphore("x", 1, { on_death => "maybe" })' =>
            qr/\Acannot create semaphore 'x': on_death is 'maybe', must be 'return' or 'keep' at /],
    ['$main::context->new_semaphore("x")' =>
            qr/\AUsage: BPSGI::Context::new_semaphore\(context, name, initial, \[options\]\) at /],

    # Atomics.
    ['$main::a = $main::context->new_atomic_int64("count", "-9223372036854775808"); ref $main::a' => 'BPSGI::AtomicInt64'],
    ['$main::a->load'                                  => '-9223372036854775808'],
    ['$main::a->fetch_add(-1)'                         => '-9223372036854775808'],
    ['$main::a->load'                                  => '9223372036854775807'],
    ['$main::a->incr ? 1 : 0'                          => '1'],
    ['$main::a->load'                                  => '-9223372036854775808'],
    ['$main::a->store(4294967297) ? 1 : 0'             => '1'],
    ['$main::a->fetch_add(4294967296)'                 => '4294967297'],
    ['$main::a->load'                                  => '8589934593'],
    ['$main::a->store(1e3); $main::a->load'            => '1000'],
    ['$main::a->store("1e3"); $main::a->load'          => '1000'],
    ['$main::a->store("0012"); $main::a->fetch_add("+3"); $main::a->load' => '15'],
    ['$main::a->store(" 7\n"); $main::a->load'         => '7'],
    ['$main::a->store(9223372036854775807); $main::a->load' => '9223372036854775807'],
    ['$main::a->store(-2**63); $main::a->load'         => '-9223372036854775808'],
    ['require Math::BigInt; $main::a->store(Math::BigInt->new("-5000000000")); $main::a->load' => '-5000000000'],
    (   map { ["\$main::a->store($_)" => qr/\Acannot store to atomic 'count': the value is .*, not a whole number at /s] }
            'undef', '"abc"', '1.5', '""', '"1x"', '[]', '9**9**9', '-sin(9**9**9)', '*STDOUT', 'bless({}, "Foo")'
    ),
    (   map { ["\$main::a->fetch_add($_)" => qr/\Acannot add to atomic 'count': the operand '.*' does not fit 64 bits signed at /] }
            '9223372036854775808', '"9223372036854775808"', '"-9223372036854775809"', '1e19', '~0', '"1" . "0" x 40'
    ),
    ['$main::context->new_atomic_int64("x", "99999999999999999999")' =>
            qr/\Acannot create atomic 'x': its initial value '99999999999999999999' does not fit 64 bits signed at /],
    ['$main::context->new_atomic_int64("\n", 1)' => qr/\Acannot create atomic '\\n': the name has a newline at /],
    ['$main::context->new_atomic_int64("x")'     => qr/\AUsage: BPSGI::Context::new_atomic_int64\(context, name, initial\) at /],
    ["ref \$main::context->new_atomic_int64('$wide', 1)" => 'BPSGI::AtomicInt64'],
    ['ref $main::context->new_atomic_int64("door", 1)'   => 'BPSGI::AtomicInt64'],

    # Auxiliary processes.
    ['$main::context->request_auxiliary_process("janitor", sub { }) ? 1 : 0' => '1'],
    ['$main::context->request_auxiliary_process("janitor", sub { }) ? 1 : 0' => '1'],
    ['$main::context->request_auxiliary_process("x", "y")' =>
            qr/\Acannot create auxiliary process 'x': its code is 'y', not a code reference at /],
    ['$main::context->request_auxiliary_process("x", {})' => qr/its code is a HASH reference, not a code reference at /],
    ['$main::context->request_auxiliary_process(undef, sub { })' => qr/\Acannot create auxiliary process: its name is undef at /],
    ['$main::context->request_auxiliary_process("a\nb", sub { })' => qr/\Acannot create auxiliary process 'a\\nb': the name has a newline at /],
);
