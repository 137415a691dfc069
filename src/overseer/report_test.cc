#include "overseer/report.h"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "shm/mapping.h"

namespace bladepsgi::overseer {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ReportTest : public ::testing::Test {
 protected:
  ReportTest() {
    server_.pid = 812;
    server_.started = os::WallClock(seconds(1'795'342'502));
    server_.started_monotonic = now_ - milliseconds(90'500);
    PoolView& pool = server_.pool;
    pool.application = "app.psgi";
    pool.listeners = {"/run/app.sock (FastCGI)"};
    pool.workers = 4;
    pool.wanted_workers = 3;
    pool.least_workers = 1;
    pool.most_workers = 4;
    pool.max_workers = 32;
    pool.times_exhausted = 5;
    pool.slow_bodies = 2;
    pool.was_ready = true;
    pool.board = &board_;
    pool.lobby = &lobby_;
    pool.objects = &objects_;
    lobby_.prepare(2);
    board_.set_generations(2, 1);
  }

  ProcessView& add_worker(std::uint32_t number, std::uint32_t generation, pid_t pid) {
    const auto slot = board_.claim(shm::Role::Worker, generation, number);
    EXPECT_TRUE(slot);
    board_.set_pid(*slot, pid);
    ProcessView& view = server_.pool.processes.emplace_back();
    view.kind = ProcessView::Kind::Worker;
    view.role = "worker";
    view.pid = pid;
    view.slot = slot;
    view.number = number;
    view.generation = generation;
    view.is_ready = true;
    view.started = now_ - seconds(10);
    return view;
  }

  std::string status(std::string_view name) {
    const json::Value report = status_report(server_, now_);
    const json::Value* value = report.find(name);
    return value != nullptr ? value->text() : "missing";
  }

  os::Monotonic now_ = os::Monotonic(seconds(5000));
  shm::Mapping mapping_ = shm::Mapping::create({.numbers = 4, .object_bytes = 1 << 20});
  shm::Scoreboard board_{mapping_};
  shm::LobbyBoard lobby_{mapping_};
  shm::Objects objects_{mapping_};
  ServerView server_;
};

TEST_F(ReportTest, SaysWhatTheServerIs) {
  EXPECT_EQ(status("pid"), "812");
  EXPECT_EQ(status("state"), "\"ready\"");
  EXPECT_EQ(status("started"), "1795342502");
  EXPECT_EQ(status("uptime"), "90.5");
  EXPECT_EQ(status("application"), "\"app.psgi\"");
  EXPECT_EQ(status("loader"), "missing");
  EXPECT_EQ(status("listeners"), "[\"/run/app.sock (FastCGI)\"]");
  EXPECT_EQ(status("generation"), "2");
  EXPECT_EQ(status("oldest_generation"), "1");
  EXPECT_NE(status("version"), "missing");
  server_.pool.is_stopping = true;
  EXPECT_EQ(status("state"), "\"stopping\"");
}

TEST_F(ReportTest, CountsEachWorkerOnce) {
  shm::OwnSlot idle(board_, *add_worker(0, 2, 10).slot);
  idle.become_idle();
  shm::OwnSlot busy(board_, *add_worker(1, 2, 11).slot);
  busy.begin_request("GET", "/", "id", now_);
  ProcessView& leaving = add_worker(2, 1, 12);
  leaving.is_leaving = true;
  shm::OwnSlot(board_, *leaving.slot).begin_request("GET", "/", "id", now_);
  add_worker(2, 2, 0).is_ready = false;
  EXPECT_EQ(status("workers"),
            R"({"configured":4,"wanted":3,"min":1,"max":4,"max-possible":32,"max-reached":5,)"
            R"("busy":1,"idle":1,"starting":1,"leaving":1})");
}

TEST_F(ReportTest, CountsWhatHasHappened) {
  shm::OwnSlot own(board_, *add_worker(0, 2, 10).slot);
  own.begin_request("GET", "/", "id", now_);
  own.end_request(now_, 3, 4);
  own.count(shm::Event::Malformed);
  own.count(shm::Event::NotAdmitted);
  own.count(shm::Event::NotAdmitted);
  EXPECT_EQ(status("requests"), "1");
  EXPECT_EQ(status("events"),
            R"({"abandoned":0,"client-gone":0,"malformed":1,"refused":0,"timed-out":0,)"
            R"("application-failed":0,"not-admitted":2,"application-timed-out":0})");
}

TEST_F(ReportTest, SaysWhatTheLobbyHolds) {
  lobby_.set_there(true);
  lobby_.set_held(shm::Holding::Idle, 7);
  lobby_.set_held(shm::Holding::Closing, 1);
  lobby_.set_bytes_held(4096);
  lobby_.count(shm::Drop::GaveWay);
  add_worker(0, 2, 10);
  EXPECT_TRUE(lobby_.slow_bodies().try_acquire(*server_.pool.processes.front().slot));
  EXPECT_EQ(
      status("lobby"),
      R"({"there":true,"held":{"idle":7,"head":0,"body":0,"slow-body":0,"ready":0,"closing":1,"sending":0},)"
      R"("bytes":4096,"bytes_unsent":0,"dropped":{"peer-closed":0,"idle-timeout":0,"head-timeout":0,)"
      R"("gave-way":1,"memory":0,"malformed":0,"send-timeout":0,"broken-file":0},"slow_bodies":{"configured":2,"free":1}})");
}

TEST_F(ReportTest, ListsWhatTheApplicationShares) {
  ASSERT_TRUE(objects_.semaphore("lock \x1b", 3, shm::OnDeath::Default, 2));
  ASSERT_TRUE(objects_.atomic("hits", -5, 2));
  EXPECT_EQ(status("semaphores"), R"([{"name":"lock \u001b","value":3}])");
  EXPECT_EQ(status("atomics"), R"([{"name":"hits","value":-5}])");
}

TEST_F(ReportTest, ListsAuxiliariesAndTheOthers) {
  ProcessView& mailer = server_.pool.processes.emplace_back();
  mailer.kind = ProcessView::Kind::Auxiliary;
  mailer.role = "mailer";
  mailer.pid = 20;
  mailer.generation = 2;
  mailer.started = now_ - seconds(3);
  server_.pool.processes.emplace_back().role = "zygote";
  EXPECT_EQ(status("auxiliaries"),
            R"([{"name":"mailer","pid":20,"state":"starting","age":3.0,"generation":2}])");
  EXPECT_EQ(status("processes"),
            R"([{"name":"zygote","pid":null,"state":"starting","age":5000.0}])");
}

TEST_F(ReportTest, HasARowForEachWorker) {
  add_worker(1, 2, 0).is_ready = false;
  server_.pool.processes.back().slot.reset();
  ProcessView& leaving = add_worker(0, 1, 12);
  leaving.is_leaving = true;
  shm::OwnSlot own(board_, *leaving.slot);
  own.begin_request("GET", "/a", "first", now_ - seconds(5));
  own.end_request(now_ - seconds(3), 10, 20);
  own.begin_request("POST", "/\x1b[2J\xff", "second", now_ - milliseconds(1250));
  own.set_status('R');
  EXPECT_EQ(
      workers_report(server_, now_).text(),
      R"([{"number":0,"pid":12,"generation":1,"state":"busy","leaving":true,"age":10.0,"requests":1,"failures":0,)"
      R"("bytes_in":10,"bytes_out":20,"status":"R","last_duration":2.0,)"
      R"("request":{"age":1.25,"method":"POST","uri":"/\u001b[2J\ufffd","uri_is_cut":false,"id":"second"}},)"
      R"({"number":1,"pid":null,"generation":2,"state":"starting","leaving":false,"age":10.0}])");
}

TEST_F(ReportTest, ReloadsAreReported) {
  server_.pool.reload.phase = "idle";
  EXPECT_EQ(status("reload"), R"({"phase":"idle"})");
  server_.pool.reload.phase = "judging";
  server_.pool.reload.progress = "1 of 4 workers is new";
  server_.pool.reload.last = ReloadView::Last{.is_done = false,
                                              .reason = "no\nat x line 1",
                                              .when = os::WallClock(seconds(1000)),
                                              .generation = 7};
  EXPECT_EQ(
      status("reload"),
      R"({"phase":"judging","progress":"1 of 4 workers is new",)"
      R"("last":{"outcome":"failed","reason":"no\nat x line 1","when":1000,"generation":7}})");
}

TEST_F(ReportTest, AServerThatHasNothingYetIsReportedToo) {
  server_.pool = {};
  EXPECT_EQ(status("state"), "\"starting\"");
  EXPECT_EQ(status("workers"),
            R"({"configured":0,"wanted":0,"min":0,"max":0,"max-possible":0,"max-reached":0,)"
            R"("busy":0,"idle":0,"starting":0,"leaving":0})");
  EXPECT_EQ(workers_report(server_, now_).text(), "[]");
}

}  // namespace
}  // namespace bladepsgi::overseer
