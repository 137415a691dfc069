#include "os/backlog.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "os/fd.h"

namespace bladepsgi::os {

namespace {

std::optional<std::uint32_t> waiting_on_tcp(int listener) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  // Of a socket that listens, this field is that.
  return info.tcpi_state == TCP_LISTEN ? std::optional<std::uint32_t>(info.tcpi_unacked)
                                       : std::nullopt;
}

// The answer is one message: a header, unix_diag_msg, then attributes.
std::optional<std::uint32_t> queue_length(const std::byte* message, std::size_t size) {
  nlmsghdr header{};
  if (size < sizeof header) return std::nullopt;
  std::memcpy(&header, message, sizeof header);
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || header.nlmsg_len > size) return std::nullopt;
  std::size_t at = NLMSG_LENGTH(NLMSG_ALIGN(sizeof(unix_diag_msg)));
  while (at + sizeof(rtattr) <= header.nlmsg_len) {
    rtattr attribute{};
    std::memcpy(&attribute, message + at, sizeof attribute);
    if (attribute.rta_len < sizeof attribute) return std::nullopt;
    unix_diag_rqlen length{};
    if (attribute.rta_type == UNIX_DIAG_RQLEN && attribute.rta_len >= RTA_LENGTH(sizeof length) &&
        at + RTA_LENGTH(sizeof length) <= header.nlmsg_len) {
      std::memcpy(&length, message + at + RTA_LENGTH(0), sizeof length);
      return length.udiag_rqueue;
    }
    at += RTA_ALIGN(attribute.rta_len);
  }
  return std::nullopt;
}

std::optional<std::uint32_t> waiting_on_unix(int listener) {
  struct stat status {};

  if (::fstat(listener, &status) != 0) return std::nullopt;
  const Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
  if (!socket.is_open()) return std::nullopt;

  struct {
    nlmsghdr header;
    unix_diag_req request;
  } question{};

  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.request.sdiag_family = AF_UNIX;
  question.request.udiag_states = ~0U;
  question.request.udiag_ino = static_cast<std::uint32_t>(status.st_ino);
  question.request.udiag_show = UDIAG_SHOW_RQLEN;
  question.request.udiag_cookie[0] = question.request.udiag_cookie[1] = ~0U;
  if (::send(socket.get(), &question, sizeof question, 0) != static_cast<ssize_t>(sizeof question))
    return std::nullopt;
  // The kernel has answered before send returned.
  std::array<std::byte, 1024> answer{};
  const ssize_t size = ::recv(socket.get(), answer.data(), answer.size(), 0);
  if (size <= 0) return std::nullopt;
  return queue_length(answer.data(), static_cast<std::size_t>(size));
}

}  // namespace

std::optional<std::uint32_t> waiting_connections(int listener) {
  int domain = 0;
  socklen_t size = sizeof domain;
  if (::getsockopt(listener, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return std::nullopt;
  return domain == AF_UNIX ? waiting_on_unix(listener) : waiting_on_tcp(listener);
}

}  // namespace bladepsgi::os
