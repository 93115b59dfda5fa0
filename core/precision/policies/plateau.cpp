// Bits rise when the loss stops falling, for all layers alike: the time-adaptive half of DAdaQuant (Hoenig, Zhao and
// Mullins, "DAdaQuant: Doubly-adaptive quantization for communication-efficient federated learning", ICML 2022).
//
//     q_t = 2 q_{t-1}   if F_{t-1} >= F_{t-1-phi} and q has stood for phi rounds, else q_{t-1}
//
// F is the smoothed training loss and q the number of quantization steps: twice as many are one more bit on the uplink.
// The publication speaks of the uplink alone; here the local phases go up one level each time, the optimizer's from at
// least 8 bits. All start at the lowest level. phi = 5, where the publication takes a tenth of the rounds, which a
// policy does not know.
#include "core/precision/detail/policies.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <array>
#include <cmath>

namespace dither {
namespace {

constexpr std::size_t kPatience = 5;  // phi

/// What the rule remembers.
struct Known {
    std::array<double, kPatience + 1> losses;  ///< smoothed, the newest first
    double raises = 0;
    double standing = 0;  ///< rounds since the last raise

    Known() { losses.fill(kNotMeasured); }
};

class Plateau final : public Policy {
public:
    Plateau(const PrecisionOptions& options, const Schema& schema)
        : levels_(options.levels), smoothing_(options.smoothing), products_(with_products(schema)) {}

    PrecisionPlan initial() const override {
        const int lowest = levels_.lowest();
        PrecisionPlan plan = local_plan(products_.size(), lowest, lowest, optimizer_bits(levels_, lowest));
        for (std::size_t i = 0; i < products_.size(); ++i)
            plan.layers[i].uplink = products_[i] ? std::min(lowest, kWidestUplink) : kWidestUplink;
        return plan;
    }

    bool rules_uplink() const override { return true; }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, products_.size());
        PlanEditor editor(plan);
        if (std::isfinite(observation.train_loss) && observation.train_loss >= 0)
            decide(observation.train_loss, editor);
        return std::move(editor).changes();
    }

    std::vector<double> state() const override { return numbers_of(std::span(&known_, 1)); }
    void restore(std::span<const double> state) override { restore_numbers(state, std::span(&known_, 1)); }

private:
    void decide(double train_loss, PlanEditor& editor) {
        const double newest = smooth(known_.losses.front(), static_cast<float>(train_loss), smoothing_);
        std::shift_right(known_.losses.begin(), known_.losses.end(), 1);
        known_.losses.front() = newest;
        known_.standing += 1;
        const double oldest = known_.losses.back();
        std::string reason = fmt::format("F = {:.4g}, after {} raises", newest, known_.raises);
        if (known_.standing >= kPatience && is_known(oldest) && newest >= oldest) {
            known_.raises += 1;
            known_.standing = 0;
            reason =
                fmt::format("F = {:.4g} >= {:.4g} {} rounds ago -> raise {}", newest, oldest, kPatience, known_.raises);
        }
        set_all(editor, reason);
    }

    void set_all(PlanEditor& editor, const std::string& reason) const {
        const std::span<const int> levels = levels_.bits();
        const auto raises = static_cast<std::size_t>(known_.raises);
        const int bits = levels[std::min(raises, levels.size() - 1)];
        const auto uplink = static_cast<int>(std::min<double>(levels_.lowest() + known_.raises, kWidestUplink));
        for (std::size_t i = 0; i < products_.size(); ++i) {
            editor.set(i, Phase::forward, bits, reason);
            editor.set(i, Phase::backward, bits, reason);
            editor.set(i, Phase::optimizer, optimizer_bits(levels_, bits), reason);
            if (products_[i])
                editor.set(i, Phase::uplink, uplink, reason);
        }
    }

    Levels levels_;
    double smoothing_;
    std::vector<bool> products_;
    Known known_;
};

}  // namespace

std::unique_ptr<Policy> make_plateau(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<Plateau>(options, schema);
}

}  // namespace dither
