// The arithmetic of the Eigen backend, compiled once for each instruction set. This header and the source behind it
// stay free of the standard library's templates and of inline functions that other sources share: the linker keeps one
// copy of each, and it might keep the one that was compiled for a newer processor.
#pragma once

#include <cstdint>

namespace dither::detail {

/// A convolution's sizes; patches are [out_height * out_width, kernel * kernel * channels].
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

/// Floats that gather_patches may touch beyond the end of its padded image and of its patches.
inline constexpr std::int64_t kPatchSlack = 8;

/// All matrices are dense and row-major. No kernel allocates.
struct Kernels {
    const char* instruction_set;

    /// c = a * b + bias for every row; bias may be null.   a: [m, k], b: [k, n], c: [m, n]
    void (*affine)(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b, const float* bias,
                   float* c);
    /// c = a * b^T                                         a: [m, k], b: [n, k], c: [m, n]
    void (*times_transposed)(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b, float* c);
    /// c += a^T * b                                        a: [k, m], b: [k, n], c: [m, n]
    void (*add_transposed_times)(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b,
                                 float* c);
    /// Copies every window of an image into a row of `patches` (im2col; Chellapilla et al. 2006). `padded` is scratch.
    void (*gather_patches)(const PatchGeometry& geometry, const float* image, float* padded, float* patches);
    /// The adjoint of gather_patches: sums the patches into the image (col2im); overwrites the image.
    void (*scatter_patches)(const PatchGeometry& geometry, const float* patches, float* padded, float* image);

    // The two adjoints of a convolution over the non-zero values of one image's dy alone: behind ReLU and max pooling
    // three in four and more are zero. Weights are transposed: [out_channels, kernel * kernel * channels].
    std::int64_t (*count_nonzero)(const float* values, std::int64_t count);
    /// dw_transposed += dy^T * patches(image)
    void (*add_sparse_weights)(const PatchGeometry& geometry, const float* image, const float* dy, float* padded,
                               float* dw_transposed);
    /// image = the adjoint of gather_patches on dy * w_transposed
    void (*scatter_sparse)(const PatchGeometry& geometry, const float* dy, const float* w_transposed, float* padded,
                           float* image);
};

}  // namespace dither::detail
