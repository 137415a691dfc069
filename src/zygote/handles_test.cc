#include "zygote/handles.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "os/fd.h"
#include "os/socket.h"

namespace bladepsgi::zygote {
namespace {

TEST(DescribeSocket, NamesWhoIsAtTheOtherEnd) {
  const os::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string name = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  EXPECT_EQ(describe_socket(listener.get()),
            "socket " + std::to_string(listener.get()) + " listening on " + name);
  const os::Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(describe_socket(client.get()),
            "socket " + std::to_string(client.get()) + " connected to " + name);
}

TEST(DescribeSocket, HasNothingToSayOfWhatIsNone) {
  const os::Pipe pipe = os::make_pipe();
  EXPECT_EQ(describe_socket(pipe.read.get()), "");
  EXPECT_EQ(describe_socket(-1), "");
}

TEST(DescribeSocket, OneWithoutANameIsConnected) {
  const auto pair = os::make_message_pair();
  EXPECT_EQ(describe_socket(pair.first.get()),
            "socket " + std::to_string(pair.first.get()) + " (connected)");
}

TEST(OpenDescriptors, ListsThoseAndNotItsOwn) {
  const os::Pipe pipe = os::make_pipe();
  auto fds = open_descriptors();
  EXPECT_TRUE(std::find(fds.begin(), fds.end(), pipe.read.get()) != fds.end());
  for (const int fd : fds)
    EXPECT_GE(::fcntl(fd, F_GETFD), 0) << fd;
}

}  // namespace
}  // namespace bladepsgi::zygote
