// ResponseCheck: is this response, byte for byte, what it has to be? Bytes in, a verdict out.
//
// An eye of its own: nothing of the server's protocol rooms is used, so that a mistake there is not repeated here. Strict where
// the server has a choice, too: anything on standard error, behind the end of a response, or against its own Content-Length is wrong.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "load/body_rule.h"

namespace bladepsgi::load {

enum class Protocol : std::uint8_t { FastCgi, Http };

struct Expectation {
  int status = 200;
  BodyRule body;
};

enum class Verdict : std::uint8_t {
  More,   // right so far
  Done,   // right, and complete
  Wrong,  // see problem()
};

class ResponseCheck {
 public:
  static std::unique_ptr<ResponseCheck> make(Protocol protocol);

  ResponseCheck() = default;
  ResponseCheck(const ResponseCheck&) = delete;
  ResponseCheck& operator=(const ResponseCheck&) = delete;
  virtual ~ResponseCheck() = default;

  // For the next response. `expected` is kept, not copied.
  void start(const Expectation& expected);

  // What has arrived; nothing may be given after Done or Wrong.
  [[nodiscard]] Verdict take(std::string_view bytes);

  // The peer has closed the connection.
  [[nodiscard]] Verdict peer_closed();

  // Not a byte has come yet.
  [[nodiscard]] bool is_untouched() const { return taken_ == 0; }

  // After Done: the server has said that it closes the connection.
  [[nodiscard]] bool closes() const { return closes_; }

  // After Wrong.
  [[nodiscard]] std::string problem() const;

 protected:
  virtual void restart() = 0;
  virtual Verdict decode(std::string_view bytes) = 0;
  virtual Verdict decode_end() = 0;

  Verdict wrong(const char* what);

  // Bytes of the head; returns how many belong to it. Complete once is_head_complete().
  std::size_t take_head(std::string_view bytes);

  [[nodiscard]] bool is_head_complete() const { return is_head_complete_; }

  // Of the complete head: false after wrong().
  bool read_head(Protocol protocol);
  bool take_body(std::string_view bytes);
  bool is_body_right();

  // Of the head.
  std::optional<std::uint64_t> content_length_;
  bool is_chunked_ = false;
  bool closes_ = false;
  std::uint64_t body_taken_ = 0;

 private:
  const Expectation* expected_ = nullptr;
  std::uint64_t taken_ = 0;
  std::string head_;
  bool is_head_complete_ = false;
  const char* problem_ = "";
};

}  // namespace bladepsgi::load
