// How many bits an operand really has under a plan.
#pragma once

#include "core/precision/plan.hpp"
#include "core/quantize/quantizer.hpp"

namespace dither {

/// The operand's own bits, where it has any and the plan is below 32; else the plan's.
inline int width_of(const QuantizerOptions& options, int planned) {
    return planned == kFullBits || options.bits == 0 ? planned : options.bits;
}

}  // namespace dither
