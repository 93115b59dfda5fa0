#include "aggregator/detail/update_check.hpp"

#include "core/data/holdout.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace dither {

namespace {

constexpr std::uint64_t kTooManySamples = std::uint64_t{1} << 40;

/// Nobody outvotes those who were drawn to measure.
void forget_unasked(LayerStatistics& statistics, Probe asked) {
    if (!asks(asked, Probe::curvature) && !asks(asked, Probe::curvature_norm))  // whose first product gives both
        statistics.curvature = statistics.curvature_trace = kNotMeasured;
    if (!asks(asked, Probe::curvature_norm))
        statistics.curvature_norm = statistics.lipschitz = kNotMeasured;
    if (!asks(asked, Probe::sensitivity))
        statistics.forward_sensitivity = statistics.backward_sensitivity = kNotMeasured;
}

}  // namespace

std::string UpdateCheck::refusal(const Update& update, const RoundPlan& task, const Terms& terms) {
    if (update.base != task.broadcast)
        return "it starts from another model than the round's";
    if (std::string reason = refusal_of(update.report); !reason.empty())
        return reason;
    try {
        norm_ = std::sqrt(codec_.validate(update.payload, terms, largest_));
    } catch (const FormatError& e) {
        return e.what();
    }
    return {};
}

std::string UpdateCheck::refusal_of(const TrainingReport& report) const {
    if (report.layers.size() != schema_.layer_count())
        return fmt::format("it reports {} layers, expected {}", report.layers.size(), schema_.layer_count());
    if (report.samples == 0 || report.samples >= kTooManySamples)
        return fmt::format("it claims {} samples, expected 1 .. 2^40 - 1", report.samples);
    const std::uint64_t batches = (report.samples - 1) / train_.batch_size + 1;
    if (report.steps % train_.epochs != 0 || report.steps / train_.epochs != batches)
        return fmt::format("it claims {} steps for {} samples, expected {} epochs of {}", report.steps, report.samples,
                           train_.epochs, batches);
    return {};
}

bool UpdateCheck::is_believable(const HeldOutScore& score, std::uint64_t trained) const {
    return score.samples < kTooManySamples && held_out_count(trained + score.samples, holdout_) == score.samples &&
           score.loss >= 0 && score.personal_loss >= 0;
}

TrainingReport UpdateCheck::believable(TrainingReport report, Probe asked, GridSteps steps) const {
    if (!asks(asked, Probe::held_out) || !is_believable(report.held_out, report.samples))
        report.held_out = {};
    if (!measures_uplink_)
        report.update_nmse = kNotMeasured;
    for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
        LayerStatistics& statistics = report.layers[layer];
        forget_unasked(statistics, asked);
        if (!measures_uplink_)
            statistics.update_nmse = kNotMeasured;
        // A value lies less than one unit from its code, rounded stochastically.
        const double unit = codec_.unit(layer, steps);
        const auto reach = static_cast<float>(static_cast<double>(largest_[layer] + 1) * unit);
        statistics.update_range = std::min(statistics.update_range, reach);
        const bool has_range = statistics.update_range >= 0;
        statistics.update_rms = std::min(statistics.update_rms, has_range ? statistics.update_range : reach);
    }
    return report;
}

}  // namespace dither
