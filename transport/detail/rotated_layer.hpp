// What codecs that quantize after a rotation share: the way of a layer, or of a part of one, into the frame in which
// its coordinates look Gaussian, and back, without bias.
//
//     z = R x,   q = what is sent of z,   S = ||x||^2 / <z, q>,   x^ = S R^-1 q
//
// <x^, x> = ||x||^2 whatever q is, and what is left of x^ has no preferred direction over the draws of R: E[x^] = x
// (Vargaftik et al., "EDEN: communication-efficient and robust distributed mean estimation", ICML 2022).
#pragma once

#include "core/model/schema.hpp"
#include "core/rng.hpp"
#include "transport/rotation.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace dither {
struct CodecOptions;
}

namespace dither::detail {

inline constexpr double kDefaultRate = 1;
inline constexpr double kHighestRate = 8;

/// Layers of fewer values are sent as they are, fp32: a rotation of so few has too few directions to be unbiased.
inline constexpr std::size_t kFewestRotated = 32;

/// Appends the values of such a layer.
void append_as_is(std::span<const float> values, std::vector<std::byte>& out);
/// Reads them back; there are 4 bytes a value.
void load_as_is(std::span<const std::byte> bytes, std::span<float> values);

/// Bits a coordinate that the options ask for. Throws InputError that names the codec unless 0 < rate <= kHighestRate,
/// or 0, which is kDefaultRate.
double rotated_rate(const CodecOptions& options, std::string_view codec);

/// Values after their rotation. Borrows from the frame that made it.
struct RotatedLayer {
    std::span<float> z;
    float gain = 0;           ///< gain * z has mean square 1; 0: they are all zeros
    double squared_norm = 0;  ///< of z
    int exponent = 0;         ///< x = 2^exponent R^-1 z: huge and tiny values neither overflow nor vanish
};

/// The size of the largest layer.
std::size_t largest_layer(const Schema& schema);

/// Memory for the values of a layer and the rotations of one payload, of which each has a lane of the key. Not
/// thread-safe; make one a payload.
class RotationFrame {
public:
    RotationFrame(std::size_t most_values, const StreamKey& key);

    /// x: finite.
    RotatedLayer rotate(std::span<const float> x, std::uint32_t lane);
    /// Memory for q; what was rotated before is overwritten.
    std::span<float> codes(std::size_t count) { return std::span(values_).first(count); }
    /// q <- scale * R^-1 q, for q that codes() gave.
    void restore(std::span<float> q, std::uint32_t lane, float scale);

private:
    Rotation rotation(std::size_t count, std::uint32_t lane) const;
    std::span<float> scratch(std::size_t count);

    StreamKey key_;
    std::vector<float> values_;
    std::vector<float> scratch_;  ///< made when a rotation needs it
};

struct SentProducts {
    double with_values = 0;   ///< <gain * z, q>
    double squared_norm = 0;  ///< of q
};

/// S, for with_values > 0. Throws TrainingError where S or ||x^|| is above 2^127, so that any x^ is finite in fp32; S
/// may be 0 for the tiniest values.
float unbiased_scale(const RotatedLayer& layer, const SentProducts& products);

}  // namespace dither::detail
