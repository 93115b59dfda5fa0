#include "core/compute/backend.hpp"

#include "core/compute/eigen_backend.hpp"
#include "core/config.hpp"

#include <array>

namespace dither {
namespace {

using Maker = std::unique_ptr<Backend> (*)();

std::unique_ptr<Backend> make_fastest_eigen() {
    return make_eigen_backend(eigen_instruction_sets().back());
}

constexpr std::array kBackends{
    ChoiceRow<Maker>{"auto", "the fastest one for this processor", make_fastest_eigen},
    ChoiceRow<Maker>{"eigen", "Eigen's products, for the newest instruction set there is", make_fastest_eigen},
};

}  // namespace

std::vector<Choice> backend_choices() {
    return choices_of(kBackends);
}

std::unique_ptr<Backend> make_backend(const ComputeOptions& options) {
    return choose(kBackends, "compute.backend", options.backend)();
}

}  // namespace dither
