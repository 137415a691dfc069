#include "http/head.h"

#include <algorithm>

#include "base/text.h"
#include "base/wipe.h"
#include "http/address.h"
#include "http/syntax.h"

namespace bladepsgi::http {

namespace {

constexpr std::size_t kMethodSize = 64;
constexpr std::string_view kVersion = "HTTP/1.1";
constexpr int kEmptyLines = 2;  // in front of a request (RFC 9112 §2.2)
constexpr std::size_t kLargestHead = std::size_t{1} << 30;
// No body is larger, so that sums of sizes stay far from overflow.
constexpr std::uint64_t kLargestBody = std::uint64_t{1} << 62;

// Storage that one huge head has grown beyond this is given back after it.
constexpr std::size_t kKeptBytes = std::size_t{64} * 1024;
constexpr std::size_t kKeptFields = 512;

enum class TargetForm : std::uint8_t { Origin, Absolute, Asterisk, Other };

struct Target {
  TargetForm form = TargetForm::Other;
  std::string_view authority;  // of an absolute form
  std::string_view rest;       // path and query; may be empty or begin with "?" in an absolute form
};

Target take_apart(std::string_view target) {
  if (target.starts_with('/')) return {TargetForm::Origin, {}, target};
  if (target == "*") return {TargetForm::Asterisk, {}, target};
  const std::size_t colon = target.find(':');
  const std::string_view scheme = target.substr(0, colon);
  if (!equals_ignoring_case(scheme, "http") && !equals_ignoring_case(scheme, "https")) return {};
  target.remove_prefix(scheme.size());
  if (!target.starts_with("://")) return {};
  target.remove_prefix(3);
  const std::size_t end = std::min(target.find_first_of("/?"), target.size());
  return {TargetForm::Absolute, target.substr(0, end), target.substr(end)};
}

}  // namespace

struct HeadParser::Framing {
  int lengths = 0;
  int codings = 0;
  int hosts = 0;
  std::string_view length;
  std::string_view coding;
  std::string_view host;
  bool closes = false;
  bool keeps = false;
  bool expects_continue = false;
};

HeadParser::HeadParser(const Limits& limits)
    : head_bytes_(std::min(limits.head_bytes, kLargestHead)),
      target_bytes_(std::min(limits.target_bytes, kLargestHead)),
      field_count_(limits.field_count) {}

void HeadParser::clear() {
  progress_ = Progress::NeedMore;
  is_started_ = has_request_line_ = after_cr_ = false;
  empty_lines_ = 0;
  line_begin_ = 0;
  method_ = target_ = {};
  version_minor_ = 1;
  request_ = {};
  refusal_ = {};
  wipe(text_);
  wipe(uri_);
  if (text_.capacity() > kKeptBytes) std::string().swap(text_);
  if (uri_.capacity() > kKeptBytes) std::string().swap(uri_);
  if (fields_.capacity() > kKeptFields) std::vector<Field>().swap(fields_);
  if (pieces_.capacity() > kKeptFields) std::vector<FieldPieces>().swap(pieces_);
  text_.clear();
  fields_.clear();
  pieces_.clear();
}

void HeadParser::release_memory() {
  clear();
  std::string().swap(text_);
  std::string().swap(uri_);
  std::vector<Field>().swap(fields_);
  std::vector<FieldPieces>().swap(pieces_);
}

void HeadParser::refuse(int status, std::string_view reason) {
  progress_ = Progress::Refused;
  refusal_ = {status, reason};
  publish_request_line();
}

std::size_t HeadParser::limit() const {
  if (has_request_line_) return head_bytes_;
  return std::min(head_bytes_, kMethodSize + 1 + target_bytes_ + 1 + kVersion.size() + 2);
}

void HeadParser::refuse_size() {
  if (limit() == head_bytes_) {
    refuse(431, "the head is too large");
  } else {
    refuse(414, "the request line is too long");
  }
}

HeadParser::Taken HeadParser::take(std::string_view input) {
  std::size_t consumed = is_started_ ? 0 : skip_empty_lines(input);
  // Where the limit cuts depends on the bytes alone, not on how they arrive: at the first byte beyond it.
  while (progress_ == Progress::NeedMore && consumed < input.size()) {
    const std::size_t room = limit() - text_.size();
    if (room == 0) {
      refuse_size();
      break;
    }
    consumed += take_lines(input.substr(consumed, room));
  }
  return {consumed, progress_};
}

std::size_t HeadParser::skip_empty_lines(std::string_view input) {
  std::size_t at = 0;
  for (; at < input.size() && progress_ == Progress::NeedMore; ++at) {
    if (after_cr_) {
      after_cr_ = false;
      if (input[at] != '\n') {
        refuse(400, "CR without LF");
      } else if (++empty_lines_ > kEmptyLines) {
        refuse(400, "too many empty lines before a request");
      }
    } else if (input[at] == '\r') {
      after_cr_ = true;
    } else {
      is_started_ = true;
      break;
    }
  }
  return at;
}

// One line at most, so that the limit of the next is a matter of the caller. All control characters but those of a line's end and
// tabs are found here, as soon as they arrive.
std::size_t HeadParser::take_lines(std::string_view input) {
  std::size_t at = 0;
  if (!after_cr_) {
    at = find_control(input);
    while (at < input.size() && input[at] == '\t')
      at = find_control(input, at + 1);
    if (at < input.size()) {
      if (input[at] != '\r') {
        refuse(400, input[at] == '\n' ? "LF without CR" : "control character in the head");
        return at;
      }
      after_cr_ = true;
      ++at;
    }
  }
  if (at < input.size()) {
    after_cr_ = false;
    if (input[at] != '\n') {
      refuse(400, "CR without LF");
      return at;
    }
    grow(text_, at + 1);
    text_.append(input.substr(0, ++at));
    end_line();
    return at;
  }
  grow(text_, input.size());
  text_.append(input);
  return at;
}

void HeadParser::end_line() {
  const std::string_view line =
      std::string_view(text_).substr(line_begin_, text_.size() - line_begin_ - 2);
  if (!has_request_line_) {
    take_request_line(line);
  } else if (line.empty()) {
    complete();
  } else {
    take_field_line(line);
  }
  line_begin_ = text_.size();
}

void HeadParser::take_request_line(std::string_view line) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return refuse(400, "the request line has not three parts");
  }
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(method)) return refuse(400, "the method is not a token");
  if (target.empty() || target.find_first_of(" \t") != std::string_view::npos) {
    return refuse(400, "the request line has not three parts");
  }
  if (version.size() != kVersion.size() || !version.starts_with("HTTP/") || !is_digit(version[5]) ||
      version[6] != '.' || !is_digit(version[7])) {
    return refuse(400, "the version is malformed");
  }
  if (version[5] == '0') return refuse(400, "HTTP/0 has no such request");
  if (version[5] > '1') return refuse(505, "an unknown major version of HTTP");
  if (method.size() > kMethodSize) return refuse(501, "the method is too long");
  if (target.size() > target_bytes_) return refuse(414, "the target is too long");

  has_request_line_ = true;
  method_ = piece_of(method);
  target_ = piece_of(target);
  version_minor_ = version[7] == '0' ? 0 : 1;
  if (method == "CONNECT") return refuse(501, "CONNECT is not for this server");
  // Nobody sends a fragment, and two servers would disagree whether it belongs to the path.
  if (target.find('#') != std::string_view::npos) return refuse(400, "the target has a fragment");
  const Target parts = take_apart(target);
  switch (parts.form) {
    case TargetForm::Origin:
      break;
    case TargetForm::Absolute:
      if (!parse_authority(parts.authority)) refuse(400, "the target has a malformed authority");
      break;
    case TargetForm::Asterisk:
      if (method != "OPTIONS") refuse(400, "the target * is for OPTIONS only");
      break;
    case TargetForm::Other:
      refuse(400, "the target is in no form for this method");
      break;
  }
}

