#include "node/encoding_loss.hpp"

#include <algorithm>
#include <limits>

#include "core/error.hpp"
#include "core/simd.hpp"
#include "core/vector_math.hpp"

namespace dither {
namespace {

/// decoded[i] <- value[i] - decoded[i].
DITHER_CLONES void subtract_from(const float* value, float* decoded, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        decoded[i] = value[i] - decoded[i];
}

float nmse(double lost, double values) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    return values > 0 ? static_cast<float>(std::min(lost / values, kLargest)) : kNotMeasured;
}

}  // namespace

void find_loss(const Codec& codec, std::span<const float> values, std::span<const std::byte> payload,
               const Terms& terms, std::span<float> lost) {
    require(values.size() == lost.size(), "what {} values lose, in {}", values.size(), lost.size());
    codec.decode(payload, terms, lost);
    subtract_from(values.data(), lost.data(), values.size());
}

void report_loss(const Schema& schema, std::span<const float> values, std::span<const float> lost,
                 TrainingReport& report) {
    double all_lost = 0;
    double all_values = 0;
    for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
        const double layer_lost = squared_norm(schema.slice(lost, layer));
        const double layer_values = squared_norm(schema.slice(values, layer));
        report.layers[layer].update_nmse = nmse(layer_lost, layer_values);
        all_lost += layer_lost;
        all_values += layer_values;
    }
    report.update_nmse = nmse(all_lost, all_values);
}

}  // namespace dither
