// Compiled once for each instruction set; core/CMakeLists.txt names the table (DITHER_KERNELS).
#include "core/compute/detail/integer_kernels.hpp"

#include "core/compute/detail/integer_arithmetic.hpp"

namespace dither::detail {

extern const MultiplyKernels<Arithmetic::Row, Arithmetic::Packed> DITHER_KERNELS;

namespace {

using Row = Arithmetic::Row;
using Packed = Arithmetic::Packed;
using Sums = Arithmetic::Sums;
using Operands = Arithmetic::Operands;
constexpr std::int64_t kLanes = Arithmetic::kLanes;
constexpr std::int64_t kGroup = Arithmetic::kGroup;
constexpr int kVectors = 2;
constexpr std::int64_t kPanel = kVectors * kLanes;

#if defined(DITHER_BYTE_OPERANDS)
constexpr bool kCentred = false;

Sums without_excess(Sums sums, std::int32_t excess, const std::int32_t* channel_sums) {
    return Arithmetic::subtract_product(sums, Arithmetic::load_sums(channel_sums), excess);
}
#else
constexpr bool kCentred = true;

Sums without_excess(Sums sums, std::int32_t, const std::int32_t*) {
    return sums;
}
#endif

/// Tiles of equal height: rows and one panel, over some of the groups.
struct Tiles {
    const Row* base;
    const std::int64_t* rows;
    std::int64_t group_count;
    const std::int64_t* groups;
    const Packed* packed;
    std::int32_t* out;
    const std::int64_t* outputs;
    bool accumulate;
    const std::int32_t* excess;  ///< null: none, or none any more
    const std::int32_t* channel_sums;
};

/// The sums stay in registers over all groups; every row's group meets every vector of the panel, or, channel by
/// channel, its own.
template <int Rows, int Vectors, bool ByChannel>
void multiply_tiles(const Tiles& tiles, std::int64_t count) {
    const std::int64_t* const end = tiles.groups + tiles.group_count;
    for (std::int64_t tile = 0; tile < count; ++tile) {
        const Row* row[Rows];
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
        if (!kCentred && tiles.excess != nullptr) {
#pragma GCC unroll 16
            for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
                for (int v = 0; v < Vectors; ++v)
                    sums[r][v] =
                        without_excess(sums[r][v], tiles.excess[tile * Rows + r], tiles.channel_sums + v * kLanes);
        }
        const Packed* packed = tiles.packed;
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
        one.excess = tiles.excess == nullptr ? nullptr : tiles.excess + tile * height;
        kernel(one, 1);
        for (std::int64_t r = 0; r < height; ++r) {
            std::int32_t* to = tiles.out + outputs[r];
            for (std::int64_t n = 0; n < channels; ++n)
                to[n] = tiles.accumulate ? wrapping_sum(to[n], sums[places[r] + n]) : sums[places[r] + n];
        }
    }
}

using Task = IntegerTask<Row, Packed>;

/// Some rows of one panel over the task's groups from `first` on.
template <bool ByChannel>
void multiply_panel(const Task& task, std::int64_t first_row, std::int64_t rows, std::int64_t panel, std::int64_t first,
                    std::int64_t group_count) {
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
                task.accumulate || first > 0,
                kCentred || first > 0 ? nullptr : task.excess + first_row,
                kCentred ? nullptr : task.channel_sums + channel};
    // Heights that differ by one row at most: high tiles first.
    const std::int64_t count = (rows + Arithmetic::kRows - 1) / Arithmetic::kRows;
    const std::int64_t height = (rows + count - 1) / count;
    const std::int64_t high = rows - count * (height - 1);
    multiply_tiles<ByChannel>(tiles, high, height, channels);
    tiles.rows += high * height;
    tiles.outputs += high * height;
    if (tiles.excess != nullptr)
        tiles.excess += high * height;
    if (high < count)
        multiply_tiles<ByChannel>(tiles, count - high, height - 1, channels);
}

/// Rows that meet all panels before the next rows do, where the panels stay in the first-level cache together.
constexpr std::int64_t kBlockRows = 8 * Arithmetic::kRows;
/// A panel of that many groups takes half of the first-level cache.
constexpr std::int64_t kBlockGroups = 16384 / (kPanel * kGroup * static_cast<std::int64_t>(sizeof(Packed)));

template <bool ByChannel>
void multiply(const Task& task) {
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
std::int8_t packed_value(const IntegerPacking& packing, std::int64_t source, std::int64_t channel) {
    return source < 0 ? std::int8_t{0} : packing.from[source + channel * packing.channel_stride];
}

/// What is packed at once: so many groups of the first channels of a panel.
struct Quickly {
    std::int64_t groups;
    std::int64_t channels;
};

#if defined(__SSE2__)
/// Four groups of each of four channels, group by group.
void store_transposed(__m128i a, __m128i b, __m128i c, __m128i d, Packed* to) {
    __m128i groups[4] = {a, b, c, d};
    transpose(groups);
    for (int g = 0; g < 4; ++g)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + g * kPanel * kGroup), groups[g]);
}

