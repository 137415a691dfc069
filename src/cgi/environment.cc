#include "cgi/environment.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "base/wipe.h"

namespace bladepsgi::cgi {

namespace {

constexpr std::size_t kSmallestTable = 128;  // slots; enough for what web servers send
constexpr std::size_t kKeptNames = 512;  // storage beyond these is given back after a huge request
constexpr std::size_t kKeptScratch = std::size_t{64} * 1024;
constexpr std::size_t kRememberedNames = 256;
constexpr std::size_t kRememberedBytes = std::size_t{8} * 1024;

// Fast for short names, and unpredictable to someone who does not know the seed.
std::uint64_t mix(std::uint64_t left, std::uint64_t right) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(left) * right;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t load_word(const char* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// memcmp for names, most of which are too short to be worth a call.
bool is_same(const char* left, const char* right, std::size_t size) {
  constexpr std::size_t kWord = 8;
  if (size < kWord || size > 4 * kWord) return std::memcmp(left, right, size) == 0;
  std::uint64_t difference = load_word(left + size - kWord) ^ load_word(right + size - kWord);
  for (std::size_t at = 0; at + kWord < size; at += kWord)
    difference |= load_word(left + at) ^ load_word(right + at);
  return difference == 0;
}

std::uint32_t hash_name(std::string_view name, std::uint64_t seed) {
  constexpr std::uint64_t kOdd = 0xa0761d6478bd642f;
  std::uint64_t hash = mix(seed ^ name.size(), kOdd);
  const char* at = name.data();
  std::size_t left = name.size();
  for (; left > 8; left -= 8, at += 8)
    hash = mix(hash ^ load_word(at), seed | 1);
  std::uint64_t tail = 0;
  if (left == 8) {
    tail = load_word(at);
  } else if (name.size() > 8) {
    tail = load_word(name.data() + name.size() - 8);  // overlaps what has been read already
  } else if (left > 0) {
    std::memcpy(&tail, at, left);
  }
  hash = mix(hash ^ tail, kOdd);
  return static_cast<std::uint32_t>(hash ^ (hash >> 32));
}

bool is_reserved(std::string_view name) {
  return name.starts_with("psgi") && (name.starts_with("psgi.") || name.starts_with("psgix."));
}

// "/a/" → "/a", "/" → "". What does not begin with a slash cannot be in front of a path: "".
std::string_view as_prefix(std::string_view script_name) {
  if (!script_name.starts_with('/')) return {};
  while (script_name.ends_with('/'))
    script_name.remove_suffix(1);
  return script_name;
}

// "." or ".." between slashes.
bool has_dot_segment(std::string_view path) {
  for (std::size_t at = path.find("/."); at != std::string_view::npos;
       at = path.find("/.", at + 1)) {
    std::string_view rest = path.substr(at + 2);
    if (rest.starts_with('.')) rest.remove_prefix(1);
    if (rest.empty() || rest.front() == '/') return true;
  }
  return false;
}

bool is_below(std::string_view path, std::string_view prefix) {
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

struct HostAndPort {
  std::string_view host;
  std::string_view port;
};

HostAndPort split_host(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  const std::size_t bracket = host.rfind(']');  // of an IPv6 address
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && bracket > colon)) {
    return {host, {}};
  }
  return {host.substr(0, colon), host.substr(colon + 1)};
}

// Both write the whole path into SCRIPT_NAME, as they know of no place where the application begins.
bool puts_path_into_script_name(std::string_view server_software) {
  return server_software.starts_with("nginx") || server_software.starts_with("HAProxy");
}

}  // namespace

std::string_view describe(EnvironmentError error) {
  switch (error) {
    case EnvironmentError::NoRequestMethod:
      return "no REQUEST_METHOD";
    case EnvironmentError::BadContentLength:
      return "CONTENT_LENGTH is not a number";
  }
  return "unknown error";
}

std::string_view path_of_uri(std::string_view uri) {
  if (!uri.starts_with('/')) {
    const std::size_t scheme_end = uri.find("://");
    if (scheme_end == std::string_view::npos || scheme_end == 0 || !is_letter(uri[0]) ||
        uri.substr(0, scheme_end).find_first_of("/?") != std::string_view::npos) {
      return {};
    }
    const std::size_t path = uri.find_first_of("/?", scheme_end + 3);
    if (path == std::string_view::npos || uri[path] == '?') return "/";
    uri.remove_prefix(path);
  }
  return uri.substr(0, uri.find('?'));
}

Environment::Environment(EnvironmentOptions options)
    : options_(std::move(options)), mount_(as_prefix(options_.mount.value_or(""))) {}

Environment::Known Environment::classify(std::string_view name) {
  switch (name.size()) {
    case 5:
      if (name == "HTTPS") return Known::Https;
      break;
    case 9:
      if (name == "AUTH_TYPE") return Known::AuthType;
      if (name == "HTTP_HOST") return Known::Host;
      if (name == "PATH_INFO") return Known::PathInfo;
      break;
    case 10:
      if (name == "HTTP_PROXY") return Known::Withheld;
      break;
    case 11:
      if (name == "REQUEST_URI") return Known::RequestUri;
      if (name == "SCRIPT_NAME") return Known::ScriptName;
      if (name == "SERVER_NAME") return Known::ServerName;
      if (name == "SERVER_PORT") return Known::ServerPort;
      if (name == "REMOTE_ADDR") return Known::RemoteAddress;
      if (name == "REMOTE_USER") return Known::RemoteUser;
      break;
    case 12:
      if (name == "CONTENT_TYPE") return Known::ContentType;
      if (name == "QUERY_STRING") return Known::QueryString;
      break;
    case 13:
      if (name == "Authorization") return Known::Authorization;
      break;
    case 14:
      if (name == "CONTENT_LENGTH") return Known::ContentLength;
      if (name == "REQUEST_METHOD") return Known::RequestMethod;
      break;
    case 15:
      if (name == "SERVER_PROTOCOL") return Known::ServerProtocol;
      if (name == "SERVER_SOFTWARE") return Known::ServerSoftware;
      break;
    case 17:
      if (name == "HTTP_X_REQUEST_ID") return Known::RequestId;
      if (name == "HTTP_CONTENT_TYPE") return Known::Withheld;
      break;
    case 18:
      if (name == "HTTP_AUTHORIZATION") return Known::HttpAuthorization;
      break;
    case 19:
      if (name == "HTTP_CONTENT_LENGTH") return Known::Withheld;
      break;
    case 22:
      // The web server has taken the chunks apart; an application that saw this would try again.
      if (name == "HTTP_TRANSFER_ENCODING") return Known::Withheld;
      break;
    default:
      break;
  }
  return Known::None;
}

struct Environment::Found {
  std::string_view authorization;
  std::string_view host;
  std::string_view https;
  std::string_view path_info;
  std::string_view query_string;
  std::string_view script_name;
  std::string_view server_name;
  std::string_view server_port;
  std::string_view server_protocol;
  std::string_view server_software;
  std::string_view content_length;
  bool has_http_authorization = false;
};

void Environment::forget_previous(std::size_t count) {
  if (entries_.capacity() > kKeptNames && count <= kKeptNames) {
    std::vector<Entry>().swap(entries_);
    std::vector<std::uint32_t>().swap(following_);
    std::vector<Slot>().swap(table_);
    std::vector<Parameter>().swap(result_);
    known_sizes_.clear();
  }
  result_size_ = 0;
  scratch_used_ = 0;
  method_ = uri_ = request_id_ = remote_address_ = script_name_ = path_info_ = {};
  content_length_.reset();
}

bool Environment::recall(std::span<const Parameter> sent) {
  if (sent.size() != known_sizes_.size() || sent.empty()) return false;
  const char* at = known_names_.data();
  for (std::size_t index = 0; index < sent.size(); ++index) {
    const std::string_view name = sent[index].name;
    if (name.size() != known_sizes_[index] || !is_same(name.data(), at, name.size())) return false;
    at += name.size();
  }
  for (Entry& entry : entries_)
    entry.name = sent[entry.first].name;
  return true;
}

void Environment::remember(std::span<const Parameter> sent) {
  known_names_.clear();
  known_sizes_.clear();
  if (sent.size() > kRememberedNames) return;
  for (const Parameter& parameter : sent) {
    known_names_ += parameter.name;
    known_sizes_.push_back(static_cast<std::uint32_t>(parameter.name.size()));
    if (known_names_.size() > kRememberedBytes) {
      known_sizes_.clear();
      return;
    }
  }
}

void Environment::gather(std::span<const Parameter> sent) {
  entries_.clear();
  const std::size_t count = sent.size();
  if (following_.size() < count) following_.resize(count);
  std::size_t slots = std::max(table_.size(), kSmallestTable);
  while (slots < count * 2)
    slots *= 2;
  ++generation_;
  if (slots != table_.size() || generation_ == 0) {
    table_.assign(slots, Slot{});
    generation_ = 1;
  }
  const std::size_t mask = table_.size() - 1;
  for (std::uint32_t index = 0; index < sent.size(); ++index) {
    const std::string_view name = sent[index].name;
    if (is_reserved(name)) continue;
    const std::uint32_t hash = hash_name(name, options_.hash_seed);
    for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
      Slot& slot = table_[at];
      if (slot.generation != generation_) {
        slot = {generation_, static_cast<std::uint32_t>(entries_.size())};
        entries_.push_back({name, index, index, hash, false, classify(name)});
        break;
      }
      Entry& entry = entries_[slot.entry];
      if (entry.hash != hash || entry.name != name) continue;
      following_[entry.last] = index;
      entry.last = index;
      entry.repeated = true;
      break;
    }
  }
}

