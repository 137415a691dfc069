#include "os/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>

#include <gtest/gtest.h>

namespace bladepsgi::os {
namespace {

sockaddr_storage v6(const char* text, std::uint16_t port) {
  sockaddr_storage storage{};
  auto& address = reinterpret_cast<sockaddr_in6&>(storage);
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  EXPECT_EQ(::inet_pton(AF_INET6, text, &address.sin6_addr), 1);
  return storage;
}

TEST(NumericAddress, AMappedAddressIsShownAsWhatItIs) {
  EXPECT_EQ(numeric_address(v6("::ffff:192.0.2.1", 80)).host, "192.0.2.1");
  EXPECT_EQ(numeric_address(v6("::ffff:192.0.2.1", 80)).port, 80);
  EXPECT_EQ(numeric_address(v6("2001:db8::1", 1)).host, "2001:db8::1");
}

TEST(DescribeAddress, PutsBracketsWhereTheyBelong) {
  EXPECT_EQ(describe_address(v6("::1", 8080), sizeof(sockaddr_in6)), "[::1]:8080");
  EXPECT_EQ(describe_address(v6("::ffff:192.0.2.1", 80), sizeof(sockaddr_in6)), "192.0.2.1:80");
}

TEST(DescribeAddress, UnixSocketsHavePathsOrNot) {
  sockaddr_storage storage{};
  auto& address = reinterpret_cast<sockaddr_un&>(storage);
  address.sun_family = AF_UNIX;
  EXPECT_EQ(describe_address(storage, offsetof(sockaddr_un, sun_path)), "");
  std::strcpy(address.sun_path, "/run/x");
  EXPECT_EQ(describe_address(storage, offsetof(sockaddr_un, sun_path) + 7), "/run/x");
  std::memcpy(address.sun_path, "\0name", 5);
  EXPECT_EQ(describe_address(storage, offsetof(sockaddr_un, sun_path) + 5), "@name");
}

}  // namespace
}  // namespace bladepsgi::os
