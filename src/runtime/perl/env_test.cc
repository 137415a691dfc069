#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/perl/testing.h"

namespace bladepsgi::perl {
namespace {

using testing::HasSubstr;

// The application returns "key=value;" for all keys, references by type.
const char* const kDump = R"(
  sub { my $e = shift; [200, [], [map { my $v = $e->{$_}; "$_=" . (ref $v || (defined $v ? $v : 'undef')) . ";" } sort keys %$e]] })";

TEST(Env, HasTheContractsKeys) {
  Server server(kDump);
  const Played played = server.play();
  EXPECT_EQ(played.body,
            "PATH_INFO=/here;QUERY_STRING=a=b;REQUEST_METHOD=GET;REQUEST_URI=/"
            "here?a=b;SCRIPT_NAME=;SERVER_NAME=localhost;"
            "SERVER_PORT=80;SERVER_PROTOCOL=HTTP/"
            "1.1;psgi.errors=GLOB;psgi.input=BPSGI::Input;psgi.multiprocess=1;"
            "psgi.multithread=;psgi.nonblocking=;psgi.run_once=;psgi.streaming=1;psgi.url_scheme="
            "http;psgi.version=ARRAY;"
            "psgix.cleanup=1;psgix.cleanup.handlers=ARRAY;psgix.harakiri=1;psgix.input.buffered=1;"
            "psgix.logger=CODE;"
            "psgix.request_id=id-1;");
}

TEST(Env, ValuesAreFreshAndWritable) {
  Server server(R"(
    sub { my $e = shift; my $seen = join ',', "@{ $e->{'psgi.version'} }", map { $e->{$_} } grep { !ref $e->{$_} } sort keys %$e; $seen .= join ',', map { ref } @$e{qw(psgi.errors psgi.input psgix.logger psgix.cleanup.handlers)};
          $_ .= 'x' for grep { !ref } values %$e; push @{ $e->{'psgi.version'} }, 9; $e->{new} = 1; $_ = 'gone' for @$e{qw(psgi.errors psgi.input psgix.logger psgix.cleanup.handlers)};
          $_[0] = undef; [200, [], [$seen]] })");
  const std::string first = server.play().body;
  EXPECT_THAT(first, testing::StartsWith("1 1,/here,"));
  EXPECT_EQ(server.play().body, first);
}

TEST(Env, KeepsEveryByteOfNamesAndValues) {
  Server server(
      "sub { my $e = shift; [200, [], [map { sprintf '%vd=%vd;', $_, $e->{$_} } grep { /^[\\xe9X]/ "
      "} sort keys %$e]] }");
  Script script;
  script.parameters = {{"REQUEST_METHOD", "GET"},
                       {std::string("X\0Y", 3), std::string("a\0b", 3)},
                       {"\xe9", "\xff"},
                       {std::string(200, 'X'), ""}};
  std::string long_name = "88";
  for (int count = 1; count < 200; ++count) {
    long_name += ".88";
  }
  EXPECT_EQ(server.play(script).body, "88.0.89=97.0.98;" + long_name + "=;233=255;");
}

TEST(Env, NamesThatLookAlikeStayApart) {
  Server server(
      "sub { my $e = shift; [200, [], [join ',', map { \"$_=$e->{$_}\" } sort grep { /^HTTP_X/ } "
      "keys %$e]] }");
  Script script;
  std::string expected;
  for (int index = 1000; index < 2500; ++index) {
    const std::string name = "HTTP_X_" + std::to_string(index) + "_AND_SOMETHING_LONG";
    script.parameters.emplace_back(name, std::to_string(index));
    expected += (expected.empty() ? "" : ",") + name + "=" + std::to_string(index);
  }
  EXPECT_EQ(server.play(script).body, expected);
  EXPECT_EQ(server.play(script).body, expected);
}

TEST(Env, UrlSchemeFollowsHttps) {
  Server server("sub { [200, [], [$_[0]{'psgi.url_scheme'}]] }");
  for (const auto& [value, scheme] :
       {std::pair("on", "https"), std::pair("ON", "https"), std::pair("1", "https"),
        std::pair("off", "http"), std::pair("", "http"), std::pair("0", "http")}) {
    Script script;
    script.parameters.emplace_back("HTTPS", value);
    EXPECT_EQ(server.play(script).body, scheme) << value;
  }
}

TEST(Env, LoaderValuesAreCopiedAndMayExtend) {
  Server server;
  server.scratch.write("Own/Loader.pm", R"(
    package Own::Loader;
    our %extra = ('app.config' => 'shared', 'psgix.session' => { a => 1 }, 'REQUEST_METHOD' => 'PUT', HTTPS => 'on',
                  'psgix.logger' => sub { 'mine' }, 'psgix.cleanup' => 'no');
    sub { my $context = shift;
      return (\%extra, sub { my $e = shift; my $r = join ',', $e->{'app.config'}, $e->{'psgix.session'}{a}, $e->{REQUEST_METHOD},
                             $e->{'psgi.url_scheme'}, $e->{'psgix.logger'}->(), $e->{'psgix.cleanup'};
                             $e->{'app.config'} .= 'x'; [200, [], [$r]] }) };)");
  runtime::LoadOptions options;
  options.application_path = "app.psgi";
  options.loader = "Own::Loader";
  options.include_directories = {server.scratch.path()};
  auto loaded = application().load(server.host, options);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(server.play().body, "shared,1,PUT,https,mine,1");
  EXPECT_EQ(server.play().body, "shared,1,PUT,https,mine,1");
}

TEST(Env, ErrorsGoToTheProcessesStandardError) {
  Server server(
      "sub { my $e = $_[0]{'psgi.errors'}; [200, [], [fileno($e), $e == \\*STDERR ? 'same' : "
      "'other']] }");
  EXPECT_EQ(server.play().body, "2same");
}

TEST(Env, ErrorsGoToTheWebServerWhenAsked) {
  Server server(R"(
    use feature 'say';
    sub { my $e = $_[0]{'psgi.errors'}; print {$e} 'a', 'b'; printf $e '%03d', 7; say $e 'line'; $e->print("m\x{2603}");
          syswrite $e, 'xyz', 1, 1; local ($,, $\) = ('-', "!"); print $e 1, 2; $e->autoflush(1); binmode $e;
          [200, [], [ref $e]] })",
                runtime::ErrorStream::Protocol);
  const Played played = server.play();
  EXPECT_EQ(played.error_text, "ab007line\nm\xe2\x98\x83y1-2!");
  EXPECT_EQ(played.body, "BPSGI::Errors");
}

