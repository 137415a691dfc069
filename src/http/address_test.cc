#include "http/address.h"

#include <string>

#include <gtest/gtest.h>

namespace bladepsgi::http {
namespace {

std::string hex(std::string_view text) {
  const auto address = parse_address(text);
  if (!address) return "none";
  std::string out;
  for (const std::uint8_t byte : address->bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

TEST(Address, FormsOfAddresses) {
  EXPECT_EQ(hex("10.0.255.1"), "00000000000000000000ffff0a00ff01");
  EXPECT_EQ(hex("::ffff:10.0.255.1"), hex("10.0.255.1"));
  EXPECT_EQ(hex("0:0:0:0:0:FFFF:a00:ff01"), hex("10.0.255.1"));
  EXPECT_EQ(hex("::"), "00000000000000000000000000000000");
  EXPECT_EQ(hex("::1"), "00000000000000000000000000000001");
  EXPECT_EQ(hex("1::"), "00010000000000000000000000000000");
  EXPECT_EQ(hex("2001:db8::12:0"), "20010db8000000000000000000120000");
  EXPECT_EQ(hex("1:2:3:4:5:6:7:8"), "00010002000300040005000600070008");
  EXPECT_EQ(hex("1::3:4:5:6:7:8"), "00010000000300040005000600070008");
  EXPECT_EQ(hex("1:2:3:4:5:6:7::"), "00010002000300040005000600070000");
  EXPECT_EQ(hex("1:2:3:4:5:6:1.2.3.4"), "00010002000300040005000601020304");
  EXPECT_EQ(hex("64:ff9b::1.2.3.4"), "0064ff9b000000000000000001020304");
}

TEST(Address, WhatIsNoAddress) {
  for (const std::string_view text : {"",
                                      " ",
                                      "1",
                                      "1.2.3",
                                      "1.2.3.4.5",
                                      "1.2.3.",
                                      ".1.2.3",
                                      "1..2.3",
                                      "256.0.0.1",
                                      "01.2.3.4",
                                      "1.2.3.4 ",
                                      " 1.2.3.4",
                                      "1.2.3.0x4",
                                      "+1.2.3.4",
                                      "1.2.3.1000",
                                      ":",
                                      ":::",
                                      "1::2::3",
                                      "1:2:3:4:5:6:7",
                                      "1:2:3:4:5:6:7:8:9",
                                      "1:2:3:4:5:6:7:8::",
                                      "::1:2:3:4:5:6:7:8",
                                      "12345::",
                                      "g::",
                                      ":1",
                                      "1:",
                                      ":1::",
                                      "::1:",
                                      "1.2.3.4::",
                                      "::1.2.3.4:5",
                                      "::1.2.3",
                                      "1:2:3:4:5:6:7:1.2.3.4",
                                      "1:1.2.3.4",
                                      "fe80::1%eth0",
                                      "[::1]",
                                      "::1/64",
                                      "localhost",
                                      "unix:"}) {
    EXPECT_EQ(hex(text), "none") << text;
  }
}

TEST(Address, Networks) {
  const auto contains = [](std::string_view network, std::string_view address) {
    return parse_network(network).value().contains(parse_address(address).value());
  };
  EXPECT_TRUE(contains("10.0.0.0/8", "10.255.255.255"));
  EXPECT_FALSE(contains("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
  EXPECT_TRUE(contains("::ffff:10.0.0.0/104", "10.1.2.3"));
  EXPECT_TRUE(contains("192.0.2.4/30", "192.0.2.7"));
  EXPECT_FALSE(contains("192.0.2.4/30", "192.0.2.8"));
  EXPECT_FALSE(contains("192.0.2.4/30", "192.0.2.3"));
  EXPECT_TRUE(contains("192.0.2.1", "192.0.2.1"));
  EXPECT_FALSE(contains("192.0.2.1", "192.0.2.0"));
  EXPECT_TRUE(contains("0.0.0.0/0", "1.2.3.4"));
  EXPECT_FALSE(contains("0.0.0.0/0", "::1"));
  EXPECT_TRUE(contains("::/0", "2001:db8::1"));
  EXPECT_FALSE(contains("::/0", "1.2.3.4"));
  EXPECT_TRUE(contains("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(contains("2001:db8::/33", "2001:db8:8000::1"));
  EXPECT_TRUE(contains("::1/128", "::1"));
  EXPECT_FALSE(contains("::1/128", "::2"));
  for (const std::string_view text :
       {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8",
        "10.0.0.0/08x", "10.0.0.0/0008", "10.0.0.1/8", "::1/64", "::/129", "10.0.0.0 /8", "10/8"}) {
    EXPECT_FALSE(parse_network(text)) << text;
  }
}

TEST(Address, HostAndPort) {
  const auto parts = [](std::string_view text) -> std::string {
    const auto authority = parse_authority(text);
    if (!authority) return "none";
    return std::string(authority->host) + " " + std::string(authority->port);
  };
  EXPECT_EQ(parts("example.com"), "example.com ");
  EXPECT_EQ(parts("example.com:"), "example.com ");
  EXPECT_EQ(parts("example.com:8080"), "example.com 8080");
  EXPECT_EQ(parts("[::1]"), "[::1] ");
  EXPECT_EQ(parts("[2001:db8::1]:443"), "[2001:db8::1] 443");
  EXPECT_EQ(parts("1.2.3.4:65535"), "1.2.3.4 65535");
  EXPECT_EQ(parts("a%2fb"), "a%2fb ");
  for (const std::string_view text :
       {"", ":", ":80", "a:65536", "a:000001", "a:8o", "a b", "::1", "[::1", "[::1]8", "[::1]:x",
        "[]", "[1.2.3.4]", "u@a", "a/b", "a%2", "a\xff"}) {
    EXPECT_EQ(parts(text), "none") << text;
  }
}

}  // namespace
}  // namespace bladepsgi::http
