#include "load/response_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace bladepsgi::load {

namespace {

constexpr std::size_t kLongestHead = std::size_t{64} * 1024;

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

bool contains_ignoring_case(std::string_view text, std::string_view word) {
  const auto at = std::search(text.begin(), text.end(), word.begin(), word.end(),
                              [](char x, char y) { return lower(x) == lower(y); });
  return at != text.end();
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
    text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

// The whole text is the number.
template <typename Number>
std::optional<Number> parse(std::string_view text, int base = 10) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Three digits, and a reason behind a space if there is one.
std::optional<int> parse_status(std::string_view text) {
  if (text.size() < 3 || (text.size() > 3 && text[3] != ' ')) return std::nullopt;
  return parse<int>(text.substr(0, 3));
}

unsigned byte_at(std::string_view bytes, std::size_t index) {
  return static_cast<unsigned char>(bytes[index]);
}

}  // namespace

void ResponseCheck::start(const Expectation& expected) {
  expected_ = &expected;
  taken_ = 0;
  body_taken_ = 0;
  head_.clear();
  is_head_complete_ = false;
  content_length_.reset();
  is_chunked_ = false;
  closes_ = false;
  restart();
}

Verdict ResponseCheck::take(std::string_view bytes) {
  const Verdict verdict = decode(bytes);
  taken_ += bytes.size();
  if (verdict == Verdict::More && !is_head_complete_ && head_.size() > kLongestHead) {
    return wrong("a head without end");
  }
  return verdict;
}

Verdict ResponseCheck::peer_closed() {
  return decode_end();
}

std::string ResponseCheck::problem() const {
  return fmt::format("{} ({} bytes of the response, {} of its body had come)", problem_, taken_,
                     body_taken_);
}

Verdict ResponseCheck::wrong(const char* what) {
  problem_ = what;
  return Verdict::Wrong;
}

std::size_t ResponseCheck::take_head(std::string_view bytes) {
  // The end may lie across two pieces: "\n" or "\r\n" behind a line end.
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    head_ += bytes[i];
    if (bytes[i] != '\n') continue;
    const std::string_view head = head_;
    if (head.ends_with("\n\r\n") || head.ends_with("\n\n")) {
      is_head_complete_ = true;
      return i + 1;
    }
  }
  return bytes.size();
}

bool ResponseCheck::read_head(Protocol protocol) {
  std::string_view rest = head_;
  std::optional<int> status;
  if (protocol == Protocol::FastCgi) {
    status = 200;  // what CGI means without a Status
  } else if (head_.size() >= 12 && rest.starts_with("HTTP/1.") && rest[8] == ' ') {
    status = parse_status(rest.substr(9, rest.find_first_of("\r\n") - 9));
    closes_ = rest[7] == '0';
    rest.remove_prefix(rest.find('\n') + 1);
  }
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) break;
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) {
      static_cast<void>(wrong("a line of the head is no field"));
      return false;
    }
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = trim(line.substr(colon + 1));
    if (equals_ignoring_case(name, "Content-Length")) {
      content_length_ = parse<std::uint64_t>(value);
      if (!content_length_ || *content_length_ != expected_->body.size()) {
        static_cast<void>(wrong("Content-Length is not that of the expected body"));
        return false;
      }
    } else if (equals_ignoring_case(name, "Status") && protocol == Protocol::FastCgi) {
      status = parse_status(value);
    } else if (equals_ignoring_case(name, "Transfer-Encoding")) {
      is_chunked_ = contains_ignoring_case(value, "chunked");
    } else if (equals_ignoring_case(name, "Connection")) {
      if (contains_ignoring_case(value, "close")) closes_ = true;
      if (contains_ignoring_case(value, "keep-alive")) closes_ = false;
    }
  }
  if (status != expected_->status) {
    static_cast<void>(wrong("another status than expected"));
    return false;
  }
  return true;
}

bool ResponseCheck::take_body(std::string_view bytes) {
  if (!expected_->body.matches(body_taken_, bytes)) {
    static_cast<void>(wrong(body_taken_ + bytes.size() > expected_->body.size()
                                ? "the body is longer than expected"
                                : "the body is not the expected one"));
    return false;
  }
  body_taken_ += bytes.size();
  return true;
}

