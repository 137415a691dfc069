#include "http/parameters.h"

#include <algorithm>
#include <charconv>

#include "base/text.h"
#include "http/address.h"
#include "http/syntax.h"

namespace bladepsgi::http {

namespace {

constexpr std::string_view kPrefix = "HTTP_";
constexpr std::size_t kOwnBytes = 128;  // numbers, and brackets around an address

// Storage that one huge request has grown beyond this is given back after it.
constexpr std::size_t kKeptBytes = std::size_t{64} * 1024;
constexpr std::size_t kKeptParameters = 512;

bool is_plain_name(std::string_view name) {
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '-'; });
}

bool is_withheld(std::string_view name) {
  switch (name.size()) {
    case 5:
      return equals_ignoring_case(name, "Proxy");  // would be HTTP_PROXY, which libraries obey
    case 14:
      return equals_ignoring_case(name, "Content-Length");
    case 17:
      return equals_ignoring_case(name, "Transfer-Encoding");
    default:
      return false;
  }
}

constexpr char as_variable(char c) {
  if (c == '-') return '_';
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

}  // namespace

std::string_view Parameters::write_number(std::uint64_t number) {
  char* const begin = scratch_.data() + scratch_used_;
  const char* const end = std::to_chars(begin, scratch_.data() + scratch_.size(), number).ptr;
  const auto size = static_cast<std::size_t>(end - begin);
  scratch_used_ += size;
  return {begin, size};
}

std::string_view Parameters::write_name(std::string_view name) {
  char* const begin = scratch_.data() + scratch_used_;
  char* const end = std::transform(name.begin(), name.end(),
                                   std::copy(kPrefix.begin(), kPrefix.end(), begin), as_variable);
  const auto size = static_cast<std::size_t>(end - begin);
  scratch_used_ += size;
  return {begin, size};
}

std::span<const Parameter> Parameters::build(const Request& request, const Peer& peer) {
  std::size_t scratch = kOwnBytes + peer.server_address.size();
  for (const Field& field : request.fields)
    scratch += kPrefix.size() + field.name.size();
  if (scratch_.size() > kKeptBytes && scratch <= kKeptBytes) std::vector<char>().swap(scratch_);
  if (result_.capacity() > kKeptParameters && request.fields.size() < kKeptParameters / 2) {
    std::vector<Parameter>().swap(result_);
  }
  if (scratch_.size() < scratch) scratch_.resize(scratch);
  scratch_used_ = 0;
  result_.clear();

  add("REQUEST_METHOD", request.method);
  add("REQUEST_URI", request.uri);
  const std::size_t question = request.uri.find('?');
  add("QUERY_STRING",
      question == std::string_view::npos ? std::string_view{} : request.uri.substr(question + 1));
  add("SCRIPT_NAME", {});
  add("SERVER_PROTOCOL", request.version_minor == 0 ? "HTTP/1.0" : "HTTP/1.1");
  add("REQUEST_SCHEME", peer.is_https ? "https" : "http");
  if (peer.is_https) add("HTTPS", "on");
  add_server(request, peer);
  if (!peer.remote_address.empty()) {
    add("REMOTE_ADDR", peer.remote_address);
    if (peer.remote_port != 0) add("REMOTE_PORT", write_number(peer.remote_port));
  }
  if (request.content_length) add("CONTENT_LENGTH", write_number(*request.content_length));
  add_fields(request, peer);
  return result_;
}

void Parameters::add_server(const Request& request, const Peer& peer) {
  const std::string_view default_port = peer.is_https ? "443" : "80";
  const std::string_view asked_for =
      peer.forwarded_host.empty() ? request.host : peer.forwarded_host;
  std::string_view name;
  std::string_view port;
  if (const auto authority = parse_authority(asked_for)) {
    name = authority->host;
    port = authority->port.empty() ? default_port : authority->port;
  } else if (peer.server_address.find(':') != std::string_view::npos) {
    char* const begin = scratch_.data() + scratch_used_;
    char* at = begin;
    *at++ = '[';
    at = std::copy(peer.server_address.begin(), peer.server_address.end(), at);
    *at++ = ']';
    name = {begin, static_cast<std::size_t>(at - begin)};
    scratch_used_ += name.size();
  } else {
    name = peer.server_address.empty() ? "localhost" : peer.server_address;
  }
  if (peer.forwarded_port != 0) port = write_number(peer.forwarded_port);
  if (port.empty()) {
    port = peer.server_port == 0 ? default_port : write_number(peer.server_port);
  }
  add("SERVER_NAME", name);
  add("SERVER_PORT", port);
}

void Parameters::add_fields(const Request& request, const Peer& peer) {
  // Said by the front end, and by it alone.
  const bool replaces_host = !peer.forwarded_host.empty();
  if (replaces_host) add("HTTP_HOST", peer.forwarded_host);
  for (const Field& field : request.fields) {
    if (!is_plain_name(field.name) || is_withheld(field.name)) continue;
    if (equals_ignoring_case(field.name, "Content-Type")) {
      add("CONTENT_TYPE", field.value);
    } else if (!replaces_host || !equals_ignoring_case(field.name, "Host")) {
      add(write_name(field.name), field.value);
    }
  }
}

}  // namespace bladepsgi::http
