#include "worker/access_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "base/text.h"

namespace bladepsgi::worker {

namespace {

constexpr std::string_view kCommon = R"(%h %l %u %t "%r" %>s %b)";
constexpr std::string_view kCombined = R"(%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i")";

std::string_view find(std::span<const Parameter> parameters, std::string_view name) {
  const auto found = std::find_if(parameters.begin(), parameters.end(),
                                  [name](const Parameter& one) { return one.name == name; });
  return found == parameters.end() ? std::string_view() : found->value;
}

// Empties it, and keeps the storage unless that is large.
void give_back(std::string& text) {
  constexpr std::size_t kKept = 4096;
  text.clear();
  if (text.capacity() > kKept) text.shrink_to_fit();
}

// "User-Agent" → "HTTP_USER_AGENT"; the two that have no HTTP_ in front of them too.
std::string meta_variable(std::string_view header) {
  std::string name;
  for (const char c : header) {
    if (c == '-') {
      name += '_';
    } else {
      name += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    }
  }
  return name == "CONTENT_TYPE" || name == "CONTENT_LENGTH" ? name : "HTTP_" + name;
}

}  // namespace

void AccessLog::add_text(std::string_view text) {
  if (items_.empty() || items_.back().kind != Kind::Text) add(Kind::Text);
  items_.back().text += text;
}

Result<AccessLog> AccessLog::compile(std::string_view format) {
  AccessLog log;
  if (format == "json") {
    log.is_json_ = true;
    const auto field = [&log](std::string_view name, Kind kind, std::string_view parameter) {
      const bool is_first = log.items_.empty();
      log.add_text(fmt::format("{}\"{}\":", is_first ? "{" : ",", name));
      log.add(kind, parameter);
    };
    field("time", Kind::IsoTime, "");
    field("remote_addr", Kind::Parameter, "REMOTE_ADDR");
    field("remote_user", Kind::Parameter, "REMOTE_USER");
    field("method", Kind::Parameter, "REQUEST_METHOD");
    field("host", Kind::Parameter, "HTTP_HOST");
    field("uri", Kind::Parameter, "REQUEST_URI");
    field("protocol", Kind::Parameter, "SERVER_PROTOCOL");
    field("status", Kind::Status, "");
    field("bytes", Kind::Bytes, "");
    field("seconds", Kind::FractionalSeconds, "");
    field("referer", Kind::Parameter, "HTTP_REFERER");
    field("user_agent", Kind::Parameter, "HTTP_USER_AGENT");
    field("request_id", Kind::RequestId, "");
    field("pid", Kind::Pid, "");
    log.add_text("}");
    return log;
  }
  if (format == "common") format = kCommon;
  if (format == "combined" || format.empty()) format = kCombined;
  if (format.find('%') == std::string_view::npos) {
    return fail(Remedy::Refuse, "'" + printable(format, 40) +
                                    "' is not combined, common or json, and has no %-conversion");
  }

  while (!format.empty()) {
    const std::size_t percent = std::min(format.find('%'), format.size());
    if (percent > 0) log.add_text(format.substr(0, percent));
    format.remove_prefix(percent);
    if (format.empty()) break;
    format.remove_prefix(1);
    const std::string_view rest = format;
    if (format.starts_with('>')) format.remove_prefix(1);
    std::string_view name;
    if (format.starts_with('{')) {
      const std::size_t end = format.find('}');
      if (end != std::string_view::npos) {
        name = format.substr(1, end - 1);
        format.remove_prefix(end + 1);
      }
    }
    const char conversion = format.empty() ? '\0' : format.front();
    if (!format.empty()) format.remove_prefix(1);
    if (!name.empty() != (conversion == 'i'))
      return fail(Remedy::Refuse, "unknown conversion '%" + printable(rest, 40) + "'");
    switch (conversion) {
      case '%':
        log.add_text("%");
        break;
      case 'h':
      case 'a':
        log.add(Kind::Parameter, "REMOTE_ADDR");
        break;
      case 'l':
        log.add_text("-");
        break;
      case 'u':
        log.add(Kind::Parameter, "REMOTE_USER");
        break;
      case 't':
        log.add_text("[");
        log.add(Kind::Time);
        log.add_text("]");
        break;
      case 'r':
        log.add(Kind::RequestLine);
        break;
      case 'm':
        log.add(Kind::Parameter, "REQUEST_METHOD");
        break;
      case 'U':
        log.add(Kind::Path);
        break;
      case 'q':
        log.add(Kind::Query);
        break;
      case 'H':
        log.add(Kind::Parameter, "SERVER_PROTOCOL");
        break;
      case 'v':
      case 'V':
        log.add(Kind::Parameter, "SERVER_NAME");
        break;
      case 'p':
        log.add(Kind::Parameter, "SERVER_PORT");
        break;
      case 's':
        log.add(Kind::Status);
        break;
      case 'b':
        log.add(Kind::BytesOrDash);
        break;
      case 'B':
        log.add(Kind::Bytes);
        break;
      case 'D':
        log.add(Kind::Microseconds);
        break;
      case 'T':
        log.add(Kind::Seconds);
        break;
      case 'P':
        log.add(Kind::Pid);
        break;
      case 'L':
        log.add(Kind::RequestId);
        break;
      case 'i':
        log.add(Kind::Parameter, meta_variable(name));
        break;
      default:
        return fail(Remedy::Refuse, "unknown conversion '%" + printable(rest, 40) + "'");
    }
  }
  return log;
}

