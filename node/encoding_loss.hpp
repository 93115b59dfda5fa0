// What an update loses on its way through a codec, by vector and by number.
#pragma once

#include "core/model/schema.hpp"
#include "core/precision/statistics.hpp"
#include "transport/codec.hpp"

#include <cstddef>
#include <span>

namespace dither {

/// lost <- values - decode(payload), where `payload` is what the codec made of `values` on these terms. Both have the
/// same size.
void find_loss(const Codec& codec, std::span<const float> values, std::span<const std::byte> payload,
               const Terms& terms, std::span<float> lost);

/// Enters into the report the normalized squared error of what was encoded, of each layer and of the whole,
///
///     NMSE = ||lost||^2 / ||values||^2,
///
/// which the literature on codecs calls vNMSE. Values that are all 0 have none; what is beyond the range of a float is
/// the largest one.
void report_loss(const Schema& schema, std::span<const float> values, std::span<const float> lost,
                 TrainingReport& report);

}  // namespace dither
