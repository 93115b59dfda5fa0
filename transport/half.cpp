// fp32 and fp16 differ in the bias of the exponent, 127 and 15, and in 13 bits of mantissa. The subnormal numbers of
// fp16 are the multiples of 2^-24 below 2^-14, which are normal in fp32. The loops have no branches, so that they
// vectorize, and no arithmetic on subnormal numbers of fp32, which is slow.
#include "transport/detail/half.hpp"

#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace dither::detail {
namespace {

constexpr std::size_t kChunk = 4096;
constexpr std::uint32_t kMagnitude = 0x7fffffffU;
constexpr std::uint32_t kInfinity = 0x7f800000U;
constexpr std::uint32_t kBias = (127U - 15U) << 23;
constexpr std::uint32_t kSmallestNormal = (127U - 14U) << 23;  // 2^-14, of fp16
constexpr std::uint32_t kFp16Normal = 0x0400U;
constexpr std::uint32_t kFp16Infinity = 0x7c00U;

DITHER_CLONES void bf16_bits(const float* values, std::size_t count, std::uint16_t* halves) {
    for (std::size_t i = 0; i < count; ++i)
        halves[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(values[i]) >> 16);
}

DITHER_CLONES void fp16_bits(const float* values, std::size_t count, std::uint16_t* halves) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(values[i]);
        const std::uint32_t magnitude = bits & kMagnitude;
        const std::uint32_t normal = (magnitude - kBias) >> 13;
        const std::uint32_t low = magnitude < kSmallestNormal ? magnitude : 0;
        const auto subnormal = static_cast<std::int32_t>(std::bit_cast<float>(low) * 0x1p24F);
        const std::uint32_t half = magnitude < kSmallestNormal ? static_cast<std::uint32_t>(subnormal) : normal;
        halves[i] = static_cast<std::uint16_t>((bits >> 16 & 0x8000U) | half);
    }
}

DITHER_CLONES void bf16_values(const std::uint16_t* halves, std::size_t count, float* values) {
    for (std::size_t i = 0; i < count; ++i)
        values[i] = std::bit_cast<float>(std::uint32_t{halves[i]} << 16);
}

DITHER_CLONES void fp16_values(const std::uint16_t* halves, std::size_t count, float* values) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t half = halves[i];
        const std::uint32_t magnitude = half & 0x7fffU;
        // Under the exponent of 2^-14 a subnormal number has a leading 1 too many.
        const std::uint32_t is_low = magnitude < kFp16Normal ? 1 : 0;
        const std::uint32_t bits = (magnitude << 13) + kBias + (is_low << 23);
        const float value =
            std::bit_cast<float>(bits) - static_cast<float>(static_cast<std::int32_t>(is_low)) * 0x1p-14F;
        const std::uint32_t beyond = magnitude < kFp16Infinity ? 0 : kInfinity;
        values[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | beyond | (half & 0x8000U) << 16);
    }
}

void append_chunk(std::span<const float> values, FloatFormat format, std::byte* out) {
    std::array<float, kChunk> rounded;
    std::array<std::uint16_t, kChunk> halves;
    if (round_nearest(values, std::span(rounded).first(values.size()), format) > 0)
        throw TrainingError(
            fmt::format("a value is beyond {}, the largest of its 16-bit format", limits_of(format).largest));
    (format == FloatFormat::bf16 ? bf16_bits : fp16_bits)(rounded.data(), values.size(), halves.data());
    for (std::size_t i = 0; i < values.size(); ++i)
        store_little(halves[i], out + kHalfBytes * i);
}

}  // namespace

void append_halves(std::span<const float> values, FloatFormat format, std::vector<std::byte>& out) {
    const std::size_t begin = out.size();
    out.resize(begin + kHalfBytes * values.size());
    for (std::size_t done = 0; done < values.size(); done += kChunk)
        append_chunk(values.subspan(done, std::min(kChunk, values.size() - done)), format,
                     out.data() + begin + kHalfBytes * done);
}

void load_halves(const std::byte* bytes, FloatFormat format, std::span<float> values) {
    std::array<std::uint16_t, kChunk> halves;
    for (std::size_t done = 0; done < values.size(); done += kChunk) {
        const std::size_t count = std::min(kChunk, values.size() - done);
        for (std::size_t i = 0; i < count; ++i)
            halves[i] = load_little<std::uint16_t>(bytes + kHalfBytes * (done + i));
        (format == FloatFormat::bf16 ? bf16_values : fp16_values)(halves.data(), count, values.data() + done);
    }
}

}  // namespace dither::detail
