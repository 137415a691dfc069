# What an application opens while it loads, and its workers would share: named at the start, with what to do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use IO::Socket::INET;
use Test::More;

my $warning = qr/WARNING: .*zygote\[\d+\]: the application opened while it loaded, before the workers were forked: /;

# The warnings of a server with that application, which must serve all the same.
sub warnings_of {
    my ($app) = @_;
    my $server = BladePSGI::Test->start(workers => 1, app => $app);
    is $server->get('/')->{status}, 200, 'it serves';
    my @found = map { /$warning(.*)/ ? $1 : () } split /\n/, $server->log;
    is $server->stop, 'exit 0', 'stops';
    return @found;
}

subtest 'nothing' => sub {
    my @found = warnings_of('open my $file, "<", $0; my $cache = { 1 .. 100 }; sub { [200, [], [$cache->{1}]] }');
    is "@found", '', 'no warning';
};

subtest 'sockets' => sub {
    my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => 0) or die;
    my $port = $listener->sockport;
    my @found = warnings_of(<<"PERL");
use IO::Socket::INET;
our \$memcached = IO::Socket::INET->new('127.0.0.1:$port') or die;
socketpair our \$one, our \$other, AF_UNIX, SOCK_STREAM, 0;
my \$gone = IO::Socket::INET->new('127.0.0.1:$port') or die; close \$gone;
sub { [200, [], []] }
PERL
    is scalar(@found), 3, 'each is named';
    like $found[0], qr/\Asocket \d+ connected to 127\.0\.0\.1:$port; .*on_worker_start/, 'with its peer, and what to do';
};

subtest 'database handles' => sub {
    my @found = warnings_of(<<'PERL');
use DBI;
our $dbh = DBI->connect('dbi:ExampleP:', '', '', { RaiseError => 1 });
our $other = DBI->connect('dbi:ExampleP:dbname=shop;password=verysecret;host=db', '', '', { RaiseError => 1 });
our $done = DBI->connect('dbi:Sponge:', '', ''); $done->disconnect;
sub { [200, [], []] }
PERL
    is scalar(@found), 2, 'those that are connected';
    is scalar(grep { /dbi:ExampleP:dbname=shop;password=\(not shown\);host=db/ } @found), 1, 'without what is nobody\'s business';
    like $found[0], qr/\ADBI handle dbi:ExampleP:.*; .*on_worker_start/, 'with driver and source, and what to do';
};

subtest 'threads' => sub {
    plan skip_all => 'this perl has no threads' unless eval { require threads; 1 };
    my @found = warnings_of(<<'PERL');
use threads;
threads->create(sub { sleep 60 })->detach;
sub { [200, [], []] }
PERL
    is scalar(@found), 1, 'are named';
    like $found[0], qr/\A1 thread; .*--no-preload/, 'with what to do';
};

done_testing;
