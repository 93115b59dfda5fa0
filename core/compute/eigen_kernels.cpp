// Compiled once for each instruction set; core/CMakeLists.txt names the table (DITHER_KERNELS) and gives Eigen a
// namespace of its own in each variant, so that the linker never merges code for different processors.
#include "core/detail/kernels.hpp"

#include <Eigen/Core>

#include <cstring>

namespace dither::detail {

extern const Kernels DITHER_KERNELS;

namespace {

using Matrix = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
using ConstMatrix = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
template <int N>
using Chunk = Eigen::Array<float, N, 1>;
template <int N>
using ChunkMap = Eigen::Map<Chunk<N>>;
template <int N>
using ConstChunkMap = Eigen::Map<const Chunk<N>>;
template <int N>
struct Width {};
using ConstRow = Eigen::Map<const Eigen::Matrix<float, 1, Eigen::Dynamic>>;

void affine(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b, const float* bias,
            float* c) {
    Matrix result(c, m, n);
    if (bias == nullptr) {
        result.noalias() = ConstMatrix(a, m, k) * ConstMatrix(b, k, n);
        return;
    }
    result.rowwise() = ConstRow(bias, n);
    result.noalias() += ConstMatrix(a, m, k) * ConstMatrix(b, k, n);
}

void times_transposed(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b, float* c) {
    Matrix(c, m, n).noalias() = ConstMatrix(a, m, k) * ConstMatrix(b, n, k).transpose();
}

void add_transposed_times(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b, float* c) {
    Matrix(c, m, n).noalias() += ConstMatrix(a, k, m).transpose() * ConstMatrix(b, k, n);
}

std::int64_t padded_row(const PatchGeometry& g) {
    return (g.width + 2 * g.padding) * g.channels;
}

std::size_t bytes(std::int64_t floats) {
    return static_cast<std::size_t>(floats) * sizeof(float);
}

void clear_padded(const PatchGeometry& g, float* padded) {
    std::memset(padded, 0, bytes((g.height + 2 * g.padding) * padded_row(g)));
}

/// Where the image's row `y` starts in the padded one.
std::int64_t inner_row(const PatchGeometry& g, std::int64_t y) {
    return (y + g.padding) * padded_row(g) + g.padding * g.channels;
}

/// Copies at least `count` floats in whole vectors; what it writes too much, the next call overwrites.
void copy_run(const float* from, float* to, std::int64_t count) {
    constexpr std::int64_t kVector = kPatchSlack;
    for (std::int64_t i = 0; i < count; i += kVector)
        std::memcpy(to + i, from + i, bytes(kVector));
}

/// Calls visit(offset in the padded image, offset in the patches) for every row of every window: a run of kernel *
/// channels floats that is contiguous in both.
template <typename Visitor>
void for_each_run(const PatchGeometry& g, Visitor visit) {
    const std::int64_t run = g.kernel * g.channels;
    std::int64_t patch = 0;
    for (std::int64_t y = 0; y < g.out_height; ++y)
        for (std::int64_t x = 0; x < g.out_width; ++x)
            for (std::int64_t k = 0; k < g.kernel; ++k, patch += run)
                visit((y * g.stride + k) * padded_row(g) + x * g.stride * g.channels, patch);
}

void pad_image(const PatchGeometry& g, const float* image, float* padded) {
    const std::int64_t row = g.width * g.channels;
    clear_padded(g, padded);
    for (std::int64_t y = 0; y < g.height; ++y)
        std::memcpy(padded + inner_row(g, y), image + y * row, bytes(row));
}

void crop_image(const PatchGeometry& g, const float* padded, float* image) {
    const std::int64_t row = g.width * g.channels;
    for (std::int64_t y = 0; y < g.height; ++y)
        std::memcpy(image + y * row, padded + inner_row(g, y), bytes(row));
}

void gather_patches(const PatchGeometry& g, const float* image, float* padded, float* patches) {
    pad_image(g, image, padded);
    const std::int64_t run = g.kernel * g.channels;
    for_each_run(g, [=](std::int64_t from, std::int64_t to) { copy_run(padded + from, patches + to, run); });
}

void scatter_patches(const PatchGeometry& g, const float* patches, float* padded, float* image) {
    const std::int64_t run = g.kernel * g.channels;
    clear_padded(g, padded);
    for_each_run(g, [=](std::int64_t to, std::int64_t from) {
        for (std::int64_t i = 0; i < run; ++i)
            padded[to + i] += patches[from + i];
    });
    crop_image(g, padded, image);
}

std::int64_t count_nonzero(const float* values, std::int64_t count) {
    return Eigen::Map<const Eigen::ArrayXf>(values, count).cast<bool>().count();
}

/// Some non-zero values of one position of dy, and the padded image's offset of its window.
struct LiveChannels {
    static constexpr std::int64_t kMost = 64;

