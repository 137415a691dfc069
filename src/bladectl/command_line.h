// CommandLine: what bladectl was asked for.
#pragma once

#include <span>
#include <string>
#include <variant>

#include "bladectl/commands.h"
#include "json/value.h"

namespace bladepsgi::bladectl {

struct CommandLine {
  std::string socket;  // empty: to be found
  bool is_json = false;
  const Command* command = nullptr;
  json::Object arguments;
};

// To be printed.
struct Information {
  std::string text;
};

// One sentence without newline.
struct UsageError {
  std::string message;
};

using Parsed = std::variant<CommandLine, Information, UsageError>;

// The words after the program's name. Options may stand anywhere; -- ends them.
[[nodiscard]] Parsed parse(std::span<const char* const> words);

}  // namespace bladepsgi::bladectl
