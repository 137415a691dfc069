#include "config/config.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/text.h"
#include "config/manual.h"
#include "config/options.h"

namespace bladepsgi::config {

namespace {

// The command line with every option in the same form.
struct Words {
  std::vector<std::string> options;  // "--name", followed by its value if it takes one
  std::vector<std::string> arguments;
};

std::string in_quotes(std::string_view text) {
  return "'" + printable(text, 4096) + "'";
}

std::string dashed(const Option& option) {
  return "'--" + std::string(option.name) + "'";
}

bool takes_value(const Option& option) {
  return !option.value.empty();
}

// Insertions, deletions, replacements and swaps of neighbours that make one word out of the other.
std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::vector<std::size_t>> cost(from.size() + 1,
                                             std::vector<std::size_t>(to.size() + 1));
  for (std::size_t i = 0; i <= from.size(); ++i) {
    for (std::size_t j = 0; j <= to.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      const std::size_t replaced = cost[i - 1][j - 1] + (from[i - 1] == to[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[from.size()][to.size()];
}

std::string list_of(const std::vector<const Option*>& options) {
  std::string list;
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (i != 0) list += i + 1 == options.size() ? " or " : ", ";
    list += dashed(*options[i]);
  }
  return list;
}

std::string unknown_long(std::string_view name) {
  // A longer word may have more slips in it, but no word is taken for something quite different.
  constexpr std::size_t kLongestWorthComparing = 64;
  const std::size_t most_slips = 1 + std::min<std::size_t>(name.size() / 5, 2);
  std::vector<const Option*> similar;
  if (name.size() <= kLongestWorthComparing) {
    for (const Option& option : kOptions) {
      if (edit_distance(name, option.name) <= most_slips) similar.push_back(&option);
    }
  }
  std::string message = "unknown option '--" + printable(name) + "'";
  if (!similar.empty()) message += "; did you mean " + list_of(similar) + "?";
  return message;
}

Result<const Option*, std::string> find_long(std::string_view name) {
  std::vector<const Option*> candidates;
  std::vector<const Option*> first_version;
  for (const Option& option : kOptions) {
    if (option.name == name) return &option;
    if (!option.name.starts_with(name)) continue;
    candidates.push_back(&option);
    if (option.since_first_version) first_version.push_back(&option);
  }
  if (candidates.empty()) return fail(unknown_long(name));
  if (candidates.size() == 1) return candidates.front();
  // An abbreviation that was good when there were four options is found in start scripts, and stays good.
  if (first_version.size() == 1) return first_version.front();
  return fail("option '--" + std::string(name) + "' is ambiguous; it could be " +
              list_of(candidates));
}

const Option* find_letter(char letter) {
  const auto option = std::find_if(kOptions.begin(), kOptions.end(), [&](const Option& candidate) {
    return candidate.letters.find(letter) != std::string_view::npos;
  });
  return option == kOptions.end() ? nullptr : &*option;
}

// Reads argv as getopt_long does. CLI11 2.1 cannot: it knows no abbreviations, takes the next word as the value of
// "--name=", and gives "++" a meaning of its own. It is handed whole words with nothing to guess.
//
// Goes on after an error, so that a later --help is still seen; the first error is kept.
class Reader {
 public:
  explicit Reader(std::span<const char* const> argv) : argv_(argv) {}

  void read() {
    while (next_ < argv_.size()) {
      const std::string_view word = argv_[next_++];
      if (word == "--") {
        words_.arguments.insert(words_.arguments.end(), argv_.begin() + offset(), argv_.end());
        return;
      }
      if (word.starts_with("--")) {
        read_long(word.substr(2));
      } else if (word.size() > 1 && word.starts_with('-')) {
        read_letters(word.substr(1));
      } else {
        words_.arguments.emplace_back(word);
      }
    }
  }

  [[nodiscard]] const Words& words() const { return words_; }

  [[nodiscard]] const std::optional<std::string>& error() const { return error_; }

  [[nodiscard]] const std::optional<Question>& question() const { return question_; }

 private:
  [[nodiscard]] std::ptrdiff_t offset() const { return static_cast<std::ptrdiff_t>(next_); }

  void complain(std::string message) {
    if (!error_) error_ = std::move(message);
  }

  void read_long(std::string_view word) {
    const std::size_t equals = word.find('=');
    const Result<const Option*, std::string> found = find_long(word.substr(0, equals));
    if (!found) return complain(found.error());
    const Option& option = **found;
    if (equals == std::string_view::npos) return add(option);
    if (!takes_value(option)) return complain("option " + dashed(option) + " takes no value");
    add(option, word.substr(equals + 1));
  }

  void read_letters(std::string_view letters) {
    while (!letters.empty()) {
      const Option* option = find_letter(letters.front());
      if (option == nullptr) {
        return complain("unknown option '-" + printable(letters.substr(0, 1)) + "'");
      }
      letters.remove_prefix(1);
      if (takes_value(*option) && !letters.empty()) return add(*option, letters);
      add(*option);
    }
  }

  void add(const Option& option) {
    if (!takes_value(option)) {
      if (const auto* question = std::get_if<Question>(&option.kind)) {
        if (!question_) question_ = *question;
      } else {
        words_.options.push_back("--" + std::string(option.name));
      }
      return;
    }
    if (next_ == argv_.size()) {
      return complain("option " + dashed(option) + " needs a value: " + std::string(option.value));
    }
    add(option, argv_[next_++]);
  }

  void add(const Option& option, std::string_view value) {
    words_.options.push_back("--" + std::string(option.name));
    words_.options.emplace_back(value);
  }

  std::span<const char* const> argv_;
  std::size_t next_ = 0;
  Words words_;
  std::optional<std::string> error_;
  std::optional<Question> question_;
};

// Applies the options to `config`; the message of the first that is wrong.
std::optional<std::string> apply_options(const std::vector<std::string>& words, Config& config) {
  std::optional<std::string> error;
  CLI::App app;
  app.set_help_flag();
  for (const Option& option : kOptions) {
    if (std::holds_alternative<Question>(option.kind)) continue;
    const auto store = [&](const std::string& value) {
      std::optional<std::string> message = store_value(option, value, config);
      if (message && !error) error = std::move(message);
    };
    const std::string name = "--" + std::string(option.name);
    if (takes_value(option)) {
      const bool is_list = std::holds_alternative<ListenAddress>(option.kind);
      app.add_option(name, CLI::callback_t([store](const CLI::results_t& values) {
                       for (const std::string& value : values)
                         store(value);
                       return true;
                     }))
          ->multi_option_policy(is_list ? CLI::MultiOptionPolicy::TakeAll
                                        : CLI::MultiOptionPolicy::TakeLast);
    } else {
      app.add_flag_callback(name, [store] { store(""); });
    }
  }
  try {
    // CLI11 wants the words in reverse order.
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& refusal) {
    return refusal.what();
  }
  return error;
}

std::string wrong_number(const std::vector<std::string>& arguments) {
  std::string message = "expected " + std::to_string(kArguments.size()) + " arguments, got ";
  message += arguments.empty() ? "none" : std::to_string(arguments.size()) + ":";
  constexpr std::size_t kMostShown = 8;
  for (std::size_t i = 0; i < std::min(arguments.size(), kMostShown); ++i) {
    message += " " + in_quotes(arguments[i]);
  }
  if (arguments.size() > kMostShown) message += " …";
  for (std::size_t i = arguments.size(); i < kArguments.size(); ++i) {
    message += i == arguments.size() ? "; missing " : i + 1 == kArguments.size() ? " and " : ", ";
    message += kArguments[i].name;
  }
  return message;
}

std::optional<std::string> check_socket_path(std::string_view argument, std::string_view path) {
  if (path.empty()) return std::string(argument) + " is empty";
  if (path.size() > kLongestSocketPath) {
    return std::string(argument) + " " + in_quotes(path) + " is " + std::to_string(path.size()) +
           " bytes long; the path of a UNIX domain socket can have " +
           std::to_string(kLongestSocketPath) + " at most";
  }
  return std::nullopt;
}

std::optional<std::string> apply_arguments(const std::vector<std::string>& arguments,
                                           Config& config) {
  if (arguments.size() != kArguments.size()) return wrong_number(arguments);
  if (arguments[0].empty()) return std::string(kArguments[0].name) + " is empty";
  const std::optional<std::uint64_t> workers = parse_decimal(arguments[1]);
  if (!workers || *workers < 1 || *workers > kMostWorkers) {
    return std::string(kArguments[1].name) + ": bad value " + in_quotes(arguments[1]) +
           "; expected 1 to " + std::to_string(kMostWorkers);
  }
  for (const std::size_t i : {std::size_t{2}, std::size_t{3}}) {
    if (auto message = check_socket_path(kArguments[i].name, arguments[i])) return message;
    if (looks_like_tcp(arguments[i])) {
      return std::string(kArguments[i].name) + " " + in_quotes(arguments[i]) +
             " looks like a TCP address, but is the path of a UNIX domain socket: to listen on TCP "
             "use --listen, for a file of that name write ./" +
             arguments[i];
    }
  }
  if (arguments[2] == arguments[3]) {
    return std::string(kArguments[2].name) + " and " + std::string(kArguments[3].name) +
           " are the same path " + in_quotes(arguments[2]);
  }
  config.application_path = arguments[0];
  config.workers = static_cast<std::uint32_t>(*workers);
  Listen fastcgi;
  fastcgi.address.path = arguments[2];
  config.listen.insert(config.listen.begin(), std::move(fastcgi));
  config.stats_socket_path = arguments[3];
  return std::nullopt;
}

}  // namespace

std::string UsageError::text() const {
  return "bladepsgi: " + message + "\n" + usage_line() + "Try 'bladepsgi --help'.\n";
}

Parsed parse(int argc, const char* const* argv) {
  const std::span<const char* const> all(argv, static_cast<std::size_t>(std::max(argc, 0)));
  Reader reader(all.empty() ? all : all.subspan(1));
  reader.read();
  if (reader.question()) {
    return Information{*reader.question() == Question::Help ? help_text() : version_text()};
  }
  if (reader.error()) return UsageError{*reader.error()};
  Config config = defaults();
  if (auto message = apply_options(reader.words().options, config)) return UsageError{*message};
  if (auto message = apply_arguments(reader.words().arguments, config)) return UsageError{*message};
  return config;
}

Config defaults() {
  Config config;
  for (const Option& option : kOptions) {
    if (option.initial.empty()) continue;
    if (const auto message = store_value(option, option.initial, config)) {
      throw std::logic_error("default of " + *message);
    }
  }
  return config;
}

std::string_view version() {
  return BLADEPSGI_VERSION;
}

}  // namespace bladepsgi::config
