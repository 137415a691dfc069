#include "lobby/lobby.h"

#include <fmt/format.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <deque>
#include <limits>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/wipe.h"
#include "handoff/transfer.h"
#include "lobby/guest.h"
#include "lobby/passing.h"
#include "lobby/table.h"
#include "os/clock.h"
#include "os/event_loop.h"
#include "os/fd.h"
#include "os/limited_log.h"
#include "os/signals.h"
#include "os/socket.h"
#include "os/system_error.h"
#include "shm/lobby_board.h"
#include "shm/scoreboard.h"

namespace bladepsgi::lobby {

namespace {

using shm::Drop;
using shm::Holding;
using Stage = Waiting::Stage;

using std::chrono::milliseconds;

// Descriptors that are not of connections, and those of a message that is being received.
constexpr std::size_t kOwnDescriptors = 64;

constexpr std::size_t kMostOver = 32;

constexpr std::size_t kMostReceived = std::size_t{64} * 1024;  // of a connection, at once
constexpr int kMostMessages = 64;                              // of workers, at once

// How soon it is tried again to put into the ready queue what a shortage kept out, and to find a permit for a slow body.
constexpr milliseconds kRetry{10};
constexpr milliseconds kSlowPause{50};

// Somebody sleeps while a message waits: the worker that was woken for it took something else, or died.
constexpr milliseconds kFirstNudge{5};
constexpr milliseconds kLastNudge{1000};

// Of a response, before it is somebody else's turn.
constexpr std::size_t kMostSent = std::size_t{1024} * 1024;
// While the server stops: for the first byte of a connection that has just come, and for each silence in what is coming.
constexpr milliseconds kLastGrace{1000};
constexpr milliseconds kLastSilence{5000};

// Before it can be said who takes his slowly.
constexpr std::chrono::seconds kFirstTime{5};

std::size_t descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return std::numeric_limits<std::size_t>::max() / 2;
  const auto descriptors = static_cast<std::size_t>(limit.rlim_cur);
  return descriptors > 2 * kOwnDescriptors ? descriptors - kOwnDescriptors
                                           : std::max<std::size_t>(descriptors / 2, 1);
}

class Lobby {
 public:
  explicit Lobby(const Inheritance& inheritance)
      : inheritance_(inheritance),
        options_(inheritance.options),
        limits_{.fcgi = options_.fcgi_limits,
                .http = options_.http_limits,
                .body_ahead = options_.body_ahead},
        most_descriptors_(descriptor_limit()),
        most_connections_(std::clamp<std::size_t>(options_.most_connections, 1, most_descriptors_)),
        log_(inheritance.log),
        peer_log_(inheritance.log),
        board_(*inheritance.mapping),
        scoreboard_(*inheritance.mapping),
        slot_(scoreboard_, inheritance.slot),
        signals_(
            os::signal_set({SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGTSTP})),
        scratch_(kMostReceived) {}

  int run() {
    if (::getppid() != inheritance_.parent) return 0;
    loop_.add(signals_.fd(), EPOLLIN, [this](std::uint32_t) { on_signals(); });
    watch_parking();
    slot_.become_idle();
    publish();
    board_.set_settled(false);
    // What the lobby before this one had sent, and had not said yet.
    board_.announce_ready();
    expect_taking();
    log_.ready(::getpid());
    while (!is_ending_) {
      loop_.run_once();
      after_turn();
    }
    return 0;
  }

 private:
  using GuestPointer = std::unique_ptr<Guest>;

  void on_signals() {
    while (const auto caught = signals_.try_take()) {
      if (caught->number == SIGUSR1) is_last_call_ = true;
      if (caught->number == SIGUSR2) begin_passing_on();
      if (caught->number != SIGTERM) continue;
      if (!board_.is_stopping()) is_ending_ = true;
    }
  }

  // --- from workers

  void watch_parking() {
    for (const int channel : {inheritance_.parking, inheritance_.predecessor}) {
      if (channel >= 0) loop_.add(channel, EPOLLIN, [this](std::uint32_t) { on_parking(); });
    }
  }

  void ignore_parking() {
    for (const int channel : {inheritance_.parking, inheritance_.predecessor}) {
      if (channel >= 0) loop_.remove(channel);
    }
  }

  // True: the queues were seen empty.
  bool on_parking() {
    if (is_passing_on_) return true;
    // Before anything is received: who finds this set and the queue empty knows that we know all of it.
    if (board_.is_stopping()) board_.set_settled(false);
    const bool is_all_here = inheritance_.predecessor < 0 || receive(inheritance_.predecessor);
    return receive(inheritance_.parking) && is_all_here;
  }

