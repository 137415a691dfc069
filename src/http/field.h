// Field: one line of a head, as it was sent or is to be sent.
#pragma once

#include <string_view>

namespace bladepsgi::http {

// Views into storage of whoever hands it out, who says how long they live. The value has no white space around it.
struct Field {
  std::string_view name;
  std::string_view value;
};

}  // namespace bladepsgi::http
