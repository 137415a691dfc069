#include "http/trust.h"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::http {
namespace {

TrustedProxies trusting(std::string_view list) {
  return TrustedProxies::parse(list).value();
}

TEST(TrustedProxies, AListSaysWhoIsTrusted) {
  const TrustedProxies some = trusting(" 127.0.0.1, 10.0.0.0/8 ,::1,2001:db8::/32,unix");
  EXPECT_TRUE(some.trusts("127.0.0.1", false));
  EXPECT_TRUE(some.trusts("::ffff:127.0.0.1", false));
  EXPECT_TRUE(some.trusts("10.1.2.3", false));
  EXPECT_TRUE(some.trusts("::1", false));
  EXPECT_TRUE(some.trusts("2001:db8:1::", false));
  EXPECT_TRUE(some.trusts("", true));
  EXPECT_FALSE(some.trusts("127.0.0.2", false));
  EXPECT_FALSE(some.trusts("11.0.0.0", false));
  EXPECT_FALSE(some.trusts("2001:db9::", false));
  EXPECT_FALSE(some.trusts("", false));
  EXPECT_FALSE(some.trusts("x", false));

  EXPECT_FALSE(trusting("127.0.0.1").trusts("", true));
  EXPECT_FALSE(trusting("127.0.0.1").trusts("127.0.0.1", true));
  EXPECT_TRUE(trusting("*").trusts("192.0.2.1", false));
  EXPECT_TRUE(trusting("*").trusts("", true));
  for (const std::string_view nobody : {"", " "}) {
    EXPECT_FALSE(trusting(nobody).trusts("127.0.0.1", false));
    EXPECT_FALSE(trusting(nobody).trusts("", true));
  }
  EXPECT_FALSE(TrustedProxies().trusts("127.0.0.1", false));
}

TEST(TrustedProxies, TheErrorNamesTheBadItem) {
  for (const std::string_view bad : {"localhost", "10.0.0.1/8", "10.0.0.0/33", "Unix", "**",
                                     "1.2.3", "::g", "unix:/run/x", "127.0.0.1 ::1"}) {
    const auto parsed = TrustedProxies::parse("127.0.0.1, " + std::string(bad) + ",::1");
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().remedy, Remedy::Refuse);
    EXPECT_EQ(parsed.error().message.find("'" + std::string(bad) + "' is not an IP address"), 0U)
        << parsed.error().message;
  }
  EXPECT_FALSE(TrustedProxies::parse("127.0.0.1,"));
  EXPECT_FALSE(TrustedProxies::parse(",127.0.0.1"));
}

using Fields = std::vector<Field>;

// What is made of fields from 10.0.0.1, on plain HTTP, where 10.0.0.0/8 and Unix sockets are trusted.
std::string seen(const Fields& fields,
                 ForwardingFields which = ForwardingFields::Both,
                 std::string_view trusted = "10.0.0.0/8,unix",
                 bool is_https = false) {
  const Peer peer{.remote_address = "10.0.0.1", .remote_port = 1, .is_https = is_https};
  const Peer client = apply_forwarding(trusting(trusted), which, peer, fields);
  std::string text(client.remote_address);
  if (client.remote_port != 0) text += " port " + std::to_string(client.remote_port);
  if (client.is_https) text += " https";
  if (!client.forwarded_host.empty()) text += " host " + std::string(client.forwarded_host);
  if (client.forwarded_port != 0) text += " for port " + std::to_string(client.forwarded_port);
  return text;
}

std::string x_for(std::string_view value) {
  const Fields fields{{"X-Forwarded-For", value}};
  return seen(fields);
}

std::string forwarded(std::string_view value) {
  const Fields fields{{"Forwarded", value}};
  return seen(fields);
}

constexpr std::string_view kUnchanged = "10.0.0.1 port 1";

TEST(ApplyForwarding, OnlyTrustedPeersAreBelieved) {
  const Fields fields{{"Forwarded", "for=1.1.1.1;proto=https;host=a"},
                      {"X-Forwarded-For", "2.2.2.2"},
                      {"X-Forwarded-Proto", "https"},
                      {"X-Forwarded-Host", "b"},
                      {"X-Forwarded-Port", "444"}};
  for (const std::string_view nobody : {"", "10.0.0.2", "unix"})
    EXPECT_EQ(seen(fields, ForwardingFields::Both, nobody), kUnchanged);
  EXPECT_EQ(seen(fields, ForwardingFields::Both), "1.1.1.1 https host a");
  EXPECT_EQ(seen(fields, ForwardingFields::Forwarded), "1.1.1.1 https host a");
  EXPECT_EQ(seen(fields, ForwardingFields::XForwarded), "2.2.2.2 https host b for port 444");
  EXPECT_EQ(seen({}), kUnchanged);
}

