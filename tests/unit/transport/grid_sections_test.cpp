#include "tests/unit/transport/grid.hpp"

#include <rapidcheck.h>

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/grid_sections") {
    TEST_CASE("codes take the width of the largest, and a layer of zeros takes none") {
        const Schema schema = schema_of({3});
        const auto codec = grid(schema, "packed");
        const std::vector<float> steps{1};
        const auto payload = [&](float a, float b) {
            return encoded(*codec, std::vector<float>{0, a, b}, terms_of(steps));
        };
        CHECK(payload(0, 0) == bytes_of({0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f}));
        CHECK(payload(-1, 0) == bytes_of({0, 1, 1, 0, 0, 0, 0, 0, 0x80, 0x3f, 0b010}));
        CHECK(payload(1, -2) == bytes_of({0, 2, 1, 0, 0, 0, 0, 0, 0x80, 0x3f, 0b111000}));
        CHECK(width_of(payload(2, 0)) == 3);
        CHECK(width_of(payload(-128, 127)) == 8);
        CHECK(width_of(payload(128, 0)) == 9);
        CHECK(width_of(payload(0x1p30F, 0)) == 32);
        CHECK(payload(0x1p30F, 0).size() == kSectionHeader + 12);
    }

    TEST_CASE("every width survives packing and unpacking, whatever the count") {
        CHECK(rc::check([] {
            const auto count = *rc::gen::inRange<std::size_t>(1, 10'000);
            const auto exponent = *rc::gen::inRange(0, 31);
            const Schema schema = schema_of({count});
            const auto codec = grid(schema, *rc::gen::element("packed", "zstd"));
            const std::vector<float> steps{1};
            std::vector<float> values(count);
            Stream stream(key_of(*rc::gen::arbitrary<std::uint32_t>()));
            for (float& value : values)
                value = std::trunc(std::ldexp(2 * stream.uniform() - 1, exponent));
            return decoded(*codec, encoded(*codec, values, terms_of(steps)), count, terms_of(steps)) == values;
        }));
    }

    TEST_CASE("integers that are larger than all before them may come anywhere in a layer") {
        constexpr std::size_t kPiece = 4096;  // that a codec works on
        std::vector<float> values(6 * kPiece + 5);
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = std::ldexp(i % 3 == 1 ? -1.0F : 1.0F, static_cast<int>(i / kPiece * 5) - 3);
        std::ranges::transform(values, values.begin(), [](float value) { return std::trunc(value); });
        for (const char* coder : {"packed", "zstd"})
            for (const std::size_t from : {std::size_t{0}, kPiece - 1, 3 * kPiece, 5 * kPiece + 1}) {
                const std::vector<float> layer(values.begin() + static_cast<std::ptrdiff_t>(from), values.end());
                const Schema schema = schema_of({layer.size()});
                const auto codec = grid(schema, coder);
                const std::vector<float> steps{1};
                const Bytes payload = encoded(*codec, layer, terms_of(steps));
                CHECK(width_of(payload) == 29);
                CHECK(decoded(*codec, payload, layer.size(), terms_of(steps)) == layer);
                check_consistent(*codec, schema, payload, terms_of(steps));
            }
    }

    TEST_CASE("zstd is used where it is shorter, and never where it is not") {
        const Schema schema = schema_of({20'000});
        const auto codec = grid(schema, "zstd");
        const std::vector<float> steps{1};
        std::vector<float> sparse(20'000);
        for (std::size_t i = 0; i < sparse.size(); i += 500)
            sparse[i] = static_cast<float>(i);
        const Bytes compressed = encoded(*codec, sparse, terms_of(steps));
        CHECK(mode_of(compressed) == 1);
        CHECK(compressed.size() < 20'000 * width_of(compressed) / 8);
        CHECK(decoded(*codec, compressed, sparse.size(), terms_of(steps)) == sparse);
        check_consistent(*codec, schema, compressed, terms_of(steps));

        std::vector<float> noise(20'000);
        Stream stream(key_of(5));
        for (float& value : noise)
            value = static_cast<float>(stream.below(256)) - 128;
        const Bytes packed = encoded(*codec, noise, terms_of(steps));
        CHECK(mode_of(packed) == 0);
        CHECK(packed.size() == kSectionHeader + 20'000);
    }

    TEST_CASE("a payload for another step, or with any part that is not as it must be, is refused") {
        const Schema schema = schema_of({3});
        const auto codec = grid(schema, "packed");
        const std::vector<float> steps{1};
        const Bytes good = bytes_of({0, 2, 1, 0, 0, 0, 0, 0, 0x80, 0x3f, 0b111000});
        CHECK(decoded(*codec, good, 3, terms_of(steps)) == std::vector<float>{0, 1, -2});
        refuse(*codec, schema, good, terms_of(std::vector<float>{std::nextafter(1.0F, 2.0F)}));
        const auto refuse_with = [&](std::size_t at, int value) {
            Bytes payload = good;
            payload[at] = static_cast<std::byte>(value);
            refuse(*codec, schema, payload, terms_of(steps));
        };
        refuse_with(0, 2);           // unknown mode
        refuse_with(0, 1);           // zstd that is not shorter
        refuse_with(1, 33);          // width
        refuse_with(1, 1);           // codes and padding over the width
        refuse_with(2, 2);           // size
        refuse_with(10, 0b1111000);  // padding
        refuse_with(10, 0b000100);   // width larger than needed
        Bytes longer = good;
        longer.push_back(std::byte{0});
        refuse(*codec, schema, longer, terms_of(steps));
    }

    TEST_CASE("every truncation of a payload is refused") {
        const Schema schema = schema_of({40, 2000});
        const auto codec = grid(schema, "zstd");
        const std::vector<float> steps{0.1F, 2.0F};
        Bytes payload = encoded(*codec, normal_values(schema.parameters(), 7), terms_of(steps));
        while (!payload.empty()) {
            payload.pop_back();
            refuse(*codec, schema, payload, terms_of(steps));
        }
    }
}
