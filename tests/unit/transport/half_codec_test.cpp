#include "core/quantize/float_format.hpp"
#include "tests/unit/transport/codecs.hpp"

#include <cstring>

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/half_codec") {
    TEST_CASE("fp16 and bf16 are the nearest numbers of their formats, two bytes each") {
        const Schema schema = schema_of({5000, 3});
        for (const auto& [kind, format] : {std::pair{"fp16", FloatFormat::fp16}, {"bf16", FloatFormat::bf16}}) {
            CAPTURE(kind);
            const auto codec = make_codec({.kind = kind}, schema);
            auto values = normal_values(schema.parameters(), 1, 1e-5F);  // subnormal numbers of fp16 among them
            values[0] = -0.0F;
            values[1] = 65504;
            values[2] = -1e-30F;
            const Bytes payload = encoded(*codec, values);
            CHECK(payload.size() == 2 * values.size());
            std::vector<float> expected(values.size());
            round_nearest(values, expected, format);
            const auto back = decoded(*codec, payload, values.size());
            CHECK(std::memcmp(back.data(), expected.data(), 4 * values.size()) == 0);
            check_consistent(*codec, schema, payload);
        }
    }

    TEST_CASE("every number of 16 bits is decoded, or refused because it is not finite") {
        const Schema schema = schema_of({1});
        for (const auto& [kind, exponent] : {std::pair{"fp16", 0x7c00U}, {"bf16", 0x7f80U}}) {
            const auto codec = make_codec({.kind = kind}, schema);
            for (unsigned bits = 0; bits < 0x10000U; ++bits) {
                const Bytes payload = bytes_of({static_cast<int>(bits & 0xff), static_cast<int>(bits >> 8)});
                std::vector<float> value(1);
                if ((bits & exponent) == exponent)
                    CHECK_THROWS_AS(codec->decode(payload, {}, value), FormatError);
                else
                    REQUIRE(encoded(*codec, decoded(*codec, payload, 1)) == payload);
            }
        }
    }

    TEST_CASE("a value beyond the format is a training error") {
        const Schema schema = schema_of({1});
        CHECK_THROWS_AS(encoded(*make_codec({.kind = "fp16"}, schema), std::vector<float>{65536}), TrainingError);
        CHECK_NOTHROW(encoded(*make_codec({.kind = "bf16"}, schema), std::vector<float>{65536}));
        CHECK_THROWS_AS(
            encoded(*make_codec({.kind = "bf16"}, schema), std::vector<float>{std::numeric_limits<float>::max()}),
            TrainingError);
    }

    TEST_CASE("payloads of another length are refused") {
        const Schema schema = schema_of({3});
        for (const char* kind : {"fp16", "bf16"})
            for (const std::size_t size : {0U, 5U, 7U})
                refuse(*make_codec({.kind = kind}, schema), schema, Bytes(size));
    }
}