std::string_view Environment::join(std::span<const Parameter> sent, const Entry& entry) {
  const std::string_view separator = entry.name == "HTTP_COOKIE" ? "; " : ", ";
  char* const begin = scratch_.data() + scratch_used_;
  char* at = begin;
  for (std::uint32_t index = entry.first;; index = following_[index]) {
    at = std::copy(sent[index].value.begin(), sent[index].value.end(), at);
    if (index == entry.last) break;
    at = std::copy(separator.begin(), separator.end(), at);
  }
  const auto size = static_cast<std::size_t>(at - begin);
  scratch_used_ += size;
  return {begin, size};
}

std::string_view Environment::decode(std::string_view text) {
  const std::size_t first = text.find('%');
  if (first == std::string_view::npos) return text;
  char* const begin = scratch_.data() + scratch_used_;
  char* at = std::copy_n(text.begin(), first, begin);
  for (std::size_t i = first; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const int high = hex_digit(text[i + 1]);
      const int low = hex_digit(text[i + 2]);
      if (high >= 0 && low >= 0) {
        *at++ = static_cast<char>(high * 16 + low);
        i += 2;
        continue;
      }
    }
    *at++ = text[i];
  }
  const auto size = static_cast<std::size_t>(at - begin);
  scratch_used_ += size;
  return {begin, size};
}

