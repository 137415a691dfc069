// AccessLog: one line for each request, in the form that the operator chose.
//
// A form is text with the conversions of Apache's LogFormat, as far as a PSGI application has something to say about them:
//   %h client   %l -   %u user   %t time   %r request line   %m method   %U path   %q ?query   %H protocol   %v host   %p port
//   %s %>s status   %b %B bytes of the body (- or 0 for none)   %D microseconds   %T seconds   %P pid   %L request id
//   %{Name}i request header   %% percent sign
// or one of the words common, combined (the default) and json.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parameter.h"
#include "base/result.h"
#include "os/clock.h"

namespace bladepsgi::worker {

class AccessLog {
 public:
  // The message says which conversion is unknown.
  [[nodiscard]] static Result<AccessLog> compile(std::string_view format);

  // What is known before the application is called is written now: afterwards the views may be gone.
  void begin(std::span<const Parameter> parameters,
             std::string_view request_id,
             os::WallClock started);

  struct Outcome {
    int status = 0;
    std::uint64_t bytes = 0;
    std::chrono::microseconds took{};
  };

  // The whole line, without newline; valid until the next begin.
  [[nodiscard]] std::string_view finish(const Outcome& outcome);

 private:
  enum class Kind : std::uint8_t {
    Text,  // as it stands
    Parameter,
    Time,
    IsoTime,
    RequestLine,
    Path,
    Query,
    Pid,
    RequestId,
    // known only at the end
    Status,
    Bytes,
    BytesOrDash,
    Microseconds,
    Seconds,
    FractionalSeconds,
  };

  struct Item {
    Kind kind{};
    std::string text;  // of Text; name of Parameter
  };

  void add_text(std::string_view text);

  void add(Kind kind, std::string_view name = {}) { items_.push_back({kind, std::string(name)}); }

  void write(std::string& line, std::string_view value) const;
  void write_time(std::string& line, os::WallClock time);

  std::vector<Item> items_;
  bool is_json_ = false;
  std::vector<std::string> values_;  // of the items that are known at the beginning
  std::string line_;
  std::time_t stamped_second_ = -1;
  std::string stamp_;
};

}  // namespace bladepsgi::worker
