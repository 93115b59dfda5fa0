#include "core/noise/noise.hpp"

#include "core/config.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>

namespace dither {
namespace {

/// Of t, the part of the ramp that is over, 0 .. 1.
using Ramp = double (*)(double t);

constexpr std::array kRamps{
    ChoiceRow<Ramp>{"none", "at once", [](double) { return 1.0; }},
    ChoiceRow<Ramp>{"step", "all of it after noise.ramp_rounds", [](double t) { return t < 1 ? 0.0 : 1.0; }},
    ChoiceRow<Ramp>{"linear", "in proportion", [](double t) { return t; }},
    ChoiceRow<Ramp>{"cosine", "along half a cosine", half_cosine},
};

}  // namespace

float noise_strength(const NoiseOptions& options, double round) {
    const Ramp ramp = choose(kRamps, "noise.ramp", options.ramp);
    if (round < options.warmup_rounds)
        return 0;
    return static_cast<float>(ramp(std::min((round - options.warmup_rounds) / options.ramp_rounds, 1.0)));
}

std::vector<Choice> ramp_choices() {
    return choices_of(kRamps);
}

}  // namespace dither
