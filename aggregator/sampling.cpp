#include "aggregator/sampling.hpp"

#include "core/error.hpp"
#include "core/random_subset.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <utility>

namespace dither {

namespace {

constexpr std::uint32_t kEligibleLane = 2;  // 0: of all clients, 1: the controller's

/// Uniform in [0, bound): 64 bits, cut to as many as bound - 1 has, until they are below it.
std::uint64_t below(Stream& stream, std::uint64_t bound) {
    const int surplus = std::countl_zero((bound - 1) | 1);
    for (;;) {
        const std::uint64_t high = stream();
        if (const std::uint64_t value = (high << 32 | stream()) >> surplus; value < bound)
            return value;
    }
}

std::size_t lowest_bit(std::size_t i) {
    return i & (~i + 1);
}

}  // namespace

std::vector<std::uint32_t> sample_uniform(std::uint32_t clients, std::uint32_t count, std::uint32_t seed,
                                          std::uint32_t round, std::uint32_t lane) {
    Stream stream(StreamKey{.seed = seed, .purpose = Purpose::sampling, .round = round, .lane = lane});
    return random_subset(stream, clients, count);
}

double scaled_up(std::uint32_t count, double factor) {
    constexpr double kTolerance = 1e-9;  // relative: far over the rounding of a product, far under one client
    return std::ceil(count * factor * (1 - kTolerance));
}

std::uint32_t asked_in_a_round(const FederationOptions& federation) {
    const double wanted = scaled_up(federation.cohort, federation.over_select);
    return static_cast<std::uint32_t>(std::min<double>(wanted, federation.clients));
}

std::vector<std::uint32_t> clients_of_round(const Job& job, std::uint32_t round) {
    return sample_uniform(job.federation.clients, asked_in_a_round(job.federation), job.job.seed, round);
}

WeightTree::WeightTree(std::vector<std::uint64_t> weights) : sums_(std::move(weights)) {
    for (const std::uint64_t weight : sums_)
        total_ += weight;
    for (std::size_t i = 1; i <= sums_.size(); ++i)
        if (const std::size_t parent = i + lowest_bit(i); parent <= sums_.size())
            sums_[parent - 1] += sums_[i - 1];
}

std::uint32_t WeightTree::item_at(std::uint64_t position) const {
    require(position < total_, "position {} in weights of {}", position, total_);
    std::size_t at = 0;  // so many items lie before it
    for (std::size_t step = std::bit_floor(sums_.size()); step > 0; step /= 2)
        if (at + step <= sums_.size() && sums_[at + step - 1] <= position) {
            at += step;
            position -= sums_[at - 1];
        }
    return static_cast<std::uint32_t>(at);
}

std::uint64_t WeightTree::weight_of(std::uint32_t item) const {
    const std::size_t i = std::size_t{item} + 1;
    std::uint64_t weight = sums_[i - 1];
    for (std::size_t child = 1; child < lowest_bit(i); child *= 2)
        weight -= sums_[i - child - 1];
    return weight;
}

void WeightTree::take_out(std::uint32_t item, std::uint64_t weight) {
    put_back(item, ~weight + 1);
}

void WeightTree::put_back(std::uint32_t item, std::uint64_t weight) {
    total_ += weight;
    for (std::size_t i = std::size_t{item} + 1; i <= sums_.size(); i += lowest_bit(i))
        sums_[i - 1] += weight;
}

ClientSampler::ClientSampler(const FederationOptions& federation, std::uint32_t seed, const SamplesOf& samples_of)
    : clients_(federation.clients), seed_(seed) {
    if (federation.sampling != "samples")
        return;
    require(samples_of != nullptr, "clients are drawn by samples that nobody knows");
    std::vector<std::uint64_t> weights(clients_);
    for (std::uint32_t client = 0; client < clients_; ++client)
        weights[client] = samples_of(client);
    weights_.emplace(std::move(weights));
}

std::vector<std::uint32_t> ClientSampler::draw(std::uint32_t round, std::uint32_t draw, std::uint32_t count,
                                               const Eligible& eligible) {
    Stream stream({.seed = seed_, .purpose = Purpose::sampling, .round = round, .step = draw, .lane = kEligibleLane});
    return weights_ ? draw_weighted(stream, count, eligible) : draw_uniform(stream, count, eligible);
}

/// Draws among all, of which most are eligible as a rule; where that fails too often, among those that are.
std::vector<std::uint32_t> ClientSampler::draw_uniform(Stream& stream, std::uint32_t count,
                                                       const Eligible& eligible) const {
    constexpr std::uint64_t kTriesEach = 16;
    std::vector<std::uint32_t> drawn;
    std::set<std::uint32_t> chosen;
    for (std::uint64_t tries = 0; drawn.size() < count && tries < kTriesEach * count; ++tries)
        if (const std::uint32_t client = stream.below(clients_); eligible(client) && chosen.insert(client).second)
            drawn.push_back(client);
    if (drawn.size() == count)
        return drawn;
    std::vector<std::uint32_t> left;
    for (std::uint32_t client = 0; client < clients_; ++client)
        if (eligible(client) && !chosen.contains(client))
            left.push_back(client);
    stream.shuffle(left);
    left.resize(std::min<std::size_t>(left.size(), count - drawn.size()));
    drawn.insert(drawn.end(), left.begin(), left.end());
    return drawn;
}

std::vector<std::uint32_t> ClientSampler::draw_weighted(Stream& stream, std::uint32_t count, const Eligible& eligible) {
    std::vector<std::uint32_t> drawn;
    std::vector<std::pair<std::uint32_t, std::uint64_t>> taken;
    while (drawn.size() < count && weights_->total() > 0) {
        const std::uint32_t client = weights_->item_at(below(stream, weights_->total()));
        const std::uint64_t weight = weights_->weight_of(client);
        taken.emplace_back(client, weight);
        weights_->take_out(client, weight);
        if (eligible(client))
            drawn.push_back(client);
    }
    for (const auto& [client, weight] : taken)
        weights_->put_back(client, weight);
    return drawn;
}

}  // namespace dither
