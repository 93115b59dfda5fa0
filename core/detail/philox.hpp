// Blocks of Philox4x32-10, many side by side (Salmon et al., SC 2011). The order of words is Random123's: block i of a
// run is philox4x32_R(10, first + i, key) and gives words 4 * i .. 4 * i + 3. Every kernel gives the same words.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace dither::detail {

using PhiloxKey = std::array<std::uint32_t, 2>;
using PhiloxCounter = std::array<std::uint32_t, 4>;

/// Fills `out` from the blocks that start at `first`; word 0 of the counter wraps around, without a carry.
using FillPhilox = void (*)(const PhiloxKey& key, const PhiloxCounter& first, std::span<std::uint32_t> out);

struct PhiloxKernel {
    const char* instruction_set;
    FillPhilox fill;
};

/// What this processor can run, slowest first; the last is what fill_philox uses.
std::span<const PhiloxKernel> usable_philox_kernels();

void fill_philox(const PhiloxKey& key, const PhiloxCounter& first, std::span<std::uint32_t> out);

}  // namespace dither::detail