std::string_view Environment::resolve_dots(std::string_view path) {
  char* const begin = scratch_.data() + scratch_used_;
  char* at = begin;
  bool ends_open = true;  // behind a slash
  while (!path.empty()) {
    path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
    const std::string_view segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    ends_open = segment.empty() || segment == "." || segment == ".." || !path.empty();
    if (segment == "..") {
      while (at != begin && *--at != '/') {
      }
    } else if (!segment.empty() && segment != ".") {
      *at++ = '/';
      at = std::copy(segment.begin(), segment.end(), at);
    }
  }
  if (ends_open) *at++ = '/';
  const auto size = static_cast<std::size_t>(at - begin);
  scratch_used_ += size;
  return {begin, size};
}

void Environment::decide_paths(const Found& found) {
  const auto write = [this](std::string_view left, std::string_view right) {
    char* const begin = scratch_.data() + scratch_used_;
    std::copy(right.begin(), right.end(), std::copy(left.begin(), left.end(), begin));
    scratch_used_ += left.size() + right.size();
    return std::string_view(begin, left.size() + right.size());
  };
  const bool has_mount = options_.mount.has_value();
  const bool asks_server = options_.path_info == PathInfoMode::Server;
  std::string_view path = asks_server ? std::string_view{} : decode(path_of_uri(uri_));
  if (options_.path_info == PathInfoMode::Auto && has_dot_segment(path)) path = resolve_dots(path);

  script_name_ = has_mount ? std::string_view(mount_) : as_prefix(found.script_name);
  path_info_ = found.path_info;
  if (!path_info_.empty() && !path_info_.starts_with('/')) path_info_ = write("/", path_info_);

  if (!path.empty() && is_below(path, script_name_)) {
    path_info_ = path.substr(script_name_.size());
  } else if (has_mount) {
    // Without a usable REQUEST_URI: what the web server took for the two halves is a path as well, cut elsewhere.
    const std::string_view joined = write(as_prefix(found.script_name), path_info_);
    if (is_below(joined, mount_)) path_info_ = joined.substr(mount_.size());
  }
  // A slash at the end of SCRIPT_NAME belongs to the path then.
  const bool is_whole_path =
      path_info_.empty() ||
      (path_info_ == "/" && found.script_name.ends_with('/') && found.path_info.empty());
  if (options_.path_info == PathInfoMode::Auto && !has_mount && is_whole_path &&
      !script_name_.empty() && puts_path_into_script_name(found.server_software)) {
    path_info_ = path.empty() ? found.script_name : path;
    script_name_ = {};
  }
  if (script_name_.empty() && path_info_.empty()) path_info_ = "/";
}

