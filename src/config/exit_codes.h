// Exit codes: what the program's end tells whoever started it. Declared here once; manual page and tables follow.
#pragma once

#include <array>
#include <string_view>

namespace bladepsgi::config {

enum class ExitCode : int {
  Success = 0,
  Failure = 1,
  Usage = 2,
  ApplicationNotLoaded = 3,
  ImmediateStop = 4,
};

struct ExitCodeMeaning {
  ExitCode code;
  std::string_view meaning;
};

inline constexpr std::array<ExitCodeMeaning, 5> kExitCodes{{
    {ExitCode::Success,
     "Stopped as asked by SIGTERM or SIGINT; or help, version or configuration shown; or the "
     "server "
     "asked by --ping is healthy."},
    {ExitCode::Failure,
     "Could not start, or could not go on; a process ended unexpectedly under --on-crash=stop; or "
     "the server asked by --ping is not healthy, or did not answer."},
    {ExitCode::Usage, "Wrong usage: nothing was created."},
    {ExitCode::ApplicationNotLoaded, "The application did not load."},
    {ExitCode::ImmediateStop, "Stopped at once by SIGQUIT."},
}};

// The same numbers, as bladectl uses them.
inline constexpr std::array<ExitCodeMeaning, 4> kControlExitCodes{{
    {ExitCode::Success, "Done; or help or version shown."},
    {ExitCode::Failure,
     "Not done: the server could not, or refused, or ended meanwhile, or does not answer."},
    {ExitCode::Usage,
     "Wrong usage; or there is no server to command, or there are several and none was named."},
    {ExitCode::ApplicationNotLoaded,
     "The new code did not load, or did not answer --probe; the running one serves on."},
}};

// For main's return value and for ::_exit.
[[nodiscard]] constexpr int to_int(ExitCode code) {
  return static_cast<int>(code);
}

}  // namespace bladepsgi::config
