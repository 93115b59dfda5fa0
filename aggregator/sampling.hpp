// Which clients a round asks.
#pragma once

#include "core/config.hpp"
#include "core/rng.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace dither {

/// `count` different clients out of `clients`, uniformly (Floyd 1987), ascending: a pure function of its arguments.
/// `lane` tells draws of one round apart. Memory grows with count, not with clients. count <= clients.
std::vector<std::uint32_t> sample_uniform(std::uint32_t clients, std::uint32_t count, std::uint32_t seed,
                                          std::uint32_t round, std::uint32_t lane = 0);

/// count * factor, rounded up, where a product that only floating point keeps from being whole counts as whole:
/// 100 * 1.1 is 110, not 111.
double scaled_up(std::uint32_t count, double factor);

/// How many clients a synchronous round asks: cohort * over_select, rounded up, but never more than there are.
std::uint32_t asked_in_a_round(const FederationOptions& federation);
/// These clients, where each has the same chance and all are available; ascending.
std::vector<std::uint32_t> clients_of_round(const Job& job, std::uint32_t round);

/// Weights of items, of which one can be drawn in proportion in O(log items), and be taken out (Fenwick, "A new data
/// structure for cumulative frequency tables", 1994). 8 bytes an item. Their sum is below 2^64.
class WeightTree {
public:
    explicit WeightTree(std::vector<std::uint64_t> weights);

    std::uint64_t total() const { return total_; }
    /// The item at `position` < total() when each takes as much room as it weighs, one behind the other.
    std::uint32_t item_at(std::uint64_t position) const;
    std::uint64_t weight_of(std::uint32_t item) const;
    void take_out(std::uint32_t item, std::uint64_t weight);
    void put_back(std::uint32_t item, std::uint64_t weight);

private:
    std::vector<std::uint64_t> sums_;  ///< sums_[i - 1]: of the lowbit(i) items that end with item i - 1
    std::uint64_t total_ = 0;
};

/// Draws clients one after the other, without repetition: federation.sampling "uniform", each of those that are left
/// with the same chance; "samples", with a chance in proportion to its samples among those that are left (successive
/// sampling: a large client's share of the cohorts is somewhat less than its share of the samples). Not thread-safe.
/// Memory: 8 bytes a client with "samples", else nothing.
class ClientSampler {
public:
    using SamplesOf = std::function<std::uint64_t(std::uint32_t client)>;
    using Eligible = std::function<bool(std::uint32_t client)>;

    /// `samples_of`: of each client, for "samples" only; called here.
    ClientSampler(const FederationOptions& federation, std::uint32_t seed, const SamplesOf& samples_of);

    /// `count` clients of those that are eligible, fewer only where there are no more; in the order of the draws. A
    /// pure function of (seed, round, draw) and of who is eligible.
    std::vector<std::uint32_t> draw(std::uint32_t round, std::uint32_t draw, std::uint32_t count,
                                    const Eligible& eligible);

private:
    std::vector<std::uint32_t> draw_uniform(Stream& stream, std::uint32_t count, const Eligible& eligible) const;
    std::vector<std::uint32_t> draw_weighted(Stream& stream, std::uint32_t count, const Eligible& eligible);

    std::uint32_t clients_;
    std::uint32_t seed_;
    std::optional<WeightTree> weights_;
};

}  // namespace dither
