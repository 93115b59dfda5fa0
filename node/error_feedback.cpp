#include "node/error_feedback.hpp"

#include <utility>

#include "core/error.hpp"
#include "core/simd.hpp"
#include "node/encoding_loss.hpp"

namespace dither {
namespace {

DITHER_CLONES void add(float* sum, const float* term, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        sum[i] += term[i];
}

}  // namespace

ErrorFeedback::ErrorFeedback(const Codec& codec, ResidualStore store, std::size_t parameters)
    : codec_(codec), residual_(std::move(store), parameters) {}

std::span<const float> ErrorFeedback::encode(std::span<float> update, const Terms& terms, std::vector<std::byte>& out) {
    const std::span<float> lost = residual_.next();
    require(update.size() == lost.size(), "an update of {} values, expected {}", update.size(), lost.size());
    add(update.data(), residual_.counted().data(), update.size());
    codec_.encode(update, terms, out);
    find_loss(codec_, update, out, terms, lost);
    residual_.keep();
    return lost;
}

}  // namespace dither
