#include "load/request.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "load/body_rule.h"

namespace bladepsgi::load {

namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

constexpr std::string_view kHost = "www.example.org";
constexpr std::string_view kClient = "192.0.2.17";

// A body up to this size is sent as one piece with its head.
constexpr std::uint64_t kSmallBody = std::uint64_t{64} * 1024;

// Whole periods of the pattern, so that every full STDIN record has the same bytes; nginx sends at most 32 KiB in one.
constexpr std::size_t kStdinContent = kPatternPeriod * 130;
constexpr std::size_t kBlockPieces = 32;

// As a session of a framework and what analytics leave behind would look.
std::string cookie() {
  std::string text = "session=5f2c0a7be41d4b0c9d5e6f7a8b9c0d1e; theme=dark; consent=1; visited=";
  for (int i = 0; text.size() < 1024; ++i)
    text += std::to_string(i * 7919 % 10007) + ".";
  text.resize(1024);
  return text;
}

Pairs header_fields(bool keep) {
  return {
      {"Host", std::string(kHost)},
      {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
      {"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
      {"Accept-Language", "en-US,en;q=0.5"},
      {"Accept-Encoding", "gzip, deflate, br"},
      {"Referer", "https://www.example.org/app/list?page=1&sort=name"},
      {"Cookie", cookie()},
      {"Connection", keep ? "keep-alive" : "close"},
      {"Upgrade-Insecure-Requests", "1"},
      {"Sec-Fetch-Dest", "document"},
      {"Sec-Fetch-Mode", "navigate"},
      {"Sec-Fetch-Site", "same-origin"},
      {"Sec-Fetch-User", "?1"},
      {"Cache-Control", "max-age=0"},
      {"X-Forwarded-For", std::string(kClient)},
  };
}

std::string cgi_name(std::string_view field) {
  std::string name = "HTTP_";
  for (const char c : field) {
    if (c == '-') {
      name += '_';
    } else {
      name += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    }
  }
  return name;
}

// With 15 header fields these are 35.
Pairs parameters(const RequestSpec& spec) {
  const std::size_t mark = spec.uri.find('?');
  const std::string path = spec.uri.substr(0, mark);
  Pairs all = {
      {"QUERY_STRING", mark == std::string::npos ? "" : spec.uri.substr(mark + 1)},
      {"REQUEST_METHOD", spec.method},
      {"CONTENT_TYPE", spec.has_body ? "application/octet-stream" : ""},
      {"CONTENT_LENGTH", spec.has_body ? std::to_string(spec.body_size) : ""},
      {"SCRIPT_NAME", ""},
      {"PATH_INFO", path},
      {"REQUEST_URI", spec.uri},
      {"DOCUMENT_ROOT", "/usr/share/nginx/html"},
      {"SERVER_PROTOCOL", "HTTP/1.1"},
      {"REQUEST_SCHEME", "https"},
      {"HTTPS", "on"},
      {"GATEWAY_INTERFACE", "CGI/1.1"},
      {"SERVER_SOFTWARE", "nginx/1.22.1"},
      {"REMOTE_ADDR", std::string(kClient)},
      {"REMOTE_PORT", "51234"},
      {"REMOTE_USER", ""},
      {"SERVER_ADDR", "198.51.100.4"},
      {"SERVER_PORT", "443"},
      {"SERVER_NAME", std::string(kHost)},
      {"REDIRECT_STATUS", "200"},
  };
  for (auto& [name, value] : header_fields(true))
    all.emplace_back(cgi_name(name), std::move(value));
  return all;
}

char byte(std::size_t value) {
  return static_cast<char>(value & 0xff);
}

void append_length(std::string& out, std::size_t length) {
  if (length >= 128) {
    out += byte(length >> 24 | 0x80);
    out += byte(length >> 16);
    out += byte(length >> 8);
  }
  out += byte(length);
}

// Padded to a multiple of 8, as nginx does.
void append_record(std::string& out, int type, std::string_view content) {
  const std::size_t padding = (8 - content.size() % 8) % 8;
  out += {1, byte(static_cast<std::size_t>(type)), 0, 1};
  out += {byte(content.size() >> 8), byte(content.size()), byte(padding), 0};
  out += content;
  out.append(padding, '\0');
}

constexpr int kBeginRequest = 1;
constexpr int kParams = 4;
constexpr int kStdin = 5;

iovec as_vector(std::string_view bytes) {
  return {.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
}

}  // namespace

std::string with_number(std::string_view text, unsigned number) {
  std::string out;
  for (std::size_t at = text.find("%n"); at != std::string_view::npos; at = text.find("%n")) {
    out += text.substr(0, at);
    out += std::to_string(number);
    text.remove_prefix(at + 2);
  }
  out += text;
  return out;
}

Request::Request(const RequestSpec& spec) {
  if (spec.protocol == Protocol::FastCgi) {
    append_fcgi(spec);
  } else {
    append_http(spec);
  }
  size_ = first_.size() + repeated_size_ + last_.size();
}

void Request::append_fcgi(const RequestSpec& spec) {
  append_record(first_, kBeginRequest,
                std::string{0, 1, static_cast<char>(spec.keep ? 1 : 0), 0, 0, 0, 0, 0});
  std::string pairs;
  for (const auto& [name, value] : parameters(spec)) {
    append_length(pairs, name.size());
    append_length(pairs, value.size());
    pairs += name;
    pairs += value;
  }
  append_record(first_, kParams, pairs);
  append_record(first_, kParams, {});
  head_size_ = first_.size();

  std::string full;
  append_record(full, kStdin, pattern(kStdinContent));
  const std::uint64_t records = spec.body_size / kStdinContent;
  const bool is_small = spec.body_size <= kSmallBody;
  if (is_small) {
    for (std::uint64_t i = 0; i < records; ++i)
      first_ += full;
  } else {
    for (std::size_t i = 0; i < kBlockPieces; ++i)
      block_ += full;
    repeated_size_ = records * full.size();
  }
  std::string& end = is_small ? first_ : last_;
  if (const std::uint64_t rest = spec.body_size % kStdinContent; rest > 0) {
    append_record(end, kStdin, pattern(rest));
  }
  append_record(end, kStdin, {});
}

void Request::append_http(const RequestSpec& spec) {
  first_ = spec.method + " " + spec.uri + " HTTP/1.1\r\n";
  for (const auto& [name, value] : header_fields(spec.keep)) {
    first_ += name;
    first_ += ": ";
    first_ += value;
    first_ += "\r\n";
  }
  if (spec.has_body) {
    first_ += "Content-Type: application/octet-stream\r\nContent-Length: " +
              std::to_string(spec.body_size) + "\r\n";
  }
  first_ += "\r\n";
  head_size_ = first_.size();
  if (spec.body_size <= kSmallBody) {
    first_ += pattern(spec.body_size);
  } else {
    block_ = pattern(kStdinContent * kBlockPieces);
    repeated_size_ = spec.body_size;
  }
}

std::size_t Request::vectors(std::uint64_t offset, std::span<iovec> into) const {
  std::size_t count = 0;
  const auto add = [&](std::string_view bytes) {
    if (!bytes.empty() && count < into.size()) into[count++] = as_vector(bytes);
  };
  if (offset < first_.size()) {
    add(std::string_view(first_).substr(offset));
    offset = first_.size();
  }
  offset -= first_.size();
  while (offset < repeated_size_ && count < into.size()) {
    const std::string_view part =
        std::string_view(block_).substr(offset % block_.size(), repeated_size_ - offset);
    add(part);
    offset += part.size();
  }
  if (offset >= repeated_size_) add(std::string_view(last_).substr(offset - repeated_size_));
  return count;
}

}  // namespace bladepsgi::load
