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

// An option as it was written; what it means depends on how many arguments there are.
struct Given {
  std::string_view name;  // without dashes
  bool is_letter = false;
  std::optional<std::string_view> value = std::nullopt;
  bool lacks_value = false;  // it takes one, and the command line ends
};

struct Words {
  std::vector<Given> options;
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

// As one word of a shell's command line.
std::string for_shell(std::string_view text) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-";
  if (text.find_first_not_of(kPlain) == std::string_view::npos) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
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

std::string list_of(const std::vector<std::string_view>& names) {
  std::string list;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i != 0) list += i + 1 == names.size() ? " or " : ", ";
    list += "'--" + std::string(names[i]) + "'";
  }
  return list;
}

bool is_spelled(const Option& option, std::string_view name, Form form) {
  if (option.name == name) return option.forms.has(form);
  return std::any_of(kSpellings.begin(), kSpellings.end(), [&](const Spelling& spelling) {
    return spelling.word == name && spelling.word.size() > 1 && spelling.option == option.name &&
           spelling.forms.has(form);
  });
}

// "; it is there …" for a word that means something elsewhere.
std::string known_elsewhere(std::string_view word, bool is_letter, Form form) {
  for (const Form other : kForms) {
    if (other == form) continue;
    const bool is_known =
        is_letter ? find_letter(word.front(), other) != nullptr
                  : std::any_of(kOptions.begin(), kOptions.end(), [&](const Option& option) {
                      return is_spelled(option, word, other);
                    });
    if (is_known)
      return " " + std::string(form_name(form)) + "; there is one " + std::string(form_name(other));
  }
  return {};
}

std::string unknown_long(std::string_view name, Form form) {
  std::string message = "unknown option '--" + printable(name) + "'";
  for (const Option& option : kOptions) {
    if (option.name == name && !option.argument.empty() && form == Form::Classic)
      return "option " + dashed(option) + " is not for the form with four arguments: there " +
             std::string(option.argument) + " says it";
  }
  if (const std::string elsewhere = known_elsewhere(name, false, form); !elsewhere.empty())
    return message + elsewhere;
  // A longer word may have more slips in it, but no word is taken for something quite different.
  constexpr std::size_t kLongestWorthComparing = 64;
  const std::size_t most_slips = 1 + std::min<std::size_t>(name.size() / 5, 2);
  std::vector<std::string_view> similar;
  const auto compare = [&](std::string_view known, const Forms& forms) {
    if (known.size() > 1 && forms.has(form) && edit_distance(name, known) <= most_slips)
      similar.push_back(known);
  };
  if (name.size() <= kLongestWorthComparing) {
    for (const Option& option : kOptions)
      compare(option.name, option.forms);
    for (const Spelling& spelling : kSpellings)
      compare(spelling.word, spelling.forms);
  }
  if (!similar.empty()) message += "; did you mean " + list_of(similar) + "?";
  return message;
}

Result<const Option*, std::string> find_long(std::string_view name, Form form) {
  std::vector<const Option*> candidates;
  std::vector<std::string_view> names;
  std::vector<const Option*> first_version;
  for (const Option& option : kOptions) {
    if (is_spelled(option, name, form)) return &option;
    if (!option.forms.has(form) || !option.name.starts_with(name)) continue;
    candidates.push_back(&option);
    names.push_back(option.name);
    if (option.since_first_version) first_version.push_back(&option);
  }
  if (candidates.empty()) return fail(unknown_long(name, form));
  if (candidates.size() == 1) return candidates.front();
  // An abbreviation that was good when there were four options is found in start scripts, and stays good.
  if (first_version.size() == 1) return first_version.front();
  return fail("option '--" + std::string(name) + "' is ambiguous; it could be " + list_of(names));
}

// Reads argv as getopt_long does. CLI11 2.1 cannot: it knows no abbreviations, takes the next word as the value of
// "--name=", and gives "++" a meaning of its own. It is handed whole words with nothing to guess.
//
// Which words are arguments does not depend on the form: an option that two of them have takes a value in both or in none.
class Reader {
 public:
  Reader(std::span<const char* const> argv, std::span<const Form> forms)
      : argv_(argv), forms_(forms) {}

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

  [[nodiscard]] const std::optional<Question>& question() const { return question_; }

 private:
  [[nodiscard]] std::ptrdiff_t offset() const { return static_cast<std::ptrdiff_t>(next_); }

