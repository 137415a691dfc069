// For tests, fuzzers and benchmarks only: what a web server writes and what it reads, in the fewest words.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "fcgi/connection.h"
#include "fcgi/name_value.h"
#include "fcgi/record.h"

namespace bladepsgi::fcgi::testing {

using Pairs = std::vector<std::pair<std::string, std::string>>;

inline std::string record(std::uint8_t type,
                          std::uint16_t id,
                          std::string_view content = {},
                          std::size_t padding = 0) {
  std::string out(kHeaderSize, '\0');
  encode_header(
      std::span<std::byte, kHeaderSize>(reinterpret_cast<std::byte*>(out.data()), kHeaderSize),
      static_cast<RecordType>(type), id, content.size(), padding);
  out += content;
  out.append(padding, '\xAA');  // padding may be anything
  return out;
}

inline std::string record(RecordType type,
                          std::uint16_t id,
                          std::string_view content = {},
                          std::size_t padding = 0) {
  return record(static_cast<std::uint8_t>(type), id, content, padding);
}

inline std::string begin(std::uint16_t id,
                         bool keep = false,
                         std::uint16_t role = 1,
                         std::size_t padding = 0) {
  std::string body(8, '\xEE');  // reserved bytes may be anything
  body[0] = static_cast<char>(role >> 8);
  body[1] = static_cast<char>(role & 0xff);
  body[2] = keep ? '\xFF' : '\xFE';  // only bit 0 means something
  return record(RecordType::BeginRequest, id, body, padding);
}

inline std::string pair(std::string_view name, std::string_view value) {
  std::vector<std::byte> out;
  append_name_value(out, {name, value});
  return std::string(as_text(out));
}

inline std::string encode(const Pairs& pairs) {
  std::string out;
  for (const auto& [name, value] : pairs)
    out += pair(name, value);
  return out;
}

// A stream in records of at most `piece` bytes, and its end.
inline std::string stream(RecordType type,
                          std::uint16_t id,
                          std::string_view bytes,
                          std::size_t piece = 65535,
                          std::size_t padding = 0) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    out += record(type, id, bytes.substr(at, piece), padding);
  }
  return out + record(type, id, {}, padding);
}

inline std::string params(std::uint16_t id, const Pairs& pairs) {
  return stream(RecordType::Params, id, encode(pairs));
}

inline std::string body(std::uint16_t id, std::string_view bytes, std::size_t piece = 65535) {
  return stream(RecordType::Stdin, id, bytes, piece);
}

inline std::string whole_request(std::uint16_t id,
                                 bool keep,
                                 const Pairs& pairs,
                                 std::string_view bytes = {}) {
  return begin(id, keep) + params(id, pairs) + body(id, bytes);
}

// What came back, record by record.
struct Reply {
  std::string out;
  std::string err;
  int out_ends = 0;  // empty STDOUT records
  int err_ends = 0;
  int ends = 0;  // END_REQUEST records
  std::uint32_t application_status = 0;
  std::uint8_t protocol_status = 0;
};

struct Replies {
  std::map<std::uint16_t, Reply> by_id;
  std::vector<Record> management;  // views into the bytes given
  std::size_t longest = 0;         // content of one record
  std::size_t left_over = 0;       // bytes behind the last whole record
  bool is_sound = true;

  [[nodiscard]] static Replies parse(std::string_view bytes) {
    Replies replies;
    Bytes rest = as_bytes(bytes);
    for (;;) {
      const auto decoded = decode_record(rest);
      if (!decoded) {
        replies.is_sound = false;
        break;
      }
      if (decoded->consumed == 0) break;
      rest = rest.subspan(decoded->consumed);
      replies.take(*decoded->record);
    }
    replies.left_over = rest.size();
    return replies;
  }

