// What nginx sends with a request of a browser.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace bladepsgi {

// 35 parameters, a cookie of 1 KB: much as the requests that the figures of the whole server are taken with.
inline std::vector<std::pair<std::string, std::string>> nginx_parameters() {
  return {
      {"QUERY_STRING", "page=2&sort=name"},
      {"REQUEST_METHOD", "GET"},
      {"CONTENT_TYPE", ""},
      {"CONTENT_LENGTH", ""},
      {"SCRIPT_NAME", "/app/list"},
      {"REQUEST_URI", "/app/list?page=2&sort=name"},
      {"DOCUMENT_URI", "/app/list"},
      {"DOCUMENT_ROOT", "/usr/share/nginx/html"},
      {"SERVER_PROTOCOL", "HTTP/1.1"},
      {"REQUEST_SCHEME", "https"},
      {"HTTPS", "on"},
      {"GATEWAY_INTERFACE", "CGI/1.1"},
      {"SERVER_SOFTWARE", "nginx/1.22.1"},
      {"REMOTE_ADDR", "192.0.2.17"},
      {"REMOTE_PORT", "51234"},
      {"REMOTE_USER", ""},
      {"SERVER_ADDR", "198.51.100.4"},
      {"SERVER_PORT", "443"},
      {"SERVER_NAME", "www.example.org"},
      {"REDIRECT_STATUS", "200"},
      {"HTTP_HOST", "www.example.org"},
      {"HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
      {"HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
      {"HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5"},
      {"HTTP_ACCEPT_ENCODING", "gzip, deflate, br"},
      {"HTTP_REFERER", "https://www.example.org/app/list?page=1&sort=name"},
      {"HTTP_COOKIE", std::string(1000, 'c')},
      {"HTTP_CONNECTION", "keep-alive"},
      {"HTTP_UPGRADE_INSECURE_REQUESTS", "1"},
      {"HTTP_SEC_FETCH_DEST", "document"},
      {"HTTP_SEC_FETCH_MODE", "navigate"},
      {"HTTP_SEC_FETCH_SITE", "same-origin"},
      {"HTTP_SEC_FETCH_USER", "?1"},
      {"HTTP_CACHE_CONTROL", "max-age=0"},
      {"HTTP_X_FORWARDED_FOR", "192.0.2.17"}};
}

}  // namespace bladepsgi
