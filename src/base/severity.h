// Severity: how much a log line matters; the word is what the line shows (contract §2).
#pragma once

#include <cstdint>
#include <string_view>

namespace bladepsgi {

enum class Severity : std::uint8_t { Log, Warning, Error, Fatal, Panic };

[[nodiscard]] constexpr std::string_view severity_word(Severity severity) {
  switch (severity) {
    case Severity::Log:
      return "LOG";
    case Severity::Warning:
      return "WARNING";
    case Severity::Error:
      return "ERROR";
    case Severity::Fatal:
      return "FATAL";
    case Severity::Panic:
      return "PANIC";
  }
  return "LOG";
}

}  // namespace bladepsgi
