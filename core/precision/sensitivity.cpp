#include "core/precision/sensitivity.hpp"

#include "core/error.hpp"
#include "core/precision/detail/gradients.hpp"
#include "core/quantize/quantizer.hpp"
#include "core/vector_math.hpp"

#include <cmath>
#include <limits>

namespace dither {
namespace {

/// No step of training has this number, so that a probe's rounding is independent of theirs.
constexpr std::uint32_t kProbeStep = std::numeric_limits<std::uint32_t>::max();

/// As a training step would: norms take the statistics of the batch; but nothing is left out, observed or learnt.
Pass pass_under(const PrecisionPlan& plan, const StreamKey& key) {
    return {.plan = &plan, .key = key, .branches = Branches::record};
}

/// ||gain * (gradients - exact)||, gain(j) of layer j. Learned ranges have no gradient in fp32 and take no part: theirs
/// is no error.
template <typename Gain>
double error_of(const Schema& schema, std::span<const float> gradients, std::span<const float> exact,
                const Gain& gain) {
    double sum = 0;
    for (std::size_t j = 0; j < schema.layer_count(); ++j) {
        const QuantError error = quant_error(schema.slice(exact, j), schema.slice(gradients, j));
        sum += error.signal > 0 ? gain(j) * gain(j) * error.error : 0;
    }
    return std::sqrt(sum);
}

double unit_gain(std::size_t) {
    return 1;
}

/// Measures ||gradient under a plan - gradient in fp32||.
class Comparison {
public:
    Comparison(Model& model, const Loss& loss, const Batch& batch, const StreamKey& key, std::vector<float>& exact)
        : model_(model), loss_(loss), batch_(batch), key_(key), exact_(exact) {
        const PrecisionPlan full = PrecisionPlan::uniform(model.schema().layer_count(), kFullBits);
        fill_gradients(model_, loss_, batch_, pass_under(full, key_));
        exact_.assign(model.gradients().begin(), model.gradients().end());
    }

    template <typename Gain>
    double error(const PrecisionPlan& plan, const Gain& gain) {
        fill_gradients(model_, loss_, batch_, pass_under(plan, key_));
        return error_of(model_.schema(), model_.gradients(), exact_, gain);
    }

    double gradient() const { return std::sqrt(squared_norm(std::span<const float>(exact_))); }

private:
    Model& model_;
    const Loss& loss_;
    const Batch& batch_;
    StreamKey key_;
    std::vector<float>& exact_;
};

/// `plan` with one phase alone, fp32 in the others.
PrecisionPlan only(const PrecisionPlan& plan, Phase phase) {
    PrecisionPlan one = PrecisionPlan::uniform(plan.layers.size(), kFullBits);
    for (std::size_t i = 0; i < plan.layers.size(); ++i)
        one.layers[i][phase] = plan.layers[i][phase];
    return one;
}

}  // namespace

void SensitivityProbe::measure(Model& model, const Loss& loss, const Batch& batch, const StreamKey& key,
                               std::span<LayerStatistics> statistics) {
    const Schema& schema = model.schema();
    require(statistics.size() == schema.layer_count(), "statistics of {} layers, the model has {}", statistics.size(),
            schema.layer_count());
    StreamKey probe_key = key;
    probe_key.step = kProbeStep;
    Comparison comparison(model, loss, batch, probe_key, exact_);
    PrecisionPlan plan = PrecisionPlan::uniform(schema.layer_count(), kFullBits);
    for (std::size_t i = 0; i < schema.layer_count(); ++i) {
        if (schema.layers()[i].macs == 0)
            continue;
        const auto relative_gain = [&statistics, i](std::size_t j) {
            const float own = statistics[i].step_gain;
            const float other = statistics[j].step_gain;
            return own > 0 && other > 0 ? static_cast<double>(other) / static_cast<double>(own) : 1.0;
        };
        plan.layers[i] = {.forward = kSensitivityBits};
        statistics[i].forward_sensitivity = static_cast<float>(comparison.error(plan, relative_gain));
        plan.layers[i] = {.backward = kSensitivityBits};
        statistics[i].backward_sensitivity = static_cast<float>(comparison.error(plan, relative_gain));
        plan.layers[i] = {};
    }
}

StepError measure_step_error(Model& model, const Loss& loss, const Batch& batch, const PrecisionPlan& plan,
                             const StreamKey& key) {
    require(plan.layers.size() == model.schema().layer_count(), "a plan for {} layers, the model has {}",
            plan.layers.size(), model.schema().layer_count());
    std::vector<float> exact;
    Comparison comparison(model, loss, batch, key, exact);
    return {.forward = comparison.error(only(plan, Phase::forward), unit_gain),
            .backward = comparison.error(only(plan, Phase::backward), unit_gain),
            .total = comparison.error(plan, unit_gain),
            .gradient = comparison.gradient()};
}

}  // namespace dither
