// -log softmax(z)[label] = log(sum_k e^(z_k - m)) - (z_label - m) with m = max z, so that no exponential overflows;
// its gradient is softmax(z) - onehot(label).
#include "core/error.hpp"
#include "core/model/detail/losses.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

class CrossEntropy final : public Loss {
public:
    Score evaluate(const Tensor& output, const Targets& targets, Tensor* gradient) const override {
        const std::int64_t batch = output.shape()[0];
        require(targets.labels.size() == static_cast<std::size_t>(batch), "cross_entropy: {} labels for {} samples",
                targets.labels.size(), batch);
        if (gradient != nullptr)
            gradient->resize(output.shape());
        Score score{.samples = static_cast<std::uint64_t>(batch)};
        for (std::int64_t i = 0; i < batch; ++i) {
            const std::span<const float> z = output.item(i);
            const std::int32_t label = targets.labels[static_cast<std::size_t>(i)];
            require(label >= 0 && static_cast<std::size_t>(label) < z.size(), "cross_entropy: label {} of {} classes",
                    label, z.size());
            const auto top = std::ranges::max_element(z);
            const double total = sum_of_exponentials(z, *top);
            score.loss += std::log(total) - (z[label] - *top);
            score.correct += top - z.begin() == label;
            if (gradient != nullptr)
                write_gradient(z, *top, total, label, batch, gradient->item(i));
        }
        return score;
    }

private:
    static double sum_of_exponentials(std::span<const float> z, float top) {
        double sum = 0;
        for (const float value : z)
            sum += std::exp(value - top);
        return sum;
    }

    static void write_gradient(std::span<const float> z, float top, double total, std::int32_t label,
                               std::int64_t batch, std::span<float> gradient) {
        const double scale = 1 / (total * static_cast<double>(batch));
        for (std::size_t k = 0; k < z.size(); ++k)
            gradient[k] = static_cast<float>(std::exp(z[k] - top) * scale);
        gradient[label] -= 1 / static_cast<float>(batch);
    }
};

}  // namespace

std::unique_ptr<Loss> make_cross_entropy() {
    return std::make_unique<CrossEntropy>();
}

}  // namespace dither
