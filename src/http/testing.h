// For tests and fuzzers only: plays the worker on a Connection and writes down what happened, so that two ways of cutting one
// stream can be compared.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "http/connection.h"

namespace bladepsgi::http::testing {

inline std::string describe(const Request& request) {
  std::string text = std::string(request.method) + " " + std::string(request.target);
  if (request.uri != request.target) text += " uri " + std::string(request.uri);
  text += " 1." + std::to_string(request.version_minor);
  if (!request.host.empty()) text += " host " + std::string(request.host);
  if (request.content_length) text += " length " + std::to_string(*request.content_length);
  if (request.is_chunked) text += " chunked";
  if (request.keeps_connection) text += " keep";
  if (request.expects_continue) text += " expects";
  text += "\n";
  for (const Field& field : request.fields) {
    text += "  " + std::string(field.name) + ": " + std::string(field.value) + "\n";
  }
  return text;
}

class Player {
 public:
  // A lazy one ends each request without looking at its body.
  explicit Player(const Limits& limits = {}, bool is_lazy = false)
      : connection_(limits), is_lazy_(is_lazy) {}

  Connection& connection() { return connection_; }

  [[nodiscard]] const std::string& log() const { return log_; }

  [[nodiscard]] const std::string& output() const { return output_; }

  [[nodiscard]] bool is_over() const { return over_; }

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

  void feed_in_pieces(std::string_view bytes, std::size_t piece) {
    for (std::size_t at = 0; at < bytes.size(); at += piece)
      feed(bytes.substr(at, piece));
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
    connection_.request_ended();
  }

  void play() {
    while (!over_) {
      const Event event = connection_.next();
      switch (event) {
        case Event::NeedMore:
          return;
        case Event::Request:
          log_ += describe(connection_.request());
          if (is_lazy_) {
            end("unread");
            break;
          }
          connection_.want_body();
          output_ += as_text(connection_.pending_output());
          connection_.output_sent(connection_.pending_output().size());
          break;
        case Event::Refused:
          log_ += "refused " + std::to_string(connection_.refusal().status) + ": " +
                  std::string(connection_.refusal().reason) + "\n";
          break;
        case Event::Body: {
          const Bytes here = connection_.body();
          body_ += as_text(here);
          connection_.consume_body(here.size());
          break;
        }
        case Event::BodyEnd:
          end("complete");
          break;
        case Event::Aborted:  // not of HTTP
        case Event::Close:
          if (connection_.is_active()) end("short");
          log_ += "close\n";
          over_ = true;
          break;
        case Event::Dropped:
          log_ += "dropped: " + std::string(connection_.drop_reason()) + "\n";
          if (connection_.is_active()) {
            end("malformed");
          } else {
            over_ = true;
          }
          break;
      }
    }
  }

  Connection connection_;
  bool is_lazy_;
  std::string log_;
  std::string output_;
  std::string body_;
  bool over_ = false;
};

}  // namespace bladepsgi::http::testing
