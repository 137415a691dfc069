# PSGI responses: array, handles, objects; what a HEAD, a 204 and a 304 get.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';
use Digest::MD5 'md5_hex';
use Test::More;

my $server = BladePSGI::Test->start(workers => 1, app => <<'PERL');
use strict;
use warnings;
use IO::File;
use IO::Handle;

my $large = join '', map { chr($_ * 31 % 256) } 1 .. 3_000_000;
open my $out, '>:raw', 'large.bin'; print {$out} $large; close $out;
open $out, '>:raw', 'empty.bin'; close $out;

package Lines;
sub new { my ($class, @lines) = @_; return bless { lines => \@lines, closed => 0 }, $class }
sub getline { my ($self) = @_; $self->{limit} = ref $/ ? ${$/} : undef; return shift @{ $self->{lines} } }
sub close { my ($self) = @_; $main::closed = 'yes'; $main::limit = $self->{limit}; return }

package WithPath;
our @ISA = ('Lines');
sub path { 'large.bin' }

package TiedHandle;
sub TIEHANDLE { my ($class, @lines) = @_; return bless [@lines], $class }
sub READLINE { my ($self) = @_; return shift @$self }
sub CLOSE { $main::closed = 'tied'; 1 }

package main;
our ($closed, $limit);

my %bodies = (
    empty      => sub { [] },
    one        => sub { ['one'] },
    several    => sub { ['a', '', 'b', undef // '', 'c'] },
    many       => sub { [map { "$_," } 1 .. 5000] },
    numbers    => sub { [1, 2.5, -3] },
    large      => sub { [$large] },
    binary     => sub { [join '', map { chr } 0 .. 255] },
    upgraded   => sub { my $s = "caf\xe9"; utf8::upgrade($s); [$s] },
    file       => sub { open my $f, '<:raw', 'large.bin' or die; $f },
    empty_file => sub { open my $f, '<:raw', 'empty.bin' or die; $f },
    offset     => sub { open my $f, '<:raw', 'large.bin' or die; seek $f, 1_000_000, 0; $f },
    sysoffset  => sub { open my $f, '<:raw', 'large.bin' or die; sysseek $f, 1_000_000, 0; $f },
    after_line => sub { open my $f, '<:raw', 'large.bin' or die; read $f, my $skipped, 1000; $f },
    at_end     => sub { open my $f, '<:raw', 'large.bin' or die; seek $f, 0, 2; $f },
    io_file    => sub { IO::File->new('large.bin', 'r') },
    with_layer => sub { open my $f, '<:raw:crlf', 'crlf.txt' or die; $f },
    in_memory  => sub { open my $f, '<', \(my $text = "in\nmemory\n") or die; $f },
    in_offset  => sub { open my $f, '<', \(my $text = "in\nmemory\n") or die; readline $f; $f },
    tied       => sub { tie *TIED, 'TiedHandle', "tied\n", "handle\n"; \*TIED },
    object     => sub { Lines->new("first\n", '', "second\n", "third") },
    with_path  => sub { WithPath->new("from getline\n") },
    pipe       => sub { open my $p, '-|', 'printf', 'from a pipe' or die; $p },
    proc       => sub { open my $p, '<', '/proc/self/status' or die; $p },
);
open $out, '>:raw', 'crlf.txt'; print {$out} "a\r\nb\r\n"; close $out;

sub {
    my ($env) = @_;
    my ($name) = $env->{PATH_INFO} =~ m{\A/(\w+)};
    ($closed, $limit) = ('no', undef) unless $name eq 'closed';
    return [200, [], ["$closed " . ($limit // 'none')]] if $name eq 'closed';
    return [204, ['X-A' => 1], ['body that must not be sent']] if $name eq 'no_content';
    return [304, ['X-A' => 1, ETag => '"x"'], ['body that must not be sent']] if $name eq 'not_modified';
    return [200, [], ['open: ', scalar(grep { (readlink $_) // '' } glob '/proc/self/fd/*')]] if $name eq 'descriptors';
    my $body = $bodies{$name}->();
    return sub { $_[0]->([200, ['X-Delayed' => 1], $body]) } if $env->{QUERY_STRING} eq 'delayed';
    return [200, ['X-Name' => $name], $body];
};
PERL

my $large = join '', map { chr($_ * 31 % 256) } 1 .. 3_000_000;
my %expected = (
    empty => '', one => 'one', several => 'abc', many => join('', map { "$_," } 1 .. 5000), numbers => '12.5-3',
    large => $large, binary => join('', map { chr } 0 .. 255), upgraded => "caf\xe9", file => $large, empty_file => '',
    offset => substr($large, 1_000_000), after_line => substr($large, 1000), at_end => '', io_file => $large,
    in_memory => "in\nmemory\n", in_offset => "memory\n", tied => "tied\nhandle\n",
    object => "first\nsecond\nthird", pipe => 'from a pipe', with_layer => "a\nb\n",
    sysoffset => substr($large, 1_000_000),
);
my %titles = (
    several => 'empty pieces among others', upgraded => 'text that is upgraded but fits in bytes',
    file => 'a real file', offset => 'a real file from its position', sysoffset => 'a real file positioned by sysseek',
    after_line => 'a real file that was read with a buffer', at_end => 'a real file at its end',
    with_layer => 'a file with a layer that changes bytes', in_memory => 'an in-memory handle',
    in_offset => 'an in-memory handle from its position', tied => 'a tied handle', object => 'an object with getline',
    pipe => 'a pipe',
);

for my $name (sort keys %expected) {
    for my $query ('', '?delayed') {
        my $answer = $server->get("/$name$query");
        is $answer->{status}, 200, "$name$query: status";
        is md5_hex($answer->{body}), md5_hex($expected{$name}), ($titles{$name} || $name) . $query
            or diag 'length ', length $answer->{body};
        ok $answer->{ended}, "$name$query: ended";
        my ($empty) = grep { $_->{type} == FCGI_STDOUT && !length $_->{content} } @{ $answer->{records} };
        cmp_ok $answer->{stdout_ends}, '<=', 1, "$name$query: no empty record in the middle";
    }
}
like $server->get('/proc')->{body}, qr/^VmRSS:.*^nonvoluntary/ms, 'a file of /proc, whose size is said to be 0';
like $server->get('/with_path')->{body}, qr/\A(?:from getline\n|\Q$large\E)\z/s, 'an object with path: getline or the file';

$server->get('/object');
like $server->get('/closed')->{body}, qr/\Ayes /, 'close is called on an object';
like $server->get('/closed')->{body}, qr/ \d+\z/, 'getline is called with $/ set to a number of bytes';
$server->get('/tied');
is $server->get('/closed')->{body} =~ s/ .*//r, 'tied', 'and on a tied handle';

subtest 'no body' => sub {
    for my $name (qw(no_content not_modified)) {
        my $answer = $server->get("/$name");
        is $answer->{body}, '', "$name: no body is sent";
        is $answer->{header}{'x-a'}, 1, "$name: the headers are";
        ok $answer->{ended}, "$name: ended";
    }
    for my $name (qw(one large file object many)) {
        my $answer = $server->request(method => 'HEAD', uri => "/$name");
        is $answer->{status}, 200, "HEAD, $name: status";
        is $answer->{body}, '', "HEAD, $name: no body";
        is $answer->{header}{'x-name'}, $name, "HEAD, $name: headers";
        ok $answer->{ended}, "HEAD, $name: ended";
    }
    $server->request(method => 'HEAD', uri => '/object');
    like $server->get('/closed')->{body}, qr/\Ayes /, 'HEAD: an object is closed all the same';
};

subtest 'kept connections' => sub {
    my $c = $server->connect;
    for my $name (qw(one large file object many in_memory)) {
        is md5_hex($c->request(uri => "/$name", keep => 1)->{body}), md5_hex($expected{$name}), $name;
    }
};

my $descriptors = $server->get('/descriptors')->{body};
$server->get('/file') for 1 .. 20;
$server->request(method => 'HEAD', uri => '/file') for 1 .. 20;
is $server->get('/descriptors')->{body}, $descriptors, 'no descriptor leaks';

is $server->stop, 'exit 0', 'stops';
unlike $server->log, qr/ (?:ERROR|PANIC):/, 'nothing went wrong';
done_testing;
