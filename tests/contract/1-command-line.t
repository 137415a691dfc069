# The compatibility contract, section 1: the command line.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use Cwd ();
use Fcntl ':mode';
use File::Temp ();
use IO::Socket::UNIX;
use POSIX ();
use Test::More;

my $binary = bladepsgi_binary();
-x $binary or BAIL_OUT("no program to test: $binary");

my $dying = "die 'this application never loads'";

# A fresh folder with an application that loads and one that does not.
sub folder {
    my $folder = Cwd::abs_path(File::Temp::tempdir('bladepsgi-XXXXXX', TMPDIR => 1, CLEANUP => 1));
    write_text("$folder/app.psgi", 'sub { [200, [], ["ok"]] }');
    write_text("$folder/dying.psgi", $dying);
    return $folder;
}

sub names_in { my ($folder) = @_; opendir my ($d), $folder; return join ' ', sort grep { !/\A\.\.?\z/ } readdir $d }

subtest 'the classic form: four arguments' => sub {
    my $server = BladePSGI::Test->start(workers => 3);
    is $server->get('/')->{body}, "ok\n", 'FASTCGI_SOCKET_PATH answers FastCGI';
    like $server->stats_text, qr/\A\d+\n_{3}\n/, 'STATS_SOCKET_PATH answers statistics, with an octet for each worker';
    is scalar($server->worker_pids), 3, 'NUM_WORKERS workers';
    is $server->stop, 'exit 0', 'stops';
    ok !-e $server->socket,     'the FastCGI socket is removed at exit';
    ok !-e $server->stats_path, 'the statistics socket is removed at exit';
    log_like $server, qr/ready: 3 workers, application loaded in \d+\.\d s/, 'the one line that says that it is up';
};

subtest 'relative paths are relative to the working directory' => sub {
    my $server = BladePSGI::Test->prepare(socket => 'relative.sock', stats => 'relative.stats', workers => 1);
    $server->{app_path} = 'app.psgi';
    ok $server->launch->wait_ready, 'starts' or return;
    chdir $server->folder;
    is $server->get('/')->{body}, "ok\n", 'and answers';
    is $server->stop, 'exit 0', 'stops';
    ok !-e 'relative.sock', 'removed at exit';
    chdir BladePSGI::Test::project_root();
};

subtest 'help and version' => sub {
    for my $option (qw(--help -h -?)) {
        my $run = run_to_end([ $binary, $option ]);
        is $run->{exit}, 'exit 0', "$option exits 0";
        like $run->{out}, qr/usage/i, "$option prints the usage on stdout";
        like $run->{out}, qr/--loader/, "$option names the options";
        is $run->{err}, '', "$option prints nothing on stderr";
    }
    for my $option (qw(--version -v)) {
        my $run = run_to_end([ $binary, $option ]);
        is $run->{exit}, 'exit 0', "$option exits 0";
        like $run->{out}, qr/\d+\.\d+/, "$option prints a version";
    }
};

subtest 'wrong usage: message on stderr, exit 2, nothing created' => sub {
    my %cases = (
        'no arguments'             => [],
        'two arguments'            => [qw(app.psgi 2)],
        'three arguments'          => [qw(app.psgi 2 a.sock)],
        'five arguments'           => [qw(app.psgi 2 a.sock b.sock c.sock)],
        'an unknown option'        => [qw(--no-such-option app.psgi 2 a.sock b.sock)],
        'an unknown short option'  => [qw(-Z app.psgi 2 a.sock b.sock)],
        'a missing value'          => [qw(app.psgi 2 a.sock b.sock --loader)],
        'a missing short value'    => [qw(app.psgi 2 a.sock b.sock -p)],
        'no workers'               => [qw(app.psgi 0 a.sock b.sock)],
        'too many workers'         => [qw(app.psgi 65537 a.sock b.sock)],
        'a negative number'        => [qw(-- app.psgi -1 a.sock b.sock)],
        'a number with a letter'   => [qw(app.psgi 2x a.sock b.sock)],
        'a fraction'               => [qw(app.psgi 2.5 a.sock b.sock)],
        'an empty number'          => [ 'app.psgi', '', 'a.sock', 'b.sock' ],
        'a huge number'            => [qw(app.psgi 18446744073709551617 a.sock b.sock)],
        'a word for a number'      => [qw(app.psgi many a.sock b.sock)],
        'an ambiguous abbreviation' => [qw(--so=1 app.psgi 2 a.sock b.sock)],
        'an empty socket path'     => [ 'app.psgi', 2, '', 'b.sock' ],
        'one path for both'        => [qw(app.psgi 2 a.sock a.sock)],
        'a wrong --on-crash'       => [qw(--on-crash=perhaps app.psgi 2 a.sock b.sock)],
        'a wrong --socket-mode'    => [qw(--socket-mode=9999 app.psgi 2 a.sock b.sock)],
        'a wrong --head-timeout'   => [qw(--head-timeout=soon app.psgi 2 a.sock b.sock)],
        'a wrong --max-params'     => [qw(--max-params=-5 app.psgi 2 a.sock b.sock)],
        'a wrong --mount'          => [qw(--mount=no-slash app.psgi 2 a.sock b.sock)],
        'a wrong --input'          => [qw(--input=sideways app.psgi 2 a.sock b.sock)],
    );
    for my $case (sort keys %cases) {
        my $folder = folder();
        my $before = names_in($folder);
        my $run = run_to_end([ $binary, @{ $cases{$case} } ], in => $folder);
        is $run->{exit}, 'exit 2', "$case: exit code";
        like $run->{err}, qr/\S/, "$case: says so on stderr";
        is $run->{out}, '', "$case: nothing on stdout";
        is names_in($folder), $before, "$case: nothing is created";
    }
    my $run = run_to_end([ $binary, qw(--no-such-option app.psgi 2 a.sock b.sock) ]);
    like $run->{err}, qr/no-such-option/, 'an unknown option is named';
    $run = run_to_end([ $binary ]);
    like $run->{err}, qr/usage/i, 'wrong usage prints a usage message';
};

