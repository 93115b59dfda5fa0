// Stochastic weight averaging: the mean of the global models of many rounds lies in a wider minimum than any of them
// (Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging weights leads to wider optima and better generalization",
// UAI 2018). Private to the aggregator.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// A running mean of models; takes no memory before the first.
class ModelAverage {
public:
    /// mean <- mean + (model - mean) / n for the n-th model, in floats, parameter by parameter. Running statistics of
    /// batch norm are averaged like all others.
    void add(std::span<const float> model);
    /// Empty before the first model.
    std::span<const float> model() const { return mean_; }
    std::uint32_t rounds() const { return rounds_; }

    void restore(std::span<const float> mean, std::uint32_t rounds);

private:
    std::vector<float> mean_;
    std::uint32_t rounds_ = 0;
};

}  // namespace dither
