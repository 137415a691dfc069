#include "monitoring/probe.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <initializer_list>
#include <vector>

#include "base/parameter.h"
#include "base/text.h"
#include "fcgi/name_value.h"
#include "fcgi/record.h"
#include "monitoring/health.h"
#include "os/clock.h"
#include "os/connect.h"
#include "os/system_error.h"

namespace bladepsgi::monitoring {

namespace {

constexpr std::uint16_t kRequestId = 1;
constexpr std::string_view kAgent = "bladepsgi-probe";
// Of a response; its beginning is what counts, but it has to come to its end.
constexpr std::size_t kMostKept = std::size_t{16} * 1024 * 1024;

void append_record(std::string& into, fcgi::RecordType type, Bytes content) {
  std::array<std::byte, fcgi::kHeaderSize> header{};
  fcgi::encode_header(header, type, kRequestId, content.size());
  into += as_text(header);
  into += as_text(content);
}

std::string fcgi_request(std::string_view target) {
  const std::size_t query = target.find('?');
  const std::string path(target.substr(0, query));
  const std::initializer_list<Parameter> parameters = {
      {"GATEWAY_INTERFACE", "CGI/1.1"},
      {"REQUEST_METHOD", "GET"},
      {"SCRIPT_NAME", ""},
      {"PATH_INFO", path},
      {"REQUEST_URI", target},
      {"QUERY_STRING",
       query == std::string_view::npos ? std::string_view() : target.substr(query + 1)},
      {"SERVER_PROTOCOL", "HTTP/1.1"},
      {"SERVER_NAME", "localhost"},
      {"SERVER_PORT", "80"},
      {"REMOTE_ADDR", "127.0.0.1"},
      {"HTTP_HOST", "localhost"},
      {"HTTP_USER_AGENT", kAgent},
  };
  std::vector<std::byte> pairs;
  for (const Parameter& parameter : parameters)
    fcgi::append_name_value(pairs, parameter);
  const std::array<std::byte, 8> begin{std::byte{0}, std::byte{1}};  // responder, not kept
  std::string bytes;
  append_record(bytes, fcgi::RecordType::BeginRequest, begin);
  append_record(bytes, fcgi::RecordType::Params, pairs);
  append_record(bytes, fcgi::RecordType::Params, {});
  append_record(bytes, fcgi::RecordType::Stdin, {});
  return bytes;
}

// Of a CGI response (RFC 3875 §6.3.3): without a Status it is 200.
std::optional<int> cgi_status(std::string_view head) {
  for (const std::string_view line : split(head, '\n')) {
    constexpr std::string_view kStatus = "Status: ";
    if (!line.starts_with(kStatus)) continue;
    const auto number = parse_decimal(line.substr(kStatus.size(), 3));
    return number ? std::optional(static_cast<int>(*number)) : std::nullopt;
  }
  return 200;
}

Result<std::optional<int>> fcgi_status(Bytes received, bool has_ended) {
  std::string output;
  for (;;) {
    auto decoded = fcgi::decode_record(received);
    if (!decoded) return fail(Remedy::Refuse, "its response is not FastCGI");
    if (!decoded->record) break;
    received = received.subspan(decoded->consumed);
    const fcgi::Record& record = *decoded->record;
    if (record.header.is(fcgi::RecordType::Stdout) && output.size() < kMostKept)
      output += as_text(record.content);
    if (!record.header.is(fcgi::RecordType::EndRequest)) continue;
    const std::size_t end = output.find("\r\n\r\n");
    const auto status =
        cgi_status(std::string_view(output).substr(0, end == std::string::npos ? 0 : end));
    if (!status) return fail(Remedy::Refuse, "its response has no status");
    return status;
  }
  if (has_ended)
    return fail(Remedy::Refuse, "the connection ended before its response was complete");
  return std::optional<int>();
}

Result<std::optional<int>> probe_http_status(Bytes received, bool has_ended) {
  if (!has_ended) return std::optional<int>();
  const auto status = http_status(as_text(received));
  if (!status) return fail(Remedy::Refuse, "the connection ended before its response was complete");
  return status;
}

}  // namespace

std::string probe_request(ProbeProtocol protocol, std::string_view target) {
  if (protocol == ProbeProtocol::FastCgi) return fcgi_request(target);
  return std::string("GET ")
      .append(target)
      .append(" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ")
      .append(kAgent)
      .append("\r\nConnection: close\r\n\r\n");
}

Result<std::optional<int>> probe_status(ProbeProtocol protocol, Bytes received, bool has_ended) {
  return protocol == ProbeProtocol::FastCgi ? fcgi_status(received, has_ended)
                                            : probe_http_status(received, has_ended);
}

Result<void> probe(int socket,
                   ProbeProtocol protocol,
                   std::string_view target,
                   std::chrono::milliseconds limit) {
  const os::Monotonic deadline = os::monotonic_now() + limit;
  const std::string request = probe_request(protocol, target);
  const std::string what = "the probe request '" + printable(target) + "' ";
  // So few bytes fit into the buffer of a fresh socket.
  if (::send(socket, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return fail(Remedy::Refuse, what + "could not be sent: " + os::describe_errno(errno));
  }
  std::vector<std::byte> received;
  for (bool has_ended = false; !has_ended;) {
    if (!os::wait_readable(socket, deadline)) {
      return fail(Remedy::Refuse,
                  what + "was not answered within " +
                      (limit.count() % 1000 == 0 ? std::to_string(limit.count() / 1000) + " s"
                                                 : std::to_string(limit.count()) + " ms") +
                      " (--probe-timeout)");
    }
    std::array<std::byte, 65536> bytes{};
    const ssize_t count = ::recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    has_ended = count <= 0;
    if (count > 0) received.insert(received.end(), bytes.begin(), bytes.begin() + count);
    if (received.size() > kMostKept)
      return fail(Remedy::Refuse, what + "has a response of more than 16 MiB");
    const auto status = probe_status(protocol, received, has_ended);
    if (!status) return fail(Remedy::Refuse, what + "failed: " + status.error().message);
    if (!*status) continue;
    if (**status >= 200 && **status < 400) return {};
    return fail(Remedy::Refuse, what + "was answered with status " + std::to_string(**status));
  }
  return fail(Remedy::Refuse, what + "was not answered");
}

}  // namespace bladepsgi::monitoring
