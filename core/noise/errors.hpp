// The rounding errors of a trained network against the Gaussian that profiled noise takes them for: the assumptions of
// "DNQ" (arXiv 2511.01462), measured.
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/model.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// Bins of a histogram: so many of equal width over -kErrorSpan .. kErrorSpan deviations, and one beyond either end.
inline constexpr std::size_t kErrorBins = 64;
inline constexpr double kErrorSpan = 4;

/// The errors of one layer's weights or inputs, pooled. `mean` and `deviation` are of the errors; everything below them
/// is of the standardized errors z = (error - mean) / deviation, where inputs have the tensor's mean and deviation and
/// weights those of their output channel, as the noise has. Channels without any error are left out of z.
struct ErrorDistribution {
    std::uint64_t count = 0;
    double mean = 0;
    double deviation = 0;
    std::uint64_t standardized = 0;    ///< how many z there are; 0: nothing below is known
    double skewness = 0;               ///< 0 for a Gaussian
    double excess_kurtosis = 0;        ///< 0 for a Gaussian, -1.2 for a uniform distribution
    double kolmogorov = 0;             ///< largest distance of the distribution functions, to about 0.0005
    std::vector<double> share;         ///< [kErrorBins + 2], from below the span to above it; sums to 1
    std::vector<double> normal_share;  ///< [kErrorBins + 2], what N(0, 1) has there
};

struct LayerErrors {
    std::size_t layer = 0;  ///< place in the schema
    std::string name;
    ErrorDistribution weights;
    ErrorDistribution activations;
    double weight_rms = 0;
    double activation_rms = 0;
    double weight_error_rms = 0;
    double activation_error_rms = 0;
    /// activation_error_rms / weight_error_rms. In the layer's output, x w, the errors appear as x dw and dx w, beside
    /// dx dw: what counts there is each one's size relative to its operand's.
    double absolute_ratio = 0;
    /// (activation_error_rms / activation_rms) / (weight_error_rms / weight_rms): the RMS of dx w over that of x dw,
    /// for errors that are independent of the operands. Ratios are infinite where weights have no error.
    double relative_ratio = 0;
};

/// Rounds the operands of every layer with products to nearest codes of `bits` (2 .. 8), with the layers' schemes in
/// `quantize`, over exact ranges (or by the observers percentile and mse), for the samples at `indices` (at least one):
/// three forward passes in fp32 and without noise. Throws TrainingError on an operand that is not finite.
std::vector<LayerErrors> measure_errors(Model& model, const Dataset& data, std::span<const std::uint32_t> indices,
                                        const QuantizeOptions& quantize, int bits);

}  // namespace dither
