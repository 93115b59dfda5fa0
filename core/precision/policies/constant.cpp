// The same bits in every round.
//
// amp is mixed precision: the forward products at 16 bits (bf16, unless quantize.format16 says otherwise), the backward
// pass, the optimizer and layers without products, such as norms, in fp32. Micikevicius et al., "Mixed precision
// training", 2018, round the backward pass as well.
#include "core/error.hpp"
#include "core/precision/detail/policies.hpp"

#include <algorithm>
#include <string_view>

namespace dither {
namespace {

constexpr int kMixedBits = 16;

class Constant final : public Policy {
public:
    explicit Constant(PrecisionPlan plan) : plan_(std::move(plan)) {}

    PrecisionPlan initial() const override { return plan_; }
    /// Back to it, after an alarm has raised bits or a budget has lowered them.
    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, plan_.layers.size());
        PlanEditor editor(plan);
        for (std::size_t i = 0; i < plan_.layers.size(); ++i)
            for (const Phase phase : {Phase::forward, Phase::backward, Phase::optimizer})
                editor.set(i, phase, plan_.layers[i][phase], fmt::format("always {} bits", plan_.layers[i][phase]));
        return std::move(editor).changes();
    }

private:
    PrecisionPlan plan_;
};

void check_level(const PrecisionOptions& options, std::string_view key, int bits) {
    if (!Levels(options.levels).contains(bits))
        throw InputError(
            fmt::format("{} = {}: expected one of precision.levels [{}]", key, bits, fmt::join(options.levels, ", ")));
}

}  // namespace

std::unique_ptr<Policy> make_fp32(const PrecisionOptions&, const Schema& schema) {
    return std::make_unique<Constant>(local_plan(schema.layer_count(), kFullBits, kFullBits, kFullBits));
}

std::unique_ptr<Policy> make_uniform(const PrecisionOptions& options, const Schema& schema) {
    check_level(options, "precision.bits", options.bits);
    if (options.backward_bits != 0)
        check_level(options, "precision.backward_bits", options.backward_bits);
    const int backward = options.backward_bits == 0 ? options.bits : options.backward_bits;
    return std::make_unique<Constant>(
        local_plan(schema.layer_count(), options.bits, backward, std::max(options.bits, backward)));
}

std::unique_ptr<Policy> make_amp(const PrecisionOptions& options, const Schema& schema) {
    if (!Levels(options.levels).contains(kMixedBits))
        throw InputError(fmt::format("precision.levels = [{}]: the policy \"amp\" needs {} among them",
                                     fmt::join(options.levels, ", "), kMixedBits));
    PrecisionPlan plan = local_plan(schema.layer_count(), kFullBits, kFullBits, kFullBits);
    const std::vector<bool> products = with_products(schema);
    for (std::size_t i = 0; i < products.size(); ++i)
        if (products[i])
            plan.layers[i].forward = kMixedBits;
    return std::make_unique<Constant>(std::move(plan));
}

}  // namespace dither
