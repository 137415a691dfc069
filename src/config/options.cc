#include "config/options.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "base/text.h"

namespace bladepsgi::config {

namespace {

struct Unit {
  std::string_view suffix;
  std::uint64_t factor;
};

// Largest first: the way back to text takes the first that divides the value.
constexpr std::array<Unit, 4> kTimeUnits{{{"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
constexpr std::array<Unit, 4> kSizeUnits{{{"G", kGibi}, {"M", kMebi}, {"K", kKibi}, {"", 1}}};

std::string with_unit(std::uint64_t value, std::span<const Unit> units) {
  if (value == 0) return "0";
  for (const Unit& unit : units) {
    if (value % unit.factor == 0)
      return std::to_string(value / unit.factor) + std::string(unit.suffix);
  }
  return std::to_string(value);
}

std::optional<std::uint64_t> parse_with_unit(std::string_view text,
                                             std::span<const Unit> units,
                                             std::uint64_t plain_factor) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::optional<std::uint64_t> number = parse_decimal(text.substr(0, digits));
  if (!number) return std::nullopt;
  const std::string_view suffix = text.substr(digits);
  std::uint64_t factor = suffix.empty() ? plain_factor : 0;
  for (const Unit& unit : units) {
    if (!suffix.empty() && equals_ignoring_case(unit.suffix, suffix)) factor = unit.factor;
  }
  if (factor == 0) return std::nullopt;
  if (*number > std::numeric_limits<std::uint64_t>::max() / factor) return std::nullopt;
  return *number * factor;
}

std::string list_of(std::span<const std::string_view> words) {
  std::string list;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i != 0) list += i + 1 == words.size() ? " or " : ", ";
    list += words[i];
  }
  return list;
}

std::optional<std::uint32_t> parse_mode(std::string_view text) {
  constexpr std::uint32_t kMost = 0777;
  if (text.empty()) return std::nullopt;
  std::uint32_t mode = 0;
  for (const char c : text) {
    if (c < '0' || c > '7') return std::nullopt;
    mode = mode * 8 + static_cast<std::uint32_t>(c - '0');
    if (mode > kMost) return std::nullopt;
  }
  return mode;
}

std::uint64_t count(std::chrono::milliseconds time) {
  return static_cast<std::uint64_t>(time.count());
}

bool can_be_connected_to(const Address& address) {
  return address.kind == Address::Kind::Unix ||
         (address.kind == Address::Kind::Tcp && address.port != 0);
}

template <class... Lambdas>
struct Overloaded : Lambdas... {
  using Lambdas::operator()...;
};

template <class... Lambdas>
Overloaded(Lambdas...) -> Overloaded<Lambdas...>;

// False: not an acceptable value; `config` is as before.
bool try_store(const Kind& kind, std::string_view value, Config& config) {
  return std::visit(
      Overloaded{
          [&](const Flag& flag) {
            config.*flag.field = true;
            return true;
          },
          [&](const Text& text) {
            if (value.empty() && !text.may_be_empty) return false;
            config.*text.field = value;
            return true;
          },
          [&](const TextList& list) {
            if (value.empty()) return false;
            (config.*list.field).emplace_back(value);
            return true;
          },
          [&](const UrlPrefix& prefix) {
            if (!value.starts_with('/') || value.find_first_of("?#") != std::string_view::npos) {
              return false;
            }
            // "/app/" and "/app" are the same place, and "/" is the empty SCRIPT_NAME (PSGI: never just "/").
            const std::size_t last = value.find_last_not_of('/');
            config.*prefix.field = value.substr(0, last == std::string_view::npos ? 0 : last + 1);
            return true;
          },
          [&](const Number& number) {
            const std::optional<std::uint64_t> parsed = parse_decimal(value);
            if (!parsed || *parsed < number.least || *parsed > number.most) return false;
            config.*number.field = static_cast<std::uint32_t>(*parsed);
            return true;
          },
          [&](const OptionalNumber& number) {
            const std::optional<std::uint64_t> parsed = parse_decimal(value);
            if (!parsed || *parsed < number.least || *parsed > number.most) return false;
            config.*number.field = static_cast<std::uint32_t>(*parsed);
            return true;
          },
          [&](const Share& share) {
            const std::string_view digits =
                value.ends_with('%') ? value.substr(0, value.size() - 1) : value;
            const std::optional<std::uint64_t> parsed = parse_decimal(digits);
            if (!parsed || *parsed < share.least || *parsed > share.most) return false;
            config.*share.field = static_cast<std::uint32_t>(*parsed);
            return true;
          },
          [&](const FileMode& mode) {
            const std::optional<std::uint32_t> parsed = parse_mode(value);
            if (!parsed) return false;
            config.*mode.field = *parsed;
            return true;
          },
          [&](const Size& size) {
            const std::optional<std::uint64_t> parsed = parse_with_unit(value, kSizeUnits, 1);
            if (!parsed || *parsed < size.least || *parsed > size.most) return false;
            config.*size.field = *parsed;
            return true;
          },
          [&](const Duration& duration) {
            const std::optional<std::uint64_t> parsed = parse_with_unit(value, kTimeUnits, 1000);
            if (!parsed || *parsed < count(duration.least) || *parsed > count(duration.most)) {
              return false;
            }
            config.*duration.field = std::chrono::milliseconds{*parsed};
            return true;
          },
          [&](const Choice& choice) {
            const auto word = std::find(choice.words.begin(), choice.words.end(), value);
            if (word == choice.words.end()) return false;
            choice.store(config, static_cast<std::size_t>(word - choice.words.begin()));
            return true;
          },
          [&](const ListenAddress& listen) {
            auto address = parse_address(value);
            if (!address) return false;
            if (!listen.protocol) {
              config.hints.listen.push_back(std::move(*address));
            } else {
              config.listen.push_back(
                  {.address = std::move(*address), .protocol = *listen.protocol});
            }
            return true;
          },
          [&](const PeerAddress& peer) {
            auto address = parse_address(value);
            if (!address || !can_be_connected_to(*address)) return false;
            config.*peer.field = std::move(*address);
            return true;
          },
          [&](const Hint& hint) {
            if (value.empty()) return false;
            config.hints.*hint.field = value;
            return true;
          },
          [&](const Ignored& ignored) {
            if (!ignored.note.empty()) config.notes.emplace_back(ignored.note);
            return true;
          },
          [](const Refused&) { return false; },
          [](const Question&) { return true; },
      },
      kind);
}

}  // namespace

std::string_view form_name(Form form) {
  switch (form) {
    case Form::Classic:
      return "with four arguments";
    case Form::Application:
      return "with an application alone";
    case Form::FcgiScript:
      return "under the name bladepsgi-fcgi";
  }
  return {};
}

std::vector<Spelling> spellings_of(const Option& option) {
  std::vector<Spelling> found;
  for (std::size_t i = 0; i < option.letters.size(); ++i)
    found.push_back({option.letters.substr(i, 1), option.forms, option.name});
  for (const Spelling& spelling : kSpellings) {
    if (spelling.option == option.name) found.push_back(spelling);
  }
  return found;
}

const Option* find_letter(char letter, Form form) {
  for (const Option& option : kOptions) {
    if (option.forms.has(form) && option.letters.find(letter) != std::string_view::npos)
      return &option;
  }
  for (const Spelling& spelling : kSpellings) {
    if (spelling.forms.has(form) && spelling.word.size() == 1 && spelling.word.front() == letter)
      return &named_option(spelling.option);
  }
  return nullptr;
}

const Option& named_option(std::string_view name) {
  const auto option = std::find_if(kOptions.begin(), kOptions.end(),
                                   [&](const Option& candidate) { return candidate.name == name; });
  if (option == kOptions.end()) throw std::logic_error("no option '" + std::string(name) + "'");
  return *option;
}

std::string accepted_values(const Option& option) {
  return std::visit(
      Overloaded{
          [](const Flag&) { return std::string{}; },
          [](const Text&) { return std::string{}; },
          [](const TextList&) { return std::string{}; },
          [](const UrlPrefix&) {
            return std::string{"a path that begins with / and has no ? or #"};
          },
          [](const Number& number) {
            return std::to_string(number.least) + " to " + std::to_string(number.most);
          },
          [](const OptionalNumber& number) {
            return std::to_string(number.least) + " to " + std::to_string(number.most);
          },
          [](const Share& share) {
            return std::to_string(share.least) + "% to " + std::to_string(share.most) + "%";
          },
          [](const FileMode&) { return std::string{"octal, 0 to 0777"}; },
          [](const Size& size) {
            return with_unit(size.least, kSizeUnits) + " to " + with_unit(size.most, kSizeUnits);
          },
          [](const Duration& duration) {
            return with_unit(count(duration.least), kTimeUnits) + " to " +
                   with_unit(count(duration.most), kTimeUnits);
          },
          [](const Choice& choice) { return list_of(choice.words); },
          [](const ListenAddress&) { return std::string{}; },
          [](const PeerAddress&) { return std::string{}; },
          [](const Hint&) { return std::string{}; },
          [](const Ignored&) { return std::string{}; },
          [](const Refused&) { return std::string{}; },
          [](const Question&) { return std::string{}; },
      },
      option.kind);
}

std::optional<std::vector<std::string>> stored_values(const Option& option, const Config& config) {
  using Values = std::vector<std::string>;
  const auto unless_empty = [](const std::string& text) {
    return text.empty() ? Values{} : Values{text};
  };
  return std::visit(
      Overloaded{
          [&](const Flag& flag) -> std::optional<Values> {
            return config.*flag.field ? Values{""} : Values{};
          },
          [&](const Text& text) -> std::optional<Values> {
            return text.may_be_empty ? Values{config.*text.field}
                                     : unless_empty(config.*text.field);
          },
          [&](const TextList& list) -> std::optional<Values> { return config.*list.field; },
          [&](const UrlPrefix& prefix) -> std::optional<Values> {
            const std::optional<std::string>& stored = config.*prefix.field;
            if (!stored) return Values{};
            return Values{stored->empty() ? "/" : *stored};
          },
          [&](const Number& number) -> std::optional<Values> {
            const std::uint32_t stored = config.*number.field;
            return stored < number.least ? Values{} : Values{std::to_string(stored)};
          },
          [&](const OptionalNumber& number) -> std::optional<Values> {
            const std::optional<std::uint32_t>& stored = config.*number.field;
            return stored ? Values{std::to_string(*stored)} : Values{};
          },
          [&](const Share& share) -> std::optional<Values> {
            return Values{std::to_string(config.*share.field) + "%"};
          },
          [&](const FileMode& mode) -> std::optional<Values> {
            std::string digits;
            for (std::uint32_t rest = config.*mode.field; rest != 0; rest /= 8)
              digits.insert(digits.begin(), static_cast<char>('0' + rest % 8));
            return Values{"0" + digits};
          },
          [&](const Size& size) -> std::optional<Values> {
            return Values{with_unit(config.*size.field, kSizeUnits)};
          },
          [&](const Duration& duration) -> std::optional<Values> {
            return Values{with_unit(count(config.*duration.field), kTimeUnits)};
          },
          [&](const Choice& choice) -> std::optional<Values> {
            return Values{std::string(choice.words[choice.load(config)])};
          },
          [&](const ListenAddress& listen) -> std::optional<Values> {
            if (!listen.protocol) return std::nullopt;
            Values values;
            for (const Listen& one : config.listen) {
              if (one.protocol == *listen.protocol) values.push_back(to_text(one.address));
            }
            return values;
          },
          [](const PeerAddress&) -> std::optional<Values> { return std::nullopt; },
          [](const Hint&) -> std::optional<Values> { return std::nullopt; },
          [](const Ignored&) -> std::optional<Values> { return std::nullopt; },
          [](const Refused&) -> std::optional<Values> { return std::nullopt; },
          [](const Question&) -> std::optional<Values> { return std::nullopt; },
      },
      option.kind);
}

std::optional<std::string> store_value(const Option& option,
                                       std::string_view value,
                                       Config& config) {
  if (try_store(option.kind, value, config)) return std::nullopt;
  const std::string accepted = accepted_values(option);
  std::string message = "option '--" + std::string(option.name) + "': ";
  if (std::holds_alternative<ListenAddress>(option.kind) ||
      std::holds_alternative<PeerAddress>(option.kind)) {
    const auto address = parse_address(value);
    if (!address) return message + address.error();
    return message + "nobody can connect to '" + printable(value) +
           "'; expected the path or HOST:PORT on which the server answers";
  }
  if (const auto* refused = std::get_if<Refused>(&option.kind))
    return message + std::string(refused->reason);
  message += value.empty() ? "the value is empty" : "bad value '" + printable(value) + "'";
  if (!accepted.empty()) message += "; expected " + accepted;
  if (std::holds_alternative<Duration>(option.kind)) {
    message += ", a whole number of seconds or one with ms, s, m or h";
  } else if (std::holds_alternative<Size>(option.kind)) {
    message += ", a whole number of bytes or one with K, M or G";
  }
  return message;
}

}  // namespace bladepsgi::config
