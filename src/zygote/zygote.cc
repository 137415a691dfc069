#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <utility>

#include "base/text.h"
#include "os/clock.h"
#include "os/heap.h"
#include "os/lifeline.h"
#include "os/log.h"
#include "os/process.h"
#include "os/service_manager.h"
#include "os/signals.h"
#include "os/socket.h"
#include "os/system_error.h"
#include "worker/pool_host.h"
#include "zygote/control.h"
#include "zygote/handles.h"
#include "zygote/inheritance.h"

namespace bladepsgi::zygote {

namespace {

constexpr int kFailed = 1;
constexpr int kNotLoaded = 3;

class Zygote {
 public:
  explicit Zygote(Inheritance& inheritance)
      : inheritance_(inheritance), options_(inheritance.options), log_(inheritance.log_channel) {}

  int run() {
    prepare();
    os::ServiceManager::forget_in_environment();
    if (auto dropped = drop_root(); !dropped) {
      log_.text(Severity::Fatal, dropped.error().message);
      return kNotLoaded;
    }
    if (!options_.spool_directory.empty() &&
        ::access(options_.spool_directory.c_str(), W_OK | X_OK) != 0) {
      log_.text(Severity::Fatal,
                os::describe_failure(errno, "write into the spool directory as the user of --user",
                                     options_.spool_directory) +
                    "; see --spool-directory");
      return kFailed;
    }
    if (auto opened = open_module(); !opened) {
      log_.text(Severity::Fatal, opened.error().message);
      return kNotLoaded;
    }
    if (options_.preload) {
      if (const int code = load(inheritance_.slot, log_); code != 0) return code;
      warn_about_shared_handles();
      os::release_code();
      os::settle_heap();
    } else {
      // No code of the application ever runs in this process.
      os::block_all_signals();
      if (const int code = send_loaded(inheritance_.slot, {}, log_); code != 0) return code;
    }
    log_.ready(::getpid());
    return serve();
  }

 private:
  // Takes over descriptors and signals as the application shall find them.
  void prepare() {
    os::die_with_parent(inheritance_.overseer);
    adopt_output(inheritance_.output, inheritance_.error);
    {
      const os::Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (null.is_open()) ::dup2(null.get(), STDIN_FILENO);
    }
    std::vector<int> keep = serving_descriptors();
    keep.insert(keep.end(), {inheritance_.control, inheritance_.lifeline, inheritance_.log_channel,
                             inheritance_.mapping->descriptor()});
    os::close_all_except(keep);
    tie();
    before_loading_ = open_descriptors();
    std::vector<int> not_for_kids = serving_descriptors();
    not_for_kids.insert(not_for_kids.end(),
                        {inheritance_.control, inheritance_.lifeline, tie_.get()});
    os::set_private_descriptors(std::move(not_for_kids));
    os::restore_descriptor_limit(options_.descriptor_limit);
    inheritance_.title->set(inheritance_.process_title);
    os::reset_signal_handlers();
    os::set_signal_handler(SIGPIPE, os::shrug, SA_RESTART);  // writes to a closed pipe end by EPIPE
    os::set_signal_handler(SIGINT, os::shrug,
                           SA_RESTART);  // a terminal's Ctrl-C is the overseer's business
    os::unblock_all_signals();
  }

  [[nodiscard]] std::vector<int> serving_descriptors() const {
    std::vector<int> fds;
    for (const worker::Listening& one : inheritance_.listeners)
      fds.push_back(one.fd);
    for (const int channel : {inheritance_.parking, inheritance_.ready}) {
      if (channel >= 0) fds.push_back(channel);
    }
    return fds;
  }

  // For an application that changes its user itself.
  void tie() {
    tie_ = os::tie_to(inheritance_.lifeline);
    if (!tie_.is_open() && !std::exchange(has_warned_, true)) {
      log_.text(Severity::Warning,
                "cannot tie this process to the life of the overseer (is /proc there?): if the "
                "application changes its user, it will outlive a kill -9 of the overseer");
    }
  }

  static void adopt_output(int output, int error) {
    if (output >= 0) ::dup2(output, STDOUT_FILENO);
    if (error >= 0) ::dup2(error, STDERR_FILENO);
  }

  Result<void> drop_root() {
    if (!options_.identity) return {};
    if (auto dropped = os::drop_privileges(*options_.identity); !dropped) return dropped;
    os::die_with_parent(inheritance_.overseer);  // the kernel forgot it at the change
    return {};
  }