  void read_long(std::string_view word) {
    const std::size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    if (equals != std::string_view::npos) {
      words_.options.push_back({.name = name, .value = word.substr(equals + 1)});
      return;
    }
    const Option* known = nullptr;
    for (const Form form : forms_) {
      if (known != nullptr) break;
      if (const auto found = find_long(name, form)) known = *found;
    }
    add({.name = name}, known);
  }

  void read_letters(std::string_view letters) {
    while (!letters.empty()) {
      const Option* known = nullptr;
      for (const Form form : forms_) {
        if (known == nullptr) known = find_letter(letters.front(), form);
      }
      Given given{.name = letters.substr(0, 1), .is_letter = true};
      letters.remove_prefix(1);
      if (known == nullptr) letters = {};  // who knows what follows it
      if (known != nullptr && takes_value(*known) && !letters.empty()) {
        given.value = std::exchange(letters, {});
        words_.options.push_back(given);
      } else {
        add(given, known);
      }
    }
  }

  // An option whose value, if it takes one, is the next word.
  void add(Given given, const Option* known) {
    if (known != nullptr && takes_value(*known)) {
      if (next_ == argv_.size()) {
        given.lacks_value = true;
      } else {
        given.value = argv_[next_++];
      }
    } else if (known != nullptr && !question_) {
      if (const auto* question = std::get_if<Question>(&known->kind)) question_ = *question;
    }
    words_.options.push_back(given);
  }

  std::span<const char* const> argv_;
  std::span<const Form> forms_;
  std::size_t next_ = 0;
  Words words_;
  std::optional<Question> question_;
};

Result<const Option*, std::string> find_given(const Given& given, Form form) {
  if (!given.is_letter) return find_long(given.name, form);
  if (const Option* option = find_letter(given.name.front(), form)) return option;
  return fail("unknown option '-" + printable(given.name) + "'" +
              known_elsewhere(given.name, true, form));
}

// "--name", followed by its value if it takes one, for every option.
Result<std::vector<std::string>, std::string> spell_out(const std::vector<Given>& options,
                                                        Form form) {
  std::vector<std::string> words;
  for (const Given& given : options) {
    const auto found = find_given(given, form);
    if (!found) return fail(found.error());
    const Option& option = **found;
    if (given.value && !takes_value(option))
      return fail("option " + dashed(option) + " takes no value");
    if (given.lacks_value || (!given.value && takes_value(option))) {
      return fail("option " + dashed(option) + " needs a value: " + std::string(option.value));
    }
    if (std::holds_alternative<Question>(option.kind)) continue;
    words.push_back("--" + std::string(option.name));
    if (given.value) words.emplace_back(*given.value);
  }
  return words;
}

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
      const bool is_list = std::holds_alternative<ListenAddress>(option.kind) ||
                           std::holds_alternative<TextList>(option.kind);
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

// Whether there is --ping, so that nothing shall be started.
bool is_ping(const Words& words, Form form) {
  return std::any_of(words.options.begin(), words.options.end(), [&](const Given& given) {
    const auto found = find_given(given, form);
    return found && std::holds_alternative<PeerAddress>((*found)->kind);
  });
}

// Whatever belongs to a server that is to be started, beside --ping: then something else was meant.
std::optional<std::string> check_alone(const Words& words, Form form) {
  constexpr std::string_view kAlone =
      "option '--ping' stands alone, as it asks a server that is running and starts none; ";
  for (const Given& given : words.options) {
    const auto found = find_given(given, form);
    if (found && !std::holds_alternative<PeerAddress>((*found)->kind))
      return std::string(kAlone) + "leave out " + dashed(**found);
  }
  if (!words.arguments.empty())
    return std::string(kAlone) + "leave out " + in_quotes(words.arguments.front());
  return std::nullopt;
}

// What CGI::Fast, FCGI::ProcManager and their users say so.
std::optional<std::string> apply_environment(const Environment& environment, Config& config) {
  for (const Variable& variable : kVariables) {
    const auto set = environment.find(variable.name);
    if (set == environment.end() || set->second.empty()) continue;
    if (variable.option.empty()) {
      config.notes.push_back("environment variable " + std::string(variable.name) +
                             " is without effect");
      continue;
    }
    const auto message = store_value(named_option(variable.option), set->second, config);
    if (message) return "environment variable " + std::string(variable.name) + ": " + *message;
  }
  return std::nullopt;
}

