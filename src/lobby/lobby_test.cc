#include "lobby/lobby.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fcgi/record.h"
#include "handoff/transfer.h"
#include "os/clock.h"
#include "os/process.h"
#include "os/socket.h"
#include "shm/lobby_board.h"
#include "shm/scoreboard.h"

namespace bladepsgi::lobby {
namespace {

using handoff::Kind;
using handoff::Protocol;
using handoff::ReceiveOutcome;
using handoff::SendOutcome;
using shm::Drop;
using shm::Holding;
using std::chrono::milliseconds;
using std::chrono::seconds;

const std::string kRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";  // NOLINT(cert-err58-cpp): a test

bool is_readable(int fd, milliseconds limit) {
  pollfd watched{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&watched, 1, static_cast<int>(limit.count())) > 0;
}

bool is_writable(int fd) {
  pollfd watched{.fd = fd, .events = POLLOUT, .revents = 0};
  return ::poll(&watched, 1, 0) > 0;
}

// A lobby sleeps only when there is nothing to do.
bool is_asleep(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::size_t name = text.rfind(')');
  return name != std::string::npos && text.compare(name, 4, ") S ") == 0;
}

bool becomes(const std::function<bool()>& condition) {
  const os::Monotonic deadline = os::monotonic_now() + seconds(20);
  while (!condition()) {
    if (os::monotonic_now() > deadline) return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

// The process itself, forked as the overseer does it, and we in the place of workers and web servers.
class LobbyTest : public ::testing::Test {
 protected:
  LobbyTest() : board_(mapping_), scoreboard_(mapping_) {
    std::tie(parking_lobby_, parking_) = os::make_message_pair();
    std::tie(ready_lobby_, ready_) = os::make_message_pair();
    std::tie(passing_read_, passing_write_) = os::make_message_pair();
    for (const os::Fd* fd :
         {&parking_lobby_, &parking_, &ready_lobby_, &ready_, &passing_read_, &passing_write_})
      os::set_non_blocking(fd->get());
    board_.prepare(1);
    options_.idle_timeout = options_.head_timeout = options_.body_timeout = seconds(60);
  }

  ~LobbyTest() override {
    if (process_ > 0) end(SIGKILL);
  }

  void start() {
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, &before);
    const pid_t test = ::getpid();
    const shm::SlotIndex slot = *scoreboard_.claim(shm::Role::Lobby, 0, {});
    process_ = ::fork();
    if (process_ == 0) {
      os::die_with_parent(test);
      if (limit_) os::restore_descriptor_limit(limit_);
      const Inheritance inheritance{.parking = parking_lobby_.get(),
                                    .ready = ready_lobby_.get(),
                                    .predecessor = passing_read_.get(),
                                    .successor = passing_write_.get(),
                                    .mapping = &mapping_,
                                    .slot = slot,
                                    .parent = test,
                                    .options = options_};
      ::_exit(run(inheritance));
    }
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    slots_[process_] = slot;
  }

  int end(int signal) {
    ::kill(process_, signal);
    return reap(std::exchange(process_, 0));
  }

  // As the overseer does it.
  int reap(pid_t process) {
    int status = -1;
    EXPECT_EQ(::waitpid(process, &status, 0), process);
    scoreboard_.retire(slots_.at(process));
    const SendOutcome told = handoff::send_nudge(passing_write_.get());
    EXPECT_TRUE(told == SendOutcome::Sent || told == SendOutcome::QueueFull);
    return status;
  }

  // Another one is there from now on. Returns the one of before, which is told so when `is_told`.
  pid_t start_another(bool is_told = true) {
    const pid_t old = std::exchange(process_, 0);
    start();
    if (is_told) ::kill(old, SIGUSR2);
    return old;
  }

  // Returns how the one of before ended.
  int replace() { return reap(start_another()); }

  // Returns the peer's end of a connection that is handed over with these bytes.
  os::Fd park(std::string_view bytes = {}, milliseconds idle = seconds(60)) {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
    const os::Fd connection(fds[0]);
    handoff::Message message;
    message.protocol = Protocol::Http;
    message.kind = bytes.empty() ? Kind::Idle : Kind::PartialRequest;
    message.bytes = as_bytes(bytes);
    if (bytes.empty()) {
      message.progress_deadline = static_cast<handoff::Deadline>(
          std::chrono::nanoseconds((os::monotonic_now() + idle).time_since_epoch()).count());
    }
    EXPECT_TRUE(becomes([&] {
      return handoff::send(parking_.get(), message, connection.get()) == SendOutcome::Sent;
    }));
    return os::Fd(fds[1]);
  }

  // The bytes of the next request in the ready queue; reminders are passed over.
  std::string take(handoff::Message* message = nullptr, os::Fd* connection = nullptr) {
    for (;;) {
      if (!is_readable(ready_.get(), seconds(20))) return "nothing came";
      handoff::Incoming incoming = handoff::receive(ready_.get(), buffer_);
      if (incoming.outcome == ReceiveOutcome::Malformed && incoming.reason == handoff::kNudge) {
        ++nudges_;
        continue;
      }
      if (incoming.outcome != ReceiveOutcome::Received) return std::string(incoming.reason);
      if (message != nullptr) *message = incoming.message;
      if (connection != nullptr) *connection = std::move(incoming.connection);
      if (incoming.message.external_bytes == 0) return std::string(as_text(incoming.message.bytes));
      const auto bytes = handoff::read_memory(incoming.memory, 0, incoming.message.external_bytes);
      return bytes ? std::string(as_text(*bytes)) : bytes.error().message;
    }
  }

  [[nodiscard]] bool holds(Holding holding, std::uint64_t count) const {
    return becomes([&] { return board_.held(holding) == count; });
  }

  static bool is_closed(const os::Fd& peer) {
    char byte = 0;
    return is_readable(peer.get(), seconds(20)) && ::read(peer.get(), &byte, 1) == 0;
  }

  static void write(const os::Fd& peer, std::string_view text) {
    EXPECT_EQ(::write(peer.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  shm::Mapping mapping_ =
      shm::Mapping::create({.numbers = 2, .object_bytes = shm::kMinObjectBytes});
  shm::LobbyBoard board_;
  shm::Scoreboard scoreboard_;
  std::map<pid_t, shm::SlotIndex> slots_;
  os::Fd parking_lobby_;
  os::Fd parking_;
  os::Fd ready_lobby_;
  os::Fd ready_;
  os::Fd passing_read_;  // from lobby to lobby
  os::Fd passing_write_;
  Options options_;
  std::size_t limit_ = 0;
  pid_t process_ = 0;
  int nudges_ = 0;
  handoff::ReceiveBuffer buffer_{};
};

TEST_F(LobbyTest, AnIdleConnectionComesBackWithItsNextRequest) {
  start();
  const os::Fd peer = park();
  ASSERT_TRUE(holds(Holding::Idle, 1));
  write(peer, kRequest.substr(0, 10));
  ASSERT_TRUE(holds(Holding::Head, 1));
  write(peer, kRequest.substr(10));
  handoff::Message message;
  os::Fd connection;
  EXPECT_EQ(take(&message, &connection), kRequest);
  EXPECT_EQ(message.kind, Kind::ReadyRequest);
  EXPECT_EQ(message.flags, handoff::kBodyComplete);
  EXPECT_NE(message.started, 0U);
  EXPECT_NE(board_.readies(), 0U);
  EXPECT_TRUE(holds(Holding::Head, 0));
  EXPECT_EQ(::write(connection.get(), "answer", 6), 6);
  EXPECT_TRUE(is_readable(peer.get(), seconds(20))) << "it is the same connection";
}

TEST_F(LobbyTest, LongBytesTravelBothWays) {
  start();
  const std::string head = "GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(100'000, 'x') + "\r\n";
  const os::Fd peer = park(head);
  ASSERT_TRUE(holds(Holding::Head, 1));
  EXPECT_EQ(board_.bytes_held(), head.size());
  write(peer, "\r\n");
  EXPECT_EQ(take(), head + "\r\n");
}

TEST_F(LobbyTest, WhoGoesIsForgotten) {
  start();
  os::Fd idle = park();
  os::Fd half = park(kRequest.substr(0, 10));
  ASSERT_TRUE(holds(Holding::Idle, 1));
  ASSERT_TRUE(holds(Holding::Head, 1));
  idle.reset();
  half.reset();
  ASSERT_TRUE(holds(Holding::Idle, 0));
  ASSERT_TRUE(holds(Holding::Head, 0));
  EXPECT_EQ(board_.dropped(Drop::PeerClosed), 2U);
  EXPECT_EQ(board_.bytes_held(), 0U);
}

TEST_F(LobbyTest, TimeLimits) {
  options_.head_timeout = options_.body_timeout = milliseconds(50);
  start();
  EXPECT_TRUE(is_closed(park({}, milliseconds(50))));
  EXPECT_TRUE(is_closed(park(kRequest.substr(0, 10))));
  const std::string half = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12";
  const os::Fd peer = park(half);
  handoff::Message message;
  EXPECT_EQ(take(&message), half) << "a worker answers it";
  EXPECT_NE(message.progress_deadline, 0U);
  ASSERT_TRUE(becomes([this] { return board_.dropped(Drop::HeadTimeout) == 1; }));
  EXPECT_EQ(board_.dropped(Drop::IdleTimeout), 1U);
  EXPECT_EQ(shm::Scoreboard(mapping_).total_events(shm::Event::TimedOut), 1U);
}

TEST_F(LobbyTest, AFullReadyQueueIsABacklogAndNothingIsLost) {
  start();
  constexpr int kMany = 1000;
  std::vector<os::Fd> peers;
  for (int i = 0; i < kMany; ++i)
    peers.push_back(park("GET /" + std::to_string(i) + kRequest.substr(5)));
  ASSERT_TRUE(becomes([this] { return board_.held(Holding::Ready) > 0; }));
  for (int i = 0; i < kMany; ++i)
    ASSERT_EQ(take(), "GET /" + std::to_string(i) + kRequest.substr(5));
  EXPECT_TRUE(holds(Holding::Ready, 0));
}

TEST_F(LobbyTest, RemindsOfWhatNobodyTakes) {
  start();
  const os::Fd peer = park(kRequest);
  ASSERT_TRUE(is_readable(ready_.get(), seconds(20)));
  const auto is_nudged = [this] {
    // Peeks at how much is queued: the request alone does not grow.
    std::array<std::byte, 1> first{};
    return ::recv(ready_.get(), first.data(), 1, MSG_PEEK | MSG_DONTWAIT) == 1 &&
           board_.readies() >= 3;
  };
  EXPECT_TRUE(becomes(is_nudged));
  EXPECT_EQ(take(), kRequest);
  EXPECT_TRUE(becomes([this] {
    const auto incoming = handoff::receive(ready_.get(), buffer_);
    if (incoming.reason == handoff::kNudge) ++nudges_;
    return incoming.outcome == ReceiveOutcome::Empty;
  }));
  EXPECT_GE(nudges_, 1);
}

TEST_F(LobbyTest, TheNextOneOnTheSameSocketsHasWhatWasUnderWay) {
  const os::Fd before = park(kRequest);
  start();
  EXPECT_EQ(take(), kRequest);
  const os::Fd held = park();
  ASSERT_TRUE(holds(Holding::Idle, 1));
  const os::Fd ready = park(kRequest);
  ASSERT_TRUE(is_readable(ready_.get(), seconds(20)));
  end(SIGKILL);
  EXPECT_TRUE(is_closed(held)) << "what it held is closed";
  const os::Fd meanwhile = park();
  start();
  ASSERT_TRUE(holds(Holding::Idle, 1)) << "counted anew";
  write(meanwhile, kRequest);
  EXPECT_EQ(take(), kRequest) << "what was in the queue";
  EXPECT_EQ(take(), kRequest) << "and what came after";
}

TEST_F(LobbyTest, TheOldestIdleOneGivesWay) {
  options_.most_connections = 3;
  start();
  const os::Fd half = park(kRequest.substr(0, 10));
  const os::Fd first = park({}, seconds(60));
  const os::Fd second = park({}, seconds(61));
  const os::Fd third = park({}, seconds(62));
  EXPECT_TRUE(is_closed(first));
  EXPECT_EQ(board_.dropped(Drop::GaveWay), 1U);
  EXPECT_TRUE(holds(Holding::Idle, 2));
  EXPECT_TRUE(holds(Holding::Head, 1));
}

TEST_F(LobbyTest, StaysBelowTheLimitOfDescriptors) {
  limit_ = 200;
  start();
  std::vector<os::Fd> peers;
  for (int i = 0; i < 300; ++i)
    peers.push_back(park({}, seconds(60) + milliseconds(i)));
  ASSERT_TRUE(becomes([this] { return board_.dropped(Drop::GaveWay) == 300 - (200 - 64); }));
  EXPECT_TRUE(is_closed(peers.front()));
  write(peers.back(), kRequest);
  EXPECT_EQ(take(), kRequest);
}

TEST_F(LobbyTest, WhoHasMostGivesWayWhenMemoryIsFull) {
  options_.most_bytes = 50'000;
  start();
  const std::string begun = "GET / HTTP/1.1\r\nHost: x\r\nX: ";
  const os::Fd small = park(begun);
  const os::Fd large = park(begun + std::string(60'000, 'x'));
  EXPECT_TRUE(is_closed(large));
  EXPECT_EQ(board_.dropped(Drop::Memory), 1U);
  write(small, "x\r\n\r\n");
  EXPECT_EQ(take(), begun + "x\r\n\r\n");
}

TEST_F(LobbyTest, SlowBodiesWaitForAPermit) {
  options_.body_ahead = 2;
  start();
  const std::string slow = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12";
  ASSERT_TRUE(board_.slow_bodies().try_acquire(0));
  const os::Fd peer = park(slow);
  ASSERT_TRUE(holds(Holding::SlowBody, 1));
  const os::Fd other = park(kRequest);
  EXPECT_EQ(take(), kRequest) << "others do not wait for it";
  ASSERT_TRUE(board_.slow_bodies().release(0));
  handoff::Message message;
  EXPECT_EQ(take(&message), slow);
  EXPECT_EQ(message.flags, 0);
}

TEST_F(LobbyTest, NonsenseIsCountedAndHarmsNobody) {
  start();
  const std::string text = "no message of ours";
  ASSERT_EQ(handoff::send_packet(parking_.get(), as_bytes(text), {}), SendOutcome::Sent);
  const std::array<int, 1> file{parking_.get()};
  ASSERT_EQ(handoff::send_packet(parking_.get(), as_bytes(text), file), SendOutcome::Sent);
  ASSERT_TRUE(becomes([this] { return board_.dropped(Drop::Malformed) == 2; }));
  const os::Fd peer = park(kRequest);
  EXPECT_EQ(take(), kRequest);
}

TEST_F(LobbyTest, ReadsToItsEndWhatIsClosing) {
  start();
  std::array<int, 2> fds{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
  os::Fd connection(fds[0]);
  os::Fd peer(fds[1]);
  handoff::Message message;
  message.protocol = Protocol::Http;
  message.kind = Kind::Closing;
  ASSERT_EQ(handoff::send(parking_.get(), message, connection.get()), SendOutcome::Sent);
  connection.reset();
  ASSERT_TRUE(holds(Holding::Closing, 1));
  write(peer, "more and more");
  ASSERT_TRUE(becomes([&] {
    int unread = 0;
    return ::ioctl(peer.get(), SIOCOUTQ, &unread) == 0 && unread == 0;
  }));
  peer.reset();
  EXPECT_TRUE(holds(Holding::Closing, 0));
}

// The peer's end of a connection that is handed over with the rest of a response on it.
os::Fd leave_rest(int parking, handoff::Message message, std::string_view bytes, int file = -1) {
  std::array<int, 2> fds{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
  const os::Fd connection(fds[0]);
  message.bytes = as_bytes(bytes);
  EXPECT_EQ(handoff::send(parking, message, connection.get(), file), SendOutcome::Sent);
  return os::Fd(fds[1]);
}

os::Fd leave_response(int parking, std::string_view rest) {
  return leave_rest(parking,
                    {.protocol = Protocol::Http,
                     .kind = Kind::UnsentResponse,
                     .unsent_bytes = static_cast<std::uint32_t>(rest.size())},
                    rest);
}

std::string read_bytes(const os::Fd& peer, std::size_t size) {
  std::string all;
  std::string piece(100'000, '\0');
  while (all.size() < size && is_readable(peer.get(), seconds(20))) {
    const ssize_t count =
        ::read(peer.get(), piece.data(), std::min(piece.size(), size - all.size()));
    if (count <= 0) break;
    all.append(piece, 0, static_cast<std::size_t>(count));
  }
  return all;
}

TEST_F(LobbyTest, SendsTheRestOfAResponseAndKeepsTheConnection) {
  start();
  for (const std::size_t size : {std::size_t{10}, std::size_t{3'000'000}}) {
    const std::string rest(size, 'r');
    const os::Fd peer = leave_rest(parking_.get(),
                                   {.protocol = Protocol::Http,
                                    .kind = Kind::UnsentResponse,
                                    .flags = handoff::kKeepAfterwards,
                                    .unsent_bytes = static_cast<std::uint32_t>(size)},
                                   rest);
    if (size > 1'000'000) {
      ASSERT_TRUE(holds(Holding::Sending, 1));
      EXPECT_EQ(board_.bytes_unsent(), size);
    }
    EXPECT_TRUE(read_bytes(peer, size) == rest);
    ASSERT_TRUE(holds(Holding::Idle, 1));
    EXPECT_TRUE(becomes([this] { return board_.bytes_unsent() == 0; }));
    write(peer, kRequest);
    EXPECT_EQ(take(), kRequest);
  }
}

TEST_F(LobbyTest, ServesTheNextRequestAfterTheResponse) {
  start();
  const std::string rest(3'000'000, 'r');
  const os::Fd peer = leave_rest(parking_.get(),
                                 {.protocol = Protocol::Http,
                                  .kind = Kind::UnsentResponse,
                                  .flags = handoff::kKeepAfterwards,
                                  .unsent_bytes = static_cast<std::uint32_t>(rest.size())},
                                 rest + kRequest.substr(0, 10));
  ASSERT_TRUE(holds(Holding::Sending, 1));
  write(peer, kRequest.substr(10));
  EXPECT_FALSE(is_readable(ready_.get(), milliseconds(0)));
  EXPECT_TRUE(read_bytes(peer, rest.size()) == rest);
  EXPECT_EQ(take(), kRequest);
}

TEST_F(LobbyTest, SendsFilesInRecordsOrChunksOrAsTheyAre) {
  start();
  const std::string content(150'000, 'f');
  const os::Fd file(::memfd_create("content", MFD_CLOEXEC));
  ASSERT_EQ(::write(file.get(), content.data(), content.size()), std::ssize(content));
  const auto message = [&](Protocol protocol, std::uint16_t flags) {
    return handoff::Message{.protocol = protocol,
                            .kind = Kind::UnsentFile,
                            .flags = flags,
                            .stream_id = 7,
                            .unsent_bytes = 4,
                            .bytes_before_file = 2,
                            .file_offset = 20'000,
                            .file_length = 100'000,
                            .file_piece = 10'000};
  };
  const std::string first(10'000, 'f');
  const std::string others(90'000, 'f');
  std::string records;
  for (std::size_t left = others.size(); left > 0;) {
    const std::size_t size = std::min(left, fcgi::kMaxContentSent);
    std::array<std::byte, fcgi::kHeaderSize> header{};
    fcgi::encode_header(header, fcgi::RecordType::Stdout, 7, size);
    records += as_text(header);
    records += others.substr(0, size);
    left -= size;
  }

  struct Row {
    handoff::Message message;
    std::string sent;
  };

  for (const Row& row : {Row{message(Protocol::FastCgi, 0), "<<" + first + records + ">>"},
                         Row{message(Protocol::Http, 0), "<<" + first + others + ">>"},
                         Row{message(Protocol::Http, handoff::kChunked),
                             "<<" + first + "\r\n15f90\r\n" + others + "\r\n>>"}}) {
    const os::Fd peer = leave_rest(parking_.get(), row.message, "<<>>", file.get());
    EXPECT_TRUE(read_bytes(peer, row.sent.size()) == row.sent);
    EXPECT_TRUE(is_closed(peer)) << "it was not to be kept";
  }
}

TEST_F(LobbyTest, PassesOnWhateverItHolds) {
  start();
  const os::Fd idle = park();
  const os::Fd half = park(kRequest.substr(0, 10));
  const std::string long_head = "GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(100'000, 'x');
  const os::Fd long_half = park(long_head);
  const std::string rest(3'000'000, 'r');
  const os::Fd slow = leave_rest(parking_.get(),
                                 {.protocol = Protocol::Http,
                                  .kind = Kind::UnsentResponse,
                                  .flags = handoff::kKeepAfterwards,
                                  .unsent_bytes = static_cast<std::uint32_t>(rest.size())},
                                 rest + kRequest.substr(0, 10));
  const std::string content(3'000'000, 'f');
  const os::Fd file(::memfd_create("content", MFD_CLOEXEC));
  ASSERT_EQ(::write(file.get(), content.data(), content.size()), std::ssize(content));
  const os::Fd slow_file = leave_rest(parking_.get(),
                                      {.protocol = Protocol::Http,
                                       .kind = Kind::UnsentFile,
                                       .flags = handoff::kChunked,
                                       .unsent_bytes = 4,
                                       .bytes_before_file = 2,
                                       .file_length = content.size()},
                                      "<<>>", file.get());
  const os::Fd slow_records = leave_rest(parking_.get(),
                                         {.protocol = Protocol::FastCgi,
                                          .kind = Kind::UnsentFile,
                                          .flags = handoff::kKeepAfterwards,
                                          .stream_id = 7,
                                          .unsent_bytes = 4,
                                          .bytes_before_file = 2,
                                          .file_length = content.size()},
                                         "<<>>", file.get());
  ASSERT_TRUE(holds(Holding::Sending, 3));
  std::string from_file = read_bytes(slow_file, 400'000);
  std::string from_records = read_bytes(slow_records, 400'000);
  std::string from_memory = read_bytes(slow, 400'000);

  EXPECT_EQ(replace(), 0) << "it ends when it has nothing any more";
  ASSERT_TRUE(holds(Holding::Idle, 1));
  ASSERT_TRUE(holds(Holding::Head, 2));
  ASSERT_TRUE(holds(Holding::Sending, 3));
  for (std::size_t i = 0; i < shm::kDrops; ++i)
    EXPECT_EQ(board_.dropped(static_cast<Drop>(i)), 0U) << shm::kDropNames[i];

  write(idle, kRequest);
  EXPECT_EQ(take(), kRequest);
  write(half, kRequest.substr(10));
  EXPECT_EQ(take(), kRequest);
  write(long_half, "\r\n\r\n");
  EXPECT_EQ(take(), long_head + "\r\n\r\n");
  from_memory += read_bytes(slow, rest.size() - from_memory.size());
  EXPECT_TRUE(from_memory == rest);
  write(slow, kRequest.substr(10));
  EXPECT_EQ(take(), kRequest) << "the request whose beginning came before the response was taken";
  std::string chunks = "<<";
  for (std::size_t left = content.size(); left > 0;) {
    const std::size_t size = std::min<std::size_t>(left, 1024 * 1024);
    std::array<char, 16> length{};
    const int digits = std::snprintf(length.data(), length.size(), "%zx\r\n", size);
    chunks.append(length.data(), static_cast<std::size_t>(digits));
    chunks += content.substr(0, size) + "\r\n";
    left -= size;
  }
  chunks += ">>";
  from_file += read_bytes(slow_file, chunks.size() - from_file.size());
  EXPECT_TRUE(from_file == chunks);
  EXPECT_TRUE(is_closed(slow_file)) << "it was not to be kept";
  std::string records = "<<";
  for (std::size_t left = content.size(); left > 0;) {
    const std::size_t size = std::min(left, fcgi::kMaxContentSent);
    std::array<std::byte, fcgi::kHeaderSize> header{};
    fcgi::encode_header(header, fcgi::RecordType::Stdout, 7, size);
    records += as_text(header);
    records += content.substr(0, size);
    left -= size;
  }
  records += ">>";
  from_records += read_bytes(slow_records, records.size() - from_records.size());
  EXPECT_TRUE(from_records == records);
  EXPECT_TRUE(holds(Holding::Idle, 1)) << "it was";
}

// The new one may not have more than the old one had, and is full from the beginning.
TEST_F(LobbyTest, PassesOnMoreThanFitsBetweenThem) {
  constexpr std::size_t kMany = 700;
  options_.most_connections = kMany;
  start();
  std::vector<os::Fd> peers;
  for (std::size_t i = 0; i < kMany; ++i)
    peers.push_back(park());
  ASSERT_TRUE(holds(Holding::Idle, kMany));
  EXPECT_EQ(replace(), 0);
  ASSERT_TRUE(holds(Holding::Idle, kMany));
  EXPECT_EQ(board_.dropped(Drop::GaveWay), 0U);
  write(peers.back(), kRequest);
  EXPECT_EQ(take(), kRequest);
  const os::Fd first_more = park();
  const os::Fd second_more = park();
  EXPECT_TRUE(is_closed(peers.front())) << "who has waited longest is known";
  EXPECT_EQ(board_.dropped(Drop::GaveWay), 1U);
}

TEST_F(LobbyTest, PassesOnAsManyBytesAsItMayHave) {
  const std::string head = "GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(100'000, 'x');
  options_.most_bytes = std::uint64_t{3} * head.size();
  start();
  const std::array<os::Fd, 3> peers{park(head), park(head), park(head)};
  const std::string rest(options_.most_bytes, 'r');
  const os::Fd slow = leave_response(parking_.get(), rest);
  ASSERT_TRUE(holds(Holding::Sending, 1));
  EXPECT_EQ(replace(), 0);
  ASSERT_TRUE(holds(Holding::Head, 3));
  EXPECT_EQ(board_.dropped(Drop::Memory), 0U);
  EXPECT_TRUE(read_bytes(slow, rest.size()) == rest);
}

TEST_F(LobbyTest, TheNewOneOutlivesTheOldOne) {
  start();
  constexpr std::size_t kMany = 700;
  std::vector<os::Fd> peers;
  peers.reserve(kMany);
  for (std::size_t i = 0; i < kMany; ++i)
    peers.push_back(park());
  ASSERT_TRUE(holds(Holding::Idle, kMany));
  const pid_t old = start_another(false);
  ::kill(process_, SIGSTOP);
  ::kill(old, SIGUSR2);
  ASSERT_TRUE(becomes([this] { return !is_writable(passing_write_.get()); }));
  ::kill(old, SIGKILL);
  EXPECT_TRUE(WIFSIGNALED(reap(old)));
  ::kill(process_, SIGCONT);
  const os::Fd half = park(kRequest.substr(0, 10));
  ASSERT_TRUE(holds(Holding::Head, 1));
  ASSERT_TRUE(becomes([this] { return is_asleep(process_); }));
  EXPECT_GT(board_.held(Holding::Idle), 0U) << "what had been passed on is here";
  EXPECT_LT(board_.held(Holding::Idle), kMany);
  write(half, kRequest.substr(10));
  EXPECT_EQ(take(), kRequest);
}

TEST_F(LobbyTest, TheNewOneRemindsWorkersOfWhatTheOldOneHasSent) {
  start();
  const os::Fd first = park();
  ASSERT_TRUE(holds(Holding::Idle, 1));
  ::kill(process_, SIGSTOP);
  const pid_t old = start_another(false);
  const os::Fd idle = park({}, milliseconds(50));
  EXPECT_TRUE(is_closed(idle)) << "by now it has found that nothing is in the queue";
  ::kill(process_, SIGSTOP);
  ::kill(old, SIGCONT);
  const os::Fd peer = park(kRequest);
  ASSERT_TRUE(is_readable(ready_.get(), seconds(20)));
  ::kill(old, SIGKILL);
  EXPECT_TRUE(WIFSIGNALED(reap(old)));
  const auto queued = [this] {
    int bytes = 0;
    EXPECT_EQ(::ioctl(ready_lobby_.get(), SIOCOUTQ, &bytes), 0);
    return bytes;
  };
  const int before = queued();
  ::kill(process_, SIGCONT);
  EXPECT_TRUE(becomes([&] { return queued() > before; }));
}

TEST_F(LobbyTest, WhileItPassesOnNothingIsSettled) {
  start();
  const os::Fd half = park(kRequest.substr(0, 10));
  const std::string rest(3'000'000, 'r');
  const os::Fd slow = leave_response(parking_.get(), rest);
  ASSERT_TRUE(holds(Holding::Sending, 1));
  ::kill(process_, SIGSTOP);
  const pid_t old = start_another();
  const os::Fd idle = park();
  ASSERT_TRUE(holds(Holding::Sending, 0) && holds(Holding::Idle, 1)) << "the other one speaks";
  board_.set_stopping();
  ::kill(old, SIGTERM);
  ::kill(process_, SIGTERM);
  EXPECT_TRUE(is_closed(idle));
  EXPECT_TRUE(becomes([this] { return is_asleep(process_); }));
  EXPECT_FALSE(board_.is_settled()) << "what the old one has is not here";

  ::kill(old, SIGCONT);
  EXPECT_EQ(reap(old), 0);
  ASSERT_TRUE(holds(Holding::Head, 1));
  EXPECT_FALSE(board_.is_settled());
  write(half, kRequest.substr(10));
  EXPECT_EQ(take(), kRequest);
  EXPECT_TRUE(becomes([this] { return board_.is_settled(); }));
  EXPECT_TRUE(read_bytes(slow, rest.size()) == rest);
}

TEST_F(LobbyTest, AtTheEndTheNewOneWaitsForTheOldOne) {
  start();
  const std::string rest(3'000'000, 'r');
  const os::Fd slow = leave_response(parking_.get(), rest);
  ASSERT_TRUE(holds(Holding::Sending, 1));
  ::kill(process_, SIGSTOP);
  const pid_t old = start_another();
  ASSERT_TRUE(holds(Holding::Sending, 0));
  const os::Fd half = park(kRequest.substr(0, 10));
  ASSERT_TRUE(holds(Holding::Head, 1));
  board_.set_stopping();
  ::kill(old, SIGUSR1);
  ::kill(process_, SIGUSR1);
  EXPECT_TRUE(is_closed(half)) << "nobody will serve it";
  ::kill(old, SIGCONT);
  EXPECT_EQ(reap(old), 0);
  EXPECT_TRUE(read_bytes(slow, rest.size()) == rest);
  EXPECT_EQ(reap(std::exchange(process_, 0)), 0);
}

TEST_F(LobbyTest, WhoIsReadyIsNotPassedOn) {
  start();
  constexpr std::size_t kMany = 600;
  std::vector<os::Fd> peers;
  peers.reserve(kMany);
  for (std::size_t i = 0; i < kMany; ++i)
    peers.push_back(park(kRequest));
  ASSERT_TRUE(becomes([this] { return board_.held(Holding::Ready) > 0; }));
  const pid_t old = start_another();
  for (std::size_t i = 0; i < kMany; ++i)
    EXPECT_EQ(take(), kRequest);
  EXPECT_EQ(reap(old), 0);
}

TEST_F(LobbyTest, AFileThatBecomesShorterBreaksItsResponse) {
  start();
  const os::Fd file(::memfd_create("content", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 1000), 0);
  const os::Fd peer = leave_rest(
      parking_.get(),
      {.protocol = Protocol::Http, .kind = Kind::UnsentFile, .file_offset = 0, .file_length = 2000},
      {}, file.get());
  EXPECT_EQ(read_bytes(peer, 5000).size(), 1000U);
  EXPECT_TRUE(becomes([this] { return board_.dropped(Drop::BrokenFile) == 1; }));
}

TEST_F(LobbyTest, WhoTakesNothingOfAResponseIsDropped) {
  options_.send_timeout = milliseconds(50);
  start();
  const std::string rest(3'000'000, 'r');
  const handoff::Message message{.protocol = Protocol::Http,
                                 .kind = Kind::UnsentResponse,
                                 .unsent_bytes = static_cast<std::uint32_t>(rest.size())};
  const os::Fd slow = leave_rest(parking_.get(), message, rest);
  ASSERT_TRUE(becomes([this] { return board_.dropped(Drop::SendTimeout) == 1; }));
  EXPECT_LT(read_bytes(slow, rest.size()).size(), rest.size());
  os::Fd gone = leave_rest(parking_.get(), message, rest);
  gone.reset();
  EXPECT_TRUE(becomes([this] {
    return shm::Scoreboard(mapping_).total_events(shm::Event::ClientGone) +
               board_.dropped(Drop::SendTimeout) ==
           2;
  }));
}

TEST_F(LobbyTest, EndsWhenTheLastResponseIsSent) {
  start();
  const std::string rest(3'000'000, 'r');
  const os::Fd peer = leave_rest(parking_.get(),
                                 {.protocol = Protocol::Http,
                                  .kind = Kind::UnsentResponse,
                                  .flags = handoff::kKeepAfterwards,
                                  .unsent_bytes = static_cast<std::uint32_t>(rest.size())},
                                 rest);
  ASSERT_TRUE(holds(Holding::Sending, 1));
  const os::Fd half = park(kRequest.substr(0, 10));
  ASSERT_TRUE(holds(Holding::Head, 1));
  board_.set_stopping();
  ::kill(process_, SIGUSR1);
  EXPECT_TRUE(is_closed(half)) << "nobody will serve it";
  EXPECT_TRUE(read_bytes(peer, rest.size()) == rest);
  int status = -1;
  ASSERT_EQ(::waitpid(std::exchange(process_, 0), &status, 0) > 0, true);
  EXPECT_EQ(status, 0);
}

TEST_F(LobbyTest, EndsWhenToldUnlessTheWholeServerStops) {
  start();
  ASSERT_TRUE(holds(Holding::Idle, 0));
  const os::Fd first = park();
  ASSERT_TRUE(holds(Holding::Idle, 1));
  EXPECT_EQ(end(SIGTERM), 0);
  start();
  const os::Fd idle = park();
  const os::Fd half = park(kRequest.substr(0, 10));
  ASSERT_TRUE(holds(Holding::Head, 1));
  board_.set_stopping();
  ::kill(process_, SIGTERM);
  EXPECT_TRUE(is_closed(idle));
  write(half, kRequest.substr(10));
  EXPECT_EQ(take(), kRequest) << "what can still be served is";
}

}  // namespace
}  // namespace bladepsgi::lobby
