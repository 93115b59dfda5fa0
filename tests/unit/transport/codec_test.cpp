#include "transport/codec.hpp"

#include "core/config.hpp"
#include "core/error.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace {

using namespace dither;
using Bytes = std::vector<std::byte>;

Schema schema_of(std::initializer_list<std::size_t> counts) {
    std::vector<LayerSpec> layers;
    std::size_t offset = 0;
    for (const std::size_t count : counts) {
        const auto name = "fc" + std::to_string(layers.size() + 1);
        const Shape shape{static_cast<std::int64_t>(count)};
        layers.push_back({.name = name, .offset = offset, .count = count, .tensors = {{"weight", shape, offset}}});
        offset += count;
    }
    return Schema(std::move(layers));
}

std::unique_ptr<Codec> codec_of(const std::string& kind, const Schema& schema) {
    return make_codec(CodecOptions{.kind = kind}, schema);
}

StreamKey key_of(std::uint32_t seed) {
    return {.seed = seed, .purpose = Purpose::test};
}

std::vector<float> normal_values(std::size_t count, std::uint32_t seed, float scale = 1) {
    std::vector<float> values(count);
    Stream(key_of(seed)).fill_normal(values);
    for (float& value : values)
        value *= scale;
    return values;
}

Bytes encoded(const Codec& codec, std::span<const float> values, GridSteps steps, std::uint32_t seed = 1) {
    Bytes payload(3, std::byte{0xff});  // encode overwrites
    codec.encode(values, steps, key_of(seed), payload);
    return payload;
}

std::vector<float> decoded(const Codec& codec, const Bytes& payload, GridSteps steps, std::size_t count) {
    std::vector<float> values(count, std::numeric_limits<float>::quiet_NaN());
    codec.decode(payload, steps, values);
    return values;
}

/// Puts the integers of all layers into one vector and checks that they come in order and whole.
class Collector final : public IntegerSink {
public:
    explicit Collector(const Schema& schema) : schema_(schema) {}
    void add(std::size_t layer, std::size_t offset, std::span<const std::int64_t> codes) override {
        CHECK(schema_.layers()[layer].offset + offset == codes_.size());
        codes_.insert(codes_.end(), codes.begin(), codes.end());
    }
    const std::vector<std::int64_t>& codes() const { return codes_; }

private:
    const Schema& schema_;
    std::vector<std::int64_t> codes_;
};

std::vector<std::int64_t> integers(const Codec& codec, const Schema& schema, const Bytes& payload, GridSteps steps) {
    Collector sink(schema);
    codec.accumulate(payload, steps, sink);
    CHECK(sink.codes().size() == schema.parameters());
    return sink.codes();
}

/// decode, validate and accumulate must tell the same story about a payload.
void check_consistent(const Codec& codec, const Schema& schema, const Bytes& payload, GridSteps steps) {
    const auto values = decoded(codec, payload, steps, schema.parameters());
    const auto codes = integers(codec, schema, payload, steps);
    std::vector<std::uint64_t> largest(schema.layer_count(), 99);
    codec.validate(payload, steps, largest);
    for (std::size_t layer = 0; layer < schema.layer_count(); ++layer) {
        const LayerSpec& spec = schema.layers()[layer];
        std::uint64_t expected = 0;
        for (std::size_t j = spec.offset; j < spec.offset + spec.count; ++j) {
            const auto worth = static_cast<float>(static_cast<double>(codes[j]) * codec.unit(layer, steps));
            CHECK(std::bit_cast<std::uint32_t>(worth) == std::bit_cast<std::uint32_t>(values[j] + 0.0F));
            expected = std::max(expected, static_cast<std::uint64_t>(std::abs(codes[j])));
        }
        CHECK(largest[layer] == expected);
    }
}

void refuse(const Codec& codec, const Schema& schema, const Bytes& payload, GridSteps steps) {
    std::vector<float> values(schema.parameters());
    std::vector<std::uint64_t> largest(schema.layer_count());
    CHECK_THROWS_AS(codec.decode(payload, steps, values), FormatError);
    CHECK_THROWS_AS(codec.validate(payload, steps, largest), FormatError);
}

Bytes bytes_of(std::initializer_list<int> values) {
    Bytes bytes;
    for (const int value : values)
        bytes.push_back(static_cast<std::byte>(value));
    return bytes;
}

constexpr std::size_t kSectionHeader = 10;
int mode_of(const Bytes& payload) {
    return std::to_integer<int>(payload[0]);
}
unsigned width_of(const Bytes& payload) {
    return std::to_integer<unsigned>(payload[1]);
}

}  // namespace

