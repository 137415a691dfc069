# Applications that do not load, load slowly, or do what they should not while loading.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use File::Copy ();
use File::Temp ();
use IO::Socket::INET;
use Test::More;

sub fails {
    my ($name, $app, @patterns) = @_;
    subtest $name => sub {
        my $server = BladePSGI::Test->start(app => $app, ready => 0, workers => 2);
        ok within(3, sub { is $server->wait_exit(10), 'exit 3', 'exit code 3' }), 'soon';
        log_like $server, $_, "says: $_" for @patterns;
        unlike $server->log, qr/ready:/, 'and never that it is ready';
        ok !-e $server->socket && !-e $server->stats_path, 'no socket is left behind';
        is_deeply [ $server->survivors ], [], 'no process either';
    };
    return;
}

fails('a syntax error', "use strict;\nmy \$x = ;\nsub { }", qr/syntax error at \S*app\.psgi line 2/);
fails('several errors', "use strict;\nmy \$y = \$undeclared_one;\nmy \$z = \$undeclared_two;\nsub { }",
    qr/\$undeclared_one.*line 2/, qr/\$undeclared_two.*line 3/);
fails('a missing module', "use No::Such::Module::At::All;\nsub { }", qr{No/Such/Module/At/All\.pm}, qr/\@INC/, qr/line 1/);
fails('die', "die 'the reason';", qr/the reason at \S*app\.psgi line 1/);
fails('die with an object', "die bless { code => 3 }, 'My::Exception';", qr/My::Exception/);
fails('die with a long text', "die 'x' x 20_000 . ' the end';", qr/x{20000} the end/);
fails('exit', "exit 0;", qr/exit/);
fails('_exit', "require POSIX; POSIX::_exit(9);", qr/exit code 9|9/);
fails('a signal', "kill KILL => \$\$; select undef, undef, undef, 10; sub {}", qr/signal 9/);
fails('no application', "1;", qr/\b1\b/);

subtest 'a file that is not there' => sub {
    my $server = BladePSGI::Test->start(app_file => '/nonexistent/app.psgi', ready => 0, workers => 1);
    is $server->wait_exit(10), 'exit 3', 'exit code 3';
    log_like $server, qr{/nonexistent/app\.psgi.*No such file}s, 'named, with the reason';
};

subtest '--load-timeout' => sub {
    my $server = BladePSGI::Test->start(
        app     => 'select undef, undef, undef, 3600; sub { }',
        ready   => 0,
        workers => 1,
        options => ['--load-timeout=1'],
    );
    is $server->wait_exit(15), 'exit 3', 'an application that hangs: exit code 3';
    log_like $server, qr/load.*(?:time|1 ?s)/i, 'the log says why';
    is_deeply [ $server->survivors ], [], 'nothing is left';
    ok !-e $server->socket, 'no socket';
};

subtest 'stopped while loading' => sub {
    for my $case ([ TERM => 'exit 0' ], [ INT => 'exit 0' ], [ QUIT => 'exit 4' ]) {
        my ($signal, $exit) = @$case;
        my $server = BladePSGI::Test->start(
            app   => BladePSGI::Test->gate_code . 'mark("loading"); gate("never"); sub { }',
            ready => 0, workers => 1,
        );
        ok $server->wait_mark('loading'), 'it loads';
        is $server->stop($signal, 10), $exit, "SIG$signal: $exit";
        is_deeply [ $server->survivors ], [], 'nothing is left';
        ok !-e $server->socket, 'no socket';
    }
};

subtest 'warnings that an operator needs' => sub {
    my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1');
    my $port = $listener->sockport;
    my $server = BladePSGI::Test->start(workers => 1, app => <<"PERL");
use IO::Socket::INET;
use threads ();
our \$socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1:$port') or die "connect: \$!";
our \$thread = threads->create(sub { select undef, undef, undef, 3600 });
sub { [200, [], ['ok']] };
PERL
    log_like $server, qr/ WARNING: .*socket.*127\.0\.0\.1:$port/, 'a socket opened before the fork, named';
    log_like $server, qr/ WARNING: .*thread/, 'a thread';
    is $server->get('/')->{body}, 'ok', 'it serves all the same';
    $server->stop;

    SKIP: {
        skip 'no DBD::SQLite or DBD::Mem', 1 unless eval { require DBI; require DBD::Mem; 1 };
        $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
use DBI;
our $dbh = DBI->connect('dbi:Mem:', '', '', { RaiseError => 1 });
sub { [200, [], ['ok']] };
PERL
        log_like $server, qr/ WARNING: .*DBI.*Mem/i, 'a DBI handle, named';
        is $server->stop, 'exit 0', 'stops';
    }

    my $somaxconn = read_text('/proc/sys/net/core/somaxconn') + 0;
    SKIP: {
        skip 'somaxconn is larger than any backlog', 1 if $somaxconn >= 65535;
        $server = BladePSGI::Test->start(workers => 1, options => ['--backlog=65535']);
        log_like $server, qr/ WARNING: .*(?:somaxconn.*$somaxconn|$somaxconn.*somaxconn)/, 'a backlog that is cut by somaxconn';
        is $server->stop, 'exit 0', 'stops';
    }

    $server = BladePSGI::Test->start(workers => 1);
    if (as_root()) { log_like $server, qr/ WARNING: .*root/, 'running as root without a user' }
    else           { unlike $server->log, qr/ WARNING: .*root/, 'not root: no warning of it' }
    unlike $server->log, qr/WARNING: .*(?:socket|thread|DBI)/, 'no warning without cause';
    is $server->stop, 'exit 0', 'stops';
};

