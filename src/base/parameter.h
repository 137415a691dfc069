// Parameter: one CGI/1.1 meta-variable, as the protocols decode it and the runtimes read it.
#pragma once

#include <string_view>

namespace bladepsgi {

// Views into storage of whoever hands it out, who says how long they live. Any bytes are allowed in both, NUL included.
struct Parameter {
  std::string_view name;
  std::string_view value;
};

}  // namespace bladepsgi
