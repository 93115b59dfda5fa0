// The vector arithmetic of integer products. Included by the sources that are compiled once for each instruction set,
// and by nothing else: all of it is private to the source.
//
// Most units multiply 16-bit integers and add neighbouring products in 32 bits, exactly: codes of 8 bits less their
// zero point need 9. (The 8-bit multiply of AVX2 saturates.) VNNI multiplies unsigned by signed bytes exactly, twice as
// many at a time: with DITHER_BYTE_OPERANDS rows are codes as they are, and what they exceed their meaning by is
// subtracted from the sums.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace dither::detail {
namespace {

/// Modulo 2^32, as the units add: sums of IntegerWinograd wrap around.
[[maybe_unused]] inline std::int32_t wrapping_sum(std::int32_t a, std::int32_t b) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}

/// The sums of any processor; the compiler turns the loops into the vector instructions that it knows.
template <int Lanes>
struct PortableSums {
    static constexpr int kLanes = Lanes;
    struct Sums {
        std::int32_t lane[kLanes];
    };

    static Sums zero() { return {}; }
    static Sums load_sums(const std::int32_t* from) {
        Sums loaded;
        __builtin_memcpy(&loaded, from, sizeof loaded);
        return loaded;
    }
    static void store(std::int32_t* to, Sums sums) { __builtin_memcpy(to, &sums, sizeof sums); }
};

#if defined(__SSE2__)
/// A 4x4 transposition of 32-bit elements.
[[maybe_unused]] inline void transpose(__m128i (&rows)[4]) {
    const __m128i ab_low = _mm_unpacklo_epi32(rows[0], rows[1]);
    const __m128i cd_low = _mm_unpacklo_epi32(rows[2], rows[3]);
    const __m128i ab_high = _mm_unpackhi_epi32(rows[0], rows[1]);
    const __m128i cd_high = _mm_unpackhi_epi32(rows[2], rows[3]);
    rows[0] = _mm_unpacklo_epi64(ab_low, cd_low);
    rows[1] = _mm_unpackhi_epi64(ab_low, cd_low);
    rows[2] = _mm_unpacklo_epi64(ab_high, cd_high);
    rows[3] = _mm_unpackhi_epi64(ab_high, cd_high);
}
#endif

/// What a processor offers: a vector of 32-bit sums, a vector of operands with kGroup values for each sum, and
/// dot(sum, a, b) = sum + a * b, added up within each group, where a is of rows and b is packed. A tile of kRows rows
/// and two vectors fits its registers.
#if defined(DITHER_BYTE_OPERANDS) && defined(__AVX512VNNI__)
struct Arithmetic {
    using Row = std::uint8_t;
    using Packed = std::int8_t;
    using Sums = __m512i;
    using Operands = __m512i;
    static constexpr int kLanes = 16;
    static constexpr int kGroup = 4;
    static constexpr int kRows = 8;

    static Sums zero() { return _mm512_setzero_si512(); }
    static Operands load(const void* from) { return _mm512_loadu_si512(from); }
    static Operands broadcast(const std::uint8_t* from) {
        std::int32_t group;
        __builtin_memcpy(&group, from, sizeof group);
        return _mm512_set1_epi32(group);
    }
    static Sums dot(Sums sum, Operands a, Operands b) { return _mm512_dpbusd_epi32(sum, a, b); }
    static Sums load_sums(const std::int32_t* from) { return _mm512_loadu_si512(from); }
    static Sums subtract_product(Sums sum, Sums a, std::int32_t b) {
        return _mm512_sub_epi32(sum, _mm512_mullo_epi32(a, _mm512_set1_epi32(b)));
    }
    static void store(std::int32_t* to, Sums sums) { _mm512_storeu_si512(to, sums); }
};
#elif defined(DITHER_BYTE_OPERANDS)
/// For any processor, so that tests of byte operands need none in particular; nothing is gained by it.
struct Arithmetic : PortableSums<8> {
    using Row = std::uint8_t;
    using Packed = std::int8_t;
    static constexpr int kGroup = 4;
    static constexpr int kRows = 4;
    struct Operands {
        std::uint8_t byte[kLanes * kGroup];
    };

    static Operands load(const void* from) {
        Operands loaded;
        __builtin_memcpy(&loaded, from, sizeof loaded);
        return loaded;
    }
    static Operands broadcast(const std::uint8_t* from) {
        Operands groups;
        for (int i = 0; i < kLanes; ++i)
            __builtin_memcpy(groups.byte + i * kGroup, from, kGroup);
        return groups;
    }
    static Sums dot(Sums sum, Operands a, Operands b) {
        for (int i = 0; i < kLanes * kGroup; ++i)
            sum.lane[i / kGroup] = wrapping_sum(sum.lane[i / kGroup], a.byte[i] * static_cast<std::int8_t>(b.byte[i]));
        return sum;
    }
    static Sums subtract_product(Sums sum, Sums a, std::int32_t b) {
        for (int i = 0; i < kLanes; ++i)
            sum.lane[i] =
                static_cast<std::int32_t>(static_cast<std::uint32_t>(sum.lane[i]) -
                                          static_cast<std::uint32_t>(a.lane[i]) * static_cast<std::uint32_t>(b));
        return sum;
    }
};
#elif defined(__AVX512BW__)
struct Arithmetic {
    using Row = std::int16_t;
    using Packed = std::int16_t;
    using Sums = __m512i;
    using Operands = __m512i;
    static constexpr int kLanes = 16;
    static constexpr int kGroup = 2;
    static constexpr int kRows = 8;

