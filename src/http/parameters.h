// Parameters: from a request to the CGI/1.1 meta-variables (RFC 3875) that a front end would send for it.
//
// SCRIPT_NAME is empty and PATH_INFO is not there: the stage behind this one makes them from REQUEST_URI, and joins fields that
// are repeated here. A field that could pass for another one, or for what a web server says, is left out: names with anything but
// letters, digits and "-", Proxy, and the fields that describe the transfer.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/parameter.h"
#include "http/head.h"
#include "http/peer.h"

namespace bladepsgi::http {

class Parameters {
 public:
  // Views in the result are into the request, into what `peer` views and into this object; they live until the next build. No
  // allocation in the steady state.
  std::span<const Parameter> build(const Request& request, const Peer& peer);

 private:
  void add(std::string_view name, std::string_view value) { result_.push_back({name, value}); }

  void add_server(const Request& request, const Peer& peer);
  void add_fields(const Request& request, const Peer& peer);
  std::string_view write_number(std::uint64_t number);
  std::string_view write_name(std::string_view name);

  std::vector<Parameter> result_;
  std::vector<char>
      scratch_;  // its size is known before the first byte is written, so views into it stay good
  std::size_t scratch_used_ = 0;
};

}  // namespace bladepsgi::http
