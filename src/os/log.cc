#include "os/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <utility>

#include "base/text.h"

namespace bladepsgi::os {

namespace {

constexpr char kMagic = '\x1e';
enum class FrameKind : char { Text = 'T', Ready = 'R', Access = 'A', Wish = 'W' };
constexpr char kMore = 1;  // flag: the next frame continues this message

struct FrameHeader {
  char magic = kMagic;
  FrameKind kind = FrameKind::Text;
  Severity severity = Severity::Log;
  char flags = 0;
  std::uint32_t size = 0;
};

static_assert(sizeof(FrameHeader) == 8);

constexpr std::size_t kMaxPayload = PIPE_BUF - sizeof(FrameHeader);

// A frame is one write(2). Errors have nowhere to go: the overseer has died, and this process is about to.
void write_frame(int fd, FrameHeader header, std::string_view payload) noexcept {
  std::array<char, PIPE_BUF> frame;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled below
  header.size = static_cast<std::uint32_t>(payload.size());
  std::memcpy(frame.data(), &header, sizeof header);
  std::memcpy(frame.data() + sizeof header, payload.data(), payload.size());
  while (::write(fd, frame.data(), sizeof header + payload.size()) < 0 && errno == EINTR) {
  }
}

void write_pid(int fd, FrameKind kind, pid_t pid) noexcept {
  if (fd < 0) return;
  std::array<char, sizeof pid> payload{};
  std::memcpy(payload.data(), &pid, sizeof pid);
  write_frame(fd, {.kind = kind}, {payload.data(), payload.size()});
}

}  // namespace

void LogChannel::text(Severity severity, std::string_view text) const noexcept {
  const int saved = errno;
  if (fd_ < 0) {
    [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    written = ::write(STDERR_FILENO, "\n", 1);
  } else {
    do {
      const std::string_view piece = text.substr(0, kMaxPayload);
      text.remove_prefix(piece.size());
      write_frame(fd_, {.severity = severity, .flags = text.empty() ? '\0' : kMore}, piece);
    } while (!text.empty());
  }
  errno = saved;
}

void LogChannel::access(std::string_view line) const noexcept {
  if (fd_ < 0) return;
  const int saved = errno;
  do {
    const std::string_view piece = line.substr(0, kMaxPayload);
    line.remove_prefix(piece.size());
    write_frame(fd_, {.kind = FrameKind::Access, .flags = line.empty() ? '\0' : kMore}, piece);
  } while (!line.empty());
  errno = saved;
}

void LogChannel::ready(pid_t pid) const noexcept {
  write_pid(fd_, FrameKind::Ready, pid);
}

void LogChannel::wants_replacement(pid_t pid) const noexcept {
  write_pid(fd_, FrameKind::Wish, pid);
}

bool LogFrames::feed(std::string_view bytes, const Handler& handler) {
  held_.append(bytes);
  std::string_view rest = held_;
  bool sound = true;
  while (rest.size() >= sizeof(FrameHeader)) {
    FrameHeader header;
    std::memcpy(&header, rest.data(), sizeof header);
    if (header.magic != kMagic || header.size > kMaxPayload || header.severity > Severity::Panic) {
      sound = false;
      rest = {};
      text_.clear();
      break;
    }
    if (rest.size() < sizeof header + header.size) break;
    const std::string_view payload = rest.substr(sizeof header, header.size);
    rest.remove_prefix(sizeof header + header.size);
    if (header.kind == FrameKind::Ready || header.kind == FrameKind::Wish) {
      pid_t pid = 0;
      if (payload.size() == sizeof pid) {
        std::memcpy(&pid, payload.data(), sizeof pid);
        if (header.kind == FrameKind::Ready) handler.on_ready(pid);
        if (header.kind == FrameKind::Wish && handler.on_wish) handler.on_wish(pid);
      }
      continue;
    }
    constexpr std::size_t kMost =
        std::size_t{4} * 1024 * 1024;  // a message without end must not fill our memory
    if (header.kind == FrameKind::Access) {
      // What is too long ends early; its rest must not look like a line of its own.
      if (access_.size() < kMost) access_.append(payload);
      if ((header.flags & kMore) != 0) continue;
      if (handler.on_access) handler.on_access(access_);
      access_.clear();
      continue;
    }
    text_.append(payload);
    if ((header.flags & kMore) != 0 && text_.size() < kMost) continue;
    handler.on_text(header.severity, text_);
    text_.clear();
  }
  held_.erase(0, held_.size() - rest.size());
  return sound;
}

void LineSplitter::feed(std::string_view bytes,
                        const std::function<void(std::string_view)>& on_line) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    if (held_.empty() && end != std::string_view::npos && piece.size() <= kMaxLine) {
      on_line(piece);
    } else {
      held_.append(piece);
      std::string_view line = held_;
      while (line.size() > kMaxLine) {
        on_line(line.substr(0, kMaxLine));
        line.remove_prefix(kMaxLine);
      }
      if (end != std::string_view::npos) {
        on_line(line);
        line = {};
      }
      held_.erase(0, held_.size() - line.size());
    }
    if (end == std::string_view::npos) return;
    bytes.remove_prefix(end + 1);
  }
}

