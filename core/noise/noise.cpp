#include "core/noise/noise.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/noise/gaussian.hpp"

namespace dither {
namespace {

constexpr double kXi = 4.0 / 3.0 * 1e-4;

}  // namespace

std::unique_ptr<Noise> make_noise(const NoiseOptions& options) {
    if (options.kind == "none")
        return nullptr;
    if (options.kind == "gaussian")
        return make_gaussian(options.sigma);
    if (options.kind == "xi")
        return make_gaussian(kXi * options.xi_scaling);
    throw InputError(fmt::format("noise.kind = \"{}\": expected none, gaussian or xi", options.kind));
}

}  // namespace dither
