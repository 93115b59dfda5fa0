// The elementwise loops of quantization, over contiguous runs of values. Private to core/quantize.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dither::kernels {

/// What values that share a scale are rounded to: x^ = scale * clamp(round(x / scale), code_low, code_high), where a
/// code is counted from the zero point. A value outside [clip_low, clip_high] counts as clipped.
struct Grid {
    float scale = 1;
    float code_low = 0;
    float code_high = 0;
    float clip_low = 0;
    float clip_high = 0;
};

/// The same with one grid for each value: element i of each array belongs to value i of the run.
struct GridArrays {
    const float* scale;
    const float* code_low;
    const float* code_high;
    const float* clip_low;
    const float* clip_high;
};

/// One grid for each `group` consecutive values: element g of each array belongs to values g * group - skipped and on
/// of the run, which starts inside group 0, after its first `skipped` values.
struct GridGroups {
    GridArrays grid;
    std::size_t group;
    std::size_t skipped;
};

struct Extremes {
    float low = 0;
    float high = 0;
    bool finite = true;  ///< no NaN and no infinity among the values
};

/// Of n values and 0, which every grid holds.
Extremes extremes(const float* x, std::size_t n);
/// The same of each `group` consecutive values, to low[g] and high[g]; false if any value is not finite. n is a
/// multiple of group.
bool group_extremes(const float* x, std::size_t n, std::size_t group, float* low, float* high);
/// Widens [low[i], high[i]] to hold x[i]; false if any value is not finite.
bool widen(const float* x, std::size_t n, float* low, float* high);

/// Quantize n values and return how many were clipped; out may be x. Nearest ties to even; stochastic takes 16 random
/// bits a value and rounds up with a chance of the fraction, to 2^-17.
std::size_t nearest(const float* x, float* out, std::size_t n, const Grid& grid);
std::size_t nearest(const float* x, float* out, std::size_t n, const GridArrays& grid);
std::size_t stochastic(const float* x, const std::uint16_t* random, float* out, std::size_t n, const Grid& grid);
std::size_t nearest(const float* x, float* out, std::size_t n, const GridGroups& grid);
std::size_t stochastic(const float* x, const std::uint16_t* random, float* out, std::size_t n, const GridArrays& grid);
std::size_t stochastic(const float* x, const std::uint16_t* random, float* out, std::size_t n, const GridGroups& grid);

/// The same, but write the codes, `offset` added, as bytes: two's complement where that is negative.
std::size_t encode_nearest(const float* x, std::uint8_t* out, std::size_t n, const Grid& grid, int offset);
std::size_t encode_nearest(const float* x, std::uint8_t* out, std::size_t n, const GridArrays& grid, int offset);
std::size_t encode_stochastic(const float* x, const std::uint16_t* random, std::uint8_t* out, std::size_t n,
                              const Grid& grid, int offset);
std::size_t encode_stochastic(const float* x, const std::uint16_t* random, std::uint8_t* out, std::size_t n,
                              const GridArrays& grid, int offset);

/// Sets bit i % 8 of bits[i / 8] where x[i], i = begin .. begin + n - 1, is clipped; leaves the other bits.
void mark(const float* x, std::size_t begin, std::size_t n, const Grid& grid, std::uint8_t* bits);
void mark(const float* x, std::size_t begin, std::size_t n, const GridArrays& grid, std::uint8_t* bits);
void mark(const float* x, std::size_t begin, std::size_t n, const GridGroups& grid, std::uint8_t* bits);

/// gradient[i] = 0 where x[i] is clipped.
void mask(const float* x, float* gradient, std::size_t n, const Grid& grid);
void mask(const float* x, float* gradient, std::size_t n, const GridArrays& grid);
void mask(const float* x, float* gradient, std::size_t n, const GridGroups& grid);

/// Of dy (round(x / scale) - x / scale) where x is not clipped, and of dy where it is: what the gradient of a scale is
/// made of.
struct StepSums {
    double inside = 0;
    double below = 0;
    double above = 0;
};
StepSums step_sums(const float* x, const float* dy, std::size_t n, const Grid& grid);
/// Adds the terms of value i to inside[i], below[i] and above[i].
void add_step_sums(const float* x, const float* dy, std::size_t n, const GridArrays& grid, double* inside,
                   double* below, double* above);

/// Sum of (x^ - x)^2, rounded to nearest.
double rounding_error(const float* x, std::size_t n, const Grid& grid);
/// Adds that of value i to errors[i].
void add_rounding_errors(const float* x, std::size_t n, const GridArrays& grid, double* errors);

/// Sum of (a - b)^2 and of a^2.
void squared_error(const float* a, const float* b, std::size_t n, double& error, double& signal);

}  // namespace dither::kernels