    std::int64_t window;
    std::int64_t count;
    std::int32_t channel[kMost];
    float value[kMost];
};

/// Lists the non-zero values among channels [begin, end), without a branch that the processor could not predict.
void list_live(const float* dy, std::int64_t begin, std::int64_t end, LiveChannels& live) {
    std::int64_t count = 0;
    for (std::int64_t c = begin; c < end; ++c) {
        live.channel[count] = static_cast<std::int32_t>(c);
        live.value[count] = dy[c];
        count += dy[c] != 0;
    }
    live.count = count;
}

/// Calls visit(live) for all non-zero values of dy, position by position.
template <typename Visitor>
void for_each_live(const PatchGeometry& g, const float* dy, Visitor visit) {
    LiveChannels live;
    for (std::int64_t y = 0; y < g.out_height; ++y)
        for (std::int64_t x = 0; x < g.out_width; ++x, dy += g.out_channels) {
            live.window = y * g.stride * padded_row(g) + x * g.stride * g.channels;
            for (std::int64_t begin = 0; begin < g.out_channels; begin += LiveChannels::kMost) {
                const std::int64_t rest = g.out_channels - begin;
                list_live(dy, begin, begin + (rest < LiveChannels::kMost ? rest : LiveChannels::kMost), live);
                visit(live);
            }
        }
}

/// Cuts the taps of a window into chunks: calls visit(width, offset in the window, tap), the width a constant.
template <typename Visitor>
void for_each_chunk(const PatchGeometry& g, Visitor visit) {
    constexpr std::int64_t kChunk = 16;
    const std::int64_t run = g.kernel * g.channels;
    for (std::int64_t k = 0; k < g.kernel; ++k) {
        std::int64_t i = 0;
        for (; i + kChunk <= run; i += kChunk)
            visit(Width<kChunk>{}, k * padded_row(g) + i, k * run + i);
        for (; i < run; ++i)
            visit(Width<1>{}, k * padded_row(g) + i, k * run + i);
    }
}

void add_sparse_weights(const PatchGeometry& g, const float* image, const float* dy, float* padded,
                        float* dw_transposed) {
    pad_image(g, image, padded);
    const std::int64_t taps = g.kernel * g.kernel * g.channels;
    for_each_live(g, dy, [&](const LiveChannels& live) {
        for_each_chunk(g, [&]<int N>(Width<N>, std::int64_t offset, std::int64_t tap) {
            const Chunk<N> x = ConstChunkMap<N>(padded + live.window + offset);
            for (std::int64_t i = 0; i < live.count; ++i)
                ChunkMap<N>(dw_transposed + live.channel[i] * taps + tap) += live.value[i] * x;
        });
    });
}

void scatter_sparse(const PatchGeometry& g, const float* dy, const float* w_transposed, float* padded, float* image) {
    clear_padded(g, padded);
    const std::int64_t taps = g.kernel * g.kernel * g.channels;
    for_each_live(g, dy, [&](const LiveChannels& live) {
        for_each_chunk(g, [&]<int N>(Width<N>, std::int64_t offset, std::int64_t tap) {
            ChunkMap<N> place(padded + live.window + offset);
            Chunk<N> sum = place;
            for (std::int64_t i = 0; i < live.count; ++i)
                sum += live.value[i] * ConstChunkMap<N>(w_transposed + live.channel[i] * taps + tap);
            place = sum;
        });
    });
    crop_image(g, padded, image);
}

constexpr const char* kInstructionSet =
#if defined(__AVX512F__)
    "avx512";
#elif defined(__AVX2__)
    "avx2";
#else
    "baseline";
#endif

}  // namespace

const Kernels DITHER_KERNELS{kInstructionSet, affine,        times_transposed,   add_transposed_times, gather_patches,
                             scatter_patches, count_nonzero, add_sparse_weights, scatter_sparse};

}  // namespace dither::detail