  bool receive(int channel) {
    for (int i = 0; i < kMostMessages; ++i) {
      // Those who are ready are not closed, however many they are; no more of them come while workers are that far behind.
      if (guests_.size() >= most_connections_ + kMostOver ||
          guests_.size() + descriptors_ >= most_descriptors_ + kMostOver) {
        return pause_parking();
      }
      handoff::Incoming incoming = handoff::receive(channel, buffer_);
      switch (incoming.outcome) {
        case handoff::ReceiveOutcome::Received:
          admit(std::move(incoming));
          make_room();
          break;
        case handoff::ReceiveOutcome::Empty:
          return true;
        case handoff::ReceiveOutcome::Closed:  // not while the overseer lives
          is_ending_ = true;
          return true;
        case handoff::ReceiveOutcome::NoMemory:
          return pause_parking();
        case handoff::ReceiveOutcome::NoDescriptors:
          board_.count(Drop::GaveWay);
          peer_log_.say(Severity::Error,
                        "a connection that shall wait is lost: too many open files");
          return pause_parking();
        case handoff::ReceiveOutcome::Malformed:
          if (incoming.reason == handoff::kNudge) {
            // Of a worker: a permit for a slow body is free. Of the overseer: another lobby has gone, and workers may not have taken all of what it sent.
            if (channel == inheritance_.predecessor) expect_taking();
            break;
          }
          board_.count(Drop::Malformed);
          peer_log_.say(Severity::Error, fmt::format("dropped what another process handed over: {}",
                                                     incoming.reason));
          break;
      }
      wipe(buffer_);
    }
    return false;
  }

  void make_room() {
    for (;;) {
      const bool is_over = guests_.size() > most_connections_;
      if (!is_over && guests_.size() + descriptors_ <= most_descriptors_) return;
      // Those who do not take their responses may not have more than half of the room.
      const bool are_they_many = 2 * (table_.count(Holding::Sending) + descriptors_) >
                                 std::min(most_connections_, most_descriptors_);
      const auto who = are_they_many ? find_slowest() : table_.find_oldest();
      if (!who) return;
      drop(*who, Drop::GaveWay);
    }
  }

  // Of those who take a response, who has taken least in its time; who has had hardly any only if there is nobody else.
  [[nodiscard]] std::optional<GuestId> find_slowest(bool with_memory = false) const {
    const os::Monotonic now = os::monotonic_now();
    std::optional<GuestId> slowest;
    double lowest = std::numeric_limits<double>::max();
    for (const auto& [id, guest] : guests_) {
      if (!guest->sending || (with_memory && guest->sending->memory_used() == 0)) continue;
      const auto age = now - guest->sending_since;
      const double rate = age < kFirstTime ? std::numeric_limits<double>::max() / 2
                                           : static_cast<double>(guest->sent) /
                                                 std::chrono::duration<double>(age).count();
      if (rate > lowest || (rate == lowest && id > *slowest)) continue;
      lowest = rate;
      slowest = id;
    }
    return slowest;
  }

  // The queue stays readable, so epoll would report it at once, for ever.
  bool pause_parking() {
    if (std::exchange(is_parking_paused_, true)) return false;
    ignore_parking();
    resume_parking_ = loop_.call_at(os::monotonic_now() + kRetry, [this] {
      is_parking_paused_ = false;
      watch_parking();
      on_parking();
    });
    return false;
  }

  void admit(handoff::Incoming incoming) {
    const handoff::Message& message = incoming.message;
    const os::Monotonic now = os::monotonic_now();
    std::vector<std::byte> external;
    Bytes bytes = message.bytes;
    const bool is_unsent =
        message.kind == handoff::Kind::UnsentResponse || message.kind == handoff::Kind::UnsentFile;
    if (message.external_bytes != 0 && !is_unsent) {
      auto read = handoff::read_memory(incoming.memory, 0, message.external_bytes);
      if (!read) {
        board_.count(Drop::Malformed);
        peer_log_.say(Severity::Error, read.error().message);
        return;
      }
      external = std::move(*read);
      bytes = external;
    }
    switch (message.kind) {
      case handoff::Kind::Idle:
      case handoff::Kind::PartialRequest:
      case handoff::Kind::ReadyRequest:
      case handoff::Kind::Closing:
        break;
      case handoff::Kind::UnsentResponse:
      case handoff::Kind::UnsentFile:
        admit_unsent(std::move(incoming));
        return;
    }
    auto guest = std::make_unique<Guest>(
        Guest{.connection = std::move(incoming.connection),
              .waiting = Waiting(message.protocol, limits_, message.replies),
              .started = as_time(message.started),
              .is_fresh = message.kind == handoff::Kind::Idle && message.started != 0,
              .pace = Pace(options_.min_body_rate),
              .last_bytes = now});
    const os::Monotonic deadline = message.progress_deadline != 0
                                       ? as_time(message.progress_deadline)
                                       : now + options_.idle_timeout;
    const bool is_closing = message.kind == handoff::Kind::Closing;
    const GuestId id = table_.add(is_closing ? Holding::Closing : Holding::Idle, deadline);
    guests_.emplace(id, std::move(guest));
    if (watch(id) && !bytes.empty()) take(id, bytes, now);
    wipe(external);
  }

