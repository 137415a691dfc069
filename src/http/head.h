// HeadParser: the head of one request, from bytes that arrive in any pieces to a Request or the reason to refuse it.
//
// Strict on purpose (docs/decisions/0007): whatever two servers in a row could read differently is refused, so that nobody can
// hide a second request in a first. Bytes are kept as they arrive, so every view stays good until clear().
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/engine.h"
#include "http/field.h"
#include "http/limits.h"

namespace bladepsgi::http {

struct Request {
  std::string_view method;
  std::string_view target;  // as sent
  std::string_view uri;     // in origin form, still encoded: "/path?query", or "*"
  std::string_view host;    // host[:port] of an absolute target, else of Host; may be empty
  int version_minor = 1;    // HTTP/1.0 or HTTP/1.1; a higher one is spoken to as 1
  // As sent, in order, repeated ones included; but Host has the value of `host`, as RFC 9112 §3.2.2 demands.
  std::span<const Field> fields;
  std::optional<std::uint64_t> content_length;
  bool is_chunked = false;
  bool keeps_connection = false;  // the peer would like another request on it
  bool expects_continue = false;  // and there is a body to wait with

  [[nodiscard]] bool has_body() const { return is_chunked || content_length.value_or(0) > 0; }
};

using bladepsgi::Refusal;

class HeadParser {
 public:
  explicit HeadParser(const Limits& limits);

  enum class Progress : std::uint8_t { NeedMore, Complete, Refused };

  struct Taken {
    std::size_t consumed = 0;
    Progress progress = Progress::NeedMore;
  };

  // After Complete or Refused only clear() may follow. What is behind the head is not consumed.
  [[nodiscard]] Taken take(std::string_view input);

  // Something of a request has come; empty lines in front of one do not count.
  [[nodiscard]] bool is_started() const { return is_started_; }

  // After Complete. After Refused: method, target and version, if the first line was good, and nothing else.
  [[nodiscard]] const Request& request() const { return request_; }

  [[nodiscard]] const Refusal& refusal() const { return refusal_; }

  // For the next head. Keeps the storage unless it is very large.
  void clear();
  // Also gives the storage back.
  void release_memory();

 private:
  // A piece of text_, which may still move while it grows.
  struct Piece {
    std::uint32_t begin = 0;
    std::uint32_t size = 0;
  };

  struct FieldPieces {
    Piece name;
    Piece value;
  };

  struct Framing;  // what the fields say about the body and the connection

  [[nodiscard]] std::string_view view(Piece piece) const {
    return std::string_view(text_).substr(piece.begin, piece.size);
  }

  [[nodiscard]] Piece piece_of(std::string_view part) const {
    return {static_cast<std::uint32_t>(part.data() - text_.data()),
            static_cast<std::uint32_t>(part.size())};
  }

  [[nodiscard]] std::size_t limit() const;
  std::size_t skip_empty_lines(std::string_view input);
  std::size_t take_lines(std::string_view input);
  void refuse(int status, std::string_view reason);
  void refuse_size();
  void end_line();
  void take_request_line(std::string_view line);
  void take_field_line(std::string_view line);
  void complete();
  bool gather(Framing& framing, const Field& field);
  bool decide_body(const Framing& framing);
  bool decide_host(const Framing& framing, std::string_view target_authority);
  void publish_request_line();

  std::size_t head_bytes_;
  std::size_t target_bytes_;
  std::size_t field_count_;

  Progress progress_ = Progress::NeedMore;
  bool is_started_ = false;
  bool has_request_line_ = false;
  bool after_cr_ = false;  // the last byte was a CR: LF must follow
  int empty_lines_ = 0;

  std::string text_;  // the head so far
  std::size_t line_begin_ = 0;
  Piece method_;
  Piece target_;
  int version_minor_ = 1;
  std::vector<FieldPieces> pieces_;
  std::vector<Field> fields_;
  std::string uri_;  // of an absolute target that has no path

  Request request_;
  Refusal refusal_;
};

}  // namespace bladepsgi::http
