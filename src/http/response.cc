#include "http/response.h"

#include <algorithm>
#include <charconv>
#include <chrono>

#include "base/status.h"
#include "base/text.h"
#include "http/syntax.h"

namespace bladepsgi::http {

namespace {

enum class Role : std::uint8_t { Ordinary, Dropped, Length, Coding, Connection, Date };

// Of a field that an application sends.
Role role_of(std::string_view name) {
  const auto is = [name](std::string_view other) {
    return equals_ignoring_case(name, other);
  };
  switch (name.size()) {
    case 2:
      if (is("TE")) return Role::Dropped;
      break;
    case 4:
      if (is("Date")) return Role::Date;
      break;
    case 6:
      if (is("Status")) return Role::Dropped;  // of CGI, not of HTTP
      break;
    case 7:
      if (is("Upgrade") || is("Trailer")) return Role::Dropped;
      break;
    case 10:
      if (is("Connection")) return Role::Connection;
      if (is("Keep-Alive")) return Role::Dropped;
      break;
    case 14:
      if (is("Content-Length")) return Role::Length;
      break;
    case 16:
      if (is("Proxy-Connection")) return Role::Dropped;
      break;
    case 17:
      if (is("Transfer-Encoding")) return Role::Coding;
      break;
    default:
      break;
  }
  return Role::Ordinary;
}

bool is_sendable(std::string_view name, std::string_view value) {
  return is_token(name) &&
         value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  out += value;
  out += "\r\n";
}

void append_number(std::string& out, std::uint64_t number) {
  std::array<char, 20> digits{};
  out.append(digits.data(),
             std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr);
}

void append_status_line(std::string& out, int status, std::string_view reason) {
  // Ours is the version of the server, not of the answer (RFC 9110 §6.2).
  out += "HTTP/1.1 ";
  append_number(out, static_cast<std::uint64_t>(status));
  out += ' ';
  out += reason;
  out += "\r\n";
}

void write_digits(char* at, int width, unsigned number) {
  for (char* digit = at + width; digit != at; number /= 10)
    *--digit = static_cast<char>('0' + number % 10);
}

}  // namespace

void ResponseHead::start(std::string& out, int status, std::string_view reason) {
  *this = {};
  status_ = status;
  const bool is_usable = !reason.empty() && find_control(reason) == reason.size();
  append_status_line(out, status, is_usable ? reason : reason_phrase(status));
}

void ResponseHead::add(std::string& out, std::string_view name, std::string_view value) {
  if (!is_sendable(name, value)) return;
  switch (role_of(name)) {
    case Role::Dropped:
      // The one response in which it is more than an offer.
      if (is_switching() && equals_ignoring_case(name, "Upgrade")) break;
      return;
    case Role::Length:
      ++lengths_;
      length_ = parse_decimal(trim(value));
      return;
    case Role::Coding:
      if (equals_ignoring_case(trim(value), "chunked")) is_chunked_ = true;
      return;
    case Role::Connection:
      for_each_item(value, [this](std::string_view item) {
        if (equals_ignoring_case(item, "close")) closes_ = true;
      });
      return;
    case Role::Date:
      has_date_ = true;
      break;
    case Role::Ordinary:
      break;
  }
  append_field(out, name, value);
}

std::optional<std::uint64_t> ResponseHead::announced_length() const {
  if (is_chunked_ || lengths_ != 1 || is_switching()) return std::nullopt;
  return length_;
}

Framing ResponseHead::decide(const ResponseContext& context) const {
  const bool keeps = context.keeps_connection && !closes_;
  if (is_switching() && context.version_minor > 0) return {Framing::Kind::UntilClose, 0, false};
  // After another 1xx status the peer waits for another one, which will not come.
  if (status_ < 200) return {Framing::Kind::None, 0, false};
  if (context.is_head_request || !status_allows_body(status_)) {
    return {Framing::Kind::None, 0, keeps};
  }
  if (is_chunked_) return {Framing::Kind::UntilClose, 0, false};
  if (lengths_ == 1 && length_) return {Framing::Kind::Length, *length_, keeps};
  if (context.known_length) return {Framing::Kind::Length, *context.known_length, keeps};
  if (context.version_minor > 0) return {Framing::Kind::Chunked, 0, keeps};
  return {Framing::Kind::UntilClose, 0, false};
}

Framing ResponseHead::finish(std::string& out, const ResponseContext& context) {
  const Framing framing = decide(context);
  switch (framing.kind) {
    case Framing::Kind::None:
      // To HEAD and with 304 it tells the length that the body would have (RFC 9110 §8.6).
      if (status_ >= 200 && status_ != 204 && lengths_ == 1 && length_ && !is_chunked_) {
        out += "Content-Length: ";
        append_number(out, *length_);
        out += "\r\n";
      }
      break;
    case Framing::Kind::Length:
      out += "Content-Length: ";
      append_number(out, framing.length);
      out += "\r\n";
      break;
    case Framing::Kind::Chunked:
      out += "Transfer-Encoding: chunked\r\n";
      break;
    case Framing::Kind::UntilClose:
      // The application has made chunks of its body already.
      if (is_chunked_ && !is_switching()) out += "Transfer-Encoding: chunked\r\n";
      break;
  }
  if (!has_date_ && !context.date.empty()) append_field(out, "Date", context.date);
  if (is_switching() && framing.kind == Framing::Kind::UntilClose) {
    out += "Connection: Upgrade\r\n";
  } else if (!framing.keeps_connection) {
    out += "Connection: close\r\n";
  } else if (context.version_minor == 0) {
    out += "Connection: keep-alive\r\n";
  }
  out += "\r\n";
  return framing;
}

Framing append_response_head(std::string& out,
                             int status,
                             std::span<const Field> fields,
                             const ResponseContext& context) {
  ResponseHead head;
  head.start(out, status);
  for (const Field& field : fields)
    head.add(out, field.name, field.value);
  return head.finish(out, context);
}

void append_informational(std::string& out, int status, std::span<const Field> fields) {
  append_status_line(out, status, reason_phrase(status));
  for (const Field& field : fields) {
    if (is_sendable(field.name, field.value) && role_of(field.name) == Role::Ordinary) {
      append_field(out, field.name, field.value);
    }
  }
  out += "\r\n";
}

std::string_view encode_chunk_header(std::span<char, kChunkHeaderSize> into, std::uint64_t size) {
  char* const end = std::to_chars(into.data(), into.data() + 16, size, 16).ptr;
  std::copy(kChunkEnd.begin(), kChunkEnd.end(), end);
  return {into.data(), static_cast<std::size_t>(end - into.data()) + kChunkEnd.size()};
}

std::string_view format_date(std::span<char, kDateSize> into, std::int64_t unix_seconds) {
  constexpr std::int64_t kFirst = -62167219200;  // 0000-01-01
  constexpr std::int64_t kLast = 253402300799;   // 9999-12-31 23:59:59
  constexpr std::string_view kDays = "SunMonTueWedThuFriSat";
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  using std::chrono::days;
  using std::chrono::seconds;
  const std::chrono::sys_seconds time{seconds(std::clamp(unix_seconds, kFirst, kLast))};
  const std::chrono::sys_days day = std::chrono::floor<days>(time);
  const std::chrono::year_month_day date{day};
  const auto second = static_cast<unsigned>((time - day).count());
  const unsigned weekday = std::chrono::weekday{day}.c_encoding();
  const auto month = static_cast<unsigned>(date.month());

  constexpr std::string_view kForm = "Www, 00 Mmm 0000 00:00:00 GMT";
  static_assert(kForm.size() == kDateSize);
  char* const at = std::copy(kForm.begin(), kForm.end(), into.data()) - kDateSize;
  std::copy_n(kDays.data() + std::size_t{3} * weekday, 3, at);
  write_digits(at + 5, 2, static_cast<unsigned>(date.day()));
  std::copy_n(kMonths.data() + std::size_t{3} * (month - 1), 3, at + 8);
  write_digits(at + 12, 4, static_cast<unsigned>(static_cast<int>(date.year())));
  write_digits(at + 17, 2, second / 3600);
  write_digits(at + 20, 2, second / 60 % 60);
  write_digits(at + 23, 2, second % 60);
  return {into.data(), kDateSize};
}

}  // namespace bladepsgi::http
