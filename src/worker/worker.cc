#include <fmt/format.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/text.h"
#include "base/wipe.h"
#include "cgi/request_start.h"
#include "handoff/transfer.h"
#include "os/clock.h"
#include "os/fd.h"
#include "os/limited_log.h"
#include "os/log.h"
#include "os/process.h"
#include "os/signals.h"
#include "os/socket.h"
#include "os/system_error.h"
#include "shm/lobby_board.h"
#include "shm/scoreboard.h"
#include "worker/fcgi_exchange.h"
#include "worker/http_exchange.h"
#include "worker/inheritance.h"
#include "worker/patience.h"
#include "worker/signals.h"
#include "worker/watchdog.h"

namespace bladepsgi::worker {

namespace {

using std::chrono::milliseconds;
using Progress = ProtocolExchange::Progress;

constexpr milliseconds kLastGrace{
    1000};  // for the first byte of a connection that a leaving worker has accepted
constexpr milliseconds kShortagePause{
    100};  // before the next accept when one has failed for want of descriptors or memory

// While a kept connection is served, others are looked for so often.
constexpr std::chrono::microseconds kLookInterval{500};
// And while kept connections wait in the ready queue, the one that is here has so long a turn: a handover costs more than a short
// request, but nobody shall wait for long for who keeps asking.
constexpr std::chrono::microseconds kTurn{100};

// For a peer that does not take its response, before somebody else sends the rest: at least so often, or while there is no one, it is looked
// whether others wait for a worker.
constexpr milliseconds kStallLook{250};
// Who has been waited for so long in all, without a permit for it, has to go when others wait.
constexpr std::chrono::seconds kWithoutPermit{2};
// A rest in memory is handed over up to this size, which a message can say.
constexpr std::uint64_t kLargestRest = std::uint64_t{1} << 30;

// Who asks again on the same connection so soon after an answer is still there; so is who has connected so short a time ago.
constexpr milliseconds kStillThere{10};
constexpr milliseconds kJustConnected{1};

// A wait that took longer has waited, so nobody was there when it began. (Or this process was not let run: then somebody who has
// gone may be served.)
constexpr std::chrono::microseconds kImmediately{100};

// For room in the queue to the lobby: it empties it in less, unless it is stuck.
constexpr milliseconds kLobbyPatience{250};
constexpr milliseconds kBetweenTries{10};

constexpr int kServerError = 500;  // from that status on

// While the server stops: how often it is looked whether anybody is left; and how much longer than the lobby may hold a request a worker waits for
// what the lobby says of it.
constexpr milliseconds kRestLook{10};
constexpr std::chrono::seconds kLobbyGrace{5};

constexpr int kMostWhileGivingUp = 8;  // requests that have come on a connection nobody keeps

// Whether somebody waits already is not worth a system call each time: an accept that finds nobody costs more than asking, and one that
// finds somebody less.
class Guess {
 public:
  [[nodiscard]] bool is_worth_trying() {
    if (skips_ == 0) return true;
    --skips_;
    return false;
  }

  void was_right() { misses_ = skips_ = 0; }

  void was_wrong() {
    constexpr int kMostMisses = 5;
    misses_ = std::min(misses_ + 1, kMostMisses);
    skips_ = (1 << misses_) - 1;
  }

 private:
  int misses_ = 0;
  int skips_ = 0;
};

ExchangeOptions exchange_options(const Inheritance& inheritance) {
  ExchangeOptions options = inheritance.options.exchange;
  std::random_device random;
  options.request_id_seed = (static_cast<std::uint64_t>(random()) << 32) | random();
  options.environment.hash_seed = (static_cast<std::uint64_t>(random()) << 32) | random();
  options.wake_descriptor = inheritance.wake_read;
  return options;
}

// What is sent is sent in one piece, so nothing is gained by waiting for more.
void set_no_delay(int socket) {
  constexpr int kYes = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &kYes, sizeof kYes);
}

class Worker {
 public:
  explicit Worker(Inheritance& inheritance)
      : inheritance_(inheritance),
        app_(*inheritance.app),
        channel_(inheritance.log_channel),
        peer_log_(channel_),
        board_(*inheritance.mapping),
        slot_(board_, inheritance.slot),
        lobby_(*inheritance.mapping),
        patience_(inheritance.options.short_wait),
        recycling_(inheritance.options.recycling,
                   os::monotonic_now(),
                   std::uniform_real_distribution<double>(0, 1)(random_)),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    make_exchanges();
    if (!epoll_.is_open()) throw os::SystemError(errno, "create epoll set");
    watch(inheritance_.wake_read, EPOLLIN);
    inheritance_.host->become(runtime::ChildRole::Worker, inheritance_.slot,
                              inheritance_.log_channel, &slot_);
    if (inheritance_.options.time_limit.limit > milliseconds::zero()) {
      time_limit_.emplace(inheritance_.options.time_limit, app_, slot_, channel_,
                          inheritance_.number);
      inheritance_.host->set_time_limit(&*time_limit_);
    }
    app_.enter_child(runtime::ChildRole::Worker, *inheritance_.host);
  }

