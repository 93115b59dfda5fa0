#include "tests/unit/transport/codecs.hpp"

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/terngrad_codec") {
    TEST_CASE("terngrad takes a byte for every five values and a scale a layer") {
        const Schema schema = schema_of({10'000, 1, 7, 20'001});
        const auto codec = make_codec({.kind = "terngrad"}, schema);
        const auto values = normal_values(schema.parameters(), 1);
        const Bytes payload = encoded(*codec, values, {.key = key_of(4)});
        CHECK(payload.size() == 4 * 4 + 2000 + 1 + 2 + 4001);
        check_consistent(*codec, schema, payload);
    }

    TEST_CASE("terngrad's values are 0 or the layer's largest magnitude, with the sign of the value") {
        const Schema schema = schema_of({1000, 50});
        const auto codec = make_codec({.kind = "terngrad"}, schema);
        const auto values = normal_values(schema.parameters(), 2);
        const auto back = decoded(*codec, encoded(*codec, values, {.key = key_of(4)}), values.size());
        for (std::size_t layer = 0; layer < 2; ++layer) {
            const auto before = schema.slice(values, layer);
            const auto after = schema.slice(std::span<const float>(back), layer);
            float largest = 0;
            for (const float value : before)
                largest = std::max(largest, std::abs(value));
            for (std::size_t i = 0; i < before.size(); ++i)
                CHECK((after[i] == 0 || after[i] == std::copysign(largest, before[i])));
        }
    }

    TEST_CASE("terngrad is unbiased") {
        const Schema schema = schema_of({8});
        const std::vector<float> values{0.03F, -0.03F, 0.5F, -0.0999F, 0.149F, 3.217F, -1.08F, 0};
        check_unbiased(*make_codec({.kind = "terngrad"}, schema), values, 20'000);
    }

    TEST_CASE("trits lie in planes: the first digit of all bytes, then the second") {
        const Schema schema = schema_of({7});  // 2 bytes: digits 0, 2, 4, 6 are of the first
        const auto codec = make_codec({.kind = "terngrad"}, schema);
        const std::vector<float> values{1, -1, 0, 1, 0, 0, -1};
        const Bytes payload = bytes_of({0, 0, 0x80, 0x3f, 1 + 2 * 27, 2 + 3});
        CHECK(encoded(*codec, values) == payload);
        CHECK(decoded(*codec, payload, 7) == values);
    }

    TEST_CASE("all 243 bytes are decoded to five trits, the others are refused") {
        const Schema schema = schema_of({5});
        const auto codec = make_codec({.kind = "terngrad"}, schema);
        for (int byte = 0; byte < 256; ++byte) {
            const Bytes payload = bytes_of({0, 0, 0x80, 0x3f, byte});
            if (byte >= 243) {
                refuse(*codec, schema, payload);
                continue;
            }
            std::vector<float> expected;
            for (int rest = byte; expected.size() < 5; rest /= 3)
                expected.push_back(std::array{0.0F, 1.0F, -1.0F}[static_cast<std::size_t>(rest % 3)]);
            CHECK(decoded(*codec, payload, 5) == expected);
        }
    }

    TEST_CASE("terngrad refuses padding, scales that are none and wrong lengths") {
        const Schema schema = schema_of({4});
        const auto codec = make_codec({.kind = "terngrad"}, schema);
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f, 81}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0xbf, 0}));
        refuse(*codec, schema, bytes_of({0, 0, 0xc0, 0x7f, 0}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f, 0, 0}));
    }
}
