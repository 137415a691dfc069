#include "base/status.h"

#include <algorithm>
#include <array>

namespace bladepsgi {

namespace {

struct Phrase {
  int status;
  std::string_view text;
};

// IANA HTTP Status Code Registry; sorted by number.
constexpr std::array kPhrases = {
    Phrase{100, "Continue"},
    Phrase{101, "Switching Protocols"},
    Phrase{102, "Processing"},
    Phrase{103, "Early Hints"},
    Phrase{200, "OK"},
    Phrase{201, "Created"},
    Phrase{202, "Accepted"},
    Phrase{203, "Non-Authoritative Information"},
    Phrase{204, "No Content"},
    Phrase{205, "Reset Content"},
    Phrase{206, "Partial Content"},
    Phrase{207, "Multi-Status"},
    Phrase{208, "Already Reported"},
    Phrase{226, "IM Used"},
    Phrase{300, "Multiple Choices"},
    Phrase{301, "Moved Permanently"},
    Phrase{302, "Found"},
    Phrase{303, "See Other"},
    Phrase{304, "Not Modified"},
    Phrase{305, "Use Proxy"},
    Phrase{307, "Temporary Redirect"},
    Phrase{308, "Permanent Redirect"},
    Phrase{400, "Bad Request"},
    Phrase{401, "Unauthorized"},
    Phrase{402, "Payment Required"},
    Phrase{403, "Forbidden"},
    Phrase{404, "Not Found"},
    Phrase{405, "Method Not Allowed"},
    Phrase{406, "Not Acceptable"},
    Phrase{407, "Proxy Authentication Required"},
    Phrase{408, "Request Timeout"},
    Phrase{409, "Conflict"},
    Phrase{410, "Gone"},
    Phrase{411, "Length Required"},
    Phrase{412, "Precondition Failed"},
    Phrase{413, "Content Too Large"},
    Phrase{414, "URI Too Long"},
    Phrase{415, "Unsupported Media Type"},
    Phrase{416, "Range Not Satisfiable"},
    Phrase{417, "Expectation Failed"},
    Phrase{421, "Misdirected Request"},
    Phrase{422, "Unprocessable Content"},
    Phrase{423, "Locked"},
    Phrase{424, "Failed Dependency"},
    Phrase{425, "Too Early"},
    Phrase{426, "Upgrade Required"},
    Phrase{428, "Precondition Required"},
    Phrase{429, "Too Many Requests"},
    Phrase{431, "Request Header Fields Too Large"},
    Phrase{451, "Unavailable For Legal Reasons"},
    Phrase{500, "Internal Server Error"},
    Phrase{501, "Not Implemented"},
    Phrase{502, "Bad Gateway"},
    Phrase{503, "Service Unavailable"},
    Phrase{504, "Gateway Timeout"},
    Phrase{505, "HTTP Version Not Supported"},
    Phrase{506, "Variant Also Negotiates"},
    Phrase{507, "Insufficient Storage"},
    Phrase{508, "Loop Detected"},
    Phrase{510, "Not Extended"},
    Phrase{511, "Network Authentication Required"},
};

#define BLADEPSGI_PAGE(title, sentence)                                                        \
  "<!DOCTYPE html>\n<html lang=\"en\"><head><title>" title "</title></head>\n<body><h1>" title \
  "</h1><p>" sentence "</p></body></html>\n"

constexpr std::string_view kHtml = "text/html; charset=utf-8";

constexpr std::array kCanned = {
    CannedResponse{400, kHtml,
                   BLADEPSGI_PAGE("400 Bad Request", "The request could not be understood.")},
    CannedResponse{408, kHtml,
                   BLADEPSGI_PAGE("408 Request Timeout", "The request took too long to arrive.")},
    CannedResponse{
        413, kHtml,
        BLADEPSGI_PAGE("413 Content Too Large", "The request is larger than this server accepts.")},
    CannedResponse{
        414, kHtml,
        BLADEPSGI_PAGE("414 URI Too Long", "The address is longer than this server accepts.")},
    CannedResponse{417, kHtml,
                   BLADEPSGI_PAGE("417 Expectation Failed",
                                  "This server cannot do what the request expects.")},
    CannedResponse{431, kHtml,
                   BLADEPSGI_PAGE("431 Request Header Fields Too Large",
                                  "The headers of the request are larger than this server "
                                  "accepts.")},
    CannedResponse{500, kHtml,
                   BLADEPSGI_PAGE("500 Internal Server Error",
                                  "The application failed to answer this request.")},
    CannedResponse{
        501, kHtml,
        BLADEPSGI_PAGE("501 Not Implemented", "This server cannot do what the request asks for.")},
    CannedResponse{502, kHtml,
                   BLADEPSGI_PAGE("502 Bad Gateway", "The application gave an unusable answer.")},
    CannedResponse{
        503, kHtml,
        BLADEPSGI_PAGE("503 Service Unavailable", "The application cannot take this request now.")},
    CannedResponse{
        504, kHtml,
        BLADEPSGI_PAGE("504 Gateway Timeout", "The application took too long to answer.")},
    CannedResponse{505, kHtml,
                   BLADEPSGI_PAGE("505 HTTP Version Not Supported",
                                  "This server does not speak that version of HTTP.")},
    CannedResponse{507, kHtml,
                   BLADEPSGI_PAGE("507 Insufficient Storage",
                                  "There is no room to store the body of the request.")},
};

#undef BLADEPSGI_PAGE

}  // namespace

std::string_view reason_phrase(int status) {
  if (status == 200) return "OK";  // nearly every response
  const auto* found = std::lower_bound(kPhrases.begin(), kPhrases.end(), status,
                                       [](const Phrase& p, int s) { return p.status < s; });
  if (found == kPhrases.end() || found->status != status) return "Unassigned";
  return found->text;
}

const CannedResponse& canned_response(int status) {
  const auto* found = std::find_if(kCanned.begin(), kCanned.end(),
                                   [&](const CannedResponse& c) { return c.status == status; });
  if (found != kCanned.end()) return *found;
  return *std::find_if(kCanned.begin(), kCanned.end(),
                       [](const CannedResponse& c) { return c.status == 500; });
}

}  // namespace bladepsgi
