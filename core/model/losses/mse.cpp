// mean_k (z_k - t_k)^2; its gradient is 2 (z_k - t_k) / outputs.
#include "core/error.hpp"
#include "core/model/detail/losses.hpp"

namespace dither {
namespace {

class MeanSquaredError final : public Loss {
public:
    Score evaluate(const Tensor& output, const Targets& targets, Tensor* gradient) const override {
        require(targets.values.shape() == output.shape(), "mse: {} targets for {} outputs", targets.values.count(),
                output.count());
        const std::span<const float> z = output.values();
        const std::span<const float> t = targets.values.values();
        const double outputs = static_cast<double>(output.count()) / static_cast<double>(output.shape()[0]);
        double squares = 0;
        for (std::size_t i = 0; i < z.size(); ++i) {
            const double difference = static_cast<double>(z[i]) - t[i];
            squares += difference * difference;
        }
        if (gradient != nullptr)
            write_gradient(z, t, output.shape(), *gradient);
        return {.loss = squares / outputs, .samples = static_cast<std::uint64_t>(output.shape()[0])};
    }

private:
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