// A value of the peer's: quotes and what could deceive a reader are escaped.
void AccessLog::write(std::string& line, std::string_view value) const {
  if (value.empty()) {
    line += is_json_ ? "null" : "-";
    return;
  }
  constexpr std::size_t kMostShown = 8192;
  constexpr std::string_view kHex = "0123456789abcdef";
  if (is_json_) line += '"';
  for (const char c : value.substr(0, kMostShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      line += '\\';
      line += c;
    } else if (byte < 0x20 || byte >= 0x7f) {
      // What is not ASCII need not be UTF-8, and may mean something to a terminal. In JSON it is the character of that number.
      line += is_json_ ? "\\u00" : "\\x";
      line += kHex[byte >> 4];
      line += kHex[byte & 15];
    } else {
      line += c;
    }
  }
  if (value.size() > kMostShown) line += "...";
  if (is_json_) line += '"';
}

// "22/Nov/2026:10:15:02 +0100", whatever the locale.
void AccessLog::write_time(std::string& line, os::WallClock time) {
  static constexpr std::array<std::string_view, 12> kMonths{
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t second =
      std::chrono::system_clock::to_time_t(std::chrono::floor<std::chrono::seconds>(time));
  if (second != stamped_second_) {
    stamped_second_ = second;
    std::tm local{};
    ::localtime_r(&second, &local);
    const long minutes = local.tm_gmtoff / 60;  // NOLINT(google-runtime-int): its type
    stamp_ = fmt::format("{:02}/{}/{:04}:{:02}:{:02}:{:02} {}{:02}{:02}", local.tm_mday,
                         kMonths[static_cast<std::size_t>(local.tm_mon) % kMonths.size()],
                         local.tm_year + 1900, local.tm_hour, local.tm_min, local.tm_sec,
                         minutes < 0 ? '-' : '+', std::abs(minutes) / 60, std::abs(minutes) % 60);
  }
  line += stamp_;
}

void AccessLog::begin(std::span<const Parameter> parameters,
                      std::string_view request_id,
                      os::WallClock started) {
  values_.resize(items_.size());
  const std::string_view uri = find(parameters, "REQUEST_URI");
  for (std::size_t i = 0; i < items_.size(); ++i) {
    std::string& value = values_[i];
    give_back(value);
    switch (items_[i].kind) {
      case Kind::Parameter:
        write(value, find(parameters, items_[i].text));
        break;
      case Kind::Time:
        write_time(value, started);
        break;
      case Kind::IsoTime: {
        const auto now = std::chrono::floor<std::chrono::milliseconds>(started);
        const auto whole = std::chrono::floor<std::chrono::seconds>(now);
        const std::time_t second = std::chrono::system_clock::to_time_t(whole);
        std::tm utc{};
        ::gmtime_r(&second, &utc);
        value = fmt::format("\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z\"", utc.tm_year + 1900,
                            utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                            (now - whole).count());
        break;
      }
      case Kind::RequestLine: {
        const std::string_view method = find(parameters, "REQUEST_METHOD");
        if (method.empty()) {
          value = "-";  // refused before it was one
          break;
        }
        write(value, method);
        value += ' ';
        write(value, uri);
        value += ' ';
        write(value, find(parameters, "SERVER_PROTOCOL"));
        break;
      }
      case Kind::Path:
        write(value, uri.substr(0, uri.find('?')));
        break;
      case Kind::Query:
        if (const std::size_t at = uri.find('?'); at != std::string_view::npos)
          write(value, uri.substr(at));
        break;
      case Kind::Pid:
        value = fmt::format("{}", ::getpid());
        break;
      case Kind::RequestId:
        write(value, request_id);
        break;
      default:
        break;
    }
  }
}

std::string_view AccessLog::finish(const Outcome& outcome) {
  give_back(line_);
  const auto append = [this](auto number) {
    fmt::format_to(std::back_inserter(line_), "{}", number);
  };
  for (std::size_t i = 0; i < items_.size(); ++i) {
    switch (items_[i].kind) {
      case Kind::Text:
        line_ += items_[i].text;
        break;
      case Kind::Status:
        append(outcome.status);
        break;
      case Kind::BytesOrDash:
        if (outcome.bytes == 0) {
          line_ += '-';
          break;
        }
        append(outcome.bytes);
        break;
      case Kind::Bytes:
        append(outcome.bytes);
        break;
      case Kind::Microseconds:
        append(outcome.took.count());
        break;
      case Kind::Seconds:
        append(std::chrono::duration_cast<std::chrono::seconds>(outcome.took).count());
        break;
      case Kind::FractionalSeconds:
        fmt::format_to(std::back_inserter(line_), "{:.6f}",
                       std::chrono::duration<double>(outcome.took).count());
        break;
      default:
        line_ += values_[i];
        break;
    }
  }
  return line_;
}

}  // namespace bladepsgi::worker
