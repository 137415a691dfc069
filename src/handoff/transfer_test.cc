#include "handoff/transfer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/system_error.h"

namespace bladepsgi::handoff {
namespace {

using ::testing::HasSubstr;

std::pair<os::Fd, os::Fd> pair_of(int type) {
  std::array<int, 2> fds{-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds.data()), 0);
  return {os::Fd(fds[0]), os::Fd(fds[1])};
}

Message request(std::string_view bytes) {
  Message message;
  message.kind = Kind::ReadyRequest;
  message.bytes = as_bytes(bytes);
  return message;
}

// For what changes limits or ids of the process: the test's verdict is the exit code, 0 for good.
int in_child(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

void set_descriptor_limit(rlim_t limit) {
  rlimit limits{};
  ::getrlimit(RLIMIT_NOFILE, &limits);
  limits.rlim_cur = limit;
  ::setrlimit(RLIMIT_NOFILE, &limits);
}

// The lowest free descriptor; -1 when there is none.
int open_another() {
  return ::fcntl(2, F_DUPFD_CLOEXEC, 0);
}

// Leaves room for `spare` more descriptors.
void use_up_descriptors(int spare) {
  set_descriptor_limit(64);
  std::vector<int> fds;
  for (int fd = open_another(); fd >= 0; fd = open_another())
    fds.push_back(fd);
  for (int i = 0; i < spare; ++i) {
    ::close(fds.back());
    fds.pop_back();
  }
}

class TransferTest : public ::testing::Test {
 protected:
  // What a packet of this content and these descriptors is to the receiver.
  std::string verdict(Bytes packet, std::span<const int> fds) {
    EXPECT_EQ(send_packet(out_.get(), packet, fds), SendOutcome::Sent);
    const Incoming incoming = receive(in_.get(), buffer_);
    if (incoming.outcome == ReceiveOutcome::Received) return "received";
    if (incoming.outcome != ReceiveOutcome::Malformed) return "other";
    return std::string(incoming.reason);
  }

  std::pair<os::Fd, os::Fd> channel_ = pair_of(SOCK_SEQPACKET);
  os::Fd& out_ = channel_.first;
  os::Fd& in_ = channel_.second;
  std::pair<os::Fd, os::Fd> connection_ = pair_of(SOCK_STREAM);
  ReceiveBuffer buffer_{};
};

TEST_F(TransferTest, MovesAConnectionWithItsBytes) {
  ASSERT_EQ(send(out_.get(), request("GET"), connection_.first.get()), SendOutcome::Sent);
  connection_.first.reset();
  const Incoming incoming = receive(in_.get(), buffer_);
  ASSERT_EQ(incoming.outcome, ReceiveOutcome::Received);
  EXPECT_EQ(as_text(incoming.message.bytes), "GET");
  EXPECT_FALSE(incoming.memory.is_open());
  EXPECT_FALSE(incoming.file.is_open());
  EXPECT_EQ(::fcntl(incoming.connection.get(), F_GETFD), FD_CLOEXEC);
  ASSERT_EQ(::write(incoming.connection.get(), "hello", 5), 5);
  std::array<char, 8> answer{};
  EXPECT_EQ(::read(connection_.second.get(), answer.data(), answer.size()), 5);
  EXPECT_EQ(receive(in_.get(), buffer_).outcome, ReceiveOutcome::Empty);
}

TEST_F(TransferTest, LongBytesTravelInSealedMemory) {
  std::string text(300000, 'a');
  text[kInlineLimit] = 'b';
  text.back() = 'c';
  ASSERT_EQ(send(out_.get(), request(text), connection_.first.get()), SendOutcome::Sent);
  const Incoming incoming = receive(in_.get(), buffer_);
  ASSERT_EQ(incoming.outcome, ReceiveOutcome::Received) << incoming.reason;
  EXPECT_TRUE(incoming.message.bytes.empty());
  ASSERT_EQ(incoming.message.external_bytes, text.size());
  const auto bytes = read_memory(incoming.memory, 0, text.size());
  ASSERT_TRUE(bytes);
  EXPECT_TRUE(as_text(bytes.value()) == text);
  EXPECT_EQ(as_text(read_memory(incoming.memory, text.size() - 2, 2).value()), "ac");
  EXPECT_FALSE(read_memory(incoming.memory, 1, text.size()));
  EXPECT_EQ(::ftruncate(incoming.memory.get(), 0), -1);
  EXPECT_EQ(::pwrite(incoming.memory.get(), "x", 1, 0), -1);
}

TEST_F(TransferTest, MovesAFileBesideLongBytes) {
  const os::Fd file(::open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  const std::string text(5000, 'h');
  Message message = request(text);
  message.kind = Kind::UnsentFile;
  message.unsent_bytes = message.bytes_before_file = 5000;
  message.file_length = 10;
  ASSERT_EQ(send(out_.get(), message, connection_.first.get(), file.get()), SendOutcome::Sent);
  const Incoming incoming = receive(in_.get(), buffer_);
  ASSERT_EQ(incoming.outcome, ReceiveOutcome::Received) << incoming.reason;

  struct stat sent {};

  struct stat received {};

  ASSERT_EQ(::fstat(file.get(), &sent), 0);
  ASSERT_EQ(::fstat(incoming.file.get(), &received), 0);
  EXPECT_EQ(received.st_ino, sent.st_ino);
  EXPECT_TRUE(incoming.memory.is_open());
}

TEST_F(TransferTest, FullQueueIsAnOutcomeAndLosesNothing) {
  int sent = 0;
  SendOutcome outcome = SendOutcome::Sent;
  while (outcome == SendOutcome::Sent && sent < 100000) {
    outcome = send(out_.get(), request("x"), connection_.first.get());
    if (outcome == SendOutcome::Sent) ++sent;
  }
  EXPECT_EQ(outcome, SendOutcome::QueueFull);
  int received = 0;
  while (receive(in_.get(), buffer_).outcome == ReceiveOutcome::Received)
    ++received;
  EXPECT_EQ(received, sent);
  EXPECT_GT(sent, 0);
}

TEST_F(TransferTest, PacketLargerThanTheBufferIsAnOutcome) {
  const std::vector<std::byte> packet(std::size_t{250} * 1024);
  const int fd = connection_.first.get();
  EXPECT_EQ(send_packet(out_.get(), packet, {&fd, 1}), SendOutcome::TooLarge);
}

TEST_F(TransferTest, ClosedReceiverIsAnOutcome) {
  in_.reset();
  EXPECT_EQ(send(out_.get(), request("x"), connection_.first.get()), SendOutcome::PeerGone);
}

TEST_F(TransferTest, ClosedSenderIsAnOutcomeAfterItsLastMessage) {
  ASSERT_EQ(send(out_.get(), request("x"), connection_.first.get()), SendOutcome::Sent);
  out_.reset();
  EXPECT_EQ(receive(in_.get(), buffer_).outcome, ReceiveOutcome::Received);
  EXPECT_EQ(receive(in_.get(), buffer_).outcome, ReceiveOutcome::Closed);
}

TEST_F(TransferTest, TooManyDescriptorsInFlightAreAnOutcome) {
  EXPECT_EQ(in_child([&] {
              // The kernel counts per user and spares the privileged: as somebody whom nobody else is.
              const uid_t user = 30'000 + static_cast<uid_t>(::getpid() % 30'000);
              if (::geteuid() == 0 && ::setresuid(user, user, user) != 0) return 1;
              set_descriptor_limit(20);
              std::vector<os::Fd> channels;
              for (int i = 0; i < 100; ++i) {
                switch (send(out_.get(), request("x"), connection_.first.get())) {
                  case SendOutcome::Sent:
                    break;
                  case SendOutcome::TooManyInFlight:
                    // As soon as the receiver takes one, there is room again.
                    if (receive(in_.get(), buffer_).outcome != ReceiveOutcome::Received) return 2;
                    return send(out_.get(), request("x"), connection_.first.get()) ==
                                   SendOutcome::Sent
                               ? 0
                               : 3;
                  default:
                    return 4;
                }
              }
              return 5;
            }),
            0);
}

// Numbers taken before the descriptors are used up: a sanitizer that looks at an object needs one itself.
TEST_F(TransferTest, NoDescriptorForTheMemoryIsAnOutcome) {
  const int out = out_.get();
  const int fd = connection_.first.get();
  const std::string text(kInlineLimit + 1, 'x');
  EXPECT_EQ(in_child([&] {
              use_up_descriptors(0);
              if (send(out, request(text), fd) != SendOutcome::NoDescriptors) return 1;
              return send(out, request("x"), fd) == SendOutcome::Sent ? 0 : 2;
            }),
            0);
}

TEST_F(TransferTest, NoDescriptorForTheReceiverIsAnOutcome) {
  const int in = in_.get();
  ReceiveBuffer buffer;
  const std::string text(kInlineLimit + 1, 'x');
  for (const int spare : {0, 1}) {
    ASSERT_EQ(send(out_.get(), request(text), connection_.first.get()), SendOutcome::Sent);
    EXPECT_EQ(in_child([&] {
                use_up_descriptors(spare);
                if (receive(in, buffer).outcome != ReceiveOutcome::NoDescriptors) return 1;
                // What came of it was closed again.
                for (int i = 0; i < spare; ++i) {
                  if (open_another() < 0) return 2;
                }
                return 0;
              }),
              0);
  }
}

TEST_F(TransferTest, RefusesWhatIsNoMessageOfOurs) {
  EncodedMessage buffer;
  const int socket = connection_.first.get();
  const os::Fd file(::open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  const os::Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Bytes good = encode(request("x"), buffer);
  EXPECT_EQ(verdict(good, std::array{socket}), "received");
  EXPECT_THAT(verdict(good, {}), HasSubstr("descriptors that belong"));
  EXPECT_THAT(verdict(good, std::array{socket, socket}), HasSubstr("descriptors that belong"));
  EXPECT_THAT(verdict(good, std::array{file.get()}), HasSubstr("not a socket"));
  EXPECT_THAT(verdict(good.first(20), std::array{socket}), HasSubstr("too short"));
  EXPECT_THAT(verdict(as_bytes(std::string(kHeadSize, 'x')), std::array{socket}),
              HasSubstr("not a handover message"));
  const std::vector<std::byte> longer(kMaxEncodedSize + 1);
  EXPECT_THAT(verdict(longer, std::array{socket}), HasSubstr("longer than any"));

  EncodedMessage file_buffer;
  Message with_file = request("x");
  with_file.kind = Kind::UnsentFile;
  with_file.file_length = 1;
  const Bytes file_message = encode(with_file, file_buffer);
  EXPECT_EQ(verdict(file_message, std::array{socket, file.get()}), "received");
  EXPECT_THAT(verdict(file_message, std::array{socket, null.get()}), HasSubstr("not a regular"));
}

TEST_F(TransferTest, RefusesMoreDescriptorsThanAnyMessageHas) {
  EncodedMessage buffer;
  const Bytes good = encode(request("x"), buffer);
  // By hand: send_packet would not do this.
  constexpr std::size_t kCount = kMostDescriptors + 4;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kCount * sizeof(int))> control{};
  iovec piece{const_cast<std::byte*>(good.data()), good.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* part = CMSG_FIRSTHDR(&header);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(kCount * sizeof(int));
  std::array<int, kCount> fds{};
  fds.fill(connection_.first.get());
  std::memcpy(CMSG_DATA(part), fds.data(), sizeof fds);
  const int before = open_another();
  ASSERT_EQ(::sendmsg(out_.get(), &header, 0), static_cast<ssize_t>(good.size()));
  const Incoming incoming = receive(in_.get(), buffer_);
  EXPECT_EQ(incoming.outcome, ReceiveOutcome::Malformed);
  EXPECT_THAT(std::string(incoming.reason), HasSubstr("too many"));
  const int after = open_another();
  EXPECT_EQ(after, before + 1);  // all that came was closed
  ::close(before);
  ::close(after);
}

TEST_F(TransferTest, RefusesMemoryThatCouldChangeOrIsTooShort) {
  EncodedMessage buffer;
  Message message = request("");
  message.external_bytes = 5000;
  const Bytes packet = encode(message, buffer);
  const auto with_memory = [&](off_t size, int seals) {
    const os::Fd memory(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(::ftruncate(memory.get(), size), 0);
    EXPECT_EQ(::fcntl(memory.get(), F_ADD_SEALS, seals), 0);
    return verdict(packet, std::array{connection_.first.get(), memory.get()});
  };
  EXPECT_EQ(with_memory(5000, F_SEAL_SHRINK | F_SEAL_WRITE), "received");
  EXPECT_THAT(with_memory(4999, F_SEAL_SHRINK | F_SEAL_WRITE), HasSubstr("not sealed"));
  EXPECT_THAT(with_memory(5000, F_SEAL_SHRINK), HasSubstr("not sealed"));
  EXPECT_THAT(with_memory(5000, F_SEAL_WRITE), HasSubstr("not sealed"));
  const os::Fd file(::open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(verdict(packet, std::array{connection_.first.get(), file.get()}),
              HasSubstr("not sealed"));
}

TEST(SendOutcome, KnowsTheErrorsThatWereSeen) {
  EXPECT_EQ(send_outcome(0), SendOutcome::Sent);
  EXPECT_EQ(send_outcome(EAGAIN), SendOutcome::QueueFull);
  EXPECT_EQ(send_outcome(ETOOMANYREFS), SendOutcome::TooManyInFlight);
  EXPECT_EQ(send_outcome(EMSGSIZE), SendOutcome::TooLarge);
  for (const int error : {EMFILE, ENFILE})
    EXPECT_EQ(send_outcome(error), SendOutcome::NoDescriptors);
  for (const int error : {ENOMEM, ENOBUFS, ENOSPC})
    EXPECT_EQ(send_outcome(error), SendOutcome::NoMemory);
  for (const int error : {EPIPE, ECONNRESET, ENOTCONN, ECONNREFUSED})
    EXPECT_EQ(send_outcome(error), SendOutcome::PeerGone);
  EXPECT_THROW((void)send_outcome(EBADF), os::SystemError);
}

}  // namespace
}  // namespace bladepsgi::handoff
