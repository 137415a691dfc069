// ReceiveBuffer: what has come from a peer and was not taken yet, in storage of a fixed size.
//
// Filled at one end and consumed at the other; bytes move only when little is moved and much is gained. The storage is made when first
// needed, and only what a peer fills of it is ever touched.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "base/wipe.h"

namespace bladepsgi {

class ReceiveBuffer {
 public:
  explicit ReceiveBuffer(std::size_t capacity) : capacity_(capacity) {}

  // Where to receive into; empty while it is full of what has not been consumed, or is pinned.
  [[nodiscard]] WritableBytes space() {
    if (!storage_) storage_ = std::make_unique_for_overwrite<std::byte[]>(capacity_);
    const std::size_t keep = holds_ ? held_ : begin_;
    if (keep == end_) {
      const bool holds = holds_;
      clear();
      if (holds) hold();
    } else if ((!holds_ || pinned_ == 0) && capacity_ - end_ < capacity_ / 4 &&
               end_ - keep <= capacity_ / 2) {
      // So that a reader of small pieces does not move it all each time.
      used_ = std::max(used_, end_);
      const std::size_t shift = keep - (holds_ ? 0 : pinned_);
      std::memmove(storage_.get() + keep - shift, storage_.get() + keep, end_ - keep);
      end_ -= shift;
      begin_ -= shift;
      held_ = keep - shift;
      clean_ = 0;
    }
    return {storage_.get() + end_, capacity_ - end_};
  }

  void received(std::size_t size) { end_ += size; }

  [[nodiscard]] Bytes unread() const { return {storage_.get() + begin_, size()}; }

  [[nodiscard]] std::size_t size() const { return end_ - begin_; }

  [[nodiscard]] bool empty() const { return begin_ == end_; }

  void consume(std::size_t size) { begin_ += size; }

  // All that has been consumed stays where and as it is until unpin. False, and nothing is done: that would leave too little room
  // for what is to come.
  [[nodiscard]] bool try_pin() {
    if (begin_ > capacity_ / 4) return false;
    pinned_ = begin_;
    return true;
  }

  void unpin() { pinned_ = 0; }

  // What comes after this moment stays, consumed or not, until it is let go or dropped; space() is smaller by it. It may move,
  // but for what is pinned.
  void hold() {
    held_ = begin_;
    holds_ = true;
  }

  void let_go() { holds_ = false; }

  [[nodiscard]] bool is_holding() const { return holds_; }

  [[nodiscard]] Bytes held() const { return {storage_.get() + held_, end_ - held_}; }

  // Drops what is unread, and what is held.
  void clear() {
    used_ = std::max(used_, end_);
    begin_ = end_ = held_ = pinned_;
    clean_ = 0;
    holds_ = false;
  }

  // Overwrites what has been consumed or dropped, and is not held; nothing while something is pinned.
  void wipe() {
    if (!storage_ || pinned_ > 0) return;
    if (empty() && !holds_) clear();
    const std::size_t until = holds_ ? held_ : begin_;
    if (until > clean_) bladepsgi::wipe(storage_.get() + clean_, until - clean_);
    clean_ = until;
    if (used_ > end_) bladepsgi::wipe(storage_.get() + end_, used_ - end_);
    used_ = 0;
  }

  // Gives the storage back, if nothing is in it.
  void release() {
    if (empty() && pinned_ == 0 && (!holds_ || held_ == end_)) {
      holds_ = false;
      wipe();
      storage_.reset();
      used_ = begin_ = end_ = clean_ = held_ = 0;
    }
  }

 private:
  std::size_t capacity_;
  std::unique_ptr<std::byte[]> storage_;
  std::size_t begin_ = 0;  // unread bytes are [begin_, end_)
  std::size_t end_ = 0;
  std::size_t pinned_ = 0;  // what is before it is left alone
  std::size_t clean_ = 0;   // what is before it has been wiped
  std::size_t held_ = 0;    // what is behind it stays, if holds_
  bool holds_ = false;
  std::size_t used_ = 0;  // bytes behind end_, up to here, have been written since the last wipe
};

}  // namespace bladepsgi