  // --- to the lobby that takes this one's place

  // Another lobby is there, or what it has sent may not be here yet.
  [[nodiscard]] bool is_one_of_two() const {
    return scoreboard_.has_other(shm::Role::Lobby, inheritance_.slot);
  }

  void begin_passing_on() {
    if (inheritance_.successor < 0 || std::exchange(is_passing_on_, true)) return;
    if (is_parking_paused_) {
      loop_.cancel(resume_parking_);
    } else {
      ignore_parking();
    }
    for (const auto& [id, guest] : guests_)
      to_pass_on_.push_back(id);
  }

  // Who is ready goes to a worker as ever. Who cannot be passed on stays until it ends by itself.
  void pass_on(os::Monotonic now) {
    while (!to_pass_on_.empty() && !is_successor_watched_) {
      const GuestId id = to_pass_on_.front();
      if (guests_.contains(id) && table_.holding(id) != Holding::Ready) {
        const auto outcome = lobby::pass_on(inheritance_.successor, *guests_.at(id),
                                            table_.holding(id), table_.deadline(id), now);
        if (!outcome) {
          peer_log_.say(Severity::Error, outcome.error().message);
        } else if (*outcome == handoff::SendOutcome::Sent) {
          forget(id);
        } else if (*outcome == handoff::SendOutcome::QueueFull) {
          wait_for_successor();
          return;
        } else if (handoff::is_shortage(*outcome)) {
          return;  // the next turn comes soon, see set_alarm
        } else {
          peer_log_.say(Severity::Error,
                        fmt::format("cannot pass a connection on to the new lobby: {}",
                                    handoff::describe(*outcome)));
        }
      }
      to_pass_on_.pop_front();
    }
    // What workers have not taken yet, they are reminded of by the other one from now on.
    if (guests_.empty()) is_ending_ = true;
  }

  void wait_for_successor() {
    is_successor_watched_ = true;
    loop_.add(inheritance_.successor, EPOLLOUT, [this](std::uint32_t) {
      loop_.remove(inheritance_.successor);
      is_successor_watched_ = false;
    });
  }

  // --- the rests of responses

  void admit_unsent(handoff::Incoming incoming) {
    const handoff::Message message = incoming.message;
    const os::Monotonic now = os::monotonic_now();
    std::vector<std::byte> received;
    if (message.external_bytes != 0) {
      auto read = handoff::read_memory(incoming.memory, message.unsent_bytes,
                                       message.external_bytes - message.unsent_bytes);
      if (!read) {
        board_.count(Drop::Malformed);
        peer_log_.say(Severity::Error, read.error().message);
        return;
      }
      received = std::move(*read);
    } else {
      const Bytes behind = message.bytes.subspan(message.unsent_bytes);
      received.assign(behind.begin(), behind.end());
    }
    auto guest = std::make_unique<Guest>(
        Guest{.connection = std::move(incoming.connection),
              .waiting = Waiting(message.protocol, limits_, message.replies),
              .pace = Pace(options_.min_body_rate),
              .last_bytes = now});
    // The application may have had it for itself.
    os::set_non_blocking(guest->connection.get());
    guest->sending = std::make_unique<Sending>(incoming);
    guest->sending_since = now;
    unsent_ += guest->sending->memory_used();
    descriptors_ += guest->sending->descriptors();
    const GuestId id = table_.add(Holding::Sending, now + options_.send_timeout);
    guests_.emplace(id, std::move(guest));
    if (!received.empty()) take_meanwhile(id, received, now);
    wipe(received);
    if (guests_.contains(id)) go_on_sending(id, now);
    while (unsent_ > options_.most_bytes) {
      const auto slowest = find_slowest(true);
      if (!slowest) break;
      drop(*slowest, Drop::Memory);
    }
  }

