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
};

}  // namespace

std::vector<Choice> noise_choices() {
    return choices_of(kKinds);
}

std::unique_ptr<Noise> make_noise(const NoiseOptions& options) {
    return choose(kKinds, "noise.kind", options.kind)(options);
}

}  // namespace dither
