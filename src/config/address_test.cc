#include "config/address.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::config {
namespace {

using Kind = Address::Kind;
using Scope = Address::Scope;

Address parsed(std::string_view text) {
  const auto address = parse_address(text);
  EXPECT_TRUE(address) << text << ": " << (address ? "" : address.error());
  return address ? *address : Address{};
}

TEST(ParseAddress, PathsAreUnixSockets) {
  for (const std::string_view text : {"/run/app.sock", "./app.sock", "a/b:80", "unix:app.sock",
                                      "app.sock", "unix:/run/a", "unix:127.0.0.1:80"}) {
    EXPECT_EQ(parsed(text).kind, Kind::Unix) << text;
  }
  EXPECT_EQ(parsed("unix:127.0.0.1:80").path, "127.0.0.1:80");
  EXPECT_EQ(parsed("app.sock").path, "app.sock");
}

TEST(ParseAddress, HostsAndPortsAreTcp) {
  struct Case {
    std::string_view text;
    Scope scope;
    std::string_view host;
    std::uint16_t port;
  };

  for (const Case& one :
       {Case{"127.0.0.1:8080", Scope::Host, "127.0.0.1", 8080},
        Case{"[::1]:0", Scope::Host, "::1", 0},
        Case{"example.org:65535", Scope::Host, "example.org", 65535},
        Case{":5000", Scope::Loopback, "", 5000}, Case{"5000", Scope::Loopback, "", 5000},
        Case{"*:80", Scope::Everywhere, "", 80}}) {
    const Address address = parsed(one.text);
    EXPECT_EQ(address.kind, Kind::Tcp) << one.text;
    EXPECT_EQ(address.scope, one.scope) << one.text;
    EXPECT_EQ(address.host, one.host) << one.text;
    EXPECT_EQ(address.port, one.port) << one.text;
  }
}

TEST(ParseAddress, DescriptorsAreNumbers) {
  EXPECT_EQ(parsed("fd:0").descriptor, 0);
  EXPECT_EQ(parsed("fd:17").kind, Kind::Descriptor);
}

TEST(ParseAddress, SaysWhatIsWrong) {
  struct Case {
    std::string text;
    const char* reason;
  };

  for (const Case& one :
       {Case{"", "empty"}, Case{"unix:", "empty"}, Case{"127.0.0.1:", "port"},
        Case{"127.0.0.1:http", "port"}, Case{"127.0.0.1:65536", "port"}, Case{"99999", "port"},
        Case{"::1:80", "brackets"}, Case{"[::1]", "[ADDRESS]:PORT"}, Case{"[1.2.3.4]:80", "IPv6"},
        Case{"fd:x", "number"}, Case{"fd:-1", "number"}, Case{"a b:80", "blanks"},
        Case{"/" + std::string(107, 'x'), "107"}}) {
    const auto address = parse_address(one.text);
    ASSERT_FALSE(address) << one.text;
    EXPECT_THAT(address.error(), testing::HasSubstr(one.reason)) << one.text;
  }
}

TEST(ParseAddress, TextGoesThereAndBack) {
  for (const std::string_view text :
       {"/run/app.sock", "unix:app.sock", "127.0.0.1:8080", "[::1]:80", ":5000", "*:80", "fd:3"}) {
    EXPECT_EQ(to_text(parsed(text)), text);
  }
}

TEST(LooksLikeTcp, IsWhatNobodyCallsAFile) {
  EXPECT_TRUE(looks_like_tcp("127.0.0.1:9000"));
  EXPECT_TRUE(looks_like_tcp(":9000"));
  EXPECT_TRUE(looks_like_tcp("9000"));
  EXPECT_TRUE(looks_like_tcp("[::1]:9000"));
  EXPECT_FALSE(looks_like_tcp("./127.0.0.1:9000"));
  EXPECT_FALSE(looks_like_tcp("app.sock"));
  EXPECT_FALSE(looks_like_tcp("app:sock"));
}

}  // namespace
}  // namespace bladepsgi::config
