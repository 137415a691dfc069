// Records and name-value pairs: nothing is read beyond the input, what is decoded lies within it, and encoding the pairs
// again in their shortest form decodes to the same pairs.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "check.h"
#include "fcgi/name_value.h"
#include "fcgi/record.h"

namespace {

using bladepsgi::Bytes;
using bladepsgi::Parameter;
namespace fcgi = bladepsgi::fcgi;

bool lies_within(Bytes outer, std::string_view inner) {
  const auto* begin = reinterpret_cast<const char*>(outer.data());
  return inner.empty() ||
         (inner.data() >= begin && inner.data() + inner.size() <= begin + outer.size());
}

void check_pairs(Bytes stream) {
  std::vector<Parameter> pairs;
  fcgi::NameValueReader reader(stream);
  std::vector<std::byte> again;
  while (const auto pair = reader.next()) {
    FUZZ_CHECK(lies_within(stream, pair->name) && lies_within(stream, pair->value));
    pairs.push_back(*pair);
    fcgi::append_name_value(again, *pair);
  }
  FUZZ_CHECK(!reader.next());
  FUZZ_CHECK(again.size() <= stream.size());
  FUZZ_CHECK(reader.is_malformed() || pairs.empty() == stream.empty());
  fcgi::NameValueReader second(again);
  for (const Parameter& expected : pairs) {
    const auto pair = second.next();
    FUZZ_CHECK(pair && pair->name == expected.name && pair->value == expected.value);
  }
  FUZZ_CHECK(!second.next() && !second.is_malformed());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes input(reinterpret_cast<const std::byte*>(data), size);
  check_pairs(input);
  Bytes rest = input;
  for (;;) {
    const auto decoded = fcgi::decode_record(rest);
    if (!decoded || decoded->consumed == 0) break;
    FUZZ_CHECK(decoded->consumed <= rest.size());
    FUZZ_CHECK(lies_within(rest, bladepsgi::as_text(decoded->record->content)));
    check_pairs(decoded->record->content);
    // One byte less is never enough.
    const auto less = fcgi::decode_record(rest.first(decoded->consumed - 1));
    FUZZ_CHECK(less && less->consumed == 0);
    rest = rest.subspan(decoded->consumed);
  }
  return 0;
}
