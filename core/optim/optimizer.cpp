#include "core/optim/optimizer.hpp"

#include "core/error.hpp"
#include "core/optim/detail/optimizers.hpp"

#include <array>

namespace dither {
namespace {

using Maker = std::unique_ptr<Optimizer> (*)(const OptimizerOptions&, const Schema&);

constexpr std::array kOptimizers{
    ChoiceRow<Maker>{"sgd", "with momentum", make_sgd},
    ChoiceRow<Maker>{"adam", "with bias correction", make_adam},
    ChoiceRow<Maker>{"adamw", "adam whose weight decay stays out of the moments", make_adamw},
};

}  // namespace

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

std::vector<Choice> optimizer_choices() {
    return choices_of(kOptimizers);
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, const Schema& schema) {
    return choose(kOptimizers, "train.optimizer.kind", options.kind)(options, schema);
}

}  // namespace dither
