#include "core/detail/philox.hpp"

#include <Random123/philox.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define DITHER_X86_PHILOX
#include <immintrin.h>
#endif

namespace dither::detail {
namespace {

constexpr std::size_t kRounds = 10;

/// Random123, in a loop that compilers vectorize where they can.
void fill_portable(const PhiloxKey& key, const PhiloxCounter& first, std::span<std::uint32_t> out) {
    constexpr std::uint32_t kLanes = 8;
    std::uint32_t words[4][kLanes];
    std::uint32_t run[4 * kLanes];
    std::uint32_t index = first[0];
    for (std::size_t done = 0; done < out.size(); done += 4 * kLanes, index += kLanes) {
        for (std::uint32_t i = 0; i < kLanes; ++i) {
            const philox4x32_ctr_t counter{{index + i, first[1], first[2], first[3]}};
            const philox4x32_ctr_t block = philox4x32_R(kRounds, counter, philox4x32_key_t{{key[0], key[1]}});
            for (std::size_t k = 0; k < 4; ++k)
                words[k][i] = block.v[k];
        }
        for (std::size_t i = 0; i < kLanes; ++i)
            for (std::size_t k = 0; k < 4; ++k)
                run[4 * i + k] = words[k][i];
        std::copy_n(run, std::min(std::size_t{4 * kLanes}, out.size() - done), out.data() + done);
    }
}

#ifdef DITHER_X86_PHILOX

struct Width128 {
    using Words [[gnu::vector_size(16)]] = std::uint64_t;
    using Halves [[gnu::vector_size(16)]] = std::uint32_t;
};
struct Width256 {
    using Words [[gnu::vector_size(32)]] = std::uint64_t;
    using Halves [[gnu::vector_size(32)]] = std::uint32_t;
};
struct Width512 {
    using Words [[gnu::vector_size(64)]] = std::uint64_t;
    using Halves [[gnu::vector_size(64)]] = std::uint32_t;
};

// The 64-bit products of the elements' lower halves; the upper halves are ignored. (Vectors go by reference: functions
// that are not compiled for their instruction set can neither take nor return them.)
inline void multiply(const Width128::Words& a, const Width128::Words& b, Width128::Words& product) {
    product =
        reinterpret_cast<Width128::Words>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
}
[[gnu::target("avx2")]] inline void multiply(const Width256::Words& a, const Width256::Words& b,
                                             Width256::Words& product) {
    product =
        reinterpret_cast<Width256::Words>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
[[gnu::target("avx512f")]] inline void multiply(const Width512::Words& a, const Width512::Words& b,
                                                Width512::Words& product) {
    // Masked by ones: GCC 12 warns of the plain form.
    product = reinterpret_cast<Width512::Words>(
        _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}

/// Blocks side by side, one in each element. A word is the lower half of its element, and what is left in the upper
/// half does not matter before the last round: so a product's lower word needs no work, and its upper word one shift.
template <typename Width>
struct Blocks {
    using Vector = typename Width::Words;
    static constexpr std::size_t kLanes = sizeof(Vector) / sizeof(std::uint64_t);
    static constexpr std::size_t kWords = 4 * kLanes;
    static constexpr std::make_index_sequence<kLanes> kElements{};
    static constexpr std::make_index_sequence<2 * kLanes> kHalves{};

    Vector words[4];

    /// Numbers the blocks from `first`, in the order of elements that store() undoes: 0, kLanes / 2, 1, ...
    template <std::size_t... E>
    [[gnu::always_inline]] static void number(Vector& index, std::uint64_t first, std::index_sequence<E...>) {
        index = Vector{(E / 2 + E % 2 * (kLanes / 2))...} + first;
    }

    [[gnu::always_inline]] void round(const Vector (&key)[2]) {
        Vector product0, product1;
        multiply(words[0], Vector{} + PHILOX_M4x32_0, product0);
        multiply(words[2], Vector{} + PHILOX_M4x32_1, product1);
        words[0] = (product1 >> 32) ^ (words[1] ^ key[0]);
        words[1] = product1;
        words[2] = (product0 >> 32) ^ (words[3] ^ key[1]);
        words[3] = product0;
    }

    /// The last round, which leaves words 0 and 1 in the halves of words[0], and words 2 and 3 in those of words[2].
    template <std::size_t... H>
    [[gnu::always_inline]] void last_round(const Vector (&key)[2], std::index_sequence<H...>) {
        using Halves = typename Width::Halves;
        Vector product0, product1;
        multiply(words[0], Vector{} + PHILOX_M4x32_0, product0);
        multiply(words[2], Vector{} + PHILOX_M4x32_1, product1);
        const Halves swap{(H ^ 1)...};
        words[0] = reinterpret_cast<Vector>(__builtin_shuffle(reinterpret_cast<Halves>(product1), swap)) ^
                   ((words[1] ^ key[0]) & 0xffffffff);
        words[2] = reinterpret_cast<Vector>(__builtin_shuffle(reinterpret_cast<Halves>(product0), swap)) ^
                   ((words[3] ^ key[1]) & 0xffffffff);
    }

    template <std::size_t... E>
    [[gnu::always_inline]] void store(std::uint32_t* out, std::index_sequence<E...>) const {
        const Vector even = __builtin_shuffle(words[0], words[2], Vector{(E % 2 == 0 ? E : kLanes + E - 1)...});
        const Vector odd = __builtin_shuffle(words[0], words[2], Vector{(E % 2 == 0 ? E + 1 : kLanes + E)...});
        std::memcpy(out, &even, sizeof even);
        std::memcpy(out + kWords / 2, &odd, sizeof odd);
    }
};

/// Vectors of blocks in flight at once: a round's latency is several times its cost.
constexpr std::size_t kInFlight = 2;

/// Words 1 to 3 of the counter are the same in all blocks, and with them half of the first two rounds: the compiler
/// takes that half out of the loop over blocks.
template <typename Width, typename Vector = typename Width::Words>
[[gnu::always_inline]] inline void make_blocks(const Vector (&index)[kInFlight], const PhiloxCounter& first,
                                               const Vector (&keys)[kRounds][2], std::uint32_t* out) {
    using Group = Blocks<Width>;
    Group groups[kInFlight];
    for (std::size_t g = 0; g < kInFlight; ++g)
        groups[g] = {{index[g], Vector{} + first[1], Vector{} + first[2], Vector{} + first[3]}};
#pragma GCC unroll 16
    for (std::size_t r = 0; r + 1 < kRounds; ++r)
        for (Group& group : groups)
            group.round(keys[r]);
    for (Group& group : groups)
        group.last_round(keys[kRounds - 1], Group::kHalves);
    for (std::size_t g = 0; g < kInFlight; ++g)
        groups[g].store(out + g * Group::kWords, Group::kElements);
}

template <typename Width>
[[gnu::always_inline]] inline void fill(const PhiloxKey& key, const PhiloxCounter& first,
                                        std::span<std::uint32_t> out) {
    using Vector = typename Width::Words;
    using Group = Blocks<Width>;
    constexpr std::size_t kStep = kInFlight * Group::kWords;
    Vector keys[kRounds][2];
    for (std::uint32_t r = 0; r < kRounds; ++r) {
        keys[r][0] = Vector{} + (key[0] + r * PHILOX_W32_0);
        keys[r][1] = Vector{} + (key[1] + r * PHILOX_W32_1);
    }
    Vector index[kInFlight];
    for (std::size_t g = 0; g < kInFlight; ++g)
        Group::number(index[g], first[0] + g * Group::kLanes, Group::kElements);
    std::size_t done = 0;
    for (; out.size() - done >= kStep; done += kStep) {
        make_blocks<Width>(index, first, keys, out.data() + done);
        for (Vector& i : index)
            i += kInFlight * Group::kLanes;
    }
    if (done < out.size()) {
        std::uint32_t rest[kStep];
        make_blocks<Width>(index, first, keys, rest);
        std::memcpy(out.data() + done, rest, (out.size() - done) * sizeof(std::uint32_t));
    }
}

void fill_sse2(const PhiloxKey& key, const PhiloxCounter& first, std::span<std::uint32_t> out) {
    fill<Width128>(key, first, out);
}
[[gnu::target("avx2")]] void fill_avx2(const PhiloxKey& key, const PhiloxCounter& first, std::span<std::uint32_t> out) {
    fill<Width256>(key, first, out);
}
[[gnu::target("avx512f")]] void fill_avx512(const PhiloxKey& key, const PhiloxCounter& first,
                                            std::span<std::uint32_t> out) {
    fill<Width512>(key, first, out);
}

constexpr std::array kKernels{PhiloxKernel{"portable", fill_portable}, PhiloxKernel{"SSE2", fill_sse2},
                              PhiloxKernel{"AVX2", fill_avx2}, PhiloxKernel{"AVX-512", fill_avx512}};

std::size_t count_usable() {
    if (__builtin_cpu_supports("avx512f"))
        return 4;
    return __builtin_cpu_supports("avx2") ? 3 : 2;
}

#else

constexpr std::array kKernels{PhiloxKernel{"portable", fill_portable}};

std::size_t count_usable() {
    return kKernels.size();
}

#endif

}  // namespace

std::span<const PhiloxKernel> usable_philox_kernels() {
    static const std::size_t usable = count_usable();
    return std::span(kKernels).first(usable);
}

void fill_philox(const PhiloxKey& key, const PhiloxCounter& first, std::span<std::uint32_t> out) {
    usable_philox_kernels().back().fill(key, first, out);
}

}  // namespace dither::detail
