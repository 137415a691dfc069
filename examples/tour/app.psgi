# The tour: a small PSGI application that shows what BladePSGI does. Pure Plack, one page after the other.
#
#   ./dev run                               with everything; ./dev run --nginx: behind nginx
#   plackup examples/tour/app.psgi          without BladePSGI: the pages on shared state say so
#
# What all workers share comes from the loader (lib/Tour.pm) in $env->{'tour.shared'}.

use strict;
use warnings;

use Digest::SHA;
use File::Basename 'dirname';
use Plack::App::File;
use Plack::Builder;
use Plack::Request;
use Plack::Util;

my $folder = dirname(__FILE__);

# ── pages ───────────────────────────────────────────────────────────────────────────────────────────────────────────

my @menu = (
    [ '/request'   => 'Request',   'What arrives with a request, and what becomes of it on its way to the application.' ],
    [ '/upload'    => 'Upload',    'A form and a file. The SHA-256 of an upload of any size, in constant memory.' ],
    [ '/stream'    => 'Stream',    'Ten lines, one a second, each in your browser the moment it is written.' ],
    [ '/counter'   => 'Counter',   'A counter and a lock in shared memory, used by all workers at once.' ],
    [ '/heartbeat' => 'Heartbeat', 'A process beside the workers that beats once a second.' ],
    [ '/error'     => 'Error',     'What happens when an application dies, before a response and in the middle of one.' ],
);