  void go_on_sending(GuestId id, os::Monotonic now) {
    Guest& guest = *guests_.at(id);
    std::size_t sent = 0;
    const Sending::Outcome outcome = guest.sending->send(guest.connection.get(), kMostSent, &sent);
    guest.sent += sent;
    if (sent > 0) table_.change(id, Holding::Sending, now + options_.send_timeout);
    switch (outcome) {
      case Sending::Outcome::Done:
        has_sent(id, now);
        return;
      case Sending::Outcome::Full:
      case Sending::Outcome::More:
        watch_sending(id);
        return;
      case Sending::Outcome::PeerGone:
        drop(id, Drop::PeerClosed);
        return;
      case Sending::Outcome::BrokenFile:
        drop(id, Drop::BrokenFile);
        return;
    }
  }

  void watch_sending(GuestId id) {
    Guest& guest = *guests_.at(id);
    const std::uint32_t wanted = guest.is_input_over ? EPOLLOUT : EPOLLOUT | EPOLLIN;
    ignore_input(guest);
    try {
      loop_.add(guest.connection.get(), wanted,
                [this, id](std::uint32_t events) { on_sending(id, events); });
    } catch (const os::SystemError&) {
      drop(id, Drop::GaveWay);
    }
  }

  // Two that only send would wait for each other for ever, so what comes meanwhile is taken in, as much as a request may have.
  void on_sending(GuestId id, std::uint32_t events) {
    const os::Monotonic now = os::monotonic_now();
    if ((events & EPOLLIN) != 0) {
      Guest& guest = *guests_.at(id);
      const ssize_t size =
          ::recv(guest.connection.get(), scratch_.data(), scratch_.size(), MSG_DONTWAIT);
      if (size > 0) {
        const auto received = static_cast<std::size_t>(size);
        take_meanwhile(id, Bytes(scratch_).first(received), now);
        wipe(scratch_.data(), received);
      } else if (size == 0) {
        guest.is_input_over = true;
        guest.waiting.end();
      }
      if (!guests_.contains(id)) return;
      if (guest.is_input_over) watch_sending(id);
      if (!guests_.contains(id)) return;
    }
    if ((events & ~static_cast<std::uint32_t>(EPOLLIN)) != 0) go_on_sending(id, now);
  }

  void take_meanwhile(GuestId id, Bytes bytes, os::Monotonic now) {
    Guest& guest = *guests_.at(id);
    if (!guest.sending->keeps()) {
      guest.drained += bytes.size();
      if (guest.drained > options_.drain_bytes) guest.is_input_over = true;
      return;
    }
    const Stage stage = guest.waiting.take(bytes);
    guest.last_bytes = now;
    if (stage != Stage::Idle && guest.started == os::Monotonic{}) guest.started = now;
    table_.set_bytes(id, guest.waiting.bytes().size());
    if (stage >= Stage::Enough) guest.is_input_over = true;
    hold_memory_down();
  }

  void has_sent(GuestId id, os::Monotonic now) {
    Guest& guest = *guests_.at(id);
    const bool keeps = guest.sending->keeps();
    forget_sending(guest);
    // While it was incomplete, another end of the connection than this one was to be seen as an error.
    const linger orderly{.l_onoff = 0, .l_linger = 0};
    ::setsockopt(guest.connection.get(), SOL_SOCKET, SO_LINGER, &orderly, sizeof orderly);
    ignore_input(guest);
    if (!keeps) {
      if (guest.is_input_over || ::shutdown(guest.connection.get(), SHUT_WR) != 0) {
        forget(id);
        return;
      }
      table_.change(id, Holding::Closing, now + options_.close_timeout);
      watch(id);
      return;
    }
    table_.change(id, Holding::Idle, now + options_.idle_timeout);
    if (guest.waiting.stage() < Stage::Enough && !guest.is_input_over && !watch(id)) return;
    dispose(id, now);
  }

  void forget_sending(Guest& guest) {
    if (!guest.sending) return;
    unsent_ -= guest.sending->memory_used();
    descriptors_ -= guest.sending->descriptors();
    guest.sending.reset();
  }

  // --- from peers

  // False: it is dropped.
  bool watch(GuestId id) {
    try {
      loop_.add(guests_.at(id)->connection.get(), EPOLLIN,
                [this, id](std::uint32_t) { on_input(id); });
      return true;
    } catch (const os::SystemError&) {  // no memory, or more than this user may watch
      drop(id, Drop::GaveWay);
      return false;
    }
  }

