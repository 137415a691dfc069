// What a request costs in allocations once storage has grown to its size: nothing.
#include <algorithm>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "http/connection.h"
#include "http/parameters.h"
#include "http/response.h"
#include "http/trust.h"

namespace {

std::size_t allocations = 0;  // of the whole test program

}  // namespace

void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;  // NOLINT(cppcoreguidelines-no-malloc)
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
  std::free(memory);  // NOLINT(cppcoreguidelines-no-malloc)
}

void operator delete(void* memory, std::size_t /*size*/) noexcept {
  std::free(memory);  // NOLINT(cppcoreguidelines-no-malloc)
}

namespace bladepsgi::http {
namespace {

TEST(Memory, NothingIsAllocatedInTheSteadyState) {
  const std::string bytes =
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\nX-A: b\r\n\r\nabc"
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: ::2\r\n\r\n"
      "3\r\nabc\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
  const TrustedProxies trusted = TrustedProxies::parse("*").value();
  const Field field{"Content-Type", "text/plain"};
  const std::string date(kDateSize, 'd');
  Connection connection;
  Parameters parameters;
  std::string head;
  std::size_t before = 0;
  for (int round = 0; round < 10; ++round) {
    if (round == 2) before = allocations;
    const WritableBytes space = connection.receive_space();
    std::copy_n(as_bytes(bytes).begin(), bytes.size(), space.begin());
    connection.received(bytes.size());
    for (Event event = connection.next(); event != Event::NeedMore; event = connection.next()) {
      if (event == Event::Body) connection.consume_body(connection.body().size());
      if (event == Event::Request) {
        connection.want_body();
        const Peer peer = apply_forwarding(trusted, ForwardingFields::XForwarded,
                                           {.remote_address = "::1", .remote_port = 9},
                                           connection.request().fields);
        static_cast<void>(parameters.build(connection.request(), peer));
      }
      if (event != Event::BodyEnd) continue;
      head.clear();
      static_cast<void>(append_response_head(head, 200, {&field, 1}, {.date = date}));
      connection.request_ended();
    }
    ASSERT_TRUE(connection.is_idle());
  }
  EXPECT_EQ(allocations, before);
}

}  // namespace
}  // namespace bladepsgi::http