void HeadParser::take_field_line(std::string_view line) {
  if (is_blank(line.front())) return refuse(400, "a folded header line");
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return refuse(400, "a header line without colon");
  if (!is_token(line.substr(0, colon))) return refuse(400, "a header name is not a token");
  if (pieces_.size() == field_count_) return refuse(431, "too many header lines");
  pieces_.push_back({piece_of(line.substr(0, colon)), piece_of(trim(line.substr(colon + 1)))});
}

void HeadParser::publish_request_line() {
  request_ = {};
  if (!has_request_line_) return;
  request_.method = view(method_);
  request_.target = view(target_);
  request_.version_minor = version_minor_;
}

void HeadParser::complete() {
  publish_request_line();
  Framing framing;
  for (const FieldPieces& pieces : pieces_) {
    fields_.push_back({view(pieces.name), view(pieces.value)});
    if (!gather(framing, fields_.back())) return;
  }
  if (!decide_body(framing)) return;

  const Target parts = take_apart(request_.target);
  if (!decide_host(framing, parts.authority)) return;
  request_.uri = parts.rest;
  if (parts.form == TargetForm::Absolute && !parts.rest.starts_with('/')) {
    // RFC 9112 §3.2.4: OPTIONS for a server as a whole.
    const bool is_for_all = parts.rest.empty() && request_.method == "OPTIONS";
    uri_.assign(1, is_for_all ? '*' : '/');
    uri_ += parts.rest;
    request_.uri = uri_;
  }
  request_.fields = fields_;
  request_.keeps_connection = !framing.closes && (version_minor_ == 1 || framing.keeps);
  request_.expects_continue = framing.expects_continue && request_.has_body();
  progress_ = Progress::Complete;
}

