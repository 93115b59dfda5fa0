// Every loop is written once, as an always_inline template over where the grid comes from and how a code is rounded,
// and instantiated in functions that are compiled for each instruction set. Only IEEE operations whose result does not
// depend on the vector width are used, so that all clones give the same bits. Reductions run in a fixed number of
// lanes, because the compiler may not reorder them.
#include "core/quantize/detail/kernels.hpp"

#include "core/simd.hpp"

#include <array>
#include <bit>

namespace dither::kernels {
namespace {

constexpr std::size_t kLanes = 32;

/// Adding and taking away 1.5 * 2^23 rounds to an integer, ties to even, for |x| < 2^22.
constexpr float kRoundingShift = 12582912.0F;

[[gnu::always_inline]] inline float round_even(float x) {
    return (x + kRoundingShift) - kRoundingShift;
}

[[gnu::always_inline]] inline std::uint32_t not_finite(float x) {
    return (std::bit_cast<std::uint32_t>(x) & 0x7f800000U) == 0x7f800000U ? 1U : 0U;
}

[[gnu::always_inline]] inline float lower(float a, float b) {
    return a < b ? a : b;
}
[[gnu::always_inline]] inline float higher(float a, float b) {
    return a > b ? a : b;
}

/// One grid for all values.
struct Shared {
    Grid grid;
    float scale(std::size_t) const { return grid.scale; }
    float code_low(std::size_t) const { return grid.code_low; }
    float code_high(std::size_t) const { return grid.code_high; }
    float clip_low(std::size_t) const { return grid.clip_low; }
    float clip_high(std::size_t) const { return grid.clip_high; }
};

/// One grid for each value.
struct Each {
    GridArrays grid;
    float scale(std::size_t i) const { return grid.scale[i]; }
    float code_low(std::size_t i) const { return grid.code_low[i]; }
    float code_high(std::size_t i) const { return grid.code_high[i]; }
    float clip_low(std::size_t i) const { return grid.clip_low[i]; }
    float clip_high(std::size_t i) const { return grid.clip_high[i]; }
};

struct Nearest {
    float operator()(float x, std::size_t) const { return round_even(x); }
};

struct Stochastic {
    const std::uint16_t* random;

    // The fraction is compared, not added: x + u would round, and could lift an integer to the next one.
    [[gnu::always_inline]] float operator()(float x, std::size_t i) const {
        const float rounded = round_even(x);
        const float floor = rounded - (rounded > x ? 1.0F : 0.0F);
        const float u = (static_cast<float>(static_cast<std::int32_t>(random[i])) + 0.5F) * 0x1p-16F;
        return floor + (u < x - floor ? 1.0F : 0.0F);
    }
};

/// Hands each value's rounded code to store(i, code).
template <typename GridAt, typename Round, typename Store>
[[gnu::always_inline]] inline std::size_t quantize(const float* x, std::size_t n, const GridAt grid, const Round round,
                                                   const Store store) {
    std::uint32_t clipped = 0;
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) {
        const float value = x[i];
        const float code = higher(lower(value / grid.scale(i), grid.code_high(i)), grid.code_low(i));
        clipped += static_cast<std::uint32_t>((value < grid.clip_low(i)) | (value > grid.clip_high(i)));
        store(i, round(code, i));
    }
    return clipped;
}

template <typename GridAt, typename Round>
[[gnu::always_inline]] inline std::size_t fake(const float* x, float* out, std::size_t n, const GridAt grid,
                                               const Round round) {
    return quantize(x, n, grid, round,
                    [=](std::size_t i, float code) [[gnu::always_inline]] { out[i] = grid.scale(i) * code; });
}

template <typename GridAt, typename Round>
[[gnu::always_inline]] inline std::size_t encode(const float* x, std::uint8_t* out, std::size_t n, const GridAt grid,
                                                 const Round round, int offset) {
    return quantize(x, n, grid, round, [=](std::size_t i, float code) [[gnu::always_inline]] {
        out[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(code) + offset);
    });
}

template <typename GridAt>
[[gnu::always_inline]] inline bool is_clipped(float x, const GridAt& grid, std::size_t i) {
    return (x < grid.clip_low(i)) | (x > grid.clip_high(i));
}

template <typename GridAt>
void mark_clipped(const float* x, std::size_t begin, std::size_t n, const GridAt& grid, std::uint8_t* bits) {
    for (std::size_t i = 0; i < n; ++i)
        if (is_clipped(x[i], grid, i))
            bits[(begin + i) / 8] = static_cast<std::uint8_t>(bits[(begin + i) / 8] | 1U << ((begin + i) % 8));
}

template <typename GridAt>
[[gnu::always_inline]] inline void mask_clipped(const float* x, float* gradient, std::size_t n, const GridAt grid) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) {
        gradient[i] = is_clipped(x[i], grid, i) ? 0.0F : gradient[i];
    }
}

}  // namespace

