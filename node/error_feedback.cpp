#include "node/error_feedback.hpp"

#include <utility>

#include "core/config.hpp"
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

bool wants_feedback(const CodecOptions& options, const Codec& codec) {
    return options.feedback == "on" || (options.feedback == "auto" && codec.is_biased());
}

ErrorFeedback::ErrorFeedback(const Codec& codec, ResidualStore store, std::size_t parameters)
    : codec_(codec), store_(std::move(store)), residual_(parameters), lost_(parameters) {}

void ErrorFeedback::encode(std::span<float> update, const RoundPlan& plan, const Terms& terms,
                           std::vector<std::byte>& out) {
    require(update.size() == residual_.size(), "an update of {} values, expected {}", update.size(), residual_.size());
    if (plan.counted >= plan.round)
        throw FormatError(fmt::format("round {}: the aggregator has counted round {}", plan.round, plan.counted));
    store_.load(plan.client, plan.counted, residual_);
    add(update.data(), residual_.data(), update.size());
    codec_.encode(update, terms, out);
    codec_.decode(out, terms, lost_);
    subtract_from(update.data(), lost_.data(), update.size());
    store_.save(plan.client, {.round = plan.counted, .values = residual_}, {.round = plan.round, .values = lost_});
}

}  // namespace dither