TEST_SUITE("transport/codec") {
    TEST_CASE("an unknown kind is an input error") {
        const Schema schema = schema_of({1});
        CHECK_THROWS_AS(codec_of("zip", schema), InputError);
    }

    TEST_CASE("codecs say whether steps matter") {
        const Schema schema = schema_of({1});
        CHECK(codec_of("raw", schema)->name() == "raw");
        CHECK_FALSE(codec_of("raw", schema)->needs_steps());
        CHECK(codec_of("grid", schema)->name() == "grid");
        CHECK(codec_of("grid", schema)->needs_steps());
    }
}

TEST_SUITE("transport/raw_codec") {
    TEST_CASE("raw returns the very same bits, four bytes a value") {
        const Schema schema = schema_of({5000, 3});
        const auto codec = codec_of("raw", schema);
        auto values = normal_values(schema.parameters(), 1);
        values[0] = -0.0F;
        values[1] = std::numeric_limits<float>::denorm_min();
        values[2] = std::numeric_limits<float>::max();
        const Bytes payload = encoded(*codec, values, {});
        CHECK(payload.size() == 4 * values.size());
        const auto back = decoded(*codec, payload, {}, values.size());
        for (std::size_t i = 0; i < values.size(); ++i)
            CHECK(std::bit_cast<std::uint32_t>(back[i]) == std::bit_cast<std::uint32_t>(values[i]));
    }

    TEST_CASE("raw's bytes are little-endian IEEE 754") {
        const Schema schema = schema_of({2});
        const Bytes payload = encoded(*codec_of("raw", schema), std::vector<float>{1.0F, -2.5F}, {});
        CHECK(payload == bytes_of({0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0}));
    }

    TEST_CASE("raw's integers are multiples of 2^-40, rounded to nearest-even") {
        const Schema schema = schema_of({6});
        const auto codec = codec_of("raw", schema);
        const std::vector<float> values{1.0F, -0x1p-40F, 0x1p-41F, 0x1.8p-40F, -0x1.4p-39F, 0x1.fffffep21F};
        const Bytes payload = encoded(*codec, values, {});
        CHECK(integers(*codec, schema, payload, {}) ==
              std::vector<std::int64_t>{std::int64_t{1} << 40, -1, 0, 2, -2, (std::int64_t{1} << 62) - (1LL << 38)});
        std::vector<std::uint64_t> largest(1);
        codec->validate(payload, {}, largest);
        CHECK(largest[0] == (std::uint64_t{1} << 62) - (1ULL << 38));
        CHECK(codec->unit(0, {}) == 0x1p-40);
    }

    TEST_CASE("raw's layers are told apart across chunks") {
        const Schema schema = schema_of({1, 5000, 4096});
        const auto codec = codec_of("raw", schema);
        auto values = normal_values(schema.parameters(), 2, 0.01F);
        for (float& value : values)  // exact in units, so that decode and integers must agree exactly
            value = std::round(value * 0x1p20F) * 0x1p-20F;
        check_consistent(*codec, schema, encoded(*codec, values, {}), {});
    }

    TEST_CASE("raw refuses values that are not finite, wrong sizes, and sums that could overflow") {
        const Schema schema = schema_of({2, 1});
        const auto codec = codec_of("raw", schema);
        std::vector<std::uint64_t> largest(2);
        std::vector<float> values(3);
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
            CHECK_THROWS_AS(encoded(*codec, std::vector<float>{0, bad, 0}, {}), TrainingError);
            Bytes payload = encoded(*codec, values, {});
            std::memcpy(payload.data() + 4, &bad, sizeof(bad));
            refuse(*codec, schema, payload, {});
        }
        Bytes payload = encoded(*codec, std::vector<float>{0, 0, -0x1p22F}, {});
        CHECK_NOTHROW(codec->decode(payload, {}, values));
        CHECK_THROWS_AS(codec->validate(payload, {}, largest), FormatError);
        payload.push_back(std::byte{0});
        refuse(*codec, schema, payload, {});
        payload.resize(payload.size() - 2);
        refuse(*codec, schema, payload, {});
        refuse(*codec, schema, {}, {});
    }
}

