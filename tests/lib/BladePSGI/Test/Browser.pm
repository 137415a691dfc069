package BladePSGI::Test::Browser;

# Chromium without a window, driven through chromedriver by the W3C's WebDriver protocol.
#
#   my $browser = BladePSGI::Test::Browser->start;
#   $browser->open('http://127.0.0.1:5000/');
#   $browser->fill('input[name=who]', 'Zoë');
#   $browser->follow(sub { $browser->click('button') });
#   like $browser->text('main'), qr/Hello, Zoë/;
#   is_deeply [ $browser->complaints ], [];
#
# Elements are named by CSS selectors, and must be there when they are named; text is in characters. Commands do not wait
# for a page to be complete, except open and follow: a response that is still coming can be looked at.
#
# Both programs run in a folder of their own, which is their working directory and by which they are recognised at the end.

use strict;
use warnings;

use Cwd ();
use File::Path ();
use File::Temp ();
use HTTP::Tiny;
use JSON::PP ();
use MIME::Base64 ();
use POSIX ':sys_wait_h';
use Test::More ();

use BladePSGI::Test;

my @started;
my $owner = $$;
my $json = JSON::PP->new->utf8->canonical->allow_nonref;

# Whatever talks to somebody else is off. The sandbox, too: it cannot be had as root nor in most containers, and the
# pages are ours.
my @OPTIONS = qw(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --disable-extensions --no-proxy-server
    --remote-debugging-pipe);

sub start {
    my ($class) = @_;
    my $folder = Cwd::abs_path(File::Temp::tempdir('browser-XXXXXX', TMPDIR => 1, CLEANUP => 0));
    my $self = bless { folder => $folder, log => "$folder/chromedriver.log" }, $class;
    push @started, $self;
    $self->launch;
    my $port;
    wait_for { ($port) = read_text($self->{log}) =~ /started successfully on port (\d+)/; $port || !$self->is_running } 30;
    die 'chromedriver does not start: ' . read_text($self->{log}) unless $port;
    $self->{driver} = "http://127.0.0.1:$port";
    my $session = $self->call(POST => '/session', { capabilities => { alwaysMatch => {
        browserName          => 'chrome',
        pageLoadStrategy     => 'none',
        'goog:loggingPrefs'  => { browser => 'ALL' },
        'goog:chromeOptions' => { binary => program('chromium'), args => [ @OPTIONS, "--user-data-dir=$folder/profile" ] },
    } } });
    $self->{session} = "/session/$session->{sessionId}";
    $self->resize(1280, 900);
    return $self;
}

sub program {
    my ($name) = @_;
    my ($program) = grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/bin';
    return $program || die "$name is not installed";
}

sub launch {
    my ($self) = @_;
    my $program = program('chromedriver');
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        setpgrp 0, 0;
        BladePSGI::Test::die_with_the_test();
        chdir $self->{folder} or POSIX::_exit(126);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $self->{log};
        open STDERR, '>>', $self->{log};
        # What a browser leaves in its user's home goes away with the folder.
        @ENV{qw(HOME TMPDIR XDG_CONFIG_HOME XDG_CACHE_HOME XDG_RUNTIME_DIR)} = ($self->{folder}) x 5;
        delete @ENV{qw(DISPLAY WAYLAND_DISPLAY DBUS_SESSION_BUS_ADDRESS ASAN_OPTIONS UBSAN_OPTIONS)};
        { no warnings 'exec'; exec $program, '--port=0'; }
        POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    return;
}

sub is_running {
    my ($self) = @_;
    return 0 unless $self->{pid};
    delete $self->{pid} if waitpid($self->{pid}, WNOHANG) == $self->{pid};
    return !!$self->{pid};
}

