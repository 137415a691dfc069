#include "bladectl/tables.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <vector>

#include "base/text.h"

namespace bladepsgi::bladectl {

namespace {

// Without `is_exact` a backslash of the text may be mistaken for one of ours; sentences of the server, which has escaped what it quotes, are
// easier to read so.
std::string escaped(std::string_view text, bool is_exact) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // Some terminals obey U+0080 to U+009F, too.
    const bool is_c1 = byte == 0xc2 && i + 1 < text.size() &&
                       static_cast<unsigned char>(text[i + 1]) >= 0x80 &&
                       static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (is_c1) ++i;
    if (is_c1 || byte < 0x20 || byte == 0x7f || (is_exact && byte == '\\')) {
      constexpr std::string_view kHex = "0123456789abcdef";
      const auto shown = static_cast<unsigned char>(text[i]);
      out += "\\x";
      out += kHex[shown >> 4];
      out += kHex[shown & 15];
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string text_of(const json::Value* value) {
  if (value == nullptr || value->is_null()) return "-";
  if (const std::string* text = value->as_string()) return escaped(*text, true);
  if (const auto integer = value->as_integer()) return std::to_string(*integer);
  return value->text();
}

std::string text_of(const json::Value& object, std::string_view name) {
  return text_of(object.find(name));
}

std::string duration_of(const json::Value& object, std::string_view name) {
  const json::Value* value = object.find(name);
  const auto seconds = value != nullptr ? value->as_number() : std::nullopt;
  return seconds ? duration_text(*seconds) : "-";
}

// A member that is an array; empty when it is none.
const json::Array& list_of(const json::Value& object, std::string_view name) {
  static const json::Array kNone;
  const json::Value* value = object.find(name);
  return value != nullptr && value->as_array() != nullptr ? *value->as_array() : kNone;
}

void add_line(std::string& out, std::string_view title, std::string_view text) {
  constexpr std::size_t kColumn = 14;
  out += title;
  out.append(title.size() < kColumn ? kColumn - title.size() : 1, ' ');
  out += text;
  out += '\n';
}

// "3 busy, 1 idle", or "idle 3, head 1" with the names first.
std::string counts(const json::Value* value, std::string_view left_out = {}) {
  std::string text;
  if (value == nullptr || value->as_object() == nullptr) return "-";
  for (const json::Member& member : value->as_object()->members()) {
    if (member.name == left_out) continue;
    if (!text.empty()) text += ", ";
    text += escaped(member.name, true) + " " + text_of(&member.value);
  }
  return text;
}

std::string worker_counts(const json::Value& workers) {
  std::string text = text_of(workers, "wanted");
  const std::string least = text_of(workers, "min");
  const std::string most = text_of(workers, "max");
  if (least != most) {
    text += fmt::format(" of {} to {}, the most was too few {} times", least, most,
                        text_of(workers, "max-reached"));
  }
  text += ": ";
  std::string_view separator;
  for (const std::string_view state : {"busy", "idle", "starting", "leaving"}) {
    text += fmt::format("{}{} {}", separator, state, text_of(workers, state));
    separator = ", ";
  }
  return text;
}

std::string local_time(const json::Value* value) {
  const auto seconds = value != nullptr ? value->as_integer() : std::nullopt;
  if (!seconds) return "-";
  const auto when = static_cast<std::time_t>(*seconds);
  std::tm broken{};
  return ::localtime_r(&when, &broken) != nullptr ? fmt::format("{:%Y-%m-%d %H:%M:%S}", broken)
                                                  : std::to_string(*seconds);
}

void add_lobby(std::string& out, const json::Value& lobby) {
  const json::Value* there = lobby.find("there");
  if (there == nullptr || !there->as_bool().value_or(false)) {
    add_line(out, "lobby", "none");
    return;
  }
  add_line(
      out, "lobby",
      fmt::format("holds {}; {} bytes of requests, {} of responses", counts(lobby.find("held")),
                  text_of(lobby, "bytes"), text_of(lobby, "bytes_unsent")));
  add_line(out, "", "has dropped " + counts(lobby.find("dropped")));
  if (const json::Value* permits = lobby.find("slow_bodies")) {
    add_line(out, "slow bodies",
             fmt::format("{} of {} permits free", text_of(*permits, "free"),
                         text_of(*permits, "configured")));
  }
}

// Each line of the reason is one of the table.
void add_reload(std::string& out, const json::Value& reload) {
  if (const std::string phase = text_of(reload, "phase"); phase != "idle") {
    std::string text = phase;
    if (reload.find("progress") != nullptr) text += ": " + text_of(reload, "progress");
    add_line(out, "reload", text);
  }
  const json::Value* last = reload.find("last");
  if (last == nullptr) return;
  add_line(out, "last reload",
           fmt::format("{} at {}", text_of(*last, "outcome"), local_time(last->find("when"))));
  const json::Value* reason = last->find("reason");
  const std::string* text = reason != nullptr ? reason->as_string() : nullptr;
  if (text == nullptr || text_of(*last, "outcome") != "failed") return;
  for (const std::string_view line : split(*text, '\n'))
    add_line(out, "", escaped(line, false));
}

void add_objects(std::string& out, const json::Value& status, std::string_view kind) {
  std::string_view title = kind;
  for (const json::Value& one : list_of(status, kind)) {
    add_line(out, title, text_of(one, "name") + ": " + text_of(one, "value"));
    title = "";
  }
}

void add_processes(std::string& out,
                   const json::Value& status,
                   std::string_view kind,
                   std::string_view title) {
  for (const json::Value& one : list_of(status, kind)) {
    add_line(out, title,
             fmt::format("{} (pid {}): {} for {}", text_of(one, "name"), text_of(one, "pid"),
                         text_of(one, "state"), duration_of(one, "age")));
    title = "";
  }
}

// What stands in a terminal's columns: continuation bytes of UTF-8 take none.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
  }));
}