subtest 'privileges' => sub {
    plan skip_all => 'only root can become somebody else' unless as_root();
    my $app = <<'PERL';
my @loaded = ($<, $>, $(, $));
sub { [200, [], [join '|', @loaded, $<, $>, $(, $), -e '/proc/self/status' ? join ',', grep { /^Cap(?:Eff|Prm)/ } split /\n/, do { open my $f, '<', '/proc/self/status'; local $/; <$f> } : '']] };
PERL
    my ($uid, $gid) = (getpwnam 'nobody')[ 2, 3 ];
    my $server = BladePSGI::Test->prepare(workers => 1, app => $app, options => ['--user=nobody']);
    ok $server->launch->wait_ready, 'starts' or return diag $server->log;
    my @ids = split /\|/, $server->get('/')->{body};
    is $ids[0], $uid, '--user: the application is loaded as that user';
    is $ids[4], $uid, 'and served by it';
    is $ids[5], $uid, 'really and effectively';
    is $ids[7], "$gid $gid", 'with that group, and no other';
    like $ids[8], qr/CapPrm:\s+0+,CapEff:\s+0+/, 'and without privileges';
    unlike $server->log, qr/WARNING: .*root/, 'no warning of root';
    is_deeply [ (stat $server->socket)[ 4, 5 ] ], [ $uid, $gid ], 'the socket belongs to that user';
    my $worker = $server->pid_of('worker 0');
    kill KILL => $worker;
    ok $server->pid_of('worker 0', $worker), 'a worker that is made later';
    is +(split /\|/, $server->get('/')->{body})[5], $uid, 'has that user too';
    kill KILL => $server->pid;
    $server->wait_exit;
    is_deeply [ $server->survivors ], [], 'and nothing survives the overseer';

    $server = BladePSGI::Test->start(workers => 1, app => $app, options => [qw(--user=nobody --group=daemon)]);
    @ids = split /\|/, $server->get('/')->{body};
    is $ids[7], join(' ', (scalar getgrnam 'daemon') x 2), '--group';
    is $server->stop, 'exit 0', 'stops';
    my $run = run_to_end([ qw(setpriv --reuid=nobody --regid=nogroup --clear-groups), bladepsgi_binary(), '--group=daemon', 'app.psgi', 1, 'f.sock', 's.sock' ]);
    isnt $run->{exit}, 'exit 0', 'a group that only root can change to is an error';
    like $run->{err}, qr/--group: only root can change to group 'daemon'|Permission denied/, 'that says so';
    mkdir "/tmp/bladepsgi-spool-$$", 0700 or die "mkdir: $!";
    $server = BladePSGI::Test->start(ready => 0, workers => 1, options => [ qw(--user=nobody --input=spool), "--spool-directory=/tmp/bladepsgi-spool-$$" ]);
    isnt $server->wait_exit, 'exit 0', 'a spool directory that the user cannot write into as well';
    log_like $server, qr/FATAL: .*spool directory.*EACCES/, 'that names it';
    rmdir "/tmp/bladepsgi-spool-$$";
    $server = BladePSGI::Test->start(ready => 0, workers => 1, options => ['--user=no-such-user-here']);
    isnt $server->wait_exit, 'exit 0', 'a user that does not exist is an error';
    log_like $server, qr/no-such-user-here/, 'that names it';
    ok !-e $server->socket, 'nothing is created';
};

subtest 'a runtime that was built for another Perl' => sub {
    # A copy of the program beside a module that wants a libperl which this machine does not have.
    my $folder = File::Temp::tempdir('runtime-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    chmod 0755, $folder;
    mkdir "$folder/runtime";
    File::Copy::copy(bladepsgi_binary(), "$folder/bladepsgi") or die "copy: $!";
    chmod 0755, "$folder/bladepsgi";
    write_text("$folder/perl.c", 'int found(void) { return 1; }');
    write_text("$folder/module.c", 'int found(void); int use(void) { return found(); }');
    system "c++ -shared -fPIC -Wl,-soname,libperl.so.5.99 -x c $folder/perl.c -o $folder/libperl.so.5.99"
        and die 'cannot build';
    system "c++ -shared -fPIC -x c $folder/module.c -o $folder/runtime/perl.so -x none $folder/libperl.so.5.99"
        and die 'cannot build';
    unlink "$folder/libperl.so.5.99";
    write_text("$folder/app.psgi", 'sub { [200, [], []] }');
    my $run = run_to_end([ "$folder/bladepsgi", qw(app.psgi 1 f.sock s.sock) ], in => $folder);
    is $run->{exit}, 'exit 3', 'exit code 3';
    my @lines = grep { /perl\.so/ } split /\n/, $run->{err};
    is scalar(@lines), 1, 'one line' or diag $run->{err};
    like $lines[0], qr/FATAL: .*libperl\.so\.5\.99.*another interpreter.*rebuild or reinstall/, 'that says what is wrong and what to do';
};

done_testing;
