# Catalyst, with its plugins for sessions and static files.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Framework;
use Test::More;

check_framework('catalyst', streams => 1);

done_testing;
