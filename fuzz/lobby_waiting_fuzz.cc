// What waits in the lobby: however a stream is cut, a worker gets it at the same point or later, and its engine makes the same of
// the bytes. The first byte chooses the protocol and the limits, the second how to cut.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "check.h"
#include "fcgi/testing.h"
#include "http/testing.h"
#include "lobby/waiting.h"

namespace {

namespace lobby = bladepsgi::lobby;
using bladepsgi::handoff::Protocol;
using Stage = lobby::Waiting::Stage;

template <class Player>
std::string played(bladepsgi::Bytes bytes) {
  Player player;
  player.feed(bladepsgi::as_text(bytes));
  player.close();
  return player.log() + player.output();
}

std::string what_a_worker_sees(const lobby::Waiting& waiting) {
  return waiting.protocol() == Protocol::FastCgi
             ? played<bladepsgi::fcgi::testing::Player>(waiting.bytes())
             : played<bladepsgi::http::testing::Player>(waiting.bytes());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const Protocol protocol = (data[0] & 1) != 0 ? Protocol::Http : Protocol::FastCgi;
  lobby::Limits limits;
  limits.body_ahead = (data[0] & 2) != 0 ? 10 : 65536;
  if ((data[0] & 4) != 0) limits.fcgi.receive_buffer = limits.http.receive_buffer = 1024;
  if ((data[0] & 8) != 0) limits.fcgi.parameter_bytes = limits.http.head_bytes = 200;
  const bladepsgi::Bytes stream(reinterpret_cast<const std::byte*>(data + 2), size - 2);

  lobby::Waiting whole(protocol, limits);
  whole.take(stream);
  lobby::Waiting cut(protocol, limits);
  const std::size_t piece = 1 + data[1] % 64;
  for (std::size_t at = 0; at < stream.size(); at += piece)
    cut.take(stream.subspan(at, std::min(piece, stream.size() - at)));

  const bool is_ready = whole.stage() >= Stage::Enough;
  // A peer that waits for 100-continue makes its request ready; one whose body comes with the head does not wait.
  const bool may_have_waited = protocol == Protocol::Http && cut.stage() == Stage::Enough;
  FUZZ_CHECK(is_ready == (cut.stage() >= Stage::Enough) || may_have_waited);
  if (!is_ready && !may_have_waited) FUZZ_CHECK(whole.stage() == cut.stage());
  FUZZ_CHECK(whole.bytes().size() <= stream.size());
  if (whole.stage() == Stage::Head) FUZZ_CHECK(!whole.bytes().empty());
  if (is_ready && cut.stage() >= Stage::Enough)
    FUZZ_CHECK(what_a_worker_sees(whole) == what_a_worker_sees(cut));

  // A worker that has come so far, and the lobby again.
  if (!is_ready) {
    lobby::Waiting again(protocol, limits, whole.replies());
    again.take(whole.bytes());
    FUZZ_CHECK(again.stage() == whole.stage());
  }
  whole.end();
  FUZZ_CHECK(whole.stage() >= Stage::Enough);
  return 0;
}
