#include "core/model/evaluate.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace dither {

Score evaluate(Model& model, const Loss& loss, const Dataset& data, const PrecisionPlan* plan, const StreamKey& key,
               Ranges ranges) {
    std::vector<std::uint32_t> all(data.size());
    std::iota(all.begin(), all.end(), 0U);
    return evaluate(model, loss, data, all, plan, key, ranges);
}

Score evaluate(Model& model, const Loss& loss, const Dataset& data, std::span<const std::uint32_t> indices,
               const PrecisionPlan* plan, const StreamKey& key, Ranges ranges) {
    const auto max_batch = static_cast<std::size_t>(model.max_batch());
    Batch batch;
    Pass pass{.plan = plan, .key = key.with(Purpose::evaluation), .keep = false};
    pass.key.step = 0;
    Score total;
    for (std::size_t begin = 0; begin < indices.size(); begin += max_batch, ++pass.key.step) {
        const std::span<const std::uint32_t> part = indices.subspan(begin, std::min(max_batch, indices.size() - begin));
        data.gather(part, batch);
        if (ranges == Ranges::of_batch)
            model.reset();
        total += loss.evaluate(model.forward(batch.inputs, pass), batch.targets, nullptr);
        if (!std::isfinite(total.loss))
            throw TrainingError(
                fmt::format("the loss is {} over samples {} to {}", total.loss, begin, begin + part.size() - 1));
    }
    if (ranges == Ranges::of_batch)
        model.reset();
    return total;
}

std::optional<RegressionErrors> regression_errors(const Score& score, const Dataset& data) {
    if (data.classes() > 0 || score.samples == 0)
        return std::nullopt;
    const auto samples = static_cast<double>(score.samples);
    RegressionErrors errors{.rmse = std::sqrt(score.squared_error / samples), .mae = score.absolute_error / samples};
    if (const double variance = data.target_variance(); variance > 0)
        errors.r2 = 1 - score.squared_error / samples / variance;
    return errors;
}

}  // namespace dither