DITHER_CLONES
Extremes extremes(const float* x, std::size_t n) {
    std::array<float, kLanes> low{};
    std::array<float, kLanes> high{};
    std::array<std::uint32_t, kLanes> bad{};
    const std::size_t whole = n - n % kLanes;
    for (std::size_t i = 0; i < whole; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const float value = x[i + lane];
            low[lane] = lower(value, low[lane]);
            high[lane] = higher(value, high[lane]);
            bad[lane] |= not_finite(value);
        }
    Extremes result;
    std::uint32_t any_bad = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        result.low = lower(low[lane], result.low);
        result.high = higher(high[lane], result.high);
        any_bad |= bad[lane];
    }
    for (std::size_t i = whole; i < n; ++i) {
        result.low = lower(x[i], result.low);
        result.high = higher(x[i], result.high);
        any_bad |= not_finite(x[i]);
    }
    result.finite = any_bad == 0;
    return result;
}

DITHER_CLONES
bool widen(const float* x, std::size_t n, float* low, float* high) {
    std::uint32_t bad = 0;
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) {
        low[i] = lower(x[i], low[i]);
        high[i] = higher(x[i], high[i]);
        bad |= not_finite(x[i]);
    }
    return bad == 0;
}

DITHER_CLONES
std::size_t nearest(const float* x, float* out, std::size_t n, const Grid& grid) {
    return fake(x, out, n, Shared{grid}, Nearest{});
}

DITHER_CLONES
std::size_t stochastic(const float* x, const std::uint16_t* random, float* out, std::size_t n, const Grid& grid) {
    return fake(x, out, n, Shared{grid}, Stochastic{random});
}

DITHER_CLONES
std::size_t encode_nearest(const float* x, std::uint8_t* out, std::size_t n, const Grid& grid, int offset) {
    return encode(x, out, n, Shared{grid}, Nearest{}, offset);
}

DITHER_CLONES
std::size_t encode_stochastic(const float* x, const std::uint16_t* random, std::uint8_t* out, std::size_t n,
                              const Grid& grid, int offset) {
    return encode(x, out, n, Shared{grid}, Stochastic{random}, offset);
}

void mark(const float* x, std::size_t begin, std::size_t n, const Grid& grid, std::uint8_t* bits) {
    mark_clipped(x, begin, n, Shared{grid}, bits);
}

DITHER_CLONES
std::size_t nearest(const float* x, float* out, std::size_t n, const GridArrays& grid) {
    return fake(x, out, n, Each{grid}, Nearest{});
}

DITHER_CLONES
std::size_t stochastic(const float* x, const std::uint16_t* random, float* out, std::size_t n, const GridArrays& grid) {
    return fake(x, out, n, Each{grid}, Stochastic{random});
}

DITHER_CLONES
std::size_t encode_nearest(const float* x, std::uint8_t* out, std::size_t n, const GridArrays& grid, int offset) {
    return encode(x, out, n, Each{grid}, Nearest{}, offset);
}

DITHER_CLONES
std::size_t encode_stochastic(const float* x, const std::uint16_t* random, std::uint8_t* out, std::size_t n,
                              const GridArrays& grid, int offset) {
    return encode(x, out, n, Each{grid}, Stochastic{random}, offset);
}

void mark(const float* x, std::size_t begin, std::size_t n, const GridArrays& grid, std::uint8_t* bits) {
    mark_clipped(x, begin, n, Each{grid}, bits);
}

DITHER_CLONES
void mask(const float* x, float* gradient, std::size_t n, const Grid& grid) {
    mask_clipped(x, gradient, n, Shared{grid});
}

DITHER_CLONES
void mask(const float* x, float* gradient, std::size_t n, const GridArrays& grid) {
    mask_clipped(x, gradient, n, Each{grid});
}

DITHER_CLONES
void squared_error(const float* a, const float* b, std::size_t n, double& error, double& signal) {
    std::array<double, kLanes> errors{};
    std::array<double, kLanes> signals{};
    const std::size_t whole = n - n % kLanes;
    for (std::size_t i = 0; i < whole; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const double difference = static_cast<double>(b[i + lane]) - static_cast<double>(a[i + lane]);
            errors[lane] += difference * difference;
            signals[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(a[i + lane]);
        }
    for (std::size_t i = whole; i < n; ++i) {
        const double difference = static_cast<double>(b[i]) - static_cast<double>(a[i]);
        errors[i - whole] += difference * difference;
        signals[i - whole] += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    }
    error = 0;
    signal = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        error += errors[lane];
        signal += signals[lane];
    }
}

}  // namespace dither::kernels
