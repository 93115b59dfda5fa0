// The exact sum of a round's updates: integers, so that no order of arrival shows.
//
//     sum[j] = sum over clients k of counted_k * code_k[j]         mean[j] = unit(layer) * sum[j] / sum of weights
//
// where an update counts for its weight, unless it was found too long.
#pragma once

#include "core/model/schema.hpp"
#include "core/tensor.hpp"
#include "transport/codec.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// One model's worth of memory, whatever the number of clients: it holds the sums, then the mean in their place, and
/// between rounds whatever its owner wants. A layer's sums have 32 bits while no sum of its updates can need more, and
/// 64 from then on, in memory of their own; the results are the same. Not thread-safe. Borrows the schema.
class Accumulator {
public:
    /// Takes its memory when that is first used.
    explicit Accumulator(const Schema& schema);

    /// Forgets the last round, and what memory() holds. Each of the `expected` (>= 1) updates that may come has an
    /// equal share of the integers' range, so that what one claims takes nothing from another.
    void reset(std::size_t expected);
    /// Empty if weight * largest |code| of each layer lies within an update's share; else the reason. A pure function
    /// of the update: what came before does not matter.
    std::string refusal(std::span<const std::uint64_t> largest, std::uint64_t weight) const;
    /// Adds a payload that has passed codec.validate(), which gave `largest`, and refusal(): at most `expected` times.
    void add(const Codec& codec, const Terms& terms, std::span<const std::byte> payload,
             std::span<const std::uint64_t> largest, std::uint64_t weight) {
        add(codec, terms, payload, largest, weight, weight);
    }
    /// Likewise, but of an update that counts for less than it weighs: sum += counted * code, total += weight; counted
    /// <= weight.
    void add(const Codec& codec, const Terms& terms, std::span<const std::byte> payload,
             std::span<const std::uint64_t> largest, std::uint64_t weight, std::uint64_t counted);
    std::uint64_t total_weight() const { return total_weight_; }
    /// The weighted mean update, in the place of the sums: memory(). total_weight() > 0; reset() is next.
    std::span<float> mean(const Codec& codec, GridSteps steps);
    void mean(const Codec& codec, GridSteps steps, std::span<float> out);  ///< likewise, copied
    /// A float a parameter, anybody's between mean() and reset().
    std::span<float> memory();

private:
    /// A layer's sums of 64 bits, once it needs them; else they are in memory_.
    struct Lanes {
        std::vector<std::int64_t> wide;
        std::uint64_t bound = 0;  ///< no |sum| is larger
    };
    class Sink;

    std::span<float> memory_of(std::size_t layer);
    void clear(std::size_t layer);
    void widen(std::size_t layer);

    const Schema& schema_;
    AlignedFloats memory_;      ///< of 32-bit sums the bits
    std::vector<Lanes> lanes_;  ///< of each layer
    std::size_t left_ = 0;      ///< updates that may still come: none before the first reset
    std::uint64_t share_;       ///< of each update: its largest |weight * code|
    std::uint64_t total_weight_ = 0;
};

}  // namespace dither
