// Handover messages: what is accepted lies within the input, keeps its promises and encodes to the very same bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "check.h"
#include "handoff/message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace handoff = bladepsgi::handoff;
  const bladepsgi::Bytes input(reinterpret_cast<const std::byte*>(data), size);
  const auto decoded = handoff::decode(input);
  if (!decoded) {
    FUZZ_CHECK(!handoff::describe(decoded.error()).empty());
    return 0;
  }
  const handoff::Message& message = decoded.value();
  FUZZ_CHECK(message.bytes.size() <= handoff::kInlineLimit);
  FUZZ_CHECK(message.bytes.empty() || message.external_bytes == 0);
  FUZZ_CHECK(message.unsent_bytes <= message.total_bytes());
  FUZZ_CHECK(message.bytes_before_file <= message.unsent_bytes);
  FUZZ_CHECK(message.file_piece <= message.file_length);
  FUZZ_CHECK(message.descriptors() >= 1 && message.descriptors() <= 3);
  handoff::EncodedMessage buffer;
  const bladepsgi::Bytes again = handoff::encode(message, buffer);
  FUZZ_CHECK(std::equal(again.begin(), again.end(), input.begin(), input.end()));
  return 0;
}
