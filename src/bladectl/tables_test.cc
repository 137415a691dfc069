#include "bladectl/tables.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::bladectl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

json::Value parsed(const std::string& text) {
  auto value = json::parse(text);
  EXPECT_TRUE(value) << text;
  return value ? *value : json::Value();
}

TEST(BladectlTables, SayHowLong) {
  EXPECT_EQ(duration_text(0), "0 ms");
  EXPECT_EQ(duration_text(0.0256), "25 ms");
  EXPECT_EQ(duration_text(59.96), "59.9 s");
  EXPECT_EQ(duration_text(60), "1 min");
  EXPECT_EQ(duration_text(725), "12 min 5 s");
  EXPECT_EQ(duration_text(3600 * 3 + 60 * 20 + 5), "3 h 20 min");
  EXPECT_EQ(duration_text(86400 * 2 + 3600 * 3), "2 d 3 h");
  EXPECT_EQ(duration_text(-1), "-");
  EXPECT_EQ(duration_text(1e300), "-");
}

TEST(BladectlTables, ShowStatus) {
  const std::string text = status_text(parsed(
      R"({"version":"2.0.0","pid":812,"state":"ready","started":0,"uptime":61,"application":"a.psgi",)"
      R"("listeners":["x","y"],"workers":{"configured":4,"wanted":5,"min":5,"max":5,"max-possible":32,"max-reached":0,)"
      R"("busy":1,"idle":3,"starting":1,"leaving":0},"generation":2,)"
      R"("oldest_generation":1,"requests":5,"events":{"malformed":1},)"
      R"("lobby":{"there":true,"held":{"idle":7},"bytes":9,"bytes_unsent":3,"dropped":{"memory":2},)"
      R"("slow_bodies":{"configured":2,"free":1}},)"
      R"("semaphores":[{"name":"lock","value":1}],"atomics":[],)"
      R"("auxiliaries":[{"name":"mailer","pid":5,"state":"running","age":3.25}]})"));
  for (const char* part :
       {"server        bladepsgi 2.0.0, pid 812, ready\n", ", 1 min 1 s ago\n",
        "listening on  x\n              y\n", "generation    2, oldest that is left 1\n",
        "workers       5: busy 1, idle 3, starting 1, leaving 0\n", "events        malformed 1\n",
        "lobby         holds idle 7; 9 bytes of requests, 3 of responses\n",
        "has dropped memory 2\n", "slow bodies   1 of 2 permits free\n", "semaphores    lock: 1\n",
        "auxiliaries   mailer (pid 5): running for 3.2 s\n"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST(BladectlTables, ShowHowManyWorkersThereMayBe) {
  EXPECT_THAT(
      status_text(parsed(
          R"({"workers":{"configured":8,"wanted":3,"min":2,"max":8,"max-possible":32,"max-reached":4,)"
          R"("busy":1,"idle":2,"starting":0,"leaving":1}})")),
      HasSubstr(
          "workers       3 of 2 to 8, the most was too few 4 times: busy 1, idle 2, starting 0, "
          "leaving 1\n"));
}

TEST(BladectlTables, ShowWorkersInColumns) {
  EXPECT_EQ(
      workers_text(parsed(
          R"([{"number":0,"pid":12,"generation":1,"state":"busy","leaving":true,"requests":100,)"
          R"("bytes_in":1,"bytes_out":2,"status":"ü","last_duration":0.5,)"
          R"("request":{"age":90,"method":"GET","uri":"/a","uri_is_cut":true,"id":"i"}},)"
          R"({"number":1,"pid":null,"generation":2,"state":"starting","leaving":false}])")),
      "WORKER  PID  GEN  STATE          STATUS  REQUESTS  IN  OUT  LAST    AGE         REQUEST\n"
      "0       12   1    busy, leaving  ü       100       1   2    500 ms  1 min 30 s  GET /a… "
      "[i]\n"
      "1       -    2    starting       -       -         -   -    -       -\n");
}

TEST(BladectlTables, ShowNothingThatATerminalWouldObey) {
  const std::string evil = R"(\u001b[2J\u0007\n\u007f\u009b31m)";
  const std::string workers = workers_text(
      parsed(R"([{"number":")" + evil + R"(","state":")" + evil + R"(","request":{"method":")" +
             evil + R"(","uri":")" + evil + R"(","id":")" + evil + R"("}}])"));
  const std::string status = status_text(
      parsed(R"({"application":")" + evil + R"(","workers":{")" + evil + R"(":")" + evil +
             R"("},"listeners":[")" + evil + R"("],"atomics":[{"name":")" + evil + R"("}]})"));
  for (const std::string& text : {workers, status, line_text(std::string("a\x1b\n\xc2\x9b"))}) {
    for (const char* bytes : {"\x1b", "\x07", "\x7f", "\xc2\x9b"})
      EXPECT_THAT(text, Not(HasSubstr(bytes)));
  }
  EXPECT_EQ(line_text("a\\b\nä\xc2\x9b"), "a\\b\\x0aä\\x9b");
}

TEST(BladectlTables, LiveWithAnyReport) {
  for (
      const char* text :
      {"null", "1", "\"x\"", "[]", "{}", "[1]", "[[]]", R"({"workers":1,"lobby":[],"events":{}})",
       R"({"lobby":{"there":true},"started":9223372036854775807,"uptime":-1e300,"listeners":[{}]})",
       R"([{"request":1,"leaving":"x"}])"}) {
    EXPECT_TRUE(status_text(parsed(text)).ends_with('\n')) << text;
    EXPECT_TRUE(workers_text(parsed(text)).ends_with('\n')) << text;
  }
}

}  // namespace
}  // namespace bladepsgi::bladectl
