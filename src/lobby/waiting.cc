#include "lobby/waiting.h"

#include <algorithm>
#include <string_view>

#include "base/text.h"
#include "base/wipe.h"
#include "http/connection.h"

namespace bladepsgi::lobby {

Waiting::Waiting(handoff::Protocol protocol, const Limits& limits, std::uint32_t replies)
    : protocol_(protocol), limits_(&limits), replies_(replies) {}

Waiting::~Waiting() {
  if (engine_) engine_->reset();  // which wipes what it has
  wipe(bytes_);
}

Waiting::Stage Waiting::take(Bytes bytes) {
  grow(bytes_, bytes.size());
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  if (stage_ < Stage::Enough) feed(bytes);
  return stage_;
}

Waiting::Stage Waiting::end() {
  if (stage_ == Stage::Idle || stage_ == Stage::Head) stage_ = Stage::Gone;
  if (stage_ == Stage::Body) stage_ = Stage::Decided;
  return stage_;
}

void Waiting::feed(Bytes bytes) {
  if (!engine_) {
    if (protocol_ == handoff::Protocol::FastCgi) {
      auto connection = std::make_unique<fcgi::Connection>(limits_->fcgi);
      fcgi_ = connection.get();
      engine_ = std::move(connection);
    } else {
      engine_ = std::make_unique<http::Connection>(limits_->http);
    }
    engine_->keep_unserved();
  }
  while (!bytes.empty() && stage_ < Stage::Enough) {
    WritableBytes space = engine_->receive_space();
    if (space.empty()) {
      engine_->forget_unserved();
      space = engine_->receive_space();
    }
    const std::size_t size = std::min(bytes.size(), space.size());
    std::copy_n(bytes.begin(), size, space.begin());
    engine_->received(size);
    bytes = bytes.subspan(size);
    look();
  }
  if (stage_ < Stage::Body) forget_served();
}

void Waiting::look() {
  for (;;) {
    switch (engine_->next()) {
      case Event::NeedMore:
        if (engine_->pending_output().size() > replies_) {
          // Who answers it waits for the body as well.
          stage_ = has_request_ ? Stage::Enough : Stage::Decided;
        } else if (!has_request_) {
          stage_ = engine_->is_head_started() ? Stage::Head : Stage::Idle;
        }
        return;
      case Event::Request:
        begin_body();
        if (stage_ != Stage::Body) return;
        continue;
      case Event::Body: {
        const std::size_t size = engine_->body().size();
        engine_->consume_body(size);
        body_bytes_ += size;
        if (engine_->is_body_complete()) {
          stage_ = Stage::Whole;
        } else if (body_bytes_ >= limits_->body_ahead) {
          stage_ = Stage::Enough;
        }
        if (stage_ != Stage::Body) return;
        continue;
      }
      case Event::BodyEnd:
        stage_ = Stage::Whole;
        return;
      case Event::Refused:
      case Event::Aborted:
      case Event::Close:
      case Event::Dropped:
        stage_ = Stage::Decided;
        return;
    }
  }
}

void Waiting::begin_body() {
  has_request_ = true;
  stage_ = Stage::Body;
  // The bytes are kept by ourselves from now on.
  engine_->forget_unserved();
  if (fcgi_ != nullptr && fcgi_->request().role != fcgi::Role::Authorizer) {
    // As cgi::Environment has it: the last one counts, and Caddy's -1 says as little as an empty one.
    std::string_view text;
    for (const Parameter& parameter : fcgi_->request().parameters) {
      if (parameter.name == "CONTENT_LENGTH") text = parameter.value;
    }
    if (!text.empty() && text != "-1") {
      const auto length = parse_decimal(text);
      // What a worker makes of one that is no number, it may make at once.
      if (length) {
        fcgi_->set_body_length(length);
      } else {
        stage_ = Stage::Decided;
      }
    }
  }
  if (stage_ == Stage::Body && engine_->is_body_complete()) stage_ = Stage::Whole;
  if (stage_ == Stage::Body && (limits_->body_ahead == 0 || engine_->body_ahead().needs_answer)) {
    stage_ = Stage::Enough;
  }
}

// What nobody will ask for again: records of an older request, management records that were answered.
void Waiting::forget_served() {
  const auto unserved = engine_->unserved();
  if (!unserved) return;
  const std::size_t served = bytes_.size() - std::min(bytes_.size(), unserved->bytes.size());
  if (const std::size_t output = engine_->pending_output().size(); output > unserved->replies) {
    const std::size_t answered = output - unserved->replies;
    engine_->output_sent(answered);
    replies_ -= static_cast<std::uint32_t>(std::min<std::size_t>(answered, replies_));
  }
  if (served == bytes_.size()) {
    wipe(bytes_);
    std::vector<std::byte>().swap(bytes_);
    if (stage_ != Stage::Idle) return;
    if (fcgi_ != nullptr) {
      fcgi_->release_memory();  // and no more: it counts what it swallows
    } else {
      engine_.reset();
    }
    return;
  }
  if (served == 0) return;
  std::vector<std::byte> rest(bytes_.begin() + static_cast<std::ptrdiff_t>(served), bytes_.end());
  wipe(bytes_);
  bytes_.swap(rest);
}

}  // namespace bladepsgi::lobby
