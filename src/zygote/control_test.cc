#include "zygote/control.h"

#include <array>

#include <gtest/gtest.h>

#include "os/socket.h"

namespace bladepsgi::zygote {
namespace {

TEST(Control, CarriesMessageTextAndDescriptors) {
  auto [overseer, zygote] = os::make_message_pair();
  os::Pipe pipe = os::make_pipe();
  const std::array<int, 1> fds{pipe.write.get()};
  ASSERT_TRUE(send(overseer.get(), {.kind = MessageKind::ForkAuxiliary, .slot = 7, .number = 2},
                   "heartbeat", fds));
  bool is_closed = true;
  const auto received = receive(zygote.get(), is_closed);
  ASSERT_TRUE(received && *received);
  EXPECT_FALSE(is_closed);
  EXPECT_EQ((*received)->message.kind, MessageKind::ForkAuxiliary);
  EXPECT_EQ((*received)->message.slot, 7U);
  EXPECT_EQ((*received)->message.number, 2U);
  EXPECT_EQ((*received)->text, "heartbeat");
  EXPECT_EQ((*received)->fds.size(), 1U);
}

TEST(Control, TellsNothingThereFromClosed) {
  auto [overseer, zygote] = os::make_message_pair();
  os::set_non_blocking(overseer.get());
  bool is_closed = true;
  auto received = receive(overseer.get(), is_closed);
  ASSERT_TRUE(received);
  EXPECT_FALSE(*received);
  EXPECT_FALSE(is_closed);
  zygote.reset();
  received = receive(overseer.get(), is_closed);
  ASSERT_TRUE(received);
  EXPECT_FALSE(*received);
  EXPECT_TRUE(is_closed);
}

TEST(Control, RefusesWhatIsTooShortForAMessage) {
  auto [overseer, zygote] = os::make_message_pair();
  ASSERT_TRUE(os::send_message(zygote.get(), as_bytes("x")));
  bool is_closed = false;
  EXPECT_FALSE(receive(overseer.get(), is_closed));
}

}  // namespace
}  // namespace bladepsgi::zygote
