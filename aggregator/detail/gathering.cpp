#include "aggregator/detail/gathering.hpp"

#include "core/vector_math.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dither {

bool Gathering::is_needed(const FederationOptions& federation) {
    return federation.aggregation.kind != "mean" || attack_of(federation.attack) != nullptr;
}

Gathering::Gathering(const FederationOptions& federation, std::uint32_t seed, std::size_t parameters)
    : rule_(make_robust_rule(federation)),
      attack_(attack_of(federation.attack)),
      scale_(federation.attack.scale),
      key_{.seed = seed, .purpose = Purpose::attack},
      is_mean_(federation.aggregation.kind == "mean"),
      parameters_(parameters) {
    if (attack_ != nullptr)
        attackers_.emplace(federation, seed);
}

void Gathering::begin(std::uint32_t round, const NormBound& bound) {
    key_.round = round;
    bound_ = bound;
    count_ = 0;
}

std::span<float> Gathering::add(std::uint32_t client, std::uint64_t weight) {
    if (count_ == entries_.size())
        entries_.push_back({.update = std::vector<float>(parameters_)});
    Entry& entry = entries_[count_++];
    entry.client = client;
    entry.weight = weight;
    entry.norm.reset();
    return entry.update;
}

void Gathering::combine(std::span<float> out) {
    const std::span entries = std::span(entries_).first(count_);
    std::ranges::sort(entries, {}, &Entry::client);
    if (attackers_)
        attack();
    if (is_mean_)
        clip();
    std::vector<UpdateRow> rows;
    std::vector<std::uint64_t> weights;
    for (const Entry& entry : entries) {
        rows.push_back(entry.update);
        weights.push_back(entry.weight);
    }
    Cohort cohort(std::move(rows), std::move(weights));
    rule_->combine(cohort, out);
}

std::optional<double> Gathering::norm_of(std::uint32_t client) const {
    const std::span entries = std::span(entries_).first(count_);
    const auto entry = std::ranges::lower_bound(entries, client, {}, &Entry::client);
    return entry != entries.end() && entry->client == client ? entry->norm : std::nullopt;
}

void Gathering::attack() {
    AttackedRound round{.honest = {}, .lies = {}, .scale = scale_, .key = key_};
    for (Entry& entry : std::span(entries_).first(count_))
        if (attackers_->contains(entry.client))
            round.lies.push_back({entry.client, entry.update});
        else
            round.honest.push_back(entry.update);
    attack_(round);
}

void Gathering::clip() {
    for (Entry& entry : std::span(entries_).first(count_)) {
        entry.norm = std::sqrt(squared_norm(entry.update));
        const auto share = static_cast<float>(bound_.share(*entry.norm));
        if (share < 1)
            for (float& value : entry.update)
                value *= share;
    }
}

}  // namespace dither
