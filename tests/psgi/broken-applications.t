# Broken applications: the author is told what is wrong and where; the client gets 500, or a response that is visibly
# incomplete; the worker lives on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Test::More;

my $app = <<'PERL';
use strict;
use warnings;
package Overloaded { use overload '""' => sub { die "in stringification\n" }, 'bool' => sub { die "in bool\n" }, fallback => 1; sub new { bless {}, shift } }
package Dying { sub new { my ($c, $n) = @_; bless { n => $n }, $c } sub getline { my $s = shift; die "in getline\n" unless $s->{n}--; "line\n" } sub close { } }
package DyingClose { our @ISA = ('Dying'); sub getline { my $s = shift; $s->{n}-- > 0 ? "line\n" : undef } sub close { die "in close\n" } }
package Exiting { our @ISA = ('Dying'); sub getline { my $s = shift; exit 0 unless $s->{n}--; "line\n" } }
package NoClose { sub new { bless [1], shift } sub getline { shift @{ $_[0] } } }
package WideLine { sub new { bless [1], shift } sub getline { shift(@{ $_[0] }) ? "narrow\n" : "\x{263a}" } sub close { } }
package Tied { require Tie::Hash; our @ISA = 'Tie::StdHash'; sub FIRSTKEY { die "ran code of the application\n" } sub SCALAR { die "ran code\n" } }
package Destroying { sub new { bless {}, shift } sub DESTROY { die "in DESTROY\n" } }
package Exception { use overload '""' => sub { "exception text" }, fallback => 1; sub throw { die bless {}, shift } }
package main;
my %cases = (
    die            => sub { die "the application died" },
    die_object     => sub { Exception->throw },
    die_reference  => sub { die { code => 42 } },
    die_plain_object => sub { die bless { why => 'x', password => 'hunter2', env => {} }, 'Plain' },
    die_large      => sub { die { map { $_ => {} } 1 .. 100_000 } },
    die_tied       => sub { tie my %h, 'Tied'; die \%h },
    die_recursive  => sub { my $e = { big => 'x' x 5000 }; $e->{self} = $e; die $e },
    die_code       => sub { die sub { } },
    die_overloaded => sub { die Overloaded->new },
    die_empty      => sub { die },
    die_undef      => sub { die undef },
    die_newlines   => sub { die "first line\nsecond line\n" },
    die_long       => sub { die 'x' x 100_000 },
    die_eval       => sub { eval { die "inner\n" }; die "outer after $@" },
    die_destroy    => sub { my $d = Destroying->new; [200, [], ['destroyed']] },
    wide_body      => sub { [200, [], ["\x{263a}"]] },
    wide_second    => sub { [200, [], ["narrow", "\x{263a}"]] },
    wide_header    => sub { [200, ['X-Wide' => "\x{263a}"], ['x']] },
    newline_value  => sub { [200, ['X-Split' => "a\r\nSet-Cookie: stolen=1"], ['x']] },
    lf_value       => sub { [200, ['X-Split' => "a\nb"], ['x']] },
    cr_value       => sub { [200, ['X-Split' => "a\rb"], ['x']] },
    nul_value      => sub { [200, ['X-Nul' => "a\0b"], ['x']] },
    newline_name   => sub { [200, ["X-Na\nme" => 'a'], ['x']] },
    nul_name       => sub { [200, ["X-Na\0me" => 'a'], ['x']] },
    colon_name     => sub { [200, ["X-Na: me" => 'a'], ['x']] },
    empty_name     => sub { [200, ['' => 'a'], ['x']] },
    undef_value    => sub { [200, ['X-Undef' => undef], ['x']] },
    odd_headers    => sub { [200, ['X-Odd'], ['x']] },
    hash_headers   => sub { [200, { 'X-A' => 1 }, ['x']] },
    no_headers     => sub { [200, undef, ['x']] },
    status_header  => sub { [200, ['Status' => '302 Found'], ['x']] },
    status_word    => sub { ['OK', [], ['x']] },
    status_zero    => sub { [0, [], ['x']] },
    status_99      => sub { [99, [], ['x']] },
    status_1000    => sub { [1000, [], ['x']] },
    status_undef   => sub { [undef, [], ['x']] },
    status_negative => sub { [-200, [], ['x']] },
    status_text    => sub { ['200 OK', [], ['x']] },
    status_ref     => sub { [[], [], ['x']] },
    return_nothing => sub { return },
    return_undef   => sub { undef },
    return_string  => sub { 'a string' },
    return_number  => sub { 200 },
    return_hash    => sub { +{ status => 200 } },
    return_empty   => sub { [] },
    return_one     => sub { [200] },
    return_four    => sub { [200, [], ['x'], 'more'] },
    return_object  => sub { Dying->new(1) },
    return_overloaded => sub { Overloaded->new },
    return_glob    => sub { *STDIN },
    body_string    => sub { [200, [], 'a plain string'] },
    body_undef     => sub { [200, [], undef] },
    body_hash      => sub { [200, [], {}] },
    body_code      => sub { [200, [], sub { }] },
    body_object    => sub { [200, [], bless({}, 'Nothing')] },
    body_no_close  => sub { [200, [], NoClose->new] },
    body_element_undef => sub { [200, [], ['a', undef, 'b']] },
    body_element_ref   => sub { [200, [], ['a', {}, 'b']] },
    body_element_dies  => sub { [200, [], ['a', Overloaded->new]] },
    body_closed    => sub { open my $f, '<', '/dev/null'; close $f; [200, [], $f] },
    body_write_only => sub { open my $f, '>', '/dev/null'; [200, [], $f] },
    body_directory => sub { open my $f, '<', '/'; [200, [], $f] },
    getline_dies   => sub { [200, [], Dying->new(0)] },
    getline_dies_later => sub { [200, [], Dying->new(3)] },
    getline_exits  => sub { [200, [], Exiting->new(2)] },
    getline_wide   => sub { [200, [], WideLine->new] },
    close_dies     => sub { [200, [], DyingClose->new(2)] },
    stream_dies_before => sub { sub { die "before the responder\n" } },
    stream_dies_headers => sub { sub { my $w = $_[0]->([200, []]); die "after the headers\n" } },
    stream_dies_middle => sub { sub { my $w = $_[0]->([200, []]); $w->write("half of it\n"); die "in the middle\n" } },
    stream_dies_end => sub { sub { my $w = $_[0]->([200, []]); $w->write("all of it\n"); $w->close; die "after close\n" } },
    stream_never   => sub { sub { } },
    stream_twice   => sub { sub { $_[0]->([200, [], ['one']]); $_[0]->([200, [], ['two']]) } },
    stream_wrong   => sub { sub { $_[0]->('nonsense') } },
    stream_no_args => sub { sub { $_[0]->() } },
    stream_wide    => sub { sub { my $w = $_[0]->([200, []]); $w->write("\x{263a}"); $w->close } },
    stream_wide_later => sub { sub { my $w = $_[0]->([200, []]); $w->write("narrow\n"); $w->write("\x{263a}"); $w->close } },
    stream_undef   => sub { sub { my $w = $_[0]->([200, []]); { no warnings; $w->write(undef); } $w->write('after'); $w->close } },
    stream_exit    => sub { sub { my $w = $_[0]->([200, []]); $w->write("half\n"); exit 0 } },
    exit           => sub { exit 0 },
    exit_code      => sub { exit 7 },
    exit_eval      => sub { eval { exit 0 }; [200, [], ['after exit']] },
    exit_destroy   => sub { eval { eval { exit 3 } }; 1 },
    print          => sub { print "printed to STDOUT\n"; printf "%s\n", 'and by printf'; syswrite STDOUT, "and by syswrite\n"; [200, [], ['clean']] },
    close_stdout   => sub { close STDOUT; [200, [], ['clean']] },
    close_stderr   => sub { close STDERR; [200, [], ['clean']] },
    close_stdin    => sub { close STDIN; [200, [], ['clean']] },
    close_input    => sub { close $_[0]{'psgi.input'}; [200, [], ['clean']] },
    change_env     => sub { %{ $_[0] } = (); [200, [], ['clean']] },
    recursion      => sub { my $f; $f = sub { no warnings; $f->() if $_[0] > 0; 1 }; [200, [], ['clean']] },
    alarm_default  => sub { local $SIG{ALRM} = sub { die "alarm\n" }; alarm 1; select undef, undef, undef, 10; alarm 0; [200, [], ['not reached']] },
    goto_out       => sub { no warnings; eval { last }; [200, [], ['clean']] },
    last_out       => sub { no warnings; last },
    separators     => sub { $/ = undef; $\ = 'X'; $, = 'Y'; $| = 1; [200, [], ['a', 'b']] },
    select_other   => sub { open my $f, '>', '/dev/null'; select $f; [200, [], ['clean']] },
    warn_handler   => sub { $SIG{__WARN__} = sub { die "warnings are fatal: @_" }; $SIG{__DIE__} = sub { die "handled: @_" }; [200, [], ['clean']] },
    short          => sub { [200, ['Content-Length' => 100], ['only this']] },
    long           => sub { [200, ['Content-Length' => 2], ['all of this']] },
    ok             => sub { [200, [], ["$$"]] },
);
sub { my ($env) = @_; $cases{ $env->{PATH_INFO} =~ s{\A/}{}r }->($env) };
PERL

