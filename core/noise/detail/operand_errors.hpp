// The errors that rounding one layer's operands to the target bits makes, over a calibration set. Private to
// core/noise.
#pragma once

#include "core/layers/layer.hpp"
#include "core/model/model.hpp"
#include "core/quantize/quantizer.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace dither {

struct QuantizeOptions;
class Dataset;
struct Batch;

/// Rounds to nearest integer codes, with the schemes of the layer's options. Ranges are exact, whatever the batches:
/// a first pass finds the range of the inputs over the whole set, a second one rounds with it. The observers percentile
/// and mse find a range of each batch in the first pass, and the second one rounds with their mean; per_sample and
/// per_group schemes take the exact ranges of the batch.
class OperandErrors {
public:
    OperandErrors(const QuantizeOptions& options, int bits);

    /// First pass.
    void observe(const Operands& operands);
    /// Second pass: Q(w) - w and Q(x) - x, until the next call of either.
    std::span<const float> of_weights(const Operands& operands);
    std::span<const float> of_inputs(const Operands& operands);
    /// [output channels], the scale of each channel's codes at the last of_weights; the root mean square of several.
    std::vector<float> weight_steps(std::size_t channels) const;
    /// The mean square of the inputs' scales at the last of_inputs.
    double squared_input_step() const;

private:
    std::span<const float> round(Quantizer& quantizer, std::span<const float> x, const QuantLayout& layout,
                                 bool update_range);
    bool holds_range() const;
    void widen_range(const Operands& operands);
    void add_range(const Operands& operands);
    void hold_range();

    int bits_;
    Quantizer weights_;
    Quantizer inputs_;                 ///< minmax
    std::optional<Quantizer> search_;  ///< of the inputs, where the observer is percentile or mse
    std::vector<ClipRange> range_;     ///< of the first pass: of all inputs, or the sum of the batches'
    std::size_t batches_ = 0;          ///< of the first pass
    bool held_ = false;                ///< inputs_ knows the range
    std::vector<float> errors_;
};

/// sum, sum of squares: values are added one after the other, so that it does not matter how they come.
struct MomentSums {
    std::uint64_t count = 0;
    double sum = 0;
    double squares = 0;

    void add(std::span<const float> values);
    double mean() const { return sum / static_cast<double>(count); }
    double variance() const;  ///< divided by count
};

/// The same for each channel of [rows, channels].
std::vector<MomentSums> channel_moments(std::span<const float> values, std::size_t channels);

/// Shows `visitor` the operands of every layer with products, for the samples at `indices` in batches of the model's
/// largest: the network as it is, in fp32 and without noise.
void visit_operands(Model& model, const Dataset& data, std::span<const std::uint32_t> indices, Batch& batch,
                    const OperandVisitor& visitor);

}  // namespace dither
