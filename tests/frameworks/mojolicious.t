# Mojolicious as a PSGI application, with its signed cookies.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Framework;
use Test::More;

check_framework('mojolicious', streams => 1);

done_testing;
