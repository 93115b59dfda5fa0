#include "core/model/evaluate.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dither {

Score evaluate(Model& model, const Loss& loss, const Dataset& data, const PrecisionPlan* plan, const StreamKey& key,
               Ranges ranges) {
    const auto max_batch = static_cast<std::size_t>(model.max_batch());
    std::vector<std::uint32_t> indices;
    Batch batch;
    Pass pass{.plan = plan, .key = key.with(Purpose::evaluation), .keep = false};
    pass.key.step = 0;
    Score total;
    for (std::size_t begin = 0; begin < data.size(); begin += max_batch, ++pass.key.step) {
        indices.resize(std::min(max_batch, data.size() - begin));
        std::iota(indices.begin(), indices.end(), static_cast<std::uint32_t>(begin));
        data.gather(indices, batch);
        if (ranges == Ranges::of_batch)
            model.reset();
        total += loss.evaluate(model.forward(batch.inputs, pass), batch.targets, nullptr);
        if (!std::isfinite(total.loss))
            throw TrainingError(
                fmt::format("the loss is {} over samples {} to {}", total.loss, begin, begin + indices.size() - 1));
    }
    if (ranges == Ranges::of_batch)
        model.reset();
    return total;
}

}  // namespace dither
