#include "node/error_feedback.hpp"

#include <utility>

#include "core/error.hpp"
#include "core/simd.hpp"

namespace dither {
namespace {

DITHER_CLONES void add(float* sum, const float* term, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        sum[i] += term[i];
}

/// decoded[i] <- value[i] - decoded[i].
DITHER_CLONES void subtract_from(const float* value, float* decoded, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        decoded[i] = value[i] - decoded[i];
}

}  // namespace

ErrorFeedback::ErrorFeedback(const Codec& codec, ResidualStore store, std::size_t parameters)
    : codec_(codec), store_(std::move(store)), residual_(parameters), lost_(parameters) {}

void ErrorFeedback::begin(const RoundPlan& plan) {
    task_.reset();
    if (plan.counted >= plan.round)
        throw FormatError(fmt::format("round {}: the aggregator has counted round {}", plan.round, plan.counted));
    const Task task{plan.client, plan.round, plan.counted, store_.kept(plan.client)};
    store_.load(plan.client, plan.counted, residual_);
    task_ = task;
}

void ErrorFeedback::encode(std::span<float> update, const Terms& terms, std::vector<std::byte>& out) {
    require(update.size() == residual_.size(), "an update of {} values, expected {}", update.size(), residual_.size());
    require(task_.has_value(), "an update of a round that was not begun");
    const Task task = *std::exchange(task_, std::nullopt);
    add(update.data(), residual_.data(), update.size());
    codec_.encode(update, terms, out);
    codec_.decode(out, terms, lost_);
    subtract_from(update.data(), lost_.data(), update.size());
    if (!store_.save(task.client, {task.counted, residual_}, {task.round, lost_}, task.found))
        throw FormatError(
            fmt::format("round {} is over: client {} has encoded an update of a later one", task.round, task.client));
}

}  // namespace dither