subtest '65536 workers are allowed' => sub {
    my $folder = folder();
    my $run = run_to_end([ $binary, qw(dying.psgi 65536 a.sock b.sock) ], in => $folder);
    is $run->{exit}, 'exit 3', 'it is the application that is refused, not the number';
    like $run->{err}, qr/never loads/, 'and its reason is said';
};

my $loader = <<'PERL';
package My::Loader;
sub { return ({}, sub { [200, [], ["loader"]] }) };
PERL

subtest 'ways to write options' => sub {
    my $try = sub {
        my ($name, $options, $check, %o) = @_;
        my $server = BladePSGI::Test->prepare(workers => 1, env => {});
        write_text($server->folder . '/lib/My/Loader.pm', $loader);
        $server->{env}{PERL5LIB} = $server->folder . '/lib';
        my @options = @$options;
        no warnings 'redefine';
        local *BladePSGI::Test::command = sub {
            my @arguments = ($server->{app_path}, 1, $server->socket, $server->stats_path);
            return ($binary, $o{after} ? (@arguments, @options) : (@options, @arguments));
        };
        ok $server->launch->wait_ready, "$name: starts" or return diag $server->log;
        $check->($server, $name);
        is $server->stop, 'exit 0', "$name: stops";
    };
    my $is_loader = sub { is $_[0]->get('/')->{body}, 'loader', "$_[1]: the loader is used" };
    my $titled = sub {
        my ($prefix) = @_;
        return sub { is process_title($_[0]->pid), "$prefix: overseer", "$_[1]: title" };
    };
    $try->('--loader=MODULE',           ['--loader=My::Loader'],       $is_loader);
    $try->('--loader MODULE',           [ '--loader', 'My::Loader' ],  $is_loader);
    $try->('-l MODULE',                 [ '-l', 'My::Loader' ],        $is_loader);
    $try->('-lMODULE',                  ['-lMy::Loader'],              $is_loader);
    $try->('--loade, an abbreviation',  ['--loade=My::Loader'],        $is_loader);
    $try->('--proctitle-prefix=PREFIX', ['--proctitle-prefix=Shop'],   $titled->('Shop'));
    $try->('-p PREFIX',                 [ '-p', 'Shop' ],              $titled->('Shop'));
    $try->('--proc, an abbreviation',   ['--proc=Shop'],               $titled->('Shop'));
    $try->('the last of a repeated option counts', [ '-p', 'One', '--proctitle-prefix=Two' ], $titled->('Two'));
    $try->('options after the arguments', [ '-p', 'After', '-l', 'My::Loader' ], $titled->('After'), after => 1);
    $try->('default prefix',            [],                            $titled->('Blade'));
};

subtest '-- ends options' => sub {
    my $server = BladePSGI::Test->prepare(workers => 1);
    write_text($server->folder . '/-app.psgi', 'sub { [200, [], ["dashed"]] }');
    no warnings 'redefine';
    local *BladePSGI::Test::command = sub { ($binary, '--', '-app.psgi', 1, $server->socket, $server->stats_path) };
    ok $server->launch->wait_ready, 'starts' or return;
    is $server->get('/')->{body}, 'dashed', 'what follows is an argument, whatever it begins with';
    is $server->stop, 'exit 0', 'stops';
};

