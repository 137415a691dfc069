#include "lobby/passing.h"

#include <vector>

#include "base/bytes.h"
#include "base/wipe.h"
#include "lobby/table.h"

namespace bladepsgi::lobby {

using shm::Holding;

Result<handoff::SendOutcome> pass_on(int channel,
                                     const Guest& guest,
                                     Holding holding,
                                     os::Monotonic deadline,
                                     os::Monotonic now) {
  const Bytes received = guest.waiting.bytes();
  handoff::Message message;
  message.protocol = guest.waiting.protocol();
  if (holding == Holding::Closing) {
    message.kind = handoff::Kind::Closing;
    message.progress_deadline = as_deadline(deadline);
    return handoff::send(channel, message, guest.connection.get());
  }
  if (!received.empty()) message.replies = guest.waiting.replies();
  if (guest.sending) {
    std::vector<std::byte> bytes;
    if (auto described = guest.sending->describe(message, bytes); !described)
      return fail(described.error());
    bytes.insert(bytes.end(), received.begin(), received.end());
    message.bytes = bytes;
    const int file = message.kind == handoff::Kind::UnsentFile ? guest.sending->file() : -1;
    const handoff::SendOutcome outcome =
        handoff::send(channel, message, guest.connection.get(), file);
    wipe(bytes);
    return outcome;
  }
  if (received.empty()) {
    message.kind = handoff::Kind::Idle;
    if (guest.is_fresh) message.started = as_deadline(guest.started);
    if (deadline != Table::kNever) message.progress_deadline = as_deadline(deadline);
  } else {
    message.kind = handoff::Kind::PartialRequest;
    message.bytes = received;
    // The time of one that nobody listens to, as workers are behind, does not run.
    const bool is_paused = holding == Holding::Head && deadline == Table::kNever;
    message.started = as_deadline(is_paused ? now : guest.started);
  }
  return handoff::send(channel, message, guest.connection.get());
}

}  // namespace bladepsgi::lobby
