// -log softmax(z)[label] = log(sum_k e^(z_k - m)) - (z_label - m) with m = max z, so that no exponential overflows;
// its gradient is softmax(z) - onehot(label). Smoothed by e, the target is t = (1 - e) onehot(label) + e / classes, the
// loss log(sum_k e^(z_k - m)) - sum_k t_k (z_k - m) and the gradient softmax(z) - t. The exponentials are the same on
// every processor, and with them the gradient; the logarithm, the C library's, reaches the reported loss alone.
// The Hessian is diag(p) - p p^T with p = softmax(z), smoothed or not: the target is only in the linear term.
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
    explicit CrossEntropy(double smoothing) : smoothing_(smoothing) {}

    Score evaluate(const Tensor& output, const Targets& targets, Tensor* gradient) const override {
        const std::int64_t batch = output.shape()[0];
        check_labels(batch, targets);
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
            score.loss += std::log(total) - expected_above(*top, z, label);
            score.correct += top - z.begin() == label;
            if (gradient != nullptr)
                finish_gradient(total, label, batch, powers);
        }
        return score;
    }

    void curvature_product(const Tensor& output, const Targets& targets, const Tensor& direction,
                           Tensor& product) const override {
        require(direction.shape() == output.shape(), "cross_entropy: a direction of {} for an output of {}",
                direction.shape().str(), output.shape().str());
        const std::int64_t batch = output.shape()[0];
        check_labels(batch, targets);
        product.resize(output.shape());
        for (std::int64_t i = 0; i < batch; ++i) {
            const std::span<const float> z = output.item(i);
            const std::span<const float> u = direction.item(i);
            const std::span<float> p = product.item(i);
            const double total = exponentials_above(*std::ranges::max_element(z), z, p);
            const double mean = std::inner_product(p.begin(), p.end(), u.begin(), 0.0) / total;  // p^T u
            const double scale = 1 / (total * static_cast<double>(batch));
            for (std::size_t k = 0; k < u.size(); ++k)
                p[k] = static_cast<float>(scale * p[k] * (u[k] - mean));
        }
    }

private:
    static void check_labels(std::int64_t batch, const Targets& targets) {
        require(targets.labels.size() == static_cast<std::size_t>(batch), "cross_entropy: {} labels for {} samples",
                targets.labels.size(), batch);
    }

    /// out = e^(z - top); returns their sum.
    static double exponentials_above(float top, std::span<const float> z, std::span<float> out) {
        std::ranges::transform(z, out.begin(), [=](float value) { return value - top; });
        exponentials(out, out);
        return std::accumulate(out.begin(), out.end(), 0.0);
    }

    /// sum_k t_k (z_k - top).
    double expected_above(float top, std::span<const float> z, std::int32_t label) const {
        const double of_label = z[label] - top;
        if (smoothing_ == 0)
            return of_label;
        const double all =
            std::accumulate(z.begin(), z.end(), 0.0, [=](double sum, float v) { return sum + (v - top); });
        return (1 - smoothing_) * of_label + smoothing_ * all / static_cast<double>(z.size());
    }

    /// Of one sample, from its exponentials.
    void finish_gradient(double total, std::int32_t label, std::int64_t batch, std::span<float> gradient) const {
        const double scale = 1 / (total * static_cast<double>(batch));
        const double spread = smoothing_ / static_cast<double>(gradient.size()) / static_cast<double>(batch);
        for (float& value : gradient)
            value = static_cast<float>(value * scale - spread);
        gradient[label] -= static_cast<float>((1 - smoothing_) / static_cast<double>(batch));
    }

    double smoothing_;
};

}  // namespace

std::unique_ptr<Loss> make_cross_entropy(double label_smoothing) {
    require(label_smoothing >= 0 && label_smoothing < 1, "a label smoothing of {}, expected 0 .. 1", label_smoothing);
    return std::make_unique<CrossEntropy>(label_smoothing);
}

}  // namespace dither