for my $which ([ 'FastCGI socket', 'socket' ], [ 'statistics socket', 'stats' ]) {
    my ($what, $key) = @$which;

    subtest "a path that exists: $what" => sub {
        {
            my $server = BladePSGI::Test->prepare(workers => 1);
            my $stale = IO::Socket::UNIX->new(Local => $server->{$key}, Listen => 1);
            close $stale;
            ok -S $server->{$key}, 'there is a stale socket';
            ok $server->launch->wait_ready, 'it is replaced';
            is $server->get('/')->{body}, "ok\n", 'the new one answers';
            like $server->stats_text, qr/\A\d+\n_\n/, 'statistics too';
            is $server->stop, 'exit 0', 'stops';
        }
        my %things = (
            'a regular file' => sub { write_text($_[0], 'precious') },
            'a directory'    => sub { mkdir $_[0] },
            'a FIFO'         => sub { POSIX::mkfifo($_[0], 0600) },
            'a dangling link' => sub { symlink '/nonexistent/target', $_[0] },
            'a link to a file' => sub { write_text("$_[0].target", 'precious'); symlink "$_[0].target", $_[0] },
        );
        for my $thing (sort keys %things) {
            my $folder = folder();
            my %path = (socket => "$folder/a.sock", stats => "$folder/b.sock");
            $things{$thing}->($path{$key});
            my @before = lstat $path{$key};
            my $names = names_in($folder);
            my $run = run_to_end([ $binary, 'app.psgi', 1, @path{qw(socket stats)} ], in => $folder, seconds => 10);
            isnt $run->{exit}, 'exit 0',     "$thing: an error";
            isnt $run->{exit}, 'time limit', "$thing: does not start";
            like $run->{err}, qr/\Q$path{$key}\E/, "$thing: the message names the path";
            is join(' ', (lstat $path{$key})[ 0, 1, 2, 7, 9 ]), join(' ', @before[ 0, 1, 2, 7, 9 ]), "$thing: left alone";
            is names_in($folder), $names, "$thing: nothing is left behind";
        }
    };

    subtest "length of the path: $what" => sub {
        my $long = sub {
            my ($folder, $length) = @_;
            return "$folder/" . 'x' x ($length - length("$folder/"));
        };
        {
            my $server = BladePSGI::Test->prepare(workers => 1);
            $server->{$key} = $long->($server->folder, 107);
            ok $server->launch->wait_ready, '107 bytes, the longest there can be' or diag $server->log;
            ok -S $server->{$key}, 'is there, uncut';
            is $server->get('/')->{body}, "ok\n", 'and answers' if $key eq 'socket';
            is $server->stop, 'exit 0', 'stops';
        }
        for my $length (108, 109, 300) {
            my $folder = folder();
            my %path = (socket => "$folder/a.sock", stats => "$folder/b.sock");
            $path{$key} = $long->($folder, $length);
            my $names = names_in($folder);
            my $run = run_to_end([ $binary, 'app.psgi', 1, @path{qw(socket stats)} ], in => $folder, seconds => 10);
            isnt $run->{exit}, 'exit 0', "$length bytes are an error";
            like $run->{err}, qr/\Q$path{$key}\E/, "$length bytes: the message names the path";
            is names_in($folder), $names, "$length bytes: nothing is created";
        }
    };

    subtest "a live socket is not stolen: $what" => sub {
        my $first = BladePSGI::Test->start(workers => 1);
        my $folder = folder();
        my %path = (socket => "$folder/a.sock", stats => "$folder/b.sock", $key => $first->{$key});
        my $inode = (stat $first->{$key})[1];
        my $run = run_to_end([ $binary, 'app.psgi', 1, @path{qw(socket stats)} ], in => $folder, seconds => 10);
        isnt $run->{exit}, 'exit 0',     'an error';
        isnt $run->{exit}, 'time limit', 'does not start';
        like $run->{err}, qr/\Q$first->{$key}\E/, 'the message names the path';
        is +(stat $first->{$key})[1], $inode, 'the socket is the same as before';
        is $first->get('/')->{body}, "ok\n", 'the first instance still serves';
        like $first->stats_text, qr/\A\d+\n_\n/, 'and answers statistics';
        is names_in($folder), 'app.psgi dying.psgi', 'nothing is left behind';
        is $first->stop, 'exit 0', 'stops';
    };

    subtest "a failing start never touches what is there: $what" => sub {
        my $folder = folder();
        my %path = (socket => "$folder/a.sock", stats => "$folder/b.sock");
        close(IO::Socket::UNIX->new(Local => $path{$key}, Listen => 1));
        my $inode = (lstat $path{$key})[1];
        my $names = names_in($folder);
        my $run = run_to_end([ $binary, 'dying.psgi', 1, @path{qw(socket stats)} ], in => $folder, seconds => 10);
        is $run->{exit}, 'exit 3', 'the application does not load';
        is +(lstat $path{$key})[1], $inode, 'the socket file is the same as before';
        is names_in($folder), $names, 'nothing is left behind';
    };
}

