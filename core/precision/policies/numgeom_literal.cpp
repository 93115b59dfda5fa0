// The rule as published, "End-to-End Quantization-Aware Training via Numerical Geometry", section 2.3:
//
//     p_min = ceil(log2(L_T / ||g||))       p_i = ceil(log2(kappa_i ||theta_i|| / ||g_i||)) + c
//     p_i := max(p_min, p_i, 4), raised to a level; forward and backward alike; optimizer max_i p_i
//
// after warm-up rounds at fp32. L_T is the product of the layers' Lipschitz constants, kappa_i the spectral norm of the
// layer's Hessian block, c the margin. Every quantity is the newest one measured: the rule knows neither averages nor
// hysteresis. It decides once all of them have been measured. Where the publication is silent: a layer without
// products, such as a norm, stays at fp32 and counts neither in max_i nor, having no matrix, in L_T.
#include "core/precision/detail/policies.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>

namespace dither {
namespace {

constexpr double kLeastBits = 4;

struct Known {
    double curvature_norm = kNotMeasured;
    double theta_norm = kNotMeasured;
    double grad_norm = kNotMeasured;
    double lipschitz = kNotMeasured;

    /// Except for the Lipschitz constant, which comes with the curvature or not at all.
    bool complete() const { return is_known(curvature_norm) && is_known(theta_norm) && is_known(grad_norm); }
};

/// A lower bound on the bits and where it comes from.
struct Bound {
    double bits = kLeastBits;
    std::string reason;
};

class NumGeomLiteral final : public Policy {
public:
    NumGeomLiteral(const PrecisionOptions& options, const Schema& schema)
        : levels_(options.levels),
          margin_(options.margin_bits),
          warmup_rounds_(options.warmup_rounds),
          products_(with_products(schema)),
          known_(schema.layer_count()) {}

    PrecisionPlan initial() const override { return local_plan(known_.size(), kFullBits, kFullBits, kFullBits); }

    Probe probe() const override { return Probe::curvature_norm; }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, known_.size());
        for (std::size_t i = 0; i < known_.size(); ++i)
            learn(known_[i], observation.layers[i]);
        PlanEditor editor(plan);
        const bool ready = std::all_of(known_.begin(), known_.end(), [](const Known& k) { return k.complete(); });
        if (ready && observation.round >= warmup_rounds_)
            decide(editor, plan);
        return std::move(editor).changes();
    }

    std::vector<double> state() const override { return numbers_of(std::span(known_)); }
    void restore(std::span<const double> state) override { restore_numbers(state, std::span(known_)); }

private:
    static void learn(Known& known, const LayerStatistics& measured) {
        known.curvature_norm = newest(known.curvature_norm, measured.curvature_norm);
        known.theta_norm = newest(known.theta_norm, measured.theta_norm);
        known.grad_norm = newest(known.grad_norm, measured.grad_norm);
        known.lipschitz = newest(known.lipschitz, measured.lipschitz);
    }

    Bound global_bound() const {
        double lipschitz = 1;
        std::vector<double> norms;
        for (const Known& k : known_) {
            lipschitz *= is_known(k.lipschitz) ? k.lipschitz : 1;
            norms.push_back(k.grad_norm);
        }
        const double norm = joint_norm(norms);
        const double bits = std::ceil(safe_log2(lipschitz / norm));
        return {bits, fmt::format("L_T/|g| = {:.3g}/{:.3g} -> {} bits", lipschitz, norm, bits)};
    }

    Bound layer_bound(const Known& k) const {
        const double bits = std::ceil(safe_log2(k.curvature_norm * k.theta_norm / k.grad_norm));
        return {bits + margin_, fmt::format("kappa*|theta|/|g| = {:.3g}*{:.3g}/{:.3g} -> {} bits (+{} margin)",
                                            k.curvature_norm, k.theta_norm, k.grad_norm, bits, margin_)};
    }

    void decide(PlanEditor& editor, const PrecisionPlan& plan) const {
        const Bound floor{kLeastBits, fmt::format("no bound above {} bits", kLeastBits)};
        const Bound global = global_bound();
        int widest = levels_.raise(kLeastBits);
        for (std::size_t i = 0; i < known_.size(); ++i) {
            if (!products_[i])
                continue;
            const Bound bound = std::max({floor, global, layer_bound(known_[i])},
                                         [](const Bound& a, const Bound& b) { return a.bits < b.bits; });
            editor.set(i, Phase::forward, levels_.raise(bound.bits), bound.reason);
            editor.set(i, Phase::backward, levels_.raise(bound.bits), bound.reason);
            widest = std::max(widest, plan.layers[i].forward);
        }
        editor.set_all(Phase::optimizer, widest, fmt::format("the widest of all layers: {} bits", widest));
    }

    Levels levels_;
    int margin_;
    std::uint32_t warmup_rounds_;
    std::vector<bool> products_;
    std::vector<Known> known_;
};

}  // namespace

std::unique_ptr<Policy> make_numgeom_literal(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<NumGeomLiteral>(options, schema);
}

}  // namespace dither