void LineSplitter::finish(const std::function<void(std::string_view)>& on_line) {
  if (!held_.empty()) on_line(held_);
  held_.clear();
}

LogWriter::LogWriter(int fd) {
  change_to(fd);
}

void LogWriter::change_to(int fd) {
  fd_ = fd;
  reopened_.reset();

  struct stat info {};

  if (::fstat(fd, &info) != 0) return;
  // O_NONBLOCK belongs to the open file description, which the shell that started us shares; so one of our own. Files are
  // never stuck, and sockets cannot be opened anew: there a write waits only after poll said that it would not.
  if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    reopened_ = Fd(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
    if (reopened_.is_open()) fd_ = reopened_.get();
  }
}

std::string LogWriter::prefix(Severity severity, std::string_view role, pid_t pid) {
  const auto now = std::chrono::floor<std::chrono::milliseconds>(wall_clock_now());
  const auto whole = std::chrono::floor<std::chrono::seconds>(now);
  const std::time_t second = std::chrono::system_clock::to_time_t(whole);
  if (second != stamped_second_) {
    std::tm local{};
    ::localtime_r(&second, &local);
    stamp_ =
        fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", local.tm_year + 1900, local.tm_mon + 1,
                    local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec);
    stamped_second_ = second;
  }
  const auto milliseconds = (now - whole).count();
  if (role.empty())
    return fmt::format("{}.{:03} {}:  ", stamp_, milliseconds, severity_word(severity));
  return fmt::format("{}.{:03} {}:  {}[{}]: ", stamp_, milliseconds, severity_word(severity), role,
                     pid);
}

namespace {

// As it is, but for control characters: they could move a terminal's cursor or make a file look binary.
void append_shown(std::string& line, std::string_view text) {
  const auto is_control = [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == '\x7f';
  };
  while (!text.empty()) {
    const auto found = std::find_if(text.begin(), text.end(), is_control);
    const auto plain = static_cast<std::size_t>(found - text.begin());
    line += text.substr(0, plain);
    text.remove_prefix(plain);
    if (text.empty()) return;
    line += printable(text.substr(0, 1));
    text.remove_prefix(1);
  }
}

}  // namespace

void LogWriter::write(Severity severity,
                      std::string_view role,
                      pid_t pid,
                      std::string_view text,
                      Origin origin) {
  while (!text.empty() && text.back() == '\n')
    text.remove_suffix(1);
  const std::string head = prefix(severity, role, pid);
  while (true) {
    const std::size_t end = text.find('\n');
    std::string line = head;
    append_shown(line, text.substr(0, end));
    line += '\n';
    put(std::move(line), origin);
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

void LogWriter::write_line(std::string_view text, Origin origin) {
  std::string line(text);
  line += '\n';
  put(std::move(line), origin);
}

void LogWriter::put(std::string line, Origin origin) {
  if (backlog_.empty()) {
    std::string_view rest = line;
    if (try_write(rest)) return;
    began_ = monotonic_now();
    backlog_bytes_ += rest.size();
    backlog_.emplace_back(rest);
    return;
  }
  if (backlog_bytes_ > (origin == Origin::Application ? kApplicationBacklog : kBacklog)) {
    ++outage_.dropped;
    return;
  }
  backlog_bytes_ += line.size();
  backlog_.push_back(std::move(line));
}

bool LogWriter::try_write(std::string_view& bytes) {
  error_ = 0;
  while (!bytes.empty()) {
    std::string_view piece = bytes;
    if (!reopened_.is_open()) {
      pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
      if (::poll(&ready, 1, 0) == 0) return false;
      piece = bytes.substr(0, PIPE_BUF);
    }
    const ssize_t written = ::write(fd_, piece.data(), piece.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) outage_.error = error_ = errno;
      return false;
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

void LogWriter::flush() {
  while (!backlog_.empty()) {
    std::string_view rest = backlog_.front();
    const std::size_t before = rest.size();
    const bool done = try_write(rest);
    backlog_bytes_ -= before - rest.size();
    if (!done) {
      // A line that was begun is ended when there is room.
      backlog_.front().erase(0, before - rest.size());
      return;
    }
    backlog_.pop_front();
    if (backlog_.empty()) outage_.took = monotonic_now() - began_;
  }
}

std::optional<LogWriter::Outage> LogWriter::take_outage() {
  if (!backlog_.empty() || (outage_.error == 0 && outage_.dropped == 0)) return std::nullopt;
  return std::exchange(outage_, {});
}

void LogWriter::drain(std::chrono::milliseconds limit) {
  const Monotonic deadline = monotonic_now() + limit;
  flush();
  while (obstacle() == Obstacle::Full) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - monotonic_now());
    if (left.count() <= 0) return;
    pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
    ::poll(&ready, 1, static_cast<int>(left.count()));
    flush();
  }
}

}  // namespace bladepsgi::os