    static Sums zero() { return _mm512_setzero_si512(); }
    static Operands load(const std::int16_t* from) { return _mm512_loadu_si512(from); }
    static Operands broadcast(const std::int16_t* from) {
        std::int32_t group;
        __builtin_memcpy(&group, from, sizeof group);
        return _mm512_set1_epi32(group);
    }
    static Sums dot(Sums sum, Operands a, Operands b) {
#if defined(__AVX512VNNI__)
        return _mm512_dpwssd_epi32(sum, a, b);
#else
        return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
#endif
    }
    /// The values of two operands in groups: half of each eight, then the other half.
    static Operands pair_low(Operands a, Operands b) {
        return _mm512_unpacklo_epi16(a, b);
    }
    static Operands pair_high(Operands a, Operands b) {
        return _mm512_unpackhi_epi16(a, b);
    }
    static Sums load_sums(const std::int32_t* from) {
        return _mm512_loadu_si512(from);
    }
    static Sums add(Sums a, Sums b) {
        return _mm512_add_epi32(a, b);
    }
    static void store(std::int32_t* to, Sums sums) {
        _mm512_storeu_si512(to, sums);
    }
};
#elif defined(__AVX2__)
struct Arithmetic {
    using Row = std::int16_t;
    using Packed = std::int16_t;
    using Sums = __m256i;
    using Operands = __m256i;
    static constexpr int kLanes = 8;
    static constexpr int kGroup = 2;
    static constexpr int kRows = 6;

    static Sums zero() { return _mm256_setzero_si256(); }
    static Operands load(const std::int16_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    static Operands broadcast(const std::int16_t* from) {
        std::int32_t group;
        __builtin_memcpy(&group, from, sizeof group);
        return _mm256_set1_epi32(group);
    }
    static Sums dot(Sums sum, Operands a, Operands b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
    static Operands pair_low(Operands a, Operands b) { return _mm256_unpacklo_epi16(a, b); }
    static Operands pair_high(Operands a, Operands b) { return _mm256_unpackhi_epi16(a, b); }
    static Sums load_sums(const std::int32_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    static Sums add(Sums a, Sums b) { return _mm256_add_epi32(a, b); }
    static void store(std::int32_t* to, Sums sums) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sums); }
};
#elif defined(__SSE2__)
struct Arithmetic {
    using Row = std::int16_t;
    using Packed = std::int16_t;
    using Sums = __m128i;
    using Operands = __m128i;
    static constexpr int kLanes = 4;
    static constexpr int kGroup = 2;
    static constexpr int kRows = 6;

    static Sums zero() { return _mm_setzero_si128(); }
    static Operands load(const std::int16_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
    static Operands broadcast(const std::int16_t* from) {
        std::int32_t group;
        __builtin_memcpy(&group, from, sizeof group);
        return _mm_set1_epi32(group);
    }
    static Sums dot(Sums sum, Operands a, Operands b) { return _mm_add_epi32(sum, _mm_madd_epi16(a, b)); }
    static Operands pair_low(Operands a, Operands b) { return _mm_unpacklo_epi16(a, b); }
    static Operands pair_high(Operands a, Operands b) { return _mm_unpackhi_epi16(a, b); }
    static Sums load_sums(const std::int32_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
    static Sums add(Sums a, Sums b) { return _mm_add_epi32(a, b); }
    static void store(std::int32_t* to, Sums sums) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), sums); }
};
#else
/// For any processor.
struct Arithmetic : PortableSums<4> {
    using Row = std::int16_t;
    using Packed = std::int16_t;
    static constexpr int kGroup = 1;
    static constexpr int kRows = 4;
    struct Operands {
        std::int16_t lane[kLanes];
    };

    static Operands load(const std::int16_t* from) {
        Operands loaded;
        __builtin_memcpy(&loaded, from, sizeof loaded);
        return loaded;
    }
    static Operands broadcast(const std::int16_t* from) { return {{*from, *from, *from, *from}}; }
    static Sums dot(Sums sum, Operands a, Operands b) {
        for (int i = 0; i < kLanes; ++i)
            sum.lane[i] = wrapping_sum(sum.lane[i], std::int32_t{a.lane[i]} * b.lane[i]);
        return sum;
    }
    static Sums add(Sums a, Sums b) {
        for (int i = 0; i < kLanes; ++i)
            a.lane[i] = wrapping_sum(a.lane[i], b.lane[i]);
        return a;
    }
};
#endif

}  // namespace
}  // namespace dither::detail
