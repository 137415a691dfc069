#include "os/socket.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/text.h"
#include "os/system_error.h"

namespace bladepsgi::os {

OwnedPath::OwnedPath(std::string path) : path_(std::move(path)), creator_(::getpid()) {
  struct stat info {};

  if (::lstat(path_.c_str(), &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
}

OwnedPath::OwnedPath(const FileIdentity& identity)
    : path_(identity.path),
      device_(static_cast<dev_t>(identity.device)),
      inode_(static_cast<ino_t>(identity.inode)),
      creator_(::getpid()) {}

FileIdentity OwnedPath::identity() const {
  return {.path = path_, .device = device_, .inode = inode_};
}

OwnedPath::OwnedPath(OwnedPath&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      device_(other.device_),
      inode_(other.inode_),
      creator_(other.creator_) {}

OwnedPath& OwnedPath::operator=(OwnedPath&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
  std::swap(creator_, other.creator_);
  return *this;
}

Result<void> OwnedPath::rename_to(const std::string& path) {
  if (::rename(path_.c_str(), path.c_str()) != 0) {
    return fail(system_failure(errno, "move '" + path_ + "' to", path));
  }
  path_ = path;
  return {};
}

void OwnedPath::remove() noexcept {
  if (path_.empty() || creator_ != ::getpid()) return;

  struct stat info {};

  if (::lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  path_.clear();
}

namespace {

struct Address {
  sockaddr_un raw{};
  socklen_t size = 0;
  Fd directory;  // keeps /proc/self/fd/N/… valid until the address has been used
};

constexpr std::size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;

// Paths that only our own temporary name makes too long go through the directory's descriptor.
Result<Address> make_address(const std::string& path) {
  Address address;
  std::string name = path;
  if (name.size() > kMaxPath) {
    const std::size_t slash = path.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    address.directory = Fd(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!address.directory.is_open())
      return fail(system_failure(errno, "open directory", directory));
    name = "/proc/self/fd/" + std::to_string(address.directory.get()) + "/" +
           (slash == std::string::npos ? path : path.substr(slash + 1));
    if (name.size() > kMaxPath) {
      return fail(Remedy::Refuse, "socket path '" + path + "' is longer than " +
                                      std::to_string(kMaxPath) + " bytes");
    }
  }
  address.raw.sun_family = AF_UNIX;
  std::memcpy(address.raw.sun_path, name.data(), name.size());
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1);
  return address;
}

// What already stands at a path where a socket is wanted. Refuses what must not be replaced; returns the path to
// replace, with symbolic links to sockets resolved.
Result<std::string> check_replaceable(const std::string& path) {
  struct stat info {};

  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return path;
    return fail(system_failure(errno, "look at socket path", path));
  }
  std::string target = path;
  if (S_ISLNK(info.st_mode)) {
    if (::stat(path.c_str(), &info) != 0) {
      return fail(Remedy::Refuse, "socket path '" + path +
                                      "' is a symbolic link that leads nowhere: " +
                                      describe_errno(errno) + "; remove it first");
    }
    std::array<char, PATH_MAX> resolved{};
    if (::realpath(path.c_str(), resolved.data()) == nullptr) {
      return fail(system_failure(errno, "resolve socket path", path));
    }
    target = resolved.data();
  }
  if (!S_ISSOCK(info.st_mode)) {
    return fail(Remedy::Refuse,
                "socket path '" + path + "' exists and is not a socket; it is left alone");
  }
  auto address = make_address(target);
  if (!address) return fail(address.error());
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.is_open()) return fail(system_failure(errno, "create socket"));
  // EAGAIN: alive, its queue is full. A socket we may not connect to cannot be known to be stale.
  const int connected =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address->raw), address->size);
  if (connected == 0 || errno == EAGAIN) {
    return fail(Remedy::Refuse,
                "socket path '" + path + "' is in use: something is accepting connections on it");
  }
  if (errno != ECONNREFUSED && errno != ENOENT)
    return fail(system_failure(errno, "see whether anything serves on socket path", path));
  return target;
}

constexpr std::string_view kTemporaryPrefix = ".bladepsgi-";

// A start that was killed could not remove its temporary names; the pid in them is nobody's any more.
void remove_leftovers(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(directory.c_str()), &::closedir);
  if (!entries) return;
  while (const dirent* entry = ::readdir(entries.get())) {
    std::string_view name = entry->d_name;
    if (!name.starts_with(kTemporaryPrefix)) continue;
    name.remove_prefix(kTemporaryPrefix.size());
    const auto pid = parse_decimal(name.substr(0, name.find('-')));
    if (!pid || *pid == 0 || *pid > INT_MAX || ::kill(static_cast<pid_t>(*pid), 0) == 0 ||
        errno != ESRCH)
      continue;

    struct stat info {};

    if (::fstatat(::dirfd(entries.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISSOCK(info.st_mode)) {
      ::unlinkat(::dirfd(entries.get()), entry->d_name, 0);
    }
  }
}

std::string temporary_name(const std::string& path) {
  static unsigned count = 0;
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  remove_leftovers(directory.empty() ? "." : directory);
  return directory + std::string(kTemporaryPrefix) + std::to_string(::getpid()) + "-" +
         std::to_string(count++);
}

}  // namespace

Result<std::unique_ptr<UnixListener>> UnixListener::create(const std::string& path,
                                                           int backlog,
                                                           const SocketAccess& access) {
  if (path.empty()) return fail(Remedy::Refuse, "socket path is empty");
  if (path.size() > kMaxPath) {
    return fail(Remedy::Refuse,
                "socket path '" + path + "' is longer than " + std::to_string(kMaxPath) + " bytes");
  }
  if (auto target = check_replaceable(path); !target) return fail(target.error());

  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.is_open()) return fail(system_failure(errno, "create socket"));
  const std::string temporary = temporary_name(path);
  auto address = make_address(temporary);
  if (!address) return fail(address.error());
  ::unlink(temporary.c_str());  // of an earlier process with our pid
  const mode_t mask = ::umask(0177);
  const int bound =
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address->raw), address->size);
  const int bind_error = errno;
  ::umask(mask);
  if (bound != 0) return fail(system_failure(bind_error, "bind listening socket", path));
  OwnedPath file(temporary);

  if (access.owner || access.group) {
    const uid_t owner = access.owner.value_or(static_cast<uid_t>(-1));
    const gid_t group = access.group.value_or(static_cast<gid_t>(-1));
    if (::chown(temporary.c_str(), owner, group) != 0)
      return fail(system_failure(errno,
                                 "give the socket the owner and group asked for (only root may "
                                 "give files away, and to groups "
                                 "that one is no member of)",
                                 path));
  }
  if (::chmod(temporary.c_str(), access.mode) != 0)
    return fail(system_failure(errno, "set mode of socket", path));
  if (::listen(fd.get(), backlog) != 0)
    return fail(system_failure(errno, "listen on socket", path));
  return std::unique_ptr<UnixListener>(new UnixListener(path, std::move(fd), std::move(file)));
}