# One command of the protocol; what it returns, or the error as an exception.
sub call {
    my ($self, $method, $path, $parameters) = @_;
    my $http = HTTP::Tiny->new(timeout => 60 * $BladePSGI::Test::PATIENCE, proxy => undef, http_proxy => undef);
    my $answer = $http->request($method, $self->{driver} . $path, {
        headers => { 'Content-Type' => 'application/json; charset=utf-8' },
        $method eq 'POST' ? (content => $json->encode($parameters || {})) : (),
    });
    my $value = eval { $json->decode($answer->{content})->{value} };
    return $value if $answer->{success};
    my $reason = ref $value eq 'HASH' ? "$value->{error}: $value->{message}" : "$answer->{status} $answer->{content}";
    die "WebDriver $method $path: " . ($reason =~ s/\n.*//sr) . "\n";
}

sub command {
    my ($self, $method, $path, $parameters) = @_;
    return $self->call($method, "$self->{session}/$path", $parameters);
}

# Runs the text of a JavaScript function with these arguments in the page.
sub script {
    my ($self, $text, @arguments) = @_;
    return $self->command(POST => 'execute/sync', { script => $text, args => \@arguments });
}

# Chromium's own protocol, for what WebDriver has no word for.
sub devtools {
    my ($self, $name, %parameters) = @_;
    return $self->command(POST => 'goog/cdp/execute', { cmd => $name, params => \%parameters });
}

# A view of that size; a phone's has touch and its own idea of width.
sub resize {
    my ($self, $width, $height, $is_phone) = @_;
    $self->devtools('Emulation.setDeviceMetricsOverride', width => $width, height => $height,
        deviceScaleFactor => $is_phone ? 2 : 1, mobile => $is_phone ? JSON::PP::true : JSON::PP::false);
    return;
}

sub prefer { my ($self, $scheme) = @_; $self->devtools('Emulation.setEmulatedMedia',
    features => [ { name => 'prefers-color-scheme', value => $scheme } ]); return }

# Goes to an address and returns at once.
sub visit { my ($self, $url) = @_; $self->command(POST => 'url', { url => $url }); return }

# Does something that leads to another page, or the same anew, and waits until that is complete.
sub follow {
    my ($self, $action) = @_;
    $self->script('window.isOld = true');
    $action->();
    # Between two pages there is none that could answer.
    wait_for { eval { $self->script('return !window.isOld && document.readyState == "complete"') } } 30
        or die 'no new page, still at ' . $self->url;
    return $self;
}

sub open {
    my ($self, $url) = @_;
    return $self->follow(sub { $self->visit($url) });
}

sub url   { return $_[0]->command(GET => 'url') }
sub title { return $_[0]->command(GET => 'title') }

sub element {
    my ($self, $selector) = @_;
    my ($id) = values %{ $self->command(POST => 'element', { using => 'css selector', value => $selector }) };
    return "element/$id";
}

# As it is seen.
sub text  { my ($self, $selector) = @_; return $self->command(GET => $self->element($selector) . '/text') }
sub click { my ($self, $selector) = @_; $self->command(POST => $self->element($selector) . '/click'); return }

# Types the text; into a file input: the path of the file.
sub fill {
    my ($self, $selector, $text) = @_;
    $self->command(POST => $self->element($selector) . '/value', { text => $text });
    return;
}

# What the console has to complain about since it was last asked: script errors, things that could not be loaded.
sub complaints {
    my ($self) = @_;
    my $entries = $self->command(POST => 'se/log', { type => 'browser' });
    return map { "$_->{level}: $_->{message}" } grep { $_->{level} =~ /\A(?:SEVERE|WARNING)\z/ } @$entries;
}

# A picture of the page as it is seen, or all of it.
sub screenshot {
    my ($self, $file) = @_;
    write_text($file, MIME::Base64::decode_base64($self->command(GET => 'screenshot')));
    return;
}

# Ends the browser, then its driver.
sub stop {
    my ($self) = @_;
    return if $self->{stopped}++;
    eval { $self->call(DELETE => $self->{session}) } if $self->{session} && $self->is_running;
    kill TERM => $self->{pid} if $self->is_running;
    my @left;
    if (!wait_for { $self->is_running; @left = processes_in($self->{folder}); !@left } 20) {
        Test::More->builder->ok(0, 'the browser ends with its driver: ' . join ', ', map { "$_ " . process_title($_) } @left);
        kill KILL => @left;
    }
    wait_for { !$self->is_running } 5;
    return;
}

END {
    if ($$ == $owner) {
        my $status = $?;
        $_->stop for @started;
        my $passing = Test::More->builder->is_passing && !$status;
        for my $browser (@started) {
            Test::More::diag("---- chromedriver ----\n" . substr read_text($browser->{log}), -4000) unless $passing;
            File::Path::remove_tree($browser->{folder}) unless $ENV{BLADEPSGI_TEST_KEEP};
        }
        $? = $status;
    }
}

1;
