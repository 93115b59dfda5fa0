// Compiled once for each instruction set; core/CMakeLists.txt names the table (DITHER_KERNELS).
#include "core/compute/detail/integer_kernels.hpp"

#include "core/compute/detail/integer_arithmetic.hpp"

namespace dither::detail {

extern const IntegerKernels DITHER_KERNELS;
extern const IntegerLiveKernels DITHER_LIVE_KERNELS;

namespace {

using Sums = Arithmetic::Sums;
using Operands = Arithmetic::Operands;
constexpr std::int64_t kLanes = Arithmetic::kLanes;
constexpr std::int64_t kGroup = Arithmetic::kGroup;
constexpr int kVectors = 2;
constexpr std::int64_t kPanel = kVectors * kLanes;

/// Tiles of equal height: rows and one panel, over some of the groups.
struct Tiles {
    const std::int16_t* base;
    const std::int64_t* rows;
    std::int64_t group_count;
    const std::int64_t* groups;
    const std::int16_t* packed;
    std::int32_t* out;
    const std::int64_t* outputs;
    bool accumulate;
};

/// The sums stay in registers over all groups; every row's group meets every vector of the panel, or, channel by
/// channel, its own.
template <int Rows, int Vectors, bool ByChannel>
void multiply_tiles(const Tiles& tiles, std::int64_t count) {
    const std::int64_t* const end = tiles.groups + tiles.group_count;
    for (std::int64_t tile = 0; tile < count; ++tile) {
        const std::int16_t* row[Rows];
        std::int32_t* out[Rows];
        Sums sums[Rows][Vectors];
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            row[r] = tiles.base + tiles.rows[tile * Rows + r];
            out[r] = tiles.out + tiles.outputs[tile * Rows + r];
#pragma GCC unroll 2
            for (int v = 0; v < Vectors; ++v)
                sums[r][v] = tiles.accumulate ? Arithmetic::load_sums(out[r] + v * kLanes) : Arithmetic::zero();
        }
        const std::int16_t* packed = tiles.packed;
        for (const std::int64_t* group = tiles.groups; group != end; ++group, packed += kPanel * kGroup) {
            Operands w[Vectors];
#pragma GCC unroll 2
            for (int v = 0; v < Vectors; ++v)
                w[v] = Arithmetic::load(packed + v * kLanes * kGroup);
#pragma GCC unroll 16
            for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
                for (int v = 0; v < Vectors; ++v) {
                    const Operands x = ByChannel ? Arithmetic::load(row[r] + *group + v * kLanes * kGroup)
                                                 : Arithmetic::broadcast(row[r] + *group);
                    sums[r][v] = Arithmetic::dot(sums[r][v], x, w[v]);
                }
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
            for (int v = 0; v < Vectors; ++v)
                Arithmetic::store(out[r] + v * kLanes, sums[r][v]);
    }
}

using TilesKernel = void (*)(const Tiles&, std::int64_t);

template <bool ByChannel, int Rows = Arithmetic::kRows>
TilesKernel tiles_kernel(std::int64_t rows, bool whole_panel) {
    if constexpr (Rows > 1) {
        if (rows != Rows)
            return tiles_kernel<ByChannel, Rows - 1>(rows, whole_panel);
    }
    return whole_panel ? multiply_tiles<Rows, kVectors, ByChannel> : multiply_tiles<Rows, 1, ByChannel>;
}

template <bool ByChannel>
void multiply_tiles(const Tiles& tiles, std::int64_t count, std::int64_t height, std::int64_t channels) {
    const TilesKernel kernel = tiles_kernel<ByChannel>(height, channels > kLanes);
    if (channels == kPanel || channels == kLanes) {
        kernel(tiles, count);
        return;
    }
    // The last panel: sums of whole vectors, of which some are nobody's.
    std::int32_t sums[Arithmetic::kRows * kPanel];
    std::int64_t places[Arithmetic::kRows];
    for (std::int64_t r = 0; r < height; ++r)
        places[r] = r * kPanel;
    Tiles one = tiles;
    one.out = sums;
    one.outputs = places;
    one.accumulate = false;
    const std::int64_t* outputs = tiles.outputs;
    for (std::int64_t tile = 0; tile < count; ++tile, one.rows += height, outputs += height) {
        kernel(one, 1);
        for (std::int64_t r = 0; r < height; ++r) {
            std::int32_t* to = tiles.out + outputs[r];
            for (std::int64_t n = 0; n < channels; ++n)
                to[n] = tiles.accumulate ? wrapping_sum(to[n], sums[places[r] + n]) : sums[places[r] + n];
        }
    }
}

/// Some rows of one panel over the task's groups from `first` on.
template <bool ByChannel>
void multiply_panel(const IntegerTask& task, std::int64_t first_row, std::int64_t rows, std::int64_t panel,
                    std::int64_t first, std::int64_t group_count) {
    const std::int64_t channel = panel * kPanel;
    const std::int64_t rest = task.channels - channel;
    const std::int64_t channels = rest < kPanel ? rest : kPanel;
    Tiles tiles{task.base + (ByChannel ? channel * kGroup : 0),
                task.rows + first_row,
                group_count,
                task.groups + first,
                task.packed + (panel * task.group_count + first) * kPanel * kGroup,
                task.out + channel,
                task.outputs + first_row,
                task.accumulate || first > 0};
    // Heights that differ by one row at most: high tiles first.
    const std::int64_t count = (rows + Arithmetic::kRows - 1) / Arithmetic::kRows;
    const std::int64_t height = (rows + count - 1) / count;
    const std::int64_t high = rows - count * (height - 1);
    multiply_tiles<ByChannel>(tiles, high, height, channels);
    tiles.rows += high * height;
    tiles.outputs += high * height;
    if (high < count)
        multiply_tiles<ByChannel>(tiles, count - high, height - 1, channels);
}

/// Rows that meet all panels before the next rows do, where the panels stay in the first-level cache together.
constexpr std::int64_t kBlockRows = 8 * Arithmetic::kRows;
/// A panel of that many groups takes half of the first-level cache.
constexpr std::int64_t kBlockGroups = 8192 / (kPanel * kGroup);

template <bool ByChannel>
void multiply(const IntegerTask& task) {
    const std::int64_t panels = (task.channels + kPanel - 1) / kPanel;
    const std::int64_t blocks = task.group_count == 0 ? 1 : (task.group_count + kBlockGroups - 1) / kBlockGroups;
    for (std::int64_t block = 0; block < blocks; ++block) {
        const std::int64_t first = task.group_count * block / blocks;
        const std::int64_t count = task.group_count * (block + 1) / blocks - first;
        // What stays in the first-level cache: the packed operand if all its panels fit, else one panel.
        const bool small = panels * count <= kBlockGroups;
        const std::int64_t step = small && panels > 1 ? kBlockRows : task.row_count;
        for (std::int64_t row = 0; row < task.row_count; row += step) {
            const std::int64_t rest = task.row_count - row;
            for (std::int64_t panel = 0; panel < panels; ++panel)
                multiply_panel<ByChannel>(task, row, rest < step ? rest : step, panel, first, count);
        }
    }
}

/// What a group without a source is packed from.
constexpr std::int8_t kZeros[kPanel] = {};

/// The value of one channel and source.
std::int16_t packed_value(const IntegerPacking& packing, std::int64_t source, std::int64_t channel) {
    return source < 0 ? std::int16_t{0} : packing.from[source + channel * packing.channel_stride];
}

#if defined(__SSE2__)
__m128i load_eight(const std::int8_t* from) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}

/// Eight codes in 16 bits.
__m128i widen_eight(__m128i codes) {
    return _mm_srai_epi16(_mm_unpacklo_epi8(codes, codes), 8);
}

/// One group of a whole panel whose channels are neighbours in the source.
void pack_group(const std::int8_t* even, const std::int8_t* odd, std::int16_t* to) {
    for (std::int64_t n = 0; n < kPanel; n += 8, to += 16) {
        const __m128i pairs = _mm_unpacklo_epi8(load_eight(even + n), load_eight(odd + n));
#if defined(__AVX2__)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepi8_epi16(pairs));
#else
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), widen_eight(pairs));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), widen_eight(_mm_unpackhi_epi64(pairs, pairs)));
#endif
    }
}

