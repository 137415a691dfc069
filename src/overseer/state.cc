#include "overseer/state.h"

#include <fmt/format.h>

#include <concepts>
#include <initializer_list>
#include <limits>
#include <utility>

#include "base/text.h"
#include "handoff/message.h"
#include "json/value.h"
#include "os/log.h"
#include "shm/mapping.h"
#include "zygote/control.h"

namespace bladepsgi::overseer {

namespace {

using Names = std::initializer_list<std::string_view>;

constexpr std::string_view kHexDigits = "0123456789abcdef";

std::string escape(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    if (c > ' ' && c < '\x7f' && c != '%') {
      text += c;
      continue;
    }
    const auto value = static_cast<unsigned char>(c);
    text += '%';
    text += kHexDigits[value >> 4U];
    text += kHexDigits[value & 15U];
  }
  return text;
}

std::optional<std::string> unescape(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      bytes += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const std::size_t high = kHexDigits.find(text[i + 1]);
    const std::size_t low = kHexDigits.find(text[i + 2]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    bytes += static_cast<char>(high << 4U | low);
    i += 2;
  }
  return bytes;
}

// The members of each record, once for writing, reading and looking for descriptors. An archive is called with a member's name and the member;
// choice() is for enumerations, whose values are words.

template <class Archive>
void members(Archive& a, os::FileIdentity& file) {
  a("path", file.path);
  a("device", file.device);
  a("inode", file.inode);
}

template <class Archive>
void members(Archive& a, os::ListenerRecord& listener) {
  a.choice("kind", listener.kind, {"unix", "tcp", "inherited"});
  a.descriptor("fd", listener.fd);
  a.choice("transport", listener.transport, {"unix", "tcp"});
  a("name", listener.name);
  a("file", listener.file);
  a("is_published", listener.is_published);
}

template <class Archive>
void members(Archive& a, Formats& formats) {
  a("memory", formats.memory);
  a("handover", formats.handover);
  a("log", formats.log);
  a("zygote", formats.zygote);
}

template <class Archive>
void members(Archive& a, SourceState& source) {
  a("role", source.role);
  a("pid", source.pid);
  a("is_reading", source.is_reading);
  a("is_dead", source.is_dead);
  a("said_unsound", source.said_unsound);
  a("last_error", source.last_error);
  a("pipes", source.pipes);
  a("lines", source.lines);
  a("frames", source.frames);
  a("text", source.text);
  a("access", source.access);
}

template <class Archive>
void members(Archive& a, ListenerState& listener) {
  a("socket", listener.record);
  a("is_http", listener.is_http);
  a("is_of_web_server", listener.is_of_web_server);
}

template <class Archive>
void members(Archive& a, ProcessState& process) {
  a.choice("kind", process.kind, {"lobby", "monitoring", "zygote", "worker", "auxiliary"});
  a("role", process.role);
  a("pid", process.pid);
  a("slot", process.slot);
  a("number", process.number);
  a("generation", process.generation);
  a("is_ready", process.is_ready);
  a("is_leaving", process.is_leaving);
  a("is_rejected", process.is_rejected);
  a("wants_replacement", process.wants_replacement);
  a("is_being_replaced", process.is_being_replaced);
  a("is_overdue", process.is_overdue);
  a("is_given_up", process.is_given_up);
  a("started", process.started);
  a("wake", process.wake);
  a("source", process.source);
}

template <class Archive>
void members(Archive& a, AuxiliaryState& auxiliary) {
  a("name", auxiliary.name);
  a("was_started", auxiliary.was_started);
}

template <class Archive>
void members(Archive& a, ChannelState& channel) {
  a("lobby", channel.lobby);
  a("workers", channel.workers);
}

template <class Archive>
void members(Archive& a, LifelineState& lifeline) {
  a("read", lifeline.read);
  a("held", lifeline.held);
}

template <class Archive>
void members(Archive& a, PoolState& pool) {
  a("listeners", pool.listeners);
  a("health", pool.health);
  a("statistics", pool.statistics);
  a("memory", pool.memory);
  a("parking", pool.parking);
  a("ready", pool.ready);
  a("passing", pool.passing);
  a("generation", pool.generation);
  a("next_generation", pool.next_generation);
  a("zygote", pool.zygote);
  a("least_workers", pool.least_workers);
  a("most_workers", pool.most_workers);
  a("wanted", pool.wanted);
  a("scaling_to", pool.scaling_to);
  a("load_time", pool.load_time);
  a("nobody_serves", pool.nobody_serves);
  a("auxiliaries", pool.auxiliaries);
  a("processes", pool.processes);
}

template <class Archive>
void members(Archive& a, ClientState& client) {
  a("socket", client.socket);
  a("pid", client.pid);
  a("user", client.user);
  a("received", client.received);
  a("has_asked", client.has_asked);
  a("is_answered", client.is_answered);
  a("unsent", client.unsent);
  a("waits_for_upgrade", client.waits_for_upgrade);
}

template <class Archive>
void members(Archive& a, ControlState& control) {
  a("listener", control.listener);
  a("directory", control.directory);
  a("clients", control.clients);
}

template <class Archive>
void members(Archive& a, PidFileState& file) {
  a("path", file.path);
  a("file", file.file);
}

template <class Archive>
void members(Archive& a, AccessLogState& log) {
  a("file", log.file);
  a("path", log.path);
}

template <class Archive>
void members(Archive& a, CheckState& check) {
  a("log", check.log);
  a("outcome", check.outcome);
}

template <class Archive>
void members(Archive& a, State& state) {
  a("program_version", state.program_version);
  a("overseer", state.overseer);
  a("formats", state.formats);
  a("started", state.started);
  a("started_monotonic", state.started_monotonic);
  a("descriptor_limit", state.descriptor_limit);
  a("web_server_addresses", state.web_server_addresses);
  a("lifeline", state.lifeline);
  a("access_log", state.access_log);
  a("pid_file", state.pid_file);
  a("control", state.control);
  a("orphans", state.orphans);
  a("pool", state.pool);
  a("check", state.check);
}

class Writer {
 public:
  template <class T>
  void operator()(std::string_view name, T& value) {
    object_.add(name, of(value));
  }

