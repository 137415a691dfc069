package BladePSGI::Test::Load;

# Load with verification: client processes that send request after request, each with a path of its own, and check
# every response. A request that was not answered, or answered with the response of another one, is a failure.
#
#   my $load = BladePSGI::Test::Load->start($server, clients => 4, keep => 1);
#   …
#   my $result = $load->stop;     # { ok => n, retried => n, failures => [text …], answered => { tenth of a second => 1 } }
#
# The application has to answer with a body that contains the path. As web servers do, a client that finds a kept
# connection closed before a byte of the response has come asks once more over a fresh one; that counts as retried.
#
# connect => sub { … } gives connections of another kind than FastCGI (BladePSGI::Test::HTTP), which are kept when keep => 1.
# broken => sub { my ($answer) = @_; … }: true of what a web server in front says when it had no answer.

use strict;
use warnings;

use IO::Handle;
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

use BladePSGI::Test;
use BladePSGI::Test::FastCGI ':all';

my @running;
my $owner = $$;

sub start {
    my ($class, $server, %o) = @_;
    my $self = bless { clients => [] }, $class;
    for my $number (1 .. $o{clients} || 4) {
        pipe my $control_r, my $control_w or die "pipe: $!";
        pipe my $result_r,  my $result_w  or die "pipe: $!";
        my $pid = fork;
        die "fork: $!" unless defined $pid;
        if (!$pid) {
            $SIG{$_} = 'DEFAULT' for qw(HUP INT TERM);
            close $control_w;
            close $result_r;
            close $_->{control} for map { @{ $_->{clients} } } $self, @running;
            my $result = eval { _client($server, $number, $control_r, %o) } || { ok => 0, failures => ["client: $@"] };
            print {$result_w} JSON::PP->new->encode($result);
            close $result_w;
            POSIX::_exit(0);
        }
        close $control_r;
        close $result_w;
        push @{ $self->{clients} }, { pid => $pid, control => $control_w, result => $result_r };
    }
    push @running, $self;
    return $self;
}

sub _client {
    my ($server, $number, $control, %o) = @_;
    my $connect = $o{connect} || sub { BladePSGI::Test::FastCGI->connect($server->socket, timeout => $o{timeout} || 20) };
    my %result = (ok => 0, retried => 0, failures => [], answered => {});
    my $connection;
    for (my $n = 1; ; $n++) {
        my $in = '';
        vec($in, fileno $control, 1) = 1;
        last if select $in, undef, undef, 0;
        my $path = "/load/$number/$n";
        my $body = $n % 3 ? undef : "body of $path";
        my %request = (uri => $path, keep => $o{keep}, defined $body ? (method => 'POST', body => $body) : ());
        my $reused = defined $connection;
        my $answer = eval {
            $connection ||= $connect->();
            $connection->request(%request);
        };
        my $error = $@;
        if ($reused && (!$answer || !length $answer->{stdout})) {
            $result{retried}++;
            $connection->close if $connection;
            undef $connection;
            $answer = eval {
                $connection = $connect->();
                $connection->request(%request);
            };
            $error = $@;
        }
        if (!$answer) { push @{ $result{failures} }, "$path: $error" }
        elsif (@{ $answer->{malformed} || [] }) { push @{ $result{failures} }, "$path: answered with @{ $answer->{malformed} }" }
        elsif (!$answer->{ended}) { push @{ $result{failures} }, "$path (retry): not answered completely: '$answer->{stdout}'" }
        elsif ($o{broken} && $o{broken}->($answer)) { push @{ $result{failures} }, "$path: not answered by the application" }
        elsif ($answer->{body} !~ /\Q$path\E(?!\d)/) { push @{ $result{failures} }, "$path: answered with '$answer->{body}'" }
        else {
            $result{ok}++;
            $result{answered}{ int 10 * Time::HiRes::time() } = 1;
        }
        if (!$o{keep} || !$answer || !$answer->{ended} || $answer->{eof}) {
            $connection->close if $connection;
            undef $connection;
        }
        last if @{ $result{failures} } >= 20 && !$o{go_on};
    }
    return \%result;
}

sub stop {
    my ($self) = @_;
    my %sum = (ok => 0, retried => 0, failures => [], answered => {});
    close $_->{control} for @{ $self->{clients} };
    for my $client (@{ $self->{clients} }) {
        local $/;
        my $text = readline $client->{result};
        waitpid $client->{pid}, 0;
        my $result = eval { JSON::PP->new->decode($text) } || { failures => ['a client died'] };
        $sum{$_} += $result->{$_} || 0 for qw(ok retried);
        push @{ $sum{failures} }, @{ $result->{failures} };
        $sum{answered}{$_} = 1 for keys %{ $result->{answered} || {} };
    }
    $self->{clients} = [];
    return \%sum;
}

END {
    if ($$ == $owner) {
        my $status = $?;
        $_->stop for grep { @{ $_->{clients} } } @running;
        $? = $status;
    }
}

1;
