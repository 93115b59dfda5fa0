// What the aggregator makes of the mean update.
//
// To add a strategy: one file in aggregator/strategies/, its constructor in detail/strategies.hpp and one line in
// make_strategy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace dither {

struct StrategyOptions;

/// Deterministic; not thread-safe.
class Strategy {
public:
    virtual ~Strategy() = default;

    /// A client's weight in the mean, from the samples it says it has (>= 1).
    virtual std::uint64_t weight(std::uint64_t samples) const = 0;
    /// The next model, in the place of the mean update.
    virtual void apply(std::span<const float> model, std::span<float> mean_update) = 0;
    /// What a resumed run needs; restore(state()) is the identity.
    virtual std::vector<float> state() const { return {}; }
    virtual void restore(std::span<const float> state);
};

/// fedavg: weight = min(samples, sample_cap); model += server_lr * mean (McMahan et al., "Communication-efficient
/// learning of deep networks from decentralized data", AISTATS 2017, algorithm 1). Throws InputError on an unknown
/// kind.
std::unique_ptr<Strategy> make_strategy(const StrategyOptions& options, std::size_t parameters);

}  // namespace dither
