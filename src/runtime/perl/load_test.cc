#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/perl/interpreter.h"
#include "runtime/perl/testing.h"

namespace bladepsgi::perl {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string comm() {
  std::string name;
  std::getline(std::ifstream("/proc/self/comm"), name);
  return name;
}

std::string title() {
  std::string name;
  std::getline(std::ifstream("/proc/self/cmdline"), name, '\0');
  return name;
}

TEST(Version, AnotherPerlIsNamedInOneLine) {
  EXPECT_TRUE(check_version(built_version(), found_version()));
  Version other = built_version();
  other.version = 38;
  other.subversion = 2;
  const auto wrong = check_version(built_version(), other);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().message,
            "cannot start Perl: this runtime was built for Perl 5.36.0, the libperl found is "
            "5.38.2; build the runtime for that Perl");
  Version unthreaded = built_version();
  unthreaded.interpreter_size -= 8;
  EXPECT_THAT(check_version(built_version(), unthreaded).error().message,
              HasSubstr("configured differently"));
}

TEST(Load, DoesWhatLoadPsgiDoes) {
  Server server(R"(
    my ($file, $name, @args) = (__FILE__, $0, @ARGV); my $package = __PACKAGE__; my $env = $ENV{PLACK_ENV};
    sub { [200, [], [join '|', $file, $name, scalar @args, $package, $env, $0 eq $name ? 'kept' : 'restored', (caller)[1]]] })");
  const std::string file = server.scratch.path() + "/app.psgi";
  const std::string answer = server.play().body;
  EXPECT_THAT(answer, StartsWith(file + "|" + file + "|0|Plack::Sandbox::_2f"));
  EXPECT_THAT(answer, HasSubstr("app_2epsgi|deployment|restored|bladepsgi"));
}

TEST(Load, RelativePathsAndClasses) {
  Server server;
  server.scratch.write("lib/My/Class.pm", "sub { [200, [], [__FILE__]] }");
  server.scratch.write("word", "sub { [200, [], ['file']] }");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(server.scratch.path());
  runtime::LoadOptions options;
  options.include_directories = {server.scratch.path() + "/lib"};
  options.application_path = "My::Class";
  EXPECT_TRUE(application().load(server.host, options));
  EXPECT_THAT(server.play().body, HasSubstr("lib/My/Class.pm"));
  options.application_path = "word";
  EXPECT_TRUE(application().load(server.host, options));
  EXPECT_EQ(server.play().body, "file");
  options.application_path = "./word";
  EXPECT_TRUE(application().load(server.host, options));
  options.application_path = "NotThere";
  EXPECT_THAT(
      application().load(server.host, options).error().message,
      StartsWith("cannot load application 'NotThere.pm': not found in @INC (@INC contains: "));
  std::filesystem::current_path(before);
}

TEST(Load, ObjectsThatActAsCodeAreAskedOnce) {
  Server server(R"(
    package Component; our $prepared = 0;
    use overload '&{}' => sub { my $self = shift; $prepared++; sub { [200, [], ["called $prepared"]] } }, fallback => 1;
    package main; bless {}, 'Component')");
  EXPECT_EQ(server.play().body, "called 1");
  EXPECT_EQ(server.play().body, "called 1");
}

TEST(Load, ErrorsAreCompleteAndSayWhere) {
  const struct {
    const char* code;
    const char* message;
  } cases[] = {
      {"1;", "': it returned '1', must be a code reference"},
      {"undef", "': it returned undef, must be a code reference"},
      {"", "': it returned undef"},
      {"'some text'", "': it returned 'some text'"},
      {"{ a => 1 }", "must be a code reference"},
      {"bless [], 'Thing'", "': it returned an object of class Thing"},
      {"use strict;\n$nowhere = 1;",
       "Global symbol \"$nowhere\" requires explicit package name (did you forget to declare \"my "
       "$nowhere\"?) at "},
      {"\n\ndie 'at load'", "at load at "},
      {"\n\ndie 'at load'", "app.psgi line 3."},
      {"require No::Such::Module", "Can't locate No/Such/Module.pm in @INC"},
      {"exit 3", "': it called exit(3) while it was loaded"},
      {"eval { exit 3 }; sub {}", "it called exit(3) while it was loaded"},
      {"{ package LE; use overload '\"\"' => sub { 'object text' } } die bless {}, 'LE'",
       "object text"},
      {"sub {", "Missing right curly"},
      {"BEGIN { die 'begun' }", "BEGIN failed"},
  };

  Server server;
  for (const auto& test : cases) {
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    const std::string failure = server.load(test.code);
    EXPECT_THAT(failure, StartsWith("cannot load application '")) << test.code;
    EXPECT_THAT(failure, HasSubstr(test.message)) << test.code;
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << test.code;
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "") << test.code;
  }
  EXPECT_EQ(server.load("sub { [200, [], ['still works']] }"), "");
  EXPECT_EQ(server.play().body, "still works");
}

