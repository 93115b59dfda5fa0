#include "aggregator/accumulator.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

namespace dither {

namespace {

constexpr std::uint64_t kLargestSum = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t kLargestNarrowSum = std::numeric_limits<std::int32_t>::max();

// Sums of 32 bits live in the memory of the floats that the mean is made of, so that both take one model.

std::int32_t sum_of(float bits) {
    return std::bit_cast<std::int32_t>(bits);
}

float bits_of(std::uint32_t sum) {
    return std::bit_cast<float>(sum);
}

// No check in these loops: the bound of the whole update was checked before. Unsigned, so that even a codec that broke
// its word could do no more than wrap.

DITHER_CLONES void add_narrow(const std::int32_t* codes, std::size_t count, std::uint32_t weight, float* sums) {
    for (std::size_t i = 0; i < count; ++i)
        sums[i] = bits_of(static_cast<std::uint32_t>(sum_of(sums[i])) + weight * static_cast<std::uint32_t>(codes[i]));
}

DITHER_CLONES void add_narrow(const std::int64_t* codes, std::size_t count, std::uint32_t weight, float* sums) {
    for (std::size_t i = 0; i < count; ++i)
        sums[i] = bits_of(static_cast<std::uint32_t>(sum_of(sums[i])) + weight * static_cast<std::uint32_t>(codes[i]));
}

DITHER_CLONES void add_wide(const std::int32_t* codes, std::size_t count, std::uint64_t weight, std::int64_t* sums) {
    for (std::size_t i = 0; i < count; ++i)
        sums[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(sums[i]) +
                                            weight * static_cast<std::uint64_t>(std::int64_t{codes[i]}));
}

DITHER_CLONES void add_wide(const std::int64_t* codes, std::size_t count, std::uint64_t weight, std::int64_t* sums) {
    for (std::size_t i = 0; i < count; ++i)
        sums[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(sums[i]) +
                                            weight * static_cast<std::uint64_t>(codes[i]));
}

}  // namespace

/// Adds weight * code to the running sums of one update.
class Accumulator::Sink final : public IntegerSink {
public:
    Sink(Accumulator& sums, std::uint64_t weight) : sums_(sums), weight_(weight) {}

    void add(std::size_t layer, std::size_t offset, std::span<const std::int32_t> codes) override {
        add_weighted(layer, offset, codes);
    }
    void add(std::size_t layer, std::size_t offset, std::span<const std::int64_t> codes) override {
        add_weighted(layer, offset, codes);
    }

private:
    template <typename Code>
    void add_weighted(std::size_t layer, std::size_t offset, std::span<const Code> codes) {
        const LayerSpec& spec = sums_.schema_.layers()[layer];
        require(offset + codes.size() <= spec.count, "{} codes at {} overrun layer {} of {}", codes.size(), offset,
                spec.name, spec.count);
        std::vector<std::int64_t>& wide = sums_.lanes_[layer].wide;
        if (wide.empty())
            add_narrow(codes.data(), codes.size(), static_cast<std::uint32_t>(weight_),
                       sums_.memory_of(layer).data() + offset);
        else
            add_wide(codes.data(), codes.size(), weight_, wide.data() + offset);
    }

    Accumulator& sums_;
    std::uint64_t weight_;
};

Accumulator::Accumulator(const Schema& schema) : schema_(schema), lanes_(schema.layer_count()), share_(kLargestSum) {}

void Accumulator::reset(std::size_t expected) {
    require(expected >= 1, "a sum of no update");
    for (std::size_t layer = 0; layer < lanes_.size(); ++layer)
        clear(layer);
    left_ = expected;
    share_ = kLargestSum / expected;
    total_weight_ = 0;
}

std::string Accumulator::refusal(std::span<const std::uint64_t> largest, std::uint64_t weight) const {
    require(largest.size() == schema_.layer_count(), "largest codes of {} layers, expected {}", largest.size(),
            schema_.layer_count());
    if (weight == 0 || weight > share_)
        return fmt::format("weight {} is not between 1 and {}", weight, share_);
    for (std::size_t layer = 0; layer < largest.size(); ++layer) {
        if (largest[layer] > share_ / weight)
            return fmt::format("layer {}: codes up to {} with weight {} could overflow the sum",
                               schema_.layers()[layer].name, largest[layer], weight);
    }
    return {};
}

void Accumulator::add(const Codec& codec, const Terms& terms, std::span<const std::byte> payload,
                      std::span<const std::uint64_t> largest, std::uint64_t weight, std::uint64_t counted) {
    const std::string reason = refusal(largest, weight);
    require(reason.empty(), "an update that must be refused was added: {}", reason);
    require(counted <= weight, "an update that counts for {} of a weight of {}", counted, weight);
    require(left_ > 0, "more updates than the sum was made for");
    --left_;
    total_weight_ += weight;
    for (std::size_t layer = 0; layer < lanes_.size(); ++layer) {
        Lanes& lanes = lanes_[layer];
        lanes.bound += counted * largest[layer];
        if (lanes.bound > kLargestNarrowSum && lanes.wide.empty())
            widen(layer);
    }
    if (counted == 0)
        return;
    Sink sink(*this, counted);
    codec.accumulate(payload, terms, sink);
}

std::span<float> Accumulator::mean(const Codec& codec, GridSteps steps) {
    require(total_weight_ > 0, "the mean of no update");
    for (std::size_t layer = 0; layer < lanes_.size(); ++layer) {
        const double factor = codec.unit(layer, steps) / static_cast<double>(total_weight_);
        const std::span<float> out = memory_of(layer);
        const std::vector<std::int64_t> wide = std::exchange(lanes_[layer].wide, {});
        for (std::size_t j = 0; j < wide.size(); ++j)
            out[j] = static_cast<float>(factor * static_cast<double>(wide[j]));
        if (wide.empty())
            for (float& value : out)
                value = static_cast<float>(factor * static_cast<double>(sum_of(value)));
    }
    total_weight_ = 0;
    return memory_;
}

void Accumulator::mean(const Codec& codec, GridSteps steps, std::span<float> out) {
    require(out.size() == schema_.parameters(), "a mean of {} values, expected {}", out.size(), schema_.parameters());
    std::ranges::copy(mean(codec, steps), out.begin());
}

std::span<float> Accumulator::memory() {
    memory_.resize(schema_.parameters());
    return memory_;
}

std::span<float> Accumulator::memory_of(std::size_t layer) {
    return memory().subspan(schema_.layers()[layer].offset, schema_.layers()[layer].count);
}

void Accumulator::clear(std::size_t layer) {
    // A layer that went beyond 32 bits is likely to do so again.
    const bool is_wide = std::exchange(lanes_[layer].bound, 0) > kLargestNarrowSum;
    lanes_[layer].wide.assign(is_wide ? schema_.layers()[layer].count : 0, 0);
    std::ranges::fill(memory_of(layer), bits_of(0));
}

void Accumulator::widen(std::size_t layer) {
    const std::span<const float> narrow = memory_of(layer);
    lanes_[layer].wide.resize(narrow.size());
    std::ranges::transform(narrow, lanes_[layer].wide.begin(), sum_of);
}

}  // namespace dither
