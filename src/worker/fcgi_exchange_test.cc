#include "worker/fcgi_exchange.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "fcgi/testing.h"
#include "handoff/outgoing.h"
#include "handoff/transfer.h"
#include "os/socket.h"

namespace bladepsgi::worker {
namespace {

using fcgi::RecordType;
using fcgi::testing::begin;
using fcgi::testing::body;
using fcgi::testing::Pairs;
using fcgi::testing::params;
using fcgi::testing::record;
using fcgi::testing::Replies;
using fcgi::testing::Reply;
using fcgi::testing::whole_request;
using Progress = FcgiExchange::Progress;
using Patience = FcgiExchange::Patience;
using std::chrono::milliseconds;

constexpr int kPeerPatience = 20'000;  // of poll(2); only a failing test waits so long

const Pairs kGet = {{"REQUEST_METHOD", "GET"}, {"REQUEST_URI", "/x"}};

Pairs post(std::size_t length) {
  return {{"REQUEST_METHOD", "POST"},
          {"REQUEST_URI", "/x"},
          {"CONTENT_LENGTH", std::to_string(length)}};
}

const Pairs kChunked = {{"REQUEST_METHOD", "POST"}, {"REQUEST_URI", "/x"}};

// The web server's end of the connection.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}

  // All of it, whatever time it takes; false when the other side has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  // One recv; empty at the end.
  std::string receive_some() {
    pollfd readable{fd_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&readable, 1, kPeerPatience), 1) << "nothing came";
    std::string bytes(256 * 1024, '\0');
    const ssize_t size = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    if (size < 0) error_ = errno;
    bytes.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return bytes;
  }

  std::string receive_to_end() {
    std::string all;
    for (std::string some = receive_some(); !some.empty(); some = receive_some())
      all += some;
    return all;
  }

  // Until `id` has its END_REQUEST, for connections that are kept.
  std::string receive_response(std::uint16_t id = 1) {
    std::string all;
    for (;;) {
      const Replies replies = Replies::parse(all);
      const auto found = replies.by_id.find(id);
      if (found != replies.by_id.end() && found->second.ends > 0) return all;
      const std::string some = receive_some();
      if (some.empty()) return all;
      all += some;
    }
  }

  [[nodiscard]] bool has_something() const {
    pollfd readable{fd_.get(), POLLIN, 0};
    return ::poll(&readable, 1, 0) == 1;
  }

  void end_sending() { ::shutdown(fd_.get(), SHUT_WR); }

  void close() { fd_.reset(); }

  [[nodiscard]] int error() const { return error_; }

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  os::Fd fd_;
  int error_ = 0;
};

struct Ends {
  os::Fd ours;
  os::Fd peers;
};

Ends unix_pair(int type = SOCK_STREAM) {
  std::array<int, 2> fds{};
  EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds.data()), 0);
  EXPECT_EQ(::fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
  return {os::Fd(fds[0]), os::Fd(fds[1])};
}