TEST(Load, MissingAndUnreadableFiles) {
  Server server;
  runtime::LoadOptions options;
  options.application_path = "/no/such.psgi";
  EXPECT_EQ(application().load(server.host, options).error().message,
            "cannot load application '/no/such.psgi': No such file or directory");
  options.application_path = server.scratch.path();
  EXPECT_EQ(application().load(server.host, options).error().message,
            "cannot load application '" + server.scratch.path() + "': it is a directory");
}

class Loader : public testing::Test {
 protected:
  std::string load(const std::string& text) {
    static int number = 0;
    name = "Loader" + std::to_string(++number);
    server.scratch.write("Some/" + name + ".pm", "package Some::" + name + ";\n" + text);
    return load_named("Some::" + name);
  }

  std::string load_named(const std::string& module) {
    runtime::LoadOptions options;
    options.application_path = "x.psgi";
    options.loader = module;
    options.include_directories = {server.scratch.path()};
    auto loaded = application().load(server.host, options);
    return loaded ? "" : loaded.error().message;
  }

  Server server;
  std::string name;
};

TEST_F(Loader, IsEvaluatedAndCalledOnceInListContext) {
  ASSERT_EQ(load("$main::evaluated++; sub { $main::called++; $main::wanted = wantarray; "
                 "$main::args = join ',', map { ref } @_;\n"
                 "({ a => 1 }, sub { [200, [], [$_[0]{a}]] }, 'ignored') }"),
            "");
  EXPECT_EQ(evaluate("\"$main::evaluated $main::called $main::wanted $main::args\""),
            "1 1 1 BPSGI::Context");
  EXPECT_EQ(server.play().body, "1");
}

TEST_F(Loader, WrongValuesAreNamed) {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {
      {"1;", "the last value of its file is '1', must be a code reference"},
      {"{}", "the last value of its file is a HASH reference, must be a code reference"},
      {"sub { }",
       "its code returned nothing as first of 0 values, must return a hash reference and a code "
       "reference"},
      {"sub { undef }", "its code returned undef as first of 1 values"},
      {"sub { ('x', sub {}) }", "its code returned 'x' as first of 2 values"},
      {"sub { {} }", "its code returned nothing as second of 1 values"},
      {"sub { ({}, {}) }", "its code returned a HASH reference as second of 2 values"},
      {"sub { ({ 'psgi.version' => 1 }, sub {}) }",
       "the key 'psgi.version'; keys that begin with 'psgi.' are the server's"},
      {"sub { die 'in loader' }", "in loader at "},
      {"sub { exit 5 }", "it called exit(5) while it was loaded"},
      {"die 'in file'", "in file at "},
  };

  for (const auto& test : cases) {
    EXPECT_THAT(load(test.text), HasSubstr(test.message)) << test.text;
  }
  EXPECT_THAT(load("1;"), StartsWith("cannot load loader 'Some::Loader"));
  EXPECT_THAT(
      load_named("No::Such::Loader"),
      HasSubstr("cannot load loader 'No::Such::Loader': Can't locate No/Such/Loader.pm in @INC"));
  EXPECT_THAT(load_named("../evil"), HasSubstr("cannot load loader '../evil': not a module name"));
}

TEST(Interpreter, DollarZeroChangesNeitherTitleNorName) {
  application();
  const std::string comm_before = comm();
  const std::string title_before = title();
  EXPECT_EQ(evaluate("$0 = 'something else'; $0"), "something else");
  EXPECT_EQ(comm(), comm_before);
  EXPECT_EQ(title(), title_before);
}

TEST(Interpreter, EnvironmentIsShared) {
  EXPECT_EQ(evaluate("$ENV{BLADE_TEST} = 'set'; 1"), "1");
  EXPECT_STREQ(::getenv("BLADE_TEST"), "set");
  EXPECT_EQ(evaluate("${^GLOBAL_PHASE}"), "RUN");
}

TEST(UnsafeHandles, NamesActiveDatabaseHandles) {
  Server server("sub { [200, [], []] }");
  ASSERT_EQ(server.load("use DBI; our $dbh = DBI->connect('dbi:Mem:', '', '', { RaiseError => 1 "
                        "}); sub { [200, [], []] }"),
            "");
  EXPECT_THAT(application().unsafe_handles(),
              testing::ElementsAre("DBI handle dbi:Mem: (no user)"));
  evaluate(
      "for (values %Plack::Sandbox::) { next unless ref \\$_ eq 'GLOB'; my $h = *{$_}{HASH} or "
      "next; ${ $h->{dbh} }->disconnect if $h->{dbh} }");
  EXPECT_THAT(application().unsafe_handles(), testing::IsEmpty());
}

}  // namespace
}  // namespace bladepsgi::perl
