#include "tests/unit/transport/codecs.hpp"

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/sign_codec") {
    TEST_CASE("sign takes a bit a value and the mean magnitude of each layer") {
        const Schema schema = schema_of({9, 2});
        const auto codec = make_codec({.kind = "sign"}, schema);
        const std::vector<float> values{1, -3, 0, 2, 2, -2, -1, 4, -3, 0.5F, -0.5F};
        const Bytes payload = encoded(*codec, values);
        CHECK(payload == bytes_of({0, 0, 0, 0x40, 0b01100010, 1, 0, 0, 0, 0x3f, 0b10}));
        CHECK(decoded(*codec, payload, 11) == std::vector<float>{2, -2, 2, 2, 2, -2, -2, 2, -2, 0.5F, -0.5F});
        CHECK(codec->is_biased());
    }

    TEST_CASE("sign's payload is consistent across chunks and never adds to what is left") {
        const Schema schema = schema_of({10'000, 1, 4096, 77});
        const auto codec = make_codec({.kind = "sign"}, schema);
        const auto values = normal_values(schema.parameters(), 1);
        const Bytes payload = encoded(*codec, values);
        CHECK(payload.size() == 4 * 4 + 1250 + 1 + 512 + 10);
        check_consistent(*codec, schema, payload);
        // Of a Gaussian, the share 1 - 2 / pi is left (Seide et al.).
        CHECK(distortion(values, decoded(*codec, payload, values.size())) == doctest::Approx(0.3634).epsilon(0.03));
    }

    TEST_CASE("sign refuses padding, scales that are none and wrong lengths") {
        const Schema schema = schema_of({4});
        const auto codec = make_codec({.kind = "sign"}, schema);
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f, 16}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0xbf, 0}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x7f, 0}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f}));
        refuse(*codec, schema, bytes_of({0, 0, 0x80, 0x3f, 0, 0}));
    }
}
