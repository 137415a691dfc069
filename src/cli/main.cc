// main: reads the command line and composes the program.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "config/config.h"
#include "config/exit_codes.h"
#include "config/options.h"
#include "monitoring/ping.h"
#include "os/background.h"
#include "os/fd.h"
#include "os/log.h"
#include "os/process.h"
#include "overseer/inherited.h"
#include "overseer/options.h"
#include "overseer/overseer.h"
#include "overseer/upgrade.h"

namespace bladepsgi {

namespace {

// Whoever started us may have closed them; the next descriptor opened must not become one of them.
void open_standard_descriptors() {
  int fd = 0;
  do {
    fd = ::open("/dev/null",
                O_RDWR);  // NOLINT(android-cloexec-open): they are what programs inherit
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) ::close(fd);
}

// Beside the program in a build tree, under ../lib when installed.
std::string runtime_module() {
  std::array<char, PATH_MAX> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  std::string directory(path.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  directory.erase(directory.rfind('/') + 1);
  std::string beside = directory + "runtime/perl.so";
  if (::access(beside.c_str(), F_OK) == 0) return beside;
  return directory + "../lib/bladepsgi/runtime/perl.so";
}

void print(std::FILE* stream, const std::string& text) {
  // Whoever closed the stream does not want to read it.
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), stream));
  static_cast<void>(std::fflush(stream));
}

config::Environment environment() {
  config::Environment set;
  for (const config::Variable& variable : config::kVariables) {
    const std::string name(variable.name);
    if (const char* value = std::getenv(name.c_str()); value != nullptr) set.emplace(name, value);
  }
  return set;
}

// Nobody shall wait for the end of what a process in the background inherited. The log stays where it is.
void give_up_terminal(bool keeps_output) {
  const os::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.is_open()) return;
  ::dup2(null.get(), STDIN_FILENO);

  if (!keeps_output) ::dup2(null.get(), STDOUT_FILENO);
}

// Into a file that somebody named there.
bool is_access_log_on_output(const overseer::Options& options) {
  struct stat output {};

  return options.access_log == "-" && options.serves_http() &&
         ::fstat(STDOUT_FILENO, &output) == 0 && S_ISREG(output.st_mode);
}

monitoring::Target target_of(const config::Address& address) {
  monitoring::Target target;
  target.name = config::to_text(address);
  target.path = address.path;
  target.port = address.port;
  if (address.kind == config::Address::Kind::Tcp) {
    const bool is_local = address.scope != config::Address::Scope::Host;
    target.hosts = is_local ? std::vector<std::string>{"127.0.0.1", "::1"}
                            : std::vector<std::string>{address.host};
  }
  return target;
}

int ping(const config::Address& address, config::Program program) {
  const monitoring::Finding finding = monitoring::ping(target_of(address), config::kPingLimit);
  if (finding.is_healthy) {
    print(stdout, finding.text + "\n");
    return to_int(config::ExitCode::Success);
  }
  print(stderr, std::string(config::name_of(program)) + ": " + finding.text + "\n");
  return to_int(config::ExitCode::Failure);
}

// Whoever has started a check of this program reads what has become of it there.
int refuse_check(const overseer::UpgradeOrder& order, const std::string& reason) {
  overseer::report_check(order.state,
                         {.exit = to_int(config::ExitCode::Usage), .error = reason, .result = {}});
  return to_int(config::ExitCode::Usage);
}

int run(int argc, char** argv) {
  const overseer::Invocation invocation = overseer::find_invocation(argc, argv);
  auto order = overseer::take_upgrade_order();
  if (!order) {
    print(stderr, std::string(config::name_of(config::program_of(argv[0]))) + ": " +
                      order.error().message + "\n");
    return to_int(config::ExitCode::Failure);
  }
  const bool is_check = *order && (*order)->kind == overseer::UpgradeOrder::Kind::Check;
  config::Parsed parsed = config::parse(argc, argv, environment());
  if (const auto* information = std::get_if<config::Information>(&parsed)) {
    print(stdout, information->text);
    return to_int(config::ExitCode::Success);
  }
  if (const auto* error = std::get_if<config::UsageError>(&parsed)) {
    if (is_check) return refuse_check(**order, error->message);
    print(stderr, error->text());
    return to_int(config::ExitCode::Usage);
  }
  auto& config = std::get<config::Config>(parsed);
  if (config.ping) return ping(*config.ping, config::program_of(argv[0]));
  const auto refuse = [&](const std::string& reason) {
    if (is_check) return refuse_check(**order, reason);
    print(stderr, config::UsageError{reason, config::program_of(argv[0])}.text());
    return to_int(config::ExitCode::Usage);
  };
  if (*order) {
    overseer::settle_listeners_anew(config, (*order)->state);
  } else if (auto settled = overseer::settle_listeners(config); !settled) {
    return refuse(settled.error().message);
  }
  auto options = overseer::make_options(config, runtime_module());
  if (!options) return refuse(options.error().message);
  if (config.print_config) {
    config.workers = options->pool.workers;
    print(stdout, config::config_text(config));
    return to_int(config::ExitCode::Success);
  }
  options->invocation = invocation;
  options->order = std::move(*order);
  // Its log lines go where the running server's go.
  if (is_check) ::dup2(options->order->state.check->log.number, STDERR_FILENO);
  const auto serve = [&] {
    os::ProcessTitle title(argc, argv);  // from here on argv's memory is not ours to read
    return overseer::Overseer(std::move(*options), title).run();
  };
  if (!config.daemonize || options->order) return serve();
  return os::run_in_background([&](const std::function<void()>& release) {
    options->on_ready = [&] {
      give_up_terminal(config.raw_output || is_access_log_on_output(*options));
      release();
    };
    return serve();
  });
}

}  // namespace

}  // namespace bladepsgi

int main(int argc, char** argv) {
  bladepsgi::open_standard_descriptors();
  try {
    return bladepsgi::run(argc, argv);
  } catch (const std::exception& failure) {
    bladepsgi::os::LogWriter(STDERR_FILENO)
        .write(bladepsgi::Severity::Fatal, "overseer", ::getpid(), failure.what(),
               bladepsgi::os::LogWriter::Origin::Own);
  }
  return bladepsgi::config::to_int(bladepsgi::config::ExitCode::Failure);
}