TEST(ApplyForwarding, ByAPeerOnAUnixSocket) {
  const Fields fields{{"X-Forwarded-For", "1.1.1.1"}};
  const Peer peer{.is_unix = true};
  const auto address = [&](std::string_view trusted) {
    return apply_forwarding(trusting(trusted), ForwardingFields::XForwarded, peer, fields)
        .remote_address;
  };
  EXPECT_EQ(address("unix"), "1.1.1.1");
  EXPECT_EQ(address("*"), "1.1.1.1");
  EXPECT_EQ(address("127.0.0.1"), "");
}

TEST(ApplyForwarding, TheClientIsTheNearestThatIsNotTrusted) {
  EXPECT_EQ(x_for("1.1.1.1"), "1.1.1.1");
  EXPECT_EQ(x_for("9.9.9.9, 1.1.1.1"), "1.1.1.1");
  EXPECT_EQ(x_for("9.9.9.9,1.1.1.1 ,10.0.0.3,\t10.0.0.2"), "1.1.1.1");
  EXPECT_EQ(x_for("10.0.0.4, 10.0.0.3, 10.0.0.2"), "10.0.0.4");
  EXPECT_EQ(x_for("10.9.9.9, 1.1.1.1"), "1.1.1.1");
  EXPECT_EQ(x_for("2001:db8::1"), "2001:db8::1");
  EXPECT_EQ(x_for("::ffff:10.0.0.9"), "::ffff:10.0.0.9");
  EXPECT_EQ(x_for("1.1.1.1, ::ffff:10.0.0.9"), "1.1.1.1");
  EXPECT_EQ(x_for("1.1.1.1, unix:"), "1.1.1.1");
  EXPECT_EQ(x_for("unix:"), kUnchanged);
  const Fields lines{{"X-Forwarded-For", "9.9.9.9"}, {"x", "y"}, {"x-forwarded-for", "1.1.1.1"}};
  EXPECT_EQ(seen(lines), "1.1.1.1");
  const Fields one{{"X-Forwarded-For", "9.9.9.9, 1.1.1.1"}};
  EXPECT_EQ(seen(one, ForwardingFields::Both, "*"), "9.9.9.9");
}

TEST(ApplyForwarding, PortsOfAddresses) {
  EXPECT_EQ(x_for("1.1.1.1:80"), "1.1.1.1 port 80");
  EXPECT_EQ(x_for("[2001:db8::1]:80"), "2001:db8::1 port 80");
  EXPECT_EQ(x_for("[2001:db8::1]"), "2001:db8::1");
  EXPECT_EQ(x_for("1.1.1.1:"), "1.1.1.1");
  EXPECT_EQ(x_for("1.1.1.1:0"), "1.1.1.1");
  EXPECT_EQ(x_for("1.1.1.1:65536"), "1.1.1.1");
  EXPECT_EQ(forwarded("for=\"1.1.1.1:_p\""), "1.1.1.1");
}

TEST(ApplyForwarding, WhatIsNoAddressChangesNothing) {
  for (const std::string_view value :
       {"", ",", "unknown", "localhost", "1.1.1", "[1.1.1.1]", "[::1", "[::1]x", "1.1.1.1 2.2.2.2",
        "\"1.1.1.1\"", "_x", "'"}) {
    EXPECT_EQ(x_for(value), kUnchanged) << value;
  }
  // What is behind it was said by somebody nobody knows; what is before it, by those we trust.
  EXPECT_EQ(x_for("9.9.9.9, unknown"), kUnchanged);
  EXPECT_EQ(x_for("9.9.9.9, unknown, 10.0.0.3, 10.0.0.2"), "10.0.0.3");
  EXPECT_EQ(x_for("unknown, 1.1.1.1"), "1.1.1.1");
}

