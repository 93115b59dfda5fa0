#include "transport/detail/crc32c.hpp"

#include <boost/crc.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <string_view>
#include <vector>

namespace {

std::uint32_t by_boost(std::span<const std::byte> bytes) {
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
    crc.process_bytes(bytes.data(), bytes.size());
    return crc.checksum();
}

}  // namespace

TEST_SUITE("transport/crc32c") {
    TEST_CASE("the check value is that of RFC 3720's polynomial") {
        const std::string_view digits = "123456789";
        CHECK(dither::detail::crc32c(std::as_bytes(std::span(digits))) == 0xE3069283);
        CHECK(dither::detail::crc32c({}) == 0);
    }

    TEST_CASE("by instruction or by tables, bytes of any length and place have the checksum that Boost gives them") {
        CHECK(rc::check([](const std::vector<std::uint8_t>& values) {
            const auto bytes = std::as_bytes(std::span(values));
            for (std::size_t at = 0; at <= std::min<std::size_t>(bytes.size(), 8); ++at)
                for (const auto crc : {dither::detail::crc32c, dither::detail::crc32c_by_tables})
                    RC_ASSERT(crc(bytes.subspan(at)) == by_boost(bytes.subspan(at)));
        }));
    }

    TEST_CASE("the checksum of two runs of bytes follows from theirs, wherever they meet") {
        using dither::detail::crc32c;
        CHECK(rc::check([](const std::vector<std::uint8_t>& values) {
            const auto bytes = std::as_bytes(std::span(values));
            for (std::size_t at = 0; at <= bytes.size(); ++at) {
                const auto second = bytes.subspan(at);
                RC_ASSERT(crc32c(bytes) ==
                          dither::detail::crc32c_joined(crc32c(bytes.first(at)), crc32c(second), second.size()));
            }
        }));
        const std::vector<std::byte> zeros(1'000'003);
        CHECK(crc32c(zeros) == dither::detail::crc32c_joined(crc32c(std::span(zeros).first(2)),
                                                             crc32c(std::span(zeros).subspan(2)), zeros.size() - 2));
    }
}
