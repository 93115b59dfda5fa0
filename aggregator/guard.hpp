// Watches for what a round must not do: diverge or saturate. Says so; the server rolls back, the controller raises
// bits.
#pragma once

#include "core/config.hpp"
#include "core/precision/statistics.hpp"

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// Deterministic; a value.
class Guard {
public:
    explicit Guard(const PrecisionOptions& options) : options_(options) {}

    /// Whether rounds are judged at all: guard_loss is not 0.
    bool is_on() const { return options_.guard_loss != 0; }
    /// Why the round cannot be trusted, from its combined training loss: it is above guard_loss times the best one so
    /// far (plus an absolute 1, so that a loss near 0 may double) and above that of the first round, which an untrained
    /// model has, or not finite. Empty: it can, and counts as good. Each refusal doubles what counts as the best, which
    /// is then taken as at least 1 / guard_loss: one cohort whose data were uncommonly easy is forgotten.
    std::string judge(double train_loss);
    /// The layers whose saturation is above guard_saturation.
    std::vector<std::size_t> saturated(std::span<const LayerStatistics> layers) const;

    /// Two numbers, none before the first round.
    std::vector<double> state() const;
    void restore(std::span<const double> state);

private:
    PrecisionOptions options_;
    std::optional<double> best_;
    double first_ = 0;  ///< the first one judged, where there is a best one
};

}  // namespace dither
