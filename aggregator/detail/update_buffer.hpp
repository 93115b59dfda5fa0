// Updates that wait for the round that counts them: FedBuff's buffer (Nguyen et al., "Federated learning with buffered
// asynchronous aggregation", AISTATS 2022). Private to the aggregator.
//
//     mean = sum over clients k of weight_k s(round - base_k) update_k / sum of weights        s(t) = 1 / sqrt(1 + t)
//
// where update k started from the model of round base_k. Updates of one base are codes on one grid: their sum is exact,
// and so no order shows; the sums of the bases are added in ascending order, in double.
#pragma once

#include "aggregator/accumulator.hpp"
#include "aggregator/combination.hpp"
#include "aggregator/norm_bound.hpp"
#include "transport/codec.hpp"
#include "transport/expectation.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace dither {

/// Memory: the payloads that it holds, beside what both ends know of the updates of each round that any of them started
/// from, and while mean() runs 8 bytes a parameter. Not thread-safe. Borrows the codec.
class UpdateBuffer {
public:
    /// An update that has passed every check. The report says from which round's model it started.
    struct Entry {
        WeightedReport report;
        std::vector<std::byte> payload;
        std::vector<std::uint64_t> largest;  ///< |code| of each layer
    };

    UpdateBuffer(const Codec& codec, std::uint32_t seed) : codec_(codec), seed_(seed) {}

    /// Round `round` begins: forgets what the last one counted. Updates that start from its model are made on these
    /// terms.
    void begin(std::uint32_t round, GridSteps steps, const Expectation* expectation);
    /// Of the round that has begun; at most one of a client.
    void keep(Entry entry);
    /// Nothing, unless the buffer has an update of this client.
    const WeightedReport* find(std::uint32_t client) const;
    /// The client's update enters the round's mean.
    void count(std::uint32_t client) { counted_.push_back(client); }
    void drop(std::uint32_t client) { entries_.erase(client); }
    void clear();

    /// Of what was counted, at least one update; into sums.memory(). No update's share of `sums` may be smaller than
    /// it was when it was checked.
    void mean(Accumulator& sums, const NormBound& bound) const;

private:
    /// What both ends know of a round's updates.
    struct Agreed {
        std::vector<float> steps;
        std::optional<Expectation> expectation;
    };
    Terms terms_of(const WeightedReport& report) const;

    const Codec& codec_;
    std::uint32_t seed_;
    std::uint32_t round_ = 0;
    std::map<std::uint32_t, Agreed> rounds_;
    std::map<std::uint32_t, Entry> entries_;  ///< of clients
    std::vector<std::uint32_t> counted_;
};

}  // namespace dither
