#include "core/compute/backend.hpp"

#include "core/compute/eigen_backend.hpp"
#include "core/compute/onednn_backend.hpp"
#include "core/config.hpp"
#include "core/error.hpp"

#include <array>

namespace dither {
namespace {

using Maker = std::unique_ptr<Backend> (*)();

std::unique_ptr<Backend> make_fastest_eigen() {
    return make_eigen_backend(eigen_instruction_sets().back());
}

std::unique_ptr<Backend> make_onednn() {
#ifdef DITHER_WITH_ONEDNN
    return make_onednn_backend();
#else
    throw InputError("compute.backend: this program was built without oneDNN, which needs x86-64 and libdnnl-dev");
#endif
}

/// Measured with AVX2, Eigen's is the faster one; with AVX-512, oneDNN's code is taken to be.
std::unique_ptr<Backend> make_fastest() {
#ifdef DITHER_WITH_ONEDNN
    auto onednn = make_onednn_backend();
    if (onednn->instruction_set() == "avx512")
        return onednn;
#endif
    return make_fastest_eigen();
}

constexpr std::array kBackends{
    ChoiceRow<Maker>{"auto", "the fastest one for this processor", make_fastest},
    ChoiceRow<Maker>{"onednn", "oneDNN's convolutions; x86-64 only", make_onednn},
    ChoiceRow<Maker>{"eigen", "kernels on Eigen's vectors, for the newest instruction set there is",
                     make_fastest_eigen},
};

}  // namespace

void ConvGeometry::check() const {
    require(in_height > 0 && in_width > 0 && in_channels > 0 && out_channels > 0,
            "a convolution of {}x{} images from {} to {} channels: all must be positive", in_height, in_width,
            in_channels, out_channels);
    require(kernel > 0 && stride > 0 && padding >= 0,
            "a convolution's kernel ({}) and stride ({}) must be positive, and its padding ({}) not negative", kernel,
            stride, padding);
    require(groups > 0 && in_channels % groups == 0 && out_channels % groups == 0,
            "a convolution of {} groups: expected a number that divides its {} and {} channels", groups, in_channels,
            out_channels);
    require(in_height + 2 * padding >= kernel && in_width + 2 * padding >= kernel,
            "a {}x{} image with padding {} is smaller than the {}x{} kernel", in_height, in_width, padding, kernel,
            kernel);
}

std::unique_ptr<Product> Backend::bfloat_convolution(const ConvGeometry&, std::int64_t) const {
    return nullptr;
}

std::unique_ptr<IntegerProduct> Backend::integer_linear(std::int64_t in, std::int64_t out,
                                                        std::int64_t max_items) const {
    return make_integer_linear(in, out, max_items);
}

std::unique_ptr<IntegerProduct> Backend::integer_convolution(const ConvGeometry& geometry,
                                                             std::int64_t max_items) const {
    return make_integer_convolution(geometry, max_items);
}

std::vector<Choice> backend_choices() {
    return choices_of(kBackends);
}

std::unique_ptr<Backend> make_backend(const ComputeOptions& options) {
    return choose(kBackends, "compute.backend", options.backend)();
}

}  // namespace dither