  int run() {
    os::unblock_all_signals();
    {
      const Watchdog watchdog("on_worker_start", "--start-timeout",
                              inheritance_.options.start_timeout, app_, channel_,
                              inheritance_.number);
      if (!app_.start_worker()) return 1;
    }
    slot_.become_idle();
    if (inheritance_.probation >= 0) {
      channel_.ready(::getpid());
      if (!prove()) return 1;
    }
    open_doors();
    // With probation once more: now it serves everybody.
    channel_.ready(::getpid());
    while (!is_leaving()) {
      if (is_told_to_step_back()) {
        step_back();
        continue;
      }
      // Others first: who waits there has nobody, while a kept connection belongs to a peer that has others.
      if (serve_others()) continue;
      if (exchange_->is_attached() && serve(ProtocolExchange::Patience::Try) != Progress::Idle)
        continue;
      wait();
    }
    leave();
    return 0;
  }

 private:
  void make_exchanges() {
    const Options& options = inheritance_.options;
    ExchangeOptions common = exchange_options(inheritance_);
    common.others_wait = [this] {
      return lobby_.is_stopping() || (!can_hand_over() && is_somebody_waiting());
    };
    common.lobby = [this] {
      return can_hand_over() ? inheritance_.parking : -1;
    };
    // While the server stops there will be no next request.
    common.park = [this] {
      return !lobby_.is_stopping() && hand_over();
    };
    if (inheritance_.parking >= 0) {
      common.on_stall = [this](const Stall& stall) {
        return on_stall(stall);
      };
    }
    common.on_refusal = [this] {
      if (AccessLog* log = access_log()) begin_line(*log);
    };
    for (const Listening& listener : inheritance_.listeners) {
      if (listener.protocol == Protocol::FastCgi && !fcgi_) {
        fcgi_ = std::make_unique<FcgiExchange>(FcgiOptions{
            .exchange = common, .limits = options.fcgi_limits, .values = options.fcgi_values});
        exchange_ = fcgi_.get();
      }
      if (listener.protocol == Protocol::Http && !http_) {
        http_ = std::make_unique<HttpExchange>(HttpOptions{.exchange = common,
                                                           .limits = options.http_limits,
                                                           .trusted = options.trusted_proxies,
                                                           .forwarding = options.forwarding});
        exchange_ = http_.get();
      }
    }
    if (inheritance_.parking < 0) return;
    if (fcgi_) fcgi_->keep_unserved();
    if (http_) http_->keep_unserved();
  }

  // Every sibling watches the listeners; EXCLUSIVE wakes one of them instead of all.
  void open_doors() {
    for (const Listening& listener : inheritance_.listeners)
      watch(listener.fd, EPOLLIN | EPOLLEXCLUSIVE);
    if (inheritance_.ready >= 0) watch(inheritance_.ready, EPOLLIN | EPOLLEXCLUSIVE);
  }