TEST(ApplyForwarding, FormsOfForwarded) {
  EXPECT_EQ(forwarded("for=1.1.1.1"), "1.1.1.1");
  EXPECT_EQ(forwarded("For=\"[2001:db8::1]:80\" ; Proto=HTTPS"), "2001:db8::1 port 80 https");
  EXPECT_EQ(forwarded("for=[2001:db8::1]:80"), "2001:db8::1 port 80");
  EXPECT_EQ(forwarded("by=10.0.0.1;for=1.1.1.1;host=\"a:81\";proto=http"), "1.1.1.1 host a:81");
  EXPECT_EQ(forwarded("for=9.9.9.9;proto=https, for=1.1.1.1, for=10.0.0.2;proto=https"), "1.1.1.1");
  EXPECT_EQ(forwarded("for=9.9.9.9,for=1.1.1.1;proto=https,for=10.0.0.2"), "1.1.1.1 https");
  EXPECT_EQ(forwarded("for=10.0.0.3;proto=https, for=10.0.0.2"), "10.0.0.3 https");
  EXPECT_EQ(forwarded("for=unknown;proto=https"), "10.0.0.1 port 1 https");
  EXPECT_EQ(forwarded("for=9.9.9.9, for=_hidden;host=a"), "10.0.0.1 port 1 host a");
  EXPECT_EQ(forwarded("for=9.9.9.9,proto=https"), "10.0.0.1 port 1 https");
  EXPECT_EQ(forwarded("for=1.1.1.1;x=\",;for=2.2.2.2\""), "1.1.1.1");
}

TEST(ApplyForwarding, MalformedForwardedChangesNothing) {
  for (const std::string_view value :
       {"", "for", "for=", "=1.1.1.1", "for =1.1.1.1", "for= 1.1.1.1", "for=1.1.1.1 x",
        "f(r=1.1.1.1", "for=\"1.1.1.1", "for=\"1.1.1.1\\\"", "for=\"1.1.1.1\"x",
        "for=\"\\1.1.1.1\"", ";", "for=1.1.1.1;;", "for=1.1.1.1;x", "1.1.1.1",
        "for=\"1.1.1.1, for=2.2.2.2"}) {
    EXPECT_EQ(forwarded(value), kUnchanged) << value;
  }
  // An unknown hop in front of a good one does not matter; one behind it hides it.
  const Fields lines{{"Forwarded", "for=\"9.9.9.9"}, {"Forwarded", "for=1.1.1.1"}};
  EXPECT_EQ(seen(lines), "1.1.1.1");
  const Fields turned{{"Forwarded", "for=9.9.9.9"}, {"Forwarded", "for=\"1.1.1.1"}};
  EXPECT_EQ(seen(turned), kUnchanged);
}

TEST(ApplyForwarding, SchemeHostAndPort) {
  const auto with = [](std::string_view name, std::string_view value, bool is_https = false) {
    const Fields fields{{"X-Forwarded-For", "1.1.1.1"}, {name, value}};
    return seen(fields, ForwardingFields::XForwarded, "10.0.0.0/8", is_https);
  };
  EXPECT_EQ(with("X-Forwarded-Proto", "HTTPS"), "1.1.1.1 https");
  EXPECT_EQ(with("X-Forwarded-Proto", "http", true), "1.1.1.1");
  EXPECT_EQ(with("X-Forwarded-Proto", "wss"), "1.1.1.1");
  EXPECT_EQ(with("X-Forwarded-Proto", "", true), "1.1.1.1 https");
  EXPECT_EQ(with("X-Forwarded-Host", "a:81"), "1.1.1.1 host a:81");
  EXPECT_EQ(with("X-Forwarded-Host", "[::1]"), "1.1.1.1 host [::1]");
  EXPECT_EQ(with("X-Forwarded-Host", "a/b"), "1.1.1.1");
  EXPECT_EQ(with("X-Forwarded-Host", "a:b"), "1.1.1.1");
  EXPECT_EQ(with("X-Forwarded-Port", "8443"), "1.1.1.1 for port 8443");
  EXPECT_EQ(with("X-Forwarded-Port", "0"), "1.1.1.1");
  EXPECT_EQ(with("X-Forwarded-Port", "x"), "1.1.1.1");
}

TEST(ApplyForwarding, ListsThatGoWithTheAddresses) {
  const Fields aligned{{"X-Forwarded-For", "9.9.9.9, 1.1.1.1, 10.0.0.2"},
                       {"X-Forwarded-Proto", "http, https, http"},
                       {"X-Forwarded-Host", "a, b"}};
  EXPECT_EQ(seen(aligned), "1.1.1.1 https host b");
  const Fields alone{{"X-Forwarded-Proto", "http"}, {"X-Forwarded-Proto", "https"}};
  EXPECT_EQ(seen(alone), "10.0.0.1 port 1 https");
}

}  // namespace
}  // namespace bladepsgi::http
