// A small HTTP server for reading only: what an operator, a load balancer or Prometheus asks a daemon.
#pragma once

#include "transport/tcp.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace dither {

struct HttpPage {
    std::string type;  ///< of its content
    std::string body;
    unsigned status = 200;
};
/// The page at a path ("/status"); nothing: there is none. Called from the server's thread.
using HttpPages = std::function<std::optional<HttpPage>(std::string_view path)>;

/// HTTP/1.1, GET and HEAD, in a thread of its own, by Boost.Beast. A request may take 4 KiB and 5 s, and 16 connections
/// are open at most: the next one waits.
class HttpServer {
public:
    /// Listens when it returns. Throws InputError if the address is none, IoError if the port cannot be had.
    HttpServer(const Endpoint& listen, HttpPages pages);
    ~HttpServer();
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    Endpoint endpoint() const;  ///< with the port that it got

private:
    class Listener;
    std::unique_ptr<Listener> listener_;
};

}  // namespace dither
