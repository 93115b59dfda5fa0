// Losses: the mean over the batch, and its gradient with respect to the network's output.
#pragma once

#include "core/choice.hpp"
#include "core/data/dataset.hpp"
#include "core/tensor.hpp"

#include <memory>
#include <span>
#include <string_view>

namespace dither {

/// What a network's output says about labelled samples.
struct Score {
    double loss = 0;            ///< summed over the samples
    std::uint64_t correct = 0;  ///< argmax equals the label; 0 for regression
    std::uint64_t samples = 0;
    double squared_error = 0;   ///< of regression: a sample's mean over its outputs, summed over the samples
    double absolute_error = 0;  ///< likewise

    Score& operator+=(const Score& other);
    double mean_loss() const { return samples == 0 ? 0 : loss / static_cast<double>(samples); }
    double accuracy() const { return samples == 0 ? 0 : static_cast<double>(correct) / static_cast<double>(samples); }
};

/// Stateless; may be shared by threads.
class Loss {
public:
    virtual ~Loss() = default;
    /// output: [batch, outputs]. `gradient` (same shape) receives d(mean loss)/d(output); null to skip it.
    virtual Score evaluate(const Tensor& output, const Targets& targets, Tensor* gradient) const = 0;
    /// product (same shape) = H direction, H the Hessian of the mean loss with respect to the output, [batch, outputs]
    /// as `direction` is.
    virtual void curvature_product(const Tensor& output, const Targets& targets, const Tensor& direction,
                                   Tensor& product) const = 0;
};

/// "cross_entropy": -log softmax(output)[label]. "mse": mean over the outputs of (output - target)^2.
/// With `label_smoothing` e, 0 <= e < 1, cross_entropy is that of the target (1 - e) * onehot(label) + e / classes
/// (Szegedy et al., "Rethinking the inception architecture", CVPR 2016; as torch.nn.CrossEntropyLoss): for training;
/// tests measure the plain one. mse has no labels, and no use for it.
/// Throws InputError on another name. To add one: one file in core/model/losses/, its declaration in
/// core/model/detail/losses.hpp, its row in the table of loss.cpp and its line in CMake.
std::unique_ptr<Loss> make_loss(std::string_view name, double label_smoothing = 0);
std::vector<Choice> loss_choices();

}  // namespace dither
