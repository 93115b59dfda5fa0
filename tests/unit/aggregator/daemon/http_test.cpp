#include "aggregator/daemon/http.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <list>

using dither::HttpPage;
using dither::HttpServer;

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

std::optional<HttpPage> page_of(std::string_view path) {
    if (path == "/page")
        return HttpPage{.type = "text/plain", .body = "what was asked for\n"};
    if (path == "/ill")
        return HttpPage{.type = "text/plain", .body = "ill\n", .status = 503};
    return std::nullopt;
}

struct Client {
    explicit Client(const HttpServer& server) {
        const auto endpoint = server.endpoint();
        socket.connect({asio::ip::make_address(endpoint.host), endpoint.port});
    }

    /// All that is answered until the server closes.
    std::string ask(const std::string& request) {
        asio::write(socket, asio::buffer(request));
        std::string answer;
        boost::system::error_code ended;
        asio::read(socket, asio::dynamic_buffer(answer), ended);
        return answer;
    }

    asio::io_context context;
    tcp::socket socket{context};
};

std::string ask(const HttpServer& server, const std::string& request) {
    return Client(server).ask(request);
}

std::string request(const std::string& line) {
    return line + " HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("aggregator/daemon/http") {
    TEST_CASE("a page is served with its type, length and status") {
        const HttpServer server({"127.0.0.1", 0}, page_of);
        const std::string answer = ask(server, request("GET /page"));
        CHECK(answer.starts_with("HTTP/1.1 200 OK\r\n"));
        CHECK(contains(answer, "Content-Type: text/plain\r\n"));
        CHECK(contains(answer, "Content-Length: 19\r\n"));
        CHECK(answer.ends_with("\r\n\r\nwhat was asked for\n"));
        CHECK(ask(server, request("GET /ill")).starts_with("HTTP/1.1 503 "));
        CHECK(ask(server, request("GET /none")).starts_with("HTTP/1.1 404 "));
    }

    TEST_CASE("HEAD gives the header alone, and whatever would change something is refused") {
        const HttpServer server({"127.0.0.1", 0}, page_of);
        const std::string head = ask(server, request("HEAD /page"));
        CHECK(head.starts_with("HTTP/1.1 200 OK\r\n"));
        CHECK(contains(head, "Content-Length: 19\r\n"));
        CHECK(head.ends_with("\r\n\r\n"));
        const std::string post = ask(server, "POST /page HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc");
        CHECK(post.starts_with("HTTP/1.1 405 "));
        CHECK(contains(post, "Allow: GET, HEAD"));
    }

    TEST_CASE("requests that are none, or too long, end their connection and no other") {
        const HttpServer server({"127.0.0.1", 0}, page_of);
        CHECK(ask(server, "nonsense\r\n\r\n").empty());
        Client patient(server);
        ask(server, "GET /" + std::string(10'000, 'a') + " HTTP/1.1\r\n\r\n");
        CHECK(patient.ask(request("GET /page")).starts_with("HTTP/1.1 200 OK\r\n"));
    }

    TEST_CASE("beyond 16 connections the next one waits until another ends") {
        const HttpServer server({"127.0.0.1", 0}, page_of);
        std::list<Client> idle;
        for (int i = 0; i < 16; ++i)
            idle.emplace_back(server);
        Client next(server);
        idle.pop_front();
        CHECK(next.ask(request("GET /page")).starts_with("HTTP/1.1 200 OK\r\n"));
    }

    TEST_CASE("an address that is taken, or none at all, is said at once") {
        const HttpServer server({"127.0.0.1", 0}, page_of);
        CHECK_THROWS_AS(HttpServer({"127.0.0.1", server.endpoint().port}, page_of), dither::IoError);
        CHECK_THROWS_AS(HttpServer({"no such host", 1}, page_of), dither::InputError);
    }
}
