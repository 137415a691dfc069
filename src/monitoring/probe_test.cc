#include "monitoring/probe.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fcgi/connection.h"
#include "fcgi/record.h"

namespace bladepsgi::monitoring {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::string record(fcgi::RecordType type, std::string_view content) {
  std::array<std::byte, fcgi::kHeaderSize> header{};
  fcgi::encode_header(header, type, 1, content.size());
  return std::string(as_text(header)).append(content);
}

std::string response(std::string_view head) {
  return record(fcgi::RecordType::Stdout, head) + record(fcgi::RecordType::Stdout, "") +
         std::string(
             as_text(fcgi::encode_end_request(1, 0, fcgi::ProtocolStatus::RequestComplete)));
}

TEST(Probe, SendsARequestThatOurOwnEngineUnderstands) {
  const std::string bytes = probe_request(ProbeProtocol::FastCgi, "/health?full=1");
  fcgi::Connection connection;
  std::copy_n(as_bytes(bytes).begin(), bytes.size(), connection.receive_space().begin());
  connection.received(bytes.size());
  ASSERT_EQ(connection.next(), Event::Request);
  std::string seen;
  for (const Parameter& parameter : connection.request().parameters) {
    if (parameter.name == "REQUEST_METHOD" || parameter.name == "PATH_INFO" ||
        parameter.name == "QUERY_STRING" || parameter.name == "REQUEST_URI") {
      seen += std::string(parameter.name) + "=" + std::string(parameter.value) + " ";
    }
  }
  EXPECT_EQ(seen,
            "REQUEST_METHOD=GET PATH_INFO=/health REQUEST_URI=/health?full=1 QUERY_STRING=full=1 ");
  EXPECT_TRUE(connection.body_ahead().is_whole);
  EXPECT_TRUE(probe_request(ProbeProtocol::Http, "/x").starts_with("GET /x HTTP/1.1\r\n"));
}

TEST(Probe, FindsTheStatusWhenAllIsThere) {
  struct Row {
    ProbeProtocol protocol;
    std::string received;
    bool has_ended;
    int status;  // 0: not yet; -1: an error
  };

  const std::string whole = response("Status: 503 Sorry\r\nX: y\r\n\r\nbody");
  const std::vector<Row> rows = {
      {ProbeProtocol::FastCgi, whole, false, 503},
      {ProbeProtocol::FastCgi, response("X: y\r\n\r\n"), false, 200},
      {ProbeProtocol::FastCgi, response("Location: /\r\nStatus: 302 Found\r\n\r\n"), false, 302},
      {ProbeProtocol::FastCgi, whole.substr(0, whole.size() - 1), false, 0},
      {ProbeProtocol::FastCgi, whole.substr(0, whole.size() - 1), true, -1},
      {ProbeProtocol::FastCgi, "", true, -1},
      {ProbeProtocol::FastCgi, "HTTP/1.1 200 OK\r\n", false, -1},
      {ProbeProtocol::FastCgi, response("Status: abc\r\n\r\n"), false, -1},
      {ProbeProtocol::Http, "HTTP/1.1 204 No Content\r\n\r\n", true, 204},
      {ProbeProtocol::Http, "HTTP/1.1 204 No Content\r\n\r\n", false, 0},
      {ProbeProtocol::Http, "", true, -1},
  };
  for (const Row& row : rows) {
    const auto status = probe_status(row.protocol, as_bytes(row.received), row.has_ended);
    EXPECT_EQ(!status ? -1 : status->value_or(0), row.status) << row.received;
  }
}

TEST(Probe, SaysWhatCameInstead) {
  const auto play = [](std::string_view answer, bool closes, milliseconds limit) -> std::string {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    EXPECT_EQ(::write(fds[1], answer.data(), answer.size()), static_cast<ssize_t>(answer.size()));
    if (closes) ::shutdown(fds[1], SHUT_WR);
    const auto result = probe(fds[0], ProbeProtocol::FastCgi, "/up", limit);
    ::close(fds[0]);
    ::close(fds[1]);
    return result ? "good" : result.error().message;
  };
  EXPECT_EQ(play(response("Status: 200 OK\r\n\r\n"), false, seconds(20)), "good");
  EXPECT_EQ(play(response("Status: 500 No\r\n\r\n"), false, seconds(20)),
            "the probe request '/up' was answered with status 500");
  EXPECT_EQ(
      play("", true, seconds(20)),
      "the probe request '/up' failed: the connection ended before its response was complete");
  EXPECT_EQ(play("", false, milliseconds(20)),
            "the probe request '/up' was not answered within 20 ms (--probe-timeout)");
}

}  // namespace
}  // namespace bladepsgi::monitoring