TEST(Env, KeptErrorStreamsGoToStandardError) {
  Server server(
      "sub { my $e = $_[0]{'psgi.errors'}; print $main::kept_errors 'late' if $main::kept_errors; "
      "$main::kept_errors = $e; [200, [], []] }",
      runtime::ErrorStream::Protocol);
  server.play();
  testing::internal::CaptureStderr();
  const Played second = server.play();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "late");
  EXPECT_EQ(second.error_text, "");
}

TEST(Env, LoggerWritesToTheLogWithTheRequestsId) {
  Server server(R"(
    sub { my $l = $_[0]{'psgix.logger'}; $l->({ level => $_, message => "m-$_\n" }) for qw(debug info warn error fatal);
          $l->({ level => 'info', message => "\x{e9}" }); [200, [], [eval { $l->('x') } ? 1 : $@]] })");
  const Played played = server.play();
  EXPECT_THAT(server.host.lines, testing::ElementsAre("LOG application debug [id-1]: m-debug",
                                                      "LOG application info [id-1]: m-info",
                                                      "WARNING application warn [id-1]: m-warn",
                                                      "ERROR application error [id-1]: m-error",
                                                      "FATAL application fatal [id-1]: m-fatal",
                                                      "LOG application info [id-1]: \xc3\xa9"));
  EXPECT_THAT(played.body, HasSubstr("psgix.logger takes one hash reference"));
}

TEST(Env, IsFreedWithItsRequest) {
  Server server(R"(
    package Guard; sub DESTROY { $main::freed++ }
    package main; our $freed = 0; sub { $_[0]{guard} = bless {}, 'Guard'; [200, [], [$main::freed]] })");
  server.play();
  EXPECT_EQ(evaluate("$main::freed"), "1");
  EXPECT_EQ(server.play().body, "1");
}

}  // namespace
}  // namespace bladepsgi::perl
