#include "examples/guide/own_codec.hpp"

#include "tests/unit/transport/codecs.hpp"

#include <array>

using namespace dither;
using namespace dither::test;

namespace {

const Schema kSchema = schema_of({90, 1, 300});
constexpr std::array kSteps{0.01F, 0x1p-10F, 3.0F};

Terms terms_of(std::uint32_t seed) {
    return {.steps = kSteps, .key = key_of(seed)};
}

std::unique_ptr<Codec> codec() {
    return guide::make_codec({.kind = "varint"}, kSchema);
}

/// Whether decode takes the payload; validate must say the same.
bool is_taken(const Codec& codec, const Bytes& payload) {
    std::vector<float> values(kSchema.parameters());
    std::vector<std::uint64_t> largest(kSchema.layer_count());
    try {
        codec.decode(payload, terms_of(1), values);
    } catch (const FormatError&) {
        CHECK_THROWS_AS(codec.validate(payload, terms_of(1), largest), FormatError);
        return false;
    }
    CHECK_NOTHROW(codec.validate(payload, terms_of(1), largest));
    return true;
}

}  // namespace

TEST_SUITE("examples/guide/own_codec") {
    TEST_CASE("floats, integers and bounds of a payload tell the same story, from tiny values to the largest") {
        for (const float scale : {0.0F, 1e-3F, 1.0F, 1e4F}) {
            const auto values = normal_values(kSchema.parameters(), 1, scale);
            const Bytes payload = encoded(*codec(), values, terms_of(1));
            check_consistent(*codec(), kSchema, payload, terms_of(1));
            CHECK(payload.size() <= 4 * kSchema.parameters());
        }
    }

    TEST_CASE("what is decoded is the value on average and never a step away") {
        std::vector<float> values;  // between two codes each, far enough from both that 400 draws see either
        for (std::size_t layer = 0; layer < kSchema.layer_count(); ++layer)
            for (std::size_t j = 0; j < kSchema.layers()[layer].count; ++j)
                values.push_back(kSteps[layer] *
                                 (static_cast<float>(j % 7) - 3.75F + 0.25F * static_cast<float>(j % 3)));
        check_unbiased(*codec(), values, 400, kSteps);
        const auto back = decoded(*codec(), encoded(*codec(), values, terms_of(3)), values.size(), terms_of(3));
        for (std::size_t j = 0; j < values.size(); ++j)
            CHECK(std::abs(back[j] - values[j]) < kSteps[j < 90 ? 0 : j < 91 ? 1 : 2]);
    }

    TEST_CASE("values that are not finite or beyond the grid are refused before they travel") {
        Bytes payload;
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), 0.02F * 0x1p27F, -0.02F * 0x1p27F}) {
            std::vector<float> values(kSchema.parameters());
            values[3] = bad;
            CHECK_THROWS_AS(codec()->encode(values, terms_of(1), payload), TrainingError);
        }
    }

    TEST_CASE("steps that are no grid are refused") {
        const auto values = normal_values(kSchema.parameters(), 1);
        const Bytes payload = encoded(*codec(), values, terms_of(1));
        for (const float bad : {0.0F, -1.0F, 2 * kLargestGridStep, std::numeric_limits<float>::quiet_NaN()}) {
            const std::array steps{0.01F, bad, 3.0F};
            refuse(*codec(), kSchema, payload, {.steps = steps});
        }
        refuse(*codec(), kSchema, payload, {.steps = std::span(kSteps).first(2)});
    }

    TEST_CASE("a number that ends too late, in a byte of nothing, or never is refused") {
        const Bytes zeros(kSchema.parameters(), std::byte{0});
        CHECK(is_taken(*codec(), zeros));
        const auto with_front = [&](std::initializer_list<int> front) {
            Bytes payload = bytes_of(front);
            payload.insert(payload.end(), zeros.begin() + 1, zeros.end());
            return payload;
        };
        CHECK(is_taken(*codec(), with_front({0xff, 0xff, 0xff, 0x7f})));
        refuse(*codec(), kSchema, with_front({0xff, 0xff, 0xff, 0xff, 0x01}), terms_of(1));
        refuse(*codec(), kSchema, with_front({0x80, 0x00}), terms_of(1));
        refuse(*codec(), kSchema, Bytes(zeros.begin() + 1, zeros.end()), terms_of(1));
        refuse(*codec(), kSchema, with_front({0, 0}), terms_of(1));
        refuse(*codec(), kSchema, {}, terms_of(1));
    }

    TEST_CASE("broken payloads are refused by decode and validate alike, or consistent") {
        const Bytes sound = encoded(*codec(), normal_values(kSchema.parameters(), 1), terms_of(1));
        Stream random(key_of(4));
        int taken = 0;
        for (int i = 0; i < 3000; ++i) {
            Bytes payload = sound;
            for (std::uint32_t changes = 1 + random.below(3); changes > 0; --changes)
                payload[random.below(static_cast<std::uint32_t>(payload.size()))] =
                    static_cast<std::byte>(random.below(256));
            payload.resize(payload.size() - (random.below(4) == 0 ? random.below(9) : 0));
            if (is_taken(*codec(), payload)) {
                check_consistent(*codec(), kSchema, payload, terms_of(1));
                ++taken;
            }
        }
        CHECK(taken > 100);
        CHECK(taken < 2900);
    }
}