Ends tcp_pair() {
  const os::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(listener.get(), raw, size), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  EXPECT_EQ(::getsockname(listener.get(), raw, &size), 0);
  os::Fd peer(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(peer.get(), raw, size), 0);
  os::Fd ours(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  EXPECT_TRUE(ours.is_open());
  return {std::move(ours), std::move(peer)};
}

FcgiOptions quick_options() {
  FcgiOptions options;
  options.exchange.head_timeout = options.exchange.body_timeout = options.exchange.send_timeout =
      milliseconds(kPeerPatience);
  return options;
}

class FcgiExchangeTest : public ::testing::Test {
 protected:
  explicit FcgiExchangeTest(const FcgiOptions& options = quick_options()) : exchange(options) {
    connect(unix_pair(), Transport::Unix);
  }

  void connect(Ends ends, Transport transport) {
    exchange.attach(std::move(ends.ours), transport);
    peer = Peer(ends.peers.release());
  }

  // Another exchange with other options, on a fresh connection.
  void use(FcgiOptions options) {
    exchange.~FcgiExchange();
    new (&exchange) FcgiExchange(std::move(options));
    connect(unix_pair(), Transport::Unix);
  }

  void accept(std::string_view bytes) {
    ASSERT_TRUE(peer.send(bytes));
    ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
    ASSERT_EQ(exchange.prepare(), Progress::Ready);
  }

  void respond(std::string_view text, int status = 200) {
    const std::array<runtime::Header, 1> headers = {runtime::Header{"Content-Type", "text/plain"}};
    exchange.start_response(status, headers);
    EXPECT_TRUE(exchange.write(as_bytes(text)));
    exchange.finish();
  }

  std::string parameter(std::string_view name) {
    for (const Parameter& p : exchange.parameters()) {
      if (p.name == name) return std::string(p.value);
    }
    return "(absent)";
  }

  // The whole body as the application reads it, in pieces of `piece`; `error` is the last error.
  std::string read_all(std::size_t piece, int& error) {
    std::string all;
    std::vector<std::byte> buffer(piece);
    for (;;) {
      const runtime::BodyRead got = exchange.read_body(buffer);
      error = got.error;
      if (got.size == 0) return all;
      all += as_text(Bytes(buffer).first(got.size));
    }
  }

  FcgiExchange exchange;
  Peer peer{-1};
};

Reply only_reply(const std::string& bytes, std::uint16_t id = 1) {
  const Replies replies = Replies::parse(bytes);
  EXPECT_TRUE(replies.is_sound);
  EXPECT_EQ(replies.left_over, 0U);
  EXPECT_LE(replies.longest, fcgi::kMaxContentSent);
  return replies.by_id.count(id) != 0 ? replies.by_id.at(id) : Reply{};
}

std::string body_of(const Reply& reply) {
  return reply.out.substr(reply.out.find("\r\n\r\n") + 4);
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return text;
}

os::Fd file_with(std::string_view content) {
  os::Fd file(::memfd_create("content", MFD_CLOEXEC));
  EXPECT_EQ(::write(file.get(), content.data(), content.size()),
            static_cast<ssize_t>(content.size()));
  return file;
}

// --- responses

TEST_F(FcgiExchangeTest, AnswersAndCloses) {
  accept(whole_request(1, false, kGet));
  EXPECT_EQ(exchange.method(), "GET");
  EXPECT_EQ(exchange.uri(), "/x");
  respond("hello");
  EXPECT_FALSE(exchange.is_attached());
  const Reply reply = only_reply(peer.receive_to_end());
  EXPECT_EQ(reply.out, "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nhello");
  EXPECT_EQ(reply.out_ends, 1);
  EXPECT_EQ(reply.ends, 1);
  EXPECT_EQ(reply.protocol_status, 0);
  EXPECT_EQ(reply.err_ends, 0);
  EXPECT_EQ(exchange.status(), 200);
}

TEST_F(FcgiExchangeTest, ArrayResponseIsOneSendmsg) {
  connect(unix_pair(SOCK_SEQPACKET), Transport::Unix);  // one recv is one sendmsg
  accept(whole_request(1, true, kGet));
  exchange.start_response(200, {});
  for (const char* part : {"one ", "two ", "three"})
    EXPECT_TRUE(exchange.write(as_bytes(part)));
  exchange.finish();
  const Reply reply = only_reply(peer.receive_some());
  EXPECT_EQ(body_of(reply), "one two three");
  EXPECT_EQ(reply.ends, 1);
  EXPECT_FALSE(peer.has_something());
}

TEST_F(FcgiExchangeTest, CountsBytes) {
  const std::string request = whole_request(1, true, post(4), "body");
  accept(request);
  respond("hello");
  EXPECT_EQ(exchange.bytes_received(), request.size());
  EXPECT_EQ(exchange.bytes_sent(), peer.receive_response().size());
}

TEST_F(FcgiExchangeTest, HeadersKeepTheirOrderAndRepetitions) {
  accept(whole_request(1, false, kGet));
  const std::array<runtime::Header, 3> headers = {runtime::Header{"Set-Cookie", "b=2"},
                                                  runtime::Header{"X", ""},
                                                  runtime::Header{"Set-Cookie", "a=1"}};
  exchange.start_response(404, headers);
  exchange.finish();
  EXPECT_EQ(only_reply(peer.receive_to_end()).out,
            "Status: 404 Not Found\r\nSet-Cookie: b=2\r\nX: \r\nSet-Cookie: a=1\r\n\r\n");
}

TEST_F(FcgiExchangeTest, HeadAndBodilessStatusesSendNoBody) {
  for (const auto& [method, status] : std::vector<std::pair<std::string, int>>{
           {"HEAD", 200}, {"GET", 204}, {"GET", 304}, {"GET", 103}}) {
    connect(unix_pair(), Transport::Unix);
    accept(whole_request(1, false, {{"REQUEST_METHOD", method}}));
    exchange.start_response(status, {});
    EXPECT_FALSE(exchange.wants_body());
    EXPECT_TRUE(exchange.write(as_bytes("not sent")));
    EXPECT_EQ(exchange.send_file(-1, 0, 10, false), 10);
    EXPECT_TRUE(exchange.flush());
    exchange.finish();
    const Reply reply = only_reply(peer.receive_to_end());
    EXPECT_EQ(body_of(reply), "") << method << status;
    EXPECT_EQ(reply.ends, 1);
  }
}

TEST_F(FcgiExchangeTest, EmptyWritesDoNotEndTheResponse) {
  accept(whole_request(1, false, kGet));
  exchange.start_response(200, {});
  EXPECT_TRUE(exchange.write({}));
  EXPECT_TRUE(exchange.flush());
  EXPECT_TRUE(exchange.flush());
  EXPECT_TRUE(exchange.write(as_bytes("x")));
  EXPECT_TRUE(exchange.write({}));
  EXPECT_TRUE(exchange.flush());
  exchange.finish();
  const Reply reply = only_reply(peer.receive_to_end());
  EXPECT_EQ(body_of(reply), "x");
  EXPECT_EQ(reply.out_ends, 1);
}

TEST_F(FcgiExchangeTest, EachFlushArrivesAtOnce) {
  connect(unix_pair(SOCK_SEQPACKET), Transport::Unix);
  accept(whole_request(1, true, kGet));
  exchange.start_response(200, {});
  EXPECT_FALSE(exchange.is_committed());
  EXPECT_TRUE(exchange.flush());
  EXPECT_TRUE(exchange.is_committed());
  EXPECT_EQ(only_reply(peer.receive_some()).out, "Status: 200 OK\r\n\r\n");
  for (const std::string line : {"first\n", "second\n"}) {
    EXPECT_TRUE(exchange.write(as_bytes(line)));
    EXPECT_FALSE(peer.has_something());
    EXPECT_TRUE(exchange.flush());
    EXPECT_EQ(only_reply(peer.receive_some()).out, line);
  }
  exchange.finish();
  EXPECT_EQ(only_reply(peer.receive_some()).ends, 1);
}

TEST_F(FcgiExchangeTest, LargeBodyOfOnePieceAndOfManyIsCutIntoRecords) {
  const std::string large = pattern(3'000'000);
  for (const std::size_t piece : std::initializer_list<std::size_t>{large.size(), 100'000, 1000}) {
    connect(unix_pair(), Transport::Unix);
    accept(whole_request(1, false, kGet));
    std::string received;
    std::thread reader([&] { received = peer.receive_to_end(); });
    exchange.start_response(200, {});
    for (std::size_t at = 0; at < large.size(); at += piece) {
      EXPECT_TRUE(exchange.write(as_bytes(std::string_view(large).substr(at, piece))));
    }
    exchange.finish();
    reader.join();
    EXPECT_TRUE(body_of(only_reply(received)) == large) << piece;
  }
}

TEST_F(FcgiExchangeTest, DiscardedResponseLeavesNothing) {
  accept(whole_request(1, false, kGet));
  exchange.start_response(204, {});
  EXPECT_TRUE(exchange.write(as_bytes("first")));
  exchange.discard_response();
  EXPECT_EQ(exchange.status(), 0);
  respond("second", 500);
  EXPECT_EQ(only_reply(peer.receive_to_end()).out,
            "Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\nsecond");
}

TEST_F(FcgiExchangeTest, ErrorStreamGoesOutAtOnceAndIsEnded) {
  connect(unix_pair(SOCK_SEQPACKET), Transport::Unix);
  accept(whole_request(1, true, kGet));
  exchange.write_error(as_bytes("warning\n"));
  EXPECT_FALSE(exchange.is_committed());
  EXPECT_EQ(only_reply(peer.receive_some()).err, "warning\n");
  respond("x");
  const Reply reply = only_reply(peer.receive_some());
  EXPECT_EQ(reply.err_ends, 1);
  EXPECT_EQ(reply.out_ends, 1);
}

TEST_F(FcgiExchangeTest, AbortedResponseHasNoEnd) {
  accept(whole_request(1, true, kGet));
  exchange.start_response(200, {});
  EXPECT_TRUE(exchange.write(as_bytes("sent")));
  EXPECT_TRUE(exchange.flush());
  EXPECT_TRUE(exchange.write(as_bytes("not sent")));
  exchange.abort();
  EXPECT_FALSE(exchange.is_attached());
  EXPECT_FALSE(exchange.write(as_bytes("late")));
  exchange.finish();
  std::string bytes = peer.receive_to_end();
  // A record that no web server accepts: nginx takes a mere end of the connection for the end of the response.
  ASSERT_GE(bytes.size(), fcgi::kHeaderSize);
  EXPECT_EQ(bytes.substr(bytes.size() - fcgi::kHeaderSize), std::string(fcgi::kHeaderSize, '\0'));
  bytes.resize(bytes.size() - fcgi::kHeaderSize);
  const Reply reply = only_reply(bytes);
  EXPECT_EQ(body_of(reply), "sent");
  EXPECT_EQ(reply.out_ends + reply.ends, 0);
}

TEST_F(FcgiExchangeTest, AbortBeforeTheFirstByteOnlyCloses) {
  accept(whole_request(1, true, kGet));
  exchange.start_response(200, {});
  exchange.abort();
  EXPECT_EQ(peer.receive_to_end(), "");
}

TEST_F(FcgiExchangeTest, FinishWithoutAResponseIsAnInternalError) {
  accept(whole_request(1, false, kGet));
  exchange.finish();
  EXPECT_TRUE(only_reply(peer.receive_to_end()).out.starts_with("Status: 500 "));
}

TEST_F(FcgiExchangeTest, AnswersWithACannedPage) {
  accept(whole_request(1, true, kGet));
  exchange.answer(canned_response(503));
  const Reply reply = only_reply(peer.receive_response());
  EXPECT_TRUE(reply.out.starts_with("Status: 503 Service Unavailable\r\n"));
  EXPECT_EQ(body_of(reply), canned_response(503).body);
  EXPECT_TRUE(exchange.is_attached());
}

// --- files

TEST_F(FcgiExchangeTest, SendsFilesFromTheirOffset) {
  const std::string content = pattern(1'000'000);
  const os::Fd file = file_with(content);

  struct Row {
    off_t offset;
    std::uint64_t length;
    std::size_t expected;
  };

  for (const Row& row :
       {Row{0, 1'000'000, 1'000'000}, Row{10, 20, 20}, Row{999'990, 50, 10},
        Row{5, 500'000, 500'000}, Row{900'000, 500'000, 100'000}, Row{1'000'000, 5, 0},
        Row{2'000'000, 5, 0}, Row{0, 32'768, 32'768}, Row{0, 32'769, 32'769}, Row{0, 0, 0}}) {
    connect(unix_pair(), Transport::Unix);
    accept(whole_request(1, false, kGet));
    ASSERT_EQ(::lseek(file.get(), 7, SEEK_SET), 7);
    std::string received;
    std::thread reader([&] { received = peer.receive_to_end(); });
    exchange.start_response(200, {});
    EXPECT_TRUE(exchange.write(as_bytes("before ")));
    EXPECT_EQ(exchange.send_file(file.get(), row.offset, row.length, false),
              static_cast<std::int64_t>(row.expected));
    EXPECT_TRUE(exchange.write(as_bytes(" after")));
    exchange.finish();
    reader.join();
    const std::string middle =
        row.expected == 0 ? "" : content.substr(static_cast<std::size_t>(row.offset), row.expected);
    EXPECT_TRUE(body_of(only_reply(received)) == "before " + middle + " after");
    EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), 7);
  }
}

TEST_F(FcgiExchangeTest, SmallFileGoesWithTheHeaders) {
  connect(unix_pair(SOCK_SEQPACKET), Transport::Unix);
  const os::Fd file = file_with("small");
  accept(whole_request(1, true, kGet));
  exchange.start_response(200, {});
  EXPECT_EQ(exchange.send_file(file.get(), 0, 5, false), 5);
  EXPECT_EQ(only_reply(peer.receive_some()).out, "Status: 200 OK\r\n\r\nsmall");
}

TEST_F(FcgiExchangeTest, WhatIsNoRegularFileMustBeWritten) {
  accept(whole_request(1, false, kGet));
  exchange.start_response(200, {});
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const os::Fd reading(pipe[0]);
  const os::Fd writing(pipe[1]);
  const os::Fd process_status(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  const os::Fd directory(::open("/", O_RDONLY | O_CLOEXEC));
  for (const int fd : {-1, reading.get(), process_status.get(), directory.get()}) {
    errno = 0;
    EXPECT_EQ(exchange.send_file(fd, 0, 10, false), -1);
    EXPECT_EQ(errno, EINVAL);
  }
  EXPECT_FALSE(exchange.is_committed());
  EXPECT_TRUE(exchange.write(as_bytes("instead")));
  exchange.finish();
  EXPECT_EQ(body_of(only_reply(peer.receive_to_end())), "instead");
}

TEST_F(FcgiExchangeTest, FileThatShrinksWhileItIsSentBreaksTheResponse) {
  const os::Fd file = file_with(pattern(4'000'000));
  accept(whole_request(1, false, kGet));
  std::string received;
  std::thread reader([&] {
    received = peer.receive_some();  // it is being sent: the socket holds far less than the file
    EXPECT_EQ(::ftruncate(file.get(), 1000), 0);
    received += peer.receive_to_end();
  });
  exchange.start_response(200, {});
  EXPECT_EQ(exchange.send_file(file.get(), 0, 4'000'000, false), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_FALSE(exchange.write(as_bytes("more")));
  exchange.finish();
  reader.join();
  EXPECT_TRUE(exchange.was_peer_lost());
  EXPECT_EQ(Replies::parse(received).by_id.at(1).ends, 0);
}

TEST_F(FcgiExchangeTest, PeerThatLeavesWhileAFileIsSentIsNoDeadlySignal) {
  ASSERT_NE(::signal(SIGPIPE, SIG_DFL), SIG_ERR);
  const os::Fd file = file_with(pattern(4'000'000));
  accept(whole_request(1, false, kGet));
  std::thread reader([&] {
    peer.receive_some();
    peer.close();
  });
  exchange.start_response(200, {});
  EXPECT_EQ(exchange.send_file(file.get(), 0, 4'000'000, false), -1);
  reader.join();
  EXPECT_FALSE(exchange.flush());
  exchange.finish();
  EXPECT_TRUE(exchange.was_peer_lost());
}

// --- bodies

TEST_F(FcgiExchangeTest, BodyOfAGetCostsNothingAndIsEmpty) {
  for (const Pairs& pairs : {kGet, Pairs{{"REQUEST_METHOD", "GET"}, {"CONTENT_LENGTH", ""}},
                             Pairs{{"REQUEST_METHOD", "GET"}, {"CONTENT_LENGTH", "0"}}}) {
    for (const InputMode mode : {InputMode::Auto, InputMode::Stream, InputMode::Spool}) {
      FcgiOptions options = quick_options();
      options.exchange.input = mode;
      use(options);
      accept(whole_request(1, true, pairs));
      EXPECT_TRUE(exchange.body().buffered);
      EXPECT_EQ(exchange.body().length, 0U);
      int error = 0;
      EXPECT_EQ(read_all(10, error), "");
      EXPECT_EQ(error, 0);
    }
  }
}

TEST_F(FcgiExchangeTest, LengthZeroDoesNotWaitForTheEndOfTheStream) {
  accept(begin(1, true) + params(1, post(0)));
  EXPECT_TRUE(exchange.body().buffered);
}

TEST_F(FcgiExchangeTest, SmallBodyIsInMemoryAndSeekable) {
  accept(whole_request(1, true, post(10), "0123456789"));
  EXPECT_TRUE(exchange.body().buffered);
  EXPECT_EQ(as_text(exchange.body().memory), "0123456789");
  int error = 0;
  EXPECT_EQ(read_all(3, error), "0123456789");
  EXPECT_TRUE(exchange.seek_body(8));
  EXPECT_EQ(read_all(100, error), "89");
  EXPECT_TRUE(exchange.seek_body(10));
  EXPECT_EQ(read_all(100, error), "");
  EXPECT_FALSE(exchange.seek_body(11));
}

TEST_F(FcgiExchangeTest, SmallBodyThatTrickles) {
  const std::string bytes = whole_request(1, false, post(10), "0123456789");
  std::thread writer([&] {
    for (const char& c : bytes)
      peer.send({&c, 1});
  });
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  ASSERT_EQ(exchange.prepare(), Progress::Ready);
  writer.join();
  EXPECT_EQ(as_text(exchange.body().memory), "0123456789");
}

TEST_F(FcgiExchangeTest, ContentLengthIsAddedWhenTheBodyIsHere) {
  accept(begin(1) + params(1, kChunked) + body(1, pattern(5000), 100));
  EXPECT_EQ(parameter("CONTENT_LENGTH"), "5000");
  EXPECT_EQ(as_text(exchange.body().memory), pattern(5000));
}

TEST_F(FcgiExchangeTest, LargeBodyIsStreamed) {
  const std::string content = pattern(1'000'000);
  for (const bool has_length : {true, false}) {
    for (const std::size_t piece : std::initializer_list<std::size_t>{1 << 20, 8192, 777}) {
      connect(unix_pair(), Transport::Unix);
      std::thread writer([&] {
        peer.send(begin(1) + params(1, has_length ? post(content.size()) : kChunked) +
                  body(1, content, 30'000));
      });
      ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
      ASSERT_EQ(exchange.prepare(), Progress::Ready);
      EXPECT_FALSE(exchange.body().buffered);
      EXPECT_EQ(exchange.body().length.has_value(), has_length);
      EXPECT_FALSE(exchange.seek_body(0));
      EXPECT_EQ(parameter("CONTENT_LENGTH"), has_length ? "1000000" : "(absent)");
      int error = 0;
      EXPECT_TRUE(read_all(piece, error) == content);
      EXPECT_EQ(error, 0);
      writer.join();
    }
  }
}

TEST_F(FcgiExchangeTest, StreamModeNeverWaitsForABody) {
  FcgiOptions options = quick_options();
  options.exchange.input = InputMode::Stream;
  use(options);
  accept(begin(1) + params(1, post(5)));
  EXPECT_FALSE(exchange.body().buffered);
  ASSERT_TRUE(peer.send(body(1, "12345")));
  int error = 0;
  EXPECT_EQ(read_all(100, error), "12345");
}

TEST_F(FcgiExchangeTest, SpoolModeHasEverythingSeekable) {
  FcgiOptions options = quick_options();
  options.exchange.input = InputMode::Spool;
  options.exchange.input_memory = 1000;
  options.exchange.spool_directory = ::testing::TempDir();
  use(options);
  const std::string content = pattern(200'000);
  std::thread writer([&] { peer.send(begin(1) + params(1, kChunked) + body(1, content, 3000)); });
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  ASSERT_EQ(exchange.prepare(), Progress::Ready);
  writer.join();
  EXPECT_TRUE(exchange.body().buffered);
  EXPECT_EQ(exchange.body().length, content.size());
  EXPECT_TRUE(exchange.body().memory.empty());
  EXPECT_EQ(parameter("CONTENT_LENGTH"), "200000");
  int error = 0;
  EXPECT_TRUE(read_all(4096, error) == content);
  EXPECT_TRUE(exchange.seek_body(199'990));
  EXPECT_EQ(read_all(4096, error), content.substr(199'990));
}

TEST_F(FcgiExchangeTest, NoticesABodyOfAnotherLengthThanAnnounced) {
  const auto respond = [this](std::string_view length, std::string_view content) {
    EXPECT_TRUE(peer.send(whole_request(1, true, kGet)));
    EXPECT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
    EXPECT_EQ(exchange.prepare(), Progress::Ready);
    const std::array<runtime::Header, 1> headers{{{"content-LENGTH", length}}};
    exchange.start_response(200, headers);
    EXPECT_TRUE(exchange.write(as_bytes(content)));
    exchange.finish();
    return exchange.wrong_length();
  };
  use(quick_options());
  EXPECT_FALSE(respond("5", "hello"));
  EXPECT_FALSE(respond("", "hello"));
  const auto shorter = respond("10", "hello");
  ASSERT_TRUE(shorter);
  EXPECT_EQ(shorter->announced, 10U);
  EXPECT_EQ(shorter->sent, 5U);
  EXPECT_TRUE(respond("4", "hello"));
  EXPECT_FALSE(respond("5", "hello")) << "it is not remembered";
}

TEST_F(FcgiExchangeTest, SpoolDirectoryThatFailsIsAnswered507) {
  FcgiOptions options = quick_options();
  options.exchange.input = InputMode::Spool;
  options.exchange.input_memory = 10;
  options.exchange.spool_directory = "/nonexistent/spool";
  use(options);
  ASSERT_TRUE(peer.send(whole_request(1, true, post(100), pattern(100))));
  peer.end_sending();
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  EXPECT_EQ(exchange.prepare(), Progress::Answered);
  EXPECT_EQ(exchange.trouble(), Trouble::SpoolFailed);
  EXPECT_NE(exchange.trouble_text().find("/nonexistent/spool"), std::string_view::npos);
  EXPECT_NE(exchange.trouble_text().find("ENOENT"), std::string_view::npos);
  EXPECT_EQ(exchange.status(), 507);
  EXPECT_TRUE(only_reply(peer.receive_to_end()).out.starts_with("Status: 507 "));
}

TEST_F(FcgiExchangeTest, BodyShorterThanAnnouncedIsAnErrorNotAnEnd) {
  for (const std::size_t announced : std::initializer_list<std::size_t>{10, 1'000'000}) {
    connect(unix_pair(), Transport::Unix);
    accept(whole_request(1, true, post(announced), "0123"));
    EXPECT_FALSE(exchange.body().buffered);
    EXPECT_EQ(exchange.body().length, announced);
    int error = 0;
    EXPECT_EQ(read_all(100, error), "0123");
    EXPECT_EQ(error, ECONNABORTED);
    std::array<std::byte, 4> more{};
    EXPECT_EQ(exchange.read_body(more).error, ECONNABORTED);
  }
}

TEST_F(FcgiExchangeTest, BodyThatBreaksOffIsAnErrorNotAnEnd) {
  accept(begin(1) + params(1, post(1'000'000)) + record(RecordType::Stdin, 1, "0123"));
  peer.end_sending();
  int error = 0;
  EXPECT_EQ(read_all(100, error), "0123");
  EXPECT_EQ(error, ECONNABORTED);
}

TEST_F(FcgiExchangeTest, BodyLongerThanAnnouncedIsCut) {
  accept(whole_request(1, true, post(4), "0123456789") + whole_request(1, true, kGet));
  EXPECT_EQ(as_text(exchange.body().memory), "0123");
  respond("one");
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  EXPECT_EQ(exchange.method(), "GET");
}

TEST_F(FcgiExchangeTest, SlowBodyTimesOut) {
  FcgiOptions options = quick_options();
  options.exchange.body_timeout = milliseconds(20);
  options.exchange.close_timeout = milliseconds(20);
  use(options);
  accept(begin(1) + params(1, post(1'000'000)) + record(RecordType::Stdin, 1, "0123"));
  int error = 0;
  EXPECT_EQ(read_all(100, error), "0123");
  EXPECT_EQ(error, ETIMEDOUT);

  connect(unix_pair(), Transport::Unix);  // small: before the application is called
  ASSERT_TRUE(peer.send(begin(1) + params(1, post(10))));
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  EXPECT_EQ(exchange.prepare(), Progress::Answered);
  EXPECT_EQ(exchange.trouble(), Trouble::BodyTimeout);
  EXPECT_FALSE(exchange.is_attached());
  EXPECT_TRUE(only_reply(peer.receive_to_end()).out.starts_with("Status: 408 "));
}

TEST_F(FcgiExchangeTest, BodyOverTheLimit) {
  FcgiOptions options = quick_options();
  options.exchange.max_body = 1000;
  options.exchange.input_memory = 500;
  use(options);
  ASSERT_TRUE(peer.send(whole_request(1, true, post(1001), pattern(1001))));
  peer.end_sending();
  EXPECT_EQ(exchange.take_request(Patience::Wait), Progress::Answered);
  EXPECT_EQ(exchange.trouble(), Trouble::BodyTooLarge);
  EXPECT_FALSE(exchange.is_attached());
  EXPECT_TRUE(only_reply(peer.receive_to_end()).out.starts_with("Status: 413 "));

  connect(unix_pair(), Transport::Unix);
  accept(whole_request(1, true, post(1000), pattern(1000)));
  int error = 0;
  EXPECT_EQ(read_all(100, error).size(), 1000U);
  EXPECT_EQ(error, 0);

  connect(unix_pair(), Transport::Unix);  // nobody said how long it is
  accept(begin(1, true) + params(1, kChunked) + body(1, pattern(1001)));
  EXPECT_LE(read_all(100, error).size(), 1000U);
  EXPECT_EQ(error, EFBIG);
}

TEST_F(FcgiExchangeTest, InputHandleKeptAfterTheRequestIsAtItsEnd) {
  accept(whole_request(1, true, post(4), "body"));
  respond("x");
  std::array<std::byte, 4> into{};
  EXPECT_EQ(exchange.read_body(into).size, 0U);
  EXPECT_FALSE(exchange.seek_body(0));
}

// --- connections

TEST_F(FcgiExchangeTest, KeptConnectionServesTheNextRequest) {
  for (int i = 0; i < 3; ++i) {
    accept(whole_request(1, true, post(4), "body"));
    respond("answer");
    EXPECT_TRUE(exchange.is_attached());
    EXPECT_EQ(body_of(only_reply(peer.receive_response())), "answer");
    EXPECT_EQ(exchange.take_request(Patience::Try), Progress::Idle);
  }
  peer.close();
  EXPECT_EQ(exchange.take_request(Patience::Try), Progress::Gone);
  EXPECT_EQ(exchange.trouble(), Trouble::PeerClosed);
}

TEST_F(FcgiExchangeTest, PipelinedRequestsAreServedInTurn) {
  accept(whole_request(1, true, post(3), "one") + whole_request(2, true, post(3), "two"));
  EXPECT_EQ(as_text(exchange.body().memory), "one");
  respond("first");
  EXPECT_TRUE(exchange.has_buffered_input());
  ASSERT_EQ(exchange.take_request(Patience::Try), Progress::Ready);
  ASSERT_EQ(exchange.prepare(), Progress::Ready);
  EXPECT_EQ(as_text(exchange.body().memory), "two");
  respond("second");
  const Replies replies = Replies::parse(peer.receive_response(2));
  EXPECT_EQ(body_of(replies.by_id.at(1)), "first");
  EXPECT_EQ(body_of(replies.by_id.at(2)), "second");
}

TEST_F(FcgiExchangeTest, UnreadBodyDoesNotCostTheKeptConnection) {
  const std::string content = pattern(500'000);
  std::thread writer([&] {
    peer.send(whole_request(1, true, post(content.size()), content));
    peer.send(whole_request(1, true, kGet));
  });
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  ASSERT_EQ(exchange.prepare(), Progress::Ready);
  respond("early");
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  EXPECT_EQ(exchange.method(), "GET");
  writer.join();
}

TEST_F(FcgiExchangeTest, PeerThatSendsEverythingBeforeItReadsIsNoDeadlock) {
  const std::string content = pattern(3'000'000);
  for (const bool keep : {false, true}) {
    connect(unix_pair(), Transport::Unix);
    std::string received;
    std::thread both([&] {
      EXPECT_TRUE(peer.send(whole_request(1, keep, post(content.size()), content)));
      received = peer.receive_response();
    });
    ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
    ASSERT_EQ(exchange.prepare(), Progress::Ready);
    respond(content);  // without having read any of the body
    if (keep) {
      while (exchange.take_request(Patience::Try) == Progress::Idle && !peer.has_something()) {
        pollfd readable{exchange.descriptor(), POLLIN, 0};
        if (::poll(&readable, 1, 100) == 0) break;
      }
    }
    both.join();
    EXPECT_TRUE(body_of(only_reply(received)) == content);
  }
}

TEST_F(FcgiExchangeTest, ClosingWithUnreadInputDoesNotDestroyTheResponse) {
  connect(tcp_pair(), Transport::Tcp);
  const std::string content = pattern(1'000'000);
  std::string received;
  std::thread both([&] {
    EXPECT_TRUE(peer.send(whole_request(1, false, post(content.size()), content)));
    received = peer.receive_to_end();
    peer.close();
  });
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  ASSERT_EQ(exchange.prepare(), Progress::Ready);
  respond("early");
  both.join();
  EXPECT_EQ(body_of(only_reply(received)), "early");
  EXPECT_EQ(peer.error(), 0);
  EXPECT_FALSE(exchange.is_attached());
}

TEST_F(FcgiExchangeTest, HalfCloseIsAnswered) {
  ASSERT_TRUE(peer.send(whole_request(1, true, post(4), "body")));
  peer.end_sending();
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  ASSERT_EQ(exchange.prepare(), Progress::Ready);
  respond("answer");
  EXPECT_EQ(body_of(only_reply(peer.receive_response())), "answer");
  EXPECT_EQ(exchange.take_request(Patience::Try), Progress::Gone);
}

TEST_F(FcgiExchangeTest, WhoHasJustComeIsNotLookedForUnlessItTookTime) {
  const std::string request = whole_request(1, true, kGet);
  exchange.expect_presence(true);
  ASSERT_TRUE(peer.send(request));
  peer.close();
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  EXPECT_EQ(exchange.prepare(), Progress::Ready) << "it has gone since, which costs a call to see";

  connect(unix_pair(), Transport::Unix);
  exchange.expect_presence(true);
  ASSERT_TRUE(peer.send(request.substr(0, 20)));
  ASSERT_EQ(exchange.take_request(Patience::Wait, milliseconds(0)), Progress::Incomplete);
  ASSERT_TRUE(peer.send(request.substr(20)));
  peer.close();
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  EXPECT_EQ(exchange.prepare(), Progress::Gone);
  EXPECT_EQ(exchange.trouble(), Trouble::Abandoned);
}

TEST_F(FcgiExchangeTest, ClientThatHasGoneIsNotServed) {
  ASSERT_TRUE(peer.send(whole_request(1, true, kGet)));
  peer.close();
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  EXPECT_EQ(exchange.prepare(), Progress::Gone);
  EXPECT_EQ(exchange.trouble(), Trouble::Abandoned);
  EXPECT_FALSE(exchange.is_attached());
}

TEST_F(FcgiExchangeTest, WritesToAClientThatHasGoneFail) {
  accept(whole_request(1, true, kGet));
  exchange.start_response(200, {});
  peer.close();
  EXPECT_TRUE(exchange.write(as_bytes("x")));
  EXPECT_FALSE(exchange.flush());
  EXPECT_FALSE(exchange.write(as_bytes("x")));
  exchange.finish();
  EXPECT_TRUE(exchange.was_peer_lost());
  EXPECT_FALSE(exchange.is_attached());
}

TEST_F(FcgiExchangeTest, PeerThatDoesNotReadIsGivenUp) {
  FcgiOptions options = quick_options();
  options.exchange.send_timeout = milliseconds(20);
  use(options);
  accept(whole_request(1, true, kGet));
  exchange.start_response(200, {});
  const std::string large = pattern(5'000'000);
  EXPECT_TRUE(exchange.write(as_bytes(large)));
  EXPECT_FALSE(exchange.flush());
  exchange.finish();
  EXPECT_TRUE(exchange.was_peer_lost());
  EXPECT_FALSE(exchange.is_attached());
}

// --- the rest of a response that the peer does not take

// What somebody else who gets the message would send.
class Records final : public handoff::Framing {
 public:
  explicit Records(std::uint16_t id) : id_(id) {}

  [[nodiscard]] std::size_t largest_piece() const override { return 1000; }

  [[nodiscard]] Bytes piece_begin(std::size_t size) override {
    fcgi::encode_header(header_, RecordType::Stdout, id_, size);
    return header_;
  }

  [[nodiscard]] Bytes piece_end() override { return {}; }

 private:
  std::uint16_t id_;
  std::array<std::byte, fcgi::kHeaderSize> header_{};
};

std::string bytes_of(const handoff::Incoming& incoming) {
  const handoff::Message& message = incoming.message;
  if (message.external_bytes == 0) return std::string(as_text(message.bytes));
  return std::string(
      as_text(handoff::read_memory(incoming.memory, 0, message.external_bytes).value()));
}

std::string rest_of(const handoff::Incoming& incoming, std::string_view file) {
  const std::string bytes = bytes_of(incoming);
  Records records(incoming.message.stream_id);
  handoff::Outgoing outgoing(incoming.message, records);
  std::string rest;
  for (auto next = outgoing.next(); next.source != handoff::Outgoing::Source::Nothing;
       next = outgoing.next()) {
    if (next.source == handoff::Outgoing::Source::Frame) rest += as_text(next.frame);
    if (next.source == handoff::Outgoing::Source::Bytes)
      rest += bytes.substr(next.offset, next.size);
    if (next.source == handoff::Outgoing::Source::File) rest += file.substr(next.offset, next.size);
    outgoing.sent(next.size);
  }
  return rest;
}

class FcgiRestTest : public FcgiExchangeTest {
 protected:
  FcgiRestTest() {
    std::tie(channel, lobby) = os::make_message_pair();
    os::set_non_blocking(channel.get());
    os::set_non_blocking(lobby.get());
    FcgiOptions options = quick_options();
    options.exchange.lobby = [this] {
      return channel.get();
    };
    options.exchange.on_stall = [this](const Stall& stall) {
      ++stalls;
      using Action = WhenStalled::Action;
      return WhenStalled{.action = stall.may_hand_over ? Action::HandOver : otherwise};
    };
    use(options);
    exchange.keep_unserved();
  }

  os::Fd channel;
  os::Fd lobby;
  int stalls = 0;
  WhenStalled::Action otherwise = WhenStalled::Action::Wait;
  handoff::ReceiveBuffer buffer{};
};

TEST_F(FcgiRestTest, OfAStringIsHandedOver) {
  const std::string large = pattern(5'000'000);
  for (const bool keeps : {true, false}) {
    for (const int room : {4096, 100'000, 1'000'000}) {
      Ends ends = unix_pair();
      ASSERT_EQ(::setsockopt(ends.ours.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
      connect(std::move(ends), Transport::Unix);
      accept(whole_request(7, keeps, kGet));
      respond(large);
      ASSERT_FALSE(exchange.is_attached()) << "nobody reads, and we do not wait";
      EXPECT_FALSE(exchange.was_peer_lost());
      const handoff::Incoming incoming = handoff::receive(lobby.get(), buffer);
      ASSERT_EQ(incoming.outcome, handoff::ReceiveOutcome::Received) << incoming.reason;
      EXPECT_EQ(incoming.message.kind, handoff::Kind::UnsentResponse);
      EXPECT_EQ(incoming.message.flags, keeps ? handoff::kKeepAfterwards : 0);
      std::string received;
      while (peer.has_something())
        received += peer.receive_some();
      received += rest_of(incoming, {});
      EXPECT_EQ(exchange.bytes_sent(), received.size());
      const Reply reply = only_reply(received, 7);
      EXPECT_TRUE(body_of(reply) == large);
      EXPECT_EQ(reply.ends, 1);
    }
  }
}

TEST_F(FcgiRestTest, OfAFileIsHandedOver) {
  const std::string content = pattern(6'000'000);
  for (const int room : {4096, 50'000, 100'000, 200'001, 1'000'000}) {
    os::Fd file = file_with(content);
    Ends ends = unix_pair();
    ASSERT_EQ(::setsockopt(ends.ours.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    connect(std::move(ends), Transport::Unix);
    accept(whole_request(7, true, kGet));
    exchange.start_response(200, {});
    EXPECT_EQ(exchange.send_file(file.get(), 11, content.size() - 11, true),
              static_cast<std::int64_t>(content.size() - 11));
    file.reset();  // the application closes it
    exchange.finish();
    ASSERT_FALSE(exchange.is_attached());
    const handoff::Incoming incoming = handoff::receive(lobby.get(), buffer);
    ASSERT_EQ(incoming.outcome, handoff::ReceiveOutcome::Received) << incoming.reason;
    EXPECT_EQ(incoming.message.kind, handoff::Kind::UnsentFile);
    std::string received;
    while (peer.has_something())
      received += peer.receive_some();
    const Reply reply = only_reply(received + rest_of(incoming, content), 7);
    EXPECT_TRUE(body_of(reply) == content.substr(11)) << room;
    EXPECT_EQ(reply.ends, 1);
  }
}

TEST_F(FcgiRestTest, GoesWithTheNextRequest) {
  const std::string large = pattern(5'000'000);
  const std::string next = whole_request(2, true, kGet);
  accept(whole_request(1, true, kGet) + next);
  respond(large);
  ASSERT_FALSE(exchange.is_attached());
  const handoff::Incoming incoming = handoff::receive(lobby.get(), buffer);
  ASSERT_EQ(incoming.outcome, handoff::ReceiveOutcome::Received) << incoming.reason;
  EXPECT_EQ(bytes_of(incoming).substr(incoming.message.unsent_bytes), next);
}

TEST_F(FcgiRestTest, IsSentByUsWhenNobodyTakesIt) {
  const std::string large = pattern(5'000'000);
  channel.reset();  // as when the lobby has died
  std::tie(channel, lobby) = os::make_message_pair();
  os::set_non_blocking(channel.get());
  const int descriptor = channel.get();
  while (handoff::send_packet(channel.get(), as_bytes(std::string_view("full")),
                              {&descriptor, 1}) == handoff::SendOutcome::Sent) {
  }
  for (const bool is_file : {false, true}) {
    const os::Fd file = file_with(large);
    connect(unix_pair(), Transport::Unix);
    accept(whole_request(1, true, kGet));
    std::string received;
    exchange.start_response(200, {});
    if (is_file) {
      EXPECT_EQ(exchange.send_file(file.get(), 0, large.size(), true),
                static_cast<std::int64_t>(large.size()));
    } else {
      EXPECT_TRUE(exchange.write(as_bytes(large)));
    }
    std::thread reader([&] { received = peer.receive_response(); });
    exchange.finish();
    reader.join();
    EXPECT_TRUE(exchange.is_attached());
    EXPECT_TRUE(body_of(only_reply(received)) == large);
  }
}

TEST_F(FcgiRestTest, IsNotHandedOverWhileMoreMayFollow) {
  const std::string large = pattern(5'000'000);
  otherwise = WhenStalled::Action::GiveUp;
  accept(whole_request(1, true, kGet));
  exchange.start_response(200, {});
  EXPECT_TRUE(exchange.write(as_bytes(large)));
  EXPECT_FALSE(exchange.flush());
  exchange.finish();
  EXPECT_GT(stalls, 0);
  EXPECT_TRUE(exchange.was_peer_lost());
  EXPECT_EQ(handoff::receive(lobby.get(), buffer).outcome, handoff::ReceiveOutcome::Empty);
}

TEST_F(FcgiExchangeTest, HeadThatTakesTooLongIsDropped) {
  FcgiOptions options = quick_options();
  options.exchange.head_timeout = milliseconds(20);
  use(options);
  ASSERT_TRUE(peer.send(begin(1)));
  EXPECT_EQ(exchange.take_request(Patience::Try), Progress::Gone);
  EXPECT_EQ(exchange.trouble(), Trouble::HeadTimeout);
  EXPECT_EQ(peer.receive_to_end(), "");

  connect(unix_pair(), Transport::Unix);  // silent from the start
  EXPECT_EQ(exchange.take_request(Patience::Try), Progress::Idle);
  EXPECT_EQ(exchange.take_request(Patience::Wait), Progress::Gone);
  EXPECT_EQ(exchange.trouble(), Trouble::HeadTimeout);
}

TEST_F(FcgiExchangeTest, WaitForASilentPeerCanBeEnded) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const os::Fd reading(pipe[0]);
  const os::Fd writing(pipe[1]);
  FcgiOptions options = quick_options();
  options.exchange.wake_descriptor = reading.get();
  use(options);
  ASSERT_EQ(::write(writing.get(), "x", 1), 1);
  EXPECT_EQ(exchange.take_request(Patience::Wait), Progress::Idle);
  EXPECT_TRUE(exchange.is_attached());
  // A head that has begun is waited for.
  const std::string request = whole_request(1, true, kGet);
  ASSERT_TRUE(peer.send(request.substr(0, 5)));
  std::thread writer([&] { peer.send(request.substr(5)); });
  EXPECT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  writer.join();
}

TEST_F(FcgiExchangeTest, MalformedInputIsDropped) {
  ASSERT_TRUE(peer.send("GET / HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(exchange.take_request(Patience::Wait), Progress::Gone);
  EXPECT_EQ(exchange.trouble(), Trouble::ProtocolError);
  EXPECT_FALSE(exchange.trouble_text().empty());
}

TEST_F(FcgiExchangeTest, TooManyParametersAreAnswered431) {
  FcgiOptions options = quick_options();
  options.limits.parameter_count = 2;
  use(options);
  ASSERT_TRUE(peer.send(whole_request(1, true, {{"A", ""}, {"B", ""}, {"REQUEST_METHOD", "GET"}})));
  peer.end_sending();
  EXPECT_EQ(exchange.take_request(Patience::Wait), Progress::Answered);
  EXPECT_EQ(exchange.trouble(), Trouble::HeadTooLarge);
  EXPECT_EQ(exchange.uri(), "");
  EXPECT_FALSE(exchange.is_attached());
  EXPECT_TRUE(only_reply(peer.receive_to_end()).out.starts_with("Status: 431 "));
}

TEST_F(FcgiExchangeTest, BadRequestsAreAnswered400AndTheConnectionKept) {
  for (const Pairs& pairs :
       {Pairs{{"REQUEST_URI", "/"}}, Pairs{{"REQUEST_METHOD", "POST"}, {"CONTENT_LENGTH", "x"}}}) {
    ASSERT_TRUE(peer.send(whole_request(1, true, pairs, "body")));
    EXPECT_EQ(exchange.take_request(Patience::Wait), Progress::Answered);
    EXPECT_EQ(exchange.trouble(), Trouble::BadRequest);
    EXPECT_TRUE(exchange.is_attached());
    EXPECT_TRUE(only_reply(peer.receive_response()).out.starts_with("Status: 400 "));
  }
}

TEST_F(FcgiExchangeTest, UnknownRoleIsRefused) {
  ASSERT_TRUE(peer.send(begin(1, false, 9) + params(1, kGet) + body(1, "")));
  peer.end_sending();
  EXPECT_EQ(exchange.take_request(Patience::Wait), Progress::Gone);
  const Reply reply = only_reply(peer.receive_to_end());
  EXPECT_EQ(reply.ends, 1);
  EXPECT_EQ(reply.protocol_status, 3);
}

TEST_F(FcgiExchangeTest, AuthorizerIsServedWithoutStdin) {
  accept(begin(1, true, 2) + params(1, {{"REQUEST_METHOD", "GET"}}));
  EXPECT_TRUE(exchange.body().buffered);
  EXPECT_EQ(exchange.body().length, 0U);
  respond("allowed");
  EXPECT_EQ(body_of(only_reply(peer.receive_response())), "allowed");
  accept(whole_request(1, true, kGet));
}

TEST_F(FcgiExchangeTest, ManagementRecordsAreAnsweredBeforeTheApplicationAndWhileItWrites) {
  ASSERT_TRUE(peer.send(record(RecordType::GetValues, 0)));
  EXPECT_EQ(exchange.take_request(Patience::Try), Progress::Idle);
  EXPECT_EQ(Replies::parse(peer.receive_some()).management.size(), 1U);
  accept(begin(1, true) + record(77, 0) + params(1, kGet) + body(1, ""));
  EXPECT_EQ(Replies::parse(peer.receive_some()).management.size(), 1U);
  exchange.start_response(200, {});
  ASSERT_TRUE(peer.send(record(RecordType::GetValues, 0)));
  EXPECT_TRUE(exchange.flush());
  exchange.finish();
  const Replies replies = Replies::parse(peer.receive_response());
  EXPECT_EQ(replies.management.size(), 1U);
  EXPECT_TRUE(replies.is_sound);
}

TEST_F(FcgiExchangeTest, ReleasedConnectionIsClosedUnlessARequestHasCome) {
  accept(whole_request(1, true, kGet));
  respond("x");
  ASSERT_TRUE(peer.send(whole_request(1, true, kGet)));
  exchange.release_connection();
  ASSERT_TRUE(exchange.is_attached());
  ASSERT_EQ(exchange.take_request(Patience::Try), Progress::Ready);
  ASSERT_EQ(exchange.prepare(), Progress::Ready);
  respond("y");
  exchange.release_connection();
  EXPECT_FALSE(exchange.is_attached());
}

// --- abort

TEST_F(FcgiExchangeTest, AbortBeforeTheApplicationIsAnsweredWithoutIt) {
  ASSERT_TRUE(peer.send(begin(1, true) + params(1, post(100)) +
                        record(RecordType::Stdin, 1, "part") + record(RecordType::AbortRequest, 1) +
                        whole_request(1, true, kGet)));
  ASSERT_EQ(exchange.take_request(Patience::Wait), Progress::Ready);
  EXPECT_EQ(exchange.prepare(), Progress::Answered);
  EXPECT_EQ(exchange.trouble(), Trouble::Aborted);
  const Reply reply = only_reply(peer.receive_response());
  EXPECT_EQ(reply.ends, 1);
  EXPECT_EQ(reply.out, "");
  ASSERT_EQ(exchange.take_request(Patience::Try), Progress::Ready);
  EXPECT_EQ(exchange.method(), "GET");
}

TEST_F(FcgiExchangeTest, AbortIsSeenAtTheNextWriteAndEndedOnce) {
  accept(begin(1, true) + params(1, post(1'000'000)) + record(RecordType::Stdin, 1, "unread"));
  exchange.start_response(200, {});
  EXPECT_TRUE(exchange.write(as_bytes("first")));
  EXPECT_TRUE(exchange.flush());
  ASSERT_TRUE(peer.send(record(RecordType::AbortRequest, 1)));
  EXPECT_TRUE(exchange.write(as_bytes("second")));
  EXPECT_FALSE(exchange.flush());
  EXPECT_FALSE(exchange.write(as_bytes("third")));
  EXPECT_TRUE(exchange.was_aborted());
  exchange.finish();
  EXPECT_TRUE(exchange.is_attached());
  const Reply reply = only_reply(peer.receive_response());
  EXPECT_EQ(body_of(reply), "first");
  EXPECT_EQ(reply.ends, 1);
  accept(whole_request(1, true, kGet));
}

TEST_F(FcgiExchangeTest, AbortIsSeenAtTheNextRead) {
  accept(begin(1, true) + params(1, post(1'000'000)) + record(RecordType::Stdin, 1, "part"));
  ASSERT_TRUE(peer.send(record(RecordType::AbortRequest, 1)));
  int error = 0;
  EXPECT_EQ(read_all(100, error), "part");
  EXPECT_EQ(error, ECONNABORTED);
  exchange.start_response(200, {});
  EXPECT_FALSE(exchange.write(as_bytes("x")));
  exchange.finish();
  EXPECT_EQ(only_reply(peer.receive_response()).ends, 1);
}

// --- request ids

TEST_F(FcgiExchangeTest, RequestIdOfTheFrontEndIsTakenWhenItIsUsable) {
  const std::string longest(128, 'i');
  for (const std::string& id : {std::string("abc-123"), longest}) {
    accept(whole_request(1, true, {{"REQUEST_METHOD", "GET"}, {"HTTP_X_REQUEST_ID", id}}));
    EXPECT_EQ(exchange.request_id(), id);
    respond("x");
  }
  for (const std::string& id :
       {std::string(), longest + "i", std::string("a b"), std::string("a\nb"),
        std::string("\xc3\xa4"), std::string("a\0", 2)}) {
    accept(whole_request(1, true, {{"REQUEST_METHOD", "GET"}, {"HTTP_X_REQUEST_ID", id}}));
    EXPECT_NE(exchange.request_id(), id);
    EXPECT_FALSE(exchange.request_id().empty());
    respond("x");
  }
}

TEST_F(FcgiExchangeTest, MadeRequestIdsDiffer) {
  accept(whole_request(1, true, kGet));
  const std::string first(exchange.request_id());
  respond("x");
  accept(whole_request(1, true, kGet));
  EXPECT_NE(exchange.request_id(), first);
  respond("x");
  FcgiOptions options = quick_options();
  options.exchange.request_id_seed = 1;
  use(options);
  accept(whole_request(1, true, kGet));
  EXPECT_NE(exchange.request_id(), first);
}

}  // namespace
}  // namespace bladepsgi::worker
