#include "tests/unit/transport/codecs.hpp"

#include <bit>
#include <cstring>

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/raw_codec") {
    TEST_CASE("raw returns the very same bits, four bytes a value") {
        const Schema schema = schema_of({5000, 3});
        const auto codec = make_codec({.kind = "raw"}, schema);
        auto values = normal_values(schema.parameters(), 1);
        values[0] = -0.0F;
        values[1] = std::numeric_limits<float>::denorm_min();
        values[2] = std::numeric_limits<float>::max();
        const Bytes payload = encoded(*codec, values);
        CHECK(payload.size() == 4 * values.size());
        const auto back = decoded(*codec, payload, values.size());
        CHECK(std::memcmp(back.data(), values.data(), payload.size()) == 0);
    }

    TEST_CASE("raw's bytes are little-endian IEEE 754") {
        const Schema schema = schema_of({2});
        const Bytes payload = encoded(*make_codec({.kind = "raw"}, schema), std::vector<float>{1.0F, -2.5F});
        CHECK(payload == bytes_of({0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0}));
    }

    TEST_CASE("raw refuses values that are not finite, wrong sizes, and sums that could overflow") {
        const Schema schema = schema_of({2, 1});
        const auto codec = make_codec({.kind = "raw"}, schema);
        std::vector<std::uint64_t> largest(2);
        std::vector<float> values(3);
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
            CHECK_THROWS_WITH_AS(encoded(*codec, std::vector<float>{0, bad, 0}), doctest::Contains("parameter 1"),
                                 TrainingError);
            Bytes payload = encoded(*codec, values);
            std::memcpy(payload.data() + 4, &bad, sizeof(bad));
            refuse(*codec, schema, payload);
        }
        Bytes payload = encoded(*codec, std::vector<float>{0, 0, -0x1p22F});
        CHECK_NOTHROW(codec->decode(payload, {}, values));
        CHECK_THROWS_WITH_AS(codec->validate(payload, {}, largest), "raw payload, layer 1: a value is not below 2^22",
                             FormatError);
        payload.push_back(std::byte{0});
        refuse(*codec, schema, payload);
        payload.resize(payload.size() - 2);
        refuse(*codec, schema, payload);
        refuse(*codec, schema, {});
    }
}
