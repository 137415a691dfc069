#include "overseer/inherited.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::overseer {
namespace {

using testing::HasSubstr;

std::string text_of(const Result<std::vector<config::Listen>>& found) {
  if (!found) return found.error().message;
  std::string text;
  for (const config::Listen& one : *found) {
    text += (text.empty() ? "" : " ") + config::to_text(one.address);
    text += one.protocol == config::Protocol::Http ? "/http" : "/fastcgi";
  }
  return text;
}

TEST(ListenFds, AreNumberedFromThree) {
  EXPECT_EQ(text_of(read_listen_fds("0", "")), "");
  EXPECT_EQ(text_of(read_listen_fds("2", "")), "fd:3/fastcgi fd:4/fastcgi");
}

TEST(ListenFds, SpeakHttpWhenTheirNameSaysSo) {
  EXPECT_EQ(text_of(read_listen_fds("4", "http:app.socket:my-http-8080")),
            "fd:3/http fd:4/fastcgi fd:5/http fd:6/fastcgi");
  EXPECT_EQ(text_of(read_listen_fds("1", "a:http")), "fd:3/fastcgi");
}

TEST(ListenFds, AreANumber) {
  for (const char* count : {"", "x", "-1", "1 ", "99999999", "18446744073709551616"})
    EXPECT_THAT(text_of(read_listen_fds(count, "")), HasSubstr("LISTEN_FDS")) << count;
}

TEST(ServerStarter, NamesAddressAndDescriptor) {
  EXPECT_EQ(text_of(read_server_starter("127.0.0.1:80=3;/run/a=b.sock=4;8080=5;[::1]:9=6",
                                        config::Protocol::Http)),
            "fd:3/http fd:4/http fd:5/http fd:6/http");
  EXPECT_EQ(text_of(read_server_starter("8080=0", config::Protocol::FastCgi)), "fd:0/fastcgi");
}

TEST(ServerStarter, IsRefusedWhenItSaysSomethingElse) {
  for (const char* ports : {"8080", "8080=", "8080=x", "a=3;", ";", "8080=-1", "8080=65536"})
    EXPECT_THAT(text_of(read_server_starter(ports, config::Protocol::Http)),
                HasSubstr("SERVER_STARTER_PORT"))
        << ports;
}

}  // namespace
}  // namespace bladepsgi::overseer
