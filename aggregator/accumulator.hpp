// The exact sum of a round's updates: integers, so that no order of arrival shows.
//
//     sum[j] = sum over clients k of weight_k * code_k[j]          mean[j] = unit(layer) * sum[j] / sum of weights
#pragma once

#include "core/model/schema.hpp"
#include "transport/codec.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// One model's worth of 64-bit integers, whatever the number of clients. Not thread-safe. Borrows the schema.
class Accumulator {
public:
    explicit Accumulator(const Schema& schema);

    /// Forgets the last round.
    void reset();
    /// Empty if an update whose largest |code| of each layer is `largest` can be added with this weight without any
    /// chance of overflow; else the reason.
    std::string refusal(std::span<const std::uint64_t> largest, std::uint64_t weight) const;
    /// Adds a payload that has passed codec.validate(), which gave `largest`, and refusal().
    void add(const Codec& codec, GridSteps steps, std::span<const std::byte> payload,
             std::span<const std::uint64_t> largest, std::uint64_t weight);
    std::uint64_t total_weight() const { return total_weight_; }
    /// The weighted mean update. total_weight() > 0.
    void mean(const Codec& codec, GridSteps steps, std::span<float> out) const;

private:
    const Schema& schema_;
    std::vector<std::int64_t> sums_;
    std::vector<std::uint64_t> bounds_;  ///< of each layer: the largest |sum| that is possible so far
    std::uint64_t total_weight_ = 0;
};

}  // namespace dither