bool ResponseCheck::is_body_right() {
  if (body_taken_ == expected_->body.size()) return true;
  static_cast<void>(wrong("the body is shorter than expected"));
  return false;
}

namespace {

class FastCgiCheck final : public ResponseCheck {
 private:
  static constexpr unsigned kVersion = 1;
  static constexpr unsigned kEndRequest = 3;
  static constexpr unsigned kStdout = 6;
  static constexpr unsigned kStderr = 7;
  static constexpr unsigned kRequestId = 1;
  static constexpr std::size_t kHeaderSize = 8;
  static constexpr std::size_t kEndRequestSize = 8;

  void restart() override {
    header_size_ = 0;
    content_left_ = 0;
    padding_left_ = 0;
    has_stdout_ended_ = false;
    end_size_ = 0;
  }

  Verdict decode(std::string_view bytes) override {
    while (!bytes.empty()) {
      if (header_size_ < kHeaderSize) {
        header_[header_size_++] = bytes.front();
        bytes.remove_prefix(1);
        if (header_size_ == kHeaderSize && !begin_record()) return Verdict::Wrong;
      } else if (content_left_ > 0) {
        const std::string_view part = bytes.substr(0, content_left_);
        bytes.remove_prefix(part.size());
        content_left_ -= part.size();
        if (!take_content(part)) return Verdict::Wrong;
      } else {
        const std::size_t part = std::min(bytes.size(), padding_left_);
        bytes.remove_prefix(part);
        padding_left_ -= part;
      }
      if (header_size_ == kHeaderSize && content_left_ == 0 && padding_left_ == 0) {
        header_size_ = 0;
        if (type_ == kEndRequest) return end(bytes);
      }
    }
    return Verdict::More;
  }

  Verdict decode_end() override {
    return wrong(is_untouched() ? "the connection was closed without a response"
                                : "the connection was closed before END_REQUEST");
  }

  [[nodiscard]] std::size_t number_at(std::size_t index) const {
    const std::string_view header(header_.data(), header_.size());
    return std::size_t{byte_at(header, index)} << 8 | byte_at(header, index + 1);
  }

  bool begin_record() {
    const std::string_view header(header_.data(), header_.size());
    type_ = byte_at(header, 1);
    content_left_ = number_at(4);
    padding_left_ = byte_at(header, 6);
    const char* problem = nullptr;
    if (byte_at(header, 0) != kVersion) {
      problem = "a record of another version of FastCGI";
    } else if (number_at(2) != kRequestId) {
      problem = "a record of another request";
    } else if (type_ == kStdout) {
      if (has_stdout_ended_) problem = "STDOUT goes on behind its end";
      has_stdout_ended_ = content_left_ == 0;
    } else if (type_ == kStderr) {
      if (content_left_ > 0) problem = "something on standard error";
    } else if (type_ == kEndRequest) {
      if (content_left_ != kEndRequestSize) problem = "END_REQUEST of a wrong size";
    } else {
      problem = "a record of an unexpected type";
    }
    if (problem != nullptr) static_cast<void>(wrong(problem));
    return problem == nullptr;
  }

  bool take_content(std::string_view bytes) {
    if (type_ == kEndRequest) {
      std::copy(bytes.begin(), bytes.end(), end_.begin() + static_cast<std::ptrdiff_t>(end_size_));
      end_size_ += bytes.size();
      return true;
    }
    if (!is_head_complete()) {
      bytes.remove_prefix(take_head(bytes));
      if (!is_head_complete()) return true;
      if (!read_head(Protocol::FastCgi)) return false;
    }
    return bytes.empty() || take_body(bytes);
  }

  Verdict end(std::string_view behind) {
    if (std::any_of(end_.begin(), end_.begin() + 5, [](char c) { return c != 0; })) {
      return wrong("END_REQUEST tells of a failure");
    }
    if (!is_head_complete()) return wrong("END_REQUEST before the end of the head");
    if (!is_body_right()) return Verdict::Wrong;
    if (!behind.empty()) return wrong("something behind END_REQUEST");
    return Verdict::Done;
  }

