#include "transport/detail/endpoint.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

namespace {

using namespace dither;
using namespace dither::detail;

Address address(const char* text) {
    return {boost::asio::ip::make_address(text), 7};
}

}  // namespace

TEST_SUITE("transport/tcp endpoint") {
    TEST_CASE("endpoints are read from HOST:PORT and [IPv6]:PORT, and nothing else") {
        CHECK(parse_endpoint("localhost:7000") == Endpoint{"localhost", 7000});
        CHECK(parse_endpoint("127.0.0.1:0") == Endpoint{"127.0.0.1", 0});
        CHECK(parse_endpoint("[::1]:65535") == Endpoint{"::1", 65535});
        CHECK(to_string(Endpoint{"::1", 7}) == "[::1]:7");
        CHECK(to_string(Endpoint{"host", 7}) == "host:7");
        for (const char* wrong : {"", "host", "host:", ":1", "host:65536", "host:-1", "host:1x", "::1:7", "[::1]",
                                  "[]:7", "[host]:7", "host: 7"})
            CHECK_THROWS_AS(parse_endpoint(wrong), InputError);
    }

    TEST_CASE("strangers are counted by IPv4 address, and by IPv6 network, in which one may have any address") {
        CHECK(origin_of(address("192.0.2.1")) != origin_of(address("192.0.2.2")));
        CHECK(origin_of(address("::ffff:192.0.2.1")) == origin_of(address("192.0.2.1")));
        CHECK(origin_of(address("2001:db8:0:1::1")) == origin_of(address("2001:db8:0:1:ffff::2")));
        CHECK(origin_of(address("2001:db8:0:1::1")) != origin_of(address("2001:db8:0:2::1")));
    }

    TEST_CASE("plaintext is for loopback addresses, in whatever form they come") {
        for (const char* here : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"})
            CHECK_NOTHROW(require_safe(address(here), false));
        for (const char* elsewhere : {"0.0.0.0", "::", "192.0.2.1", "2001:db8::1"}) {
            CHECK_THROWS_AS(require_safe(address(elsewhere), false), InputError);
            CHECK_NOTHROW(require_safe(address(elsewhere), true));
        }
    }
}
