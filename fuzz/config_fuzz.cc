// The command line: whatever the words are, there is a configuration, an information or a message; what --print-config prints of a
// configuration makes the same one. The words lie between NULs; the first byte chooses the program's name.
#include "config/config.h"

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "check.h"

namespace {

namespace config = bladepsgi::config;

config::Parsed parse(const std::vector<std::string>& words) {
  std::vector<const char*> argv;
  for (const std::string& word : words)
    argv.push_back(word.c_str());
  argv.push_back(nullptr);
  return config::parse(static_cast<int>(words.size()), argv.data());
}

// As a shell would read a line of config_text: words, or parts of them in single quotes.
std::vector<std::string> shell_words(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  bool is_quoted = false;
  bool is_open = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\'') {
      is_quoted = !is_quoted;
      is_open = true;
    } else if (!is_quoted && c == '\\' && i + 1 < text.size()) {
      word += text[++i];
      is_open = true;
    } else if (!is_quoted && (c == ' ' || c == '\n')) {
      if (is_open || !word.empty()) words.push_back(std::exchange(word, {}));
      is_open = false;
    } else {
      word += c;
    }
  }
  if (is_open || !word.empty()) words.push_back(word);
  return words;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::vector<std::string> words = {(data[0] & 1) != 0 ? "bladepsgi-fcgi" : "bladepsgi"};
  std::istringstream input(std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  for (std::string word; std::getline(input, word, '\0');)
    words.push_back(word);
  const config::Parsed parsed = parse(words);
  if (const auto* wrong = std::get_if<config::UsageError>(&parsed)) {
    FUZZ_CHECK(!wrong->message.empty() && wrong->message.find('\n') == std::string::npos);
    FUZZ_CHECK(wrong->text().ends_with('\n'));
    return 0;
  }
  if (const auto* information = std::get_if<config::Information>(&parsed)) {
    FUZZ_CHECK(!information->text.empty());
    return 0;
  }
  const auto& made = std::get<config::Config>(parsed);
  if (made.ping) return 0;
  const std::string text = config::config_text(made);
  std::string lines;
  std::istringstream printed(text);
  for (std::string line; std::getline(printed, line);) {
    if (!line.starts_with('#')) lines += line + '\n';
  }
  // A newline in a word would end the line that it is in.
  for (const std::string& word : words) {
    if (word.find('\n') != std::string::npos) return 0;
  }
  std::vector<std::string> again = shell_words(lines);
  again.insert(again.begin(), "bladepsgi");
  const config::Parsed second = parse(again);
  FUZZ_CHECK(std::holds_alternative<config::Config>(second));
  FUZZ_CHECK(config::config_text(std::get<config::Config>(second)) == text);
  return 0;
}
