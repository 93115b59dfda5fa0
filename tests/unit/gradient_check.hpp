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
    bool in_place_agrees = false;  ///< tensors that nobody else sees give the same y and dx as shared ones
};

/// Parameters of a layer's own, with their gradients.
struct OwnParameters {
    Tensor values;
    Tensor gradients;
    std::size_t trained = 0;  ///< the first so many are an optimizer's business

    /// Trained ones are standard normal times 0.5, the others as the layer asks.
    explicit OwnParameters(Layer& layer) {
        const std::vector<ParameterSpec> specs = layer.parameters();
        std::int64_t count = 0;
        for (const ParameterSpec& spec : specs)
            count += spec.shape.count();
        values = random_tensor({count}, 100);
        gradients = Tensor({count});
        auto value = values.values().begin();
        for (const ParameterSpec& spec : specs) {
            trained += spec.trained ? static_cast<std::size_t>(spec.shape.count()) : 0;
            for (std::int64_t i = 0; i < spec.shape.count(); ++i, ++value)
                *value = spec.trained ? 0.5F * *value : spec.constant;
        }
        if (count > 0)
            layer.attach(0, values.values(), gradients.values());
    }
};

/// Checks dx and the gradients of the layer's parameters at `x`, under `pass` (null plan: fp32).
inline LayerGradientErrors check_layer(Layer& layer, Tensor x, float step = 0.01F, const Pass& pass = {}) {
    OwnParameters own(layer);
    const Tensor y = layer.forward(x.share(), pass);
    const Tensor projection = random_tensor(y.shape(), 101);
    const Tensor dx = layer.backward(projection.share(), pass, true);
    const Tensor gradients = own.gradients;
    const auto loss = [&] {
        const Tensor result = layer.forward(x.share(), pass);
        double sum = 0;
        for (std::size_t j = 0; j < result.values().size(); ++j)
            sum += static_cast<double>(result.values()[j]) * projection.values()[j];
        return sum;
    };
    const bool same_y = std::ranges::equal(layer.forward(Tensor(x), pass).values(), y.values());
    const bool same_dx = std::ranges::equal(layer.backward(Tensor(projection), pass, true).values(), dx.values());
    return {.input = worst_gradient_error(x.values(), dx.values(), step, loss),
            .parameters = worst_gradient_error(own.values.values().first(own.trained), gradients.values(), step, loss),
            .in_place_agrees = same_y && same_dx};
}

}  // namespace dither::testing
