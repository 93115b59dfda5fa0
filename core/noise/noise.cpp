#include "core/noise/noise.hpp"

#include "core/noise/detail/kinds.hpp"

#include <array>

namespace dither {
namespace {

using Maker = std::unique_ptr<Noise> (*)(const NoiseOptions&);

std::unique_ptr<Noise> make_none(const NoiseOptions&) {
    return nullptr;
}

constexpr std::array kKinds{
    ChoiceRow<Maker>{"none", "the weights as they are", make_none},
    ChoiceRow<Maker>{"gaussian", "normal, of standard deviation noise.sigma", make_gaussian},
    ChoiceRow<Maker>{"xi", "normal, of standard deviation 4/3 * 1e-4 * noise.xi_scaling", make_xi},
    ChoiceRow<Maker>{"differential",
                     "the difference of two imitations of each channel's rounding error at noise.bits, without bias",
                     make_differential},
    ChoiceRow<Maker>{"naive", "one imitation of it, bias included: the control", make_naive},
    ChoiceRow<Maker>{"dither", "uniform over a step of each channel's codes at noise.bits", make_dither},
};

}  // namespace

std::vector<Choice> noise_choices() {
    return choices_of(kKinds);
}

std::unique_ptr<Noise> make_noise(const NoiseOptions& options) {
    return choose(kKinds, "noise.kind", options.kind)(options);
}

}  // namespace dither
