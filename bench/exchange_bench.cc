// What does a request cost beside the application? A worker's exchange on one kept connection: the head is read, a response of so many
// bytes in one string is written. The system calls are in it, the peer's as well.
#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/bytes.h"
#include "load/body_rule.h"
#include "load/request.h"
#include "load/response_check.h"
#include "os/fd.h"
#include "worker/fcgi_exchange.h"
#include "worker/http_exchange.h"

namespace bladepsgi::worker {
namespace {

constexpr std::int64_t kSmallBody = 13;
constexpr std::int64_t kLargeBody = std::int64_t{100} * 1024;
constexpr std::size_t kHeadRoom = 4096;

void expect(bool condition) {
  if (!condition) std::abort();
}

struct Ends {
  os::Fd ours;
  os::Fd peers;
};

Ends unix_pair() {
  std::array<int, 2> fds{};
  expect(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
  expect(::fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
  constexpr int kRoom = 1024 * 1024;  // for a whole response: nobody reads while it is sent
  ::setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &kRoom, sizeof kRoom);
  return {os::Fd(fds[0]), os::Fd(fds[1])};
}

void serve(benchmark::State& state,
           ProtocolExchange& exchange,
           load::Protocol protocol,
           const os::Fd& peer) {
  const load::Request request({.protocol = protocol, .keep = true, .uri = "/app/list?page=2"});
  std::array<iovec, 1> vector{};
  expect(request.vectors(0, vector) == 1);
  const auto size = static_cast<std::size_t>(state.range(0));
  const std::string body = load::pattern(size);
  const std::string length = std::to_string(size);
  const std::array<runtime::Header, 2> headers = {
      {{"Content-Type", "application/octet-stream"}, {"Content-Length", length}}};
  const load::Expectation expected{.status = 200, .body = load::BodyRule::pattern(size)};
  const auto check = load::ResponseCheck::make(protocol);
  std::vector<char> answer(size + kHeadRoom);
  for (auto _ : state) {
    expect(::send(peer.get(), vector[0].iov_base, vector[0].iov_len, 0) ==
           static_cast<ssize_t>(vector[0].iov_len));
    expect(exchange.take_request(ProtocolExchange::Patience::Wait) ==
           ProtocolExchange::Progress::Ready);
    expect(exchange.prepare() == ProtocolExchange::Progress::Ready);
    benchmark::DoNotOptimize(exchange.parameters().data());
    exchange.start_response(200, headers);
    expect(exchange.write(as_bytes(body)));
    exchange.finish();
    check->start(expected);
    load::Verdict verdict = load::Verdict::More;
    while (verdict == load::Verdict::More) {
      const ssize_t got = ::recv(peer.get(), answer.data(), answer.size(), 0);
      expect(got > 0);
      verdict = check->take({answer.data(), static_cast<std::size_t>(got)});
    }
    expect(verdict == load::Verdict::Done && exchange.is_attached());
  }
}

void serve_fcgi(benchmark::State& state) {
  Ends ends = unix_pair();
  FcgiExchange exchange(FcgiOptions{});
  exchange.attach(std::move(ends.ours), Transport::Unix);
  serve(state, exchange, load::Protocol::FastCgi, ends.peers);
}

BENCHMARK(serve_fcgi)->Arg(kSmallBody)->Arg(kLargeBody);

void serve_http(benchmark::State& state) {
  Ends ends = unix_pair();
  HttpExchange exchange(HttpOptions{});
  exchange.attach_from(std::move(ends.ours), Transport::Unix, sockaddr_storage{});
  serve(state, exchange, load::Protocol::Http, ends.peers);
}

BENCHMARK(serve_http)->Arg(kSmallBody)->Arg(kLargeBody);

}  // namespace
}  // namespace bladepsgi::worker