my $server = BladePSGI::Test->start(workers => 1, app => $app);
my $from = 0;

# One request; returns its answer, and the log it caused.
sub try_case {
    my ($name) = @_;
    $from = $server->log_size;
    my $answer = $server->get("/$name");
    if (!$answer->{ended} || $answer->{status} == 500) {    # the log comes a moment later
        wait_for { substr($server->log, $from) =~ / (?:ERROR|WARNING): / } 2;
    }
    return ($answer, substr $server->log, $from);
}

sub lives {
    my ($name, $pid) = @_;
    is $server->get('/ok')->{body}, $pid, "$name: the worker lives on";
    return;
}

my $pid = $server->get('/ok')->{body};

# 500, and a message that matches.
my %five_hundred = (
    die => qr/the application died at \S+app\.psgi line \d+/, die_object => qr/exception text/, die_reference => qr/HASH: \{code => 42\}/,
    die_plain_object => qr/object of class Plain: \{env => HASH, password => \(not shown\), why => 'x'\}/,
    die_recursive => qr/HASH: \{big => 'x{80}\.\.\.', self => HASH\}/, die_large => qr/HASH: \{100000 keys\}/, die_tied => qr/a reference to HASH$/m, die_code => qr/CODE/,
    die_overloaded => qr/\S/, die_empty => qr/Died at/, die_undef => qr/Died|undef/, die_newlines => qr/first line.*second line/s,
    die_long => qr/x{1000}/, die_eval => qr/outer after inner/,
    wide_body => qr/wide character/i, wide_second => qr/wide character/i, wide_header => qr/wide character.*X-Wide|X-Wide.*wide character/i,
    newline_value => qr/X-Split/, lf_value => qr/X-Split/, cr_value => qr/X-Split/, nul_value => qr/X-Nul/,
    newline_name => qr/header/i, nul_name => qr/header/i, colon_name => qr/header/i, empty_name => qr/header/i,
    odd_headers => qr/header|odd/i, hash_headers => qr/header.*HASH|HASH.*header/i, no_headers => qr/header/i,
    status_word => qr/status.*OK/i, status_zero => qr/status.*\b0\b/i, status_99 => qr/status.*99/i,
    status_1000 => qr/status.*1000/i, status_undef => qr/status/i, status_negative => qr/status.*-200/i,
    status_text => qr/status.*200 OK/i, status_ref => qr/status/i,
    return_nothing => qr/undef|nothing/i, return_undef => qr/undef|nothing/i, return_string => qr/a string/, return_number => qr/200/,
    return_hash => qr/HASH/, return_empty => qr/\b0\b|element|empty/i, return_one => qr/\b1\b|element|one/i, return_object => qr/Dying/,
    return_overloaded => qr/Overloaded/, return_glob => qr/\S/,
    body_string => qr/body/i, body_undef => qr/body.*undef|undef.*body/i, body_hash => qr/body.*HASH|HASH.*body/i,
    body_code => qr/body.*CODE|CODE.*body/i, body_object => qr/Nothing/,
    body_element_undef => qr/undef/, body_element_ref => qr/HASH|reference/, body_element_dies => qr/stringification|Overloaded|reference/,
    body_closed => qr/body|handle|read/i, body_directory => qr/body|director|read/i, body_write_only => qr/body|handle|read/i,
    getline_dies => qr/in getline/, stream_dies_before => qr/before the responder/,
    stream_never => qr/respon/i, stream_wrong => qr/nonsense/, stream_no_args => qr/\S/,
    exit => qr/exit/, exit_code => qr/exit.*7|7.*exit/, exit_eval => qr/exit/, exit_destroy => qr/exit/,
    alarm_default => qr/alarm/, last_out => qr/\S/,
);

