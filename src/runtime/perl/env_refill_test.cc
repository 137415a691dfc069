// The env's hash and values serve one request after another. Whatever an application does with them, the next request must see
// what it would see in a fresh hash, and what the application has kept must stay as it was.
#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/perl/testing.h"

namespace bladepsgi::perl {
namespace {

// Runs $main::action at a request for /act; dumps the env, every flag that can be seen among it, at one for /look.
const char* const kApplication = R"perl(
package main;
use strict;
use warnings;
no warnings 'redefine';    # the same file once more
use B ();
use Scalar::Util ();

our (@held, $action, $late, %destroyed);

# Keeps what code shows, now and later.
sub hold { my ($show) = @_; push @main::held, [ $show, $show->() ] }
sub unchanged { my @now = map { [ $_->[0]->(), $_->[1] ] } @main::held; @main::held = (); return join ';', map { $_->[0] eq $_->[1] ? 'same' : "changed from $_->[1] to $_->[0]" } @now }
sub content { my ($hash) = @_; return join ',', map { my $v = $hash->{$_}; "$_=" . (ref $v ? Scalar::Util::reftype($v) : defined $v ? $v : 'undef') } sort keys %$hash }

sub look {
    my ($env) = @_;
    my @lines;
    push @lines, 'tied' if tied %$env;
    push @lines, 'blessed' if Scalar::Util::blessed($env);
    push @lines, 'locked' if Internals::hv_clear_placeholders(%$env) || Internals::SvREADONLY(%$env);
    my $object = B::svref_2object($env);
    push @lines, 'references ' . ($object->REFCNT - 1);
    my $each = 0;
    while (my ($name, $value) = each %$env) { ++$each }
    push @lines, "each meets $each of " . keys %$env;
    for my $name (sort keys %$env) {
        my $sv = B::svref_2object(\$env->{$name});
        my $flags = $sv->FLAGS & ~(B::SVf_IsCOW() | B::SVs_TEMP());
        my $text = ref $env->{$name} ? Scalar::Util::blessed($env->{$name}) || ref $env->{$name} : defined $env->{$name} ? $env->{$name} : 'undef';
        $text .= '[' . join(' ', @{ $env->{$name} }) . ']' if ref $env->{$name} eq 'ARRAY';
        $text .= $sv->LEN > 4096 ? ' (large)' : '' if $sv->isa('B::PV') && $name !~ /^psgi/;
        push @lines, sprintf '%s=%s %s %x %d%s', $name, $text, B::class($sv), $flags, $sv->REFCNT - 1,
            utf8::is_utf8($name) ? ' utf8 name' : '';
    }
    my $in = $env->{'psgi.input'};
    {
        my $before = select $in;
        push @lines, "format=$= $% $- $~ $^ $|";
        select $before;
    }
    my $body = do { local $/; <$in> };
    push @lines, "body=$body", 'eof=' . (eof $in ? 1 : 0), 'lines=' . $in->input_line_number;
    return join "\n", @lines, '';
}

sub {
    my ($env) = @_;
    if ($env->{PATH_INFO} eq '/look') { return [200, [], [look($env), 'held: ', unchanged(), "\n"]] }
    my $response = $action->($env);
    return ref $response ? $response : [200, [], ['done']];
}
)perl";

Script script_of(std::string path, std::string tag, std::string body = {}) {
  Script script;
  script.parameters = {{"REQUEST_METHOD", body.empty() ? "GET" : "POST"},
                       {"REQUEST_URI", path + "?" + tag},
                       {"PATH_INFO", path},
                       {"QUERY_STRING", tag},
                       {"SCRIPT_NAME", ""},
                       {"SERVER_NAME", tag + ".example"},
                       {"SERVER_PORT", tag == "one" ? "8080" : "443"},
                       {"SERVER_PROTOCOL", "HTTP/1.1"},
                       {"HTTP_COOKIE", tag + std::string(1500, tag[0])},
                       {"HTTP_AUTHORIZATION", "Basic " + tag},
                       {"HTTPS", tag == "one" ? "on" : "off"}};
  script.shape = 1;
  script.body = std::move(body);
  return script;
}

enum class Fate { Kept, Given, Either };

struct Way {
  const char* name;
  const char* code;  // of sub { my ($env) = @_; … }
  Fate fate = Fate::Either;
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

class Refill : public testing::TestWithParam<Way> {};

TEST_P(Refill, IsInvisible) {
  Server server(kApplication);
  const auto look = [&server] {
    return server.play(script_of("/look", "two", "a body\nof two lines\n")).body;
  };
  evaluate("$main::action = sub { 1 }; @main::held = (); 1");
  // Whatever an earlier test has made it give up.
  const std::uint64_t kept_before = application().env().times_kept();
  for (int round = 0; round < 200 && application().env().times_kept() < kept_before + 2; ++round)
    server.play(script_of("/act", "one"));
  const std::string expected = look();
  ASSERT_THAT(expected, testing::HasSubstr("SERVER_NAME=two.example PV "));
  for (int round = 0; round < 3; ++round) {
    evaluate(std::string("use strict; use warnings; no warnings 'redefine'; use Hash::Util (); use "
                         "Scalar::Util (); "
                         "$main::action = sub { my ($env) = @_; ") +
             GetParam().code + "\n; return }; 1");
    server.host.lines.clear();
    const std::uint64_t before = application().env().times_kept();
    server.play(script_of("/act", "one", "its body"));
    const bool is_kept = application().env().times_kept() > before;
    if (GetParam().fate != Fate::Either) {
      EXPECT_EQ(is_kept, GetParam().fate == Fate::Kept);
    }
    const std::string seen = look();
    const std::size_t held = seen.find("held: ");
    EXPECT_EQ(seen.substr(0, held), expected.substr(0, expected.find("held: ")));
    EXPECT_THAT(seen.substr(held), testing::Not(testing::HasSubstr("changed")));
    EXPECT_EQ(server.host.text(), "");
  }
  evaluate("undef $main::action; undef $main::late; 1");
}

const Way kWays[] = {
    // --- nothing that lasts
    {"Nothing", "", Fate::Kept},
    {"Reads", "my @all = map { ref $env->{$_} ? () : $env->{$_} } keys %$env;", Fate::Kept},
    {"Copies", "my %copy = %$env; main::hold(sub { main::content(\\%copy) });", Fate::Kept},
    {"CopiesValues",
     "our $copy = $env->{HTTP_COOKIE}; my $short = our $other = $env->{QUERY_STRING}; "
     "main::hold(sub { our ($copy, $other); $copy . $other });",
     Fate::Kept},
    {"Adds", "$env->{\"my.$_\"} = [$_] for 1 .. 12;", Fate::Kept},
    {"AddsAThousand", "$env->{\"my.$_\"} = $_ for 1 .. 1000;"},
    {"AddsNamesOfCharacters", "$env->{\"\\x{263a}$_\"} = $_ for 1 .. 3; $env->{\"\\xe9\"} = 1;"},
    {"Deletes",
     "delete $env->{$_} for qw(HTTP_COOKIE psgi.version psgi.input REQUEST_URI psgix.logger "
     "HTTPS);",
     Fate::Kept},
    {"DeletesAndAdds", "for (sort keys %$env) { my $v = delete $env->{$_}; $env->{$_} = $v }",
     Fate::Kept},
    {"Assigns", "$env->{$_} = 'mine' for grep { !/handlers/ } keys %$env;", Fate::Kept},
    {"AssignsUndef", "$env->{$_} = undef for grep { !/handlers/ } keys %$env;", Fate::Kept},
    {"AssignsNumbers", "my $n = 0; $env->{$_} = ++$n for grep { !/handlers/ } keys %$env;",
     Fate::Kept},
    {"AssignsReferences", "$env->{$_} = {} for grep { !/handlers/ } keys %$env;", Fate::Kept},
    {"AssignsGlobs", "$env->{$_} = *STDOUT for qw(PATH_INFO QUERY_STRING psgi.version);",
     Fate::Kept},
    {"AssignsPatterns", "$env->{PATH_INFO} = qr/x/; $env->{QUERY_STRING} = ${ qr/y/ };",
     Fate::Kept},
    {"AssignsVersions", "$env->{PATH_INFO} = v1.2.3;", Fate::Kept},
    {"AssignsDualvar", "$env->{PATH_INFO} = Scalar::Util::dualvar(5, 'five');", Fate::Kept},
    {"AssignsItself",
     "$env->{PATH_INFO} = $env->{PATH_INFO}; $env->{PATH_INFO} .= 'x'; $env->{QUERY_STRING} x= "
     "3000;",
     Fate::Kept},
    {"AssignsCharacters",
     "$env->{PATH_INFO} = \"\\x{263a}\"; $env->{QUERY_STRING} .= \"\\x{263a}\";", Fate::Kept},
    {"Empties", "%$env = ();"},
    {"Replaces", "%$env = (PATH_INFO => 'x', other => 1);", Fate::Kept},
    {"Undefines", "undef %$env;"},
    {"Aliases", "$_ .= 'x' for grep { !ref } values %$env;", Fate::Kept},
    {"Numbers", "my $port = $env->{SERVER_PORT} + 0; my $is = $env->{SERVER_PORT} == 80;",
     Fate::Kept},
    {"Chops", "substr($env->{HTTP_COOKIE}, 0, 5, ''); $env->{REQUEST_URI} =~ s{^/}{};", Fate::Kept},
    {"Searches", "$env->{HTTP_COOKIE} =~ /o/g; pos($env->{QUERY_STRING}) = 1;", Fate::Kept},
    {"Upgrades", "utf8::upgrade($env->{HTTP_COOKIE}); utf8::decode($env->{PATH_INFO});",
     Fate::Kept},
    {"Iterates", "my ($first) = each %$env; each %$env;", Fate::Kept},
    {"DeletesWhatItIteratesOver", "my ($first) = each %$env; delete $env->{$first};", Fate::Kept},
    {"Localizes",
     "local $env->{PATH_INFO} = 'here'; local $env->{new} = 1; local @$env{qw(HTTP_COOKIE "
     "SERVER_NAME)}; delete local $env->{HTTPS};",
     Fate::Kept},
    {"Dies", "eval { local $env->{PATH_INFO} = 'here'; die };", Fate::Kept},
    {"TakesAReferenceForAMoment",
     "my $r = \\$env->{PATH_INFO}; $$r = 'x'; my @all = \\(@$env{qw(HTTP_COOKIE psgi.version)});",
     Fate::Kept},
    {"Vec", "vec($env->{PATH_INFO}, 100, 8) = 1; my $s = \\substr($env->{QUERY_STRING}, 1);",
     Fate::Kept},
    {"ManyBuckets", "keys(%$env) = 5000;", Fate::Given},

    // --- what it keeps
    {"KeepsTheEnv", "our $e = $env; main::hold(sub { our $e; main::content($e) });", Fate::Given},
    {"KeepsTheEnvInAClosure", "our $c = sub { main::content($env) }; main::hold($c);", Fate::Given},
    {"KeepsTheReference", "our $r = \\$_[0]; main::hold(sub { our $r; main::content($$r) });"},
    {"KeepsItWeakly",
     "Scalar::Util::weaken(our $e = $env); main::hold(sub { our $e; defined $e && $e->{PATH_INFO} "
     "eq '/look' ? 'another' : 'gone or as it was' });",
     Fate::Given},
    {"WeakAndStrong",
     "our $s = $env; Scalar::Util::weaken(our $w = $env); main::hold(sub { our $w; "
     "main::content($w) });",
     Fate::Given},
    {"KeepsAValue",
     "our $v = \\$env->{QUERY_STRING}; our $c = \\$env->{HTTP_COOKIE}; main::hold(sub { our ($v, "
     "$c); $$v . $$c });",
     Fate::Kept},
    {"KeepsValuesAsArguments",
     "our $k = (sub { \\@_ })->(values %$env); main::hold(sub { our $k; join ',', grep { defined "
     "&& !ref } @$k });",
     Fate::Kept},
    {"KeepsAValueWeakly",
     "Scalar::Util::weaken(our $v = \\$env->{QUERY_STRING}); main::hold(sub { our $v; defined $v "
     "&& $$v ne 'one' ? 'another' : 'gone or as it was' });",
     Fate::Kept},
    {"KeepsAnIterationAlias",
     "our @k = (); push @k, \\$_ for values %$env; main::hold(sub { our @k; join ',', grep { "
     "defined && "
     "!ref } map { $$_ } @k });",
     Fate::Kept},
    {"KeepsTheVersion",
     "our $v = $env->{'psgi.version'}; push @$v, 'x'; main::hold(sub { our $v; \"@$v\" });",
     Fate::Kept},
    {"ChangesTheVersion", "$env->{'psgi.version'}[1] = 2; $env->{'psgi.version'}[0] .= 'x';",
     Fate::Kept},
    {"EmptiesTheVersion", "@{ $env->{'psgi.version'} } = ();", Fate::Kept},
    {"BlessesTheVersion", "bless $env->{'psgi.version'}, 'Some::Class';", Fate::Kept},
    {"KeepsAVersionElement",
     "our $v = \\$env->{'psgi.version'}[0]; $$v = 7; main::hold(sub { our $v; $$v });", Fate::Kept},
    {"TiesTheVersion", "require Tie::Array; tie @{ $env->{'psgi.version'} }, 'Tie::StdArray';",
     Fate::Kept},
    {"KeepsTheHandlers",
     "our $h = $env->{'psgix.cleanup.handlers'}; push @$h, sub { 1 }; main::hold(sub { our $h; "
     "scalar @$h });",
     Fate::Kept},
    {"HandlersThatHold",
     "push @{ $env->{'psgix.cleanup.handlers'} }, sub { $_[0]{'my.own'} = $_[0]; delete "
     "$_[0]{'my.own'} };"},
    {"ChangesFlags",
     "$env->{$_} = !$env->{$_} for grep { /psgix?\\.(?:multi|run|stream|nonb|hara|clean)/ && !ref "
     "$env->{$_} } keys %$env;",
     Fate::Kept},
    {"AddsToFlags",
     "$env->{'psgi.multithread'}++; $env->{'psgi.multiprocess'} .= 'x'; $env->{'psgi.run_once'} += "
     "0;",
     Fate::Kept},
    {"HalfAFlag",
     "my $n = $env->{'psgi.multiprocess'} + 1; my $s = \"$env->{'psgi.multithread'}\";",
     Fate::Kept},

    // --- what it makes of it
    {"Ties", "require Tie::Hash; tie %$env, 'Tie::StdHash';", Fate::Given},
    {"TiesAndUnties", "require Tie::Hash; tie %$env, 'Tie::StdHash'; untie %$env;"},
    {"TiesAValue", "require Tie::Scalar; tie $env->{PATH_INFO}, 'Tie::StdScalar', 'tied';",
     Fate::Kept},
    {"Blesses", "bless $env, 'Some::Class';", Fate::Given},
    {"BlessesAValue", "bless \\$env->{PATH_INFO}, 'Some::Class';", Fate::Kept},
    {"LocksKeys", "Hash::Util::lock_keys(%$env);", Fate::Given},
    {"LocksAndUnlocks", "Hash::Util::lock_hash(%$env); Hash::Util::unlock_hash(%$env);"},
    {"LocksAllowingMore",
     "Hash::Util::lock_keys_plus(%$env, qw(more and more)); Hash::Util::unlock_keys(%$env);"},
    {"LocksAValue", "Hash::Util::lock_keys(%$env); Hash::Util::lock_value(%$env, 'PATH_INFO');"},
    {"MakesReadonly",
     "Internals::SvREADONLY($env->{PATH_INFO}, 1); Internals::SvREADONLY(@{ $env->{'psgi.version'} "
     "}, 1);",
     Fate::Kept},
    {"FieldHash",
     "require Hash::Util::FieldHash; Hash::Util::FieldHash::fieldhash(my %f); $f{$env} = 1; "
     "Hash::Util::FieldHash::id($env);"},
    {"HoldsItself",
     "$env->{itself} = $env; main::hold(sub { 1 }); our $h = $env; $main::late = sub { delete "
     "$env->{itself} };",
     Fate::Given},
    {"HoldsItselfInAClosure", "$env->{'my.code'} = sub { $env };", Fate::Given},
    {"HoldsItselfWeakly", "$env->{itself} = $env; Scalar::Util::weaken($env->{itself});",
     Fate::Given},

    // --- handles
    {"ReadsTheBody",
     "my $in = $env->{'psgi.input'}; my $all = do { local $/; <$in> }; die if $all ne 'its body';",
     Fate::Kept},
    {"ReadsTheBodyByMethod", "$env->{'psgi.input'}->read(my $all, 100); die if $all ne 'its body';",
     Fate::Kept},
    {"KeepsTheInput",
     "our $i = $env->{'psgi.input'}; main::hold(sub { our $i; my $x = <$i>; defined $x && $x !~ "
     "/its/ ? $x : 'its own' });",
     Fate::Kept},
    {"KeepsTheInputWeakly",
     "Scalar::Util::weaken(our $i = $env->{'psgi.input'}); main::hold(sub { our $i; my $x = "
     "defined $i ? <$i> : undef; defined $x && $x !~ /its/ ? $x : 'its own' });",
     Fate::Kept},
    {"KeepsTheInputsHandle",
     "our $i = *{ $env->{'psgi.input'} }{IO}; main::hold(sub { our $i; my $x = <$i>; defined $x && "
     "$x !~ /its/ ? $x : 'its own' });",
     Fate::Kept},
    {"KeepsTheInputsGlob",
     "our $i = *{ $env->{'psgi.input'} }; main::hold(sub { our $i; my $x = readline *{$i}; defined "
     "$x && $x !~ /its/ ? $x : 'its own' });",
     Fate::Kept},
    {"KeepsTheInputsTie",
     "our $t = tied *{ $env->{'psgi.input'} }; main::hold(sub { our $t; my $x = $t->READLINE; "
     "defined $x && $x !~ /its/ ? $x : 'its own' });",
     Fate::Kept},
    {"DuplicatesTheInput",
     "open our $i, '<&', $env->{'psgi.input'} or die; main::hold(sub { our $i; my $x = <$i>; "
     "defined $x && $x !~ /its/ ? $x : 'its own' });",
     Fate::Kept},
    {"ClosesTheInput", "close $env->{'psgi.input'};", Fate::Kept},
    {"UntiesTheInput", "{ no warnings; untie *{ $env->{'psgi.input'} } }", Fate::Kept},
    {"BlessesTheInput", "bless $env->{'psgi.input'}, 'Some::Handle';", Fate::Kept},
    {"StoresInTheInput",
     "my $in = $env->{'psgi.input'}; ${*$in}{key} = 1; ${*$in} = 5; @{*$in} = 1;", Fate::Kept},
    {"BinmodesTheInput", "binmode $env->{'psgi.input'}, ':utf8'; binmode $env->{'psgi.input'};",
     Fate::Kept},
    {"AutoflushesTheInput", "$env->{'psgi.input'}->autoflush(1);", Fate::Kept},
    {"ReplacesTheInput", "open my $in, '<', \\'other'; $env->{'psgi.input'} = $in;", Fate::Kept},
    {"FormatsTheInput",
     "my $before = select $env->{'psgi.input'}; $= = 7; $% = 9; $- = 3; $~ = 'FOO'; $^ = 'BAR'; "
     "select $before;",
     Fate::Kept},
    {"SeeksTheInput", "$env->{'psgi.input'}->seek(3, 0);", Fate::Kept},
    {"ReplacesErrors",
     "open my $out, '>', \\my $text; $env->{'psgi.errors'} = $out; $env->{'psgix.logger'} = sub { "
     "1 };",
     Fate::Kept},

    // --- destructors
    {"DestroysQuietly",
     "$env->{'my.object'} = bless {}, 'Quiet'; sub Quiet::DESTROY { $main::destroyed{quiet}++ }",
     Fate::Kept},
    {"DestroySeesTheValue",
     "our $seen = ''; bless \\$env->{QUERY_STRING}, 'Seer'; sub Seer::DESTROY { our $seen = ${ "
     "$_[0] } } main::hold(sub { our $seen eq '' "
     "|| $seen eq 'one' ? 'as it was' : 'changed' });",
     Fate::Kept},
    {"ValueThatIsAnObject",
     "$env->{PATH_INFO} = bless {}, 'Late'; sub Late::DESTROY { $main::destroyed{late}++ }",
     Fate::Kept},
    {"DestroyDies",
     "$env->{'my.object'} = bless {}, 'Fatal'; { no warnings; eval q{sub Fatal::DESTROY { eval { "
     "die 'in vain' } }} }",
     Fate::Kept},
    {"DestroyReadsTheEnv",
     "$env->{'my.object'} = bless { env => $env }, 'Reader'; "
     "Scalar::Util::weaken($env->{'my.object'}{env}); sub Reader::DESTROY { my $e = $_[0]{env}; my "
     "$n = $e ? keys %$e : 0 }",
     Fate::Given},
    {"DestroyStoresIntoTheEnv",
     "$env->{'my.object'} = bless { env => $env }, 'Storer'; "
     "Scalar::Util::weaken($env->{'my.object'}{env}); sub Storer::DESTROY { my $e = $_[0]{env}; "
     "$e->{PATH_INFO} = 'stored' if $e; $e->{again} = bless {}, 'Quiet' if $e }",
     Fate::Given},
    {"DestroyHoldsTheEnv",
     "$env->{'my.object'} = bless { env => $env }, 'Holder'; "
     "Scalar::Util::weaken($env->{'my.object'}{env}); sub Holder::DESTROY { our $kept = $_[0]{env} "
     "}",
     Fate::Given},
    {"DestroyOfAValue",
     "$env->{PATH_INFO} = bless {}, 'Another'; sub Another::DESTROY { my $x = `true`; "
     "$main::destroyed{another}++ }",
     Fate::Kept},
    {"DestroyThroughAValueReference",
     "our $v = \\$env->{QUERY_STRING}; $env->{'my.object'} = bless {}, 'Writer'; sub "
     "Writer::DESTROY { our $v; $$v = 'written' if $v; undef $v }",
     Fate::Kept},

    // --- delayed responses
    {"Delays",
     "return sub { my $w = $_[0]->([200, []]); $w->write($env->{QUERY_STRING}); $w->close; }"},
    {"DelaysWithALocal", "return sub { local $env->{PATH_INFO} = 'x'; $_[0]->([200, [], ['x']]) }"},
    {"KeepsTheResponder",
     "return sub { our $r = $_[0]; our $e = $env; $r->([200, [], ['x']]); main::hold(sub { our $e; "
     "main::content($e) }) }"},
};

INSTANTIATE_TEST_SUITE_P(Ways, Refill, testing::ValuesIn(kWays), [](const auto& way) {
  return std::string(way.param.name);
});

TEST(RefillShape, FollowsTheNamesOfEachRequest) {
  Server server(
      R"(sub { my ($e) = @_; [200, [], [join ',', map { "$_=$e->{$_}" } sort grep { /^HTTP_/ } keys %$e]] })");
  std::uint64_t shape = 0;
  const auto ask = [&server, &shape](std::vector<std::pair<std::string, std::string>> parameters) {
    Script script;
    script.shape = shape;
    for (auto& parameter : parameters)
      script.parameters.push_back(parameter);
    return server.play(script).body;
  };
  for (int round = 0; round < 6; ++round) {
    const auto has_shape = [&shape, round](std::uint64_t number) {
      shape = round < 3 ? 0 : number;  // known or not
    };
    has_shape(11);
    EXPECT_EQ(ask({{"HTTP_A", "1"}, {"HTTP_B", "2"}}), "HTTP_A=1,HTTP_B=2");
    EXPECT_EQ(ask({{"HTTP_A", ""}, {"HTTP_B", "7"}}), "HTTP_A=,HTTP_B=7");
    has_shape(12);
    EXPECT_EQ(ask({{"HTTP_B", "3"}}), "HTTP_B=3");
    has_shape(13);
    EXPECT_EQ(ask({{"HTTP_C", "4"}, {"HTTP_B", ""}, {"HTTP_A", "5"}}), "HTTP_A=5,HTTP_B=,HTTP_C=4");
    has_shape(14);
    EXPECT_EQ(ask({}), "");
    has_shape(11);
    EXPECT_EQ(ask({{"HTTP_A", "8"}, {"HTTP_B", "9"}}), "HTTP_A=8,HTTP_B=9");
    std::vector<std::pair<std::string, std::string>> many;
    std::string expected;
    for (int number = 100; number < 700; ++number) {  // more than there are keys kept for
      many.emplace_back("HTTP_X_" + std::to_string(number), std::to_string(number + round));
      expected += (expected.empty() ? "" : ",") + many.back().first + "=" + many.back().second;
    }
    has_shape(15);
    EXPECT_EQ(ask(many), expected);
    EXPECT_EQ(ask(many), expected);
    has_shape(16);
    EXPECT_EQ(ask({{"HTTP_X_699", "x"}, {std::string("HTTP_") + std::string(100, 'Y'), "y"}}),
              "HTTP_X_699=x,HTTP_" + std::string(100, 'Y') + "=y");
  }
}

TEST(RefillShape, HoldsNothingOfTheClientBetweenRequests) {
  // A value that is ours alone again is overwritten, the buffer that it had as well.
  Server plain(
      R"(package main; sub { my ($e) = @_; our $address = unpack 'J', pack 'p', $e->{HTTP_AUTHORIZATION}; [200, [], [index($e->{HTTP_AUTHORIZATION}, 'Secret') > 0 ? 'seen' : 'not seen']] })");
  Script script;
  script.parameters.emplace_back("HTTP_AUTHORIZATION", "Basic Secret-of-the-client");
  EXPECT_EQ(plain.play(script).body, "seen");
  EXPECT_THAT(evaluate("package main; our $address; unpack 'P26', pack 'J', $address"),
              testing::Not(testing::HasSubstr("Secret")));
}

TEST(RefillShape, WhatGrewShrinksAgain) {
  Server server(
      R"(sub { my ($e) = @_; require B; [200, [], [B::svref_2object(\$e->{QUERY_STRING})->LEN]] })");
  Script large;
  large.parameters.emplace_back("QUERY_STRING", std::string(100'000, 'x'));
  Script small;
  small.parameters.emplace_back("QUERY_STRING", "small");
  EXPECT_GT(std::stoi(server.play(large).body), 100'000);
  EXPECT_LT(std::stoi(server.play(small).body), 100);
}

TEST(RefillShape, AnApplicationThatKeepsEveryEnvGetsOneEach) {
  Server server(
      R"(package main; sub { my ($e) = @_; push our @all, $e; [200, [], [scalar(@all), ' ', $all[0]{QUERY_STRING}]] })");
  for (int number = 1; number <= 200; ++number) {
    Script script;
    script.parameters.emplace_back("QUERY_STRING", std::to_string(number));
    EXPECT_EQ(server.play(script).body, std::to_string(number) + " 1");
  }
  EXPECT_EQ(
      evaluate(
          "package main; our @all; my %seen; join ',', scalar(@all), scalar(grep { !$seen{$_}++ } "
          "@all), $all[199]{QUERY_STRING}"),
      "200,200,200");
  evaluate("package main; our @all = (); 1");
}

// What the rounds of an application leave, when its interpreter is torn down after them.
Remains remains_after(const Way& way, int rounds) {
  return remains_of_child([&way, rounds] {
    Server server(kApplication);
    evaluate(std::string("no warnings; use Scalar::Util (); use Hash::Util (); $main::action = sub "
                         "{ my ($env) = @_; ") +
             way.code + "\n; return }; 1");
    for (int round = 0; round < rounds; ++round) {
      server.play(script_of("/act", "one", "its body"));
      server.play(script_of("/look", "two"));
      evaluate("$main::late->() if $main::late; undef $main::late; @main::held = (); 1");
    }
    evaluate("undef $main::action; 1");
  });
}

// More than an application that keeps every env is left alone for.
constexpr int kFewRounds = 80;
constexpr int kManyRounds = 280;
// From run to run a buffer or two more may be left, of 1 KiB each, and a rest that is too small for a block of its own is counted with the
// block before it. The smallest block, lost in each round, comes to more: 32 bytes each time.
constexpr std::size_t kNoise = 4096;
static_assert(std::size_t{kManyRounds - kFewRounds} * 32 > kNoise + 2048);

// Suites of this name run before all others: the interpreter has nothing of theirs yet.
class RefillDeathTest : public testing::TestWithParam<Way> {};

TEST_P(RefillDeathTest, LeavesNothing) {
  const Remains few = remains_after(GetParam(), kFewRounds);
  const Remains many = remains_after(GetParam(), kManyRounds);
  EXPECT_EQ(few.complaints, "");
  EXPECT_EQ(many.complaints, "");
  EXPECT_LE(many.values, few.values);
  EXPECT_LE(many.bytes, few.bytes + kNoise);
}

// All but the one whose cycle is a leak of the application's own.
std::vector<Way> ways_without_cycles() {
  std::vector<Way> ways(std::begin(kWays), std::end(kWays));
  std::erase_if(
      ways, [](const Way& way) { return std::string_view(way.name) == "HoldsItselfInAClosure"; });
  return ways;
}

INSTANTIATE_TEST_SUITE_P(Ways,
                         RefillDeathTest,
                         testing::ValuesIn(ways_without_cycles()),
                         [](const auto& way) { return std::string(way.param.name); });

TEST(LeaksDeathTest, OfValuesWouldBeSeen) {
  const Way cycle{"Cycle", "$env->{'my.code'} = sub { $env };"};
  EXPECT_GE(remains_after(cycle, kManyRounds).values - remains_after(cycle, kFewRounds).values,
            kManyRounds - kFewRounds);
}

TEST(LeaksDeathTest, OfMemoryWouldBeSeen) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "a sanitizer's malloc does not say how much it has given";
#endif
  const auto lose = [](int times) {
    return remains_of_child([times] {
      for (int time = 0; time < times; ++time) {
        void* volatile block = std::malloc(1);
        static_cast<void>(block);
      }
    });
  };
  EXPECT_GT(lose(kManyRounds).bytes, lose(kFewRounds).bytes + kNoise);
}

}  // namespace
}  // namespace bladepsgi::perl
