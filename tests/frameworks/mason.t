# HTML::Mason by its PSGI handler, with Plack's middleware for sessions and static files. It collects all of a page.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Framework;
use Test::More;

check_framework('mason', streams => 0);

done_testing;
