#include "bladectl/command_line.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/text.h"
#include "bladectl/manual.h"

namespace bladepsgi::bladectl {

namespace {

std::string in_quotes(std::string_view word) {
  return "'" + printable(word) + "'";
}

const Command* find_command(std::string_view name) {
  const auto* found = std::find_if(kCommands.begin(), kCommands.end(),
                                   [name](const Command& command) { return command.name == name; });
  return found != kCommands.end() ? found : nullptr;
}

class Reader {
 public:
  explicit Reader(std::span<const char* const> words) : words_(words) {}

  Parsed read() {
    while (next_ < words_.size()) {
      const std::string_view word = words_[next_++];
      if (is_over_ || word == "-" || !word.starts_with('-')) {
        arguments_.push_back(word);
      } else if (word == "--") {
        is_over_ = true;
      } else if (word == "--help" || word == "-h" || word == "-?") {
        return Information{help_text()};
      } else if (word == "--version") {
        return Information{version_text()};
      } else if (auto error = read_option(word)) {
        return std::move(*error);
      }
    }
    return conclude();
  }

 private:
  std::optional<UsageError> read_option(std::string_view word) {
    constexpr std::string_view kSocket = "--socket=";
    if (word == "--json") {
      line_.is_json = true;
    } else if (word.starts_with(kSocket)) {
      return take_socket(word.substr(kSocket.size()));
    } else if (word == "--socket" || word == "-s") {
      if (next_ == words_.size())
        return UsageError{"option " + in_quotes(word) + " lacks its value"};
      return take_socket(words_[next_++]);
    } else if (word.starts_with("-s")) {
      return take_socket(word.substr(2));
    } else if (word.starts_with("--")) {
      flags_.push_back(word.substr(2));
    } else {
      return UsageError{"unknown option " + in_quotes(word)};
    }
    return std::nullopt;
  }

  std::optional<UsageError> take_socket(std::string_view path) {
    if (path.empty()) return UsageError{"option '--socket': the path is empty"};
    line_.socket = path;
    return std::nullopt;
  }

  Parsed conclude() {
    if (arguments_.empty()) {
      if (!flags_.empty())
        return UsageError{"unknown option " + in_quotes("--" + std::string(flags_.front()))};
      return UsageError{"what shall be done? A command is missing"};
    }
    line_.command = find_command(arguments_.front());
    if (line_.command == nullptr)
      return UsageError{"unknown command " + in_quotes(arguments_.front())};
    const Command& command = *line_.command;
    for (const std::string_view name : flags_) {
      const bool is_known = std::any_of(command.flags.begin(), command.flags.end(),
                                        [name](const Flag& flag) { return flag.name == name; });
      if (!is_known)
        return UsageError{"command " + in_quotes(command.name) + ": unknown option " +
                          in_quotes("--" + std::string(name))};
      if (line_.arguments.find(name) == nullptr) line_.arguments.add(name, true);
    }
    const std::size_t wanted = command.word.kind == Word::Kind::None                ? 1
                               : command.word.is_optional && arguments_.size() == 1 ? 1
                                                                                    : 2;
    if (arguments_.size() > wanted)
      return UsageError{"command " + in_quotes(command.name) + ": too many arguments, " +
                        in_quotes(arguments_[wanted]) + " is one"};
    if (arguments_.size() < wanted)
      return UsageError{"command " + in_quotes(command.name) + ": " +
                        std::string(command.word.shown) + " is missing"};
    if (wanted == 2) {
      const auto number = parse_decimal(arguments_[1]);
      if (!number)
        return UsageError{"command " + in_quotes(command.name) + ": " + in_quotes(arguments_[1]) +
                          " is no number"};
      line_.arguments.add(command.word.name, *number);
    }
    return std::move(line_);
  }

  std::span<const char* const> words_;
  std::size_t next_ = 0;
  bool is_over_ = false;
  std::vector<std::string_view> arguments_;
  std::vector<std::string_view> flags_;
  CommandLine line_;
};

}  // namespace

Parsed parse(std::span<const char* const> words) {
  return Reader(words).read();
}

}  // namespace bladepsgi::bladectl