  void on_input(GuestId id) {
    Guest& guest = *guests_.at(id);
    if (table_.ready_bytes() > options_.most_bytes && table_.holding(id) != Holding::Closing) {
      // Workers are that far behind. It is not its fault, so its time does not run.
      ignore_input(guest);
      table_.change(id, table_.holding(id), Table::kNever);
      paused_.push_back(id);
      return;
    }
    const ssize_t size =
        ::recv(guest.connection.get(), scratch_.data(), scratch_.size(), MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0 && table_.holding(id) == Holding::Closing) {
      forget(id);
      return;
    }
    if (size < 0) {
      drop(id, Drop::PeerClosed);
      return;
    }
    if (size == 0) {
      guest.waiting.end();
      dispose(id, os::monotonic_now());
      return;
    }
    const auto received = static_cast<std::size_t>(size);
    if (table_.holding(id) == Holding::Closing) {
      guest.drained += received;
      if (guest.drained > options_.drain_bytes) forget(id);
      return;
    }
    take(id, Bytes(scratch_).first(received), os::monotonic_now());
    wipe(scratch_.data(), received);
  }

  void take(GuestId id, Bytes bytes, os::Monotonic now) {
    Guest& guest = *guests_.at(id);
    const Stage before = guest.waiting.stage();
    const auto wait = now - guest.last_bytes;
    guest.last_bytes = now;
    const Stage stage = guest.waiting.take(bytes);
    if (before == Stage::Body && !guest.pace.keeps_up(wait, bytes.size())) guest.is_overdue = true;
    table_.set_bytes(id, guest.waiting.bytes().size());
    if (stage != Stage::Idle) {
      if (guest.started == os::Monotonic{}) guest.started = now;
      guest.is_fresh = false;
    }
    dispose(id, now);
    hold_memory_down();
  }

  void resume_paused(os::Monotonic now) {
    if (paused_.empty() || table_.ready_bytes() > options_.most_bytes) return;
    for (const GuestId id : std::exchange(paused_, {})) {
      if (!guests_.contains(id) || !watch(id)) continue;
      Guest& guest = *guests_.at(id);
      if (guest.waiting.stage() == Stage::Head) guest.started = now;
      if (guest.waiting.stage() == Stage::Idle)
        table_.change(id, Holding::Idle, now + options_.idle_timeout);
      else
        dispose(id, now);
    }
  }

  void hold_memory_down() {
    while (table_.bytes() - table_.ready_bytes() > options_.most_bytes) {
      const auto largest = table_.find_largest();
      if (!largest) break;
      drop(*largest, Drop::Memory);
    }
  }

  // Puts it where it belongs now.
  void dispose(GuestId id, os::Monotonic now) {
    Guest& guest = *guests_.at(id);
    if (guest.is_overdue) return make_ready(id);
    switch (guest.waiting.stage()) {
      case Stage::Idle:
        if (table_.holding(id) != Holding::Idle)
          table_.change(id, Holding::Idle, now + options_.idle_timeout);
        if (!guest.is_fresh) guest.started = {};
        break;
      case Stage::Head:
        table_.change(id, Holding::Head,
                      before_the_end(guest.started + options_.head_timeout, now));
        break;
      case Stage::Body:
        table_.change(id, Holding::Body, before_the_end(now + options_.body_timeout, now));
        break;
      case Stage::Enough:
        ignore_input(guest);
        table_.change(id, Holding::SlowBody, Table::kNever);
        slow_.push_back(id);
        admit_slow(now);
        break;
      case Stage::Whole:
      case Stage::Decided:
        make_ready(id);
        break;
      case Stage::Gone:
        drop(id, Drop::PeerClosed);
        break;
    }
  }

  void ignore_input(const Guest& guest) { loop_.remove(guest.connection.get()); }

