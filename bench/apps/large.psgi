# The shortest answer, by an application of about 145 MB.
use strict;
use warnings;

use Cwd ();
use File::Basename ();
use lib File::Basename::dirname(Cwd::abs_path(__FILE__)) . '/lib';
use BladePSGI::Bench::Large;

sub { return [200, ['Content-Type' => 'text/plain', 'Content-Length' => 13], ['Hello, World!']] };