sub html { return Plack::Util::encode_html($_[0] // '') }

# Everything before and after the content, so that the streaming page can send one, then its lines, then the other.
sub page_head {
    my ($env, $title) = @_;
    my $base = $env->{SCRIPT_NAME};
    my ($about) = map { '<p class="lead">' . html($_->[2]) . '</p>' } grep { $_->[1] eq $title } @menu;
    $about //= '';
    my $links = join '', map {
        my ($path, $name) = @$_;
        my $here = $env->{PATH_INFO} =~ m{\A\Q$path\E(?:/|\z)} ? ' aria-current="page"' : '';
        qq{<a href="$base$path"$here>$name</a>};
    } @menu;
    return <<"HTML";
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@{[ html($title) ]} · BladePSGI tour</title>
<link rel="icon" href="$base/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="$base/static/tour.css">
</head>
<body>
<header><a class="brand" href="$base/"><b>Blade</b>PSGI</a><nav aria-label="Pages of the tour">$links</nav></header>
<main>
<h1>@{[ html($title) ]}</h1>
$about
HTML
}

sub page_foot {
    my ($env) = @_;
    my $shared = $env->{'tour.shared'};
    my $visits = $shared ? 'request number ' . $shared->{visits}->load . ' of all workers' : 'running without BladePSGI';
    my $id = $env->{'psgix.request_id'};
    return "</main>\n<footer>Worker <code>$$</code> · $visits" . (defined $id ? ' · its id <code>' . html($id) . '</code>' : '')
        . "</footer>\n</body>\n</html>\n";
}

sub page {
    my ($env, $title, $content, $status) = @_;
    return [
        $status || 200,
        [ 'Content-Type' => 'text/html; charset=utf-8', 'Cache-Control' => 'no-store' ],
        [ page_head($env, $title), $content, page_foot($env) ],
    ];
}

sub redirect {
    my ($env, $path) = @_;
    return [ 303, [ 'Location' => $env->{SCRIPT_NAME} . $path ], [] ];
}

sub table {
    my (@rows) = @_;
    return '<div class="scroll"><table>'
        . join('', map { '<tr><th scope="row">' . html($_->[0]) . '</th><td>' . html($_->[1]) . '</td></tr>' } @rows)
        . '</table></div>';
}

sub without_server {
    my ($env, $title) = @_;
    return page($env, $title, '<p class="note">This page needs what the loader makes: start the tour with '
        . '<code>./dev run</code> instead of <code>plackup</code>.</p>');
}

# ── /: where to go ──────────────────────────────────────────────────────────────────────────────────────────────────

sub index_page {
    my ($env) = @_;
    my $cards = join '', map {
        my ($path, $name, $text) = @$_;
        qq{<a class="card" href="$env->{SCRIPT_NAME}$path"><h2>$name</h2><p>} . html($text) . '</p></a>';
    } @menu;
    return page($env, 'A tour of the server', <<"HTML");
<p class="lead">This application was loaded once, then forked into workers. Each of them serves one request at a time;
this page came from worker <code>$$</code>. Reload it and it may be another.</p>
<div class="cards">$cards</div>
HTML
}

# ── /request: the environment ───────────────────────────────────────────────────────────────────────────────────────

sub request_page {
    my ($env) = @_;
    my $request = Plack::Request->new($env);
    my $query = $request->query_parameters;
    my @parameters = map { [ $_ => join ' · ', $query->get_all($_) ] } sort keys %$query;

    my (@http, @cgi, @psgi);
    for my $key (sort keys %$env) {
        my $value = $env->{$key};
        $value = ref $value eq 'ARRAY' ? '[' . join(', ', @$value) . ']' : ref $value if ref $value;
        push @{ $key =~ /\AHTTP_/ ? \@http : $key =~ /\A[a-z]/ ? \@psgi : \@cgi }, [ $key, $value ];
    }
    return page($env, 'Request', join '',
        '<p>Some address to look at: <a href="', $env->{SCRIPT_NAME},
        '/request/with%20a%20space//and%2Fslashes?name=value&amp;name=again">a path with escapes, and a query</a>.</p>',
        (@parameters ? ('<h2>Parameters</h2>', table(@parameters)) : ()),
        '<h2>The request and the server</h2>', table(@cgi),
        '<h2>Headers of the client</h2>', table(@http),
        '<h2>Of PSGI and the loader</h2>', table(@psgi));
}

# ── /upload: a form, a file, a digest ───────────────────────────────────────────────────────────────────────────────

sub upload_page {
    my ($env) = @_;
    my $result = '';
    my $request = Plack::Request->new($env);
    if ($request->method eq 'POST') {
        # Plack::Request takes the form apart; a large file goes to a temporary file as it arrives.
        my $upload = $request->upload('file');
        my @rows = ([ 'Your name' => $request->body_parameters->get('name') ]);
        if ($upload && length $upload->filename) {
            my $sha = Digest::SHA->new(256)->addfile($upload->path, 'b');
            push @rows, [ 'File' => $upload->filename ], [ 'Bytes' => $upload->size ], [ 'SHA-256' => $sha->hexdigest ];
        }
        $result = '<h2>Received</h2>' . table(@rows);
    }
    my $raw = html($request->base =~ s{/*\z}{/upload/raw}r);
    return page($env, 'Upload', <<"HTML");
<form method="post" enctype="multipart/form-data" action="$env->{SCRIPT_NAME}/upload">
<label>Your name <input name="name" autocomplete="name"></label>
<label>A file <input type="file" name="file"></label>
<button>Send</button>
</form>
$result
<p class="note">Without a form nothing is kept at all: <code>curl -T FILE $raw</code>
reads the body as it arrives and answers with its digest, whatever its size.</p>
HTML
}

# The body is read from psgi.input piece by piece; no more than one piece is in memory. The read of a body that breaks off
# fails (undef), it does not look like its end.
sub raw_upload {
    my ($env) = @_;
    my $sha = Digest::SHA->new(256);
    my $length = 0;
    my $n;
    while ($n = $env->{'psgi.input'}->read(my $bytes, 65536)) {
        $sha->add($bytes);
        $length += $n;
    }
    return [ 400, [ 'Content-Type' => 'text/plain' ], ["the upload broke off: $!\n"] ] unless defined $n;
    return [ 200, [ 'Content-Type' => 'text/plain' ], [ sprintf "%s  %d bytes\n", $sha->hexdigest, $length ] ];
}

# ── /stream: each write is at the client at once ────────────────────────────────────────────────────────────────────

sub stream_page {
    my ($env) = @_;
    return sub {
        my ($respond) = @_;
        my $writer = $respond->([
            200,
            [
                'Content-Type' => 'text/html; charset=utf-8',

                # nginx collects a response before it passes it on, unless it is told not to: here for one page, with
                # "fastcgi_buffering off" for all of a location.
                'X-Accel-Buffering' => 'no',
            ],
        ]);
        $writer->write(page_head($env, 'Stream')
            . '<p>Each line is one call of <code>$writer-&gt;write</code>, a second after the one before.</p><ul class="lines">');
        for my $n (1 .. 10) {
            my ($s, $m, $h) = localtime;
            $writer->write(sprintf "<li>line %d of 10, written at %02d:%02d:%02d by worker %d</li>\n", $n, $h, $m, $s, $$);
            sleep 1 if $n < 10;
        }
        $writer->write('</ul><p>That was all.</p>' . page_foot($env));
        $writer->close;
    };
}

# ── /counter: shared by all workers ─────────────────────────────────────────────────────────────────────────────────

# Who holds the lock. A worker that was killed while it held the lock could not take its name back; the permit was put back
# by the server.
sub lock_state {
    my ($shared) = @_;
    my $holder = $shared->{holder}->load;
    return $holder && kill(0, $holder) ? "held by worker $holder" : 'free';
}

sub json {
    my ($format, @values) = @_;
    return [ 200, [ 'Content-Type' => 'application/json', 'Cache-Control' => 'no-store' ], [ sprintf $format, @values ] ];
}

sub counter_page {
    my ($env) = @_;
    my $shared = $env->{'tour.shared'} or return without_server($env, 'Counter');
    my $base = $env->{SCRIPT_NAME};
    my $count = $shared->{count}->load;
    my $state = lock_state($shared);
    return page($env, 'Counter', <<"HTML");
<div class="figures">
<div><b id="count">$count</b><span>count, in shared memory</span></div>
<div><b id="lock">$state</b><span>the lock, a semaphore of 1</span></div>
<div><b id="worker">$$</b><span>worker that answered</span></div>
</div>
<div class="actions">
<form method="post" action="$base/counter/add"><button>Add one</button></form>
<form method="post" action="$base/counter/hold"><button>Hold the lock for three seconds</button></form>
<form method="post" action="$base/counter/try"><button>Try the lock, without waiting</button></form>
</div>
<p class="note">Open this page in two windows. While one holds the lock, another that wants it waits and takes no CPU; the
others go on. Kill the worker that holds it (<code>kill -9</code>): the server puts the permit back.</p>
@{[ live("$base/counter/now") ]}
HTML
}

# Asks the address for an object twice a second, and puts its values into the elements that have their names as id.
sub live {
    my ($address) = @_;
    return <<"HTML";
<script>
setInterval(async () => {
  try {
    const now = await (await fetch('$address')).json();
    for (const id in now) document.getElementById(id).textContent = now[id];
    document.body.classList.remove('stale');
  } catch (error) {
    document.body.classList.add('stale');  // the server is away; it may come back
  }
}, 500);
</script>
HTML
}

sub counter_action {
    my ($env, $action) = @_;
    my $shared = $env->{'tour.shared'} or return without_server($env, 'Counter');
    if ($action eq 'now') {
        return json('{"count":%d,"lock":"%s","worker":%d}', $shared->{count}->load, lock_state($shared), $$);
    }
    return page($env, 'Counter', '<p>This address takes only POST.</p>', 405) unless $env->{REQUEST_METHOD} eq 'POST';
    if ($action eq 'add') {
        $shared->{count}->incr;
    }
    elsif ($action eq 'hold') {
        $shared->{context}->set_worker_status('H');    # on the statistics socket, until the request is over
        $shared->{lock}->acquire;
        $shared->{holder}->store($$);
        sleep 3;
        $shared->{holder}->store(0);
        $shared->{lock}->release;
    }
    elsif ($action eq 'try') {
        if (!$shared->{lock}->tryacquire) {
            return page($env, 'Counter', "<p>The lock is held. <a href=\"$env->{SCRIPT_NAME}/counter\">Back</a></p>", 409);
        }
        $shared->{lock}->release;
    }
    return redirect($env, '/counter');
}

# ── /heartbeat: an auxiliary process ────────────────────────────────────────────────────────────────────────────────

sub heartbeat_page {
    my ($env) = @_;
    my $shared = $env->{'tour.shared'} or return without_server($env, 'Heartbeat');
    my $beats = $shared->{beats}->load;
    my $age = time - $shared->{last_beat}->load;
    my $word = $age <= 2 ? 'beating' : "silent for $age s";
    return json('{"heart":"%s","beats":%d}', $word, $beats) if $env->{PATH_INFO} eq '/heartbeat/now';
    return page($env, 'Heartbeat', <<"HTML");
<div class="figures">
<div><b id="heart">$word</b><span>the auxiliary process <code>heart</code></span></div>
<div><b id="beats">$beats</b><span>beats since the start</span></div>
</div>
<p class="note">The loader asked for this process; the server started it beside the workers. Kill it and keep looking: it is
replaced, and the count goes on, as it lives in shared memory.</p>
@{[ live("$env->{SCRIPT_NAME}/heartbeat/now") ]}
HTML
}

# ── /error: on purpose ──────────────────────────────────────────────────────────────────────────────────────────────

sub error_page {
    my ($env) = @_;
    my $base = $env->{SCRIPT_NAME};
    return page($env, 'Error', <<"HTML");
<ul>
<li><a href="$base/error/now">Die before anything was sent</a>: the client gets a plain 500, the log what happened and where.</li>
<li><a href="$base/error/middle">Die in the middle of a response</a>: it is too late for a 500. The connection is broken off, so
that nobody takes half a page for a whole one.</li>
<li><a href="$base/error/exit">Call <code>exit</code></a>: a 500, and the worker is replaced.</li>
</ul>
<p class="note">In each case the server goes on, and so does every other request.</p>
HTML
}

sub deliberate_error {
    my ($env, $kind) = @_;
    exit 1 if $kind eq 'exit';
    die "This error is deliberate" if $kind eq 'now';
    return sub {
        my $writer = $_[0]->([ 200, [ 'Content-Type' => 'text/html; charset=utf-8', 'X-Accel-Buffering' => 'no' ] ]);
        $writer->write(page_head($env, 'Half a page') . '<p>The rest of this page will never come.</p>');
        sleep 1;    # so that it can be seen: some browsers show nothing of a page that breaks off at once
        die "This error is deliberate, too";
    };
}

# ── putting it together ─────────────────────────────────────────────────────────────────────────────────────────────

my $tour = sub {
    my ($env) = @_;
    $env->{'tour.shared'}{visits}->incr if $env->{'tour.shared'};
    my $path = $env->{PATH_INFO};
    return index_page($env)                if $path eq '/' || $path eq '';
    return request_page($env)              if $path =~ m{\A/request(?:/|\z)};
    return upload_page($env)               if $path eq '/upload';
    return raw_upload($env)                if $path eq '/upload/raw';
    return stream_page($env)               if $path eq '/stream';
    return counter_page($env)              if $path eq '/counter';
    return counter_action($env, $1)        if $path =~ m{\A/counter/(now|add|hold|try)\z};
    return heartbeat_page($env)            if $path =~ m{\A/heartbeat(?:/now)?\z};
    return error_page($env)                if $path eq '/error';
    return deliberate_error($env, $1)      if $path =~ m{\A/error/(now|middle|exit)\z};
    return page($env, 'Not found', '<p>There is no such page on this tour.</p>', 404);
};

builder {
    enable 'ContentLength';
    mount '/static' => Plack::App::File->new(root => "$folder/static")->to_app;
    mount '/'       => $tour;
};
