// State: what an overseer knows that the next program, which goes on in its place, has to know too (overseer/upgrade.h).
//
// A record of plain values, written by one version of the program and read by another one: JSON, with a version of its own. A member
// that a reader does not know is left alone; one that it needs and does not find is an error, and so is everything that is not what
// it should be, by name. So whoever adds a member has its reader give it a value where it is missing, or raises kStateVersion, which keeps
// older versions from being replaced without a restart. Strings are bytes: what is not printable ASCII travels as %XX.
//
// Beside the record stand the formats in which processes of the old program and the new one talk to each other meanwhile. They have to be
// the same: two that differ cannot take turns without a restart. A zygote that the new overseer would not understand is given up.
//
// Pure: descriptors are numbers here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/file_identity.h"
#include "os/listener.h"

namespace bladepsgi::overseer {

inline constexpr std::int64_t kStateVersion = 1;

struct Descriptor {
  int number = -1;  // none

  [[nodiscard]] bool is_open() const { return number >= 0; }

  bool operator==(const Descriptor&) const = default;
};

struct Formats {
  std::uint32_t memory = 0;    // shm::kLayoutVersion
  std::uint32_t handover = 0;  // handoff::kFormat
  std::uint32_t log = 0;       // os::kLogFormat
  std::uint32_t zygote = 0;    // zygote::kFormat; need not be the same

  // Of this program.
  [[nodiscard]] static Formats ours();

  bool operator==(const Formats&) const = default;
};

// Pipes of a process, and what has come of lines that are not whole yet.
struct SourceState {
  std::string role;
  std::int32_t pid = 0;
  bool is_reading = false;
  bool is_dead = false;  // somebody else holds the pipes
  bool said_unsound = false;
  std::string last_error;
  std::array<Descriptor, 3> pipes;   // output, error, channel
  std::array<std::string, 2> lines;  // of output and error
  std::string frames;                // of the channel, and the two that are made of it
  std::string text;
  std::string access;
};

struct ListenerState {
  os::ListenerRecord record;
  bool is_http = false;
  bool is_of_web_server = false;
};

struct ProcessState {
  enum class Kind : std::uint8_t { Lobby, Monitoring, Zygote, Worker, Auxiliary };

  Kind kind = Kind::Worker;
  std::string role;
  std::int32_t pid = 0;
  std::optional<std::uint32_t> slot;
  std::uint32_t number = 0;
  std::uint32_t generation = 0;
  bool is_ready = false;
  bool is_leaving = false;
  bool is_rejected = false;
  bool wants_replacement = false;
  bool is_being_replaced = false;
  bool is_overdue = false;
  bool is_given_up = false;
  std::int64_t started = 0;  // monotonic nanoseconds
  Descriptor wake;
  SourceState source;
};

struct AuxiliaryState {
  std::string name;
  bool was_started = false;
};

struct ChannelState {
  Descriptor lobby;
  Descriptor workers;
};

struct PoolState {
  std::vector<ListenerState> listeners;
  std::vector<ListenerState> health;
  std::optional<os::ListenerRecord> statistics;
  Descriptor memory;
  ChannelState parking;
  ChannelState ready;
  ChannelState passing;  // from lobby to lobby
  std::uint32_t generation = 0;
  std::uint32_t next_generation = 1;
  Descriptor zygote;  // of the running generation, if it has loaded
  std::uint32_t least_workers = 1;
  std::uint32_t most_workers = 1;
  std::vector<std::uint32_t> wanted;  // numbers of workers
  std::optional<std::uint32_t> scaling_to;
  std::int64_t load_time = 0;  // milliseconds
  bool nobody_serves = false;
  std::vector<AuxiliaryState> auxiliaries;
  std::vector<ProcessState> processes;
};

// Who is connected to the control socket.
struct ClientState {
  Descriptor socket;
  std::int32_t pid = 0;
  std::uint32_t user = 0;
  std::string received;
  bool has_asked = false;
  bool is_answered = false;
  std::string unsent;
  bool waits_for_upgrade = false;
};

struct ControlState {
  os::ListenerRecord listener;
  std::string directory;  // ours; empty: it is not
  std::vector<ClientState> clients;
};

struct PidFileState {
  std::string path;
  os::FileIdentity file;
};

struct AccessLogState {
  Descriptor file;
  std::string path;
};

struct LifelineState {
  Descriptor read;
  Descriptor held;
};

// For who is only to see whether an upgrade would do.
struct CheckState {
  Descriptor log;      // where the log goes; standard error is looked at by who started this
  Descriptor outcome;  // a pipe for one outcome line (control/protocol.h)
};

struct State {
  std::string program_version;
  std::int32_t overseer = 0;  // pid
  Formats formats;
  std::int64_t started = 0;            // wall clock, nanoseconds since the epoch
  std::int64_t started_monotonic = 0;  // nanoseconds
  std::uint64_t descriptor_limit = 0;
  std::optional<std::string> web_server_addresses;
  LifelineState lifeline;
  std::optional<AccessLogState> access_log;
  std::optional<PidFileState> pid_file;
  std::optional<ControlState> control;
  std::vector<SourceState> orphans;  // pipes of processes that have ended
  PoolState pool;
  std::optional<CheckState> check;
};

[[nodiscard]] std::string encode(State state);

// Error: the version is another one, a member is missing or is not what it should be, or it is no record at all.
[[nodiscard]] Result<State> decode(std::string_view text);

// Error: the new program's processes and the old one's would not understand each other.
[[nodiscard]] Result<void> check_formats(const Formats& theirs, const Formats& ours);

// Every descriptor that is named in it.
[[nodiscard]] std::vector<int> descriptors_of(State state);

}  // namespace bladepsgi::overseer
