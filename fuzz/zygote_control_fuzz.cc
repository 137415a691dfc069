// Messages between overseer and zygote, as application code in a zygote's process could forge them: received whole or refused, and no
// descriptor that came with one is left open. The first byte says how many come.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "check.h"
#include "os/fd.h"
#include "os/socket.h"
#include "zygote/control.h"

namespace {

std::size_t open_descriptors() {
  std::size_t count = 0;
  for (int fd = 0; fd < 64; ++fd)
    count += ::fcntl(fd, F_GETFD) >= 0 ? 1U : 0U;
  return count;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace zygote = bladepsgi::zygote;
  if (size < 2 || size > 4096) return 0;
  const std::size_t before = open_descriptors();
  {
    std::array<int, 2> fds{};
    FUZZ_CHECK(
        ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()) == 0);
    const bladepsgi::os::Fd sender(fds[0]);
    const bladepsgi::os::Fd receiver(fds[1]);
    const std::vector<int> passed(data[0] % 8, sender.get());
    const bladepsgi::Bytes packet(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
    const bool is_sent = bladepsgi::os::send_message(sender.get(), packet, passed).has_value();
    bool is_closed = false;
    const auto received = zygote::receive(receiver.get(), is_closed);
    FUZZ_CHECK(!is_closed);
    if (is_sent && received && *received) {
      FUZZ_CHECK(packet.size() >= sizeof(zygote::Message));
      FUZZ_CHECK((*received)->text.size() <= zygote::kMaxText);
      FUZZ_CHECK((*received)->fds.size() <= passed.size());
    }
    if (is_sent && packet.size() < sizeof(zygote::Message)) FUZZ_CHECK(!received);
  }
  FUZZ_CHECK(open_descriptors() == before);
  return 0;
}