  void descriptor(std::string_view name, int& value) { object_.add(name, value); }

  template <class E>
  void choice(std::string_view name, E& value, Names words) {
    object_.add(name, std::string(words.begin()[static_cast<std::size_t>(value)]));
  }

  [[nodiscard]] json::Object take() { return std::move(object_); }

 private:
  static json::Value of(bool& value) { return value; }

  // Inodes have all 64 bits; they come back as they were.
  template <std::integral T>
  static json::Value of(T& value) {
    return static_cast<std::int64_t>(value);
  }

  static json::Value of(Descriptor& value) { return value.number; }

  static json::Value of(std::string& value) { return escape(value); }

  template <class T>
  static json::Value of(std::optional<T>& value) {
    return value ? of(*value) : json::Value();
  }

  template <class T>
  static json::Value of(std::vector<T>& values) {
    return of_all(values);
  }

  template <class T, std::size_t Size>
  static json::Value of(std::array<T, Size>& values) {
    return of_all(values);
  }

  template <class T>
  static json::Value of_all(T& values) {
    json::Array array;
    for (auto& value : values)
      array.push_back(of(value));
    return array;
  }

  template <class T>
  static json::Value of(T& value) {
    Writer writer;
    members(writer, value);
    return writer.take();
  }

  json::Object object_;
};

// Keeps the first thing that is wrong.
struct Complaint {
  std::string text;
};

class Reader {
 public:
  Reader(const json::Object& object, std::string path, Complaint& complaint)
      : object_(object), path_(std::move(path)), complaint_(complaint) {}

  template <class T>
  void operator()(std::string_view name, T& value) {
    if (const json::Value* found = find(name)) read(*found, value, path_of(name));
  }

  void descriptor(std::string_view name, int& value) {
    Descriptor descriptor;
    operator()(name, descriptor);
    value = descriptor.number;
  }

  template <class E>
  void choice(std::string_view name, E& value, Names words) {
    const json::Value* found = find(name);
    if (found == nullptr) return;
    const std::string* word = found->as_string();
    for (std::size_t i = 0; word != nullptr && i < words.size(); ++i) {
      if (words.begin()[i] != *word) continue;
      value = static_cast<E>(i);
      return;
    }
    complain(path_of(name), "is none of the words for it");
  }

 private:
  [[nodiscard]] std::string path_of(std::string_view name) const {
    return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
  }

  const json::Value* find(std::string_view name) {
    const json::Value* found = object_.find(name);
    if (found == nullptr) complain(path_of(name), "is missing");
    return found;
  }

  void complain(const std::string& path, std::string_view what) {
    if (complaint_.text.empty()) complaint_.text = fmt::format("'{}' {}", path, what);
  }

  void read(const json::Value& from, bool& into, const std::string& path) {
    const auto value = from.as_bool();
    if (!value) return complain(path, "is neither true nor false");
    into = *value;
  }

  template <std::integral T>
  void read(const json::Value& from, T& into, const std::string& path) {
    const auto value = from.as_integer();
    if (!value) return complain(path, "is no number");
    if constexpr (sizeof(T) < sizeof(std::int64_t)) {
      if (!std::in_range<T>(*value)) return complain(path, "is out of range");
    }
    into = static_cast<T>(*value);
  }

  void read(const json::Value& from, Descriptor& into, const std::string& path) {
    const auto value = from.as_integer();
    if (!value || *value < -1 || *value > std::numeric_limits<int>::max())
      return complain(path, "is no descriptor");
    into.number = static_cast<int>(*value);
  }

