#include "http/parameters.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "http/connection.h"

namespace bladepsgi::http {
namespace {

constexpr Peer kPeer{.remote_address = "192.0.2.1",
                     .remote_port = 40000,
                     .server_address = "192.0.2.2",
                     .server_port = 8080};

// The whole list, one "NAME=value" a line.
std::string list(std::span<const Parameter> parameters) {
  std::string text;
  for (const Parameter& p : parameters)
    text += std::string(p.name) + "=" + std::string(p.value) + "\n";
  return text;
}

class ParametersTest : public ::testing::Test {
 protected:
  std::string build(std::string_view head, const Peer& peer = kPeer) {
    HeadParser parser{Limits{}};
    EXPECT_EQ(parser.take(head).progress, HeadParser::Progress::Complete) << head;
    return list(parameters_.build(parser.request(), peer));
  }

  // The value of one name; "-" when it is not there, values between "|" when it is repeated.
  std::string value(std::string_view head, std::string_view name, const Peer& peer = kPeer) {
    const std::string all = "\n" + build(head, peer);
    const std::string key = "\n" + std::string(name) + "=";
    std::string found;
    for (std::size_t at = all.find(key); at != std::string::npos; at = all.find(key, at + 1)) {
      const std::size_t begin = at + key.size();
      found += (found.empty() ? "" : "|") + all.substr(begin, all.find('\n', begin) - begin);
    }
    return all.find(key) == std::string::npos ? "-" : found;
  }