/// Four groups of four channels, each channel's eight values neighbours in the source: a 4x4 transposition of pairs.
void pack_four_groups(const std::int8_t* from, std::int64_t channel_stride, std::int16_t* to) {
    const __m128i a = widen_eight(load_eight(from));
    const __m128i b = widen_eight(load_eight(from + channel_stride));
    const __m128i c = widen_eight(load_eight(from + 2 * channel_stride));
    const __m128i d = widen_eight(load_eight(from + 3 * channel_stride));
    const __m128i ab_low = _mm_unpacklo_epi32(a, b);
    const __m128i cd_low = _mm_unpacklo_epi32(c, d);
    const __m128i ab_high = _mm_unpackhi_epi32(a, b);
    const __m128i cd_high = _mm_unpackhi_epi32(c, d);
    const __m128i groups[4] = {_mm_unpacklo_epi64(ab_low, cd_low), _mm_unpackhi_epi64(ab_low, cd_low),
                               _mm_unpacklo_epi64(ab_high, cd_high), _mm_unpackhi_epi64(ab_high, cd_high)};
    for (int g = 0; g < 4; ++g)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + g * kPanel * kGroup), groups[g]);
}

/// Whether four groups from here have neighbours as sources.
bool four_groups_are_neighbours(const std::int64_t* sources) {
    bool neighbours = sources[0] >= 0;
    for (int i = 1; i < 8; ++i)
        neighbours = neighbours && sources[i] == sources[0] + i;
    return neighbours;
}

