#include "transport/detail/endpoint.hpp"

#include "core/error.hpp"

#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <charconv>

namespace dither {
namespace {

namespace ip = boost::asio::ip;

ip::address plain(const ip::address& address) {
    if (address.is_v6() && address.to_v6().is_v4_mapped())
        return ip::make_address_v4(ip::v4_mapped, address.to_v6());
    return address;
}

std::string bracketed(const std::string& host, std::uint16_t port) {
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

}  // namespace

Endpoint parse_endpoint(const std::string& text) {
    const auto refuse = [&] { throw InputError(fmt::format("\"{}\" is not HOST:PORT or [IPv6]:PORT", text)); };
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos)
        refuse();
    Endpoint endpoint{.host = text.substr(0, colon)};
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, endpoint.port);
    if (error != std::errc() || rest != end)
        refuse();
    const bool in_brackets = endpoint.host.size() >= 2 && endpoint.host.front() == '[' && endpoint.host.back() == ']';
    if (in_brackets)
        endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
    if (endpoint.host.empty() || in_brackets != (endpoint.host.find(':') != std::string::npos))
        refuse();
    return endpoint;
}

std::string to_string(const Endpoint& endpoint) {
    return bracketed(endpoint.host, endpoint.port);
}

namespace detail {

std::vector<Address> resolve(const Endpoint& endpoint) {
    try {
        boost::asio::io_context context;  // takes files, of which there may be none
        ip::tcp::resolver resolver(context);
        std::vector<Address> addresses;
        for (const auto& entry :
             resolver.resolve(endpoint.host, std::to_string(endpoint.port), ip::tcp::resolver::numeric_service))
            addresses.push_back(entry.endpoint());
        return addresses;
    } catch (const boost::system::system_error& error) {
        throw IoError(fmt::format("{}: {}", endpoint.host, error.code().message()));
    }
}

bool is_loopback(const Address& address) {
    return plain(address.address()).is_loopback();
}

void require_safe(const Address& address, bool encrypted) {
    if (!encrypted && !is_loopback(address))
        throw InputError(fmt::format("{} is no loopback address: it takes TLS", text_of(address)));
}

std::string text_of(const Address& address) {
    return bracketed(plain(address.address()).to_string(), address.port());
}

std::string origin_of(const Address& address) {
    const ip::address host = plain(address.address());
    if (host.is_v4())
        return host.to_string();
    ip::address_v6::bytes_type bytes = host.to_v6().to_bytes();
    std::fill(bytes.begin() + 8, bytes.end(), std::uint8_t{0});
    return ip::make_address_v6(bytes).to_string();
}

}  // namespace detail
}  // namespace dither