 private:
  void take(const Record& record) {
    longest = std::max(longest, record.content.size());
    if (record.header.request_id == 0) {
      management.push_back(record);
      return;
    }
    Reply& reply = by_id[record.header.request_id];
    if (reply.ends > 0) is_sound = false;  // END_REQUEST is the last
    switch (static_cast<RecordType>(record.header.type)) {
      case RecordType::Stdout:
        if (reply.out_ends > 0) is_sound = false;
        reply.out += as_text(record.content);
        if (record.content.empty()) ++reply.out_ends;
        break;
      case RecordType::Stderr:
        if (reply.err_ends > 0) is_sound = false;
        reply.err += as_text(record.content);
        if (record.content.empty()) ++reply.err_ends;
        break;
      case RecordType::EndRequest:
        ++reply.ends;
        if (record.content.size() == 8) {
          reply.application_status = load_u32(record.content.data());
          reply.protocol_status = load_u8(record.content.data() + 4);
        } else {
          is_sound = false;
        }
        break;
      default:
        is_sound = false;
    }
  }
};

// Feeds a Connection, plays the worker (takes whole bodies, ends each request when its input is complete) and writes down what
// happened, so that two ways of cutting one stream can be compared.
class Player {
 public:
  explicit Player(const Limits& limits = {}, const Values& values = {})
      : connection_(limits, values) {}

  Connection& connection() { return connection_; }

  [[nodiscard]] const std::string& log() const { return log_; }

  [[nodiscard]] const std::string& output() const { return output_; }

  [[nodiscard]] bool is_over() const { return over_; }

  // Every request's parameters were at its end what they had been at its beginning, whatever came in between.
  [[nodiscard]] bool are_parameters_kept() const { return are_parameters_kept_; }

  void feed(std::string_view bytes) {
    while (!bytes.empty() && !over_) {
      const WritableBytes space = connection_.receive_space();
      const std::size_t size = std::min(space.size(), bytes.size());
      if (size == 0) break;
      std::copy_n(as_bytes(bytes).begin(), size, space.begin());
      connection_.received(size);
      bytes.remove_prefix(size);
      play();
    }
  }

  // As feed, but body bytes that may go past the receive buffer do.
  void feed_bypassing(std::string_view bytes) {
    while (!bytes.empty() && !over_) {
      play();
      const std::size_t direct = std::min(connection_.body_bypass(), bytes.size());
      if (direct > 0) {
        body_ += bytes.substr(0, direct);
        connection_.body_bypassed(direct);
        bytes.remove_prefix(direct);
        continue;
      }
      feed(bytes.substr(0, 1));
      bytes.remove_prefix(1);
    }
    play();
  }

  void close() {
    connection_.peer_closed();
    play();
  }

 private:
  void end(std::string_view how) {
    log_ += "body(" + body_ + ") " + std::string(how) + "\n";
    body_.clear();
    are_parameters_kept_ &= text_of_parameters() == parameters_;
    connection_.request_ended();
  }

  [[nodiscard]] std::string text_of_parameters() const {
    std::string text;
    for (const Parameter& p : connection_.request().parameters) {
      text += "  " + std::string(p.name) + "=" + std::string(p.value) + "\n";
    }
    return text;
  }

  void play() {
    while (!over_) {
      const Event event = connection_.next();
      const Bytes pending = connection_.pending_output();
      output_ += as_text(pending);
      connection_.output_sent(pending.size());
      switch (event) {
        case Event::NeedMore:
          return;
        case Event::Request:
        case Event::Refused: {
          const Request& request = connection_.request();
          log_ += event == Event::Request ? "request " : "too large ";
          log_ += std::to_string(request.id) + " role " +
                  std::to_string(static_cast<int>(request.role)) +
                  (request.keep_connection ? " keep" : "") + "\n";
          parameters_ = text_of_parameters();
          log_ += parameters_;
          if (request.role == Role::Authorizer) end("none");
          break;
        }
        case Event::Body: {
          const Bytes here = connection_.body();
          body_ += as_text(here);
          connection_.consume_body(here.size());
          break;
        }
        case Event::BodyEnd:
          end("complete");
          break;
        case Event::Aborted:
          end("aborted");
          break;
        case Event::Close:
          if (connection_.is_active()) end("broken");
          log_ += "close\n";
          over_ = true;
          break;
        case Event::Dropped:
          log_ += "dropped: " + std::string(describe(connection_.error())) + "\n";
          over_ = true;
          break;
      }
    }
  }

  Connection connection_;
  std::string log_;
  std::string output_;
  std::string body_;
  std::string parameters_;  // of the request that is active, as they came
  bool are_parameters_kept_ = true;
  bool over_ = false;
};

}  // namespace bladepsgi::fcgi::testing
