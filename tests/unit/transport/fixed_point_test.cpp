#include "transport/detail/fixed_point.hpp"

#include "tests/unit/transport/codecs.hpp"

#include <bit>

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/fixed_point") {
    TEST_CASE("integers are multiples of 2^-40, rounded to nearest-even") {
        const Schema schema = schema_of({7});
        const auto codec = make_codec({.kind = "raw"}, schema);
        const std::vector<float> values{1.0F, -0x1p-40F, 0x1p-41F, 0x1.8p-40F, -0x1.4p-39F, -3.0F, 0x1.fffffep21F};
        constexpr std::int64_t kLargest = (std::int64_t{1} << 62) - (std::int64_t{1} << 38);
        const Bytes payload = encoded(*codec, values);
        CHECK(integers(*codec, schema, payload) ==
              std::vector<std::int64_t>{std::int64_t{1} << 40, -1, 0, 2, -2, -3 * (std::int64_t{1} << 40), kLargest});
        std::vector<std::uint64_t> largest(1);
        codec->validate(payload, {}, largest);
        CHECK(largest[0] == kLargest);
        CHECK(codec->unit(0, {}) == 0x1p-40);
    }

    TEST_CASE("every float that can be summed becomes the integer that plain arithmetic says") {
        Stream stream(key_of(3));
        std::vector<float> values;
        while (values.size() < 20'000)
            if (const auto value = std::bit_cast<float>(stream()); std::abs(value) < detail::kFixedPointLimit)
                values.push_back(value);
        std::vector<std::int64_t> codes(values.size());
        detail::to_fixed_point(values, codes);
        for (std::size_t i = 0; i < values.size(); ++i)
            CHECK(codes[i] == static_cast<std::int64_t>(std::nearbyint(static_cast<double>(values[i]) * 0x1p40)));
    }

    TEST_CASE("layers are told apart across chunks") {
        const Schema schema = schema_of({1, 5000, 4096});
        const auto codec = make_codec({.kind = "raw"}, schema);
        check_consistent(*codec, schema, encoded(*codec, normal_values(schema.parameters(), 2, 0.01F)));
    }
}