  void close_doors() {
    for (const Listening& listener : inheritance_.listeners)
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener.fd, nullptr);
    if (inheritance_.ready >= 0)
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, inheritance_.ready, nullptr);
  }

  [[nodiscard]] bool is_told_to_step_back() const {
    return slot_.times_told_to_step_back() != step_backs_;
  }

  // Of those who wait the kernel wakes whoever began to watch first: others shall have what comes now.
  void step_back() {
    step_backs_ = slot_.times_told_to_step_back();
    drain_wake_pipe();
    give_up_kept();
    close_doors();
    open_doors();
  }

  // What was written into it is said elsewhere, too, and there first: who looks there after this misses nothing.
  void drain_wake_pipe() const {
    std::array<char, 64> bytes;
    while (::read(inheritance_.wake_read, bytes.data(), bytes.size()) > 0) {
    }
  }

  // Serves who comes over the probation socket, and nobody else; and nobody else serves them.
  // False: it could not be asked.
  bool prove() {
    is_on_probation_ = true;
    while (!is_leaving()) {
      handoff::Incoming incoming = handoff::receive(inheritance_.probation, handoff_buffer_);
      if (incoming.outcome == handoff::ReceiveOutcome::Received) {
        attach_from_lobby(std::move(incoming), {});
        serve(ProtocolExchange::Patience::Wait);
        if (exchange_->is_attached()) exchange_->close();
        continue;
      }
      if (incoming.outcome == handoff::ReceiveOutcome::Closed) break;
      if (incoming.outcome != handoff::ReceiveOutcome::Empty) {
        channel_.text(Severity::Error, "cannot take the connection of the probe request");
        return false;
      }
      std::array<pollfd, 2> watched{
          {{.fd = inheritance_.probation, .events = POLLIN, .revents = 0},
           {.fd = inheritance_.wake_read, .events = POLLIN, .revents = 0}}};
      ::poll(watched.data(), watched.size(), -1);
      drain_wake_pipe();
    }
    is_on_probation_ = false;
    return true;
  }

  // Looks now and then.
  [[nodiscard]] bool is_somebody_waiting() {
    if (must_not_accept()) return false;
    if (is_listener_ready_) return true;
    const os::Monotonic now = os::monotonic_now();
    if (now - last_look_ < kLookInterval) return false;
    last_look_ = now;
    waiting_.clear();
    for (const Listening& listener : inheritance_.listeners)
      waiting_.push_back({.fd = listener.fd, .events = POLLIN, .revents = 0});
    is_listener_ready_ = ::poll(waiting_.data(), waiting_.size(), 0) > 0;
    if (!is_listener_ready_) nobody_waited_ = now;
    return is_listener_ready_;
  }

  // Whoever waits will have to wait for a little longer. A kept connection is served meanwhile, and not given up for them.
  [[nodiscard]] bool must_not_accept() {
    if (!pauses_) return false;
    pauses_ = os::monotonic_now() < pause_end_;
    return pauses_;
  }

  void pause() {
    pauses_ = true;
    pause_end_ = os::monotonic_now() + kShortagePause;
  }

  [[nodiscard]] bool should_accept() {
    if (must_not_accept()) return false;
    return exchange_->is_attached() ? is_somebody_waiting()
                                    : is_listener_ready_ || inheritance_.listeners.size() > 1 ||
                                          guess_.is_worth_trying();
  }

  // Who comes from the lobby and who is new, in turn.
  bool serve_others() {
    const bool is_ready = should_take_ready();
    if (is_ready && is_ready_first_ && take_ready_and_serve()) return true;
    if (should_accept() && accept_and_serve()) return true;
    return is_ready && !is_ready_first_ && take_ready_and_serve();
  }

  [[nodiscard]] bool should_take_ready() {
    if (inheritance_.ready < 0 || must_not_accept()) return false;
    if (is_ready_signalled_) return true;
    if (lobby_.readies() == 0) return false;
    if (!exchange_->is_attached()) return true;
    const os::Monotonic now = os::monotonic_now();
    if (now - last_ready_look_ < kTurn) return false;
    last_ready_look_ = now;
    return true;
  }

  // False when nobody is in the ready queue.
  bool take_ready_and_serve() {
    is_ready_signalled_ = false;
    for (;;) {
      const std::uint64_t seen = lobby_.readies();
      handoff::Incoming incoming = handoff::receive(inheritance_.ready, handoff_buffer_);
      switch (incoming.outcome) {
        case handoff::ReceiveOutcome::Received:
          break;
        case handoff::ReceiveOutcome::Empty:
          if (seen != 0) lobby_.found_empty(seen);
          return false;
        case handoff::ReceiveOutcome::Closed:  // not while the overseer lives
          return false;
        case handoff::ReceiveOutcome::NoMemory:
          pause();
          return false;
        case handoff::ReceiveOutcome::NoDescriptors:
          peer_log_.say(Severity::Error,
                        "a connection that had waited in the lobby is lost: too many open files");
          pause();
          return false;
        case handoff::ReceiveOutcome::Malformed:
          if (incoming.reason != handoff::kNudge) {
            peer_log_.say(Severity::Error,
                          fmt::format("dropped a connection of the lobby: {}", incoming.reason));
          }
          continue;
      }
      auto received = received_before(incoming);
      wipe(handoff_buffer_);
      incoming.message.bytes = {};
      if (!received) {
        peer_log_.say(Severity::Error, received.error().message);
        continue;
      }
      is_ready_first_ = false;
      give_up_kept();
      const bool may_wait_for_body = (incoming.message.flags & handoff::kBodyComplete) == 0;
      if (may_wait_for_body && can_hand_over() && !take_slow_permit()) {
        // Others were quicker.
        incoming.message.kind = handoff::Kind::PartialRequest;
        incoming.message.bytes = *received;
        incoming.message.external_bytes = 0;
        note_unserved();
        if (handoff::send(inheritance_.parking, incoming.message, incoming.connection.get()) ==
            handoff::SendOutcome::Sent) {
          wipe(*received);
          return true;
        }
      }
      attach_from_lobby(std::move(incoming), std::move(*received));
      is_from_lobby_ = true;
      serve(ProtocolExchange::Patience::Wait);
      return true;
    }
  }

  [[nodiscard]] static Result<std::vector<std::byte>> received_before(
      const handoff::Incoming& incoming) {
    const handoff::Message& message = incoming.message;
    if (message.external_bytes != 0)
      return handoff::read_memory(incoming.memory, 0, message.external_bytes);
    return std::vector<std::byte>(message.bytes.begin(), message.bytes.end());
  }

  void attach_from_lobby(handoff::Incoming incoming, std::vector<std::byte> received) {
    const handoff::Message& message = incoming.message;
    Arrival arrival{.received = std::move(received),
                    .replies = message.replies,
                    .started = as_time(message.started),
                    .is_overdue = message.progress_deadline != 0 &&
                                  as_time(message.progress_deadline) <= os::monotonic_now()};
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    // A connection that was reset has no peer any more.
    const bool is_unix =
        ::getpeername(incoming.connection.get(), reinterpret_cast<sockaddr*>(&peer), &size) == 0
            ? peer.ss_family == AF_UNIX
            : os::is_unix_socket(incoming.connection.get());
    const os::Transport transport = is_unix ? os::Transport::Unix : os::Transport::Tcp;
    if (message.protocol == handoff::Protocol::Http && http_) {
      http_->attach_from(std::move(incoming.connection), transport, peer, std::move(arrival));
      exchange_ = http_.get();
    } else if (message.protocol == handoff::Protocol::FastCgi && fcgi_) {
      fcgi_->attach(std::move(incoming.connection), transport, std::move(arrival));
      exchange_ = fcgi_.get();
    }
    kept_since_ = {};
  }

  [[nodiscard]] static os::Monotonic as_time(handoff::Deadline deadline) {
    return os::Monotonic(
        std::chrono::duration_cast<os::Monotonic::duration>(std::chrono::nanoseconds(deadline)));
  }

  [[nodiscard]] bool can_hand_over() const {
    return inheritance_.parking >= 0 && !is_on_probation_ && lobby_.is_there();
  }

  // Before something goes to the lobby that will come back.
  void note_unserved() {
    if (lobby_.is_stopping()) lobby_.set_all_served(false);
  }

  // To the lobby, with what has come of a request. False: we still have it.
  bool hand_over() {
    if (!can_hand_over() || !exchange_->is_attached()) return false;
    const int descriptor = exchange_->descriptor();
    // The socket goes on living elsewhere, and so would its entry.
    if (watched_kept_ == descriptor) {
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
      watched_kept_ = -1;
    }
    const Options& options = inheritance_.options;
    const auto idle = is_fresh_ ? options.exchange.head_timeout : options.idle_timeout;
    const os::Monotonic limit = os::monotonic_now() + kLobbyPatience;
    std::optional<handoff::SendOutcome> outcome;
    note_unserved();
    for (;;) {
      outcome = exchange_->hand_over(inheritance_.parking, os::monotonic_now() + idle, is_fresh_);
      is_lobby_behind_ = outcome == handoff::SendOutcome::QueueFull ||
                         outcome == handoff::SendOutcome::TooManyInFlight;
      if (!is_lobby_behind_ || !can_hand_over() || os::monotonic_now() >= limit) break;
      // It needs a moment, where the peer might need for ever. Of descriptors under way poll knows nothing.
      pollfd room{.fd = *outcome == handoff::SendOutcome::QueueFull ? inheritance_.parking : -1,
                  .events = POLLOUT,
                  .revents = 0};
      ::poll(&room, 1, room.fd >= 0 ? 10 : 1);
    }
    if (!outcome) return false;
    switch (*outcome) {
      case handoff::SendOutcome::Sent:
        return true;
      case handoff::SendOutcome::QueueFull:
      case handoff::SendOutcome::TooManyInFlight:
        peer_log_.say(Severity::Warning,
                      "the lobby is behind: connections that wait are kept by workers meanwhile");
        return false;
      case handoff::SendOutcome::TooLarge:
      case handoff::SendOutcome::NoDescriptors:
      case handoff::SendOutcome::NoMemory:
      case handoff::SendOutcome::PeerGone:
        peer_log_.say(Severity::Warning,
                      fmt::format("cannot hand a connection over to the lobby: {}; this worker "
                                  "keeps it meanwhile",
                                  handoff::describe(*outcome)));
        return false;
    }
    return false;
  }

  [[nodiscard]] bool is_leaving() const { return is_leave_requested() || slot_.is_told_to_leave(); }

  void watch(int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
      throw os::SystemError(errno, "watch descriptor");
  }

  // False when nobody is waiting, of those who are ours to serve.
  bool accept_and_serve() {
    const bool is_guess = !is_listener_ready_;
    is_listener_ready_ = false;
    for (std::size_t i = 0; i < inheritance_.listeners.size(); ++i) {
      // Each is first in turn, so that none is served only when another one is idle.
      const std::size_t index = (first_listener_ + i) % inheritance_.listeners.size();
      const Listening& listener = inheritance_.listeners[index];
      if (serves_rest_ && (listener.is_inherited || is_empty_[index])) continue;
      const bool is_http = listener.protocol == Protocol::Http;
      sockaddr_storage peer;  // of a FastCGI connection nobody asks for it
      socklen_t size = sizeof peer;
      peer.ss_family = AF_UNSPEC;
      os::Fd socket(::accept4(listener.fd, is_http ? reinterpret_cast<sockaddr*>(&peer) : nullptr,
                              is_http ? &size : nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (socket.is_open()) {
        first_listener_ = index + 1;
        is_ready_first_ = true;
        if (is_guess) guess_.was_right();
        if (!is_admitted(socket.get(), listener)) return true;
        give_up_kept();  // before serving: it would wait behind a busy worker while others are free
        if (listener.transport == os::Transport::Tcp) set_no_delay(socket.get());
        if (is_http) {
          http_->attach_from(std::move(socket), listener.transport, peer);
          exchange_ = http_.get();
        } else {
          fcgi_->attach(std::move(socket), listener.transport);
          exchange_ = fcgi_.get();
        }
        kept_since_ = {};
        is_fresh_ = true;
        serve(ProtocolExchange::Patience::Wait);
        return true;
      }
      // Nobody comes through a closed door, and who has come through that of a TCP socket is waited for until the overseer shuts it.
      if (serves_rest_)
        is_empty_[index] =
            errno == EINVAL || (errno == EAGAIN && listener.transport == os::Transport::Unix);
      note_accept_failure(errno, listener.fd);
    }
    if (is_guess) guess_.was_wrong();
    if (!pauses_) nobody_waited_ = os::monotonic_now();
    return false;
  }

  [[nodiscard]] bool is_admitted(int socket, const Listening& listener) {
    const Options& options = inheritance_.options;
    std::string_view rule = "--allow";
    auto refused = options.admission.refuse(socket, listener.transport);
    if (!refused && listener.is_of_web_server) {
      rule = "FCGI_WEB_SERVER_ADDRS";
      refused = options.web_servers.refuse(socket, listener.transport);
    }
    if (!refused) return true;
    if (refused->empty()) return false;  // has gone
    slot_.count(shm::Event::NotAdmitted);
    peer_log_.say(Severity::Warning,
                  fmt::format("refused a connection of {}: {} does not name it", *refused, rule));
    return false;
  }

  void note_accept_failure(int error, int listener) {
    switch (error) {
      case EAGAIN:
      case EINTR:
      case EINVAL:  // the server stops, as we are about to hear
      case ECONNABORTED:
      // What has happened to that connection before it was accepted (accept(2)).
      case EPROTO:
      case ENETDOWN:
      case ENOPROTOOPT:
      case EHOSTDOWN:
      case ENONET:
      case EHOSTUNREACH:
      case ENETUNREACH:
        return;
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
      case EPERM:  // the machine's own rules, which somebody may change
        if (error == EMFILE && exchange_->is_attached()) {
          give_up_kept();  // has the descriptor that is missing
          return;
        }
        // The connection stays in the queue, so epoll would report it at once, for ever.
        peer_log_.say(Severity::Error,
                      os::describe_failure(error, "accept connection") + "; retrying in 0.1 s");
        pause();
        return;
      default:
        throw os::SystemError(error, "accept connection on descriptor", std::to_string(listener));
    }
  }

  // One request of the connection that is attached.
  Progress serve(ProtocolExchange::Patience patience) {
    const bool waits = patience == ProtocolExchange::Patience::Wait;
    // A new connection is not older than the moment at which nobody waited.
    const os::Monotonic since = !waits ? kept_since_ : is_fresh_ ? nobody_waited_ : os::Monotonic{};
    exchange_->expect_presence(exchange_ == fcgi_.get() &&
                               os::monotonic_now() - since <
                                   (waits ? kJustConnected : kStillThere));
    Progress progress = take_request(patience);
    while (progress == Progress::Idle && waits && !is_leaving()) {
      drain_wake_pipe();  // we have been told something else, which has time
      progress = take_request(patience);
    }
    is_fresh_ = is_from_lobby_ = false;
    if (progress == Progress::Incomplete || progress == Progress::Idle) {
      if (has_slow_permit_) give_slow_permit_back();
    }
    if (progress == Progress::Incomplete) return progress;
    if (progress == Progress::Idle && waits) {
      // Told to leave while nothing had come on a new connection: who has just connected is about to write.
      if (has_input_within(kLastGrace)) progress = exchange_->take_request(patience);
      if (progress == Progress::Idle) exchange_->close();
    }
    if (progress == Progress::Idle) return progress;
    AccessLog* log = access_log();
    const os::Monotonic started = os::monotonic_now();
    const bool has_request = progress != Progress::Gone;
    if (progress == Progress::Ready) {
      if (log != nullptr) begin_line(*log);
      slot_.begin_request(exchange_->method(), exchange_->uri(), exchange_->request_id(), started);
      progress = has_waited_too_long() ? Progress::Answered : exchange_->prepare();
      if (progress == Progress::Ready) {
        call_application();
      } else {
        slot_.become_idle();
      }
    }
    if (progress != Progress::Ready) {
      note_trouble();
      kept_since_ = os::monotonic_now();
    }
    if (has_slow_permit_) give_slow_permit_back();
    if (log != nullptr && has_request && exchange_->status() != 0) {
      const std::chrono::nanoseconds took =
          progress == Progress::Ready ? slot_.last_duration() : os::monotonic_now() - started;
      channel_.access(
          log->finish({.status = exchange_->status(),
                       .bytes = exchange_->body_sent(),
                       .took = std::chrono::duration_cast<std::chrono::microseconds>(took)}));
    }
    return progress;
  }

  // Incomplete: the lobby has it now, and nothing is attached.
  Progress take_request(ProtocolExchange::Patience patience) {
    if (!can_hand_over()) return exchange_->take_request(patience);
    if (patience_.is_short()) patience_.refill(os::monotonic_now());
    const milliseconds moment = patience_.moment();
    Progress progress = exchange_->take_request(patience, moment);
    if (progress == Progress::Idle && patience == ProtocolExchange::Patience::Wait && hand_over()) {
      return Progress::Incomplete;  // told to leave while nothing had come
    }
    if (progress == Progress::Incomplete) {
      if (moment > milliseconds::zero()) patience_.spent(moment, os::monotonic_now());
      const os::Monotonic limit = os::monotonic_now() + inheritance_.options.exchange.head_timeout;
      // The lobby has come to another result than we. It should not; but then they shall not send it to and fro.
      const bool is_disputed = is_from_lobby_ && exchange_->is_as_it_came();
      if (!is_disputed) {
        if (hand_over()) return progress;
        while (progress == Progress::Incomplete && is_lobby_behind_ && can_hand_over() &&
               os::monotonic_now() < limit) {
          progress = exchange_->take_request(patience, kBetweenTries);
          if (progress == Progress::Incomplete && hand_over()) return progress;
        }
        // What was ready and still is not complete was made to look so.
        if (is_from_lobby_ || os::monotonic_now() >= limit) exchange_->wait_no_longer();
      }
      if (progress == Progress::Incomplete) progress = exchange_->take_request(patience);
    }
    // Behind those who wait for a permit already.
    if (progress == Progress::Ready && !exchange_->has_whole_body() && !has_slow_permit_) {
      const bool others_first = !is_from_lobby_ && lobby_.held(shm::Holding::SlowBody) > 0;
      if ((others_first || !take_slow_permit()) && !is_from_lobby_ && hand_over())
        return Progress::Incomplete;
    }
    return progress;
  }

  // A peer does not take its response. A moment, as long as there is patience; then the lobby sends what is finished, and of the others as many
  // as there are permits for slow bodies may keep a worker, if somebody waits for it.
  WhenStalled on_stall(const Stall& stall) {
    using Action = WhenStalled::Action;
    if (stall.may_hand_over && can_hand_over() && has_lobby_room_for(stall.memory)) {
      if (patience_.is_short()) patience_.refill(os::monotonic_now());
      const milliseconds moment = patience_.moment();
      if (stall.waited < moment) return {.action = Action::Wait, .wait = moment - stall.waited};
      patience_.spent(stall.waited, os::monotonic_now());
      return {.action = Action::HandOver};
    }
    if (stall.waited_in_all < kStallLook)
      return {.action = Action::Wait, .wait = kStallLook - stall.waited_in_all};
    if (!has_slow_permit_ && !take_slow_permit() && stall.waited_in_all > kWithoutPermit &&
        !lobby_.is_stopping()) {
      const os::Monotonic now = os::monotonic_now();
      if (!is_somebody_waiting() && !is_readable(inheritance_.ready)) {
        others_wait_since_.reset();
      } else if (!others_wait_since_) {
        others_wait_since_ = now;
      } else if (now - *others_wait_since_ >= kStallLook) {
        others_wait_since_.reset();
        slot_.count(shm::Event::TimedOut);
        peer_log_.say(
            Severity::Warning,
            fmt::format("{} {} [{}]: dropped a response that its client takes too slowly: others "
                        "wait, and as many workers as --slow-bodies allows wait for such clients",
                        printable(exchange_->method()), printable(exchange_->uri()),
                        printable(exchange_->request_id())));
        return {.action = Action::GiveUp};
      }
    }
    return {.action = Action::Wait, .wait = kStallLook};
  }

  // With too many of them there, who takes his most slowly has to go.
  [[nodiscard]] bool has_lobby_room_for(std::uint64_t bytes) const {
    return bytes <= std::min(kLargestRest, inheritance_.options.lobby_memory);
  }

  [[nodiscard]] static bool is_readable(int socket) {
    pollfd watched{.fd = socket, .events = POLLIN, .revents = 0};
    return ::poll(&watched, 1, 0) > 0;
  }

  // To serve a request whose body is not here.
  bool take_slow_permit() {
    if (has_slow_permit_) return true;
    has_slow_permit_ = lobby_.slow_bodies().try_acquire(slot_.index());
    return has_slow_permit_;
  }

  void give_slow_permit_back() {
    has_slow_permit_ = false;
    static_cast<void>(lobby_.slow_bodies().release(slot_.index()));
    if (lobby_.held(shm::Holding::SlowBody) > 0 && can_hand_over())
      static_cast<void>(handoff::send_nudge(inheritance_.parking));  // it looks by itself, later
  }

  void begin_line(AccessLog& log) const {
    std::span<const Parameter> parameters = exchange_->parameters();
    // Of what was refused before it was a request, at least who sent it.
    std::array<Parameter, 1> sender;
    if (exchange_->method().empty() && exchange_ == http_.get()) {
      sender[0] = {.name = "REMOTE_ADDR", .value = http_->remote_address()};
      parameters = sender;
    }
    log.begin(parameters, exchange_->request_id(), os::wall_clock_now());
  }

  [[nodiscard]] AccessLog* access_log() {
    auto& log = exchange_ == http_.get() ? inheritance_.options.http_access_log
                                         : inheritance_.options.fcgi_access_log;
    return log ? &*log : nullptr;
  }

  [[nodiscard]] bool has_input_within(milliseconds limit) const {
    const os::Monotonic deadline = os::monotonic_now() + limit;
    while (true) {
      const auto left = std::chrono::ceil<milliseconds>(deadline - os::monotonic_now());
      pollfd ready{.fd = exchange_->descriptor(), .events = POLLIN, .revents = 0};
      const int count =
          ::poll(&ready, 1, static_cast<int>(std::max<milliseconds::rep>(left.count(), 0)));
      if (count >= 0 || errno != EINTR) return count > 0;
    }
  }

  // By the time that a front end has told. Then it is answered: whoever asked has given up, or will before an answer comes.
  [[nodiscard]] bool has_waited_too_long() {
    const milliseconds limit = inheritance_.options.queue_timeout;
    if (limit == milliseconds::zero()) return false;
    const auto start = cgi::request_start(exchange_->parameters());
    if (!start) return false;
    const auto waited = os::wall_clock_now().time_since_epoch() - *start;
    if (waited <= limit) return false;
    slot_.count(shm::Event::Refused);
    peer_log_.say(
        Severity::Warning,
        fmt::format("{} {} [{}]: refused a request: it had waited for {:.1f} s, longer "
                    "than --queue-timeout",
                    printable(exchange_->method()), printable(exchange_->uri()),
                    exchange_->request_id(), std::chrono::duration<double>(waited).count()));
    exchange_->answer(canned_response(503));
    return true;
  }

  void call_application() {
    if (time_limit_) time_limit_->watch(exchange_);
    const runtime::Served served = app_.serve(*exchange_);
    const os::Monotonic ended = os::monotonic_now();
    slot_.end_request(ended, exchange_->bytes_received(), exchange_->bytes_sent(),
                      served.failed || served.timed_out || exchange_->status() >= kServerError);
    kept_since_ = ended;
    if (served.failed) slot_.count(shm::Event::ApplicationFailed);
    if (served.timed_out) slot_.count(shm::Event::ApplicationTimedOut);
    if (exchange_->was_peer_lost() || exchange_->was_aborted()) slot_.count(shm::Event::ClientGone);
    if (const int error = exchange_->body_error(); error != 0 && !exchange_->was_aborted()) {
      note_broken_body(error);
    } else if (const auto wrong = exchange_->wrong_length(); wrong && !served.failed) {
      channel_.text(Severity::Warning,
                    fmt::format("{}the response has {} bytes, but its Content-Length says {}",
                                request_title(), wrong->sent, wrong->announced));
    }
    slot_.become_idle();
    note_wish(recycling_.request_ended(ended));
    keep_signal_handlers();
    if (served.next != runtime::Next::Continue) {
      channel_.text(Severity::Log,
                    served.next == runtime::Next::LeaveHarakiri
                        ? "leaving: the application asked for it (psgix.harakiri.commit)"
                        : "leaving: the application called exit");
      wants_no_more_ = true;
      request_leave();
    }
  }

  // And go on: it is the overseer that tells us to leave, when there is somebody else.
  void note_wish(shm::Wish wish) {
    if (wish == shm::Wish::None) return;
    slot_.want_replacement(wish);
    channel_.wants_replacement(::getpid());
  }

  // A body that broke off while the application read it.
  void note_broken_body(int error) {
    std::string_view reason = "it broke off";
    shm::Event event = shm::Event::ClientGone;
    if (error == EFBIG) {
      reason = "it is longer than --max-body";
      event = shm::Event::Refused;
    } else if (error == ETIMEDOUT) {
      reason = "it took too long";
      event = shm::Event::TimedOut;
    }
    slot_.count(event);
    peer_log_.say(
        Severity::Warning,
        fmt::format("{}the application could not read all of the body: {} after {} bytes (answered "
                    "with status {})",
                    request_title(), reason, exchange_->body_received(), exchange_->status()));
  }

  void note_trouble() {
    switch (exchange_->trouble()) {
      case Trouble::None:
      case Trouble::PeerClosed:
        return;
      case Trouble::Abandoned:
      case Trouble::Aborted:
        slot_.count(shm::Event::Abandoned);
        return;
      case Trouble::ProtocolError:
        slot_.count(shm::Event::Malformed);
        break;
      case Trouble::HeadTimeout:
      case Trouble::BodyTimeout:
        slot_.count(shm::Event::TimedOut);
        break;
      case Trouble::HeadTooLarge:
      case Trouble::BadRequest:
      case Trouble::BodyTooLarge:
      case Trouble::SpoolFailed:
        slot_.count(shm::Event::Refused);
        break;
    }
    if (!exchange_->trouble_text().empty()) {
      peer_log_.say(
          exchange_->trouble() == Trouble::SpoolFailed ? Severity::Error : Severity::Warning,
          request_title() + std::string(exchange_->trouble_text()));
    }
  }

  // "GET /x [request id]: "; empty when the request is not known.
  [[nodiscard]] std::string request_title() const {
    return exchange_->title().empty() ? std::string() : exchange_->title() + ": ";
  }

  // What has come is served first; see docs/decisions/0004.
  void give_up_kept() {
    for (int served = 0; exchange_->is_attached(); ++served) {
      exchange_->release_connection();
      if (!exchange_->is_attached()) return;
      // A peer that has more and more to ask must not hold us.
      if (served >= kMostWhileGivingUp) exchange_->keep_no_longer();
      serve(ProtocolExchange::Patience::Try);
    }
  }

  void wait() {
    int timeout = -1;
    const int kept = exchange_->is_attached() ? exchange_->descriptor() : -1;
    if (must_not_accept()) {
      std::array<pollfd, 2> ready{{{.fd = inheritance_.wake_read, .events = POLLIN, .revents = 0},
                                   {.fd = kept, .events = POLLIN, .revents = 0}}};
      const auto left = std::chrono::ceil<milliseconds>(pause_end_ - os::monotonic_now());
      ::poll(ready.data(), ready.size(),
             static_cast<int>(std::max<milliseconds::rep>(left.count(), 0)));
      drain_wake_pipe();
      return;
    }
    if (kept >= 0) {
      const milliseconds left = std::chrono::ceil<milliseconds>(
          kept_since_ + inheritance_.options.idle_timeout - os::monotonic_now());
      if (left.count() <= 0) {
        give_up_kept();
        return;
      }
      timeout = static_cast<int>(std::min<milliseconds::rep>(left.count(), 1 << 30));
      // One shot: a process that the application forked may hold the connection of an earlier request open, and its entry
      // must not wake us for ever.
      epoll_event event{};
      event.events = EPOLLIN | EPOLLONESHOT;
      event.data.fd = kept;
      const bool is_watched = ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, kept, &event) == 0;
      if (!is_watched && ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, kept, &event) != 0) {
        throw os::SystemError(errno, "watch kept connection");
      }
      watched_kept_ = kept;
    }
    const os::Monotonic before = os::monotonic_now();
    if (const auto end = recycling_.deadline()) {
      const milliseconds left = std::chrono::ceil<milliseconds>(*end - before);
      const auto most = static_cast<int>(std::clamp<milliseconds::rep>(left.count(), 0, 1 << 30));
      timeout = timeout < 0 ? most : std::min(timeout, most);
    }
    std::array<epoll_event, 8> events{};
    const int count =
        ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
    if (count < 0 && errno != EINTR) throw os::SystemError(errno, "wait for connections");
    last_look_ = os::monotonic_now();
    if (last_look_ - before > kImmediately) nobody_waited_ = last_look_;
    note_wish(recycling_.time_passed(last_look_));
    for (int i = 0; i < count; ++i) {
      const int ready = events[static_cast<std::size_t>(i)].data.fd;
      if (ready == inheritance_.wake_read) drain_wake_pipe();
      if (ready == inheritance_.ready) is_ready_signalled_ = true;
      for (std::size_t index = 0; index < inheritance_.listeners.size(); ++index) {
        if (inheritance_.listeners[index].fd != ready || is_listener_ready_) continue;
        is_listener_ready_ = true;
        // Nobody else was woken for it: who takes from another one first leaves this one to nobody.
        first_listener_ = index;
      }
    }
    // Of the ready queue the lobby reminds others.
    if (is_listener_ready_) is_ready_first_ = false;
  }

  void leave() {
    slot_.set_state(shm::State::Draining);
    close_doors();
    give_up_kept();
    // We may have been woken for a connection and for leaving at once, and nobody else was: take what is there. When the
    // application wants the end of this process, nothing had woken us.
    if (!wants_no_more_ && (is_listener_ready_ || !lobby_.is_stopping())) accept_and_serve();
    if (!wants_no_more_ && should_take_ready()) take_ready_and_serve();
    if (lobby_.is_stopping()) serve_rest();
    give_up_kept();
    slot_.set_state(shm::State::Draining);
    const Watchdog watchdog("on_worker_exit or an END block", "--exit-timeout",
                            inheritance_.options.exit_timeout, app_, channel_, inheritance_.number);
    app_.leave();
    slot_.set_state(shm::State::Gone);
  }

  // The server stops, its doors are closed: until nobody is left inside who waits to be served, in the queues, in the lobby and between.
  void serve_rest() {
    serves_rest_ = true;
    is_empty_.assign(inheritance_.listeners.size(), false);
    const os::Monotonic patience =
        os::monotonic_now() + inheritance_.options.exchange.body_timeout + kLobbyGrace;
    while (!wants_no_more_) {
      // In this order: what the lobby has sent back before it said so is in the ready queue.
      const bool is_settled = is_lobby_settled() || os::monotonic_now() >= patience;
      const bool was_ready =
          !must_not_accept() && inheritance_.ready >= 0 && take_ready_and_serve();
      const bool was_accepted = !wants_no_more_ && !must_not_accept() && accept_and_serve();
      if (was_ready || was_accepted) continue;
      give_up_kept();
      if (!is_settled || must_not_accept() || !are_queues_empty()) {
        wait_for_rest();
        continue;
      }
      lobby_.set_all_served(true);
      return;
    }
  }

  // What we have given to it is known to it, and it will send nothing back.
  [[nodiscard]] bool is_lobby_settled() const {
    if (inheritance_.parking < 0 || !lobby_.is_there()) return true;
    int unreceived = 0;
    if (::ioctl(inheritance_.parking, SIOCOUTQ, &unreceived) == 0 && unreceived > 0) return false;
    return lobby_.is_settled();
  }

  [[nodiscard]] bool are_queues_empty() const {
    for (std::size_t i = 0; i < inheritance_.listeners.size(); ++i) {
      if (!inheritance_.listeners[i].is_inherited && !is_empty_[i]) return false;
    }
    return true;
  }

  void wait_for_rest() {
    waiting_.clear();
    if (!must_not_accept()) {
      waiting_.push_back({.fd = inheritance_.ready, .events = POLLIN, .revents = 0});
      for (std::size_t i = 0; i < inheritance_.listeners.size(); ++i) {
        const Listening& listener = inheritance_.listeners[i];
        if (!listener.is_inherited && !is_empty_[i])
          waiting_.push_back({.fd = listener.fd, .events = POLLIN, .revents = 0});
      }
    }
    ::poll(waiting_.data(), waiting_.size(), static_cast<int>(kRestLook.count()));
  }

  Inheritance& inheritance_;
  runtime::App& app_;
  os::LogChannel channel_;
  os::LimitedLog peer_log_;
  shm::Scoreboard board_;
  shm::OwnSlot slot_;
  // One for each protocol that is listened for; at most one of them holds a connection, the one that `exchange_` is.
  std::unique_ptr<FcgiExchange> fcgi_;
  std::unique_ptr<HttpExchange> http_;
  ProtocolExchange* exchange_ = nullptr;
  std::optional<TimeLimit> time_limit_;
  shm::LobbyBoard lobby_;
  Patience patience_;
  handoff::ReceiveBuffer handoff_buffer_;
  bool is_ready_signalled_ = false;
  bool is_ready_first_ = true;
  os::Monotonic last_ready_look_{};
  bool is_lobby_behind_ = false;  // when something was to be handed over last
  bool is_from_lobby_ = false;    // so is the request on it
  bool is_on_probation_ = false;  // serves nobody but who comes over the probation socket
  bool is_fresh_ = false;         // nothing has come yet on the connection that is attached
  bool has_slow_permit_ = false;  // to serve a request whose body is not here
  std::optional<os::Monotonic> others_wait_since_;  // while a peer does not take its response
  int watched_kept_ = -1;                           // in epoll_
  std::random_device random_;
  Recycling recycling_;
  os::Fd epoll_;
  os::Monotonic kept_since_{};  // end of its last request
  std::vector<pollfd> waiting_;
  std::size_t first_listener_ = 0;
  Guess guess_;
  bool is_listener_ready_ = false;
  os::Monotonic last_look_{};
  os::Monotonic nobody_waited_{};  // at no listener, when that was last seen
  bool pauses_ = false;            // accepts nobody
  os::Monotonic pause_end_{};
  std::uint8_t step_backs_ = 0;  // that we have made
  bool serves_rest_ = false;     // those who are inside when the server stops
  std::vector<bool> is_empty_;   // then, for each listener: nobody is in its queue, nor will be
  bool wants_no_more_ = false;   // the application asked for the end of this process
};

}  // namespace

int run(Inheritance& inheritance) {
  try {
    install_signal_handlers(inheritance.wake_write);
    // Never destroyed: the process ends by _exit, and what the application holds stays as it is.
    return (new Worker(inheritance))->run();  // NOLINT(cppcoreguidelines-owning-memory): see above
  } catch (const std::exception& failure) {
    os::LogChannel(inheritance.log_channel).text(Severity::Panic, failure.what());
    return 1;
  }
}

}  // namespace bladepsgi::worker