subtest 'the FastCGI socket appears when the first worker is ready' => sub {
    my $server = BladePSGI::Test->start(
        workers => 1,
        ready   => 0,
        app     => BladePSGI::Test->gate_code . 'mark("loading"); gate("load"); sub { [200, [], ["ok\n"]] }',
    );
    ok $server->wait_mark('loading'), 'the application is loading';
    ok !-e $server->socket, 'no socket yet';
    $server->open_gate('load');
    ok $server->wait_ready, 'ready';
    ok -S $server->socket, 'the socket is there';
    is $server->get('/')->{body}, "ok\n", 'and answers';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'mode and owner of the socket' => sub {
    my $old = umask 0;
    my $server = BladePSGI::Test->start(workers => 1);
    is sprintf('%04o', S_IMODE((stat $server->socket)[2])), '0660', 'default 0660, whatever the umask';
    is $server->stop, 'exit 0', 'stops';
    umask 077;
    $server = BladePSGI::Test->start(workers => 1, options => ['--socket-mode=0666']);
    is sprintf('%04o', S_IMODE((stat $server->socket)[2])), '0666', '--socket-mode';
    is $server->stop, 'exit 0', 'stops';
    umask $old;
    SKIP: {
        skip 'only root can give a socket away', 2 unless as_root();
        $server = BladePSGI::Test->start(workers => 1, options => [qw(--socket-owner=nobody --socket-group=nogroup)]);
        is +(stat $server->socket)[4], scalar(getpwnam 'nobody'),  '--socket-owner';
        is +(stat $server->socket)[5], scalar(getgrnam 'nogroup'), '--socket-group';
        is $server->stop, 'exit 0', 'stops';
    }
};

subtest 'process titles' => sub {
    my $server = BladePSGI::Test->start(
        workers => 2,
        options => ['--proctitle-prefix=Title'],
        loader  => <<'PERL',
package My::Loader;
sub {
    my ($context) = @_;
    $context->request_auxiliary_process('heart', sub { select undef, undef, undef, 3600 while 1 });
    return ({}, sub {
        my ($env) = @_;
        $0 = 'assigned by the application, and longer than the title ever was' if $env->{PATH_INFO} eq '/assign';
        return [200, [], ["$$ $0"]];
    });
};
PERL
    );
    ok $server->pid_of($_), "$_ is there" for 'overseer', 'zygote', 'lobby', 'monitoring', 'heart', 'worker 0', 'worker 1';
    is_deeply [ sort keys %{ $server->processes } ],
        [ sort map { "Title: $_" } 'overseer', 'zygote', 'lobby', 'monitoring', 'heart', 'worker 0', 'worker 1' ],
        'PREFIX: ROLE for every process, and no others';
    is $server->pid_of('overseer'), $server->pid, 'the overseer is the process that was started';
    my ($pid, $dollar_zero) = split / /, $server->get('/assign')->{body}, 2;
    like $dollar_zero, qr/assigned by the application/, '$0 can be assigned';
    like process_title($pid), qr/\ATitle: worker \d\z/, 'and does not change the title';
    unlike read_text("/proc/$pid/comm"), qr/assigned/, 'nor comm';
    is read_text("/proc/$pid/cmdline") =~ s/\0+\z//r =~ tr/\0//, 0, 'nothing of the arguments stands behind the title';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'an auxiliary process named like a role' => sub {
    for my $word (qw(overseer monitoring zygote lobby worker), 'worker 0') {
        my $server = BladePSGI::Test->start(
            workers => 1,
            loader  => <<"PERL",
package My::Loader;
sub {
    my (\$context) = \@_;
    \$context->request_auxiliary_process('$word', sub { select undef, undef, undef, 3600 while 1 });
    return ({}, sub { [200, [], ['ok']] });
};
PERL
        );
        log_like $server, qr/ WARNING: .*\Q$word\E/, "$word: a WARNING";
        is $server->get('/')->{body}, 'ok', "$word: it runs all the same";
        is $server->stop, 'exit 0', 'stops';
    }
};

done_testing;
