// Inherited sockets: those that whoever started this process has opened for it to serve, and how they say so.
//
// systemd: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3)). Server::Starter: SERVER_STARTER_PORT. A web server or
// spawn-fcgi: descriptor 0 (FastCGI 1.0 §2.2), and FCGI_WEB_SERVER_ADDRS (§3.2). What they pass is served besides what the command line asks for, except
// descriptor 0: that is looked at only when there is nothing else.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "overseer/state.h"

namespace bladepsgi::overseer {

// `count` and `names` as in LISTEN_FDS and LISTEN_FDNAMES. A socket with "http" in its name speaks HTTP, any other FastCGI.
Result<std::vector<config::Listen>> read_listen_fds(std::string_view count, std::string_view names);

// "127.0.0.1:80=3;/run/app.sock=4;8080=5"
Result<std::vector<config::Listen>> read_server_starter(std::string_view ports,
                                                        config::Protocol protocol);

// Adds them to config.listen, or config.fallback when there is nothing else to listen on; and takes the variables out of the environment: they are for no process that is started from here.
Result<void> settle_listeners(config::Config& config);

// The same in a program that takes another one's place: what that has inherited it still has.
void settle_listeners_anew(config::Config& config, const State& state);

}  // namespace bladepsgi::overseer
