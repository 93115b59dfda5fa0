// Payloads of one codec, DITHER_FUZZ_KIND, of the grid with DITHER_FUZZ_CODER. What no payload says, both ends know:
// the first byte chooses among some such settings. One program a codec rather than one for all: libFuzzer counts its
// features by program, and one codec's would crowd out another's.
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"
#include "tests/fuzz/target.hpp"
#include "transport/codec.hpp"
#include "transport/expectation.hpp"

#include <cmath>
#include <cstdint>
#include <memory>
#include <string_view>

namespace dither::fuzz {
namespace {

/// A matrix, one parameter, a vector and a matrix of few.
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

/// That of tests/golden/grid.
Schema golden_schema() {
    return Schema({{.name = "fc1", .count = 300, .tensors = {{"weight", Shape{20, 15}, 0}}}});
}

/// A codec takes of it what it needs.
struct Setting {
    std::vector<float> steps;
    bool expects = false;
    int bits = 0;
    double rate = 0;
    double share = 0.01;
};

const std::vector<Setting>& settings() {
    static const std::vector<Setting> settings{
        {.steps = {0.5F, 1e-3F, 2, 0.25F}, .expects = true},
        {.steps = {0.5F, 1e-3F, 2, 0.25F}},
        {.steps = {0x1p-20F, 0x1p96F, 1e-6F, 1}, .expects = true, .bits = 2, .rate = 0.3, .share = 0.2},
        {.steps = {1, 1, 1, 1}, .bits = 3, .rate = 1.7, .share = 1},
        {.steps = {1, 1, 1, 1}, .expects = true, .bits = 16, .rate = 8},
        {.steps = {16}},
        {.steps = {16}, .expects = true},
        {.steps = {0.5F}},
        {.steps = {0.5F}, .expects = true},
        {.steps = {0x1p-10F}, .expects = true},
    };
    return settings;
}

std::vector<float> values_of(std::size_t count, std::uint32_t seed, float scale) {
    std::vector<float> values(count);
    Stream({.seed = seed}).fill_normal(values);
    for (float& value : values)
        value *= scale;
    return values;
}

/// What both ends know under a setting.
struct End {
    explicit End(const Setting& setting)
        : schema(setting.steps.size() == 1 ? golden_schema() : make_schema()),
          codec(make_codec({.kind = DITHER_FUZZ_KIND,
                            .bits = setting.bits,
                            .rate = setting.rate,
                            .coder = DITHER_FUZZ_CODER,
                            .share = setting.share},
                           schema)),
          expectation(schema, values_of(schema.parameters(), 9, 0.1F)),
          terms{.steps = setting.steps,
                .key = {.seed = 1, .client = 2, .round = 3},
                .expectation = setting.expects ? &expectation : nullptr} {}
    End(const End&) = delete;
    End& operator=(const End&) = delete;

    Schema schema;
    std::unique_ptr<Codec> codec;
    Expectation expectation;
    Terms terms;
};

const End& end_of(std::size_t setting) {
    static const auto ends = [] {
        std::vector<std::unique_ptr<End>> made;
        for (const Setting& setting : settings())
            made.push_back(std::make_unique<End>(setting));
        return made;
    }();
    return *ends[setting];
}

/// Integers must come whole, in order and within what validation said.
class CheckingSink final : public IntegerSink {
public:
    CheckingSink(const Schema& schema, std::span<const std::uint64_t> largest) : schema_(schema), largest_(largest) {}
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
        require(schema_.layers()[layer].offset + offset == count_, "codes out of order");
        count_ += codes.size();
        for (const std::int64_t code : codes)
            require(static_cast<std::uint64_t>(std::abs(code)) <= largest_[layer], "code {} is above {}", code,
                    largest_[layer]);
    }

    const Schema& schema_;
    std::span<const std::uint64_t> largest_;
    std::size_t count_ = 0;
};

bool validates(const End& end, std::span<const std::byte> payload, std::span<std::uint64_t> largest) {
    try {
        end.codec->validate(payload, end.terms, largest);
        return true;
    } catch (const FormatError&) {
        return false;
    }
}

bool decodes(const End& end, std::span<const std::byte> payload, std::span<float> values) {
    try {
        end.codec->decode(payload, end.terms, values);
        return true;
    } catch (const FormatError&) {
        return false;
    }
}

bool is_context_grid() {
    return std::string_view(DITHER_FUZZ_KIND) == "grid" && std::string_view(DITHER_FUZZ_CODER) == "context";
}

}  // namespace

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    for (std::size_t setting = 0; setting < settings().size(); ++setting) {
        const End& end = end_of(setting);
        for (const float scale : {0.0F, 1e-3F, 0.1F, 1.0F, 300.0F}) {
            const auto values = values_of(end.schema.parameters(), 1, scale);
            Bytes payload;
            end.codec->encode(values, end.terms, payload);
            seeds.push_back(with_choice(setting, payload));
        }
    }
    if (is_context_grid())
        for (const Bytes& stream : golden_bytes("grid"))
            for (std::size_t setting = 0; setting < settings().size(); ++setting)
                seeds.push_back(with_choice(setting, stream));
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    const auto [setting, payload] = split_choice(bytes, settings().size());
    const End& end = end_of(setting);
    std::vector<std::uint64_t> largest(end.schema.layer_count());
    std::vector<float> values(end.schema.parameters());
    const bool decoded = decodes(end, payload, values);
    require(!decoded || all_finite(values), "a decoded value is not finite");
    if (!validates(end, payload, largest))
        return;
    require(decoded, "a payload that is valid does not decode");
    CheckingSink sink(end.schema, largest);
    end.codec->accumulate(payload, end.terms, sink);
    require(sink.count() == values.size(), "{} codes of {}", sink.count(), values.size());
}

}  // namespace dither::fuzz
