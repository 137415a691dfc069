#include "overseer/options.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/text.h"
#include "config/options.h"
#include "control/place.h"
#include "os/privileges.h"
#include "os/system_error.h"

namespace bladepsgi::overseer {

namespace {

std::string spool_directory(const config::Config& config) {
  if (!config.spool_directory.empty()) return config.spool_directory;
  const char* temporary = std::getenv("TMPDIR");
  return temporary != nullptr && *temporary != '\0' ? temporary : "/tmp";
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

ControlPlace control_place(const config::Config& config) {
  if (config.control_socket_path == config::kNoControl) return {};
  if (!config.control_socket_path.empty()) return {.path = config.control_socket_path};
  const auto place =
      control::place_of_server({.runtime_directory = variable("RUNTIME_DIRECTORY"),
                                .user_runtime_directory = variable("XDG_RUNTIME_DIR"),
                                .is_root = os::is_root()});
  if (!place) return {};
  return {.path = {}, .directory = place->directory, .is_ours = place->is_ours};
}

worker::Options make_worker_options(const config::Config& config, std::uint32_t workers) {
  worker::Options options;
  options.idle_timeout = config.idle_timeout;
  options.short_wait = config.request_wait;
  options.lobby_memory = config.lobby_memory;
  options.recycling = {.requests = config.max_requests,
                       .lifetime = config.max_lifetime,
                       .memory = config.max_memory};
  options.time_limit.limit = config.request_timeout;
  options.time_limit.grace = config.request_timeout_grace;
  options.start_timeout = config.start_timeout;
  options.exit_timeout = config.exit_timeout;
  options.queue_timeout = config.queue_timeout;
  worker::ExchangeOptions& exchange = options.exchange;
  exchange.head_timeout = config.head_timeout;
  exchange.body_timeout = config.body_timeout;
  exchange.send_timeout = config.send_timeout;
  exchange.body_ahead = config.body_ahead;
  exchange.min_body_rate = config.min_body_rate;
  if (config.max_body != 0) exchange.max_body = config.max_body;
  exchange.abandons_half_closed = config.abandoned_tcp;
  exchange.input_memory = static_cast<std::size_t>(config.input_memory);
  exchange.spool_directory = spool_directory(config);
  options.fcgi_limits.parameter_bytes = static_cast<std::size_t>(config.max_params_bytes);
  options.fcgi_limits.parameter_count = config.max_params;
  exchange.drain_bytes = config.drain_limit;
  options.fcgi_limits.drain_bytes = config.drain_limit;
  options.http_limits.head_bytes = static_cast<std::size_t>(config.max_params_bytes);
  options.http_limits.field_count = config.max_params;
  options.http_limits.drain_bytes = config.drain_limit;
  switch (config.forwarded) {
    case config::Forwarded::XForwarded:
      options.forwarding = http::ForwardingFields::XForwarded;
      break;
    case config::Forwarded::Forwarded:
      options.forwarding = http::ForwardingFields::Forwarded;
      break;
    case config::Forwarded::Both:
      options.forwarding = http::ForwardingFields::Both;
      break;
  }
  options.fcgi_values.max_connections = workers;
  options.fcgi_values.max_requests = workers;
  switch (config.input) {
    case config::Input::Auto:
      exchange.input = worker::InputMode::Auto;
      break;
    case config::Input::Stream:
      exchange.input = worker::InputMode::Stream;
      break;
    case config::Input::Spool:
      exchange.input = worker::InputMode::Spool;
      break;
  }
  exchange.environment.mount = config.mount;
  switch (config.path_info) {
    case config::PathInfo::Auto:
      exchange.environment.path_info = cgi::PathInfoMode::Auto;
      break;
    case config::PathInfo::Plack:
      exchange.environment.path_info = cgi::PathInfoMode::Plack;
      break;
    case config::PathInfo::Server:
      exchange.environment.path_info = cgi::PathInfoMode::Server;
      break;
  }
  return options;
}

lobby::Options make_lobby_options(const config::Config& config, const worker::Options& worker) {
  lobby::Options options;
  options.fcgi_limits = worker.fcgi_limits;
  options.http_limits = worker.http_limits;
  options.idle_timeout = config.idle_timeout;
  options.head_timeout = config.head_timeout;
  options.body_timeout = config.body_timeout;
  options.send_timeout = config.send_timeout;
  options.close_timeout = worker.exchange.close_timeout;
  options.drain_bytes = config.drain_limit;
  options.body_ahead = config.body_ahead;
  options.min_body_rate = config.min_body_rate;
  options.most_connections = config.lobby_connections;
  options.most_bytes = config.lobby_memory;
  return options;
}

// Half of the workers unless said otherwise; never all of several.
std::uint32_t slow_bodies(std::uint32_t wanted, std::uint32_t workers) {
  if (wanted == 0) wanted = workers / 2;
  return std::clamp(wanted, 1U, std::max(workers - 1, 1U));
}

// How many workers there are, and when.
Result<void> set_workers(const config::Config& config, PoolOptions& pool) {
  constexpr std::uint32_t kLeastRoom = 32;
  const auto refuse = [](std::string text) {
    return fail(Remedy::Refuse, std::move(text));
  };
  const auto option = [](std::string_view name, std::uint32_t value) {
    return "--" + std::string(name) + "=" + std::to_string(value);
  };
  pool.workers = config.workers != 0 ? config.workers : default_workers();
  pool.max_workers = config.max_workers != 0
                         ? config.max_workers
                         : std::clamp(2 * pool.workers, kLeastRoom, config::kMostWorkers);
  supervise::ScalingOptions& scaling = pool.scaling;
  scaling.most = pool.workers;
  scaling.least = config.min_workers.value_or(pool.workers);
  scaling.least_spare = config.min_spare;
  scaling.most_spare = config.max_spare;
  scaling.idle_timeout = config.worker_idle_timeout;
  const std::string workers =
      option("workers", pool.workers) + (config.workers == 0 ? " (one for each processor)" : "");
  if (pool.max_workers < pool.workers) {
    return refuse(option("max-workers", pool.max_workers) + " is less than " + workers);
  }
  if (scaling.least > scaling.most) {
    return refuse(option("min-workers", scaling.least) + " is more than " + workers);
  }
  const bool is_dynamic = scaling.least < scaling.most;
  if (!is_dynamic && (scaling.least_spare != 0 || scaling.most_spare != 0)) {
    return refuse((scaling.least_spare != 0 ? option("min-spare", scaling.least_spare)
                                            : option("max-spare", scaling.most_spare)) +
                  " means nothing unless --min-workers is less than " + workers);
  }
  if (scaling.least_spare > scaling.most) {
    return refuse(option("min-spare", scaling.least_spare) + " is more than " + workers);
  }
  if (scaling.most_spare != 0 && scaling.most_spare < scaling.least_spare) {
    return refuse(option("max-spare", scaling.most_spare) + " is less than " +
                  option("min-spare", scaling.least_spare));
  }
  return {};
}

worker::Protocol worker_protocol(config::Protocol protocol) {
  return protocol == config::Protocol::FastCgi ? worker::Protocol::FastCgi : worker::Protocol::Http;
}

}  // namespace

std::uint32_t default_workers() {
  constexpr std::int64_t kLeast = 2;
  constexpr std::int64_t kMost = config::kMostWorkers;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  // More processors than fit the set: then what the machine has.
  const std::int64_t processors = ::sched_getaffinity(0, sizeof allowed, &allowed) == 0
                                      ? CPU_COUNT(&allowed)
                                      : ::sysconf(_SC_NPROCESSORS_ONLN);
  return static_cast<std::uint32_t>(std::clamp(processors, kLeast, kMost));
}

bool Options::serves_http() const {
  return std::any_of(pool.listen.begin(), pool.listen.end(), [](const ListenOptions& one) {
    return one.protocol == worker::Protocol::Http;
  });
}

Result<Options> make_options(const config::Config& config, const std::string& runtime_module) {
  Options options;
  options.title_prefix = config.proctitle_prefix;
  options.notes = config.notes;
  options.pid_file = config.pid_file;
  options.control = control_place(config);
  options.raw_output = config.raw_output;
  options.web_server_addresses = config.web_server_addresses;
  options.access_log = config.access_log == "off"  ? std::string()
                       : config.access_log.empty() ? std::string("-")
                                                   : config.access_log;
  options.on_crash = config.on_crash == config::OnCrash::Stop ? supervise::CrashAction::Stop
                                                              : supervise::CrashAction::Restart;
  options.stop.drain_delay = config.drain_delay;
  options.stop.timeout = config.stop_timeout;
  PoolOptions& pool = options.pool;
  for (const config::Listen& one : config.listen) {
    auto& wanted = one.protocol == config::Protocol::Health ? pool.health : pool.listen;
    wanted.push_back({.address = one.address, .protocol = worker_protocol(one.protocol)});
  }
  if (pool.listen.empty()) {
    return fail(Remedy::Refuse,
                "there is nothing to listen on: use --listen, or let the web server that starts it "
                "pass its socket as descriptor 0");
  }
  pool.statistics_path = config.stats_socket_path;
  pool.access.mode = config.socket_mode;
  if (!config.socket_owner.empty()) {
    auto owner = os::find_user(config.socket_owner);
    if (!owner) return fail(Remedy::Refuse, "--socket-owner: " + owner.error().message);
    pool.access.owner = *owner;
  }
  if (!config.socket_group.empty()) {
    auto group = os::find_group(config.socket_group);
    if (!group) return fail(Remedy::Refuse, "--socket-group: " + group.error().message);
    pool.access.group = *group;
  }
  pool.backlog = static_cast<int>(config.backlog);
  if (auto set = set_workers(config, pool); !set) return fail(set.error());
  pool.shared_memory = config.shared_memory;
  pool.load_timeout = config.load_timeout;
  pool.reload_step = config.reload_step;
  pool.recycle_share = config.recycle_share;
  pool.canary = config.canary;
  pool.judgement = {.requests = config.canary_requests,
                    .time = config.canary_time,
                    .slowness = config.canary_slowness};
  if (!config.probe.empty() && (config.probe.front() != '/' ||
                                std::any_of(config.probe.begin(), config.probe.end(),
                                            [](char c) { return c <= ' ' || c >= '\x7f'; }))) {
    return fail(Remedy::Refuse, "--probe: '" + printable(config.probe) +
                                    "' is no path: it begins with / and is written as in a URL");
  }
  pool.probe = config.probe;
  pool.probe_timeout = config.probe_timeout;

  zygote::Options& zygote = pool.zygote;
  zygote.title_prefix = config.proctitle_prefix;
  zygote.runtime_module = runtime_module;
  zygote.preload = !config.no_preload;
  zygote.load.application_path = config.application_path;
  zygote.load.application_code = config.application_code;
  zygote.load.loader = config.loader;
  zygote.load.include_directories = config.include_directories;
  zygote.load.modules = config.modules;
  zygote.load.request_timeout = config.request_timeout;
  zygote.load.environment_name = config.plack_env;
  zygote.load.error_stream = config.errors == config::Errors::FastCgi
                                 ? runtime::ErrorStream::Protocol
                                 : runtime::ErrorStream::Log;
  if (!config.user.empty() || !config.group.empty()) {
    auto identity = os::find_identity(config.user, config.group);
    if (!identity)
      return fail(Remedy::Refuse, std::string(config.user.empty() ? "--group: " : "--user: ") +
                                      identity.error().message);
    if (!os::is_root() && identity->user != ::geteuid()) {
      return fail(Remedy::Refuse, "--user: only root can change to user '" + config.user + "'");
    }
    if (!os::is_root() && identity->group != ::getegid()) {
      return fail(Remedy::Refuse,
                  config.group.empty()
                      ? "--user: only root can change to the group of user '" + config.user + "'"
                      : "--group: only root can change to group '" + config.group + "'");
    }
    if (os::is_root()) {
      zygote.identity = *identity;
      // The sockets belong to whom the application runs as, unless said otherwise.
      if (!pool.access.owner) pool.access.owner = identity->user;
      if (!pool.access.group) pool.access.group = identity->group;
    }
  }
  zygote.worker = make_worker_options(config, pool.workers);
  if (config.lobby_connections != 0) pool.lobby = make_lobby_options(config, zygote.worker);
  pool.slow_bodies = slow_bodies(config.slow_bodies, pool.workers);
  auto format = worker::AccessLog::compile(config.access_log_format);
  if (!format) return fail(Remedy::Refuse, "--access-log-format: " + format.error().message);
  if (!options.access_log.empty()) {
    zygote.worker.http_access_log = *format;
    // FastCGI has a web server in front, which writes one.
    if (!config.access_log.empty()) zygote.worker.fcgi_access_log = *format;
  }
  auto admission = worker::Admission::parse(config.allow);
  if (!admission) return fail(Remedy::Refuse, "--allow: " + admission.error().message);
  zygote.worker.admission = std::move(*admission);
  if (config.web_server_addresses)
    zygote.worker.web_servers = worker::Admission::web_servers(*config.web_server_addresses);
  auto trusted = http::TrustedProxies::parse(config.trust_proxy);
  if (!trusted) return fail(Remedy::Refuse, "--trust-proxy: " + trusted.error().message);
  zygote.worker.trusted_proxies = std::move(*trusted);
  const std::string& directory = zygote.worker.exchange.spool_directory;
  if (config.input == config::Input::Spool) {
    if (::access(directory.c_str(), W_OK | X_OK) != 0) {
      return fail(Remedy::Refuse,
                  os::describe_failure(errno, "write into the spool directory", directory) +
                      "; see --spool-directory");
    }
    zygote.spool_directory = directory;  // looked at once more by whom it is for
  }
  return options;
}

}  // namespace bladepsgi::overseer