  std::array<char, kHeaderSize> header_{};
  std::size_t header_size_ = 0;
  unsigned type_ = 0;
  std::size_t content_left_ = 0;
  std::size_t padding_left_ = 0;
  bool has_stdout_ended_ = false;
  std::array<char, kEndRequestSize> end_{};
  std::size_t end_size_ = 0;
};

class HttpCheck final : public ResponseCheck {
 private:
  enum class Chunk : std::uint8_t { Size, Data, DataEnd, Trailer };

  void restart() override {
    chunk_ = Chunk::Size;
    chunk_left_ = 0;
    line_.clear();
  }

  Verdict decode(std::string_view bytes) override {
    if (!is_head_complete()) {
      bytes.remove_prefix(take_head(bytes));
      if (!is_head_complete()) return Verdict::More;
      if (!read_head(Protocol::Http)) return Verdict::Wrong;
      if (is_chunked_ && content_length_) return wrong("both chunks and a Content-Length");
      // Its end is that of the connection.
      if (!is_chunked_ && !content_length_) closes_ = true;
    }
    if (is_chunked_) return decode_chunks(bytes);
    if (!bytes.empty() && !take_body(bytes)) return Verdict::Wrong;
    return content_length_ && body_taken_ == *content_length_ ? Verdict::Done : Verdict::More;
  }

  Verdict decode_chunks(std::string_view bytes) {
    while (!bytes.empty()) {
      if (chunk_ == Chunk::Data) {
        const std::string_view part = bytes.substr(0, chunk_left_);
        bytes.remove_prefix(part.size());
        chunk_left_ -= part.size();
        if (!take_body(part)) return Verdict::Wrong;
        if (chunk_left_ == 0) chunk_ = Chunk::DataEnd;
        continue;
      }
      const char c = bytes.front();
      bytes.remove_prefix(1);
      if (c != '\n') {
        line_ += c;
        if (line_.size() > kLongestLine) return wrong("a chunk header without end");
        continue;
      }
      if (!line_.ends_with('\r')) return wrong("a line of the chunked body without CR");
      line_.pop_back();
      const Verdict verdict = take_line(bytes);
      line_.clear();
      if (verdict != Verdict::More) return verdict;
    }
    return Verdict::More;
  }

  Verdict take_line(std::string_view behind) {
    switch (chunk_) {
      case Chunk::Size: {
        const auto size =
            parse<std::uint64_t>(std::string_view(line_).substr(0, line_.find(';')), 16);
        if (!size) return wrong("a chunk size that is no number");
        chunk_left_ = *size;
        chunk_ = *size > 0 ? Chunk::Data : Chunk::Trailer;
        return Verdict::More;
      }
      case Chunk::DataEnd:
        if (!line_.empty()) return wrong("a chunk that is longer than its size");
        chunk_ = Chunk::Size;
        return Verdict::More;
      case Chunk::Data:
      case Chunk::Trailer:
        break;
    }
    if (!line_.empty()) return Verdict::More;
    if (!is_body_right()) return Verdict::Wrong;
    return behind.empty() ? Verdict::Done : wrong("something behind the last chunk");
  }

  Verdict decode_end() override {
    if (is_untouched()) return wrong("the connection was closed without a response");
    if (!is_head_complete()) return wrong("the connection was closed within the head");
    if (is_chunked_ || content_length_) return wrong("the connection was closed within the body");
    return is_body_right() ? Verdict::Done : Verdict::Wrong;
  }

  static constexpr std::size_t kLongestLine = 1024;

  Chunk chunk_ = Chunk::Size;
  std::uint64_t chunk_left_ = 0;
  std::string line_;
};

}  // namespace

std::unique_ptr<ResponseCheck> ResponseCheck::make(Protocol protocol) {
  if (protocol == Protocol::Http) return std::make_unique<HttpCheck>();
  return std::make_unique<FastCgiCheck>();
}

}  // namespace bladepsgi::load
