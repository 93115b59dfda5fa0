#include "core/noise/errors.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/noise/detail/operand_errors.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

namespace dither {
namespace {

/// Bins of the distribution function within one of the histogram's.
constexpr std::size_t kFine = 128;
constexpr std::size_t kFineBins = kErrorBins * kFine;

double normal_below(double z) {
    return 0.5 * std::erfc(-z / std::numbers::sqrt2);
}

/// Where fine bin `index` begins; bin 0 begins at -kErrorSpan.
double edge(std::size_t index) {
    return kErrorSpan * (2 * static_cast<double>(index) / kFineBins - 1);
}

/// Of standardized errors.
class Histogram {
public:
    Histogram() : bins_(kFineBins + 2) {}

    void add(double z) {
        const double place = (z / kErrorSpan + 1) / 2 * kFineBins;
        ++bins_[place < 0 ? 0 : place >= kFineBins ? kFineBins + 1 : static_cast<std::size_t>(place) + 1];
        ++count_;
        cubes_ += z * z * z;
        fourths_ += z * z * z * z;
    }

    void describe(ErrorDistribution& out) const {
        out.standardized = count_;
        if (count_ == 0)
            return;
        const auto count = static_cast<double>(count_);
        out.skewness = cubes_ / count;
        out.excess_kurtosis = fourths_ / count - 3;
        out.share.assign(kErrorBins + 2, 0);
        out.normal_share.assign(kErrorBins + 2, 0);
        out.share.front() = static_cast<double>(bins_.front()) / count;
        out.share.back() = static_cast<double>(bins_.back()) / count;
        out.normal_share.front() = out.normal_share.back() = normal_below(-kErrorSpan);
        double below = out.share.front();
        out.kolmogorov = std::abs(below - normal_below(-kErrorSpan));
        for (std::size_t i = 0; i < kFineBins; ++i) {
            const double share = static_cast<double>(bins_[i + 1]) / count;
            below += share;
            out.share[i / kFine + 1] += share;
            out.kolmogorov = std::max(out.kolmogorov, std::abs(below - normal_below(edge(i + 1))));
        }
        for (std::size_t i = 0; i < kErrorBins; ++i)
            out.normal_share[i + 1] = normal_below(edge((i + 1) * kFine)) - normal_below(edge(i * kFine));
    }

private:
    std::vector<std::uint64_t> bins_;  ///< below the span, within it, above it
    std::uint64_t count_ = 0;
    double cubes_ = 0;
    double fourths_ = 0;
};

/// One layer, over the passes.
class Measurement {
public:
    Measurement(const QuantizeOptions& options, int bits) : errors_(options, bits) {}

    void find_range(const Operands& operands) { errors_.observe(operands); }

    void sum(const Operands& operands) {
        if (weights_.count == 0)
            sum_weights(operands);
        inputs_.add(operands.inputs);
        input_errors_.add(errors_.of_inputs(operands));
    }

    void sort(const Operands& operands) {
        const double mean = input_errors_.mean();
        const double deviation = std::sqrt(input_errors_.variance());
        if (deviation == 0)
            return;
        for (const float error : errors_.of_inputs(operands))
            input_histogram_.add((static_cast<double>(error) - mean) / deviation);
    }

    LayerErrors result(std::size_t layer, const std::string& name) const {
        LayerErrors result{.layer = layer,
                           .name = name,
                           .weights = distribution(weight_errors_, weight_histogram_),
                           .activations = distribution(input_errors_, input_histogram_),
                           .weight_rms = rms(weights_),
                           .activation_rms = rms(inputs_),
                           .weight_error_rms = rms(weight_errors_),
                           .activation_error_rms = rms(input_errors_)};
        result.absolute_ratio = result.activation_error_rms / result.weight_error_rms;
        result.relative_ratio = result.absolute_ratio * result.weight_rms / result.activation_rms;
        return result;
    }

private:
    /// They are the same in every batch.
    void sum_weights(const Operands& operands) {
        weights_.add(operands.weights);
        const std::span<const float> errors = errors_.of_weights(operands);
        weight_errors_.add(errors);
        const std::size_t channels = operands.weight_layout.columns;
        const std::vector<MomentSums> moments = channel_moments(errors, channels);
        for (std::size_t i = 0; i < errors.size(); ++i) {
            const MomentSums& channel = moments[i % channels];
            const double deviation = std::sqrt(channel.variance());
            if (deviation > 0)
                weight_histogram_.add((static_cast<double>(errors[i]) - channel.mean()) / deviation);
        }
    }

    static ErrorDistribution distribution(const MomentSums& errors, const Histogram& histogram) {
        ErrorDistribution result;
        result.count = errors.count;
        result.mean = errors.mean();
        result.deviation = std::sqrt(errors.variance());
        histogram.describe(result);
        return result;
    }

    static double rms(const MomentSums& values) {
        return std::sqrt(values.squares / static_cast<double>(values.count));
    }

    OperandErrors errors_;
    MomentSums weights_;
    MomentSums weight_errors_;
    MomentSums inputs_;
    MomentSums input_errors_;
    Histogram weight_histogram_;
    Histogram input_histogram_;
};

}  // namespace

std::vector<LayerErrors> measure_errors(Model& model, const Dataset& data, std::span<const std::uint32_t> indices,
                                        const QuantizeOptions& quantize, int bits) {
    require(!indices.empty(), "rounding errors are measured on samples, got none");
    const std::span<const LayerSpec> layers = model.schema().layers();
    std::vector<std::optional<Measurement>> measurements(layers.size());
    Batch batch;
    visit_operands(model, data, indices, batch, [&](const Operands& operands) {
        std::optional<Measurement>& measurement = measurements.at(operands.layer);
        if (!measurement)
            measurement.emplace(options_for(quantize, layers[operands.layer].name), bits);
        measurement->find_range(operands);
    });
    visit_operands(model, data, indices, batch,
                   [&](const Operands& operands) { measurements[operands.layer]->sum(operands); });
    visit_operands(model, data, indices, batch,
                   [&](const Operands& operands) { measurements[operands.layer]->sort(operands); });
    std::vector<LayerErrors> results;
    for (std::size_t i = 0; i < measurements.size(); ++i)
        if (measurements[i])
            results.push_back(measurements[i]->result(i, layers[i].name));
    return results;
}

}  // namespace dither
