#include "core/optim/clip.hpp"

#include "core/error.hpp"
#include "core/optim/detail/kernels.hpp"
#include "core/vector_math.hpp"

#include <cmath>

namespace dither {
namespace {

constexpr double kMargin = 1e-6;  // PyTorch's

/// Calls visit(gradients of a layer's trained tensors).
template <typename Visit>
void for_each_trained(const Schema& schema, std::span<float> gradients, const Visit& visit) {
    for (std::size_t i = 0; i < schema.layer_count(); ++i)
        visit(schema.slice(gradients, i).first(schema.layers()[i].trained_count()));
}

}  // namespace

double clip_gradients(const Schema& schema, std::span<float> gradients, double limit) {
    require(gradients.size() == schema.parameters(), "{} gradients to clip, the model has {}", gradients.size(),
            schema.parameters());
    require(limit > 0, "a largest norm of {}", limit);
    double squares = 0;
    for_each_trained(schema, gradients,
                     [&](std::span<float> g) { squares += squared_norm(std::span<const float>(g)); });
    const double norm = std::sqrt(squares);
    if (!std::isfinite(norm) || norm <= limit)
        return norm;
    const auto factor = static_cast<float>(limit / (norm + kMargin));
    for_each_trained(schema, gradients, [&](std::span<float> g) { kernels::multiply(g.data(), g.size(), factor); });
    return norm;
}

}  // namespace dither
