#include "aggregator/accumulator.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace dither {

namespace {

constexpr std::uint64_t kLargestSum = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t kLargestNarrowSum = std::numeric_limits<std::int32_t>::max();

// No check in these loops: the bound of the whole update was checked before. Unsigned, so that even a codec that broke
// its word could do no more than wrap.

DITHER_CLONES void add_narrow(const std::int32_t* codes, std::size_t count, std::uint32_t weight, std::int32_t* sums) {
    for (std::size_t i = 0; i < count; ++i)
        sums[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i]) +
                                            weight * static_cast<std::uint32_t>(codes[i]));
}

DITHER_CLONES void add_narrow(const std::int64_t* codes, std::size_t count, std::uint32_t weight, std::int32_t* sums) {
    for (std::size_t i = 0; i < count; ++i)
        sums[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i]) +
                                            weight * static_cast<std::uint32_t>(codes[i]));
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

template <typename Sum>
void scale_sums(const std::vector<Sum>& sums, double factor, float* out) {
    for (std::size_t j = 0; j < sums.size(); ++j)
        out[j] = static_cast<float>(factor * static_cast<double>(sums[j]));
}

}  // namespace

void Accumulator::Lanes::clear(std::size_t count) {
    // A layer that went beyond 32 bits is likely to do so again.
    const bool is_wide = std::exchange(bound, 0) > kLargestNarrowSum;
    narrow.assign(is_wide ? 0 : count, 0);
    wide.assign(is_wide ? count : 0, 0);
}

void Accumulator::Lanes::scale(double factor, float* out) {
    if (wide.empty())
        scale_sums(std::exchange(narrow, {}), factor, out);
    else
        scale_sums(std::exchange(wide, {}), factor, out);
}

void Accumulator::Lanes::widen() {
    wide.assign(narrow.begin(), narrow.end());
    narrow = {};
}

/// Adds weight * code to the running sums of one update.
class Accumulator::Sink final : public IntegerSink {
public:
    Sink(const Schema& schema, std::span<Lanes> lanes, std::uint64_t weight)
        : schema_(schema), lanes_(lanes), weight_(weight) {}

    void add(std::size_t layer, std::size_t offset, std::span<const std::int32_t> codes) override {
        add_weighted(layer, offset, codes);
    }
    void add(std::size_t layer, std::size_t offset, std::span<const std::int64_t> codes) override {
        add_weighted(layer, offset, codes);
    }

private:
    template <typename Code>
    void add_weighted(std::size_t layer, std::size_t offset, std::span<const Code> codes) {
        const LayerSpec& spec = schema_.layers()[layer];
        require(offset + codes.size() <= spec.count, "{} codes at {} overrun layer {} of {}", codes.size(), offset,
                spec.name, spec.count);
        Lanes& lanes = lanes_[layer];
        if (lanes.wide.empty())
            add_narrow(codes.data(), codes.size(), static_cast<std::uint32_t>(weight_), lanes.narrow.data() + offset);
        else
            add_wide(codes.data(), codes.size(), weight_, lanes.wide.data() + offset);
    }

    const Schema& schema_;
    std::span<Lanes> lanes_;
    std::uint64_t weight_;
};

Accumulator::Accumulator(const Schema& schema) : schema_(schema), lanes_(schema.layer_count()), share_(kLargestSum) {}

void Accumulator::reset(std::size_t expected) {
    require(expected >= 1, "a sum of no update");
    for (std::size_t layer = 0; layer < lanes_.size(); ++layer)
        lanes_[layer].clear(schema_.layers()[layer].count);
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
                      std::span<const std::uint64_t> largest, std::uint64_t weight) {
    const std::string reason = refusal(largest, weight);
    require(reason.empty(), "an update that must be refused was added: {}", reason);
    require(left_ > 0, "more updates than the sum was made for");
    --left_;
    total_weight_ += weight;
    for (std::size_t layer = 0; layer < lanes_.size(); ++layer) {
        Lanes& lanes = lanes_[layer];
        lanes.bound += weight * largest[layer];
        if (lanes.bound > kLargestNarrowSum && lanes.wide.empty())
            lanes.widen();
    }
    Sink sink(schema_, lanes_, weight);
    codec.accumulate(payload, terms, sink);
}

void Accumulator::mean(const Codec& codec, GridSteps steps, std::span<float> out) {
    require(total_weight_ > 0, "the mean of no update");
    require(out.size() == schema_.parameters(), "a mean of {} values, expected {}", out.size(), schema_.parameters());
    for (std::size_t layer = 0; layer < lanes_.size(); ++layer) {
        const double factor = codec.unit(layer, steps) / static_cast<double>(total_weight_);
        lanes_[layer].scale(factor, out.data() + schema_.layers()[layer].offset);
    }
    total_weight_ = 0;
}

}  // namespace dither
