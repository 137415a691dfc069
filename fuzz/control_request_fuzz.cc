// What comes on the control socket, and what a server might answer: understood or refused, never an exception; what was understood is written in
// one line of ASCII and means the same when it is read again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "check.h"
#include "control/protocol.h"

namespace {

namespace control = bladepsgi::control;

std::string_view checked_line(const std::string& line) {
  FUZZ_CHECK(line.ends_with('\n'));
  const std::string_view text = std::string_view(line).substr(0, line.size() - 1);
  FUZZ_CHECK(std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; }));
  return text;
}

void check_request(std::string_view input) {
  const auto request = control::parse_request(input);
  if (!request) {
    FUZZ_CHECK(!request.error().message.empty());
    return;
  }
  const std::string line = control::request_line(*request);
  const auto again = control::parse_request(checked_line(line));
  FUZZ_CHECK(again.has_value());
  FUZZ_CHECK(control::request_line(*again) == line);
  static_cast<void>(control::flag(request->arguments, "fast").has_value());
  static_cast<void>(control::number(request->arguments, "number", 0, 9).has_value());
  static_cast<void>(control::check_arguments(request->arguments, {"fast"}).has_value());
}

void check_answer(std::string_view input) {
  const auto answer = control::parse_answer(input);
  if (!answer) return;
  if (const auto* progress = std::get_if<control::Progress>(&*answer)) {
    static_cast<void>(checked_line(control::progress_line(progress->text)));
    return;
  }
  const auto& outcome = std::get<control::Outcome>(*answer);
  FUZZ_CHECK((outcome.exit == 0) == outcome.error.empty());
  const std::string line = control::outcome_line(outcome);
  const auto again = control::parse_answer(checked_line(line));
  FUZZ_CHECK(again.has_value());
  FUZZ_CHECK(control::outcome_line(std::get<control::Outcome>(*again)) == line);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  check_request(input);
  check_answer(input);
  return 0;
}