std::unique_ptr<UnixListener> UnixListener::restore(const ListenerRecord& record) {
  std::unique_ptr<UnixListener> listener(
      new UnixListener(record.name, Fd(record.fd), OwnedPath(record.file)));
  listener->is_published_ = record.is_published;
  return listener;
}

ListenerRecord UnixListener::record() const {
  return {.kind = ListenerRecord::Kind::Unix,
          .fd = fd(),
          .transport = transport(),
          .name = name(),
          .file = file_.identity(),
          .is_published = is_published_};
}

Result<void> UnixListener::publish() {
  if (is_published_) return {};
  auto target = check_replaceable(path());
  if (!target) return fail(target.error());
  if (auto renamed = file_.rename_to(*target); !renamed) return renamed;
  is_published_ = true;
  return {};
}

std::pair<Fd, Fd> make_message_pair() {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    throw SystemError(errno, "create socket pair");
  }
  return {Fd(fds[0]), Fd(fds[1])};
}

Pipe make_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) throw SystemError(errno, "create pipe");
  return {Fd(fds[0]), Fd(fds[1])};
}

void set_non_blocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
    throw SystemError(errno, "make descriptor non-blocking");
}

std::optional<Peer> peer_of(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return Peer{.pid = peer.pid, .user = peer.uid};
}

bool is_deserted_socket(const std::string& path) {
  struct stat info {};

  if (::lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  const auto address = make_address(path);
  if (!address) return false;
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return probe.is_open() &&
         ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address->raw), address->size) !=
             0 &&
         errno == ECONNREFUSED;
}

bool is_unix_socket(int fd) {
  int family = 0;
  socklen_t size = sizeof family;
  return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 && family == AF_UNIX;
}

bool has_hung_up(int fd) {
  pollfd state{.fd = fd, .events = 0, .revents = 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & POLLHUP) != 0;
}

int backlog_limit() {
  const Fd file(::open("/proc/sys/net/core/somaxconn", O_RDONLY | O_CLOEXEC));
  std::array<char, 32> text{};
  if (!file.is_open()) return 0;
  const ssize_t size = ::read(file.get(), text.data(), text.size());
  if (size <= 0) return 0;
  std::string_view number(text.data(), static_cast<std::size_t>(size));
  while (!number.empty() && number.back() == '\n')
    number.remove_suffix(1);
  const auto limit = parse_decimal(number);
  return limit && *limit <= INT_MAX ? static_cast<int>(*limit) : 0;
}

namespace {

constexpr std::size_t kMaxDescriptors = 16;

}  // namespace

Result<void> send_message(int socket, Bytes message, std::span<const int> fds) {
  iovec part{.iov_base = const_cast<std::byte*>(message.data()), .iov_len = message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxDescriptors)> control{};
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* entry = CMSG_FIRSTHDR(&header);
    entry->cmsg_level = SOL_SOCKET;
    entry->cmsg_type = SCM_RIGHTS;
    entry->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(entry), fds.data(), fds.size_bytes());
  }
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return fail(system_failure(errno, "send message"));
  return {};
}

Result<std::optional<Received>> receive_message(int socket, WritableBytes into) {
  iovec part{.iov_base = into.data(), .iov_len = into.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxDescriptors)> control{};
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t size = -1;
  do {
    size = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0 && errno == EAGAIN) return std::optional<Received>();
  if (size < 0) return fail(system_failure(errno, "receive message"));
  Received received;
  received.size = static_cast<std::size_t>(size);
  for (cmsghdr* entry = CMSG_FIRSTHDR(&header); entry != nullptr;
       entry = CMSG_NXTHDR(&header, entry)) {
    if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (entry->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(entry) + i * sizeof(int), sizeof fd);
      received.fds.emplace_back(fd);
    }
  }
  if ((header.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0) {
    return fail(Remedy::GiveUp, "message between processes was cut short");
  }
  return std::optional<Received>(std::move(received));
}

}  // namespace bladepsgi::os
