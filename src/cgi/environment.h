// Environment: from the parameters a web server sent to the CGI variables that a PSGI or WSGI application is promised.
//
// Web servers disagree about SCRIPT_NAME and PATH_INFO, send empty variables for what is absent, pass on headers that must
// not reach an application (Proxy, Transfer-Encoding), and older ones repeat names. Here all of that is made right, once. Nothing
// a client sends can look like a key of the PSGI specification afterwards, and no value is ever cut.
//
// No allocation in the steady state. Names are compared through a small hash table that is reused, and repeated names are
// joined in one pass at the end, so that no list of parameters costs more than its size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parameter.h"
#include "base/result.h"

namespace bladepsgi::cgi {

enum class PathInfoMode : std::uint8_t {
  // From REQUEST_URI, with dot segments resolved, for whoever guards paths in front has resolved them too; and where nginx and
  // HAProxy put the whole path into SCRIPT_NAME, the application is at the root.
  Auto,
  Plack,   // from REQUEST_URI as Plack::Handler::FCGI does: SCRIPT_NAME as sent
  Server,  // as the web server sent them; only the form is corrected
};

struct EnvironmentOptions {
  std::optional<std::string>
      mount;  // the application's SCRIPT_NAME, whatever the web server says; "/" or "" is the root
  PathInfoMode path_info = PathInfoMode::Auto;
  // Any number that a client does not know, so that nobody can choose names that collide.
  std::uint64_t hash_seed = 0x9e3779b97f4a7c15;
};

// Why a request cannot be given to an application; the answer is 400.
enum class EnvironmentError : std::uint8_t { NoRequestMethod, BadContentLength };

[[nodiscard]] std::string_view describe(EnvironmentError error);

class Environment {
 public:
  explicit Environment(EnvironmentOptions options = {});

  // Views in the result are into `sent`, into the options and into this object; they live until the next build.
  [[nodiscard]] Result<void, EnvironmentError> build(std::span<const Parameter> sent);

  [[nodiscard]] std::span<const Parameter> parameters() const {
    return {result_.data(), result_size_};
  }

  // The same number, not 0: parameters() has the same names in the same order as when it was that number before.
  [[nodiscard]] std::uint64_t shape() const { return lists_ * kDecisions + decisions_; }

  // Adds a name that is not there yet (CONTENT_LENGTH, once it is known). The value is copied.
  void set_content_length(std::uint64_t length);

  // Also after a build that failed, as far as they were sent.
  [[nodiscard]] std::string_view method() const { return method_; }

  [[nodiscard]] std::string_view uri() const { return uri_; }  // REQUEST_URI as sent

  [[nodiscard]] std::string_view request_id() const {
    return request_id_;
  }  // HTTP_X_REQUEST_ID as sent

  [[nodiscard]] std::string_view remote_address() const { return remote_address_; }

  [[nodiscard]] std::optional<std::uint64_t> content_length() const { return content_length_; }

  // Overwrites what was made of the values; parameters() is empty then.
  void forget();

 private:
  // The parameters that need a decision of ours; everything else goes through as sent.
  enum class Known : std::uint8_t {
    None,
    Withheld,
    AuthType,
    Authorization,
    ContentLength,
    ContentType,
    Host,
    HttpAuthorization,
    Https,
    PathInfo,
    QueryString,
    RemoteAddress,
    RemoteUser,
    RequestId,
    RequestMethod,
    RequestUri,
    ScriptName,
    ServerName,
    ServerPort,
    ServerProtocol,
    ServerSoftware,
  };

  [[nodiscard]] static Known classify(std::string_view name);

  // One name, with the parameters that carry it as a chain of indices into the list that was sent.
  struct Entry {
    std::string_view name;
    std::uint32_t first;
    std::uint32_t last;
    std::uint32_t hash;
    bool repeated;
    Known known;
  };

  struct Slot {
    std::uint32_t generation = 0;  // of the build that filled it; another one's slots are empty
    std::uint32_t entry = 0;
  };

  // What of the names in parameters() depends on values: bits of decisions_.
  static constexpr std::uint8_t kNoLength = 1;
  static constexpr std::uint8_t kNoType = 2;
  static constexpr std::uint8_t kNoAuthType = 4;
  static constexpr std::uint8_t kNoUser = 8;
  static constexpr std::uint8_t kAuthorization = 16;
  static constexpr std::uint8_t kMadeLength = 32;
  static constexpr std::uint64_t kDecisions = 64;

  struct Found;  // the values that need a decision, gathered in one pass

  void gather(std::span<const Parameter> sent);
  // Web servers send the same names in the same order, mostly: then what gather has found out is still true.
  bool recall(std::span<const Parameter> sent);
  void remember(std::span<const Parameter> sent);
  void forget_previous(std::size_t count);
  std::string_view join(std::span<const Parameter> sent, const Entry& entry);
  void decide_paths(const Found& found);
  std::string_view decode(std::string_view text);
  // As web servers do before they look who may see it: slashes merged, "." and ".." gone.
  std::string_view resolve_dots(std::string_view path);

  // There is room: see build.
  void add(std::string_view name, std::string_view value) {
    result_[result_size_++] = {name, value};
  }

  EnvironmentOptions options_;
  std::string mount_;  // "" or "/…" without a slash at its end

  std::vector<Entry> entries_;
  std::string known_names_;  // of the list that entries_ was made of, one behind the other
  std::vector<std::uint32_t> known_sizes_;  // of each of them; empty: not remembered
  std::uint64_t lists_ = 0;  // how many times the names sent were not those of the request before
  std::uint8_t decisions_ = 0;
  std::vector<std::uint32_t> following_;  // by index: the next parameter of the same name
  std::vector<Slot> table_;
  std::uint32_t generation_ = 0;
  std::vector<Parameter> result_;
  std::size_t result_size_ = 0;
  // Joined and decoded values. Its size is known before the first is written, so views into it stay good.
  std::vector<char> scratch_;
  std::size_t scratch_used_ = 0;

  std::string_view method_;
  std::string_view uri_;
  std::string_view request_id_;
  std::string_view remote_address_;
  std::string_view script_name_;
  std::string_view path_info_;
  std::optional<std::uint64_t> content_length_;
  std::string content_length_text_;
};

// The path of a REQUEST_URI, still encoded: up to "?", without scheme and host of an absolute form. Empty when it has none
// ("*", "host:port").
[[nodiscard]] std::string_view path_of_uri(std::string_view uri);

}  // namespace bladepsgi::cgi
