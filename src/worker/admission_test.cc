#include "worker/admission.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

#include <gtest/gtest.h>

#include "os/fd.h"

namespace bladepsgi::worker {
namespace {

Admission parse(const std::string& list) {
  auto admission = Admission::parse(list);
  EXPECT_TRUE(admission) << list;
  return admission ? *admission : Admission::web_servers("");
}

// A connection to ourselves from 127.0.0.1, and one over a UNIX socket.
class AdmissionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> fds{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    local = os::Fd(fds[0]);
    local_peer = os::Fd(fds[1]);
    const os::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    tcp_peer = os::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(tcp_peer.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    tcp = os::Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(tcp.is_open());
  }

  [[nodiscard]] std::string over_tcp(const Admission& admission) const {
    return admission.refuse(tcp.get(), os::Transport::Tcp).value_or("admitted");
  }

  [[nodiscard]] std::string over_unix(const Admission& admission) const {
    return admission.refuse(local.get(), os::Transport::Unix).value_or("admitted");
  }

  os::Fd local;
  os::Fd local_peer;
  os::Fd tcp;
  os::Fd tcp_peer;
  std::string user = std::to_string(::geteuid());
  std::string group = std::to_string(::getegid());
  std::string me = "user " + user + ", group " + group;
};

TEST_F(AdmissionTest, WithoutAListEverybodyIs) {
  EXPECT_EQ(over_tcp(Admission()), "admitted");
  EXPECT_EQ(over_unix(Admission()), "admitted");
  EXPECT_EQ(over_tcp(parse("10.0.0.1,*")), "admitted");
}

TEST_F(AdmissionTest, OfAListOnlyWhoIsNamed) {
  EXPECT_EQ(over_tcp(parse("127.0.0.1")), "admitted");
  EXPECT_EQ(over_tcp(parse("10.0.0.0/8, 127.0.0.0/8")), "admitted");
  EXPECT_EQ(over_tcp(parse("::ffff:127.0.0.1")), "admitted");
  EXPECT_EQ(over_tcp(parse("127.0.0.2")), "127.0.0.1");
  EXPECT_EQ(over_tcp(parse("::/0")), "127.0.0.1");
  EXPECT_EQ(over_unix(parse("user:" + user)), "admitted");
  EXPECT_EQ(over_unix(parse("group:" + group)), "admitted");
  EXPECT_EQ(over_unix(parse("10.0.0.0/8,unix")), "admitted");
  EXPECT_EQ(over_unix(parse("user:987654,group:987654")), me);
}

TEST_F(AdmissionTest, WhoIsOfAnotherKindIsNotNamed) {
  EXPECT_EQ(over_tcp(parse("unix,user:" + user)), "127.0.0.1");
  EXPECT_EQ(over_unix(parse("0.0.0.0/0,::/0")), me);
}

TEST_F(AdmissionTest, AnEmptyListIsNobody) {
  for (const char* list : {"", " "}) {
    EXPECT_EQ(over_tcp(parse(list)), "127.0.0.1");
    EXPECT_EQ(over_unix(parse(list)), me);
    EXPECT_FALSE(parse(list).admits_anybody(os::Transport::Tcp));
    EXPECT_FALSE(parse(list).admits_anybody(os::Transport::Unix));
  }
}

TEST_F(AdmissionTest, WhatCannotBeUnderstoodIsAnError) {
  for (const char* list : {"127.0.0.1,", "10.0.0.1/8", "localhost", "127.0.0.256",
                           "user:", "user:nobody-has-this-name", "group:nobody-has-this-name",
                           "unix:", "127.0.0.1;10.0.0.1"}) {
    EXPECT_FALSE(Admission::parse(list)) << list;
  }
}

TEST_F(AdmissionTest, WebServerAddressesAreIPv4AndNothingElse) {
  EXPECT_EQ(over_tcp(Admission::web_servers("10.0.0.1,127.0.0.1")), "admitted");
  EXPECT_EQ(over_tcp(Admission::web_servers("10.0.0.1")), "127.0.0.1");
  for (const char* list : {"", "127.0.0.1,", "127.0.0.1,localhost", "127.0.0.0/8",
                           "::ffff:127.0.0.1", "127.0.0.1 10.0.0.1"}) {
    EXPECT_EQ(over_tcp(Admission::web_servers(list)), "127.0.0.1") << list;
    EXPECT_EQ(over_unix(Admission::web_servers(list)), me) << list;
  }
}

}  // namespace
}  // namespace bladepsgi::worker
