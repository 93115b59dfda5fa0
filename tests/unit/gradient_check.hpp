// The one gradient checker: analytic gradients against central differences of a scalar that is accumulated in double.
//
//     dL/dv_i ~ (L(v_i + h) - L(v_i - h)) / (2 h)
//
// A layer's output is made a scalar by a fixed random projection, L = sum_j r_j y_j, so that dL/dy = r.
#pragma once

#include "core/layers/layer.hpp"
#include "core/rng.hpp"
#include "core/tensor.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace dither::testing {

/// Standard normal values; `lane` tells tensors of one test apart.
inline Tensor random_tensor(const Shape& shape, std::uint32_t lane) {
    Tensor tensor(shape);
    Stream({.seed = 20, .lane = lane}).fill_normal(tensor.values());
    return tensor;
}

/// max_i |analytic_i - numeric_i| / max_j |numeric_j|: relative to the largest, so that rounding in tiny entries does
/// not count. `loss()` sees the change of `variables`, which are left as they were.
template <typename Loss>
double worst_gradient_error(std::span<float> variables, std::span<const float> analytic, float step, Loss&& loss) {
    double largest = 1e-6;
    double worst = 0;
    for (std::size_t i = 0; i < variables.size(); ++i) {
        const float kept = variables[i];
        const float right = kept + step;
        const float left = kept - step;
        variables[i] = right;
        const double above = loss();
        variables[i] = left;
        const double below = loss();
        variables[i] = kept;
        const double numeric = (above - below) / (static_cast<double>(right) - left);
        largest = std::max(largest, std::fabs(numeric));
        worst = std::max(worst, std::fabs(numeric - analytic[i]));
    }
    return worst / largest;
}

struct LayerGradientErrors {
    double input = 0;
    double parameters = 0;
};

/// Checks dx and the gradients of the layer's parameters at `x`, under `pass` (null plan: fp32). Binds the layer to
/// parameters of its own, standard normal times 0.5.
inline LayerGradientErrors check_layer(Layer& layer, Tensor x, float step = 0.01F, const Pass& pass = {}) {
    std::int64_t count = 0;
    for (const ParameterSpec& parameter : layer.parameters())
        count += parameter.shape.count();
    Tensor values = random_tensor({count}, 100);
    for (float& value : values.values())
        value *= 0.5F;
    Tensor gradients({count});
    if (count > 0)
        layer.attach(0, values.values(), gradients.values());

    Tensor y;
    layer.forward(x, y, pass);
    const Tensor projection = random_tensor(y.shape(), 101);
    Tensor dx;
    layer.backward(x, y, projection, &dx, pass);
    const auto loss = [&] {
        layer.forward(x, y, pass);
        double sum = 0;
        for (std::size_t j = 0; j < y.values().size(); ++j)
            sum += static_cast<double>(y.values()[j]) * projection.values()[j];
        return sum;
    };
    return {.input = worst_gradient_error(x.values(), dx.values(), step, loss),
            .parameters = worst_gradient_error(values.values(), gradients.values(), step, loss)};
}

}  // namespace dither::testing