#if defined(DITHER_BYTE_OPERANDS)
__m128i load_sixteen(const void* from) {
    return _mm_loadu_si128(static_cast<const __m128i*>(from));
}

/// Sixteen values of each of four rows, in groups.
void interleave_sixteen(const void* a, const void* b, const void* c, const void* d, void* to) {
    const __m128i ab_low = _mm_unpacklo_epi8(load_sixteen(a), load_sixteen(b));
    const __m128i ab_high = _mm_unpackhi_epi8(load_sixteen(a), load_sixteen(b));
    const __m128i cd_low = _mm_unpacklo_epi8(load_sixteen(c), load_sixteen(d));
    const __m128i cd_high = _mm_unpackhi_epi8(load_sixteen(c), load_sixteen(d));
    auto* const out = static_cast<__m128i*>(to);
    _mm_storeu_si128(out, _mm_unpacklo_epi16(ab_low, cd_low));
    _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(ab_low, cd_low));
    _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(ab_high, cd_high));
    _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(ab_high, cd_high));
}

/// Channels that pack_group takes at a time.
constexpr std::int64_t kStep = 16;

/// One group of channels that are neighbours in the source.
void pack_group(const std::int8_t* const rows[], std::int64_t channels, Packed* to) {
    for (std::int64_t n = 0; n < channels; n += kStep)
        interleave_sixteen(rows[0] + n, rows[1] + n, rows[2] + n, rows[3] + n, to + n * kGroup);
}

/// Sixteen codes of a channel, which are four groups.
__m128i load_four_groups(const std::int8_t* from) {
    return load_sixteen(from);
}
#else
__m128i load_eight(const std::int8_t* from) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}

/// Eight codes in 16 bits.
__m128i widen_eight(__m128i codes) {
    return _mm_srai_epi16(_mm_unpacklo_epi8(codes, codes), 8);
}

/// Channels that pack_group takes at a time.
constexpr std::int64_t kStep = 8;

/// One group of channels that are neighbours in the source.
void pack_group(const std::int8_t* const rows[], std::int64_t channels, Packed* to) {
    for (std::int64_t n = 0; n < channels; n += kStep, to += kStep * kGroup) {
        const __m128i pairs = _mm_unpacklo_epi8(load_eight(rows[0] + n), load_eight(rows[1] + n));
#if defined(__AVX2__)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepi8_epi16(pairs));
#else
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), widen_eight(pairs));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), widen_eight(_mm_unpackhi_epi64(pairs, pairs)));
#endif
    }
}

/// Eight codes of a channel, which are four groups.
__m128i load_four_groups(const std::int8_t* from) {
    return widen_eight(load_eight(from));
}
#endif

/// Four groups, each channel's values neighbours in the source.
void pack_four_groups(const std::int8_t* from, std::int64_t channels, std::int64_t channel_stride, Packed* to) {
    for (std::int64_t n = 0; n < channels; n += 4, from += 4 * channel_stride)
        store_transposed(load_four_groups(from), load_four_groups(from + channel_stride),
                         load_four_groups(from + 2 * channel_stride), load_four_groups(from + 3 * channel_stride),
                         to + n * kGroup);
}

/// Whether four groups from here have neighbours as sources.
bool four_groups_are_neighbours(const std::int64_t* sources) {
    bool neighbours = sources[0] >= 0;
    for (std::int64_t i = 1; i < 4 * kGroup; ++i)
        neighbours = neighbours && sources[i] == sources[0] + i;
    return neighbours;
}

/// Groups of as many channels of the panel as it can, of which there are `channels`.
Quickly pack_quickly(const IntegerPacking& panel, std::int64_t g, std::int64_t channels, Packed* to) {
    const std::int64_t* sources = panel.sources + g * kGroup;
    if (panel.channel_stride == 1) {
        const std::int8_t* rows[kGroup];
        for (std::int64_t e = 0; e < kGroup; ++e)
            rows[e] = sources[e] < 0 ? kZeros : panel.from + sources[e];
        pack_group(rows, channels / kStep * kStep, to);
        return {1, channels / kStep * kStep};
    }
    if (g + 4 > panel.group_count || !four_groups_are_neighbours(sources))
        return {1, 0};
    pack_four_groups(panel.from + sources[0], channels / 4 * 4, panel.channel_stride, to);
    return {4, channels / 4 * 4};
}
#else
Quickly pack_quickly(const IntegerPacking&, std::int64_t, std::int64_t, Packed*) {
    return {1, 0};
}
#endif

