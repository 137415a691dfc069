// The environment: no name twice, no key of PSGI, paths of the promised form, nothing depends on what was built before. The
// first byte chooses the options; the rest is name-value pairs.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/parameter.h"
#include "cgi/environment.h"
#include "check.h"
#include "fcgi/name_value.h"

namespace {

namespace cgi = bladepsgi::cgi;
namespace fcgi = bladepsgi::fcgi;
using bladepsgi::Parameter;

cgi::EnvironmentOptions options_for(std::uint8_t choice) {
  cgi::EnvironmentOptions options;
  options.path_info = static_cast<cgi::PathInfoMode>(choice % 3);
  switch (choice / 3 % 4) {
    case 1:
      options.mount = "/";
      break;
    case 2:
      options.mount = "/a";
      break;
    default:
      break;
  }
  if (choice >= 128) options.hash_seed = 0;
  return options;
}

using Env = std::map<std::string_view, std::string_view>;

Env check(const cgi::Environment& environment) {
  Env env;
  for (const Parameter& p : environment.parameters()) {
    FUZZ_CHECK(env.emplace(p.name, p.value).second);
    FUZZ_CHECK(!p.name.starts_with("psgi.") && !p.name.starts_with("psgix."));
  }
  for (const char* name : {"HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH",
                           "HTTP_TRANSFER_ENCODING", "Authorization"}) {
    FUZZ_CHECK(env.count(name) == 0);
  }
  const std::string_view script_name = env.at("SCRIPT_NAME");
  const std::string_view path_info = env.at("PATH_INFO");
  FUZZ_CHECK(script_name.empty() || (script_name.starts_with('/') && !script_name.ends_with('/')));
  FUZZ_CHECK(path_info.empty() || path_info.starts_with('/'));
  FUZZ_CHECK(!script_name.empty() || !path_info.empty());
  FUZZ_CHECK(env.count("QUERY_STRING") == 1);
  for (const char* name : {"SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL"}) {
    FUZZ_CHECK(!env.at(name).empty());
  }
  return env;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  std::vector<Parameter> sent;
  fcgi::NameValueReader reader({reinterpret_cast<const std::byte*>(data) + 1, size - 1});
  while (const auto pair = reader.next())
    sent.push_back(*pair);

  cgi::Environment fresh(options_for(data[0]));
  const bool is_good = fresh.build(sent).has_value();
  const Env env = check(fresh);
  FUZZ_CHECK(!is_good || !env.at("REQUEST_METHOD").empty());
  FUZZ_CHECK(!is_good || fresh.content_length().has_value() == (env.count("CONTENT_LENGTH") == 1));

  // One that has built something else before gives the same.
  cgi::Environment used(options_for(data[0]));
  const std::vector<Parameter> other(700, Parameter{"HTTP_X", "%41"});
  static_cast<void>(used.build(other));
  static_cast<void>(used.build(std::span(sent).first(sent.size() / 2)));
  FUZZ_CHECK(used.build(sent).has_value() == is_good);
  FUZZ_CHECK(check(used) == env);
  return 0;
}
