#include "core/optim/optimizer.hpp"

#include "core/error.hpp"
#include "core/optim/optimizers.hpp"

namespace dither {

void check_step(const Schema& schema, std::span<const float> parameters, std::span<const float> gradients,
                const PrecisionPlan* plan) {
    require(parameters.size() == schema.parameters() && gradients.size() == schema.parameters(),
            "a step on {} parameters with {} gradients, the model has {}", parameters.size(), gradients.size(),
            schema.parameters());
    require(plan == nullptr || plan->layers.size() == schema.layer_count(), "a plan for {} layers, the model has {}",
            plan == nullptr ? 0 : plan->layers.size(), schema.layer_count());
}

int state_bits(const PrecisionPlan* plan, std::size_t index) {
    return plan == nullptr ? kFullBits : plan->layers[index].optimizer;
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, const Schema& schema) {
    if (options.kind == "sgd")
        return make_sgd(options, schema);
    if (options.kind == "adam")
        return make_adam(options, schema);
    throw InputError(fmt::format("train.optimizer.kind = \"{}\": expected sgd or adam", options.kind));
}

}  // namespace dither
