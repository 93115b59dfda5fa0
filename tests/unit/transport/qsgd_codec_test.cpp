#include "tests/unit/transport/codecs.hpp"

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/qsgd_codec") {
    TEST_CASE("qsgd takes its bits a value and a norm for every 512") {
        const Schema schema = schema_of({1000, 3});
        const auto values = normal_values(schema.parameters(), 1);
        for (const auto& [bits, width] : {std::pair{0, 4U}, {2, 2U}, {5, 5U}, {16, 16U}}) {
            const auto codec = make_codec({.kind = "qsgd", .bits = bits}, schema);
            const Bytes payload = encoded(*codec, values, {.key = key_of(1)});
            CHECK(payload.size() == 3 * 4 + 1000 * width / 8 + (3 * width + 7) / 8);
            check_consistent(*codec, schema, payload);
        }
    }

    TEST_CASE("qsgd is unbiased") {
        const Schema schema = schema_of({8});
        const std::vector<float> values{0.03F, -0.03F, 0.5F, -0.0999F, 0.149F, 3.217F, -1.08F, 1e-3F};
        for (const int bits : {2, 4, 8})
            check_unbiased(*make_codec({.kind = "qsgd", .bits = bits}, schema), values, 20'000);
    }

    TEST_CASE("qsgd's variance stays below the bound of its paper, min(d / s^2, sqrt(d) / s) of the squared norm") {
        const Schema schema = schema_of({512 * 40});
        const auto values = normal_values(schema.parameters(), 2, 1e-3F);
        for (const int bits : {2, 3, 4, 6, 8}) {
            const auto codec = make_codec({.kind = "qsgd", .bits = bits}, schema);
            const double levels = std::pow(2, bits - 1) - 1;
            const double bound = std::min(512 / (levels * levels), std::sqrt(512.0) / levels);
            CHECK(distortion(values, decoded(*codec, encoded(*codec, values), values.size())) < bound);
        }
    }

    TEST_CASE("a bucket of zeros stays zero, and a lonely value stays what it is") {
        const Schema schema = schema_of({512, 512});
        const auto codec = make_codec({.kind = "qsgd", .bits = 3}, schema);
        std::vector<float> values(1024);
        values[700] = -1.7F;
        CHECK(decoded(*codec, encoded(*codec, values), 1024) == values);
    }

    TEST_CASE("qsgd refuses reserved codes, norms that are none, padding and wrong lengths") {
        const Schema schema = schema_of({3});
        const auto codec = make_codec({.kind = "qsgd", .bits = 2}, schema);
        const Bytes good = bytes_of({0, 0, 0x80, 0x3f, 0b000110});
        CHECK(decoded(*codec, good, 3) == std::vector<float>{1, 0, -1});
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f, 0b000111}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f, 0b1000110}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0xbf, 0b000110}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x7f, 0b000110}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f, 0b000110, 0}));
    }

    TEST_CASE("a norm beyond fp32 is a training error") {
        const Schema schema = schema_of({2});
        constexpr float kLargest = std::numeric_limits<float>::max();
        CHECK_THROWS_AS(encoded(*make_codec({.kind = "qsgd"}, schema), std::vector<float>{kLargest, kLargest}),
                        TrainingError);
    }
}
