// Compiled once for each instruction set; core/CMakeLists.txt names the table (DITHER_KERNELS) and gives Eigen a
// namespace of its own in each variant, so that the linker never merges code for different processors.
#include "core/detail/kernels.hpp"

#include <Eigen/Core>

#include <cstring>

namespace dither::detail {

extern const Kernels DITHER_KERNELS;

namespace {

using Packet = Eigen::internal::packet_traits<float>::type;
constexpr int kVector = Eigen::internal::packet_traits<float>::size;
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

void add_transposed_times(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b, float* c) {
    Matrix(c, m, n).noalias() += ConstMatrix(a, k, m).transpose() * ConstMatrix(b, k, n);
}

/// Calls put(row of b, column of b, a vector of values): b = a^T, a: [m, n], in square tiles that fit the registers.
template <typename Put>
void for_each_transposed(std::int64_t m, std::int64_t n, const float* a, Put put) {
    constexpr int kSide = kVector;
    const std::int64_t whole_m = m - m % kSide;
    const std::int64_t whole_n = n - n % kSide;
    for (std::int64_t i = 0; i < whole_m; i += kSide)
        for (std::int64_t j = 0; j < whole_n; j += kSide) {
            Eigen::internal::PacketBlock<Packet, kSide> tile;
            for (int r = 0; r < kSide; ++r)
                tile.packet[r] = Eigen::internal::ploadu<Packet>(a + (i + r) * n + j);
            Eigen::internal::ptranspose(tile);
            for (int r = 0; r < kSide; ++r)
                put(j + r, i, tile.packet[r]);
        }
    for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = i < whole_m ? whole_n : 0; j < n; ++j)
            put(j, i, a[i * n + j]);
}

void transpose(std::int64_t m, std::int64_t n, const float* a, float* b) {
    for_each_transposed(m, n, a, [=](std::int64_t row, std::int64_t column, const auto& values) {
        Eigen::internal::pstoreu(b + row * m + column, values);
    });
}

void add_transposed(std::int64_t m, std::int64_t n, const float* a, float* b) {
    for_each_transposed(m, n, a, [=]<typename Values>(std::int64_t row, std::int64_t column, const Values& values) {
        float* place = b + row * m + column;
        Eigen::internal::pstoreu(place, Eigen::internal::padd(Eigen::internal::ploadu<Values>(place), values));
    });
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

// A tile of sums stays in registers: rows (positions, or weights) by vectors of channels. Six by two fill the sixteen
// registers of AVX2, and hide the latency of the fused multiply-adds.
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;

/// `Vector` is Packet, or float for channels that fill none.
template <typename Vector, int Rows, int Vectors>
struct Tile {
    static constexpr int kSize = Eigen::internal::unpacket_traits<Vector>::size;
    Vector sums[Rows][Vectors];

    Tile() {
        for (auto& row : sums)
            for (Vector& sum : row)
                sum = Eigen::internal::pset1<Vector>(0.0F);
    }
    static Vector load(const float* values, int v) { return Eigen::internal::ploadu<Vector>(values + v * kSize); }

    /// sums[r][v] += value(r) * right[v]
    template <typename Value>
    void add(Value value, const float* right) {
        Vector vectors[Vectors];
        for (int v = 0; v < Vectors; ++v)
            vectors[v] = load(right, v);
        for (int r = 0; r < Rows; ++r) {
            const Vector left = Eigen::internal::pset1<Vector>(value(r));
            for (int v = 0; v < Vectors; ++v)
                sums[r][v] = Eigen::internal::pmadd(left, vectors[v], sums[r][v]);
        }
    }
    /// sums[r][v] += left(r)[v] * right[v]
    template <typename Left>
    void add_by_channel(Left left, const float* right) {
        for (int v = 0; v < Vectors; ++v) {
            const Vector vector = load(right, v);
            for (int r = 0; r < Rows; ++r)
                sums[r][v] = Eigen::internal::pmadd(load(left(r), v), vector, sums[r][v]);
        }
    }
    /// Puts row r to place(r).
    template <typename Place>
    void put(Place place) const {
        for (int r = 0; r < Rows; ++r)
            for (int v = 0; v < Vectors; ++v)
                Eigen::internal::pstoreu(place(r) + v * kSize, sums[r][v]);
    }
    /// Adds row r to what is at place(r).
    template <typename Place>
    void add_to(Place place) const {
        for (int r = 0; r < Rows; ++r)
            for (int v = 0; v < Vectors; ++v)
                Eigen::internal::pstoreu(place(r) + v * kSize, Eigen::internal::padd(load(place(r), v), sums[r][v]));
    }
};

/// A type as a value, with a number of it.
template <typename Vector, int Vectors>
struct Columns {};

/// Calls visit(width, first) for tiles of `Rows` of the rows [first, count), and for those left over.
template <int Rows = kTileRows, typename Visitor>
void for_each_tile(std::int64_t count, Visitor visit, std::int64_t first = 0) {
    for (; first + Rows <= count; first += Rows)
        visit(Width<Rows>{}, first);
    if constexpr (Rows > 1)
        for_each_tile<Rows - 1>(count, visit, first);
}

/// Calls visit(number of vectors, first channel) for whole vectors that hold the channels.
template <typename Visitor>
void for_each_vectors(std::int64_t channels, Visitor visit) {
    constexpr std::int64_t kWidth = kTileVectors * kVector;
    std::int64_t c = 0;
    for (; c + kWidth <= channels; c += kWidth)
        visit(Width<kTileVectors>{}, c);
    for (; c < channels; c += kVector)
        visit(Width<1>{}, c);
}

/// Calls visit(columns, first channel): vectors, and single floats for the channels left over.
template <typename Visitor>
void for_each_columns(std::int64_t channels, Visitor visit) {
    const std::int64_t whole = channels - channels % kVector;
    for_each_vectors(whole, [&]<int Vectors>(Width<Vectors>, std::int64_t c) { visit(Columns<Packet, Vectors>{}, c); });
    for (std::int64_t c = whole; c < channels; ++c)
        visit(Columns<float, 1>{}, c);
}

/// Calls visit(part) for parts of the positions whose channels of the result stay in the first-level cache beside the
/// source's.
template <typename Visitor>
void for_each_part(const WindowProduct& whole, Visitor visit) {
    constexpr std::int64_t kPartFloats = 4096;
    const std::int64_t size = kPartFloats / whole.channels + 1;
    WindowProduct part = whole;
    for (std::int64_t first = 0; first < whole.positions; first += size) {
        part.positions = whole.positions - first < size ? whole.positions - first : size;
        part.from = whole.from + first;
        visit(part, first * whole.channels);
    }
}

void multiply_windows(const WindowProduct& p, const float* source, const float* packed, float* result) {
    for_each_vectors(p.channels, [&]<int Vectors>(Width<Vectors>, std::int64_t c) {
        for_each_tile(p.positions, [&]<int Rows>(Width<Rows>, std::int64_t first) {
            Tile<Packet, Rows, Vectors> tile;
            const float* w = packed + c * p.runs * p.run;
            for (std::int64_t t = 0; t < p.runs; ++t) {
                const float* runs[Rows];
                for (int r = 0; r < Rows; ++r)
                    runs[r] = source + p.from[first + r] + p.run_start[t];
                for (std::int64_t i = 0; i < p.run; ++i, w += Vectors * kVector)
                    tile.add([&](int r) { return runs[r][i]; }, w);
            }
            tile.put([&](int r) { return result + p.to[first + r] + c; });
        });
    });
}

void pack_windows(std::int64_t rows, std::int64_t channels, std::int64_t stride, const float* w, float* packed) {
    const std::int64_t widened = (channels + kVector - 1) / kVector * kVector;
    for_each_vectors(widened, [&]<int Vectors>(Width<Vectors>, std::int64_t c) {
        constexpr std::int64_t kWidth = Vectors * kVector;
        const std::int64_t there = channels - c < kWidth ? channels - c : kWidth;
        for (std::int64_t row = 0; row < rows; ++row, packed += kWidth) {
            if (there < kWidth)
                std::memset(packed, 0, bytes(kWidth));
            std::memcpy(packed, w + row * stride + c, there < kWidth ? bytes(there) : bytes(kWidth));
        }
    });
}

void pack_transposed(std::int64_t rows, std::int64_t channels, const float* w, float* packed) {
    const std::int64_t widened = (channels + kVector - 1) / kVector * kVector;
    for_each_vectors(widened, [&]<int Vectors>(Width<Vectors>, std::int64_t c) {
        constexpr std::int64_t kWidth = Vectors * kVector;
        if (c + kWidth <= channels) {
            transpose(kWidth, rows, w + c * rows, packed);
        } else {
            for (std::int64_t row = 0; row < rows; ++row)
                for (std::int64_t i = 0; i < kWidth; ++i)
                    packed[row * kWidth + i] = c + i < channels ? w[(c + i) * rows + row] : 0;
        }
        packed += kWidth * rows;
    });
}

void add_window_weights(const WindowProduct& whole, const float* source, const float* result, float* w) {
    for_each_part(whole, [&](const WindowProduct& p, std::int64_t begin) {
        for_each_vectors(p.channels, [&]<int Vectors>(Width<Vectors>, std::int64_t c) {
            for (std::int64_t t = 0; t < p.runs; ++t)
                for_each_tile(p.run, [&]<int Rows>(Width<Rows>, std::int64_t row) {
                    Tile<Packet, Rows, Vectors> tile;
                    const float* values = source + p.run_start[t] + row;
                    const float* right = result + begin + c;
                    for (std::int64_t i = 0; i < p.positions; ++i, right += p.channels)
                        tile.add([left = values + p.from[i]](int r) { return left[r]; }, right);
                    tile.add_to([&](int r) { return w + (t * p.run + row + r) * p.channels + c; });
                });
        });
    });
}

void multiply_depthwise(const WindowProduct& p, const float* source, const float* w, float* result) {
    for_each_columns(p.channels, [&]<typename Vector, int Vectors>(Columns<Vector, Vectors>, std::int64_t c) {
        for_each_tile(p.positions, [&]<int Rows>(Width<Rows>, std::int64_t first) {
            Tile<Vector, Rows, Vectors> tile;
            const float* windows[Rows];
            for (int r = 0; r < Rows; ++r)
                windows[r] = source + p.from[first + r] + c;
            for (std::int64_t t = 0; t < p.runs; ++t)
                tile.add_by_channel([&, start = p.run_start[t]](int r) { return windows[r] + start; },
                                    w + t * p.channels + c);
            tile.put([&](int r) { return result + p.to[first + r] + c; });
        });
    });
}

void add_depthwise_weights(const WindowProduct& whole, const float* source, const float* result, float* w) {
    for_each_part(whole, [&](const WindowProduct& p, std::int64_t begin) {
        for_each_columns(p.channels, [&]<typename Vector, int Vectors>(Columns<Vector, Vectors>, std::int64_t c) {
            for_each_tile(p.runs, [&]<int Rows>(Width<Rows>, std::int64_t t) {
                Tile<Vector, Rows, Vectors> tile;
                for (std::int64_t i = 0; i < p.positions; ++i) {
                    const float* window = source + p.from[i] + c;
                    tile.add_by_channel([&](int r) { return window + p.run_start[t + r]; },
                                        result + begin + i * p.channels + c);
                }
                tile.add_to([&](int r) { return w + (t + r) * p.channels + c; });
            });
        });
    });
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

const Kernels DITHER_KERNELS{
    .instruction_set = kInstructionSet,
    .vector = kVector,
    .multiply_windows = multiply_windows,
    .pack_windows = pack_windows,
    .pack_transposed = pack_transposed,
    .add_window_weights = add_window_weights,
    .multiply_depthwise = multiply_depthwise,
    .add_depthwise_weights = add_depthwise_weights,
    .add_transposed_times = add_transposed_times,
    .transpose = transpose,
    .add_transposed = add_transposed,
    .count_nonzero = count_nonzero,
    .add_sparse_weights = add_sparse_weights,
    .scatter_sparse = scatter_sparse,
};

}  // namespace dither::detail
