#include "handoff/outgoing.h"

#include <algorithm>

#include "os/system_error.h"

namespace bladepsgi::handoff {

Outgoing::Outgoing(const Message& message, Framing& framing)
    : framing_(framing),
      before_file_(message.kind == Kind::UnsentFile ? message.bytes_before_file
                                                    : message.unsent_bytes),
      bytes_(message.unsent_bytes),
      file_offset_(message.file_offset),
      file_left_(message.file_length),
      piece_left_(message.file_piece),
      is_in_piece_(piece_left_ > 0) {}

void Outgoing::set_frame(Bytes frame) {
  if (frame.size() > frame_.size())
    os::broken_invariant(__FILE__, __LINE__, "a frame is longer than any of ours");
  std::copy(frame.begin(), frame.end(), frame_.begin());
  frame_at_ = 0;
  frame_size_ = frame.size();
}

Outgoing::Next Outgoing::next() {
  if (frame_at_ == frame_size_ && bytes_sent_ == before_file_ && file_left_ > 0 && !is_in_piece_) {
    piece_left_ = std::min<std::uint64_t>(file_left_, framing_.largest_piece());
    is_in_piece_ = true;
    set_frame(framing_.piece_begin(static_cast<std::size_t>(piece_left_)));
  }
  if (frame_at_ < frame_size_) {
    return {.source = Source::Frame,
            .size = frame_size_ - frame_at_,
            .frame = Bytes(frame_).subspan(frame_at_, frame_size_ - frame_at_),
            .has_more = file_left_ > 0 || bytes_sent_ < bytes_};
  }
  if (bytes_sent_ < before_file_) {
    return {.source = Source::Bytes,
            .offset = bytes_sent_,
            .size = before_file_ - bytes_sent_,
            .has_more = file_left_ > 0};
  }
  if (file_left_ > 0) {
    return {.source = Source::File, .offset = file_offset_, .size = piece_left_, .has_more = true};
  }
  if (bytes_sent_ < bytes_)
    return {.source = Source::Bytes, .offset = bytes_sent_, .size = bytes_ - bytes_sent_};
  return {};
}

Outgoing::Rest Outgoing::rest() const {
  Rest rest;
  rest.frame = Bytes(frame_).subspan(frame_at_, frame_size_ - frame_at_);
  rest.offset = bytes_sent_;
  rest.size = bytes_ - bytes_sent_;
  if (file_left_ == 0) return rest;
  rest.bytes_before_file = rest.frame.size() + (before_file_ - bytes_sent_);
  rest.file_offset = file_offset_;
  rest.file_length = file_left_;
  rest.file_piece = is_in_piece_ ? piece_left_ : 0;
  return rest;
}

void Outgoing::sent(std::uint64_t size) {
  const Next now = next();
  if (size > now.size) os::broken_invariant(__FILE__, __LINE__, "more was sent than there was");
  switch (now.source) {
    case Source::Nothing:
      break;
    case Source::Frame:
      frame_at_ += static_cast<std::size_t>(size);
      break;
    case Source::Bytes:
      bytes_sent_ += size;
      break;
    case Source::File:
      file_offset_ += size;
      file_left_ -= size;
      piece_left_ -= size;
      if (piece_left_ == 0) {
        is_in_piece_ = false;
        set_frame(framing_.piece_end());
      }
      break;
  }
}

}  // namespace bladepsgi::handoff
