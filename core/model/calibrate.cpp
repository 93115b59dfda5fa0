#include "core/model/calibrate.hpp"

#include <algorithm>

namespace dither {

void calibrate(Model& model, const Dataset& data, std::span<const std::uint32_t> indices, const PrecisionPlan& plan) {
    model.reset();
    Batch batch;
    Pass pass{.plan = &plan, .calibrate = true, .keep = false};
    const auto most = static_cast<std::size_t>(model.max_batch());
    for (std::size_t begin = 0; begin < indices.size(); begin += most, ++pass.key.step) {
        data.gather(indices.subspan(begin, std::min(most, indices.size() - begin)), batch);
        model.forward(batch.inputs, pass);
    }
}

}  // namespace dither
