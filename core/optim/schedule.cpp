#include "core/optim/schedule.hpp"

#include "core/config.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dither {
namespace {

using Shape = double (*)(const ScheduleOptions&, const RunPosition&);

double constant(const ScheduleOptions&, const RunPosition&) {
    return 1;
}

/// base^exponent by squaring: the C library's pow has variants whose last bits differ.
double power(double base, std::uint64_t exponent) {
    double result = 1;
    for (; exponent > 0; exponent /= 2, base *= base)
        result *= exponent % 2 == 1 ? base : 1;
    return result;
}

double steps(const ScheduleOptions& options, const RunPosition& position) {
    constexpr double kMostSteps = 1 << 30;
    const double taken = std::floor(position.round / options.every_rounds);
    return power(options.factor, static_cast<std::uint64_t>(std::min(taken, kMostSteps)));
}

double cosine(const ScheduleOptions& options, const RunPosition& position) {
    const double length = position.rounds - options.warmup_rounds;
    const double past = position.round - options.warmup_rounds;
    const double t = past <= 0 || length <= 0 ? 0 : std::min(past / length, 1.0);
    return options.floor + (1 - options.floor) * half_cosine(1 - t);
}

constexpr std::array kSchedules{
    ChoiceRow<Shape>{"constant", "as it is", constant},
    ChoiceRow<Shape>{"step", "multiplied by schedule.factor every so many rounds", steps},
    ChoiceRow<Shape>{"cosine", "down to schedule.floor along half a cosine", cosine},
};

}  // namespace

std::vector<Choice> schedule_choices() {
    return choices_of(kSchedules);
}

double learning_rate_factor(const ScheduleOptions& options, const RunPosition& position) {
    const double factor = choose(kSchedules, "train.schedule.kind", options.kind)(options, position);
    const double warm = position.round + position.step;
    return warm < options.warmup_rounds ? factor * (warm / options.warmup_rounds) : factor;
}

}  // namespace dither
