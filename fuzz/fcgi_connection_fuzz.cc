// The connection: how a stream is cut changes nothing, whether body bytes go past the buffer changes nothing, parameters stay what they
// are until their request has ended, what the engine answers is well-formed, and limits hold. The first byte chooses how to cut, the second the limits.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "check.h"
#include "fcgi/connection.h"
#include "fcgi/testing.h"

namespace {

namespace fcgi = bladepsgi::fcgi;
using fcgi::testing::Player;
using fcgi::testing::Replies;

fcgi::Limits limits_for(std::uint8_t choice) {
  fcgi::Limits limits;
  limits.receive_buffer = (choice & 1) != 0 ? 1024 : 65536;
  if ((choice & 2) != 0) limits.parameter_bytes = 64;
  if ((choice & 4) != 0) limits.parameter_count = 3;
  if ((choice & 8) != 0) limits.drain_bytes = 100;
  return limits;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const fcgi::Limits limits = limits_for(data[1]);
  std::size_t step = data[0];
  const std::string_view stream(reinterpret_cast<const char*>(data) + 2, size - 2);

  Player whole(limits);
  whole.feed(stream);
  whole.close();
  FUZZ_CHECK(whole.is_over());
  FUZZ_CHECK(whole.are_parameters_kept());

  Player cut(limits);
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t piece = std::min(stream.size() - at, step % 17 + 1);
    cut.feed(stream.substr(at, piece));
    at += piece;
    step = step * 31 + 7;
  }
  cut.close();
  FUZZ_CHECK(cut.log() == whole.log());
  FUZZ_CHECK(cut.output() == whole.output());
  FUZZ_CHECK(cut.are_parameters_kept());

  Player direct(limits);
  direct.feed_bypassing(stream);
  direct.close();
  FUZZ_CHECK(direct.log() == whole.log());
  FUZZ_CHECK(direct.are_parameters_kept());

  const Replies replies = Replies::parse(whole.output());
  FUZZ_CHECK(replies.left_over == 0);
  for (const auto& [id, reply] : replies.by_id) {
    FUZZ_CHECK(reply.ends >= 1 && reply.out.empty() && reply.err.empty());
  }
  return 0;
}
