#include "node/control_variate.hpp"

#include <utility>

#include "core/error.hpp"
#include "core/simd.hpp"
#include "core/vector_math.hpp"

namespace dither {
namespace {

/// next[i] <- share * (own[i] - control[i]) - update[i] / way.
DITHER_CLONES void advance(const float* own, const float* control, float share, const float* update, float way,
                           float* next, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        next[i] = share * (own[i] - control[i]) - update[i] / way;
}

}  // namespace

ControlVariate::ControlVariate(const Job& job, ResidualStore store, const Schema& schema)
    : schema_(schema),
      lr_(job.train.optimizer.lr),
      share_(static_cast<float>(job.federation.strategy.correction)),
      vector_(std::move(store), schema.parameters()) {}

void ControlVariate::keep(std::span<const float> control, std::span<const float> update, std::uint32_t steps) {
    const std::span<float> next = vector_.next();
    require(control.size() == next.size() && update.size() == next.size() && steps > 0,
            "a control variate of {} values and an update of {} values and {} steps, expected {}", control.size(),
            update.size(), steps, next.size());
    const auto way = static_cast<float>(steps * lr_);
    for (const LayerSpec& layer : schema_.layers())
        advance(own().data() + layer.offset, control.data() + layer.offset, share_, update.data() + layer.offset, way,
                next.data() + layer.offset, layer.trained_count());
    if (!all_finite(next))
        throw TrainingError("a control variate is not finite");
    vector_.keep();
}

}  // namespace dither
