package Notes;

use Cwd ();
use File::Basename ();
use Moose;
use namespace::autoclean;

use Catalyst qw(Static::Simple Session Session::State::Cookie Session::Store::File);
extends 'Catalyst';

__PACKAGE__->config(
    name                                        => 'Notes',
    root                                        => Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../root'),
    encoding                                    => 'UTF-8',
    disable_component_resolution_regex_fallback => 1,
    'Plugin::Session'                           => { storage => Cwd::getcwd() . '/sessions' },
);
__PACKAGE__->log(Catalyst::Log->new('warn', 'error', 'fatal'));
__PACKAGE__->setup;

1;