  void drop(GuestId id, Drop why) {
    const auto found = guests_.find(id);
    if (found == guests_.end()) return;
    const Guest& guest = *found->second;
    board_.count(why);
    const bool has_begun = guest.waiting.stage() != Stage::Idle;
    switch (why) {
      case Drop::PeerClosed:
        if (guest.sending) slot_.count(shm::Event::ClientGone);
        break;
      case Drop::SendTimeout:
        slot_.count(shm::Event::TimedOut);
        peer_log_.say(Severity::Warning,
                      fmt::format("dropped a response: its client has taken nothing of it for {} s "
                                  "(--send-timeout)",
                                  std::chrono::duration<double>(options_.send_timeout).count()));
        break;
      case Drop::BrokenFile:
        slot_.count(shm::Event::ApplicationFailed);
        // No peer has caused it.
        log_.text(Severity::Error,
                  "dropped a response: its file cannot be read, or became shorter while it was "
                  "sent");
        break;
      case Drop::IdleTimeout:
      case Drop::Malformed:
        break;
      case Drop::HeadTimeout:
        slot_.count(shm::Event::TimedOut);
        // Browsers open connections that they may need.
        if (has_begun || guest.waiting.protocol() == handoff::Protocol::FastCgi)
          peer_log_.say(Severity::Warning, "dropped a connection: its request took too long");
        break;
      case Drop::GaveWay:
        peer_log_.say(Severity::Warning,
                      fmt::format("dropped {}: more than {} connections wait (--lobby-connections "
                                  "and the limit of open files)",
                                  guest.sending ? "a response that its client takes slowly"
                                  : has_begun   ? "a request that was not complete"
                                                : "an idle connection",
                                  most_connections_));
        break;
      case Drop::Memory:
        slot_.count(shm::Event::Refused);
        if (guest.sending) {
          peer_log_.say(Severity::Warning,
                        "dropped the response that is taken most slowly: those that wait for their "
                        "clients have more than --lobby-memory");
          break;
        }
        peer_log_.say(Severity::Warning,
                      fmt::format("dropped a request of {} bytes that was not complete: those that "
                                  "wait have more than --lobby-memory",
                                  guest.waiting.bytes().size()));
        break;
    }
    forget(id);
  }

  void forget(GuestId id) {
    const auto found = guests_.find(id);
    ignore_input(*found->second);
    forget_sending(*found->second);
    table_.remove(id);
    guests_.erase(found);
  }

  // --- to workers

  void make_ready(GuestId id) {
    ignore_input(*guests_.at(id));
    table_.change(id, Holding::Ready, Table::kNever);
    if (ready_.empty() && send(id)) return;
    ready_.push_back(id);
    watch_ready();
  }

  // As many as permits are free; the worker that gets one takes the permit, or gives it back to us.
  // Who is sent too many of them has to give them back, so the next ones wait until those before are taken, or for a while.
  void admit_slow(os::Monotonic now) {
    if (has_untaken() && now - slow_admitted_ < kSlowPause) return;
    std::uint32_t permits = board_.slow_bodies().value();
    if (permits > 0) slow_admitted_ = now;
    while (permits > 0 && !slow_.empty()) {
      const GuestId id = slow_.front();
      slow_.pop_front();
      if (!guests_.contains(id)) continue;
      make_ready(id);
      --permits;
    }
  }

  // False: not now.
  bool send(GuestId id) {
    const Guest& guest = *guests_.at(id);
    handoff::Message message;
    message.protocol = guest.waiting.protocol();
    message.kind = handoff::Kind::ReadyRequest;
    message.bytes = guest.waiting.bytes();
    message.replies = guest.waiting.replies();
    message.started = as_deadline(guest.started);
    if (guest.is_overdue || guest.waiting.stage() != Stage::Enough)
      message.flags = handoff::kBodyComplete;
    if (guest.is_overdue) message.progress_deadline = as_deadline(os::monotonic_now());
    if (message.bytes.empty()) {  // nothing is to be told to a worker
      drop(id, Drop::PeerClosed);
      return true;
    }
    const handoff::SendOutcome outcome =
        handoff::send(inheritance_.ready, message, guest.connection.get());
    switch (outcome) {
      case handoff::SendOutcome::Sent:
        board_.announce_ready();
        expect_taking();
        forget(id);
        return true;
      case handoff::SendOutcome::QueueFull:
        return false;
      case handoff::SendOutcome::TooManyInFlight:
      case handoff::SendOutcome::NoDescriptors:
      case handoff::SendOutcome::NoMemory:
      case handoff::SendOutcome::PeerGone:
        peer_log_.say(Severity::Warning,
                      fmt::format("cannot hand a request over to a worker: {}; trying again",
                                  handoff::describe(outcome)));
        is_short_ = true;
        return false;
      case handoff::SendOutcome::TooLarge:  // unless somebody has made the buffers of sockets tiny
        board_.count(Drop::Memory);
        slot_.count(shm::Event::Refused);
        peer_log_.say(Severity::Error,
                      fmt::format("dropped a request: it cannot be handed over to a worker: {}",
                                  handoff::describe(outcome)));
        forget(id);
        return true;
    }
    return false;
  }

