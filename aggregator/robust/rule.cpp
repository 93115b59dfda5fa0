#include "aggregator/robust/rule.hpp"

#include "aggregator/robust/detail/rules.hpp"
#include "core/choice.hpp"
#include "core/config.hpp"
#include "core/liars.hpp"

#include <array>
#include <utility>

namespace dither {

namespace {

using Maker = std::unique_ptr<RobustRule> (*)(std::uint32_t faulty, const AggregationOptions& options);

constexpr std::array kRules{
    ChoiceRow<Maker>{"mean", "", make_mean},
    ChoiceRow<Maker>{"median", "", make_median},
    ChoiceRow<Maker>{"trimmed_mean", "", make_trimmed_mean},
    ChoiceRow<Maker>{"krum", "", make_krum},
    ChoiceRow<Maker>{"multi_krum", "", make_multi_krum},
    ChoiceRow<Maker>{"bulyan", "", make_bulyan},
    ChoiceRow<Maker>{"geometric_median", "", make_geometric_median},
    ChoiceRow<Maker>{"centered_clipping", "", make_centered_clipping},
};

class Mixing final : public RobustRule {
public:
    Mixing(std::uint32_t faulty, std::unique_ptr<RobustRule> rule) : faulty_(faulty), rule_(std::move(rule)) {}

    void combine(Cohort& cohort, std::span<float> out) const override {
        cohort.mix(faulty_);
        rule_->combine(cohort, out);
    }

private:
    std::uint32_t faulty_;
    std::unique_ptr<RobustRule> rule_;
};

}  // namespace

std::unique_ptr<RobustRule> make_robust_rule(const FederationOptions& federation) {
    const AggregationOptions& options = federation.aggregation;
    const std::uint32_t faulty = liars_borne(federation);
    auto rule = choose(kRules, "federation.aggregation.kind", options.kind)(faulty, options);
    if (options.mixing)
        return std::make_unique<Mixing>(faulty, std::move(rule));
    return rule;
}

}  // namespace dither
