#include "os/backlog.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "os/fd.h"

namespace bladepsgi::os {
namespace {

// A socket that listens on an address of the kernel's choice, and others that connect to it.
class Waiting {
 public:
  explicit Waiting(int domain) : listener_(::socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_storage address{};
    socklen_t size = sizeof(sa_family_t);  // unix(7): an abstract name is made up
    address.ss_family = static_cast<sa_family_t>(domain);
    if (domain == AF_INET) {
      auto* inet = reinterpret_cast<sockaddr_in*>(&address);
      inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      size = sizeof *inet;
    }
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
  }

  void connect() {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    Fd& peer = peers_.emplace_back(::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(peer.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  }

  void accept() {
    accepted_.emplace_back(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

  [[nodiscard]] int fd() const { return listener_.get(); }

 private:
  Fd listener_;
  std::vector<Fd> peers_;
  std::vector<Fd> accepted_;
};

TEST(WaitingConnections, CountsThoseThatNobodyHasAccepted) {
  for (const int domain : {AF_INET, AF_UNIX}) {
    Waiting waiting(domain);
    if (domain == AF_UNIX && !waiting_connections(waiting.fd()))
      GTEST_SKIP() << "of UNIX sockets this kernel does not tell";
    EXPECT_EQ(waiting_connections(waiting.fd()), 0U);
    for (int i = 0; i < 3; ++i)
      waiting.connect();
    EXPECT_EQ(waiting_connections(waiting.fd()), 3U);
    waiting.accept();
    EXPECT_EQ(waiting_connections(waiting.fd()), 2U);
  }
}

TEST(WaitingConnections, SaysNothingOfWhatDoesNotListen) {
  const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(waiting_connections(socket.get()), std::nullopt);
  EXPECT_EQ(waiting_connections(-1), std::nullopt);
}

}  // namespace
}  // namespace bladepsgi::os
