// Every loop is written once, as an always_inline template over where the grid comes from and how a code is rounded,
// and instantiated in functions that are compiled for each instruction set. Only IEEE operations whose result does not
// depend on the vector width are used, so that all clones give the same bits. Reductions run in a fixed number of
// lanes, because the compiler may not reorder them.
#include "core/quantize/detail/kernels.hpp"

#include "core/simd.hpp"

#include <array>
#include <bit>
#include <cstring>

namespace dither::kernels {
namespace {

constexpr std::size_t kLanes = 32;

/// Adding and taking away 1.5 * 2^23 rounds to an integer, ties to even, for |x| < 2^22.
constexpr float kRoundingShift = 12582912.0F;

[[gnu::always_inline]] inline float round_even(float x) {
    return (x + kRoundingShift) - kRoundingShift;
}

constexpr std::int32_t kExponent = 0x7f800000;  // all ones in an infinity and in a NaN, and in no other float

[[gnu::always_inline]] inline std::uint32_t not_finite(float x) {
    return (std::bit_cast<std::int32_t>(x) & kExponent) == kExponent ? 1U : 0U;
}

[[gnu::always_inline]] inline float lower(float a, float b) {
    return a < b ? a : b;
}
[[gnu::always_inline]] inline float higher(float a, float b) {
    return a > b ? a : b;
}

/// Where a loop has few values to reduce, the compiler is told what to keep in registers.
constexpr std::size_t kSmallLanes = 8;
using Lanes [[gnu::vector_size(kSmallLanes * sizeof(float))]] = float;
using Marks [[gnu::vector_size(kSmallLanes * sizeof(float))]] = std::int32_t;

[[gnu::always_inline]] inline float lowest(const Lanes& values) {
    const Lanes half = __builtin_shufflevector(values, values, 4, 5, 6, 7, 0, 1, 2, 3);
    const Lanes of_two = values < half ? values : half;
    const Lanes quarter = __builtin_shufflevector(of_two, of_two, 2, 3, 0, 1, 6, 7, 4, 5);
    const Lanes of_four = of_two < quarter ? of_two : quarter;
    return lower(of_four[0], of_four[1]);
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

/// Groups of so many values have a loop of their own, without a rest.
constexpr std::size_t kUsualGroup = 32;

/// The values of a run, from i on, that are in group g.
struct Part {
    std::size_t count;
    Shared grid;
};

[[gnu::always_inline]] inline Part part_of(const GridGroups& groups, std::size_t g, std::size_t i, std::size_t n) {
    const GridArrays& all = groups.grid;
    const std::size_t left = groups.group - (g == 0 ? groups.skipped : 0);
    return {left < n - i ? left : n - i,
            {{all.scale[g], all.code_low[g], all.code_high[g], all.clip_low[g], all.clip_high[g]}}};
}

template <typename GridAt>
[[gnu::always_inline]] inline double squared_rounding_error(float x, const GridAt& grid, std::size_t i) {
    const float code = higher(lower(x / grid.scale(i), grid.code_high(i)), grid.code_low(i));
    const double error = static_cast<double>(grid.scale(i) * round_even(code)) - static_cast<double>(x);
    return error * error;
}

/// A clipped code is whole, so that its rounding error is 0.
template <typename GridAt>
[[gnu::always_inline]] inline void add_terms(float x, float dy, const GridAt& grid, std::size_t i, double& inside,
                                             double& below, double& above) {
    const float low = x < grid.clip_low(i) ? dy : 0.0F;
    const float high = x > grid.clip_high(i) ? dy : 0.0F;
    const float code = higher(lower(x / grid.scale(i), grid.code_high(i)), grid.code_low(i));
    inside += static_cast<double>(dy * (round_even(code) - code));
    below += static_cast<double>(low);
    above += static_cast<double>(high);
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
bool group_extremes(const float* x, std::size_t n, std::size_t group, float* low, float* high) {
    const std::size_t whole = group - group % kSmallLanes;
    Marks bad{};
    std::uint32_t rest_bad = 0;
    for (std::size_t begin = 0; begin < n; begin += group, ++low, ++high) {
        Lanes lows{};
        Lanes highs{};
        for (std::size_t i = begin; i < begin + whole; i += kSmallLanes) {
            Lanes values;
            std::memcpy(&values, x + i, sizeof values);
            lows = values < lows ? values : lows;
            highs = values > highs ? values : highs;
            bad |= (reinterpret_cast<Marks>(values) & kExponent) == kExponent;
        }
        *low = lowest(lows);
        *high = -lowest(-highs);
        for (std::size_t i = begin + whole; i < begin + group; ++i) {
            *low = lower(x[i], *low);
            *high = higher(x[i], *high);
            rest_bad |= not_finite(x[i]);
        }
    }
    for (std::size_t lane = 0; lane < kSmallLanes; ++lane)
        rest_bad |= static_cast<std::uint32_t>(bad[lane]);
    return rest_bad == 0;
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
std::size_t nearest(const float* x, float* out, std::size_t n, const GridGroups& grid) {
    std::size_t clipped = 0;
    for (std::size_t i = 0, g = 0; i < n; ++g) {
        const Part part = part_of(grid, g, i, n);
        clipped += part.count == kUsualGroup ? fake(x + i, out + i, kUsualGroup, part.grid, Nearest{})
                                             : fake(x + i, out + i, part.count, part.grid, Nearest{});
        i += part.count;
    }
    return clipped;
}

DITHER_CLONES
std::size_t stochastic(const float* x, const std::uint16_t* random, float* out, std::size_t n, const GridGroups& grid) {
    std::size_t clipped = 0;
    for (std::size_t i = 0, g = 0; i < n; ++g) {
        const Part part = part_of(grid, g, i, n);
        clipped += part.count == kUsualGroup ? fake(x + i, out + i, kUsualGroup, part.grid, Stochastic{random + i})
                                             : fake(x + i, out + i, part.count, part.grid, Stochastic{random + i});
        i += part.count;
    }
    return clipped;
}

void mark(const float* x, std::size_t begin, std::size_t n, const GridGroups& grid, std::uint8_t* bits) {
    for (std::size_t i = 0, g = 0; i < n; ++g) {
        const Part part = part_of(grid, g, i, n);
        mark_clipped(x + i, begin + i, part.count, part.grid, bits);
        i += part.count;
    }
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
void mask(const float* x, float* gradient, std::size_t n, const GridGroups& grid) {
    for (std::size_t i = 0, g = 0; i < n; ++g) {
        const Part part = part_of(grid, g, i, n);
        mask_clipped(x + i, gradient + i, part.count, part.grid);
        i += part.count;
    }
}

DITHER_CLONES
double rounding_error(const float* x, std::size_t n, const Grid& grid) {
    constexpr std::size_t kErrorLanes = 8;
    const Shared shared{grid};
    std::array<double, kErrorLanes> errors{};
    const std::size_t whole = n - n % kErrorLanes;
    for (std::size_t i = 0; i < whole; i += kErrorLanes)
        for (std::size_t lane = 0; lane < kErrorLanes; ++lane)
            errors[lane] += squared_rounding_error(x[i + lane], shared, 0);
    for (std::size_t i = whole; i < n; ++i)
        errors[i - whole] += squared_rounding_error(x[i], shared, 0);
    double sum = 0;
    for (const double error : errors)
        sum += error;
    return sum;
}

DITHER_CLONES
void add_rounding_errors(const float* x, std::size_t n, const GridArrays& grid, double* errors) {
    const Each each{grid};
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i)
        errors[i] += squared_rounding_error(x[i], each, i);
}

DITHER_CLONES
StepSums step_sums(const float* x, const float* dy, std::size_t n, const Grid& grid) {
    const Shared shared{grid};
    std::array<double, kLanes> inside{};
    std::array<double, kLanes> below{};
    std::array<double, kLanes> above{};
    const std::size_t whole = n - n % kLanes;
    for (std::size_t i = 0; i < whole; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane)
            add_terms(x[i + lane], dy[i + lane], shared, 0, inside[lane], below[lane], above[lane]);
    for (std::size_t i = whole; i < n; ++i)
        add_terms(x[i], dy[i], shared, 0, inside[i - whole], below[i - whole], above[i - whole]);
    StepSums sums;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        sums.inside += inside[lane];
        sums.below += below[lane];
        sums.above += above[lane];
    }
    return sums;
}

DITHER_CLONES
void add_step_sums(const float* x, const float* dy, std::size_t n, const GridArrays& grid, double* inside,
                   double* below, double* above) {
    const Each each{grid};
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i)
        add_terms(x[i], dy[i], each, i, inside[i], below[i], above[i]);
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
