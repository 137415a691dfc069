// HTTP statuses: their standard reason phrases, and the short responses that the server gives in its own name.
//
// One table for every protocol, so that a client sees the same page whether it came over FastCGI or HTTP.
#pragma once

#include <string_view>

namespace bladepsgi {

// "Not Found" for 404; "Unassigned" for a number without a standard phrase, never empty.
[[nodiscard]] std::string_view reason_phrase(int status);

// A complete response of ours. All views live for ever.
struct CannedResponse {
  int status;
  std::string_view content_type;
  std::string_view body;
};

// For 400, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505 and 507; any other status gives the one for 500.
[[nodiscard]] const CannedResponse& canned_response(int status);

// A response to HEAD and one with such a status has no body: 1xx, 204, 304.
[[nodiscard]] constexpr bool status_allows_body(int status) {
  return status >= 200 && status != 204 && status != 304;
}

}  // namespace bladepsgi
