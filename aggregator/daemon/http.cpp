#include "aggregator/daemon/http.hpp"

#include "core/error.hpp"

#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <thread>

namespace dither {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

constexpr std::chrono::seconds kPatience{5};
constexpr std::chrono::milliseconds kRespite{10};
constexpr std::size_t kRequestBytes = 4096;
constexpr std::size_t kConnections = 16;

using Request = http::request<http::empty_body>;
using Response = http::response<http::string_body>;

Response respond(const Request& request, const HttpPages& pages) {
    Response response;
    response.version(request.version());
    response.keep_alive(request.keep_alive());
    response.set(http::field::cache_control, "no-store");
    response.set(http::field::content_type, "text/plain; charset=utf-8");
    if (request.method() != http::verb::get && request.method() != http::verb::head) {
        response.result(http::status::method_not_allowed);
        response.set(http::field::allow, "GET, HEAD");
        response.keep_alive(false);  // what follows is a body that nobody reads
    } else if (auto page = pages(std::string_view(request.target().data(), request.target().size()))) {
        response.result(page->status);
        response.set(http::field::content_type, page->type);
        response.body() = std::move(page->body);
    } else {
        response.result(http::status::not_found);
        response.body() = "there is no such page\n";
    }
    response.prepare_payload();
    if (request.method() == http::verb::head)
        response.body().clear();  // the length stays that of the page
    return response;
}

/// One connection: request, response, and again. Keeps itself alive.
class Conversation : public std::enable_shared_from_this<Conversation> {
public:
    Conversation(tcp::socket socket, const HttpPages& pages, std::function<void()> ended)
        : stream_(std::move(socket)), pages_(pages), ended_(std::move(ended)) {}
    Conversation(const Conversation&) = delete;
    Conversation& operator=(const Conversation&) = delete;
    ~Conversation() { ended_(); }

    void read() {
        parser_.emplace();
        parser_->header_limit(kRequestBytes);
        stream_.expires_after(kPatience);
        http::async_read_header(
            stream_, buffer_, *parser_,
            [self = shared_from_this()](beast::error_code error, std::size_t) { self->answer(error); });
    }

private:
    void answer(beast::error_code error) {
        if (error)
            return;
        response_ = respond(parser_->get(), pages_);
        stream_.expires_after(kPatience);
        http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code failure, std::size_t) {
            if (!failure && self->response_.keep_alive())
                self->read();
        });
    }

    beast::tcp_stream stream_;
    beast::flat_buffer buffer_{kRequestBytes};
    std::optional<http::request_parser<http::empty_body>> parser_;
    Response response_;
    const HttpPages& pages_;
    std::function<void()> ended_;
};

tcp::endpoint resolve(asio::io_context& context, const Endpoint& listen) {
    boost::system::error_code error;
    tcp::resolver resolver(context);
    const auto found = resolver.resolve(listen.host, std::to_string(listen.port), error);
    if (error || found.empty())
        throw InputError(fmt::format("{}: no address to listen on: {}", to_string(listen), error.message()));
    return found.begin()->endpoint();
}

}  // namespace

class HttpServer::Listener {
public:
    Listener(const Endpoint& listen, HttpPages pages) : pages_(std::move(pages)), acceptor_(context_) {
        try {
            const tcp::endpoint endpoint = resolve(context_, listen);
            acceptor_.open(endpoint.protocol());
            acceptor_.set_option(tcp::acceptor::reuse_address(true));
            acceptor_.bind(endpoint);
            acceptor_.listen();
        } catch (const boost::system::system_error& error) {
            throw IoError(fmt::format("{}: cannot listen for HTTP: {}", to_string(listen), error.code().message()));
        }
        thread_ = std::thread([this] { run(); });
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    ~Listener() {
        context_.stop();
        thread_.join();
    }

    Endpoint endpoint() const {
        const tcp::endpoint local = acceptor_.local_endpoint();
        return {local.address().to_string(), local.port()};
    }

private:
    /// Whatever leaves a handler, as where there is no memory for a page, costs one conversation.
    void run() {
        while (!context_.stopped()) {
            try {
                accept_if_room();
                context_.run_for(kPatience);
            } catch (const std::exception&) {
                std::this_thread::sleep_for(kRespite);
            }
        }
    }

    void accept() {
        acceptor_.async_accept([this](beast::error_code error, tcp::socket socket) {
            accepting_ = false;
            if (error)
                return retry();
            const auto conversation = std::make_shared<Conversation>(std::move(socket), pages_, [this] { ended(); });
            ++open_;
            conversation->read();
            accept_if_room();
        });
        accepting_ = true;
    }

    /// From a destructor: if there is no memory for accepting, run() does it.
    void ended() noexcept {
        --open_;
        try {
            accept_if_room();
        } catch (const std::exception&) {
        }
    }

    void accept_if_room() {
        if (!accepting_ && open_ < kConnections && !context_.stopped())
            accept();
    }

    /// Out of descriptors, say: they will be free again.
    void retry() {
        pause_.expires_after(kPatience);
        pause_.async_wait([this](beast::error_code cancelled) {
            if (!cancelled)
                accept_if_room();
        });
    }

    HttpPages pages_;
    bool accepting_ = false;
    std::size_t open_ = 0;
    asio::io_context context_{1};
    asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
    asio::steady_timer pause_{context_};
    tcp::acceptor acceptor_;
    std::thread thread_;
};

HttpServer::HttpServer(const Endpoint& listen, HttpPages pages)
    : listener_(std::make_unique<Listener>(listen, std::move(pages))) {}

HttpServer::~HttpServer() = default;

Endpoint HttpServer::endpoint() const {
    return listener_->endpoint();
}

}  // namespace dither
