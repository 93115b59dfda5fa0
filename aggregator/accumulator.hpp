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

    /// Forgets the last round. Each of the `expected` (>= 1) updates that may come has an equal share of the integers'
    /// range, so that what one claims takes nothing from another.
    void reset(std::size_t expected);
    /// Empty if weight * largest |code| of each layer lies within an update's share; else the reason. A pure function
    /// of the update: what came before does not matter.
    std::string refusal(std::span<const std::uint64_t> largest, std::uint64_t weight) const;
    /// Adds a payload that has passed codec.validate(), which gave `largest`, and refusal(): at most `expected` times.
    void add(const Codec& codec, GridSteps steps, std::span<const std::byte> payload,
             std::span<const std::uint64_t> largest, std::uint64_t weight);
    std::uint64_t total_weight() const { return total_weight_; }
    /// The weighted mean update. total_weight() > 0.
    void mean(const Codec& codec, GridSteps steps, std::span<float> out) const;

private:
    const Schema& schema_;
    std::vector<std::int64_t> sums_;
    std::size_t left_ = 1;  ///< updates that may still come
    std::uint64_t share_;   ///< of each update: its largest |weight * code|
    std::uint64_t total_weight_ = 0;
};

}  // namespace dither
