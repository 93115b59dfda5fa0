// The arithmetic of the Eigen backend, compiled once for each instruction set. This header and the source behind it
// stay free of the standard library's templates and of inline functions that other sources share: the linker keeps one
// copy of each, and it might keep the one that was compiled for a newer processor.
#pragma once

#include <cstdint>

namespace dither::detail {

/// Sums over windows of a source that are never copied: convolutions, their input gradients, and matrix products.
/// Offsets count floats. A window is `runs` runs of `run` values; `channels` is a multiple of Kernels::vector, except
/// where the product is depthwise.
struct WindowProduct {
    std::int64_t positions;
    const std::int64_t* from;  ///< [positions], windows in the source
    const std::int64_t* to;    ///< [positions], channels in the result
    std::int64_t runs;
    const std::int64_t* run_start;  ///< [runs], in a window
    std::int64_t run;
    std::int64_t channels;
};

/// A convolution's sizes, for its sparse adjoints.
struct PatchGeometry {
    std::int64_t height;  ///< of the image
    std::int64_t width;
    std::int64_t channels;
    std::int64_t out_height;
    std::int64_t out_width;
    std::int64_t kernel;
    std::int64_t stride;
    std::int64_t padding;
    std::int64_t out_channels;
};

/// All matrices are dense and row-major. No kernel allocates.
struct Kernels {
    const char* instruction_set;
    std::int64_t vector;  ///< floats of a register

    /// result[to[p] + c] = sum over t, i of source[from[p] + run_start[t] + i] * w[t][i][c]
    void (*multiply_windows)(const WindowProduct& product, const float* source, const float* packed, float* result);
    /// w: [rows, channels], rows = runs * run, of which a row begins `stride` floats behind the one before; packed: in
    /// the order in which multiply_windows reads it, with zeros for the channels up to a whole register.
    void (*pack_windows)(std::int64_t rows, std::int64_t channels, std::int64_t stride, const float* w, float* packed);
    /// The same from w: [channels, rows], dense.
    void (*pack_transposed)(std::int64_t rows, std::int64_t channels, const float* w, float* packed);
    /// w[t][i][c] += sum over p of source[from[p] + run_start[t] + i] * result[p][c]
    void (*add_window_weights)(const WindowProduct& product, const float* source, const float* result, float* w);

    // The same, channel by channel, with runs of one value a channel and any number of channels.
    /// result[to[p] + c] = sum over t of source[from[p] + run_start[t] + c] * w[t][c]
    void (*multiply_depthwise)(const WindowProduct& product, const float* source, const float* w, float* result);
    /// w[t][c] += sum over p of source[from[p] + run_start[t] + c] * result[p][c]
    void (*add_depthwise_weights)(const WindowProduct& product, const float* source, const float* result, float* w);

    /// c += a^T * b        a: [k, m], b: [k, n], c: [m, n]
    void (*add_transposed_times)(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b,
                                 float* c);
    /// b = a^T             a: [m, n], b: [n, m]
    void (*transpose)(std::int64_t m, std::int64_t n, const float* a, float* b);
    /// b += a^T
    void (*add_transposed)(std::int64_t m, std::int64_t n, const float* a, float* b);

    // The two adjoints of a convolution over the non-zero values of one image's dy alone: behind ReLU and max pooling
    // three in four and more are zero. `padded` is scratch. Weights are transposed: [out_channels, kernel * kernel *
    // channels].
    std::int64_t (*count_nonzero)(const float* values, std::int64_t count);
    /// dw_transposed += dy^T * windows(image)
    void (*add_sparse_weights)(const PatchGeometry& geometry, const float* image, const float* dy, float* padded,
                               float* dw_transposed);
    /// image = the adjoint of taking windows, on dy * w_transposed
    void (*scatter_sparse)(const PatchGeometry& geometry, const float* dy, const float* w_transposed, float* padded,
                           float* image);
};

}  // namespace dither::detail