  // Until there is room; a shortage is nothing that epoll reports.
  void watch_ready() {
    if (is_short_) {
      if (is_ready_watched_) loop_.remove(inheritance_.ready);
      is_ready_watched_ = false;
      return;
    }
    if (is_ready_watched_ || ready_.empty()) return;
    is_ready_watched_ = true;
    loop_.add(inheritance_.ready, EPOLLOUT, [this](std::uint32_t) { send_backlog(); });
  }

  void send_backlog() {
    is_short_ = false;
    while (!ready_.empty()) {
      if (guests_.contains(ready_.front()) && !send(ready_.front())) break;
      ready_.pop_front();
    }
    if (ready_.empty() && is_ready_watched_) {
      loop_.remove(inheritance_.ready);
      is_ready_watched_ = false;
    }
    watch_ready();
  }

  void expect_taking() {
    nudge_after_ = kFirstNudge;
    next_nudge_ = os::monotonic_now() + nudge_after_;
  }

  // Something is in the ready queue.
  [[nodiscard]] bool has_untaken() const {
    int queued = 0;
    return ::ioctl(inheritance_.ready, SIOCOUTQ, &queued) == 0 && queued > 0;
  }

  void nudge(os::Monotonic now) {
    if (!has_untaken()) {
      next_nudge_.reset();
      return;
    }
    static_cast<void>(handoff::send_nudge(inheritance_.ready));
    board_.announce_ready();
    nudge_after_ = std::min(2 * nudge_after_, kLastNudge);
    next_nudge_ = now + nudge_after_;
  }

  // --- time

  void after_turn() {
    const os::Monotonic now = os::monotonic_now();
    while (const auto due = table_.find_due(now))
      give_up(*due);
    const bool is_stopping = board_.is_stopping();
    if (is_stopping && !stopping_since_) begin_stop(now);
    // In this order: what another one has passed on before it went is here.
    const bool is_all_here =
        is_stopping && !is_last_call_ && !is_passing_on_ && !is_one_of_two() && on_parking();
    if (is_stopping) close_idle();
    resume_paused(now);
    if (is_last_call_) take_leave();
    if (is_passing_on_) pass_on(now);
    if (!slow_.empty()) admit_slow(now);
    if (is_short_) send_backlog();
    if (next_nudge_ && *next_nudge_ <= now) nudge(now);
    publish();
    if (is_all_here) board_.set_settled(!has_begun());
    set_alarm(now);
  }

  // --- while the server stops

  // Whatever comes in pieces has as long as one silence within a body may last, in all.
  void begin_stop(os::Monotonic now) {
    stopping_since_ = now;
    for (const auto& [id, guest] : guests_) {
      const Holding holding = table_.holding(id);
      if (holding == Holding::Head || holding == Holding::Body)
        table_.change(id, holding, before_the_end(table_.deadline(id), now));
    }
  }

  // Of one who sends at all; who is silent is not waited for as long as on other days.
  [[nodiscard]] os::Monotonic before_the_end(os::Monotonic deadline, os::Monotonic now) const {
    if (!stopping_since_) return deadline;
    return std::min<os::Monotonic>(
        {deadline, *stopping_since_ + options_.body_timeout, now + kLastSilence});
  }

  // Somebody will need a worker.
  [[nodiscard]] bool has_begun() const {
    constexpr std::array kBegun{Holding::Idle, Holding::Head, Holding::Body, Holding::SlowBody,
                                Holding::Ready};
    return std::any_of(kBegun.begin(), kBegun.end(),
                       [this](Holding holding) { return table_.count(holding) > 0; });
  }

  // There will be no next request: kept connections are closed, if nothing has come on them. Who has just connected is about to ask.
  void close_idle() {
    if (table_.count(Holding::Idle) == 0 || table_.ready_bytes() > options_.most_bytes) return;
    std::vector<GuestId> idle;
    for (const auto& [id, guest] : guests_) {
      if (table_.holding(id) == Holding::Idle) idle.push_back(id);
    }
    for (const GuestId id : idle) {
      Guest& guest = *guests_.at(id);
      if (guest.is_fresh) {
        const auto end = std::max(guest.started, *stopping_since_) + kLastGrace;
        if (table_.deadline(id) > end) table_.change(id, Holding::Idle, end);
        continue;
      }
      // Refuses what would come from now on, and looks for what slipped in before: docs/decisions/0004.
      if (!has_input(guest)) ::shutdown(guest.connection.get(), SHUT_RD);
      if (!has_input(guest)) {
        drop(id, Drop::IdleTimeout);
        continue;
      }
      on_input(id);
    }
  }