bool HeadParser::gather(Framing& framing, const Field& field) {
  const auto is = [&](std::string_view name) {
    return equals_ignoring_case(field.name, name);
  };
  switch (field.name.size()) {
    case 4:
      if (!is("Host")) break;
      ++framing.hosts;
      framing.host = field.value;
      break;
    case 6:
      // A client of HTTP/1.0 cannot mean it (RFC 9110 §10.1.1).
      if (version_minor_ == 0 || !is("Expect")) break;
      if (!equals_ignoring_case(field.value, "100-continue")) {
        refuse(417, "an unknown expectation");
        return false;
      }
      framing.expects_continue = true;
      break;
    case 10:
      if (!is("Connection")) break;
      for_each_item(field.value, [&](std::string_view item) {
        if (equals_ignoring_case(item, "close")) framing.closes = true;
        if (equals_ignoring_case(item, "keep-alive")) framing.keeps = true;
      });
      break;
    case 14:
      if (!is("Content-Length")) break;
      ++framing.lengths;
      framing.length = field.value;
      break;
    case 17:
      if (!is("Transfer-Encoding")) break;
      ++framing.codings;
      framing.coding = field.value;
      break;
    default:
      break;
  }
  return true;
}

// RFC 9112 §6.3, but what it lets a server repair is refused.
bool HeadParser::decide_body(const Framing& framing) {
  const auto no = [this](int status, std::string_view reason) {
    refuse(status, reason);
    return false;
  };
  if (framing.codings > 0) {
    if (framing.lengths > 0) return no(400, "Transfer-Encoding and Content-Length");
    if (framing.codings > 1) return no(400, "more than one Transfer-Encoding");
    if (version_minor_ == 0) return no(400, "Transfer-Encoding in HTTP/1.0");
    if (!equals_ignoring_case(framing.coding, "chunked")) {
      if (!is_token(framing.coding)) return no(400, "a malformed Transfer-Encoding");
      return no(501, "an unknown Transfer-Encoding");
    }
    request_.is_chunked = true;
  }
  if (framing.lengths > 0) {
    if (framing.lengths > 1) return no(400, "more than one Content-Length");
    const auto length = parse_decimal(framing.length);
    if (!length) return no(400, "a malformed Content-Length");
    if (*length > kLargestBody) return no(400, "an impossible Content-Length");
    request_.content_length = length;
  }
  return true;
}

bool HeadParser::decide_host(const Framing& framing, std::string_view target_authority) {
  const auto no = [this](std::string_view reason) {
    refuse(400, reason);
    return false;
  };
  if (framing.hosts > 1) return no("more than one Host");
  if (framing.hosts == 0 && version_minor_ == 1) return no("no Host");
  if (!framing.host.empty() && !parse_authority(framing.host)) return no("a malformed Host");
  request_.host = framing.host;
  if (target_authority.empty()) return true;
  request_.host = target_authority;
  if (framing.hosts == 0) fields_.push_back({"Host", target_authority});
  for (Field& field : fields_) {
    if (equals_ignoring_case(field.name, "Host")) field.value = target_authority;
  }
  return true;
}

}  // namespace bladepsgi::http
