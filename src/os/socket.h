// Sockets: UNIX listeners that appear only when somebody answers on them, and small messages between our own processes.
#pragma once

#include <sys/types.h>
#include <sys/un.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "os/fd.h"
#include "os/file_identity.h"
#include "os/listener.h"

namespace bladepsgi::os {

// A file of ours. Removed at the end, only by the process that created it and only while it is still the same file.
class OwnedPath {
 public:
  OwnedPath() = default;
  explicit OwnedPath(std::string path);  // the file exists
  // What identity() said before this process became another program: it is removed as if nothing had happened.
  explicit OwnedPath(const FileIdentity& identity);
  OwnedPath(const OwnedPath&) = delete;
  OwnedPath& operator=(const OwnedPath&) = delete;
  OwnedPath(OwnedPath&& other) noexcept;
  OwnedPath& operator=(OwnedPath&& other) noexcept;

  ~OwnedPath() { remove(); }

  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] FileIdentity identity() const;

  // Moves the file, replacing what is there.
  Result<void> rename_to(const std::string& path);
  void remove() noexcept;

 private:
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  pid_t creator_ = 0;
};

struct SocketAccess {
  mode_t mode = 0660;
  std::optional<uid_t> owner;
  std::optional<gid_t> group;
};

// A listening UNIX socket, non-blocking. It is bound under a temporary name in the same directory and listens there, so
// that a start that fails never touches what works; publish() gives it its name.
class UnixListener final : public Listener {
 public:
  // Refuses a path too long for sun_path, one that is not a socket, and one that something is accepting on.
  static Result<std::unique_ptr<UnixListener>> create(const std::string& path,
                                                      int backlog,
                                                      const SocketAccess& access);

  // As it was; `record` is of this kind.
  static std::unique_ptr<UnixListener> restore(const ListenerRecord& record);

  // Checks again that nothing is accepting on the path, then replaces what is there.
  Result<void> publish() override;

  [[nodiscard]] ListenerRecord record() const override;

  void remove() noexcept override { file_.remove(); }

  [[nodiscard]] const std::string& path() const { return name(); }  // as given

  [[nodiscard]] bool is_published() const { return is_published_; }

 private:
  UnixListener(std::string path, Fd fd, OwnedPath file)
      : Listener(std::move(fd), Transport::Unix, std::move(path)), file_(std::move(file)) {}

  OwnedPath file_;
  bool is_published_ = false;
};

// A connected pair of SOCK_SEQPACKET sockets, close-on-exec.
[[nodiscard]] std::pair<Fd, Fd> make_message_pair();

struct Pipe {
  Fd read;
  Fd write;
};

[[nodiscard]] Pipe make_pipe();
void set_non_blocking(int fd);

// The kernel's bound on the backlog of a listener; 0 when it cannot be read.
[[nodiscard]] int backlog_limit();

// Who is at the other end of a UNIX socket, as it was when it connected or began to listen.
struct Peer {
  pid_t pid = 0;  // 0: of a pid namespace that we do not see
  uid_t user = 0;
};

// Empty: there is none.
[[nodiscard]] std::optional<Peer> peer_of(int fd);

// Nobody listens there any more: there is a socket at the path, and whoever connects is refused. Of a listener whose path appears only
// when it listens (UnixListener) that does not change again.
[[nodiscard]] bool is_deserted_socket(const std::string& path);

// Of the UNIX family, whatever it is connected to.
[[nodiscard]] bool is_unix_socket(int fd);

// Nobody is at the other end any more.
[[nodiscard]] bool has_hung_up(int fd);

// One message with descriptors over a SOCK_SEQPACKET socket. Waits for room unless the socket is non-blocking.
Result<void> send_message(int socket, Bytes message, std::span<const int> fds = {});

struct Received {
  std::size_t size = 0;  // 0: the other side has closed
  std::vector<Fd> fds;
};

// Empty when the socket is non-blocking and nothing is there.
Result<std::optional<Received>> receive_message(int socket, WritableBytes into);

}  // namespace bladepsgi::os