  Parameters parameters_;
};

std::string get(std::string_view fields, std::string_view target = "/") {
  return "GET " + std::string(target) + " HTTP/1.1\r\n" + std::string(fields) + "\r\n";
}

TEST_F(ParametersTest, AreWhatAFrontEndWouldSend) {
  EXPECT_EQ(build("POST /a%20b?c=d&e HTTP/1.1\r\nHost: example.com:81\r\nContent-Length: 007\r\n"
                  "Content-Type: text/plain\r\nuser-agent: test 1\r\nX-A9: \xff\r\n\r\n"),
            "REQUEST_METHOD=POST\nREQUEST_URI=/a%20b?c=d&e\nQUERY_STRING=c=d&e\nSCRIPT_NAME=\n"
            "SERVER_PROTOCOL=HTTP/1.1\nREQUEST_SCHEME=http\nSERVER_NAME=example.com\n"
            "SERVER_PORT=81\nREMOTE_ADDR=192.0.2.1\nREMOTE_PORT=40000\nCONTENT_LENGTH=7\n"
            "HTTP_HOST=example.com:81\nCONTENT_TYPE=text/plain\nHTTP_USER_AGENT=test 1\n"
            "HTTP_X_A9=\xff\n");
  EXPECT_EQ(build("GET http://a/b HTTP/1.0\r\n\r\n", {.is_unix = true, .is_https = true}),
            "REQUEST_METHOD=GET\nREQUEST_URI=/b\nQUERY_STRING=\nSCRIPT_NAME=\n"
            "SERVER_PROTOCOL=HTTP/1.0\nREQUEST_SCHEME=https\nHTTPS=on\nSERVER_NAME=a\n"
            "SERVER_PORT=443\nHTTP_HOST=a\n");
}

TEST_F(ParametersTest, ServerIsAsTheClientCallsItElseTheLocalAddress) {
  const auto server = [this](std::string_view head, const Peer& peer = kPeer) {
    return value(head, "SERVER_NAME", peer) + " " + value(head, "SERVER_PORT", peer);
  };
  Peer secure = kPeer;
  secure.is_https = true;
  EXPECT_EQ(server(get("Host: a\r\n")), "a 80");
  EXPECT_EQ(server(get("Host: a:\r\n")), "a 80");
  EXPECT_EQ(server(get("Host: a\r\n"), secure), "a 443");
  EXPECT_EQ(server(get("Host: a:80\r\n"), secure), "a 80");
  EXPECT_EQ(server(get("Host: [::1]:8080\r\n")), "[::1] 8080");
  EXPECT_EQ(server(get("Host: b\r\n", "http://a:81/")), "a 81");
  EXPECT_EQ(server(get("Host:\r\n")), "192.0.2.2 8080");
  EXPECT_EQ(server("GET / HTTP/1.0\r\n\r\n"), "192.0.2.2 8080");
  EXPECT_EQ(server("GET / HTTP/1.0\r\n\r\n", {.server_address = "2001:db8::1", .server_port = 80}),
            "[2001:db8::1] 80");
  EXPECT_EQ(server("GET / HTTP/1.0\r\n\r\n", {.is_unix = true}), "localhost 80");
}

TEST_F(ParametersTest, ForwardedHostAndPortTakeThePlaceOfTheRequests) {
  Peer peer = kPeer;
  peer.forwarded_host = "public.example:444";
  const std::string head = get("Host: inner\r\nX-Forwarded-Host: public.example:444\r\n");
  EXPECT_EQ(value(head, "SERVER_NAME", peer), "public.example");
  EXPECT_EQ(value(head, "SERVER_PORT", peer), "444");
  EXPECT_EQ(value(head, "HTTP_HOST", peer), "public.example:444");
  EXPECT_EQ(value(head, "HTTP_X_FORWARDED_HOST", peer), "public.example:444");
  EXPECT_EQ(value("GET / HTTP/1.0\r\n\r\n", "HTTP_HOST", peer), "public.example:444");
  peer.forwarded_port = 445;
  EXPECT_EQ(value(head, "SERVER_PORT", peer), "445");
  peer.forwarded_host = {};
  EXPECT_EQ(value(head, "SERVER_NAME", peer), "inner");
  EXPECT_EQ(value(head, "SERVER_PORT", peer), "445");
  EXPECT_EQ(value(head, "HTTP_HOST", peer), "inner");
}

TEST_F(ParametersTest, WhatCouldPassForSomethingElseIsLeftOut) {
  const std::string head =
      get("Host: x\r\nProxy: evil\r\nPROXY: evil\r\nX_Forwarded_For: evil\r\nContent_Length: 5\r\n"
          "Content_Type: evil\r\nX.Y: evil\r\nA!: evil\r\nX-Fine: 1\r\n-: 2\r\n");
  EXPECT_EQ(build(head).find("evil"), std::string::npos) << build(head);
  EXPECT_EQ(value(head, "CONTENT_LENGTH"), "-");
  EXPECT_EQ(value(head, "HTTP_CONTENT_LENGTH"), "-");
  EXPECT_EQ(value(head, "HTTP_X_FINE"), "1");
  EXPECT_EQ(value(head, "HTTP__"), "2");
  const std::string chunked =
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: a\r\n\r\n";
  EXPECT_EQ(value(chunked, "HTTP_TRANSFER_ENCODING"), "-");
  EXPECT_EQ(value(chunked, "HTTP_CONTENT_TYPE"), "-");
  EXPECT_EQ(value(chunked, "CONTENT_TYPE"), "a");
  EXPECT_EQ(value(chunked, "CONTENT_LENGTH"), "-");
}

TEST_F(ParametersTest, RepeatedFieldsStayRepeated) {
  EXPECT_EQ(value(get("Host: x\r\nCookie: a\r\nX: y\r\ncookie: b\r\n"), "HTTP_COOKIE"), "a|b");
}

TEST_F(ParametersTest, QueryIsBehindTheFirstQuestionMark) {
  EXPECT_EQ(value(get("Host: x\r\n", "/a?b?c"), "QUERY_STRING"), "b?c");
  EXPECT_EQ(value(get("Host: x\r\n", "/a?"), "QUERY_STRING"), "");
  EXPECT_EQ(value("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "REQUEST_URI"), "*");
}

TEST_F(ParametersTest, AHugeRequestBetweenSmallOnes) {
  std::string fields = "Host: x\r\n";
  for (int i = 0; i < 4000; ++i)
    fields += "X-" + std::string(100, 'a') + std::to_string(i) + ": y\r\n";
  const std::string small = build(get("Host: x\r\nA: b\r\n"));
  EXPECT_EQ(value(get(fields), "HTTP_X_" + std::string(100, 'A') + "3999"), "y");
  EXPECT_EQ(build(get("Host: x\r\nA: b\r\n")), small);
}

}  // namespace
}  // namespace bladepsgi::http
