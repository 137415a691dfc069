#include "zygote/control.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "os/socket.h"

namespace bladepsgi::zygote {

Result<void> send(int socket,
                  const Message& message,
                  std::string_view text,
                  std::span<const int> fds) {
  std::array<std::byte, sizeof(Message) + kMaxText> bytes;
  text = text.substr(0, kMaxText);
  std::memcpy(bytes.data(), &message, sizeof message);
  // Not memcpy: an empty text may have no address.
  std::copy(text.begin(), text.end(), reinterpret_cast<char*>(bytes.data()) + sizeof message);
  return os::send_message(socket, Bytes(bytes).first(sizeof message + text.size()), fds);
}

Result<std::optional<ReceivedMessage>> receive(int socket, bool& is_closed) {
  is_closed = false;
  std::array<std::byte, sizeof(Message) + kMaxText> bytes;
  auto received = os::receive_message(socket, bytes);
  if (!received) return fail(received.error());
  if (!*received) return std::optional<ReceivedMessage>();
  os::Received& raw = **received;
  if (raw.size == 0) {
    is_closed = true;
    return std::optional<ReceivedMessage>();
  }
  if (raw.size < sizeof(Message))
    return fail(Remedy::GiveUp, "message between overseer and zygote is too short");
  ReceivedMessage result;
  std::memcpy(&result.message, bytes.data(), sizeof(Message));
  result.text = as_text(Bytes(bytes).subspan(sizeof(Message), raw.size - sizeof(Message)));
  result.fds = std::move(raw.fds);
  return std::optional<ReceivedMessage>(std::move(result));
}

}  // namespace bladepsgi::zygote
