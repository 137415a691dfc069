#include "os/system_error.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace bladepsgi::os {

std::string describe_errno(int error) {
  const char* text = ::strerrordesc_np(error);  // unlike strerror: no locale, no static buffer
  const char* symbol = ::strerrorname_np(error);
  if (text == nullptr || symbol == nullptr) return "error " + std::to_string(error);
  return std::string(text) + " (" + symbol + ")";
}

std::string describe_failure(int error, std::string_view action, std::string_view object) {
  std::string message = "cannot ";
  message += action;
  if (!object.empty()) {
    message += " '";
    message += object;
    message += "'";
  }
  return message + ": " + describe_errno(error);
}

Remedy remedy_for(int error) {
  switch (error) {
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EINTR:
    case ETOOMANYREFS:
      return Remedy::Retry;
    default:
      return Remedy::GiveUp;
  }
}

Error system_failure(int error, std::string_view action, std::string_view object) {
  return {remedy_for(error), describe_failure(error, action, object)};
}

SystemError::SystemError(int error, std::string_view action, std::string_view object)
    : std::runtime_error(describe_failure(error, action, object)), code_(error) {}

void broken_invariant(const char* file, int line, std::string_view text) {
  std::string message = std::string(file) + ":" + std::to_string(line) + ": broken invariant: ";
  message += text;
  message += '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, message.data(), message.size());
  std::abort();
}

}  // namespace bladepsgi::os