std::string wrong_number(const std::vector<std::string>& arguments, Form form) {
  std::string message =
      form == Form::FcgiScript
          ? "expected one argument, the application"
          : "expected an application alone or " + std::to_string(kArguments.size()) + " arguments";
  message += ", got ";
  message += arguments.empty() ? "none" : std::to_string(arguments.size()) + ":";
  constexpr std::size_t kMostShown = 8;
  for (std::size_t i = 0; i < std::min(arguments.size(), kMostShown); ++i) {
    message += " " + in_quotes(arguments[i]);
  }
  if (arguments.size() > kMostShown) message += " …";
  if (form == Form::FcgiScript || arguments.empty()) return message;
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

std::optional<std::string> check_control_path(const Config& config) {
  const std::string& path = config.control_socket_path;
  if (path.empty() || path == kNoControl) return std::nullopt;
  if (auto message = check_socket_path("option '--control':", path)) return message;
  const bool is_taken =
      path == config.stats_socket_path ||
      std::any_of(config.listen.begin(), config.listen.end(),
                  [&path](const Listen& one) { return one.address.path == path; });
  if (is_taken)
    return "option '--control': " + in_quotes(path) + " is the path of another socket already";
  return std::nullopt;
}

std::optional<std::string> apply_classic(const std::vector<std::string>& arguments,
                                         Config& config) {
  if (arguments.size() != kArguments.size()) return wrong_number(arguments, config.form);
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
  for (Address& address : config.hints.listen)
    config.listen.push_back({.address = std::move(address), .protocol = Protocol::FastCgi});
  return std::nullopt;
}

// Where --host and --port say.
Result<Address, std::string> address_of(const Hints& hints) {
  constexpr std::string_view kHost = "127.0.0.1";
  constexpr std::string_view kPort = "5000";
  std::string host = hints.host.empty() ? std::string(kHost) : hints.host;
  if (host.find(':') != std::string::npos && !host.starts_with('[')) host = "[" + host + "]";
  if (host.find('/') != std::string::npos) {
    return fail("option '--host': " + in_quotes(hints.host) +
                " is a path; to listen on a UNIX domain socket use --listen");
  }
  const std::string_view port = hints.port.empty() ? kPort : std::string_view(hints.port);
  const std::optional<std::uint64_t> number = parse_decimal(port);
  constexpr std::uint64_t kLastPort = 65535;
  if (!number || *number > kLastPort) {
    return fail("option '--port': bad value " + in_quotes(port) + "; expected 0 to " +
                std::to_string(kLastPort));
  }
  auto address = parse_address(host + ":" + std::string(port));
  if (!address) return fail("option '--host': " + address.error());
  return address;
}

// What plackup's -s changes: whether the server speaks FastCGI.
bool apply_server(Config& config) {
  constexpr std::array<std::string_view, 10> kAlike{"BladePSGI",
                                                    "Starman",
                                                    "Starlet",
                                                    "Standalone",
                                                    "HTTP::Server::PSGI",
                                                    "HTTP::Server::Simple",
                                                    "Gazelle",
                                                    "Monoceros",
                                                    "FCGI",
                                                    "Standalone::Prefork"};
  const std::string& name = config.hints.server;
  if (!name.empty() && std::find(kAlike.begin(), kAlike.end(), name) == kAlike.end()) {
    config.notes.push_back("--server=" + printable(name) +
                           " changes nothing: the server is BladePSGI");
  }
  return name == "FCGI" || config.form == Form::FcgiScript;
}

std::optional<std::string> apply_application(const std::vector<std::string>& arguments,
                                             Config& config) {
  if (arguments.size() > 1) return wrong_number(arguments, config.form);
  if (!arguments.empty()) {
    if (!config.application_path.empty()) {
      return "there are two applications, option '--app' " + in_quotes(config.application_path) +
             " and the argument " + in_quotes(arguments[0]);
    }
    if (arguments[0].empty()) return std::string(kArguments[0].name) + " is empty";
    config.application_path = arguments[0];
  }
  if (config.application_path.empty() && config.application_code.empty())
    return wrong_number(arguments, config.form);
  if (!config.application_code.empty() && !config.loader.empty())
    return "options '--eval' and '--loader' both say how to load the application";
  if (config.plack_env == "development") {
    config.notes.emplace_back(
        "PLACK_ENV is development for the application, but no middleware is added as plackup would "
        "do: enable StackTrace, Lint and the like in the application");
  }
  if (!config.stats_socket_path.empty()) {
    if (auto message = check_socket_path("option '--stats':", config.stats_socket_path))
      return message;
    if (looks_like_tcp(config.stats_socket_path)) {
      return "option '--stats': " + in_quotes(config.stats_socket_path) +
             " looks like a TCP address, but is the path of a UNIX domain socket: for a file of "
             "that name write ./" +
             config.stats_socket_path;
    }
  }
  const bool is_fastcgi = apply_server(config);
  config.inherited_protocol = is_fastcgi ? Protocol::FastCgi : Protocol::Http;
  for (Address& address : config.hints.listen) {
    const bool is_http = !is_fastcgi && address.kind == Address::Kind::Tcp;
    config.listen.push_back(
        {.address = std::move(address), .protocol = is_http ? Protocol::Http : Protocol::FastCgi});
  }
  auto address = address_of(config.hints);
  if (!address) return address.error();
  const Listen listen{.address = *address, .protocol = config.inherited_protocol};
  if (!config.hints.host.empty() || !config.hints.port.empty()) {
    config.listen.push_back(listen);
  } else if (config.form == Form::Application) {
    config.fallback = listen;
  }
  return std::nullopt;
}

// The names of Plack::Loader's ways to run a server; their users find what they are used to under other options.
std::optional<std::string> check_loader(std::string_view loader) {
  constexpr std::string_view kPrefix = "Plack::Loader::";
  if (loader.starts_with(kPrefix)) loader.remove_prefix(kPrefix.size());
  std::string_view instead;
  if (loader == "Shotgun") {
    instead = "the application is loaded once and not for each request: develop with plackup";
  } else if (loader == "Restarter") {
    instead = kNoReload;
  } else if (loader == "Delayed") {
    instead = "use --no-preload, which loads the application in each worker";
  } else {
    return std::nullopt;
  }
  return "option '--loader': " + std::string(loader) +
         " is a loader of plackup, not a module that loads the application; " +
         std::string(instead);
}

}  // namespace

