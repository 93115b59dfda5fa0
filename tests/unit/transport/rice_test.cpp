#include "transport/detail/rice.hpp"

#include "tests/unit/transport/codecs.hpp"

#include <rapidcheck.h>

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/rice") {
    TEST_CASE("what is written is read, whatever the numbers and the parameter") {
        CHECK(rc::check([] {
            const auto rice_bits = *rc::gen::inRange(0U, detail::kMaxRiceBits + 1);
            const auto limit = static_cast<std::uint32_t>(std::min<std::uint64_t>(0xffffffff, 200ULL << rice_bits));
            const auto values = *rc::gen::container<std::vector<std::uint32_t>>(rc::gen::inRange(0U, limit));
            Bytes bytes;
            detail::append_rice(values, rice_bits, bytes);
            const std::size_t size = bytes.size();
            bytes.push_back(std::byte{0xff});  // what follows is left alone
            detail::RiceReader reader(bytes, rice_bits);
            for (const std::uint32_t value : values)
                RC_ASSERT(reader.next() == value);
            RC_ASSERT(reader.finish() == size);
        }));
    }

    TEST_CASE("the best parameter is the best of all") {
        Stream stream(key_of(1));
        for (const std::uint32_t bound : {1U, 2U, 10U, 300U, 70'000U}) {
            std::vector<std::uint32_t> values(100);
            for (std::uint32_t& value : values)
                value = stream.below(bound);
            const auto size_with = [&](unsigned rice_bits) {
                Bytes bytes;
                detail::append_rice(values, rice_bits, bytes);
                return bytes.size();
            };
            const std::size_t best = size_with(detail::best_rice_bits(values));
            for (unsigned rice_bits = 0; rice_bits <= 20; ++rice_bits)
                CHECK(best <= size_with(rice_bits));
        }
    }

    TEST_CASE("codes that are cut off, too large or not filled up with zeros are none") {
        CHECK_FALSE(detail::RiceReader({}, 0).next());
        CHECK_FALSE(detail::RiceReader(Bytes(1000), 0).next());
        CHECK_FALSE(detail::RiceReader(bytes_of({0b1000}), 5).next());
        CHECK_FALSE(detail::RiceReader(bytes_of({0b100, 0, 0, 0, 0, 0}), 31).next());
        const Bytes padded = bytes_of({0b101});
        detail::RiceReader reader(padded, 0);
        CHECK(reader.next() == 0U);
        CHECK_FALSE(reader.finish());
    }
}
