# Apache with mod_fcgid: it starts the application server itself, which listens on descriptor 0.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::ApacheFcgid;
use BladePSGI::Test::Site;
use Test::More;

my $program = fcgi_program();

my $site = site_folder();

for my $example (qw(bladepsgi.conf bladepsgi-prefix.conf)) {
    my $apache = BladePSGI::Test::ApacheFcgid->start(
        program => $program,
        app     => $site->folder . '/app.psgi',
        example => $example,
        tls     => 1,
    );
    $site->{log} = $apache->folder . '/error.log';
    subtest $example => sub {
        check_site($apache, $site,
            prefix  => $example =~ /-prefix/ ? '/app' : '',
            # Apache joins whatever is repeated by a comma. Browsers send one line.
            cookies => 'a=1, b=2',
            # The whole body is read first.
            chunked => 'known',
            # It logs "error reading data from FastCGI server" and ends the response as if it were complete.
            unseen  => { map { $_ => 'mod_fcgid ends the response all the same' } qw(half half-length half-large gated) },
        );
    };
    $apache->stop;
    is_deeply [ $site->survivors ], [], 'the application servers end with it';
}

done_testing;
