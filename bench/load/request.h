// Request: the bytes of one request, made beforehand, so that sending it costs nothing but the system call.
//
// What a web server in front would send: the parameters of nginx with a browser's header fields and a cookie of 1 KB, 35 in all;
// over HTTP the same header fields. A body is the pattern of body_rule.h.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "load/response_check.h"

namespace bladepsgi::load {

struct RequestSpec {
  Protocol protocol = Protocol::FastCgi;
  bool keep = false;
  std::string method = "GET";
  std::string uri = "/";  // path and query
  std::uint64_t body_size = 0;
  bool has_body = false;
};

class Request {
 public:
  explicit Request(const RequestSpec& spec);

  [[nodiscard]] std::uint64_t size() const { return size_; }

  // Of which so many come before the body.
  [[nodiscard]] std::uint64_t head_size() const { return head_size_; }

  // What comes from `offset` on, as many vectors as fit; returns how many there are.
  [[nodiscard]] std::size_t vectors(std::uint64_t offset, std::span<iovec> into) const;

 private:
  void append_fcgi(const RequestSpec& spec);
  void append_http(const RequestSpec& spec);

  // first_, then repeated_size_ bytes of block_ again and again, then last_.
  std::string first_;
  std::string block_;
  std::uint64_t repeated_size_ = 0;
  std::string last_;
  std::uint64_t head_size_ = 0;
  std::uint64_t size_ = 0;
};

// `text` with every %n replaced by the number.
[[nodiscard]] std::string with_number(std::string_view text, unsigned number);

}  // namespace bladepsgi::load