# What may be mended or refused, as long as it is one of the two.
my %either = map { $_ => 1 } qw(return_four undef_value body_element_undef body_element_ref status_text colon_name empty_name
    body_no_close return_glob status_header body_write_only);

my %ends_worker = map { $_ => 1 } qw(exit exit_code exit_eval exit_destroy getline_exits stream_exit);

for my $name (sort keys %five_hundred) {
    my ($answer, $log) = try_case($name);
    if ($either{$name} && ($answer->{status} || 0) != 500) {
        ok $answer->{ended}, "$name: answered with $answer->{status}";
    }
    else {
        is $answer->{status}, 500, "$name: 500";
        ok $answer->{ended}, "$name: a complete response";
        unlike $answer->{stdout}, qr/app\.psgi|stolen/, "$name: that tells the client nothing";
        like $log, qr/ ERROR: /, "$name: an ERROR in the log";
        like $log, $five_hundred{$name}, "$name: that says what is wrong";
        like $log, qr{/$name\b}, "$name: and for which request";
    }
    if ($ends_worker{$name}) {
        my $old = $pid;
        ok wait_for { !kill 0, $old }, "$name: the worker is recycled";
        $pid = $server->get('/ok')->{body};
        isnt $pid, $old, "$name: and another one serves";
    }
    else { lives($name, $pid) }
}

