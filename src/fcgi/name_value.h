// Name-value pairs: the encoding inside PARAMS and GET_VALUES (FastCGI 1.0 §3.4).
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/parameter.h"
#include "fcgi/record.h"

namespace bladepsgi::fcgi {

// Takes pairs off the front of a stream that has arrived completely. Names and values are views into it.
class NameValueReader {
 public:
  explicit NameValueReader(Bytes stream) : rest_(stream) {}

  // Empty at the end of the stream, and when it is malformed: ask is_malformed then.
  [[nodiscard]] std::optional<Parameter> next() {
    // Nearly all lengths are of one byte each.
    if (rest_.size() >= 2) {
      const std::size_t name = load_u8(rest_.data());
      const std::size_t value = load_u8(rest_.data() + 1);
      if ((name | value) < 0x80 && name + value <= rest_.size() - 2) {
        const char* const at = reinterpret_cast<const char*>(rest_.data()) + 2;
        rest_ = rest_.subspan(2 + name + value);
        return Parameter{{at, name}, {at + name, value}};
      }
    }
    return next_of_any_size();
  }

  [[nodiscard]] bool is_malformed() const { return malformed_; }

 private:
  [[nodiscard]] std::optional<Parameter> next_of_any_size();
  [[nodiscard]] bool read_length(std::size_t& length);

  Bytes rest_;
  bool malformed_ = false;
};

// Appends one pair to `into`, each length in its shortest form.
void append_name_value(std::vector<std::byte>& into, Parameter pair);

}  // namespace bladepsgi::fcgi
