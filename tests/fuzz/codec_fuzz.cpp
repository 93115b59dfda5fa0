// Payloads of one codec: DITHER_FUZZ_KIND, of the grid with DITHER_FUZZ_CODER.
#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/fuzz/target.hpp"
#include "transport/codec.hpp"
#include "transport/expectation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace dither::fuzz {
namespace {

constexpr std::array<float, 4> kSteps{0.5F, 1e-3F, 2, 0.25F};

Schema make_schema() {
    std::vector<LayerSpec> layers;
    std::size_t offset = 0;
    for (const auto& [name, shape] :
         {std::pair{"fc1", Shape{20, 15}}, {"fc2", Shape{1}}, {"fc3", Shape{67}}, {"fc4", Shape{3, 2}}}) {
        const auto count = static_cast<std::size_t>(shape.count());
        layers.push_back({.name = name, .offset = offset, .count = count, .tensors = {{"weight", shape, offset}}});
        offset += count;
    }
    return Schema(std::move(layers));
}

std::vector<float> values_of(std::size_t count, std::uint32_t seed, float scale) {
    std::vector<float> values(count);
    Stream({.seed = seed}).fill_normal(values);
    for (float& value : values)
        value *= scale;
    return values;
}

/// What both ends know.
struct End {
    Schema schema = make_schema();
    std::unique_ptr<Codec> codec = make_codec({.kind = DITHER_FUZZ_KIND, .coder = DITHER_FUZZ_CODER}, schema);
    Expectation expectation{schema, values_of(schema.parameters(), 9, 0.1F)};
    Terms terms{.steps = kSteps, .key = {.seed = 1, .client = 2, .round = 3}, .expectation = &expectation};
};

const End& end() {
    static const End end;
    return end;
}

/// Integers must come whole, in order and within what validation said.
class CheckingSink final : public IntegerSink {
public:
    explicit CheckingSink(std::span<const std::uint64_t> largest) : largest_(largest) {}
    void add(std::size_t layer, std::size_t offset, std::span<const std::int32_t> codes) override {
        check(layer, offset, codes);
    }
    void add(std::size_t layer, std::size_t offset, std::span<const std::int64_t> codes) override {
        check(layer, offset, codes);
    }
    std::size_t count() const { return count_; }

private:
    template <typename Code>
    void check(std::size_t layer, std::size_t offset, std::span<const Code> codes) {
        require(end().schema.layers()[layer].offset + offset == count_, "codes out of order");
        count_ += codes.size();
        for (const std::int64_t code : codes)
            require(static_cast<std::uint64_t>(std::abs(code)) <= largest_[layer], "code {} is above {}", code,
                    largest_[layer]);
    }

    std::span<const std::uint64_t> largest_;
    std::size_t count_ = 0;
};

bool validates(std::span<const std::byte> payload, std::span<std::uint64_t> largest) {
    try {
        end().codec->validate(payload, end().terms, largest);
        return true;
    } catch (const FormatError&) {
        return false;
    }
}

bool decodes(std::span<const std::byte> payload, std::span<float> values) {
    try {
        end().codec->decode(payload, end().terms, values);
        return true;
    } catch (const FormatError&) {
        return false;
    }
}

}  // namespace

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    for (const float scale : {0.0F, 1e-3F, 0.1F, 1.0F, 300.0F}) {
        const auto values = values_of(end().schema.parameters(), 1, scale);
        end().codec->encode(values, end().terms, seeds.emplace_back());
    }
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    std::vector<std::uint64_t> largest(end().schema.layer_count());
    std::vector<float> values(end().schema.parameters());
    const bool decoded = decodes(bytes, values);
    require(!decoded || std::ranges::all_of(values, [](float value) { return std::isfinite(value); }),
            "a decoded value is not finite");
    if (!validates(bytes, largest))
        return;
    require(decoded, "a payload that is valid does not decode");
    CheckingSink sink(largest);
    end().codec->accumulate(bytes, end().terms, sink);
    require(sink.count() == values.size(), "{} codes of {}", sink.count(), values.size());
}

}  // namespace dither::fuzz