for my $case ([ short => 'has 9 bytes, but its Content-Length says 100' ], [ long => 'has 11 bytes, but its Content-Length says 2' ]) {
    my ($name, $text) = @$case;
    my $begin = $server->log_size;
    $server->get("/$name");
    ok $server->wait_log(qr{WARNING:  worker\[\d+\]: GET /$name \[\S+\]: the response $text}, 5, $begin), "$name: the author is told";
}

for my $name (qw(return_four undef_value status_header body_no_close)) {
    my ($answer, $log) = try_case($name);
    ok $answer->{ended}, "$name: answered";
    like $log, qr/ (?:ERROR|WARNING): /, "$name: and the author is told" if $answer->{status} == 500;
    lives($name, $pid);
}

# Something was sent already: never a complete-looking response.
my %broken = (
    getline_dies_later => qr/in getline/, getline_wide => qr/wide character/i, getline_exits => qr/exit/,
    stream_dies_middle => qr/in the middle/, stream_wide_later => qr/wide character/i, stream_exit => qr/exit/,
);
for my $name (sort keys %broken) {
    for my $keep (0, 1) {
        $from = $server->log_size;
        my $c = $server->connect;
        my $answer = $c->request(uri => "/$name", keep => $keep);
        is $answer->{status}, 200, "$name, keep $keep: the beginning has been sent" if length $answer->{stdout};
        if (($answer->{status} || 0) == 500) {
            ok $answer->{ended}, "$name, keep $keep: nothing had been sent, so 500";
        }
        else {
            ok !$answer->{ended}, "$name, keep $keep: no END_REQUEST";
            is $answer->{stdout_ends}, 0, "$name, keep $keep: no end of STDOUT";
            ok $answer->{eof}, "$name, keep $keep: the connection is dropped";
        }
        ok $server->wait_log($broken{$name}, 5, $from), "$name, keep $keep: the log says why";
        if ($ends_worker{$name}) {
            my $old = $pid;
            ok wait_for { !kill 0, $old }, "$name: the worker is recycled";
            $pid = $server->get('/ok')->{body};
        }
        else { lives($name, $pid) }
    }
}