/// One group of some channels of a panel, of any sources.
void pack_slowly(const IntegerPacking& panel, std::int64_t g, std::int64_t first, std::int64_t channels, Packed* to) {
    for (std::int64_t n = first; n < channels; ++n)
        for (std::int64_t e = 0; e < kGroup; ++e)
            to[n * kGroup + e] = packed_value(panel, panel.sources[g * kGroup + e], n);
}

void shift_group(const std::uint8_t* shifts, Packed* group) {
    for (std::int64_t e = 0; e < kGroup; ++e)
        for (std::int64_t n = 0; n < kPanel; ++n)
            group[n * kGroup + e] = static_cast<Packed>(group[n * kGroup + e] * (1 << shifts[e]));
}

/// Lanes that are no channel's keep what they have: their sums are nobody's.
void pack_panel(const IntegerPacking& panel, Packed* to) {
    const std::int64_t channels = panel.channels < kPanel ? panel.channels : kPanel;
    std::int64_t g = 0;
    while (g < panel.group_count) {
        Packed* const group = to + g * kPanel * kGroup;
        const Quickly packed = pack_quickly(panel, g, channels, group);
        for (std::int64_t i = 0; i < packed.groups && packed.channels < channels; ++i)
            pack_slowly(panel, g + i, packed.channels, channels, group + i * kPanel * kGroup);
        g += packed.groups;
    }
    if (panel.shifts != nullptr)
        for (g = 0; g < panel.group_count; ++g)
            shift_group(panel.shifts + g * kGroup, to + g * kPanel * kGroup);
}

#if defined(DITHER_BYTE_OPERANDS)
/// Of every channel of a panel.
void add_up_panel(std::int64_t group_count, const Packed* packed, std::int32_t* channel_sums) {
    constexpr Row kOnes[kGroup] = {1, 1, 1, 1};
    const Operands ones = Arithmetic::broadcast(kOnes);
    Sums sums[kVectors];
    for (Sums& sum : sums)
        sum = Arithmetic::zero();
    for (std::int64_t g = 0; g < group_count; ++g, packed += kPanel * kGroup)
        for (int v = 0; v < kVectors; ++v)
            sums[v] = Arithmetic::dot(sums[v], ones, Arithmetic::load(packed + v * kLanes * kGroup));
    for (int v = 0; v < kVectors; ++v)
        Arithmetic::store(channel_sums + v * kLanes, sums[v]);
}
#else
void add_up_panel(std::int64_t, const Packed*, std::int32_t*) {}
#endif

void pack(const IntegerPacking& packing, Packed* packed, std::int32_t* channel_sums) {
    IntegerPacking panel = packing;
    for (; panel.channels > 0; panel.channels -= kPanel) {
        pack_panel(panel, packed);
        add_up_panel(packing.group_count, packed, channel_sums);
        panel.from += kPanel * packing.channel_stride;
        packed += packing.group_count * kPanel * kGroup;
        channel_sums += kCentred ? 0 : kPanel;
    }
}

void load_codes(std::int64_t count, const std::uint8_t* from, std::int32_t zero_point, Row* to) {
    const auto zero = static_cast<Row>(kCentred ? zero_point : 0);
    for (std::int64_t i = 0; i < count; ++i)
        to[i] = static_cast<Row>(from[i] - zero);
}

void load_signed(std::int64_t count, const std::int8_t* from, Row* to) {
    constexpr std::int32_t kExcess = kCentred ? 0 : kByteExcess;
    for (std::int64_t i = 0; i < count; ++i)
        to[i] = static_cast<Row>(from[i] + kExcess);
}

void interleave(std::int64_t count, const Row* from, std::int64_t distance, Row* __restrict to) {
    std::int64_t i = 0;
#if defined(DITHER_BYTE_OPERANDS) && defined(__SSE2__)
    for (; i + 16 <= count; i += 16)
        interleave_sixteen(from + i, from + i + distance, from + i + 2 * distance, from + i + 3 * distance,
                           to + i * kGroup);
#endif
    for (; i < count; ++i)
        for (std::int64_t e = 0; e < kGroup; ++e)
            to[i * kGroup + e] = from[i + e * distance];
}

}  // namespace

const MultiplyKernels<Row, Packed> DITHER_KERNELS{
    kGroup, kPanel, multiply<false>, multiply<true>, pack, load_codes, load_signed, interleave,
};

}  // namespace dither::detail