Result<void, EnvironmentError> Environment::build(std::span<const Parameter> sent) {
  forget_previous(sent.size());
  decisions_ = 0;
  if (!recall(sent)) {
    ++lists_;
    gather(sent);
    remember(sent);
  }

  constexpr std::size_t kOurs = 10;  // more than build and set_content_length add by themselves
  if (result_.size() < entries_.size() + kOurs) result_.resize(entries_.size() + kOurs);
  std::size_t scratch = 0;
  for (const Entry& entry : entries_) {
    const std::string_view value = sent[entry.last].value;
    switch (entry.known) {
      case Known::RequestUri:
        scratch += 2 * value.size();  // decoded, and without dot segments
        break;
      case Known::PathInfo:
      case Known::ScriptName:
        scratch += 2 * value.size() + 2;  // a slash put in front, then both joined
        break;
      default:
        break;
    }
    if (!entry.repeated) continue;
    for (std::uint32_t index = entry.first;; index = following_[index]) {
      scratch += sent[index].value.size() + 2;
      if (index == entry.last) break;
    }
  }
  if (scratch_.size() > kKeptScratch && scratch <= kKeptScratch) std::vector<char>().swap(scratch_);
  if (scratch_.size() < scratch) scratch_.resize(scratch);

  Found found;
  for (const Entry& entry : entries_) {
    const bool joins = entry.repeated && entry.name.starts_with("HTTP_");
    const std::string_view value = joins ? join(sent, entry) : sent[entry.last].value;
    switch (entry.known) {
      case Known::Withheld:
        continue;
      case Known::Authorization:
        found.authorization = value;
        continue;
      case Known::ContentLength:
        // Caddy 2.6 sends -1 for a body whose length it does not know.
        if (value != "-1") found.content_length = value;
        if (found.content_length.empty()) {
          decisions_ |= kNoLength;
          continue;
        }
        break;
      case Known::ContentType:
        if (value.empty()) {
          decisions_ |= kNoType;
          continue;
        }
        break;
      case Known::AuthType:
      case Known::RemoteUser:
        if (value.empty()) {
          decisions_ |= entry.known == Known::AuthType ? kNoAuthType : kNoUser;
          continue;
        }
        break;
      case Known::Host:
        found.host = value;
        break;
      case Known::HttpAuthorization:
        found.has_http_authorization = true;
        break;
      case Known::Https:
        found.https = value;
        break;
      case Known::PathInfo:
        found.path_info = value;
        continue;
      case Known::QueryString:
        found.query_string = value;
        continue;
      case Known::RemoteAddress:
        remote_address_ = value;
        break;
      case Known::RequestId:
        request_id_ = value;
        break;
      case Known::RequestMethod:
        method_ = value;
        break;
      case Known::RequestUri:
        uri_ = value;
        break;
      case Known::ScriptName:
        found.script_name = value;
        continue;
      case Known::ServerName:
        found.server_name = value;
        continue;
      case Known::ServerPort:
        found.server_port = value;
        continue;
      case Known::ServerProtocol:
        found.server_protocol = value;
        continue;
      case Known::ServerSoftware:
        found.server_software = value;
        break;
      case Known::None:
        break;
    }
    add(entry.name, value);
  }

  decide_paths(found);
  add("SCRIPT_NAME", script_name_);
  add("PATH_INFO", path_info_);
  add("QUERY_STRING", found.query_string);
  if (found.server_name.empty() || found.server_port.empty()) {
    const HostAndPort host = split_host(found.host);
    if (found.server_name.empty()) {
      found.server_name = host.host.empty() ? "localhost" : host.host;
    }
    if (found.server_port.empty()) {
      const bool is_secure = found.https == "1" || equals_ignoring_case(found.https, "on");
      found.server_port = parse_decimal(host.port) ? host.port : is_secure ? "443" : "80";
    }
  }
  add("SERVER_NAME", found.server_name);
  add("SERVER_PORT", found.server_port);
  add("SERVER_PROTOCOL", found.server_protocol.empty() ? "HTTP/1.1" : found.server_protocol);
  if (!found.authorization.empty() && !found.has_http_authorization) {
    add("HTTP_AUTHORIZATION", found.authorization);
    decisions_ |= kAuthorization;
  }

  if (method_.empty()) return fail(EnvironmentError::NoRequestMethod);
  if (!found.content_length.empty()) {
    content_length_ = parse_decimal(found.content_length);
    if (!content_length_) return fail(EnvironmentError::BadContentLength);
  }
  return {};
}

void Environment::forget() {
  wipe(scratch_.data(), scratch_used_);
  scratch_used_ = 0;
  result_size_ = 0;
}

void Environment::set_content_length(std::uint64_t length) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, length).ptr;
  content_length_text_.assign(digits, end);
  if (result_size_ == result_.size()) result_.resize(result_size_ + 1);
  add("CONTENT_LENGTH", content_length_text_);
  decisions_ |= kMadeLength;
}

}  // namespace bladepsgi::cgi
