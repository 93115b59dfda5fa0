// mean_k (z_k - t_k)^2; its gradient is 2 (z_k - t_k) / outputs, its Hessian 2 / outputs.
#include "core/error.hpp"
#include "core/model/detail/losses.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

class MeanSquaredError final : public Loss {
public:
    Score evaluate(const Tensor& output, const Targets& targets, Tensor* gradient) const override {
        check_targets(output, targets);
        const std::span<const float> z = output.values();
        const std::span<const float> t = targets.values.values();
        const double outputs = static_cast<double>(output.count()) / static_cast<double>(output.shape()[0]);
        double squares = 0;
        double magnitudes = 0;
        for (std::size_t i = 0; i < z.size(); ++i) {
            const double difference = static_cast<double>(z[i]) - t[i];
            squares += difference * difference;
            magnitudes += std::abs(difference);
        }
        if (gradient != nullptr)
            write_gradient(z, t, output.shape(), *gradient);
        return {.loss = squares / outputs,
                .samples = static_cast<std::uint64_t>(output.shape()[0]),
                .squared_error = squares / outputs,
                .absolute_error = magnitudes / outputs};
    }

    void curvature_product(const Tensor& output, const Targets& targets, const Tensor& direction,
                           Tensor& product) const override {
        check_targets(output, targets);
        require(direction.shape() == output.shape(), "mse: a direction of {} for an output of {}",
                direction.shape().str(), output.shape().str());
        product.resize(output.shape());
        const float scale = 2 / static_cast<float>(output.count());
        std::ranges::transform(direction.values(), product.data(), [=](float value) { return scale * value; });
    }

private:
    static void check_targets(const Tensor& output, const Targets& targets) {
        require(targets.values.shape() == output.shape(), "mse: {} targets for {} outputs", targets.values.count(),
                output.count());
    }

    static void write_gradient(std::span<const float> z, std::span<const float> t, const Shape& shape,
                               Tensor& gradient) {
        gradient.resize(shape);
        const float scale = 2 / static_cast<float>(shape.count());
        for (std::size_t i = 0; i < z.size(); ++i)
            gradient.values()[i] = scale * (z[i] - t[i]);
    }
};

}  // namespace

std::unique_ptr<Loss> make_mse(double) {
    return std::make_unique<MeanSquaredError>();
}

}  // namespace dither
