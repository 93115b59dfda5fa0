// Sums over the live values of a gradient alone. Compiled once for each instruction set, as integer_kernels.cpp.
//
// Two live values that multiply windows of their own make a group: their windows are interleaved in registers.
#include "core/compute/detail/integer_arithmetic.hpp"
#include "core/compute/detail/integer_kernels.hpp"

namespace dither::detail {

extern const IntegerLiveKernels DITHER_LIVE_KERNELS;

#if defined(__SSE2__)
namespace {

using Sums = Arithmetic::Sums;
using Operands = Arithmetic::Operands;
constexpr std::int64_t kLanes = Arithmetic::kLanes;
constexpr std::int64_t kWidth = 2 * kLanes;

/// Where the sum of a vector's value i is: pairs are made in each 128 bits apart.
constexpr std::int64_t place_of_sum(std::int64_t i) {
    return (i % 8 < 4 ? 0 : kLanes) + i / 8 * 4 + i % 4;
}

/// Loads once what is used twice: the compiler would rather load it again, but loads are what there is least of.
Operands load_once(const std::int16_t* from) {
    Operands loaded = Arithmetic::load(from);
    asm("" : "+v"(loaded));
    return loaded;
}

/// A few vectors of every window.
template <int Vectors, bool Accumulate>
void sum_vectors(const IntegerLiveSum& task, std::int64_t first) {
    const std::int16_t* from[Vectors];
    std::int32_t* to[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
        from[v] = task.base + task.from[first + v];
        to[v] = task.out + task.to[first + v];
    }
    for (const LiveList *list = task.lists, *end = list + task.list_count; list != end; ++list) {
        const std::int64_t place = list->out;
        Sums low[Vectors];
        Sums high[Vectors];
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
            low[v] = Accumulate ? Arithmetic::load_sums(to[v] + place) : Arithmetic::zero();
            high[v] = Accumulate ? Arithmetic::load_sums(to[v] + place + kLanes) : Arithmetic::zero();
        }
        const std::int32_t* offsets = task.offsets + list->begin;
        const std::int16_t* values = task.values + list->begin;
        for (const std::int16_t* const last = values + list->count; values != last; values += 2, offsets += 2) {
            const Operands pair = Arithmetic::broadcast(values);
            const std::int64_t a = offsets[0];
            const std::int64_t b = offsets[1];
#pragma GCC unroll 8
            for (int v = 0; v < Vectors; ++v) {
                const Operands window_a = load_once(from[v] + a);
                const Operands window_b = load_once(from[v] + b);
                low[v] = Arithmetic::dot(low[v], Arithmetic::pair_low(window_a, window_b), pair);
                high[v] = Arithmetic::dot(high[v], Arithmetic::pair_high(window_a, window_b), pair);
            }
        }
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
            Arithmetic::store(to[v] + place, low[v]);
            Arithmetic::store(to[v] + place + kLanes, high[v]);
        }
    }
}

using VectorsKernel = void (*)(const IntegerLiveSum&, std::int64_t);

/// As many vectors as have their sums in registers.
constexpr int kMostVectors = 5;

template <bool Accumulate, int Vectors = kMostVectors>
VectorsKernel vectors_kernel(std::int64_t vectors) {
    if constexpr (Vectors > 1) {
        if (vectors != Vectors)
            return vectors_kernel<Accumulate, Vectors - 1>(vectors);
    }
    return sum_vectors<Vectors, Accumulate>;
}

void sum(const IntegerLiveSum& task) {
    std::int64_t first = 0;
    for (std::int64_t passes = (task.vectors + kMostVectors - 1) / kMostVectors; passes > 0; --passes) {
        const std::int64_t vectors = (task.vectors - first + passes - 1) / passes;
        (task.accumulate ? vectors_kernel<true>(vectors) : vectors_kernel<false>(vectors))(task, first);
        first += vectors;
    }
}

