// Runs a converted model: integer products, and codes between them wherever nobody needs more.
#pragma once

#include "core/inference/integer_model.hpp"

#include <memory>

namespace dither {

/// Planned at construction for a batch: weights are unpacked and packed for the processor's units once, and no later
/// call allocates. Not thread-safe; one network for each thread, all of the same model.
///
/// The result has the bits of Model::forward under the plan and with the ranges that the model was converted with, at
/// every instruction set and for every batch: integer sums are exact, and what follows them is the same fp32 operations
/// in the same order. It agrees where the training pass runs on integers too (quantize.execution), and within the
/// rounding of fp32 sums where that is simulated.
class IntegerNetwork {
public:
    /// Throws FormatError where check() does, and where the activations of a batch would take more than 4 GiB.
    IntegerNetwork(const IntegerModel& model, std::int64_t max_batch);
    IntegerNetwork(IntegerNetwork&&) noexcept;
    ~IntegerNetwork();

    const Shape& sample_shape() const;  ///< one item, batch extent 1
    std::int64_t max_batch() const;

    /// x: [batch <= max_batch, ...sample]. The outputs, [batch, outputs]; they hold until the next call. Throws
    /// PreconditionError on another shape and TrainingError on an x that is not finite. Only x is looked at: where
    /// values in between overflow, as they may in a file that nobody trained, the outputs are not finite or wrong,
    /// while a quantized forward pass would throw.
    const Tensor& run(const Tensor& x);

private:
    class Plan;
    std::unique_ptr<Plan> plan_;
};

}  // namespace dither
