#include "cgi/environment.h"

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::cgi {
namespace {

using Sent = std::vector<Parameter>;
using Env = std::map<std::string, std::string>;

Env as_map(const Environment& environment) {
  Env env;
  for (const Parameter& p : environment.parameters()) {
    EXPECT_TRUE(env.emplace(p.name, p.value).second) << p.name << " is there twice";
  }
  return env;
}

Env build(Sent sent, EnvironmentOptions options = {}) {
  Environment environment(std::move(options));
  EXPECT_TRUE(environment.build(sent));
  return as_map(environment);
}

Env build_get(Sent sent, EnvironmentOptions options = {}) {
  sent.push_back({"REQUEST_METHOD", "GET"});
  return build(std::move(sent), std::move(options));
}

EnvironmentOptions mounted(std::string where) {
  EnvironmentOptions options;
  options.mount = std::move(where);
  return options;
}

EnvironmentOptions mode(PathInfoMode path_info) {
  EnvironmentOptions options;
  options.path_info = path_info;
  return options;
}

// What is remembered of one request's names must change nothing for another one.
TEST(Environment, OneAfterAnotherIsAsEachAlone) {
  const std::vector<Sent> requests = {
      {{"REQUEST_METHOD", "GET"}, {"HTTP_A", "1"}, {"HTTP_HOST", "a.example"}},
      {{"REQUEST_METHOD", "PUT"}, {"HTTP_A", "2"}, {"HTTP_HOST", "b.example:81"}},
      {{"REQUEST_METHOD", "GET"}, {"HTTP_B", "1"}, {"HTTP_HOST", "a.example"}},
      {{"REQUEST_METHOD", "GET"}, {"HTTP_AB", "1"}, {"TTP_HOST", "a.example"}},
      {{"REQUEST_METHOD", "GET"}, {"HTTP_A", "1"}},
      {{"HTTP_A", "1"}, {"HTTP_A", "2"}, {"REQUEST_METHOD", "GET"}},
      {{"HTTP_A", "3"}, {"HTTP_A", "4"}, {"REQUEST_METHOD", "PUT"}},
      {{"HTTP_A", "3"}, {"HTTP_B", "4"}, {"REQUEST_METHOD", "PUT"}},
      {{"REQUEST_METHOD", "GET"},
       {"psgi.x", "1"},
       {"REQUEST_URI", "/a%20b?c"},
       {"SCRIPT_NAME", "/a"}},
      {{"REQUEST_METHOD", "GET"},
       {"psgi.x", "2"},
       {"REQUEST_URI", std::string_view("/%41\0/", 6)},
       {"SCRIPT_NAME", "/b/"}},
      {{"REQUEST_METHOD", "GET"}, {"psgi.x", "2"}, {"REQUEST_URI", ""}, {"SCRIPT_NAME", ""}},
      {},
  };
  Environment environment;
  for (int round = 0; round < 3; ++round) {
    for (std::size_t first = 0; first < requests.size(); ++first) {
      for (std::size_t second = 0; second < requests.size(); ++second) {
        for (const std::size_t which : {first, second}) {
          Environment alone;
          const bool is_good = alone.build(requests[which]).has_value();
          EXPECT_EQ(environment.build(requests[which]).has_value(), is_good);
          EXPECT_EQ(as_map(environment), as_map(alone)) << first << ", " << second;
          EXPECT_EQ(environment.method(), alone.method());
          EXPECT_EQ(environment.uri(), alone.uri());
        }
      }
    }
  }
}

std::vector<std::string> names_of(const Environment& environment) {
  std::vector<std::string> names;
  for (const Parameter& p : environment.parameters())
    names.emplace_back(p.name);
  return names;
}

TEST(Environment, AShapeMeansTheSameNames) {
  const std::vector<Sent> requests = {
      {{"REQUEST_METHOD", "GET"}, {"CONTENT_LENGTH", ""}, {"CONTENT_TYPE", ""}},
      {{"REQUEST_METHOD", "PUT"}, {"CONTENT_LENGTH", "1"}, {"CONTENT_TYPE", ""}},
      {{"REQUEST_METHOD", "PUT"}, {"CONTENT_LENGTH", "-1"}, {"CONTENT_TYPE", "a"}},
      {{"REQUEST_METHOD", "GET"}, {"CONTENT_TYPE", "b"}},
      {{"REQUEST_METHOD", "GET"}, {"AUTH_TYPE", ""}, {"REMOTE_USER", "me"}},
      {{"REQUEST_METHOD", "GET"}, {"AUTH_TYPE", "Basic"}, {"REMOTE_USER", ""}},
      {{"REQUEST_METHOD", "GET"}, {"Authorization", "x"}, {"HTTP_AUTHORIZATION", ""}},
      {{"REQUEST_METHOD", "GET"}, {"Authorization", "x"}},
      {{"REQUEST_METHOD", "GET"}, {"Authorization", ""}},
      {{"REQUEST_METHOD", "GET"}, {"HTTP_A", "1"}, {"HTTP_B", "2"}},
      {{"REQUEST_METHOD", "GET"}, {"HTTP_A", "1"}, {"HTTP_A", "2"}},
      {},
  };
  Environment environment;
  std::map<std::uint64_t, std::vector<std::string>> known;
  for (std::size_t round = 0; round < 4 * requests.size() * requests.size(); ++round) {
    // Each behind each, and sometimes twice.
    const std::size_t which =
        round % 3 == 0 ? round / requests.size() % requests.size() : round % requests.size();
    const bool is_good = environment.build(requests[which]).has_value();
    if (is_good && round % 4 == 1 && !environment.content_length())
      environment.set_content_length(5);
    ASSERT_NE(environment.shape(), 0U);
    const auto [at, is_new] = known.emplace(environment.shape(), names_of(environment));
    EXPECT_EQ(at->second, names_of(environment));
  }
  const auto shape = [&](const Sent& sent) {
    EXPECT_TRUE(environment.build(sent));
    return environment.shape();
  };
  EXPECT_EQ(shape({{"REQUEST_METHOD", "GET"}, {"HTTP_A", "1"}}),
            shape({{"REQUEST_METHOD", "PUT"}, {"HTTP_A", "2"}}))
      << "else it is of no use";
}

// Names are compared in words.
TEST(Environment, EveryByteOfANameCounts) {
  for (std::size_t size = 1; size <= 40; ++size) {
    const std::string name(size, 'N');
    for (std::size_t at = 0; at < size; ++at) {
      std::string other = name;
      other[at] = 'M';
      Environment environment;
      ASSERT_TRUE(environment.build(Sent{{"REQUEST_METHOD", "GET"}, {name, "1"}}));
      const std::uint64_t shape = environment.shape();
      ASSERT_TRUE(environment.build(Sent{{"REQUEST_METHOD", "GET"}, {other, "1"}}));
      EXPECT_NE(environment.shape(), shape) << size << " bytes, another one at " << at;
      EXPECT_EQ(as_map(environment).count(other), 1U) << size << " bytes, another one at " << at;
      EXPECT_EQ(as_map(environment).count(name), 0U);
    }
  }
}

// --- names

TEST(Environment, OrdinaryParametersGoThroughUnchanged) {
  const Env env = build_get({{"HTTP_ACCEPT", "*/*"}, {"X", ""}, {"REMOTE_ADDR", "::1"}});
  EXPECT_EQ(env.at("HTTP_ACCEPT"), "*/*");
  EXPECT_EQ(env.at("X"), "");
  EXPECT_EQ(env.at("REMOTE_ADDR"), "::1");
}

TEST(Environment, KeysOfThePsgiSpecificationCannotBePlanted) {
  const Env env = build_get({{"psgi.input", "x"},
                             {"psgi.", "x"},
                             {"psgix.harakiri.commit", "1"},
                             {"psgix.io", "1"},
                             {"psgi", "kept"},
                             {"psgixy", "kept"},
                             {"HTTP_PSGI.X", "kept"}});
  EXPECT_EQ(env.count("psgi.input") + env.count("psgi.") + env.count("psgix.harakiri.commit") +
                env.count("psgix.io"),
            0U);
  EXPECT_EQ(env.at("psgi") + env.at("psgixy") + env.at("HTTP_PSGI.X"), "keptkeptkept");
}

TEST(Environment, WithheldHeadersDoNotReachTheApplication) {
  const Env env = build_get({{"HTTP_PROXY", "http://evil"},
                             {"HTTP_CONTENT_TYPE", "a/b"},
                             {"HTTP_CONTENT_LENGTH", "5"},
                             {"HTTP_TRANSFER_ENCODING", "chunked"},
                             {"HTTP_PROXY_CONNECTION", "kept"}});
  EXPECT_EQ(env.count("HTTP_PROXY") + env.count("HTTP_CONTENT_TYPE") +
                env.count("HTTP_CONTENT_LENGTH") + env.count("HTTP_TRANSFER_ENCODING"),
            0U);
  EXPECT_EQ(env.count("HTTP_PROXY_CONNECTION"), 1U);
}

TEST(Environment, EmptyContentTypeAndLengthAreAbsent) {
  const Env env = build_get({{"CONTENT_TYPE", ""}, {"CONTENT_LENGTH", ""}});
  EXPECT_EQ(env.count("CONTENT_TYPE") + env.count("CONTENT_LENGTH"), 0U);
  const Env kept = build_get({{"CONTENT_TYPE", "text/plain"}, {"CONTENT_LENGTH", "0"}});
  EXPECT_EQ(kept.at("CONTENT_TYPE"), "text/plain");
  EXPECT_EQ(kept.at("CONTENT_LENGTH"), "0");
}

TEST(Environment, AuthorizationBecomesAHeader) {
  Env env = build_get({{"Authorization", "Basic eA=="}});
  EXPECT_EQ(env.at("HTTP_AUTHORIZATION"), "Basic eA==");
  EXPECT_EQ(env.count("Authorization"), 0U);
  env = build_get({{"HTTP_AUTHORIZATION", "first"}, {"Authorization", "second"}});
  EXPECT_EQ(env.at("HTTP_AUTHORIZATION"), "first");
  EXPECT_EQ(env.count("Authorization"), 0U);
}

TEST(Environment, RepeatedHeadersAreJoined) {
  const Env env = build_get({{"HTTP_X", "1"},
                             {"HTTP_COOKIE", "a=1"},
                             {"OTHER", "first"},
                             {"HTTP_X", "2"},
                             {"HTTP_COOKIE", "b=2"},
                             {"HTTP_X", ""},
                             {"OTHER", "last"},
                             {"HTTP_X", "4"}});
  EXPECT_EQ(env.at("HTTP_X"), "1, 2, , 4");
  EXPECT_EQ(env.at("HTTP_COOKIE"), "a=1; b=2");
  EXPECT_EQ(env.at("OTHER"), "last");
}

TEST(Environment, OfARepeatedContentLengthTheLastCounts) {
  Environment environment;
  const Sent sent = {{"REQUEST_METHOD", "POST"}, {"CONTENT_LENGTH", "5"}, {"CONTENT_LENGTH", "7"}};
  ASSERT_TRUE(environment.build(sent));
  EXPECT_EQ(environment.content_length(), 7U);
}

TEST(Environment, NulAndOddNamesAreKeptWhole) {
  const std::string name("\0X\0", 3);
  const std::string value("a\0b", 3);
  const Env env = build_get({{name, value}, {"", "nameless"}});
  EXPECT_EQ(env.at(name), value);
  EXPECT_EQ(env.at(""), "nameless");
}

TEST(Environment, ManyNamesOfEveryLengthAreKeptApart) {
  std::vector<std::string> names;
  for (std::size_t size = 1; size < 40; ++size) {
    for (char c = 'a'; c <= 'z'; ++c) {
      std::string name(size, 'N');
      name[size / 2] = c;
      names.push_back(name);
    }
  }
  Sent sent = {{"REQUEST_METHOD", "GET"}};
  for (const std::string& name : names)
    sent.push_back({name, name});
  Environment environment;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(environment.build(sent));
    const Env env = as_map(environment);
    for (const std::string& name : names)
      ASSERT_EQ(env.at(name), name);
    const Sent small = {{"REQUEST_METHOD", "GET"}, {"A", "1"}};
    ASSERT_TRUE(environment.build(small));
    EXPECT_EQ(as_map(environment).size(), 8U);
  }
}

TEST(Environment, NamesWhoseHashesAreEqualAreKeptApart) {
  // Among so many names some have the same 32 bits.
  constexpr std::size_t kNames = 300'000;
  std::vector<std::string> names;
  names.reserve(kNames);
  for (std::size_t i = 0; i < kNames; ++i)
    names.push_back("N" + std::to_string(i));
  Sent sent;
  for (const std::string& name : names)
    sent.push_back({name, {}});
  Environment environment;
  ASSERT_FALSE(environment.build(sent));  // no REQUEST_METHOD, but all is there
  EXPECT_EQ(environment.parameters().size(), kNames + 6);
}

TEST(Environment, ManyRepetitionsCostNoMoreThanTheirSize) {
  const std::string value(200, 'v');
  Sent sent(4000, Parameter{"HTTP_X", value});
  sent.push_back({"REQUEST_METHOD", "GET"});
  const Env env = build(sent);
  EXPECT_EQ(env.at("HTTP_X").size(), 4000U * 202U - 2U);
}

// --- what must be there

TEST(Environment, MissingMethodIsABadRequest) {
  Environment environment;
  const auto built = environment.build(Sent{{"REQUEST_URI", "/x"}});
  ASSERT_FALSE(built);
  EXPECT_EQ(built.error(), EnvironmentError::NoRequestMethod);
  EXPECT_EQ(environment.uri(), "/x");
  EXPECT_FALSE(environment.build(Sent{{"REQUEST_METHOD", ""}}));
}

TEST(Environment, ContentLengthThatIsNoNumberIsABadRequest) {
  for (const char* value :
       {"x", "+1", " 1", "1 ", "1,1", "0x10", "18446744073709551616", "99999999999999999999999"}) {
    Environment environment;
    const auto built =
        environment.build(Sent{{"REQUEST_METHOD", "POST"}, {"CONTENT_LENGTH", value}});
    ASSERT_FALSE(built) << value;
    EXPECT_EQ(built.error(), EnvironmentError::BadContentLength);
  }
  Environment environment;
  ASSERT_TRUE(environment.build(
      Sent{{"REQUEST_METHOD", "POST"}, {"CONTENT_LENGTH", "18446744073709551615"}}));
  EXPECT_EQ(environment.content_length(), 18446744073709551615U);
}

TEST(Environment, DefaultsFillWhatIsMissing) {
  Env env = build_get({});
  EXPECT_EQ(env.at("QUERY_STRING"), "");
  EXPECT_EQ(env.at("SERVER_NAME"), "localhost");
  EXPECT_EQ(env.at("SERVER_PORT"), "80");
  EXPECT_EQ(env.at("SERVER_PROTOCOL"), "HTTP/1.1");
  env = build_get({{"HTTP_HOST", "example.org:8080"}});
  EXPECT_EQ(env.at("SERVER_NAME"), "example.org");
  EXPECT_EQ(env.at("SERVER_PORT"), "8080");
  env = build_get({{"HTTP_HOST", "[::1]"}, {"HTTPS", "On"}, {"SERVER_NAME", ""}});
  EXPECT_EQ(env.at("SERVER_NAME"), "[::1]");
  EXPECT_EQ(env.at("SERVER_PORT"), "443");
  env = build_get({{"QUERY_STRING", "a=1"},
                   {"SERVER_NAME", "s"},
                   {"SERVER_PORT", "1"},
                   {"SERVER_PROTOCOL", "HTTP/2.0"},
                   {"HTTP_HOST", "other:2"}});
  EXPECT_EQ(env.at("QUERY_STRING") + env.at("SERVER_NAME") + env.at("SERVER_PORT") +
                env.at("SERVER_PROTOCOL"),
            "a=1s1HTTP/2.0");
}

TEST(Environment, ContentLengthCanBeAddedWhenItIsKnown) {
  Environment environment;
  ASSERT_TRUE(environment.build(Sent{{"REQUEST_METHOD", "POST"}}));
  environment.set_content_length(18446744073709551615U);
  EXPECT_EQ(as_map(environment).at("CONTENT_LENGTH"), "18446744073709551615");
  ASSERT_TRUE(environment.build(Sent{{"REQUEST_METHOD", "POST"}}));
  EXPECT_EQ(as_map(environment).count("CONTENT_LENGTH"), 0U);
}

TEST(Environment, WhatTheWorkerAsksFor) {
  Environment environment;
  ASSERT_TRUE(environment.build(Sent{{"REQUEST_METHOD", "PUT"},
                                     {"REQUEST_URI", "/a?b"},
                                     {"HTTP_X_REQUEST_ID", "id-1"},
                                     {"REMOTE_ADDR", "10.0.0.1"},
                                     {"CONTENT_LENGTH", "12"}}));
  EXPECT_EQ(environment.method(), "PUT");
  EXPECT_EQ(environment.uri(), "/a?b");
  EXPECT_EQ(environment.request_id(), "id-1");
  EXPECT_EQ(environment.remote_address(), "10.0.0.1");
  EXPECT_EQ(environment.content_length(), 12U);
}

// --- paths

struct PathRow {
  const char* what;
  Sent sent;
  EnvironmentOptions options;
  std::string script_name;
  std::string path_info;
};

TEST(Environment, Paths) {
  const char* kUri = "/a%2Fb//c%20d?x=1";
  const std::vector<PathRow> rows = {
      // as the web servers of design/fastcgi.md §4 send it
      {"nginx",
       {{"SERVER_SOFTWARE", "nginx/1.22.1"}, {"SCRIPT_NAME", "/a/b/c d"}, {"REQUEST_URI", kUri}},
       {},
       "",
       "/a/b//c d"},
      {"nginx, PATH_INFO configured but empty",
       {{"SERVER_SOFTWARE", "nginx/1.22.1"},
        {"SCRIPT_NAME", "/a/b/c d"},
        {"PATH_INFO", ""},
        {"REQUEST_URI", kUri}},
       {},
       "",
       "/a/b//c d"},
      {"nginx, SCRIPT_NAME empty",
       {{"SERVER_SOFTWARE", "nginx/1.22.1"},
        {"SCRIPT_NAME", ""},
        {"PATH_INFO", "/a/b/c d"},
        {"REQUEST_URI", kUri}},
       {},
       "",
       "/a/b//c d"},
      {"lighttpd",
       {{"SCRIPT_NAME", "/a"}, {"PATH_INFO", "/b/c d"}, {"REQUEST_URI", kUri}},
       {},
       "/a",
       "/b//c d"},
      {"lighttpd with mount",
       {{"SCRIPT_NAME", "/a"}, {"PATH_INFO", "/b/c d"}, {"REQUEST_URI", kUri}},
       mounted("/"),
       "",
       "/a/b//c d"},
      {"lighttpd fix-root-scriptname",
       {{"SCRIPT_NAME", ""}, {"PATH_INFO", "/a/b/c d"}, {"REQUEST_URI", kUri}},
       {},
       "",
       "/a/b//c d"},
      {"HAProxy",
       {{"SERVER_SOFTWARE", "HAProxy 2.6.12"}, {"SCRIPT_NAME", "/a/b//c d"}, {"REQUEST_URI", kUri}},
       {},
       "",
       "/a/b//c d"},
      {"httpd ProxyPass of a prefix",
       {{"SERVER_SOFTWARE", "Apache/2.4"}, {"SCRIPT_NAME", "/app/x"}, {"REQUEST_URI", "/app/x"}},
       {},
       "/app/x",
       ""},
      {"httpd ProxyPass with mount",
       {{"SERVER_SOFTWARE", "Apache/2.4"}, {"SCRIPT_NAME", "/app/x"}, {"REQUEST_URI", "/app/x"}},
       mounted("/app"),
       "/app",
       "/x"},
      {"nginx's fastcgi_params, a slash at the end",
       {{"SCRIPT_NAME", "/a/b/"}, {"REQUEST_URI", "/a/b/"}, {"SERVER_SOFTWARE", "nginx/1.22.1"}},
       {},
       "",
       "/a/b/"},
      {"mod_fcgid ScriptAlias",
       {{"SERVER_SOFTWARE", "Apache/2.4"},
        {"SCRIPT_NAME", "/app"},
        {"PATH_INFO", "/b/c"},
        {"REQUEST_URI", "/app/b//c"}},
       {},
       "/app",
       "/b//c"},
      {"mod_fcgid at the mount itself",
       {{"SERVER_SOFTWARE", "Apache/2.4"}, {"SCRIPT_NAME", "/app"}, {"REQUEST_URI", "/app"}},
       {},
       "/app",
       ""},
      {"Caddy",
       {{"SCRIPT_NAME", ""}, {"PATH_INFO", "/a/b//c d"}, {"REQUEST_URI", kUri}},
       {},
       "",
       "/a/b//c d"},
      // forms
      {"nothing sent", {}, {}, "", "/"},
      {"root", {{"SCRIPT_NAME", "/"}, {"REQUEST_URI", "/"}}, {}, "", "/"},
      {"root of nginx",
       {{"SERVER_SOFTWARE", "nginx"}, {"SCRIPT_NAME", "/"}, {"REQUEST_URI", "/"}},
       {},
       "",
       "/"},
      {"trailing slash", {{"SCRIPT_NAME", "/app/"}, {"REQUEST_URI", "/app/"}}, {}, "/app", "/"},
      {"SCRIPT_NAME without slash", {{"SCRIPT_NAME", "app"}, {"REQUEST_URI", "/x"}}, {}, "", "/x"},
      {"PATH_INFO without slash", {{"PATH_INFO", "x/y"}}, {}, "", "/x/y"},
      {"prefix that is no directory",
       {{"SCRIPT_NAME", "/app"}, {"PATH_INFO", "/p"}, {"REQUEST_URI", "/apple/p"}},
       {},
       "/app",
       "/p"},
      {"rewritten",
       {{"SCRIPT_NAME", "/index.fcgi"}, {"PATH_INFO", "/x"}, {"REQUEST_URI", "/x"}},
       {},
       "/index.fcgi",
       "/x"},
      {"absolute form",
       {{"SCRIPT_NAME", ""}, {"REQUEST_URI", "http://host:80/p%61th?q"}},
       {},
       "",
       "/path"},
      {"absolute form without path", {{"REQUEST_URI", "http://host?q=/x"}}, {}, "", "/"},
      {"asterisk form", {{"PATH_INFO", "/sent"}, {"REQUEST_URI", "*"}}, {}, "", "/sent"},
      {"authority form", {{"REQUEST_URI", "host:443"}}, {}, "", "/"},
      {"malformed escapes stay",
       {{"REQUEST_URI", "/%zz%4%%41%e4%00%"}},
       {},
       "",
       std::string("/%zz%4%A\xe4\0%", 11)},
      {"escape at the end", {{"REQUEST_URI", "/%41"}}, {}, "", "/A"},
      {"decoded SCRIPT_NAME",
       {{"SCRIPT_NAME", "/a b"}, {"REQUEST_URI", "/a%20b/c"}},
       {},
       "/a b",
       "/c"},
      {"encoded question mark", {{"REQUEST_URI", "/a%3Fb?c"}}, {}, "", "/a?b"},
      // mount
      {"mount", {{"SCRIPT_NAME", "/x"}, {"REQUEST_URI", "/app/y"}}, mounted("/app/"), "/app", "/y"},
      {"mount itself",
       {{"SCRIPT_NAME", "/app"}, {"REQUEST_URI", "/app"}, {"SERVER_SOFTWARE", "nginx"}},
       mounted("/app"),
       "/app",
       ""},
      {"mount, no URI",
       {{"SCRIPT_NAME", "/app"}, {"PATH_INFO", "/y"}},
       mounted("/app"),
       "/app",
       "/y"},
      {"mount, no URI, other cut", {{"SCRIPT_NAME", "/app/y"}}, mounted("/app"), "/app", "/y"},
      {"mount that does not fit",
       {{"SCRIPT_NAME", "/z"}, {"PATH_INFO", "/y"}, {"REQUEST_URI", "/z/y"}},
       mounted("/app"),
       "/app",
       "/y"},
      {"mount without slash is the root", {{"REQUEST_URI", "/z/y"}}, mounted(""), "", "/z/y"},
      // modes
      {"plack mode keeps nginx's SCRIPT_NAME",
       {{"SERVER_SOFTWARE", "nginx"}, {"SCRIPT_NAME", "/a/b"}, {"REQUEST_URI", "/a/b"}},
       mode(PathInfoMode::Plack),
       "/a/b",
       ""},
      {"server mode believes the server",
       {{"SCRIPT_NAME", "/a"}, {"PATH_INFO", "/b/c d"}, {"REQUEST_URI", kUri}},
       mode(PathInfoMode::Server),
       "/a",
       "/b/c d"},
      {"server mode still corrects the form",
       {{"SCRIPT_NAME", "/"}, {"REQUEST_URI", "/x"}},
       mode(PathInfoMode::Server),
       "",
       "/"},
      {"nginx without REQUEST_URI",
       {{"SERVER_SOFTWARE", "nginx"}, {"SCRIPT_NAME", "/a/b"}},
       {},
       "",
       "/a/b"},
  };
  for (const PathRow& row : rows) {
    const Env env = build_get(row.sent, row.options);
    EXPECT_EQ(env.at("SCRIPT_NAME"), row.script_name) << row.what;
    EXPECT_EQ(env.at("PATH_INFO"), row.path_info) << row.what;
  }
}

// CVE-2019-11043: pointer arithmetic between two parameters went below the start when PATH_INFO was empty.
// What nginx and others make of such a path before they look whether it is guarded.
TEST(Environment, DotSegmentsAreResolved) {
  struct Case {
    const char* uri;
    const char* path_info;
  };

  for (const Case& one :
       {Case{"/admin/../x", "/x"}, Case{"/admin/..%2fx?a=/../b", "/x"}, Case{"/%2e%2e/x", "/x"},
        Case{"/a//../b", "/b"}, Case{"/a/b/..", "/a/"}, Case{"/a/b/.", "/a/b/"},
        Case{"/../../..", "/"}, Case{"/./a/./b/", "/a/b/"}, Case{"//a//b", "//a//b"},
        Case{"/a/.b/..c/...", "/a/.b/..c/..."}}) {
    Environment environment;
    const std::vector<Parameter> sent = {{"REQUEST_METHOD", "GET"},
                                         {"SCRIPT_NAME", ""},
                                         {"PATH_INFO", "/whatever"},
                                         {"REQUEST_URI", one.uri}};
    ASSERT_TRUE(environment.build(sent));
    std::string_view path_info;
    for (const Parameter& parameter : environment.parameters()) {
      if (parameter.name == "PATH_INFO") path_info = parameter.value;
    }
    EXPECT_EQ(path_info, one.path_info) << one.uri;
  }
}

TEST(Environment, WhatCaddySendsForNothingIsNothing) {
  Environment environment;
  const std::vector<Parameter> sent = {{"REQUEST_METHOD", "POST"},
                                       {"REQUEST_URI", "/"},
                                       {"CONTENT_LENGTH", "-1"},
                                       {"REMOTE_USER", ""},
                                       {"AUTH_TYPE", ""}};
  ASSERT_TRUE(environment.build(sent));
  EXPECT_FALSE(environment.content_length());
  for (const Parameter& parameter : environment.parameters()) {
    EXPECT_NE(parameter.name, "CONTENT_LENGTH");
    EXPECT_NE(parameter.name, "REMOTE_USER");
    EXPECT_NE(parameter.name, "AUTH_TYPE");
  }
}

TEST(OthersBugs, PhpFpmPathInfoUnderflow) {
  for (const char* script : {"", "/", "/a", "/a/b/c/d/e"}) {
    for (const char* info : {"", "/", "/x"}) {
      for (const char* uri : {"", "/", "/a", "/%0a", "?", "/a/b?x"}) {
        for (const PathInfoMode path_info :
             {PathInfoMode::Auto, PathInfoMode::Plack, PathInfoMode::Server}) {
          const Env env =
              build_get({{"SCRIPT_NAME", script}, {"PATH_INFO", info}, {"REQUEST_URI", uri}},
                        mode(path_info));
          const std::string& name = env.at("SCRIPT_NAME");
          const std::string& path = env.at("PATH_INFO");
          EXPECT_TRUE(name.empty() || (name.starts_with('/') && !name.ends_with('/')));
          EXPECT_TRUE(path.empty() || path.starts_with('/'));
          EXPECT_FALSE(name.empty() && path.empty());
        }
      }
    }
  }
}

TEST(OthersBugs, HttpoxyNeverReachesTheApplication) {
  EXPECT_EQ(build_get({{"HTTP_PROXY", "a"}, {"HTTP_PROXY", "b"}}).count("HTTP_PROXY"), 0U);
}

TEST(OthersBugs, PlackFcgiExtensionKeysCannotBePlanted) {
  EXPECT_EQ(build_get({{"psgix.harakiri.commit", "1"}}).count("psgix.harakiri.commit"), 0U);
}

}  // namespace
}  // namespace bladepsgi::cgi