TEST_SUITE("transport/grid_codec") {
    TEST_CASE("grid decodes within one step, and its integers are the decoded values") {
        const Schema schema = schema_of({10'000, 1, 4096, 300});
        const auto codec = codec_of("grid", schema);
        const auto values = normal_values(schema.parameters(), 3);
        for (const float step : {10.0F, 0.7F, 0.1F, 1e-3F, 1e-6F}) {
            CAPTURE(step);
            const std::vector<float> steps{step, 0.5F * step, 2 * step, step};
            const Bytes payload = encoded(*codec, values, steps);
            const auto back = decoded(*codec, payload, steps, values.size());
            for (std::size_t layer = 0; layer < schema.layer_count(); ++layer) {
                const LayerSpec& spec = schema.layers()[layer];
                for (std::size_t j = spec.offset; j < spec.offset + spec.count; ++j)
                    CHECK(std::abs(back[j] - values[j]) <= steps[layer] * (1 + 1e-6F) + std::abs(values[j]) * 0x1p-22F);
            }
            check_consistent(*codec, schema, payload, steps);
        }
    }

    TEST_CASE("grid is the identity on multiples of the step") {
        const Schema schema = schema_of({6});
        const auto codec = codec_of("grid", schema);
        const std::vector<float> steps{0.25F};
        const std::vector<float> values{0, 0.25F, -0.25F, 100, -1000.75F, 0.5F};
        CHECK(decoded(*codec, encoded(*codec, values, steps), steps, 6) == values);
    }

    TEST_CASE("grid is unbiased") {
        // Over N streams the mean of q has the deviation sqrt(f (1 - f) / N) <= 0.5 / sqrt(N) steps.
        const Schema schema = schema_of({8});
        const auto codec = codec_of("grid", schema);
        const std::vector<float> steps{0.1F};
        const std::vector<float> values{0.03F, -0.03F, 0.05F, -0.0999F, 0.149F, 3.217F, -12.08F, 1e-3F};
        constexpr std::uint32_t kStreams = 20'000;
        std::vector<double> sums(values.size());
        for (std::uint32_t seed = 0; seed < kStreams; ++seed) {
            const auto back = decoded(*codec, encoded(*codec, values, steps, seed), steps, values.size());
            std::transform(back.begin(), back.end(), sums.begin(), sums.begin(), std::plus<double>());
        }
        for (std::size_t j = 0; j < values.size(); ++j) {
            const double ratio = values[j] / static_cast<double>(steps[0]);
            const double fraction = ratio - std::floor(ratio);
            const double deviation = std::sqrt(fraction * (1 - fraction) / kStreams);
            CHECK(std::abs(sums[j] / kStreams - values[j]) / steps[0] < 5 * deviation);
        }
    }

    TEST_CASE("equal keys give equal payloads; another key, or another layer, rounds differently") {
        const Schema schema = schema_of({1000, 1000});
        const auto codec = codec_of("grid", schema);
        const std::vector<float> steps{1, 1};
        const std::vector<float> values(2000, 0.5F);
        const Bytes payload = encoded(*codec, values, steps, 1);
        CHECK(encoded(*codec, values, steps, 1) == payload);
        CHECK(encoded(*codec, values, steps, 2) != payload);
        const auto back = decoded(*codec, payload, steps, 2000);
        CHECK_FALSE(std::equal(back.begin(), back.begin() + 1000, back.begin() + 1000));
    }

    TEST_CASE("codes take the width of the largest, and a layer of zeros takes none") {
        const Schema schema = schema_of({3});
        const auto codec = codec_of("grid", schema);
        const std::vector<float> steps{1};
        const auto payload = [&](float a, float b) { return encoded(*codec, std::vector<float>{0, a, b}, steps); };
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
            const auto count = *rc::gen::inRange<std::size_t>(1, 5000);
            const auto exponent = *rc::gen::inRange(0, 31);
            const Schema schema = schema_of({count});
            const auto codec = codec_of("grid", schema);
            const std::vector<float> steps{1};
            std::vector<float> values(count);
            Stream stream(key_of(*rc::gen::arbitrary<std::uint32_t>()));
            for (float& value : values)
                value = std::trunc(std::ldexp(2 * stream.uniform() - 1, exponent));
            return decoded(*codec, encoded(*codec, values, steps), steps, count) == values;
        }));
    }

    TEST_CASE("zstd is used where it is shorter, and never where it is not") {
        const Schema schema = schema_of({20'000});
        const auto codec = codec_of("grid", schema);
        const std::vector<float> steps{1};
        std::vector<float> sparse(20'000);
        for (std::size_t i = 0; i < sparse.size(); i += 500)
            sparse[i] = static_cast<float>(i);
        const Bytes compressed = encoded(*codec, sparse, steps);
        CHECK(mode_of(compressed) == 1);
        CHECK(compressed.size() < 20'000 * width_of(compressed) / 8);
        CHECK(decoded(*codec, compressed, steps, sparse.size()) == sparse);
        check_consistent(*codec, schema, compressed, steps);

        std::vector<float> noise(20'000);
        Stream stream(key_of(5));
        for (float& value : noise)
            value = static_cast<float>(stream.below(256)) - 128;
        const Bytes packed = encoded(*codec, noise, steps);
        CHECK(mode_of(packed) == 0);
        CHECK(packed.size() == kSectionHeader + 20'000);
    }

    TEST_CASE("values that are not finite or 2^31 steps away are training errors that name the layer") {
        const Schema schema = schema_of({4, 2});
        const auto codec = codec_of("grid", schema);
        const std::vector<float> steps{1, 0.5F};
        for (const float bad :
             {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity(), 0x1p30F})
            CHECK_THROWS_WITH_AS(encoded(*codec, std::vector<float>{0, 0, 0, 0, 0, bad}, steps),
                                 doctest::Contains("fc2"), TrainingError);
        CHECK_NOTHROW(encoded(*codec, std::vector<float>{0, 0, 0, 0, 0, 0x1.fffffep29F}, steps));
    }

    TEST_CASE("steps that are not positive and finite are a defect of the caller") {
        const Schema schema = schema_of({1});
        const auto codec = codec_of("grid", schema);
        for (const float step :
             {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
            CHECK_THROWS_AS(encoded(*codec, std::vector<float>{1}, std::vector<float>{step}), PreconditionError);
        CHECK_THROWS_AS(encoded(*codec, std::vector<float>{1}, {}), PreconditionError);
    }

    TEST_CASE("a payload on steps that are no grid is refused as a payload, not as a defect of its reader") {
        const Schema schema = schema_of({1});
        const auto codec = codec_of("grid", schema);
        const Bytes payload = encoded(*codec, std::vector<float>{1}, std::vector<float>{1});
        const float infinity = std::numeric_limits<float>::infinity();
        for (const float step : {0.0F, -1.0F, infinity, std::nextafter(kLargestGridStep, infinity)})
            refuse(*codec, schema, payload, std::vector<float>{step});
        refuse(*codec, schema, payload, {});
    }

    TEST_CASE("a payload for another step, or with any part that is not as it must be, is refused") {
        const Schema schema = schema_of({3});
        const auto codec = codec_of("grid", schema);
        const std::vector<float> steps{1};
        const Bytes good = bytes_of({0, 2, 1, 0, 0, 0, 0, 0, 0x80, 0x3f, 0b111000});
        CHECK(decoded(*codec, good, steps, 3) == std::vector<float>{0, 1, -2});
        refuse(*codec, schema, good, std::vector<float>{std::nextafter(1.0F, 2.0F)});
        const auto with = [&](std::size_t at, int value) {
            Bytes payload = good;
            payload[at] = static_cast<std::byte>(value);
            return payload;
        };
        refuse(*codec, schema, with(0, 2), steps);           // unknown mode
        refuse(*codec, schema, with(0, 1), steps);           // zstd that is not shorter
        refuse(*codec, schema, with(1, 33), steps);          // width
        refuse(*codec, schema, with(1, 1), steps);           // codes and padding over the width
        refuse(*codec, schema, with(2, 2), steps);           // size
        refuse(*codec, schema, with(10, 0b1111000), steps);  // padding
        refuse(*codec, schema, with(10, 0b000100), steps);   // width larger than needed
        Bytes longer = good;
        longer.push_back(std::byte{0});
        refuse(*codec, schema, longer, steps);
    }

    TEST_CASE("every truncation of a payload is refused") {
        const Schema schema = schema_of({40, 2000});
        const auto codec = codec_of("grid", schema);
        const std::vector<float> steps{0.1F, 2.0F};
        Bytes payload = encoded(*codec, normal_values(schema.parameters(), 7), steps);
        while (!payload.empty()) {
            payload.pop_back();
            refuse(*codec, schema, payload, steps);
        }
    }

    TEST_CASE("a mutated payload is refused or decodes consistently, and nothing else happens") {
        const Schema schema = schema_of({40, 2000, 3});
        const auto codec = codec_of("grid", schema);
        const std::vector<float> steps{0.1F, 2.0F, 1e-4F};
        const Bytes good = encoded(*codec, normal_values(schema.parameters(), 8), steps);
        REQUIRE(std::to_integer<int>(good[kSectionHeader + 40 * width_of(good) / 8]) == 1);  // fc2 is compressed
        Stream stream(key_of(9));
        int refused = 0;
        constexpr int kTrials = 4000;
        for (int trial = 0; trial < kTrials; ++trial) {
            Bytes payload = good;
            for (std::uint32_t i = 0; i <= stream.below(4); ++i)
                payload[stream.below(static_cast<std::uint32_t>(payload.size()))] = static_cast<std::byte>(stream());
            std::vector<std::uint64_t> largest(3);
            try {
                codec->validate(payload, steps, largest);
            } catch (const FormatError&) {
                ++refused;
                std::vector<float> values(schema.parameters());
                CHECK_THROWS_AS(codec->decode(payload, steps, values), FormatError);
                continue;
            }
            const auto codes = integers(*codec, schema, payload, steps);
            const auto values = decoded(*codec, payload, steps, schema.parameters());
            CHECK(std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }));
            CHECK(std::all_of(codes.begin(), codes.begin() + 40, [&](std::int64_t code) {
                return static_cast<std::uint64_t>(std::abs(code)) <= largest[0];
            }));
        }
        CHECK(refused > 0);
        CHECK(refused < kTrials);
    }
}
