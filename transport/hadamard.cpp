#include "transport/hadamard.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

#include <bit>
#include <cstddef>
#include <cstring>

namespace dither {
namespace {

constexpr std::size_t kLanes = 8;
using Lanes [[gnu::vector_size(kLanes * sizeof(float))]] = float;

/// Floats that stay in the first cache while all their smaller distances are done.
constexpr std::size_t kInCache = 4096;

// Each kernel does the butterflies of one, two or three distances, the largest first, of adjacent blocks. Wider kernels
// pass over memory less often and add the same numbers in the same order.

DITHER_CLONES void distances_of_two(float* v, std::size_t blocks, std::size_t h) {
    for (std::size_t block = 0; block < blocks; ++block, v += 2 * h)
#pragma GCC ivdep
        for (std::size_t i = 0; i < h; ++i) {
            const float a = v[i];
            const float b = v[i + h];
            v[i] = a + b;
            v[i + h] = a - b;
        }
}

DITHER_CLONES void distances_of_four(float* v, std::size_t blocks, std::size_t h) {
    for (std::size_t block = 0; block < blocks; ++block, v += 4 * h)
#pragma GCC ivdep
        for (std::size_t i = 0; i < h; ++i) {
            const float a0 = v[i], a1 = v[i + h], a2 = v[i + 2 * h], a3 = v[i + 3 * h];
            const float b0 = a0 + a2, b1 = a1 + a3, b2 = a0 - a2, b3 = a1 - a3;
            v[i] = b0 + b1;
            v[i + h] = b0 - b1;
            v[i + 2 * h] = b2 + b3;
            v[i + 3 * h] = b2 - b3;
        }
}

DITHER_CLONES void distances_of_eight(float* v, std::size_t blocks, std::size_t h) {
    for (std::size_t block = 0; block < blocks; ++block, v += 8 * h)
#pragma GCC ivdep
        for (std::size_t i = 0; i < h; ++i) {
            const float a0 = v[i], a1 = v[i + h], a2 = v[i + 2 * h], a3 = v[i + 3 * h];
            const float a4 = v[i + 4 * h], a5 = v[i + 5 * h], a6 = v[i + 6 * h], a7 = v[i + 7 * h];
            const float b0 = a0 + a4, b1 = a1 + a5, b2 = a2 + a6, b3 = a3 + a7;
            const float b4 = a0 - a4, b5 = a1 - a5, b6 = a2 - a6, b7 = a3 - a7;
            const float c0 = b0 + b2, c1 = b1 + b3, c2 = b0 - b2, c3 = b1 - b3;
            const float c4 = b4 + b6, c5 = b5 + b7, c6 = b4 - b6, c7 = b5 - b7;
            v[i] = c0 + c1;
            v[i + h] = c0 - c1;
            v[i + 2 * h] = c2 + c3;
            v[i + 3 * h] = c2 - c3;
            v[i + 4 * h] = c4 + c5;
            v[i + 5 * h] = c4 - c5;
            v[i + 6 * h] = c6 + c7;
            v[i + 7 * h] = c6 - c7;
        }
}

/// Distances 4, 2 and 1, within registers: b + (-1) * a is b - a to the bit.
DITHER_CLONES void distances_within_lanes(float* v, std::size_t count) {
    constexpr Lanes kFour{1, 1, 1, 1, -1, -1, -1, -1};
    constexpr Lanes kTwo{1, 1, -1, -1, 1, 1, -1, -1};
    constexpr Lanes kOne{1, -1, 1, -1, 1, -1, 1, -1};
    for (std::size_t i = 0; i < count; i += kLanes) {
        Lanes x;
        std::memcpy(&x, v + i, sizeof x);
        x = __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3) + x * kFour;
        x = __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5) + x * kTwo;
        x = __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6) + x * kOne;
        std::memcpy(v + i, &x, sizeof x);
    }
}

void transform_in_cache(float* v, std::size_t n) {
    std::size_t size = n;  // of the blocks that are still to be transformed
    for (; size >= 8 * kLanes; size /= 8)
        distances_of_eight(v, n / size, size / 8);
    if (size == 4 * kLanes)
        distances_of_four(v, n / size, kLanes);
    if (size == 2 * kLanes)
        distances_of_two(v, n / size, kLanes);
    if (size >= kLanes)
        return distances_within_lanes(v, n);
    for (; size >= 2; size /= 2)
        distances_of_two(v, n / size, size / 2);
}

void transform(float* v, std::size_t n) {
    if (n <= kInCache)
        return transform_in_cache(v, n);
    distances_of_eight(v, 1, n / 8);
    for (std::size_t part = 0; part < 8; ++part)
        transform(v + part * (n / 8), n / 8);
}

}  // namespace

void hadamard_transform(std::span<float> v) {
    require(std::has_single_bit(v.size()), "a Hadamard transform of {} values: not a power of two", v.size());
    transform(v.data(), v.size());
}

}  // namespace dither