/// The groups of a whole panel; how many of them it could pack.
std::int64_t pack_quickly(const IntegerPacking& panel, std::int64_t g, std::int16_t* to) {
    const std::int64_t* sources = panel.sources + g * kGroup;
    if (panel.channel_stride == 1) {
        pack_group(sources[0] < 0 ? kZeros : panel.from + sources[0], sources[1] < 0 ? kZeros : panel.from + sources[1],
                   to);
        return 1;
    }
    if (g + 4 > panel.group_count || !four_groups_are_neighbours(sources))
        return 0;
    for (std::int64_t n = 0; n < kPanel; n += 4)
        pack_four_groups(panel.from + sources[0] + n * panel.channel_stride, panel.channel_stride, to + n * kGroup);
    return 4;
}
#else
std::int64_t pack_quickly(const IntegerPacking&, std::int64_t, std::int16_t*) {
    return 0;
}
#endif

/// One group of a panel, of any channels and sources.
void pack_slowly(const IntegerPacking& panel, std::int64_t g, std::int16_t* to) {
    for (std::int64_t n = 0; n < kPanel; ++n)
        for (std::int64_t e = 0; e < kGroup; ++e)
            to[n * kGroup + e] =
                n < panel.channels ? packed_value(panel, panel.sources[g * kGroup + e], n) : std::int16_t{0};
}

void shift_group(const std::uint8_t* shifts, std::int16_t* group) {
    for (std::int64_t e = 0; e < kGroup; ++e)
        for (std::int64_t n = 0; n < kPanel; ++n)
            group[n * kGroup + e] = static_cast<std::int16_t>(group[n * kGroup + e] * (1 << shifts[e]));
}

void pack_panel(const IntegerPacking& panel, std::int16_t* to) {
    std::int64_t g = 0;
    while (g < panel.group_count) {
        std::int16_t* const group = to + g * kPanel * kGroup;
        const std::int64_t packed = panel.channels < kPanel ? 0 : pack_quickly(panel, g, group);
        if (packed == 0)
            pack_slowly(panel, g, group);
        g += packed == 0 ? 1 : packed;
    }
    if (panel.shifts != nullptr)
        for (g = 0; g < panel.group_count; ++g)
            shift_group(panel.shifts + g * kGroup, to + g * kPanel * kGroup);
}

void pack(const IntegerPacking& packing, std::int16_t* packed) {
    IntegerPacking panel = packing;
    for (; panel.channels > 0; panel.channels -= kPanel) {
        pack_panel(panel, packed);
        panel.from += kPanel * packing.channel_stride;
        packed += packing.group_count * kPanel * kGroup;
    }
}

void widen_codes(std::int64_t count, const std::uint8_t* from, std::int32_t zero_point, std::int16_t* to) {
    const auto zero = static_cast<std::int16_t>(zero_point);
    for (std::int64_t i = 0; i < count; ++i)
        to[i] = static_cast<std::int16_t>(from[i] - zero);
}

void widen(std::int64_t count, const std::int8_t* from, std::int16_t* to) {
    for (std::int64_t i = 0; i < count; ++i)
        to[i] = from[i];
}

void interleave(std::int64_t count, const std::int16_t* from, std::int64_t distance, std::int16_t* __restrict to) {
    for (std::int64_t i = 0; i < count; ++i)
        for (std::int64_t e = 0; e < kGroup; ++e)
            to[i * kGroup + e] = from[i + e * distance];
}

constexpr const char* kInstructionSet =
#if defined(__AVX512VNNI__)
    "avx512_vnni";
#elif defined(__AVX512BW__)
    "avx512";
#elif defined(__AVX2__)
    "avx2";
#else
    "baseline";
#endif

}  // namespace

const IntegerKernels DITHER_KERNELS{
    kInstructionSet, kGroup,
    kPanel,          multiply<false>,
    multiply<true>,  pack,
    widen_codes,     widen,
    interleave,      kGroup == 2 ? &DITHER_LIVE_KERNELS : nullptr,
};

}  // namespace dither::detail