std::int64_t count_live(std::int64_t count, const std::int8_t* values) {
    std::int64_t zeros = 0;
    std::int64_t i = 0;
    while (i + 16 <= count) {
        // Bytes count up to 255 zeros before they are added up.
        const std::int64_t rest = (count - i) / 16;
        __m128i counts = _mm_setzero_si128();
        for (const std::int64_t end = i + 16 * (rest < 255 ? rest : 255); i < end; i += 16) {
            const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + i));
            counts = _mm_sub_epi8(counts, _mm_cmpeq_epi8(some, _mm_setzero_si128()));
        }
        const __m128i sums = _mm_sad_epu8(counts, _mm_setzero_si128());
        zeros += _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4);
    }
    for (; i < count; ++i)
        zeros += values[i] == 0;
    return count - zeros;
}

/// Makes the number of live values even. Without a branch: the processor could not predict it.
std::int64_t fill_up(std::int64_t live, std::int32_t offset, std::int32_t* live_offsets, std::int16_t* live_values) {
    live_offsets[live] = offset;
    live_values[live] = 0;
    return live + live % 2;
}

#if defined(__AVX2__)
/// For each mask of eight bits, the places of its ones, lowest first, in a byte each.
struct Places {
    std::uint64_t of[256];
};

constexpr Places list_places() {
    Places places{};
    for (int mask = 0; mask < 256; ++mask)
        for (int bit = 7; bit >= 0; --bit)
            if ((mask >> bit & 1) != 0)
                places.of[mask] = places.of[mask] << 8 | static_cast<std::uint64_t>(bit);
    return places;
}

constexpr Places kPlaces = list_places();

/// Moves the live ones of eight values, and their offsets, to the front.
std::int64_t list_eight(__m128i values, const std::int32_t* offsets, std::int32_t* live_offsets,
                        std::int16_t* live_values) {
    const int zeros = _mm_movemask_epi8(_mm_cmpeq_epi8(values, _mm_setzero_si128())) & 255;
    const int mask = 255 - zeros;
    const __m128i places = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(&kPlaces.of[mask]));
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offsets));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(live_offsets),
                        _mm256_permutevar8x32_epi32(some, _mm256_cvtepu8_epi32(places)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(live_values), _mm_cvtepi8_epi16(_mm_shuffle_epi8(values, places)));
    return __builtin_popcount(static_cast<unsigned>(mask));
}

std::int64_t list_live(std::int64_t count, const std::int8_t* values, const std::int32_t* offsets,
                       std::int32_t* live_offsets, std::int16_t* live_values) {
    std::int64_t live = 0;
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        live += list_eight(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(values + i)), offsets + i,
                           live_offsets + live, live_values + live);
    if (i < count) {
        std::int64_t rest = 0;
        __builtin_memcpy(&rest, values + i, static_cast<std::size_t>(count - i));
        live += list_eight(_mm_cvtsi64_si128(rest), offsets + i, live_offsets + live, live_values + live);
    }
    return fill_up(live, offsets[0], live_offsets, live_values);
}
#else
std::int64_t list_live(std::int64_t count, const std::int8_t* values, const std::int32_t* offsets,
                       std::int32_t* live_offsets, std::int16_t* live_values) {
    std::int64_t live = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        live_offsets[live] = offsets[i];
        live_values[live] = values[i];
        live += values[i] != 0;
    }
    return fill_up(live, offsets[0], live_offsets, live_values);
}
#endif

void list_rows(std::int64_t rows, std::int64_t columns, const std::int8_t* values, const std::int32_t* offsets,
               std::int32_t* live_offsets, std::int16_t* live_values, LiveList* lists) {
    std::int64_t begin = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t count =
            list_live(columns, values + row * columns, offsets, live_offsets + begin, live_values + begin);
        lists[row].begin = static_cast<std::int32_t>(begin);
        lists[row].count = static_cast<std::int32_t>(count);
        begin += count;
    }
}

