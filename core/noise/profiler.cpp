#include "core/noise/profiler.hpp"

#include "core/data/holdout.hpp"
#include "core/error.hpp"
#include "core/noise/detail/operand_errors.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

namespace dither {
namespace {

/// One layer's errors over the calibration set.
struct LayerSums {
    explicit LayerSums(const QuantizeOptions& options, int bits) : errors(options, bits) {}

    void add(const Operands& operands) {
        if (weights.empty()) {  // they are the same in every batch
            const std::size_t channels = operands.weight_layout.columns;
            weights = channel_moments(errors.of_weights(operands), channels);
            weight_steps = errors.weight_steps(channels);
        }
        const std::size_t values = operands.inputs.size();
        inputs.add(errors.of_inputs(operands));
        squared_input_steps += errors.squared_input_step() * static_cast<double>(values);
    }

    LayerProfile profile() const {
        LayerProfile profile;
        for (const MomentSums& channel : weights) {
            profile.weight_mean.push_back(static_cast<float>(channel.mean()));
            profile.weight_deviation.push_back(static_cast<float>(std::sqrt(channel.variance())));
        }
        profile.weight_step = weight_steps;
        profile.activation_mean = static_cast<float>(inputs.mean());
        profile.activation_deviation = static_cast<float>(std::sqrt(inputs.variance()));
        profile.activation_step =
            static_cast<float>(std::sqrt(squared_input_steps / static_cast<double>(inputs.count)));
        return profile;
    }

    OperandErrors errors;
    std::vector<MomentSums> weights;
    std::vector<float> weight_steps;
    MomentSums inputs;
    double squared_input_steps = 0;
};

float blended(float past, float now, float memory) {
    return memory * past + (1 - memory) * now;
}

/// Of deviations, whose squares are averaged.
float blended_deviation(float past, float now, float memory) {
    return std::sqrt(blended(past * past, now * now, memory));
}

}  // namespace

bool needs_profiles(const NoiseOptions& options) {
    const std::unique_ptr<Noise> noise = make_noise(options);
    return options.drop_in > 0 || (noise != nullptr && noise->profiled());
}

void check_calibration(const NoiseOptions& options, std::uint32_t client, std::size_t samples) {
    if (samples < options.calibration && needs_profiles(options))
        throw InputError(
            fmt::format("noise.calibration: profiles are measured on {} samples, but client {} has {}; "
                        "give it {} or less, or the client more samples",
                        options.calibration, client, samples, samples));
}

void check_calibration(const NoiseOptions& options, const Partition& partition, double holdout) {
    if (!needs_profiles(options))
        return;
    for (std::uint32_t client = 0; client < partition.clients(); ++client)
        check_calibration(options, client, trained_count(partition.size_of(client), holdout));
}

NoiseProfiler::NoiseProfiler(const NoiseOptions& options, const QuantizeOptions& quantize, const Model& model)
    : options_(options), needed_(needs_profiles(options)) {
    if (!needed_)
        return;
    for (const LayerSpec& layer : model.schema().layers())
        quantize_.push_back(options_for(quantize, layer.name));
    begin();
}

void NoiseProfiler::begin() {
    profiles_.assign(quantize_.size(), {});
}

void NoiseProfiler::measure(Model& model, const Dataset& data, std::span<const std::uint32_t> indices,
                            const StreamKey& key) {
    check_calibration(options_, key.client, indices.size());
    order_.assign(indices.begin(), indices.end());
    Stream(key.with(Purpose::shuffle, kCalibrationLane)).shuffle(order_);
    const auto samples = std::span(std::as_const(order_)).first(options_.calibration);

    std::vector<std::optional<LayerSums>> layers(quantize_.size());
    visit_operands(model, data, samples, batch_, [&](const Operands& operands) {
        std::optional<LayerSums>& layer = layers.at(operands.layer);
        if (!layer)
            layer.emplace(quantize_[operands.layer], options_.bits);
        layer->errors.observe(operands);
    });
    visit_operands(model, data, samples, batch_,
                   [&](const Operands& operands) { layers[operands.layer]->add(operands); });
    for (std::size_t i = 0; i < layers.size(); ++i)
        if (layers[i])
            blend(profiles_[i], layers[i]->profile());
}

void NoiseProfiler::blend(LayerProfile& past, const LayerProfile& now) const {
    if (past.empty()) {
        past = now;
        return;
    }
    const auto memory = static_cast<float>(options_.smoothing);
    for (std::size_t c = 0; c < past.weight_mean.size(); ++c) {
        past.weight_mean[c] = blended(past.weight_mean[c], now.weight_mean[c], memory);
        past.weight_deviation[c] = blended_deviation(past.weight_deviation[c], now.weight_deviation[c], memory);
        past.weight_step[c] = blended(past.weight_step[c], now.weight_step[c], memory);
    }
    past.activation_mean = blended(past.activation_mean, now.activation_mean, memory);
    past.activation_deviation = blended_deviation(past.activation_deviation, now.activation_deviation, memory);
    past.activation_step = blended(past.activation_step, now.activation_step, memory);
}

}  // namespace dither