  Result<void> open_module() {
    // Symbols of the interpreter must be visible to the XS modules that it loads.
    void* handle = ::dlopen(options_.runtime_module.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (handle == nullptr) {
      const char* reason = ::dlerror();
      const std::string_view hint = ::access(options_.runtime_module.c_str(), R_OK) == 0
                                        ? "it was built for another interpreter than this machine "
                                          "has: rebuild or reinstall BladePSGI"
                                        : "the user that the application runs as must be able to "
                                          "read it, and to enter the folders above it";
      return fail(Remedy::Refuse, fmt::format("cannot load the language runtime '{}': {}; {}",
                                              options_.runtime_module,
                                              reason != nullptr ? reason : "unknown reason", hint));
    }
    const auto find =
        reinterpret_cast<runtime::ModuleFunction>(::dlsym(handle, runtime::kModuleSymbol));
    module_ = find != nullptr ? find() : nullptr;
    if (module_ == nullptr || module_->abi != runtime::kModuleAbi || module_->load == nullptr) {
      return fail(
          Remedy::Refuse,
          fmt::format("'{}' is no language runtime of this version of BladePSGI; reinstall it",
                      options_.runtime_module));
    }
    return {};
  }

  // Loads the application into this process: the zygote, or without preloading each of its children. All signals are blocked
  // when it returns. Not 0: the exit code of this process, and the reason is in the log.
  int load(std::uint32_t slot, const os::LogChannel& log) {
    const os::Monotonic start = os::monotonic_now();
    worker::PoolHost::Setup setup;
    setup.mapping = inheritance_.mapping;
    setup.generation = inheritance_.generation;
    setup.application_path = options_.load.application_path;
    setup.loader = options_.load.loader;
    setup.listen_descriptor = inheritance_.listeners.front().fd;
    setup.log_channel = log.fd();
    setup.slot = slot;
    setup.role_words = {"overseer", "zygote", "monitoring", "lobby", "worker"};
    setup.on_auxiliary = [this, slot](std::string_view name, std::uint32_t index) {
      names_.emplace_back(name);
      return send(inheritance_.control,
                  {.kind = MessageKind::AuxiliaryRequested, .slot = slot, .number = index}, name);
    };
    host_ = std::make_unique<worker::PoolHost>(std::move(setup));
    auto app = module_->load(*host_, options_.load);
    // From here on no code of the application runs until this process says so: no handler, no timer.
    os::block_all_signals();
    if (!app) {
      log.text(Severity::Fatal, app.error().message);
      return kNotLoaded;
    }
    app_ = *app;
    host_->end_loading();
    const auto took = os::monotonic_now() - start;
    return send_loaded(slot, std::chrono::duration_cast<std::chrono::milliseconds>(took), log);
  }

  // Returns as load does.
  [[nodiscard]] int send_loaded(std::uint32_t slot,
                                std::chrono::milliseconds took,
                                const os::LogChannel& log) const {
    const Message message{.kind = MessageKind::Loaded, .slot = slot, .value = took.count()};
    const auto sent = send(inheritance_.control, message);
    if (sent) return 0;
    // A zygote that dies meanwhile says so by itself, and a new one makes this process anew.
    if (is_child_ && os::has_hung_up(inheritance_.control)) return kFailed;
    log.text(
        Severity::Fatal,
        sent.error().message + "; has the application closed descriptors that are the server's?");
    return kFailed;
  }

  // What the application holds that its workers would share, or miss.
  void warn_about_shared_handles() {
    const auto warn = [this](std::string_view what, std::string_view advice) {
      log_.text(Severity::Warning,
                fmt::format("the application opened while it loaded, before the workers were "
                            "forked: {}; {}",
                            what, advice));
    };
    for (const int fd : open_descriptors()) {
      if (std::find(before_loading_.begin(), before_loading_.end(), fd) != before_loading_.end())
        continue;
      if (const std::string text = describe_socket(fd); !text.empty()) {
        warn(
            text,
            "every process shares it, and their answers would mix: open it in each worker instead, "
            "in on_worker_start or when it is first used");
      }
    }
    for (const std::string& text : app_->unsafe_handles()) {
      warn(text,
           "every process shares its connection: connect in each worker instead, in "
           "on_worker_start, and disconnect what loading has needed");
    }
    if (const std::size_t threads = os::thread_count(); threads > 1) {
      warn(fmt::format("{} thread{}", threads - 1, threads == 2 ? "" : "s"),
           "they do not exist in the workers, and what they had locked stays locked there: start "
           "them in each worker instead, in on_worker_start, or use --no-preload");
    }
  }

  int serve() {
    while (true) {
      bool is_closed = false;
      auto received = receive(inheritance_.control, is_closed);
      if (!received) {
        log_.text(Severity::Error, received.error().message);
        return 1;
      }
      if (is_closed) return 0;
      if (*received && (*received)->message.kind == MessageKind::Rename) {
        inheritance_.title->set((*received)->text);
      } else if (*received) {
        make_child(**received);
      }
    }
  }

  void make_child(ReceivedMessage& request) {
    if (app_ != nullptr) app_->before_fork();
    const bool is_worker = request.message.kind == MessageKind::ForkWorker;
    const auto pid = os::fork_role(os::Parent::CallersParent, [&] {
      return is_worker ? run_worker(request) : run_auxiliary(request);
    });
    Message answer{.kind = MessageKind::Forked, .slot = request.message.slot};
    if (pid) {
      answer.pid = *pid;
    } else {
      answer.kind = MessageKind::ForkFailed;
      log_.text(Severity::Error, pid.error().message);
    }
    // A closed socket shows at the next receive.
    static_cast<void>(send(inheritance_.control, answer).has_value());
  }

  // Descriptors of the child: output, error (both absent with raw output), log channel, which is returned. They live as long as
  // the process: its Fd objects are in frames that are never left.
  int enter_child(ReceivedMessage& request) {
    os::die_with_parent(inheritance_.overseer);
    is_child_ = true;
    tie();  // our own: what we inherited is the zygote's
    ::close(inheritance_.lifeline);
    ::close(std::exchange(inheritance_.log_channel, -1));
    log_ = os::LogChannel(request.fds.back().get());
    if (request.fds.size() == 3) {
      adopt_output(request.fds[0].get(), request.fds[1].get());
      request.fds[0].reset();
      request.fds[1].reset();
    }
    return request.fds.back().get();
  }

  // What is the server's stays with this process when it forks; `wake` are the ends of a worker's pipe.
  void keep_from_kids(std::initializer_list<int> wake) {
    std::vector<int> fds = serving_descriptors();
    fds.insert(fds.end(), {tie_.get(), inheritance_.control});
    fds.insert(fds.end(), wake);
    os::set_private_descriptors(std::move(fds));
  }

  // In a child: when this returns 0 the application is there, and the overseer's socket is not any more. Else as load.
  int take_application(std::uint32_t slot) {
    if (app_ == nullptr) {
      os::unblock_all_signals();
      if (const int code = load(slot, log_); code != 0) return code;
    }
    ::close(std::exchange(inheritance_.control, -1));
    return 0;
  }

  // The ends of a worker's wake pipe are the last of its descriptors.
  static os::Fd take_last(ReceivedMessage& request) {
    os::Fd last = std::move(request.fds.back());
    request.fds.pop_back();
    return last;
  }

  int run_worker(ReceivedMessage& request) {
    worker::Inheritance child;
    const os::Fd probation = request.message.value == 1 ? take_last(request) : os::Fd();
    child.probation = probation.get();
    const os::Fd wake_write = take_last(request);
    const os::Fd wake_read = take_last(request);
    child.wake_read = wake_read.get();
    child.wake_write = wake_write.get();
    child.log_channel = enter_child(request);
    inheritance_.title->set(
        fmt::format("{}: worker {}", options_.title_prefix, request.message.number));
    keep_from_kids({child.wake_read, child.wake_write, child.probation});
    if (const int code = take_application(request.message.slot); code != 0) return code;
    keep_from_kids({child.wake_read, child.wake_write, child.probation});
    child.listeners = inheritance_.listeners;
    child.parking = inheritance_.parking;
    child.ready = inheritance_.ready;
    child.mapping = inheritance_.mapping;
    child.slot = request.message.slot;
    child.number = request.message.number;
    child.app = app_;
    child.host = host_.get();
    child.options = options_.worker;
    return worker::run(child);
  }

  int run_auxiliary(ReceivedMessage& request) {
    const os::LogChannel channel(enter_child(request));
    const std::uint32_t index = request.message.number;
    inheritance_.title->set(options_.title_prefix + ": " + request.text);
    keep_from_kids({});
    if (const int code = take_application(request.message.slot); code != 0) return code;
    keep_from_kids({});
    if (index >= names_.size() || names_[index] != request.text) {
      channel.text(Severity::Error,
                   fmt::format("this run of the loader asked for no auxiliary process '{}' as "
                               "number {}: it must ask for the same ones each time",
                               printable(request.text), index));
      return kFailed;
    }
    host_->become(runtime::ChildRole::Auxiliary, request.message.slot, channel.fd(), nullptr);
    if (!has_own_handler(SIGINT)) os::set_signal_handler(SIGINT, os::shrug, SA_RESTART);
    app_->enter_child(runtime::ChildRole::Auxiliary, *host_);
    channel.ready(::getpid());
    os::unblock_all_signals();
    const int code = app_->run_auxiliary(index);
    app_->leave();
    return code;
  }

  static bool has_own_handler(int number) {
    return !os::has_signal_handler(number, SIG_DFL) && !os::has_signal_handler(number, SIG_IGN);
  }

  Inheritance& inheritance_;
  const Options& options_;
  os::LogChannel log_;
  os::Fd tie_;
  bool is_child_ = false;
  bool has_warned_ = false;
  std::vector<int> before_loading_;
  const runtime::Module* module_ = nullptr;
  std::unique_ptr<worker::PoolHost> host_;
  runtime::App* app_ = nullptr;     // null: each child loads it for itself
  std::vector<std::string> names_;  // of auxiliary processes, by index
};

}  // namespace

int run(Inheritance& inheritance) {
  return Zygote(inheritance).run();
}

}  // namespace bladepsgi::zygote