using Row = std::vector<std::string>;

// The last column is as long as it is.
std::string table(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - width(row[i]) + 2, ' ');
    }
    while (out.ends_with(' '))
      out.pop_back();
    out += '\n';
  }
  return out;
}

std::string request_text(const json::Value* request) {
  if (request == nullptr || request->as_object() == nullptr) return "";
  if (request->find("method") == nullptr) return "(not known)";
  const json::Value* is_cut = request->find("uri_is_cut");
  return fmt::format("{} {}{} [{}]", text_of(*request, "method"), text_of(*request, "uri"),
                     is_cut != nullptr && is_cut->as_bool().value_or(false) ? "…" : "",
                     text_of(*request, "id"));
}

Row worker_row(const json::Value& worker) {
  const json::Value* request = worker.find("request");
  const json::Value* leaving = worker.find("leaving");
  const bool is_leaving = leaving != nullptr && leaving->as_bool().value_or(false);
  std::string state = text_of(worker, "state");
  if (is_leaving && state != "leaving") state += ", leaving";
  return {text_of(worker, "number"),
          text_of(worker, "pid"),
          text_of(worker, "generation"),
          std::move(state),
          text_of(worker, "status"),
          text_of(worker, "requests"),
          text_of(worker, "bytes_in"),
          text_of(worker, "bytes_out"),
          duration_of(worker, "last_duration"),
          request != nullptr ? duration_of(*request, "age") : "-",
          request_text(request)};
}

}  // namespace

std::string line_text(std::string_view text) {
  return escaped(text, false);
}

std::string duration_text(double seconds) {
  constexpr double kMinute = 60;
  constexpr double kHour = 60 * kMinute;
  constexpr double kDay = 24 * kHour;
  constexpr double kMost = 1e12;
  if (!(seconds >= 0 && seconds < kMost)) return "-";
  const auto two = [seconds](double large, std::string_view name, double small,
                             std::string_view small_name) {
    const auto whole = static_cast<std::int64_t>(seconds / large);
    const auto rest =
        static_cast<std::int64_t>((seconds - static_cast<double>(whole) * large) / small);
    return rest == 0 ? fmt::format("{} {}", whole, name)
                     : fmt::format("{} {} {} {}", whole, name, rest, small_name);
  };
  if (seconds < 1) return fmt::format("{:.0f} ms", std::floor(seconds * 1000));
  if (seconds < kMinute) return fmt::format("{:.1f} s", std::floor(seconds * 10) / 10);
  if (seconds < kHour) return two(kMinute, "min", 1, "s");
  if (seconds < kDay) return two(kHour, "h", kMinute, "min");
  return two(kDay, "d", kHour, "h");
}

std::string status_text(const json::Value& status) {
  std::string out;
  add_line(out, "server",
           fmt::format("bladepsgi {}, pid {}, {}", text_of(status, "version"),
                       text_of(status, "pid"), text_of(status, "state")));
  add_line(
      out, "started",
      fmt::format("{}, {} ago", local_time(status.find("started")), duration_of(status, "uptime")));
  std::string application = text_of(status, "application");
  if (status.find("loader") != nullptr) application += ", loaded by " + text_of(status, "loader");
  add_line(out, "application", application);
  std::string_view title = "listening on";
  for (const json::Value& one : list_of(status, "listeners")) {
    add_line(out, title, text_of(&one));
    title = "";
  }
  if (status.find("generation") != nullptr) {
    std::string generation = text_of(status, "generation");
    if (const std::string oldest = text_of(status, "oldest_generation"); oldest != generation)
      generation += ", oldest that is left " + oldest;
    add_line(out, "generation", generation);
  }
  if (const json::Value* reload = status.find("reload")) add_reload(out, *reload);
  if (const json::Value* workers = status.find("workers"))
    add_line(out, "workers", worker_counts(*workers));
  if (status.find("requests") != nullptr) {
    std::string requests = text_of(status, "requests");
    if (status.find("failures") != nullptr) requests += ", failed " + text_of(status, "failures");
    add_line(out, "requests", requests);
  }
  if (const json::Value* events = status.find("events")) add_line(out, "events", counts(events));
  if (const json::Value* lobby = status.find("lobby")) add_lobby(out, *lobby);
  add_objects(out, status, "semaphores");
  add_objects(out, status, "atomics");
  add_processes(out, status, "auxiliaries", "auxiliaries");
  add_processes(out, status, "processes", "processes");
  return out;
}

std::string reload_text(const json::Value& result) {
  return "reloaded: " + line_text(text_of(result, "outcome")) + " serves\n";
}

std::string outcome_text(const json::Value& result) {
  return line_text(text_of(result, "outcome")) + "\n";
}

std::string upgrade_text(const json::Value& result) {
  return "upgraded: " + line_text(text_of(result, "outcome")) + " serves\n";
}

std::string workers_text(const json::Value& workers) {
  std::vector<Row> rows{{"WORKER", "PID", "GEN", "STATE", "STATUS", "REQUESTS", "IN", "OUT", "LAST",
                         "AGE", "REQUEST"}};
  if (const json::Array* list = workers.as_array()) {
    for (const json::Value& worker : *list)
      rows.push_back(worker_row(worker));
  }
  return table(rows);
}

}  // namespace bladepsgi::bladectl
