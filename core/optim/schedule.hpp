// The learning rate over a run, as a factor on the optimizer's.
#pragma once

#include "core/choice.hpp"

#include <cstdint>
#include <vector>

namespace dither {

struct ScheduleOptions;

/// Where an optimizer step lies in a run.
struct RunPosition {
    double round = 0;          ///< rounds since the start of the run, before the step; fractions count steps of a round
    double step = 0;           ///< the length of the step, in rounds: 1 / steps of the round
    std::uint32_t rounds = 1;  ///< the length of the run
};

/// The factor on the learning rate of one step:
///   constant  1
///   step      factor^floor(round / every_rounds)
///   cosine    floor + (1 - floor) * (1 + cos(pi * t)) / 2, t from 0 after the warm-up to 1 at the end of the run and
///             after it (Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts)
/// During the first warmup_rounds it is multiplied by (round + step) / warmup_rounds: the first step counts, so it is
/// never 0 (Goyal et al., "Accurate, large minibatch SGD", 2017). The same bits on every processor.
double learning_rate_factor(const ScheduleOptions& options, const RunPosition& position);
std::vector<Choice> schedule_choices();

}  // namespace dither
