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
    : codec_(codec), residual_(std::move(store), parameters) {}

void ErrorFeedback::encode(std::span<float> update, const Terms& terms, std::vector<std::byte>& out) {
    const std::span<float> lost = residual_.next();
    require(update.size() == lost.size(), "an update of {} values, expected {}", update.size(), lost.size());
    add(update.data(), residual_.counted().data(), update.size());
    codec_.encode(update, terms, out);
    codec_.decode(out, terms, lost);
    subtract_from(update.data(), lost.data(), update.size());
    residual_.keep();
}

}  // namespace dither
