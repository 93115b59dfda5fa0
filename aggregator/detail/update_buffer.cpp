#include "aggregator/detail/update_buffer.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace dither {

void UpdateBuffer::begin(std::uint32_t round, GridSteps steps, const Expectation* expectation) {
    for (const std::uint32_t client : std::exchange(counted_, {}))
        entries_.erase(client);
    std::set<std::uint32_t> used;
    for (const auto& [client, entry] : entries_)
        used.insert(entry.report.round);
    std::erase_if(rounds_, [&](const auto& known) { return !used.contains(known.first); });
    round_ = round;
    rounds_[round] = {.steps = {steps.begin(), steps.end()},
                      .expectation = expectation ? std::optional(*expectation) : std::nullopt};
}

void UpdateBuffer::keep(Entry entry) {
    require(entry.report.round == round_, "an update of round {} in round {}", entry.report.round, round_);
    const std::uint32_t client = entry.report.client;
    const bool is_new = entries_.emplace(client, std::move(entry)).second;
    require(is_new, "two updates of client {}", client);
}

const WeightedReport* UpdateBuffer::find(std::uint32_t client) const {
    const auto entry = entries_.find(client);
    return entry == entries_.end() ? nullptr : &entry->second.report;
}

void UpdateBuffer::clear() {
    entries_.clear();
    counted_.clear();
}

Terms UpdateBuffer::terms_of(const WeightedReport& report) const {
    const Agreed& agreed = rounds_.at(report.round);
    return {
        .steps = agreed.steps,
        .key = {.seed = seed_, .purpose = Purpose::uplink_rounding, .client = report.client, .round = report.round},
        .expectation = agreed.expectation ? &*agreed.expectation : nullptr,
    };
}

void UpdateBuffer::mean(Accumulator& sums, const NormBound& bound) const {
    std::map<std::uint32_t, std::vector<const Entry*>> of_round;
    double total = 0;
    for (const std::uint32_t client : counted_) {
        const Entry& entry = entries_.at(client);
        of_round[entry.report.round].push_back(&entry);
        total += static_cast<double>(entry.report.weight);  // whole numbers: exact in any order
    }
    std::vector<double> mean(sums.memory().size());
    for (const auto& [base, entries] : of_round) {
        sums.reset(entries.size());
        for (const Entry* entry : entries)
            sums.add(codec_, terms_of(entry->report), entry->payload, entry->largest, entry->report.weight,
                     bound.counted(entry->report.weight, entry->report.update_norm));
        const double share =
            static_cast<double>(sums.total_weight()) / total / std::sqrt(1.0 + static_cast<double>(round_ - base));
        const std::span<const float> part = sums.mean(codec_, rounds_.at(base).steps);
        for (std::size_t j = 0; j < mean.size(); ++j)
            mean[j] += share * static_cast<double>(part[j]);
    }
    std::ranges::transform(mean, sums.memory().begin(), [](double value) { return static_cast<float>(value); });
}

}  // namespace dither
