// Whole streams and what follows from them. Each is also fed in every cut, byte by byte, past the buffer and through a small one:
// the events must be the same.
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "http/testing.h"

namespace bladepsgi::http {
namespace {

using testing::Player;

// Plays the stream in all ways and returns the log of the first, which all others must equal.
std::string play(std::string_view bytes, const Limits& limits = {}, bool is_lazy = false) {
  Player whole(limits, is_lazy);
  whole.feed(bytes);
  whole.close();
  EXPECT_TRUE(whole.is_over());
  const auto same = [&](Player& player, std::string_view how, std::size_t at) {
    player.close();
    EXPECT_EQ(player.log(), whole.log()) << how << " " << at;
    return player.log() == whole.log();
  };
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    Player player(limits, is_lazy);
    player.feed(bytes.substr(0, cut));
    player.feed(bytes.substr(cut));
    if (!same(player, "cut at", cut)) return whole.log();
  }
  for (const std::size_t piece : {1, 2, 3, 7, 64}) {
    Player player(limits, is_lazy);
    player.feed_in_pieces(bytes, piece);
    if (!same(player, "pieces of", piece)) return whole.log();
  }
  Player bypassing(limits, is_lazy);
  bypassing.feed_bypassing(bytes);
  if (!same(bypassing, "bypassing", 0)) return whole.log();
  Limits small = limits;
  small.receive_buffer = 1024;
  Player squeezed(small, is_lazy);
  squeezed.feed(bytes);
  same(squeezed, "small buffer", 0);
  return whole.log();
}

std::string text(std::string_view literal_with_nul) {
  return std::string(literal_with_nul);
}

struct Case {
  std::string bytes;
  std::string log;
};

void expect_all(const std::vector<Case>& cases) {
  for (const Case& c : cases)
    EXPECT_EQ(play(c.bytes), c.log) << c.bytes;
}

TEST(Conformance, RequestsAsClientsSendThem) {
  expect_all({
      {"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n",
       "GET /a?b 1.1 host x keep\n  Host: x\nbody() complete\nclose\n"},
      {"GET / HTTP/1.0\r\n\r\n", "GET / 1.0\nbody() complete\nclose\n"},
      {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
       "GET / 1.0 keep\n  Connection: Keep-Alive\nbody() complete\nclose\n"},
      {"GET / HTTP/1.0\r\nconnection: keep-alive, close\r\n\r\n",
       "GET / 1.0\n  connection: keep-alive, close\nbody() complete\nclose\n"},
      {"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo ,\tCLOSE,\r\n\r\n",
       "GET / 1.1 host x\n  Host: x\n  Connection: foo ,\tCLOSE,\nbody() complete\nclose\n"},
      {"GET / HTTP/1.1\r\nHost: x\r\nConnection: closed, xclose\r\n\r\n",
       "GET / 1.1 host x keep\n  Host: x\n  Connection: closed, xclose\nbody() complete\nclose\n"},
      {"GET / HTTP/1.9\r\nHost: x\r\n\r\n",
       "GET / 1.1 host x keep\n  Host: x\nbody() complete\nclose\n"},
      {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / 1.1 keep\n  Host: \nbody() complete\nclose\n"},
      {"GET /%00\xff\"<> HTTP/1.1\r\nhOST:\t [::1]:80 \t\r\nA:\xff\tb  c\r\nB:\r\n\r\n",
       "GET /%00\xff\"<> 1.1 host [::1]:80 keep\n  hOST: [::1]:80\n  A: \xff\tb  c\n  B: \n"
       "body() complete\nclose\n"},
      {"!#$%&'*+-.^_`|~09az / HTTP/1.1\r\nHost: x\r\n!#$%&'*+-.^_`|~09az: y\r\n\r\n",
       "!#$%&'*+-.^_`|~09az / 1.1 host x keep\n  Host: x\n  !#$%&'*+-.^_`|~09az: y\n"
       "body() complete\nclose\n"},
      {"GET //a//b HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
       "GET //a//b 1.1 host x keep\n  Host: x\n  Upgrade: h2c\n  Connection: upgrade\n"
       "body() complete\nclose\n"},
  });
}

TEST(Conformance, FormsOfTheTarget) {
  expect_all({
      {"GET http://Example.com:80/a?b HTTP/1.1\r\nHost: other\r\nX: 1\r\n\r\n",
       "GET http://Example.com:80/a?b uri /a?b 1.1 host Example.com:80 keep\n"
       "  Host: Example.com:80\n  X: 1\nbody() complete\nclose\n"},
      {"GET HTTPS://x HTTP/1.1\r\nHost: x\r\n\r\n",
       "GET HTTPS://x uri / 1.1 host x keep\n  Host: x\nbody() complete\nclose\n"},
      {"GET http://x?q HTTP/1.0\r\n\r\n",
       "GET http://x?q uri /?q 1.0 host x\n  Host: x\nbody() complete\nclose\n"},
      {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
       "OPTIONS * 1.1 host x keep\n  Host: x\nbody() complete\nclose\n"},
      {"OPTIONS http://x HTTP/1.1\r\nHost: y\r\n\r\n",
       "OPTIONS http://x uri * 1.1 host x keep\n  Host: x\nbody() complete\nclose\n"},
      {"OPTIONS http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
       "OPTIONS http://x/ uri / 1.1 host x keep\n  Host: x\nbody() complete\nclose\n"},
      {"GET /http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
       "GET /http://y/ 1.1 host x keep\n  Host: x\nbody() complete\nclose\n"},
  });
}

TEST(Conformance, EmptyLinesInFront) {
  const std::string request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string log = "GET / 1.1 host x keep\n  Host: x\nbody() complete\n";
  EXPECT_EQ(play("\r\n\r\n" + request + "\r\n" + request), log + log + "close\n");
  EXPECT_EQ(play("\r\n\r\n\r\n" + request),
            "refused 400: too many empty lines before a request\nclose\n");
  EXPECT_EQ(play("\n" + request), "refused 400: LF without CR\nclose\n");
  EXPECT_EQ(play("\r" + request), "refused 400: CR without LF\nclose\n");
  EXPECT_EQ(play("\r\n"), "close\n");
  EXPECT_EQ(play("\r"), "close\n");
  EXPECT_EQ(play(""), "close\n");
  EXPECT_EQ(play(request.substr(0, request.size() - 1)), "close\n");
}

struct Refused {
  std::string bytes;
  int status;
  std::string_view reason;
};

// Alone and behind a good request.
void expect_refused(const std::vector<Refused>& cases) {
  for (const Refused& c : cases) {
    const std::string log =
        "refused " + std::to_string(c.status) + ": " + std::string(c.reason) + "\nclose\n";
    EXPECT_EQ(play(c.bytes), log) << c.bytes;
    EXPECT_EQ(play("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" + c.bytes + "GET /2 HTTP/1.1\r\n\r\n"),
              "GET /1 1.1 host x keep\n  Host: x\nbody() complete\n" + log)
        << c.bytes;
  }
}

TEST(Conformance, MalformedRequestLines) {
  constexpr std::string_view kParts = "the request line has not three parts";
  constexpr std::string_view kVersion = "the version is malformed";
  constexpr std::string_view kForm = "the target is in no form for this method";
  constexpr std::string_view kAuthority = "the target has a malformed authority";
  constexpr std::string_view kControl = "control character in the head";
  std::vector<Refused> cases = {
      {"GET /\r\n", 400, kParts},
      {"GET\r\n", 400, kParts},
      {" \r\n", 400, kParts},
      {"  \r\n", 400, "the method is not a token"},
      {" GET / HTTP/1.1\r\n", 400, "the method is not a token"},
      {"GET  / HTTP/1.1\r\n", 400, kParts},
      {"GET /  HTTP/1.1\r\n", 400, kParts},
      {"GET / HTTP/1.1 \r\n", 400, kParts},
      {"GET  HTTP/1.1\r\n", 400, kParts},
      {"GET /a b HTTP/1.1\r\n", 400, kParts},
      {"GET\t/ HTTP/1.1\r\n", 400, kParts},
      {"GET\t/ x HTTP/1.1\r\n", 400, "the method is not a token"},
      {"GET /\ta HTTP/1.1\r\n", 400, kParts},
      {"GET /\tHTTP/1.1\r\n", 400, kParts},
      {"G(T / HTTP/1.1\r\n", 400, "the method is not a token"},
      {"G\xc3\xa9T / HTTP/1.1\r\n", 400, "the method is not a token"},
      {"GET / HTTP/1.10\r\n", 400, kVersion},
      {"GET / HTTP/1\r\n", 400, kVersion},
      {"GET / HTTP/11\r\n", 400, kVersion},
      {"GET / http/1.1\r\n", 400, kVersion},
      {"GET / HTTP/1,1\r\n", 400, kVersion},
      {"GET / HTTP/x.1\r\n", 400, kVersion},
      {"GET / HTTP/1.x\r\n", 400, kVersion},
      {"GET / HTTPS/1.1\r\n", 400, kVersion},
      {"GET / ICY/1.1\r\n", 400, kVersion},
      {"GET / HTTP/0.9\r\n", 400, "HTTP/0 has no such request"},
      {"GET / HTTP/2.0\r\n", 505, "an unknown major version of HTTP"},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "an unknown major version of HTTP"},
      {"GET / HTTP/9.9\r\n", 505, "an unknown major version of HTTP"},
      {"CONNECT x:443 HTTP/1.1\r\n", 501, "CONNECT is not for this server"},
      {"CONNECT / HTTP/1.1\r\n", 501, "CONNECT is not for this server"},
      {"GET x:443 HTTP/1.1\r\n", 400, kForm},
      {"GET x HTTP/1.1\r\n", 400, kForm},
      {"GET ?q HTTP/1.1\r\n", 400, kForm},
      {"GET \\a HTTP/1.1\r\n", 400, kForm},
      {"GET http HTTP/1.1\r\n", 400, kForm},
      {"GET http: HTTP/1.1\r\n", 400, kForm},
      {"GET http:/x HTTP/1.1\r\n", 400, kForm},
      {"GET ftp://x/ HTTP/1.1\r\n", 400, kForm},
      {"GET httpx://x/ HTTP/1.1\r\n", 400, kForm},
      {"OPTIONS *a HTTP/1.1\r\n", 400, kForm},
      {"GET * HTTP/1.1\r\n", 400, "the target * is for OPTIONS only"},
      {"options * HTTP/1.1\r\n", 400, "the target * is for OPTIONS only"},
      {"GET http:/// HTTP/1.1\r\n", 400, kAuthority},
      {"GET http://u@x/ HTTP/1.1\r\n", 400, kAuthority},
      {"GET http://x:99999/ HTTP/1.1\r\n", 400, kAuthority},
      {"GET http://:80/ HTTP/1.1\r\n", 400, kAuthority},
      {"GET http://a\\b/ HTTP/1.1\r\n", 400, kAuthority},
      {"GET /a#b HTTP/1.1\r\n", 400, "the target has a fragment"},
      {text({"GET /\0 HTTP/1.1\r\n", 17}), 400, kControl},
      {"GET /\x01 HTTP/1.1\r\n", 400, kControl},
      {"GET /\x7f HTTP/1.1\r\n", 400, kControl},
      {"GET /\x0b HTTP/1.1\r\n", 400, kControl},
      {"GET / HTTP/1.1\n", 400, "LF without CR"},
      {"GET /\nHTTP/1.1\r\n", 400, "LF without CR"},
      {"GET /\rHTTP/1.1\r\n", 400, "CR without LF"},
      {"GET / HTTP/1.1\r\r\n", 400, "CR without LF"},
      {"\x16\x03\x01\x02", 400, kControl},  // a client that speaks TLS
      {std::string(65, 'A') + " / HTTP/1.1\r\n", 501, "the method is too long"},
  };
  expect_refused(cases);
  EXPECT_EQ(play(std::string(64, 'A') + " / HTTP/1.0\r\n\r\n"),
            std::string(64, 'A') + " / 1.0\nbody() complete\nclose\n");
}

TEST(Conformance, MalformedFieldLines) {
  constexpr std::string_view kName = "a header name is not a token";
  constexpr std::string_view kColon = "a header line without colon";
  constexpr std::string_view kFolded = "a folded header line";
  constexpr std::string_view kControl = "control character in the head";
  const auto with = [](std::string_view lines) {
    return "GET / HTTP/1.1\r\nHost: x\r\n" + std::string(lines) + "\r\n";
  };
  expect_refused({
      {with("A : b\r\n"), 400, kName},
      {with("A\t: b\r\n"), 400, kName},
      {with(": b\r\n"), 400, kName},
      {with("A B: c\r\n"), 400, kName},
      {with("A(: c\r\n"), 400, kName},
      {with("\"A\": c\r\n"), 400, kName},
      {with("\xc3\xa9: c\r\n"), 400, kName},
      {with("A\r\n"), 400, kColon},
      {with("GET / HTTP/1.1\r\n"), 400, kColon},
      {with("A: b\r\n c\r\n"), 400, kFolded},
      {with("A: b\r\n\tc: d\r\n"), 400, kFolded},
      {with(" \r\n"), 400, kFolded},
      {"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, kFolded},
      {with(text({"A: b\0c\r\n", 8})), 400, kControl},
      {with("A: b\x01\r\n"), 400, kControl},
      {with("A: b\x7f\r\n"), 400, kControl},
      {with("A: b\x0b\r\n"), 400, kControl},
      {with("A\x0c: b\r\n"), 400, kControl},
      {with("A: b\n"), 400, "LF without CR"},
      {with("A: b\nTransfer-Encoding: chunked\r\n"), 400, "LF without CR"},
      {with("A: b\rC: d\r\n"), 400, "CR without LF"},
      {with("A: b\r\r\n"), 400, "CR without LF"},
      {"GET / HTTP/1.1\r\nHost: x\r\n\n", 400, "LF without CR"},
      {"GET / HTTP/1.1\r\nHost: x\r\n\rx", 400, "CR without LF"},
  });
}

TEST(Conformance, HostOfHttp11) {
  const auto with = [](std::string_view lines) {
    return "GET / HTTP/1.1\r\n" + std::string(lines) + "\r\n";
  };
  constexpr std::string_view kTwice = "more than one Host";
  std::vector<Refused> cases = {
      {with(""), 400, "no Host"},
      {with("Hosts: x\r\n"), 400, "no Host"},
      {"GET http://x/ HTTP/1.1\r\n\r\n", 400, "no Host"},
      {with("Host: x\r\nHost: x\r\n"), 400, kTwice},
      {with("Host: x\r\nhost: y\r\n"), 400, kTwice},
      {"GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", 400, kTwice},
  };
  for (const std::string_view host :
       {"a b",      "a/b",    "a@b", "a:b",       "a:1:2",        ":80",    "a:-1",     "a:65536",
        "a:000080", "a?b",    "a#b", "a\\b",      "<a>",          "a\"",    "a,b:x",    "[::1",
        "::1",      "[::1]x", "[]",  "[1.2.3.4]", "[::1%25eth0]", "[v1.x]", "\xc3\xa9", "%",
        "%1",       "%zz",    "{a}", "a|b",       "a^b"}) {
    cases.push_back({with("Host: " + std::string(host) + "\r\n"), 400, "a malformed Host"});
  }
  expect_refused(cases);
  for (const std::string_view host : {"a", "A.b-c_d~", "a:", "a:0", "a:65535", "1.2.3.4:8080",
                                      "[::1]", "[2001:db8::1]:443", "%41", "a,b", "!$&'()*+;="}) {
    Player player;
    player.feed(with("Host: " + std::string(host) + "\r\n"));
    EXPECT_EQ(player.log().find("refused"), std::string::npos) << host;
  }
}

TEST(Conformance, SmugglingByLength) {
  const auto with = [](std::string_view lines, std::string_view version = "1.1") {
    return "POST / HTTP/" + std::string(version) + "\r\nHost: x\r\n" + std::string(lines) +
           "\r\n0\r\n\r\n";
  };
  constexpr std::string_view kBoth = "Transfer-Encoding and Content-Length";
  constexpr std::string_view kLength = "a malformed Content-Length";
  constexpr std::string_view kCoding = "a malformed Transfer-Encoding";
  constexpr std::string_view kUnknown = "an unknown Transfer-Encoding";
  expect_refused({
      {with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, kBoth},
      {with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400, kBoth},
      {with("Transfer-Encoding: xchunked\r\ncontent-length: 0\r\n"), 400, kBoth},
      {with("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, "more than one Content-Length"},
      {with("Content-Length: 5\r\ncONTENT-lENGTH: 6\r\n"), 400, "more than one Content-Length"},
      {with("Content-Length: 5, 5\r\n"), 400, kLength},
      {with("Content-Length: 5,\r\n"), 400, kLength},
      {with("Content-Length: +5\r\n"), 400, kLength},
      {with("Content-Length: -5\r\n"), 400, kLength},
      {with("Content-Length: 0x5\r\n"), 400, kLength},
      {with("Content-Length: 5 5\r\n"), 400, kLength},
      {with("Content-Length: 5.0\r\n"), 400, kLength},
      {with("Content-Length: \"5\"\r\n"), 400, kLength},
      {with("Content-Length:\r\n"), 400, kLength},
      {with("Content-Length: a\r\n"), 400, kLength},
      {with("Content-Length: 5\xc2\xa0\r\n"), 400, kLength},
      {with("Content-Length: 18446744073709551616\r\n"), 400, kLength},
      {with("Content-Length: 99999999999999999999999999\r\n"), 400, kLength},
      {with("Content-Length: 18446744073709551615\r\n"), 400, "an impossible Content-Length"},
      {with("Content-Length: 4611686018427387905\r\n"), 400, "an impossible Content-Length"},
      {with("Content-Length : 5\r\n"), 400, "a header name is not a token"},
      {with("Transfer-Encoding : chunked\r\n"), 400, "a header name is not a token"},
      {with(" Transfer-Encoding: chunked\r\n"), 400, "a folded header line"},
      {with("Transfer-Encoding:\r\n chunked\r\n"), 400, "a folded header line"},
      {with("Transfer-Encoding: chunked\r\n", "1.0"), 400, "Transfer-Encoding in HTTP/1.0"},
      {with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400,
       "more than one Transfer-Encoding"},
      {with("Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n"), 400,
       "more than one Transfer-Encoding"},
      {with("Transfer-Encoding: chunked, chunked\r\n"), 400, kCoding},
      {with("Transfer-Encoding: gzip, chunked\r\n"), 400, kCoding},
      {with("Transfer-Encoding: chunked,\r\n"), 400, kCoding},
      {with("Transfer-Encoding: ,chunked\r\n"), 400, kCoding},
      {with("Transfer-Encoding: \"chunked\"\r\n"), 400, kCoding},
      {with("Transfer-Encoding: chunked;q=1\r\n"), 400, kCoding},
      {with("Transfer-Encoding:\r\n"), 400, kCoding},
      {with("Transfer-Encoding: \xff"
            "chunked\r\n"),
       400, kCoding},
      {with("Transfer-Encoding: \x0b"
            "chunked\r\n"),
       400, "control character in the head"},
      {with("Transfer-Encoding: xchunked\r\n"), 501, kUnknown},
      {with("Transfer-Encoding: identity\r\n"), 501, kUnknown},
      {with("Transfer-Encoding: gzip\r\n"), 501, kUnknown},
  });
  EXPECT_EQ(play(with("Transfer-Encoding: \tChUnKeD \r\n")),
            "POST / 1.1 host x chunked keep\n  Host: x\n  Transfer-Encoding: ChUnKeD\n"
            "body() complete\nclose\n");
  EXPECT_EQ(play(with("Content-Length: 0005\r\n")),
            "POST / 1.1 host x length 5 keep\n  Host: x\n  Content-Length: 0005\n"
            "body(0\r\n\r\n) complete\nclose\n");
}

TEST(Conformance, Expectations) {
  const auto with = [](std::string_view lines, std::string_view version = "1.1") {
    return "POST / HTTP/" + std::string(version) + "\r\nHost: x\r\n" + std::string(lines) + "\r\n";
  };
  expect_refused({
      {with("Expect: 200-ok\r\n"), 417, "an unknown expectation"},
      {with("Expect: 100-continue, x\r\n"), 417, "an unknown expectation"},
      {with("Expect:\r\n"), 417, "an unknown expectation"},
      {with("Expect: 100-continue\r\nExpect: x\r\n"), 417, "an unknown expectation"},
  });
  EXPECT_EQ(play(with("Expect: 100-Continue\r\nContent-Length: 1\r\n") + "b"),
            "POST / 1.1 host x length 1 keep expects\n  Host: x\n  Expect: 100-Continue\n"
            "  Content-Length: 1\nbody(b) complete\nclose\n");
  EXPECT_EQ(play(with("Expect: 100-continue\r\n")),
            "POST / 1.1 host x keep\n  Host: x\n  Expect: 100-continue\nbody() complete\nclose\n");
  EXPECT_EQ(play(with("Expect: x\r\nContent-Length: 1\r\n", "1.0") + "b"),
            "POST / 1.0 host x length 1\n  Host: x\n  Expect: x\n  Content-Length: 1\n"
            "body(b) complete\nclose\n");
}

TEST(Conformance, BodiesWithLength) {
  const std::string head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
  const std::string log = "POST / 1.1 host x length 5 keep\n  Host: x\n  Content-Length: 5\n";
  EXPECT_EQ(play(head + "12345"), log + "body(12345) complete\nclose\n");
  EXPECT_EQ(play(head + "12345" + head + "abcde"),
            log + "body(12345) complete\n" + log + "body(abcde) complete\nclose\n");
  EXPECT_EQ(play(head + "123"), log + "body(123) short\nclose\n");
  EXPECT_EQ(play(head), log + "body() short\nclose\n");
  EXPECT_EQ(play(head + "123456"), log + "body(12345) complete\nclose\n");
  EXPECT_EQ(play(head + "12345x y\r\n\r\n"),
            log +
                "body(12345) complete\nrefused 400: the request line has not three parts\n"
                "close\n");
  EXPECT_EQ(play(head + "12345", {}, true), log + "body() unread\nclose\n");
  EXPECT_EQ(play(head + "12345" + head + "abcde", {}, true),
            log + "body() unread\n" + log + "body() unread\nclose\n");
}

TEST(Conformance, NothingIsReadBehindARequestThatCloses) {
  EXPECT_EQ(play("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n"),
            "GET / 1.1 host x\n  Host: x\n  Connection: close\nbody() complete\nclose\n");
  EXPECT_EQ(play("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
            "GET / 1.0\nbody() complete\nclose\n");
  // Whether the body comes is unknown when nobody has asked for it, so what follows could be either.
  EXPECT_EQ(play("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
                 "GET / HTTP/1.1\r\n",
                 {}, true),
            "POST / 1.1 host x length 5 keep expects\n  Host: x\n  Content-Length: 5\n"
            "  Expect: 100-continue\nbody() unread\nclose\n");
}

const std::string& chunked_head() {
  static const std::string kHead =
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  return kHead;
}

const std::string& chunked_log() {
  static const std::string kLog =
      "POST / 1.1 host x chunked keep\n  Host: x\n  Transfer-Encoding: chunked\n";
  return kLog;
}

TEST(Conformance, ChunkedBodies) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"0\r\n\r\n", ""},
      {"5\r\n12345\r\n0\r\n\r\n", "12345"},
      {"1\r\na\r\n0000000000000002\r\nbc\r\n000\r\n\r\n", "abc"},
      {"a\r\n0123456789\r\nA\r\nabcdefghij\r\n0\r\n\r\n", "0123456789abcdefghij"},
      {"2;x\r\nab\r\n0;y=1;z=\"q\\\"; \\\\\xff\t\"\r\n\r\n", "ab"},
      {"2; x = y\r\n\r\n\r\n0\r\n\r\n", "\r\n"},
      {"0\r\nA: b\r\nTrailer:\tc\xff \r\n\r\n", ""},
      {"0\r\nContent-Length: 5\r\nHost: y\r\n\r\n", ""},
  };
  for (const auto& [bytes, body] : cases) {
    const std::string log = chunked_log() + "body(" + body + ") complete\n";
    EXPECT_EQ(play(chunked_head() + bytes), log + "close\n") << bytes;
    EXPECT_EQ(play(chunked_head() + bytes + chunked_head() + bytes), log + log + "close\n")
        << bytes;
    EXPECT_EQ(play(chunked_head() + bytes + chunked_head() + bytes, {}, true),
              chunked_log() + "body() unread\n" + chunked_log() + "body() unread\nclose\n")
        << bytes;
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
      Player player;
      player.feed(chunked_head() + bytes.substr(0, cut));
      player.close();
      EXPECT_NE(player.log().find(" short\nclose\n"), std::string::npos) << bytes << " " << cut;
    }
  }
}

TEST(Conformance, MalformedChunks) {
  constexpr std::string_view kSize = "a malformed chunk size";
  constexpr std::string_view kExtension = "a malformed chunk extension";
  constexpr std::string_view kTrailer = "a malformed trailer";
  constexpr std::string_view kLonger = "a chunk is longer than its size";

  struct Malformed {
    std::string bytes;
    std::string_view error;
    std::string body = {};
  };

  const std::vector<Malformed> cases = {
      {"\r\n", kSize},
      {"g\r\n", kSize},
      {"+1\r\n", kSize},
      {"-1\r\n", kSize},
      {"0x1\r\n", kSize},
      {" 1\r\n", kSize},
      {"1 \r\n", kSize},
      {"1 ;x\r\n", kSize},
      {"1\t\r\n", kSize},
      {"1,\r\n", kSize},
      {"1_0\r\n", kSize},
      {";x\r\n", kSize},
      {"\n", kSize},
      {"1\n", kSize},
      {text({"1\0", 2}), kSize},
      {"00000000000000001\r\n", "a chunk size has too many digits"},
      {"fffffffffffffffff\r\n", "a chunk size has too many digits"},
      {"ffffffffffffffff\r\n", "an impossible chunk size"},
      {"4000000000000001\r\n", "an impossible chunk size"},
      {"1\r\r\n", "CR without LF in a chunk header"},
      {"1\rx", "CR without LF in a chunk header"},
      {"1;x\n", kExtension},
      {"1;x\rx", "CR without LF in a chunk header"},
      {"1;x=\"\r\n", kExtension},
      {"1;x=\"\\\r\n", kExtension},
      {"1;x=\"\n\"\r\n", kExtension},
      {"1;\x01\r\n", kExtension},
      {"1;x=\xff\r\n", kExtension},
      {"1;x=\"\x7f\"\r\n", kExtension},
      {text({"1;x=\"\0\"\r\n", 9}), kExtension},
      {"1\r\nab", kLonger, "a"},
      {"1\r\na\n", kLonger, "a"},
      {"1\r\na0\r\n\r\n", kLonger, "a"},
      {"1\r\na\rx", "CR without LF behind a chunk", "a"},
      {"1\r\na\r\n\r\n", kSize, "a"},
      {"0\r\n\n", kTrailer},
      {"0\r\n\rx", "CR without LF behind the last chunk"},
      {"0\r\nA\r\n", kTrailer},
      {"0\r\nA : b\r\n", kTrailer},
      {"0\r\n: b\r\n", kTrailer},
      {"0\r\n b\r\n", kTrailer},
      {"0\r\nA: b\r\n c\r\n", kTrailer},
      {"0\r\nA: b\n", kTrailer},
      {"0\r\nA: b\rc", "CR without LF in a trailer"},
      {text({"0\r\nA: \0\r\n", 9}), kTrailer},
      {"0\r\nGET / HTTP/1.1\r\n", kTrailer},
  };
  for (const Malformed& c : cases) {
    const std::string rest = "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n";
    EXPECT_EQ(play(chunked_head() + c.bytes + rest),
              chunked_log() + "dropped: " + std::string(c.error) + "\nbody(" + c.body +
                  ") malformed\nclose\n")
        << c.bytes;
    EXPECT_EQ(play(chunked_head() + c.bytes + rest, {}, true),
              chunked_log() + "body() unread\ndropped: " + std::string(c.error) + "\n")
        << c.bytes;
  }
}

TEST(Conformance, LimitsHoldToTheByte) {
  const std::string head = "GET /abcd HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string log = "GET /abcd 1.1 host x keep\n  Host: x\nbody() complete\nclose\n";
  Limits limits;
  limits.head_bytes = head.size();
  EXPECT_EQ(play(head, limits), log);
  EXPECT_EQ(play("\r\n\r\n" + head, limits), log);
  for (std::size_t size = 0; size < head.size(); ++size) {
    limits.head_bytes = size;
    EXPECT_EQ(play(head, limits), "refused 431: the head is too large\nclose\n") << size;
  }
  limits = {};
  limits.field_count = 1;
  EXPECT_EQ(play(head, limits), log);
  limits.field_count = 0;
  EXPECT_EQ(play(head, limits), "refused 431: too many header lines\nclose\n");
  limits = {};
  limits.target_bytes = 5;
  EXPECT_EQ(play(head, limits), log);
  limits.target_bytes = 4;
  EXPECT_EQ(play(head, limits), "refused 414: the target is too long\nclose\n");
  EXPECT_EQ(play("GET /" + std::string(200, 'a') + " HTTP/1.1\r\n", limits),
            "refused 414: the request line is too long\nclose\n");
}

TEST(Conformance, LimitsOfTheBody) {
  Limits limits;
  limits.chunk_extension_bytes = 7;
  const std::string extended = chunked_head() + "1;a\r\nx\r\n1;bc\r\ny\r\n0;d\r\n\r\n";
  EXPECT_EQ(play(extended, limits), chunked_log() + "body(xy) complete\nclose\n");
  limits.chunk_extension_bytes = 6;
  EXPECT_EQ(
      play(extended, limits),
      chunked_log() + "dropped: too many bytes of chunk extensions\nbody(xy) malformed\nclose\n");
  limits = {};
  const std::string trailed = chunked_head() + "0\r\nA: b\r\nC:\r\n\r\n";
  limits.trailer_bytes = 10;
  EXPECT_EQ(play(trailed, limits), chunked_log() + "body() complete\nclose\n");
  limits.trailer_bytes = 9;
  EXPECT_EQ(play(trailed, limits), chunked_log() +
                                       "dropped: too many bytes of trailers\nbody() malformed\n"
                                       "close\n");
}

TEST(Conformance, LimitOfWhatIsReadAway) {
  Limits limits;
  limits.drain_bytes = 10;
  const std::string next = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string next_log = "GET / 1.1 host x keep\n  Host: x\nbody() unread\n";
  const auto with = [](std::string_view length) {
    return "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::string(length) + "\r\n\r\n";
  };
  const auto log = [](std::string_view length) {
    return "PUT / 1.1 host x length " + std::string(length) +
           " keep\n  Host: x\n  Content-Length: " + std::string(length) + "\nbody() unread\n";
  };
  EXPECT_EQ(play(with("10") + "0123456789" + next, limits, true), log("10") + next_log + "close\n");
  EXPECT_EQ(play(with("11") + "0123456789a" + next, limits, true), log("11") + "close\n");
  const std::string chunks = "1\r\na\r\n0\r\n\r\n";  // eleven bytes
  EXPECT_EQ(play(chunked_head() + chunks + next, limits, true),
            chunked_log() + "body() unread\ndropped: too much of a body that nobody reads\n");
  limits.drain_bytes = 11;
  EXPECT_EQ(play(chunked_head() + chunks + next, limits, true),
            chunked_log() + "body() unread\n" + next_log + "close\n");
}

}  // namespace
}  // namespace bladepsgi::http