for my $name (qw(stream_dies_headers stream_wide)) {
    my ($answer, $log) = try_case($name);
    ok +($answer->{status} || 0) == 500 || !$answer->{ended}, "$name: 500 or visibly incomplete";
    like $log, qr/ ERROR: /, "$name: logged";
    lives($name, $pid);
}

{
    my ($answer, $log) = try_case('stream_dies_end');
    is $answer->{body}, "all of it\n", 'died after close: the response is complete';
    ok $answer->{ended}, 'and ended';
    ok $server->wait_log(qr/after close/, 5, $from), 'logged all the same';
    lives('stream_dies_end', $pid);

    ($answer, $log) = try_case('stream_twice');
    is $answer->{body}, 'one', 'responder called twice: the first counts';
    ok $server->wait_log(qr/ (?:ERROR|WARNING): .*respon/i, 5, $from), 'and the author is told';
    lives('stream_twice', $pid);

    ($answer, $log) = try_case('close_dies');
    like $answer->{body}, qr/\Aline\nline\n/, 'close that dies: the body was sent';
    ok $server->wait_log(qr/in close/, 5, $from), 'and logged';
    lives('close_dies', $pid);

    ($answer, $log) = try_case('die_destroy');
    is $answer->{body}, 'destroyed', 'a destructor that dies';
    lives('die_destroy', $pid);
}

for my $name (qw(print close_stdin close_input change_env recursion goto_out select_other stream_undef)) {
    my ($answer) = try_case($name);
    like $answer->{body}, qr/\A(?:clean|after)\z/, "$name: a clean response";
    ok $answer->{ended}, "$name: ended";
    lives($name, $pid);
}
{
    log_like $server, qr/\[$pid\]: .*printed to STDOUT$/m, 'STDOUT goes to the log';
    log_like $server, qr/\[$pid\]: .*and by printf$/m, 'printf too';
    log_like $server, qr/\[$pid\]: .*and by syswrite$/m, 'syswrite too';
}
is $server->get('/separators')->{body}, 'ab', '$/ $\ $, and $| do not get into a response';
is $server->get('/ok')->{body}, $pid, 'nor into the next';
is $server->get('/warn_handler')->{body}, 'clean', 'handlers for __WARN__ and __DIE__';
is $server->get('/die')->{status}, 500, 'that die themselves';
is $server->get('/wide_body')->{status}, 500, 'do not hurt us';
lives('warn_handler', $pid);

for my $name (qw(close_stdout close_stderr)) {
    my ($answer) = try_case($name);
    is $answer->{body}, 'clean', "$name: a clean response";
    lives($name, $pid);
    is $server->get('/ok')->{stdout} =~ s/.*\r?\n\r?\n//sr, $pid, "$name: no stray bytes on the next connection";
}
$server->get('/print');
is $server->get('/ok')->{body}, $pid, 'a stray print after STDOUT was closed does not reach a connection';

is $server->stop, 'exit 0', 'stops';
done_testing;
