#include "aggregator/accumulator.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <limits>

namespace dither {

namespace {

constexpr std::uint64_t kLargestSum = std::numeric_limits<std::int64_t>::max();

/// Adds weight * code to the running sums. No check here: the bound of the whole update was checked before.
class WeightedSink final : public IntegerSink {
public:
    WeightedSink(const Schema& schema, std::span<std::int64_t> sums, std::uint64_t weight)
        : schema_(schema), sums_(sums), weight_(static_cast<std::int64_t>(weight)) {}

    void add(std::size_t layer, std::size_t offset, std::span<const std::int64_t> codes) override {
        const LayerSpec& spec = schema_.layers()[layer];
        require(offset + codes.size() <= spec.count, "{} codes at {} overrun layer {} of {}", codes.size(), offset,
                spec.name, spec.count);
        std::int64_t* sums = sums_.data() + spec.offset + offset;
        for (std::size_t i = 0; i < codes.size(); ++i)
            sums[i] += weight_ * codes[i];
    }

private:
    const Schema& schema_;
    std::span<std::int64_t> sums_;
    std::int64_t weight_;
};

}  // namespace

Accumulator::Accumulator(const Schema& schema) : schema_(schema), sums_(schema.parameters()), share_(kLargestSum) {}

void Accumulator::reset(std::size_t expected) {
    require(expected >= 1, "a sum of no update");
    std::fill(sums_.begin(), sums_.end(), 0);
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

void Accumulator::add(const Codec& codec, GridSteps steps, std::span<const std::byte> payload,
                      std::span<const std::uint64_t> largest, std::uint64_t weight) {
    const std::string reason = refusal(largest, weight);
    require(reason.empty(), "an update that must be refused was added: {}", reason);
    require(left_ > 0, "more updates than the sum was made for");
    --left_;
    total_weight_ += weight;
    WeightedSink sink(schema_, sums_, weight);
    codec.accumulate(payload, steps, sink);
}

void Accumulator::mean(const Codec& codec, GridSteps steps, std::span<float> out) const {
    require(total_weight_ > 0, "the mean of no update");
    require(out.size() == sums_.size(), "a mean of {} values, expected {}", out.size(), sums_.size());
    for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
        const LayerSpec& spec = schema_.layers()[layer];
        const double factor = codec.unit(layer, steps) / static_cast<double>(total_weight_);
        for (std::size_t j = spec.offset; j < spec.offset + spec.count; ++j)
            out[j] = static_cast<float>(factor * static_cast<double>(sums_[j]));
    }
}

}  // namespace dither
