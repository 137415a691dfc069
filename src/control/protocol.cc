#include "control/protocol.h"

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace bladepsgi::control {

namespace {

constexpr int kMostExit = 255;

Failure<Error> refuse(std::string message) {
  return fail(Remedy::Refuse, std::move(message));
}

std::string in_quotes(std::string_view name) {
  return "'" + printable(name, 64) + "'";
}

}  // namespace

Result<Request> parse_request(std::string_view line) {
  auto value = json::parse(line);
  if (!value) return refuse("the request is " + value.error().message);
  if (value->as_object() == nullptr) return refuse("the request is no JSON object");
  Request request;
  request.arguments = *value->as_object();
  const auto command = request.arguments.take("command");
  if (!command || command->as_string() == nullptr) return refuse("the request names no command");
  request.command = *command->as_string();
  return request;
}

Result<Answer> parse_answer(std::string_view line) {
  const auto value = json::parse(line);
  if (!value) return refuse("the answer is " + value.error().message);
  if (const json::Value* text = value->find("progress");
      text != nullptr && text->as_string() != nullptr)
    return Answer(Progress{*text->as_string()});
  const json::Value* ok = value->find("ok");
  if (ok == nullptr || !ok->as_bool())
    return refuse("the answer is neither progress nor an outcome");
  Outcome outcome;
  if (const json::Value* result = value->find("result")) outcome.result = *result;
  if (*ok->as_bool()) return Answer(std::move(outcome));
  const json::Value* exit = value->find("exit");
  const std::int64_t code = exit != nullptr ? exit->as_integer().value_or(1) : 1;
  outcome.exit = code >= 1 && code <= kMostExit ? static_cast<int>(code) : 1;
  const json::Value* error = value->find("error");
  if (error != nullptr && error->as_string() != nullptr) outcome.error = *error->as_string();
  if (outcome.error.empty()) outcome.error = "it was not done, and the server does not say why";
  return Answer(std::move(outcome));
}

std::string request_line(const Request& request) {
  json::Object object;
  object.add("command", request.command);
  for (const json::Member& member : request.arguments.members())
    object.add(member.name, member.value);
  return json::Value(std::move(object)).text() + "\n";
}

std::string progress_line(std::string_view text) {
  json::Object object;
  object.add("progress", text);
  return json::Value(std::move(object)).text() + "\n";
}

std::string outcome_line(const Outcome& outcome) {
  json::Object object;
  object.add("ok", outcome.error.empty());
  object.add("exit", outcome.error.empty() ? 0 : std::clamp(outcome.exit, 1, kMostExit));
  if (!outcome.error.empty()) object.add("error", outcome.error);
  if (!outcome.result.is_null()) object.add("result", outcome.result);
  return json::Value(std::move(object)).text() + "\n";
}

Result<void> check_arguments(const json::Object& arguments,
                             const std::vector<std::string_view>& known) {
  for (const json::Member& member : arguments.members()) {
    if (std::find(known.begin(), known.end(), member.name) == known.end())
      return refuse("the server knows no " + in_quotes(member.name) + " of this command");
  }
  return {};
}

Result<bool> flag(const json::Object& arguments, std::string_view name) {
  const json::Value* value = arguments.find(name);
  if (value == nullptr) return false;
  if (!value->as_bool()) return refuse(in_quotes(name) + " is neither true nor false");
  return *value->as_bool();
}

Result<std::optional<std::int64_t>> number(const json::Object& arguments,
                                           std::string_view name,
                                           std::int64_t least,
                                           std::int64_t most) {
  const json::Value* value = arguments.find(name);
  if (value == nullptr) return std::optional<std::int64_t>();
  const auto integer = value->as_integer();
  if (!integer || *integer < least || *integer > most)
    return refuse(in_quotes(name) + " is no whole number from " + std::to_string(least) + " to " +
                  std::to_string(most));
  return std::optional(*integer);
}

}  // namespace bladepsgi::control