  void read(const json::Value& from, std::string& into, const std::string& path) {
    const std::string* text = from.as_string();
    auto bytes = text != nullptr ? unescape(*text) : std::nullopt;
    if (!bytes) return complain(path, "is no text");
    into = std::move(*bytes);
  }

  template <class T>
  void read(const json::Value& from, std::optional<T>& into, const std::string& path) {
    into.reset();
    if (!from.is_null()) read(from, into.emplace(), path);
  }

  template <class T>
  void read(const json::Value& from, std::vector<T>& into, const std::string& path) {
    const json::Array* array = from.as_array();
    if (array == nullptr) return complain(path, "is no list");
    into.clear();
    for (const json::Value& value : *array) {
      const std::string place = fmt::format("{}[{}]", path, into.size());
      read(value, into.emplace_back(), place);
    }
  }

  template <class T, std::size_t Size>
  void read(const json::Value& from, std::array<T, Size>& into, const std::string& path) {
    const json::Array* array = from.as_array();
    if (array == nullptr || array->size() != Size)
      return complain(path, fmt::format("is no list of {}", Size));
    for (std::size_t i = 0; i < Size; ++i)
      read((*array)[i], into[i], fmt::format("{}[{}]", path, i));
  }

  template <class T>
  void read(const json::Value& from, T& into, const std::string& path) {
    const json::Object* object = from.as_object();
    if (object == nullptr) return complain(path, "is no record");
    Reader reader(*object, path, complaint_);
    members(reader, into);
  }

  const json::Object& object_;
  std::string path_;
  Complaint& complaint_;
};

class Collector {
 public:
  explicit Collector(std::vector<int>& found) : found_(found) {}

  template <class T>
  void operator()(std::string_view, T& value) {
    look(value);
  }

  void descriptor(std::string_view, int& value) {
    if (value >= 0) found_.push_back(value);
  }

  template <class E>
  void choice(std::string_view, E&, Names) {}

 private:
  template <std::integral T>
  void look(T&) {}

  void look(std::string&) {}

  void look(Descriptor& value) { descriptor({}, value.number); }

  template <class T>
  void look(std::optional<T>& value) {
    if (value) look(*value);
  }

  template <class T>
  void look(std::vector<T>& values) {
    for (T& value : values)
      look(value);
  }

  template <class T, std::size_t Size>
  void look(std::array<T, Size>& values) {
    for (T& value : values)
      look(value);
  }

  template <class T>
  void look(T& value) {
    members(*this, value);
  }

  std::vector<int>& found_;
};

Failure<Error> refuse(std::string_view reason) {
  return fail(Remedy::Refuse, fmt::format("the state record cannot be read: {}", reason));
}

}  // namespace

Formats Formats::ours() {
  return {.memory = shm::kLayoutVersion,
          .handover = handoff::kFormat,
          .log = os::kLogFormat,
          .zygote = zygote::kFormat};
}

std::string encode(State state) {
  Writer writer;
  std::int64_t version = kStateVersion;
  writer("version", version);
  members(writer, state);
  return json::Value(writer.take()).text();
}

Result<State> decode(std::string_view text) {
  const auto value = json::parse(text);
  if (!value) return refuse(value.error().message);
  const json::Object* object = value->as_object();
  if (object == nullptr) return refuse("it is no record");
  const json::Value* version = object->find("version");
  const auto number = version != nullptr ? version->as_integer() : std::nullopt;
  if (!number) return refuse("it does not say its version");
  if (*number != kStateVersion) {
    return refuse(fmt::format(
        "it has version {}, this program knows version {}; this upgrade needs a restart", *number,
        kStateVersion));
  }
  State state;
  Complaint complaint;
  Reader reader(*object, {}, complaint);
  members(reader, state);
  if (!complaint.text.empty()) return refuse(complaint.text);
  return state;
}

Result<void> check_formats(const Formats& theirs, const Formats& ours) {
  const auto differ = [](std::string_view what, std::uint32_t old_one, std::uint32_t new_one) {
    return fail(Remedy::Refuse,
                fmt::format("{} has format {} in the running program and {} in the new one; this "
                            "upgrade needs a restart",
                            what, old_one, new_one));
  };
  if (theirs.memory != ours.memory) return differ("shared memory", theirs.memory, ours.memory);
  if (theirs.handover != ours.handover)
    return differ("the handing over of connections", theirs.handover, ours.handover);
  if (theirs.log != ours.log) return differ("the log channel", theirs.log, ours.log);
  return {};
}

std::vector<int> descriptors_of(State state) {
  std::vector<int> found;
  Collector collector(found);
  members(collector, state);
  return found;
}

}  // namespace bladepsgi::overseer
