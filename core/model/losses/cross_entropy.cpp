// -log softmax(z)[label] = log(sum_k e^(z_k - m)) - (z_label - m) with m = max z, so that no exponential overflows;
// its gradient is softmax(z) - onehot(label). The exponentials are the same on every processor, and with them the
// gradient; the logarithm, the C library's, reaches the reported loss alone.
#include "core/error.hpp"
#include "core/model/detail/losses.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

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
        std::vector<float> scratch;
        Score score{.samples = static_cast<std::uint64_t>(batch)};
        for (std::int64_t i = 0; i < batch; ++i) {
            const std::span<const float> z = output.item(i);
            const std::int32_t label = targets.labels[static_cast<std::size_t>(i)];
            require(label >= 0 && static_cast<std::size_t>(label) < z.size(), "cross_entropy: label {} of {} classes",
                    label, z.size());
            const auto top = std::ranges::max_element(z);
            if (gradient == nullptr)
                scratch.resize(z.size());
            const std::span<float> powers = gradient == nullptr ? std::span(scratch) : gradient->item(i);
            const double total = exponentials_above(*top, z, powers);
            score.loss += std::log(total) - (z[label] - *top);
            score.correct += top - z.begin() == label;
            if (gradient != nullptr)
                finish_gradient(total, label, batch, powers);
        }
        return score;
    }

private:
    /// out = e^(z - top); returns their sum.
    static double exponentials_above(float top, std::span<const float> z, std::span<float> out) {
        std::ranges::transform(z, out.begin(), [=](float value) { return value - top; });
        exponentials(out, out);
        return std::accumulate(out.begin(), out.end(), 0.0);
    }

    /// Of one sample, from its exponentials.
    static void finish_gradient(double total, std::int32_t label, std::int64_t batch, std::span<float> gradient) {
        const double scale = 1 / (total * static_cast<double>(batch));
        for (float& value : gradient)
            value = static_cast<float>(value * scale);
        gradient[label] -= 1 / static_cast<float>(batch);
    }
};

}  // namespace

std::unique_ptr<Loss> make_cross_entropy() {
    return std::make_unique<CrossEntropy>();
}

}  // namespace dither
