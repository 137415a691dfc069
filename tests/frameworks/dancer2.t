# Dancer2, with sessions in files.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use BladePSGI::Test;
use BladePSGI::Test::Framework;
use Test::More;

check_framework('dancer2', streams => 1);

done_testing;