  [[nodiscard]] static bool has_input(const Guest& guest) {
    std::byte first{};
    return ::recv(guest.connection.get(), &first, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
  }

  // No worker is left: what is being sent is sent to its end.
  void take_leave() {
    const bool is_all_here = !is_one_of_two() && on_parking();
    std::vector<GuestId> others;
    for (const auto& [id, guest] : guests_) {
      if (!guest->sending && table_.holding(id) != Holding::Closing) others.push_back(id);
    }
    for (const GuestId id : others)
      forget(id);
    if (guests_.empty() && is_all_here) is_ending_ = true;
  }

  void give_up(GuestId id) {
    Guest& guest = *guests_.at(id);
    switch (table_.holding(id)) {
      case Holding::Idle:
        drop(id, guest.is_fresh && !stopping_since_ ? Drop::HeadTimeout : Drop::IdleTimeout);
        break;
      case Holding::Head:
        drop(id, Drop::HeadTimeout);
        break;
      case Holding::Body:
        // A worker answers it.
        guest.is_overdue = true;
        make_ready(id);
        break;
      case Holding::Closing:
        forget(id);
        break;
      case Holding::Sending:
        drop(id, Drop::SendTimeout);
        break;
      case Holding::SlowBody:
      case Holding::Ready:
        break;  // have no deadline
    }
  }

  void set_alarm(os::Monotonic now) {
    os::Monotonic next = table_.next_deadline().value_or(Table::kNever);
    if (next_nudge_) next = std::min(next, *next_nudge_);
    const bool is_kept_from_passing =
        is_passing_on_ && !is_successor_watched_ && !to_pass_on_.empty();
    if (!slow_.empty() || is_short_ || is_kept_from_passing)
      next = std::min<os::Monotonic>(next, now + kRetry);
    if (next == alarm_.when && alarm_.sequence != 0 && next > now) return;
    loop_.cancel(alarm_);
    if (next != Table::kNever) {
      alarm_ = loop_.call_at(next, [this] { alarm_ = {}; });
    }
  }

  void publish() {
    if (is_passing_on_) return;  // the other one says how many there are
    for (std::size_t i = 0; i < shm::kHoldings; ++i) {
      const auto holding = static_cast<Holding>(i);
      board_.set_held(holding, table_.count(holding));
    }
    board_.set_bytes_held(table_.bytes());
    board_.set_bytes_unsent(unsent_);
  }

  const Inheritance& inheritance_;
  const Options& options_;
  Limits limits_;
  std::size_t most_descriptors_;
  std::size_t most_connections_;
  os::LogChannel log_;
  os::LimitedLog peer_log_;
  shm::LobbyBoard board_;
  shm::Scoreboard scoreboard_;
  shm::OwnSlot slot_;
  os::SignalFd signals_;
  os::EventLoop loop_;
  handoff::ReceiveBuffer buffer_{};
  std::vector<std::byte> scratch_;
  Table table_;
  std::uint64_t unsent_ = 0;     // bytes of responses
  std::size_t descriptors_ = 0;  // besides those of connections
  std::vector<GuestId> paused_;  // nothing is read of them while too much is ready
  bool is_parking_paused_ = false;
  std::unordered_map<GuestId, GuestPointer> guests_;
  std::deque<GuestId> ready_;  // the backlog; who has gone meanwhile is still in it
  std::deque<GuestId> slow_;   // enough of their bodies is here; the same
  os::Monotonic slow_admitted_{};
  bool is_ready_watched_ = false;
  bool is_short_ = false;  // of something, when a request was handed over last
  std::optional<os::Monotonic> next_nudge_;
  milliseconds nudge_after_ = kFirstNudge;
  os::EventLoop::TimerId alarm_;
  os::EventLoop::TimerId resume_parking_;
  std::optional<os::Monotonic> stopping_since_;
  bool is_last_call_ = false;  // there are no workers any more
  bool is_passing_on_ = false;
  std::deque<GuestId> to_pass_on_;  // who has gone meanwhile, or is ready, is still in it
  bool is_successor_watched_ = false;
  bool is_ending_ = false;
};

}  // namespace

int run(const Inheritance& inheritance) {
  try {
    return Lobby(inheritance).run();
  } catch (const std::exception& failure) {
    inheritance.log.text(Severity::Panic, failure.what());
    return 1;
  }
}

}  // namespace bladepsgi::lobby