std::string UsageError::text() const {
  const std::string name(name_of(program));
  return name + ": " + message + "\n" + usage_lines(program) + "Try '" + name + " --help'.\n";
}

Program program_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash != std::string_view::npos) path.remove_prefix(slash + 1);
  return path == name_of(Program::BladepsgiFcgi) ? Program::BladepsgiFcgi : Program::Bladepsgi;
}

bool has_service(const Config& config) {
  return std::any_of(config.listen.begin(), config.listen.end(),
                     [](const Listen& one) { return one.protocol != Protocol::Health; });
}

Parsed parse(int argc, const char* const* argv, const Environment& environment) {
  const std::span<const char* const> all(argv, static_cast<std::size_t>(std::max(argc, 0)));
  const Program program = all.empty() ? Program::Bladepsgi : program_of(all.front());
  Reader reader(all.empty() ? all : all.subspan(1), forms_of(program));
  reader.read();
  if (reader.question()) {
    return Information{*reader.question() == Question::Help ? help_text(program) : version_text()};
  }
  const std::vector<std::string>& arguments = reader.words().arguments;
  const Form form = program == Program::BladepsgiFcgi      ? Form::FcgiScript
                    : arguments.size() < kArguments.size() ? Form::Application
                                                           : Form::Classic;
  const auto options = spell_out(reader.words().options, form);
  if (!options) return UsageError{options.error(), program};
  Config config = defaults();
  config.form = form;
  if (form == Form::FcgiScript && !is_ping(reader.words(), form)) {
    if (auto message = apply_environment(environment, config)) return UsageError{*message, program};
  }
  const std::vector<Address> from_environment = std::exchange(config.hints.listen, {});
  if (auto message = apply_options(*options, config)) return UsageError{*message, program};
  if (config.ping) {
    if (auto message = check_alone(reader.words(), form)) return UsageError{*message, program};
    return config;
  }
  if (!has_service(config) && config.hints.listen.empty() && config.hints.host.empty() &&
      config.hints.port.empty())
    config.hints.listen = from_environment;
  if (auto message = check_loader(config.loader)) return UsageError{*message, program};
  if (config.loader == "Plack::Loader") config.loader.clear();  // plackup's own default
  auto message = form == Form::Classic ? apply_classic(arguments, config)
                                       : apply_application(arguments, config);
  if (!message) message = check_control_path(config);
  if (message) return UsageError{*message, program};
  return config;
}

std::string config_text(const Config& config) {
  std::string text;
  for (const Option& option : kOptions) {
    const auto values = stored_values(option, config);
    if (!values || option.section == Section::Information) continue;
    std::string name = "--" + std::string(option.name);
    if (values->empty()) {
      text += "# " + name;
      if (takes_value(option)) text += "=" + std::string(option.value);
      if (!option.unset.empty()) text += "  " + std::string(option.unset);
      text += "\n";
    }
    for (const std::string& value : *values)
      text += (takes_value(option) ? name + "=" + for_shell(value) : name) + "\n";
  }
  return text;
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
