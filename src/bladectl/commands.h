// Commands: the one declaration of what bladectl can ask a server for.
//
// The command line, --help, the manual page and docs/bladectl.md come from this table. A flag --NAME is sent as the argument NAME, true;
// the word as the argument of its name. The server has its own say about both (overseer/control_server.h).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "bladectl/tables.h"
#include "json/value.h"

namespace bladepsgi::bladectl {

struct Flag {
  std::string_view name;
  std::string_view help;
};

// What follows the command, not an option.
struct Word {
  enum class Kind : std::uint8_t { None, Number };

  Kind kind = Kind::None;
  std::string_view name;   // of the argument
  std::string_view shown;  // "NUMBER"
  bool is_optional = false;
};

struct Command {
  std::string_view name;
  std::string_view help;
  std::span<const Flag> flags{};
  Word word{};
  bool is_quick = false;     // has an answer at once; a server that gives none hangs
  bool ends_server = false;  // done when the process is no more
  std::string (*show)(const json::Value& result) = nullptr;  // newline at the end; null: nothing
};

inline constexpr std::array kStopFlags{
    Flag{"fast", "Do not wait for requests: everything ends at once (SIGINT)."},
    Flag{"immediate", "Kill everything, without any cleanup (SIGQUIT)."},
};

inline constexpr std::array kCommands{
    Command{.name = "status",
            .help = "Show what the server is, how its workers are, and all its counters.",
            .is_quick = true,
            .show = status_text},
    Command{.name = "workers",
            .help = "Show each worker and the request that it serves.",
            .is_quick = true,
            .show = workers_text},
    Command{.name = "reload",
            .help =
                "Load the application anew beside the running one (SIGHUP), and wait until every "
                "worker has changed over, or until that has failed: the reason is shown then, "
                "and the running one serves on.",
            .show = reload_text},
    Command{.name = "recycle",
            .help = "Replace the worker of that number, or all of them, --recycle-share at a time: "
                    "each leaves when its replacement is ready. Wait until they have gone.",
            .word = {.kind = Word::Kind::Number,
                     .name = "worker",
                     .shown = "NUMBER",
                     .is_optional = true},
            .show = outcome_text},
    Command{.name = "reopen",
            .help = "Open the file of the access log anew (SIGUSR1), after it has been renamed to "
                    "begin another one.",
            .is_quick = true,
            .show = outcome_text},
    Command{
        .name = "scale",
        .help =
            "From now on, so many workers (SIGTTIN and SIGTTOU: one more, one fewer); with "
            "--min-workers, so many at most. Waits until they are there, and until those that "
            "are too many have left or have nothing but their requests to finish. Good until the "
            "server is started anew.",
        .word = {.kind = Word::Kind::Number, .name = "workers", .shown = "NUMBER"},
        .show = outcome_text},
    Command{.name = "upgrade",
            .help =
                "Have the server become the program that lies where it was started from "
                "(SIGUSR2), and wait until all its processes have changed over. The new program "
                "is tried first; if it is no good, the reason is shown, and nothing has changed.",
            .show = upgrade_text},
    Command{.name = "stop",
            .help = "Stop the server, once every worker has finished its request (SIGTERM), and "
                    "wait until it has gone.",
            .flags = kStopFlags,
            .ends_server = true},
};

}  // namespace bladepsgi::bladectl