/// Eight rows of eight values; rows beyond the last are zeros.
void transpose_block(std::int64_t rows, std::int64_t from_pitch, const std::int8_t* from, std::int64_t to_pitch,
                     std::int8_t* to) {
    __m128i row[8];
    for (int r = 0; r < 8; ++r)
        row[r] =
            r < rows ? _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + r * from_pitch)) : _mm_setzero_si128();
    const __m128i rows_01 = _mm_unpacklo_epi8(row[0], row[1]);
    const __m128i rows_23 = _mm_unpacklo_epi8(row[2], row[3]);
    const __m128i rows_45 = _mm_unpacklo_epi8(row[4], row[5]);
    const __m128i rows_67 = _mm_unpacklo_epi8(row[6], row[7]);
    const __m128i low_0123 = _mm_unpacklo_epi16(rows_01, rows_23);
    const __m128i high_0123 = _mm_unpackhi_epi16(rows_01, rows_23);
    const __m128i low_4567 = _mm_unpacklo_epi16(rows_45, rows_67);
    const __m128i high_4567 = _mm_unpackhi_epi16(rows_45, rows_67);
    const __m128i columns[4] = {_mm_unpacklo_epi32(low_0123, low_4567), _mm_unpackhi_epi32(low_0123, low_4567),
                                _mm_unpacklo_epi32(high_0123, high_4567), _mm_unpackhi_epi32(high_0123, high_4567)};
    for (int c = 0; c < 4; ++c, to += 2 * to_pitch) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to), columns[c]);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + to_pitch), _mm_unpackhi_epi64(columns[c], columns[c]));
    }
}

void transpose(std::int64_t rows, std::int64_t columns, const std::int8_t* from, std::int8_t* to) {
    const std::int64_t pitch = (rows + 7) / 8 * 8;
    for (std::int64_t r = 0; r < rows; r += 8)
        for (std::int64_t c = 0; c < columns; c += 8)
            if (r + 8 <= rows)
                transpose_block(8, columns, from + r * columns + c, pitch, to + c * pitch + r);
            else
                transpose_block(rows - r, columns, from + r * columns + c, pitch, to + c * pitch + r);
}

void pack(std::int64_t count, const std::int8_t* from, std::int64_t stride, std::int16_t* to) {
    for (std::int64_t begin = 0; begin < count; begin += kWidth)
        for (std::int64_t i = 0; i < kWidth; ++i) {
            const std::int64_t place = begin + place_of_sum(i);
            to[begin + i] = place < count ? from[place * stride] : std::int16_t{0};
        }
}

/// Four values of four channels.
void add_block(const std::int32_t* sums, std::int64_t pitch, std::int64_t count, std::int64_t channels,
               std::int32_t* dw) {
    const auto load = [](const std::int32_t* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); };
    __m128i values[4] = {load(sums), load(sums + pitch), load(sums + 2 * pitch), load(sums + 3 * pitch)};
    detail::transpose(values);
    for (int i = 0; i < 4 && i < count; ++i)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(dw + i * channels),
                         _mm_add_epi32(load(dw + i * channels), values[i]));
}

void add_transposed(std::int64_t count, std::int64_t channels, const std::int32_t* sums, std::int64_t pitch,
                    std::int32_t* dw) {
    for (std::int64_t i = 0; i < count; i += 4) {
        const std::int64_t place = i / kWidth * kWidth + place_of_sum(i % kWidth);
        for (std::int64_t channel = 0; channel < channels; channel += 4)
            add_block(sums + channel * pitch + place, pitch, count - i, channels, dw + i * channels + channel);
    }
}

}  // namespace

const IntegerLiveKernels DITHER_LIVE_KERNELS{
    kWidth, count_live, list_rows, sum, transpose, pack, add_transposed,
};
#else
const IntegerLiveKernels DITHER_LIVE_KERNELS{};
#endif

}  // namespace dither::detail
