#include "config/config.h"

#include <chrono>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "config/options.h"

namespace bladepsgi::config {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using Line = std::vector<std::string>;

Parsed parse_line(const Line& words, const char* name = "bladepsgi") {
  std::vector<const char*> argv{name};
  for (const std::string& word : words)
    argv.push_back(word.c_str());
  return parse(static_cast<int>(argv.size()), argv.data());
}

const Line kFour{"app.psgi", "4", "/run/app.sock", "/run/stats.sock"};

Line with_four(Line options) {
  options.insert(options.end(), kFour.begin(), kFour.end());
  return options;
}

Config config_of(const Line& words, const char* name = "bladepsgi") {
  Parsed parsed = parse_line(words, name);
  if (const auto* error = std::get_if<UsageError>(&parsed)) {
    ADD_FAILURE() << error->message;
    return {};
  }
  if (!std::holds_alternative<Config>(parsed)) {
    ADD_FAILURE() << "information instead of a configuration";
    return {};
  }
  return std::get<Config>(parsed);
}

std::string error_of(const Line& words, const char* name = "bladepsgi") {
  const Parsed parsed = parse_line(words, name);
  const auto* error = std::get_if<UsageError>(&parsed);
  return error == nullptr ? "(no error)" : error->message;
}

std::string information_of(const Line& words) {
  const Parsed parsed = parse_line(words);
  const auto* information = std::get_if<Information>(&parsed);
  return information == nullptr ? "(no information)" : information->text;
}

TEST(Parse, TakesTheFourArgumentsAsGiven) {
  const Config config = config_of({"./a//b.psgi", "65536", "x/../f.sock", "s.sock"});
  EXPECT_EQ(config.application_path, "./a//b.psgi");
  EXPECT_EQ(config.workers, 65536U);
  EXPECT_EQ(config.listen.at(0).address.path, "x/../f.sock");
  EXPECT_EQ(config.stats_socket_path, "s.sock");
}

TEST(Parse, HasTheDocumentedDefaults) {
  const Config config = config_of(kFour);
  EXPECT_EQ(config.loader, "");
  EXPECT_EQ(config.proctitle_prefix, "Blade");
  EXPECT_EQ(config.mount, std::nullopt);
  EXPECT_EQ(config.path_info, PathInfo::Auto);
  EXPECT_EQ(config.load_timeout, seconds{300});
  EXPECT_EQ(config.user, "");
  EXPECT_EQ(config.group, "");
  EXPECT_EQ(config.on_crash, OnCrash::Restart);
  EXPECT_EQ(config.shared_memory, 64 * kMebi);
  EXPECT_EQ(config.socket_mode, 0660U);
  EXPECT_EQ(config.socket_owner, "");
  EXPECT_EQ(config.socket_group, "");
  EXPECT_EQ(config.backlog, 1024U);
  EXPECT_EQ(config.head_timeout, seconds{10});
  EXPECT_EQ(config.body_timeout, seconds{60});
  EXPECT_EQ(config.send_timeout, seconds{60});
  EXPECT_EQ(config.idle_timeout, seconds{75});
  EXPECT_EQ(config.max_params_bytes, kMebi);
  EXPECT_EQ(config.max_params, 4096U);
  EXPECT_EQ(config.max_body, 0U);
  EXPECT_EQ(config.drain_limit, 64 * kMebi);
  EXPECT_EQ(config.input, Input::Auto);
  EXPECT_EQ(config.input_memory, 64 * kKibi);
  EXPECT_EQ(config.spool_directory, "");
  EXPECT_EQ(config.errors, Errors::Log);
  EXPECT_FALSE(config.raw_output);
}

TEST(Parse, TakesEveryFormOfAnOption) {
  const std::vector<Line> lines{
      {"--loader=My::App", "app.psgi", "4", "f", "s"},
      {"--loader", "My::App", "app.psgi", "4", "f", "s"},
      {"-l", "My::App", "app.psgi", "4", "f", "s"},
      {"-lMy::App", "app.psgi", "4", "f", "s"},
      {"app.psgi", "4", "f", "s", "--loader=My::App"},
      {"app.psgi", "--loader", "My::App", "4", "f", "s"},
      {"app.psgi", "4", "f", "-l", "My::App", "--", "s"},
      {"--loader=Other", "app.psgi", "4", "f", "s", "-l", "My::App"},
      {"--loader=", "-l", "My::App", "app.psgi", "4", "f", "s"},
      {"--loade=My::App", "app.psgi", "4", "f", "s"},
      {"--lo", "My::App", "app.psgi", "4", "f", "s"},
      {"--l=My::App", "app.psgi", "4", "f", "s"},
  };
  for (const Line& line : lines) {
    SCOPED_TRACE(testing::PrintToString(line));
    const Config config = config_of(line);
    EXPECT_EQ(config.loader, "My::App");
    EXPECT_EQ(config.application_path, "app.psgi");
    EXPECT_EQ(config.stats_socket_path, "s");
  }
}

TEST(Parse, DoesNotInterpretValues) {
  for (const std::string value :
       {"", "-x", "--help", "--", "{}", "[a,b]", "++", "a=b", " a ", "%%", "\"quoted\"", "\xff"}) {
    SCOPED_TRACE(value);
    EXPECT_EQ(config_of(with_four({"-p", value})).proctitle_prefix, value);
    EXPECT_EQ(config_of(with_four({"--proctitle-prefix", value})).proctitle_prefix, value);
    EXPECT_EQ(config_of(with_four({"--proctitle-prefix=" + value})).proctitle_prefix, value);
  }
}

TEST(Parse, TwoDashesEndTheOptions) {
  const Config config = config_of({"-p", "X", "--", "--help", "4", "-v", "--"});
  EXPECT_EQ(config.application_path, "--help");
  EXPECT_EQ(config.listen.at(0).address.path, "-v");
  EXPECT_EQ(config.stats_socket_path, "--");
  EXPECT_EQ(config_of({"-", "4", "++", "{}"}).stats_socket_path, "{}");
}

TEST(Parse, NoWorkersAtAllIsSomethingElseThanNothingSaid) {
  EXPECT_EQ(config_of(with_four({})).min_workers, std::nullopt);
  EXPECT_EQ(config_of(with_four({"--min-workers=0"})).min_workers, 0U);
  EXPECT_NE(config_text(config_of(with_four({}))).find("\n# --min-workers="), std::string::npos);
  EXPECT_NE(config_text(config_of(with_four({"--min-workers=0"}))).find("\n--min-workers=0\n"),
            std::string::npos);
}

TEST(Parse, StoresEveryOption) {
  const Config config = config_of(with_four(
      {"--loader=L",          "--mount=/app/",         "--path-info=plack",  "--load-timeout=1h",
       "--proctitle-prefix=", "--user=www-data",       "--group=web",        "--on-crash=stop",
       "--shared-memory=1g",  "--socket-mode=600",     "--socket-owner=o",   "--socket-group=g",
       "--backlog=65535",     "--head-timeout=500ms",  "--body-timeout=2m",  "--send-timeout=90",
       "--idle-timeout=1s",   "--max-params-bytes=8K", "--max-params=16",    "--max-body=2G",
       "--drain-limit=0",     "--input=spool",         "--input-memory=100", "--spool-directory=/d",
       "--errors=fastcgi",    "--raw-output"}));
  EXPECT_EQ(config.loader, "L");
  EXPECT_EQ(config.mount, "/app");
  EXPECT_EQ(config.path_info, PathInfo::Plack);
  EXPECT_EQ(config.load_timeout, std::chrono::hours{1});
  EXPECT_EQ(config.proctitle_prefix, "");
  EXPECT_EQ(config.user, "www-data");
  EXPECT_EQ(config.group, "web");
  EXPECT_EQ(config.on_crash, OnCrash::Stop);
  EXPECT_EQ(config.shared_memory, kGibi);
  EXPECT_EQ(config.socket_mode, 0600U);
  EXPECT_EQ(config.socket_owner, "o");
  EXPECT_EQ(config.socket_group, "g");
  EXPECT_EQ(config.backlog, 65535U);
  EXPECT_EQ(config.head_timeout, milliseconds{500});
  EXPECT_EQ(config.body_timeout, seconds{120});
  EXPECT_EQ(config.send_timeout, seconds{90});
  EXPECT_EQ(config.idle_timeout, seconds{1});
  EXPECT_EQ(config.max_params_bytes, 8 * kKibi);
  EXPECT_EQ(config.max_params, 16U);
  EXPECT_EQ(config.max_body, 2 * kGibi);
  EXPECT_EQ(config.drain_limit, 0U);
  EXPECT_EQ(config.input, Input::Spool);
  EXPECT_EQ(config.input_memory, 100U);
  EXPECT_EQ(config.spool_directory, "/d");
  EXPECT_EQ(config.errors, Errors::FastCgi);
  EXPECT_TRUE(config.raw_output);
}

TEST(Parse, TakesEveryWordOfAChoice) {
  EXPECT_EQ(config_of(with_four({"--path-info=auto"})).path_info, PathInfo::Auto);
  EXPECT_EQ(config_of(with_four({"--path-info=server"})).path_info, PathInfo::Server);
  EXPECT_EQ(config_of(with_four({"--input=stream"})).input, Input::Stream);
  EXPECT_EQ(config_of(with_four({"--input=auto"})).input, Input::Auto);
  EXPECT_EQ(config_of(with_four({"--on-crash=restart"})).on_crash, OnCrash::Restart);
  EXPECT_EQ(config_of(with_four({"--errors=log"})).errors, Errors::Log);
}

TEST(Parse, TakesTheRootAsEmptyMount) {
  EXPECT_EQ(config_of(with_four({"--mount=/"})).mount, "");
  EXPECT_EQ(config_of(with_four({"--mount=//"})).mount, "");
  EXPECT_EQ(config_of(with_four({"--mount", "/a/b"})).mount, "/a/b");
}

TEST(Parse, PingAsksAndNeedsNoApplication) {
  for (const Line& line : std::vector<Line>{{"--ping=/run/h.sock"}, {"--ping", "/run/h.sock"}}) {
    const Config config = config_of(line);
    ASSERT_TRUE(config.ping);
    EXPECT_EQ(config.ping->path, "/run/h.sock");
  }
  EXPECT_EQ(config_of({"--ping=name:80"}, "bladepsgi-fcgi").ping->host, "name");
  EXPECT_FALSE(config_of(kFour).ping);
}

TEST(Parse, PingStandsAlone) {
  EXPECT_THAT(error_of({"--ping=/run/h.sock", "--workers=2"}), HasSubstr("leave out '--workers'"));
  EXPECT_THAT(error_of({"-I", "--ping", "--ping=/run/h.sock"}), HasSubstr("out '--include'"));
  EXPECT_THAT(error_of({"--print-config", "--ping=/h"}), HasSubstr("leave out '--print-config'"));
  EXPECT_THAT(error_of({"--ping=/run/h.sock", "app.psgi"}), HasSubstr("leave out 'app.psgi'"));
  EXPECT_THAT(error_of(with_four({"--ping=/run/h.sock"})), HasSubstr("leave out 'app.psgi'"));
}

TEST(Parse, PingTakesAnAddressThatCanBeConnectedTo) {
  for (const char* address : {"fd:3", ":0", "name:0"})
    EXPECT_THAT(error_of({"--ping", address}), HasSubstr("nobody can connect to"));
  EXPECT_THAT(error_of({"--ping", "name:x"}), HasSubstr("a port is a number"));
  EXPECT_THAT(error_of({"--ping="}), HasSubstr("the address is empty"));
}

TEST(Parse, OnlyTheLastOfARepeatedOptionCounts) {
  EXPECT_EQ(config_of(with_four({"--backlog=oops", "--backlog=7"})).backlog, 7U);
  EXPECT_THAT(error_of(with_four({"--backlog=7", "--backlog=oops"})), HasSubstr("--backlog"));
  EXPECT_TRUE(config_of(with_four({"--raw-output", "--raw-output"})).raw_output);
}

struct BadLine {
  Line words;
  std::vector<std::string> mentions;
};

std::ostream& operator<<(std::ostream& out, const BadLine& line) {
  return out << testing::PrintToString(line.words);
}

class RefusedLine : public testing::TestWithParam<BadLine> {};

TEST_P(RefusedLine, SaysWhatIsWrong) {
  const std::string message = error_of(GetParam().words);
  for (const std::string& part : GetParam().mentions)
    EXPECT_THAT(message, HasSubstr(part));
  EXPECT_THAT(message, AllOf(Not(HasSubstr("\n")), Not(HasSubstr("CLI11"))));
}

INSTANTIATE_TEST_SUITE_P(
    Options,
    RefusedLine,
    testing::Values(
        BadLine{with_four({"--frobnicate"}), {"unknown option '--frobnicate'"}},
        BadLine{with_four({"--lodaer=X"}), {"unknown option '--lodaer'", "'--loader'"}},
        BadLine{with_four({"--soket-mode=600"}), {"'--soket-mode'", "'--socket-mode'"}},
        BadLine{with_four({"--head-timeut=3"}), {"'--head-timeout'"}},
        BadLine{with_four({"--socket=600"}),
                {"ambiguous", "'--socket-mode', '--socket-owner' or '--socket-group'"}},
        BadLine{with_four({"--max=1"}), {"'--max-params-bytes', '--max-params' or '--max-body'"}},
        BadLine{with_four({"--=x"}), {"ambiguous"}},
        BadLine{with_four({"--line\nbreak"}), {"'--line\\x0abreak'"}},
        BadLine{with_four({"-z"}), {"unknown option '-z'"}},
        BadLine{with_four({"-5"}), {"unknown option '-5'"}},
        BadLine{with_four({"--help=yes"}), {"'--help'", "takes no value"}},
        BadLine{with_four({"--raw-output=no"}), {"'--raw-output'", "takes no value"}},
        BadLine{{"app.psgi", "4", "f", "s", "--loader"}, {"'--loader'", "MODULE"}},
        BadLine{{"app.psgi", "4", "f", "s", "-p"}, {"'--proctitle-prefix'", "PREFIX"}}));

INSTANTIATE_TEST_SUITE_P(
    Values,
    RefusedLine,
    testing::Values(
        BadLine{with_four({"--loader="}), {"'--loader'", "empty"}},
        BadLine{with_four({"--user="}), {"'--user'", "empty"}},
        BadLine{with_four({"--min-workers=-1"}), {"'--min-workers'", "'-1'", "0 to 65536"}},
        BadLine{with_four({"--mount=app"}), {"'--mount'", "'app'", "begins with /"}},
        BadLine{with_four({"--mount=/a?b"}), {"'--mount'", "'/a?b'"}},
        BadLine{with_four({"--mount="}), {"'--mount'", "begins with /"}},
        BadLine{with_four({"--path-info=apache"}),
                {"'--path-info'", "'apache'", "auto, plack or server"}},
        BadLine{with_four({"--on-crash=Stop"}), {"'--on-crash'", "'Stop'", "restart or stop"}},
        BadLine{with_four({"--input="}), {"'--input'", "auto, stream or spool"}},
        BadLine{with_four({"--errors=x"}), {"'--errors'", "log or fastcgi"}},
        BadLine{with_four({"--socket-mode=0668"}), {"'--socket-mode'", "'0668'", "octal"}},
        BadLine{with_four({"--socket-mode=1777"}), {"0 to 0777"}},
        BadLine{with_four({"--socket-mode=777777777777777777777"}), {"0 to 0777"}},
        BadLine{with_four({"--backlog=0"}), {"'--backlog'", "'0'", "1 to 65535"}},
        BadLine{with_four({"--backlog=65536"}), {"1 to 65535"}},
        BadLine{with_four({"--backlog=1K"}), {"1 to 65535"}},
        BadLine{with_four({"--max-params=15"}), {"16 to 1000000"}},
        BadLine{with_four({"--head-timeout=0"}), {"'--head-timeout'", "'0'", "1ms to 24h"}},
        BadLine{with_four({"--head-timeout=10x"}), {"'10x'", "ms, s, m or h"}},
        BadLine{with_four({"--head-timeout=s"}), {"'s'", "1ms to 24h"}},
        BadLine{with_four({"--head-timeout=-1"}), {"'-1'"}},
        BadLine{with_four({"--head-timeout=1.5"}), {"'1.5'", "whole number"}},
        BadLine{with_four({"--head-timeout=10 s"}), {"'10 s'"}},
        BadLine{with_four({"--load-timeout=86401"}), {"'--load-timeout'", "1ms to 24h"}},
        BadLine{with_four({"--load-timeout=18446744073709551615h"}), {"1ms to 24h"}},
        BadLine{with_four({"--max-body=18446744073709551616"}), {"'--max-body'"}},
        BadLine{with_four({"--max-body=18446744073709551615G"}), {"'--max-body'"}},
        BadLine{with_four({"--max-body=10MB"}), {"'10MB'", "K, M or G"}},
        BadLine{with_four({"--shared-memory=4K"}), {"'--shared-memory'", "1M to 1024G"}},
        BadLine{with_four({"--backlog=1\x1b[m"}), {"'1\\x1b[m'"}}));

INSTANTIATE_TEST_SUITE_P(
    Arguments,
    RefusedLine,
    testing::Values(
        BadLine{{}, {"expected an application alone or 4 arguments, got none"}},
        BadLine{{"app.psgi", "4"},
                {"got 2: 'app.psgi' '4'", "missing FASTCGI_SOCKET_PATH and STATS_SOCKET_PATH"}},
        BadLine{{"app.psgi", "4", "f"}, {"got 3: 'app.psgi' '4' 'f'; missing STATS_SOCKET_PATH"}},
        BadLine{{"app.psgi", "4", "f", "s", "more"}, {"got 5", "'more'"}},
        BadLine{{"", "4", "f", "s"}, {"APPLICATION_PATH is empty"}},
        BadLine{{"a", "0", "f", "s"}, {"NUM_WORKERS", "'0'", "1 to 65536"}},
        BadLine{{"a", "65537", "f", "s"}, {"NUM_WORKERS", "'65537'", "1 to 65536"}},
        BadLine{{"a", "4294967297", "f", "s"}, {"NUM_WORKERS", "1 to 65536"}},
        BadLine{{"a", "+4", "f", "s"}, {"NUM_WORKERS", "'+4'"}},
        BadLine{{"a", "4x", "f", "s"}, {"NUM_WORKERS", "'4x'"}},
        BadLine{{"a", " 4", "f", "s"}, {"NUM_WORKERS", "' 4'"}},
        BadLine{{"a", "", "f", "s"}, {"NUM_WORKERS", "''"}},
        BadLine{{"a", "4", "", "s"}, {"FASTCGI_SOCKET_PATH is empty"}},
        BadLine{{"a", "4", "f", ""}, {"STATS_SOCKET_PATH is empty"}},
        BadLine{{"a", "4", "same", "same"}, {"the same path 'same'"}},
        BadLine{{"a", "4", "/" + std::string(107, 'f'), "s"},
                {"FASTCGI_SOCKET_PATH '/" + std::string(107, 'f') + "'", "108 bytes", "107"}},
        BadLine{{"a", "4", "f", std::string(108, 's')},
                {"STATS_SOCKET_PATH '" + std::string(108, 's') + "'", "107 at most"}}));

TEST(Parse, TakesTheLongestSocketPath) {
  const Config config = config_of({"a", "1", std::string(107, 'f'), std::string(107, 's')});
  EXPECT_EQ(config.listen.at(0).address.path.size(), 107U);
}

TEST(Parse, ShowsHelp) {
  for (const Line& line : {Line{"--help"}, Line{"-h"}, Line{"-?"}, Line{"--h"}, Line{"--he"},
                           Line{"app.psgi", "--help"}, Line{"--bogus", "-h"},
                           Line{"--backlog=x", "--help"}, Line{"-hv"}}) {
    SCOPED_TRACE(testing::PrintToString(line));
    EXPECT_THAT(information_of(line),
                StartsWith("Usage: bladepsgi [OPTION]... APPLICATION_PATH\n"
                           "       bladepsgi [OPTION]... APPLICATION_PATH NUM_"));
  }
}

TEST(Parse, ShowsTheVersion) {
  for (const Line& line : {Line{"--version"}, Line{"-v"}, Line{"--ver"}, with_four({"-v"})}) {
    EXPECT_EQ(information_of(line), "bladepsgi " + std::string(version()) + "\n");
  }
}

TEST(Parse, DoesNotTakeAValueForAQuestion) {
  EXPECT_EQ(config_of(with_four({"-l", "--help"})).loader, "--help");
}

TEST(Parse, LooksAtNothingWithoutAProgramName) {
  EXPECT_TRUE(std::holds_alternative<UsageError>(parse(0, nullptr)));
}

TEST(UsageError, ShowsMessageUsageAndHelp) {
  EXPECT_EQ(UsageError{"it is wrong"}.text(),
            "bladepsgi: it is wrong\n"
            "Usage: bladepsgi [OPTION]... APPLICATION_PATH\n"
            "       bladepsgi [OPTION]... APPLICATION_PATH NUM_WORKERS FASTCGI_SOCKET_PATH "
            "STATS_SOCKET_PATH\n"
            "Try 'bladepsgi --help'.\n");
  EXPECT_EQ((UsageError{"it is wrong", Program::BladepsgiFcgi}.text()),
            "bladepsgi-fcgi: it is wrong\n"
            "Usage: bladepsgi-fcgi [OPTION]... APPLICATION_PATH\n"
            "Try 'bladepsgi-fcgi --help'.\n");
}

// "http :8080, fastcgi /run/app.sock"
std::string listeners_of(const Config& config) {
  std::string text;
  for (const Listen& one : config.listen) {
    text += text.empty() ? "" : ", ";
    text += one.protocol == Protocol::Http ? "http " : "fastcgi ";
    text += to_text(one.address);
  }
  return text;
}

TEST(ApplicationForm, NeedsNothingButAnApplication) {
  const Config config = config_of({"app.psgi"});
  EXPECT_EQ(config.form, Form::Application);
  EXPECT_EQ(config.application_path, "app.psgi");
  EXPECT_EQ(config.workers, 0U);  // the machine decides
  EXPECT_EQ(config.stats_socket_path, "");
  EXPECT_TRUE(config.listen.empty());
  ASSERT_TRUE(config.fallback);
  EXPECT_EQ(to_text(config.fallback->address), "127.0.0.1:5000");
  EXPECT_EQ(config.fallback->protocol, Protocol::Http);
  EXPECT_EQ(config.inherited_protocol, Protocol::Http);
  EXPECT_THAT(config.notes, testing::IsEmpty());
}

TEST(ApplicationForm, TakesTheApplicationByOption) {
  EXPECT_EQ(config_of({"-a", "x.psgi"}).application_path, "x.psgi");
  EXPECT_EQ(config_of({"--app=x.psgi"}).application_path, "x.psgi");
  const Config config = config_of({"-e", "sub { -1 }"});
  EXPECT_EQ(config.application_code, "sub { -1 }");
  EXPECT_EQ(config.application_path, "");
  EXPECT_EQ(config_of({"-e", "enable 'X'", "app.psgi"}).application_path, "app.psgi");
  EXPECT_EQ(config_of({"-eenable 'X'", "-aapp.psgi"}).application_code, "enable 'X'");
}

TEST(ApplicationForm, UnderstandsPlackup) {
  const Config config = config_of({"-I", "lib", "-Iother", "-MFoo=bar,baz", "-M-strict", "-E",
                                   "staging", "--path", "/shop", "--workers=7", "--stats", "s.sock",
                                   "--no-default-middleware", "-s", "Starman", "app.psgi"});
  EXPECT_THAT(config.include_directories, testing::ElementsAre("lib", "other"));
  EXPECT_THAT(config.modules, testing::ElementsAre("Foo=bar,baz", "-strict"));
  EXPECT_EQ(config.plack_env, "staging");
  EXPECT_EQ(config.mount, "/shop");
  EXPECT_EQ(config.workers, 7U);
  EXPECT_EQ(config.stats_socket_path, "s.sock");
  EXPECT_THAT(config.notes, testing::IsEmpty());
}

TEST(ApplicationForm, SaysWhatItLeavesOut) {
  EXPECT_THAT(config_of({"-E", "development", "a"}).notes,
              testing::ElementsAre(HasSubstr("no middleware")));
  EXPECT_THAT(config_of({"-s", "Twiggy", "a"}).notes,
              testing::ElementsAre(HasSubstr("--server=Twiggy")));
  EXPECT_EQ(config_of({"-L", "Plack::Loader", "a"}).loader, "");
}

TEST(ApplicationForm, ListensWhereItIsTold) {
  struct Case {
    Line options;
    const char* listeners;
  };

  for (const Case& one :
       {Case{{"-p", "8080"}, "http 127.0.0.1:8080"}, Case{{"--port=0"}, "http 127.0.0.1:0"},
        Case{{"-o", "0.0.0.0"}, "http 0.0.0.0:5000"}, Case{{"-o", "*", "-p", "80"}, "http *:80"},
        Case{{"--host", "::1", "-p80"}, "http [::1]:80"}, Case{{"--host=[::1]"}, "http [::1]:5000"},
        Case{{"-l", ":8080"}, "http :8080"},
        Case{{"-l", "8080", "--listen", "/run/a"}, "http :8080, fastcgi /run/a"},
        Case{{"--listen", "fd:3"}, "fastcgi fd:3"}, Case{{"-S", "/run/a"}, "fastcgi /run/a"},
        Case{{"--socket=/run/a"}, "fastcgi /run/a"}, Case{{"--http", "/run/a"}, "http /run/a"},
        Case{{"--fastcgi", ":9000"}, "fastcgi :9000"},
        Case{{"-l:1", "-p2", "--http=:3"}, "http :3, http :1, http 127.0.0.1:2"},
        Case{{"-s", "FCGI", "-l", ":9000"}, "fastcgi :9000"},
        Case{{"-p", "9000", "--server=FCGI"}, "fastcgi 127.0.0.1:9000"},
        Case{{"-s", "FCGI", "--http", ":80"}, "http :80"}}) {
    SCOPED_TRACE(testing::PrintToString(one.options));
    Line line = one.options;
    line.emplace_back("app.psgi");
    const Config config = config_of(line);
    EXPECT_EQ(listeners_of(config), one.listeners);
  }
  const Config config = config_of({"-s", "FCGI", "app.psgi"});
  EXPECT_EQ(config.fallback->protocol, Protocol::FastCgi);
  EXPECT_EQ(config.inherited_protocol, Protocol::FastCgi);
}

TEST(ClassicForm, ListensForFastCgi) {
  const Config config =
      config_of(with_four({"--listen=:9000", "--fastcgi=:1", "--http=:2", "--listen", "/x"}));
  EXPECT_EQ(listeners_of(config),
            "fastcgi /run/app.sock, fastcgi :1, http :2, fastcgi :9000, fastcgi /x");
  EXPECT_FALSE(config.fallback);
}

TEST(ClassicForm, TakesLongNamesThatMeanNothingElse) {
  const Config config = config_of(with_four({"--include=lib", "--module=Foo", "--env=test"}));
  EXPECT_THAT(config.include_directories, testing::ElementsAre("lib"));
  EXPECT_THAT(config.modules, testing::ElementsAre("Foo"));
  EXPECT_EQ(config.plack_env, "test");
}

INSTANTIATE_TEST_SUITE_P(
    Forms,
    RefusedLine,
    testing::Values(
        BadLine{with_four({"-I", "lib"}),
                {"unknown option '-I' with four arguments", "with an application alone"}},
        BadLine{with_four({"-o", "h"}), {"unknown option '-o'"}},
        BadLine{with_four({"--host=h"}), {"unknown option '--host' with four arguments"}},
        BadLine{with_four({"--port=80"}), {"unknown option '--port' with four arguments"}},
        BadLine{with_four({"--workers=3"}), {"'--workers'", "four arguments", "NUM_WORKERS"}},
        BadLine{with_four({"--stats=s"}), {"'--stats'", "STATS_SOCKET_PATH"}},
        BadLine{with_four({"--app=s"}), {"'--app'", "APPLICATION_PATH"}},
        BadLine{{"-n", "4", "app.psgi"}, {"unknown option '-n'", "bladepsgi-fcgi"}},
        BadLine{{"-p", "http", "app.psgi"}, {"'--port'", "'http'", "0 to 65535"}},
        BadLine{{"-p", "65536", "app.psgi"}, {"'--port'", "0 to 65535"}},
        BadLine{{"app.psgi", "-p"}, {"'--port'", "needs a value"}},
        BadLine{{"--host=/run/x", "app.psgi"}, {"'--host'", "--listen"}},
        BadLine{{"--host=a b", "app.psgi"}, {"'--host'", "blanks"}},
        BadLine{{"--workers=0", "app.psgi"}, {"'--workers'", "1 to 65536"}},
        BadLine{{"--stats=" + std::string(108, 's'), "app.psgi"}, {"'--stats'", "107 at most"}},
        BadLine{{"--stats=:9", "app.psgi"}, {"'--stats'", "TCP"}},
        BadLine{{"-a", "x", "y"}, {"two applications", "'x'", "'y'"}},
        BadLine{{""}, {"APPLICATION_PATH is empty"}},
        BadLine{{"-e", "sub {}", "--loader=L"}, {"'--eval'", "'--loader'"}},
        BadLine{{"-L", "Shotgun", "app.psgi"}, {"Shotgun", "plackup"}},
        BadLine{{"--loader=Restarter", "app.psgi"}, {"Restarter", "restart the server"}},
        BadLine{with_four({"-l", "Plack::Loader::Delayed"}), {"Delayed", "--no-preload"}},
        BadLine{{"-r", "app.psgi"}, {"'--reload'", "restart the server"}},
        BadLine{{"-R", "lib,t", "app.psgi"}, {"'--Reload'", "restart the server"}},
        BadLine{{"--prot=80", "app.psgi"}, {"'--prot'", "'--port'"}},
        BadLine{{"--wokers=80", "app.psgi"}, {"'--workers'"}}));

TEST(ProgramOf, LooksAtTheLastComponent) {
  for (const char* path : {"bladepsgi-fcgi", "/usr/bin/bladepsgi-fcgi", "./x/bladepsgi-fcgi"})
    EXPECT_EQ(program_of(path), Program::BladepsgiFcgi) << path;
  for (const char* path : {"", "bladepsgi", "/bladepsgi-fcgi/bladepsgi", "bladepsgi-fcgi2", "/"})
    EXPECT_EQ(program_of(path), Program::Bladepsgi) << path;
}

constexpr const char* kScript = "/usr/bin/bladepsgi-fcgi";

Parsed parse_script(Line words, const Environment& environment) {
  words.emplace_back("app.psgi");
  std::vector<const char*> argv{kScript};
  for (const std::string& word : words)
    argv.push_back(word.c_str());
  return parse(static_cast<int>(argv.size()), argv.data(), environment);
}

TEST(ScriptForm, UnderstandsCatalystsScripts) {
  const Config config =
      config_of({"-l", "/run/a.sock", "-n", "5", "-p", "/run/a.pid", "-d", "-e", "-M",
                 "FCGI::ProcManager", "--proc_title", "shop", "-b", "7", "app.psgi"},
                kScript);
  EXPECT_EQ(config.form, Form::FcgiScript);
  EXPECT_EQ(listeners_of(config), "fastcgi /run/a.sock");
  EXPECT_EQ(config.workers, 5U);
  EXPECT_EQ(config.pid_file, "/run/a.pid");
  EXPECT_TRUE(config.daemonize);
  EXPECT_EQ(config.proctitle_prefix, "shop");
  EXPECT_EQ(config.backlog, 7U);
  EXPECT_THAT(config.notes, testing::ElementsAre(HasSubstr("--manager")));
}

TEST(ScriptForm, UnderstandsPlackupWithFcgi) {
  const Config config =
      config_of({"--listen=:9000", "--nproc=5", "--pid=p", "--daemonize", "--keep-stderr",
                 "--backlog=9", "-s", "FCGI", "-Ilib", "-Etest", "-a", "app.psgi"},
                kScript);
  EXPECT_EQ(listeners_of(config), "fastcgi :9000");
  EXPECT_EQ(config.workers, 5U);
  EXPECT_EQ(config.pid_file, "p");
  EXPECT_TRUE(config.daemonize);
  EXPECT_EQ(config.plack_env, "test");
  EXPECT_EQ(listeners_of(config_of({"--port=9000", "app.psgi"}, kScript)),
            "fastcgi 127.0.0.1:9000");
  EXPECT_EQ(listeners_of(config_of({"--http=:80", "app.psgi"}, kScript)), "http :80");
}

TEST(ScriptForm, ServesWhatItIsGivenAndNothingByDefault) {
  const Config config = config_of({"app.psgi"}, kScript);
  EXPECT_TRUE(config.listen.empty());
  EXPECT_FALSE(config.fallback);
  EXPECT_EQ(config.workers, 0U);
  EXPECT_EQ(config.inherited_protocol, Protocol::FastCgi);
}

TEST(ScriptForm, LooksAtTheEnvironment) {
  const Environment environment{{"FCGI_SOCKET_PATH", "/run/e.sock"},
                                {"FCGI_LISTEN_QUEUE", "50"},
                                {"FCGI_SOCKET_PERM", "0666"},
                                {"PM_MAX_REQUESTS", "100"},
                                {"PM_MAX_SIZE", "200000"}};
  const Parsed parsed = parse_script({}, environment);
  const auto& config = std::get<Config>(parsed);
  EXPECT_EQ(listeners_of(config), "fastcgi /run/e.sock");
  EXPECT_EQ(config.backlog, 50U);
  EXPECT_EQ(config.socket_mode, 0666U);
  EXPECT_EQ(config.max_requests, 100U);
  EXPECT_THAT(config.notes, testing::ElementsAre(HasSubstr("PM_MAX_SIZE")));
  const Parsed overruled =
      parse_script({"-l", ":9000", "--backlog=9", "--max-requests=7"}, environment);
  EXPECT_EQ(std::get<Config>(overruled).max_requests, 7U);
  EXPECT_EQ(listeners_of(std::get<Config>(overruled)), "fastcgi :9000");
  EXPECT_EQ(std::get<Config>(overruled).backlog, 9U);
  const Parsed wrong = parse_script({}, {{"FCGI_LISTEN_QUEUE", "x"}});
  EXPECT_THAT(std::get<UsageError>(wrong).message,
              AllOf(HasSubstr("FCGI_LISTEN_QUEUE"), HasSubstr("1 to 65535")));
  const Parsed many = parse_script({}, {{"PM_MAX_REQUESTS", "many"}});
  EXPECT_THAT(std::get<UsageError>(many).message, HasSubstr("PM_MAX_REQUESTS"));
  const Parsed empty = parse_script({}, {{"FCGI_LISTEN_QUEUE", ""}});
  EXPECT_EQ(std::get<Config>(empty).backlog, 1024U);
}

TEST(ScriptForm, IsForNoOtherName) {
  const char* const words[]{"bladepsgi", "app.psgi"};
  const Parsed parsed = parse(2, words, {{"FCGI_SOCKET_PATH", "/run/e.sock"}});
  EXPECT_TRUE(std::get<Config>(parsed).listen.empty());
}

TEST(ScriptForm, SaysWhatIsWrong) {
  EXPECT_THAT(error_of({"app.psgi", "4", "f", "s"}, kScript), HasSubstr("one argument"));
  EXPECT_THAT(error_of({}, kScript), HasSubstr("got none"));
  EXPECT_THAT(error_of({"-S"}, kScript), HasSubstr("'--listen'"));
  EXPECT_THAT(error_of({"--nprco=3", "a"}, kScript), HasSubstr("did you mean '--nproc'?"));
  EXPECT_THAT(error_of({"-z", "a"}, kScript), HasSubstr("unknown option '-z'"));
}

TEST(ScriptForm, HasItsOwnHelp) {
  const Parsed parsed = parse_line({"-h"}, kScript);
  const std::string& text = std::get<Information>(parsed).text;
  EXPECT_THAT(text, AllOf(StartsWith("Usage: bladepsgi-fcgi [OPTION]... APPLICATION_PATH\n\n"),
                          HasSubstr("-n, --workers"), HasSubstr("FCGI_SOCKET_PATH (--listen)")));
  EXPECT_THAT(text, Not(HasSubstr("NUM_WORKERS")));
}

Line words_of(const std::string& text) {
  Line words;
  for (const std::string_view line : split(text, '\n')) {
    if (line.empty() || line.starts_with('#')) continue;
    words.emplace_back(line);
    std::erase(words.back(), '\'');  // none of these has one of its own
  }
  return words;
}

TEST(ConfigText, CanBeGivenAgain) {
  const std::vector<Line> lines{
      kFour,
      with_four({"--listen=:9000", "--http=[::1]:80", "--mount=/", "--no-preload", "-p", "",
                 "--socket-mode=0", "--max-body=0", "--head-timeout=90s", "--input=spool"}),
      {"app.psgi", "-p", "8080", "--workers=3", "-Ilib", "-Imore", "-MFoo=a,b", "-E", "test"},
      {"-e", "sub{}", "--http=/run/x", "-l", "unix:x", "--pidfile=p", "-D", "--mount=/a"},
      {"app.psgi", "-s", "FCGI", "-o", "::1", "--stats=s", "--socket-mode=7", "--errors=fastcgi"}};
  for (const Line& line : lines) {
    SCOPED_TRACE(testing::PrintToString(line));
    const std::string text = config_text(config_of(line));
    EXPECT_EQ(config_text(config_of(words_of(text))), text);
  }
}

TEST(ConfigText, ShowsEveryOption) {
  const std::string text = config_text(config_of({"--workers=4", "-p80", "app.psgi"}));
  for (const char* line :
       {"--app=app.psgi\n", "# --eval=CODE  nothing\n", "# --no-preload\n", "--workers=4\n",
        "--http=127.0.0.1:80\n", "# --fastcgi=ADDRESS  ", "--socket-mode=0660\n",
        "--body-timeout=1m\n", "--max-body=0\n", "--max-params-bytes=1M\n", "--input=auto\n",
        "--proctitle-prefix=Blade\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  for (const char* name :
       {"--listen", "--port", "--server", "--help", "--print-config", "--reload\n"})
    EXPECT_THAT(text, Not(HasSubstr(name)));
}

TEST(ConfigText, IsForAShell) {
  Config config = defaults();
  config.application_path = "a b.psgi";
  config.application_code = "it's";
  config.proctitle_prefix = "";
  EXPECT_THAT(config_text(config),
              AllOf(HasSubstr("--app='a b.psgi'\n"), HasSubstr("--eval='it'\\''s'\n"),
                    HasSubstr("--proctitle-prefix=\n")));
}

// Which words are arguments is known before it is known what the letters mean.
TEST(Letters, TakeAValueInEveryFormOrInNone) {
  for (const Program program : {Program::Bladepsgi, Program::BladepsgiFcgi}) {
    for (int letter = '!'; letter <= '~'; ++letter) {
      std::optional<bool> takes_value;
      for (const Form form : forms_of(program)) {
        const Option* option = find_letter(static_cast<char>(letter), form);
        if (option == nullptr) continue;
        if (takes_value) {
          EXPECT_EQ(*takes_value, !option->value.empty()) << static_cast<char>(letter);
        }
        takes_value = !option->value.empty();
      }
    }
  }
}

}  // namespace
}  // namespace bladepsgi::config
