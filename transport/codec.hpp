// Codecs: how a model or an update becomes bytes, and how the aggregator sums updates without turning them into floats.
//
// Every payload decodes in two ways: to values (a node that receives a model), and to integers times a unit (the
// aggregator). The unit of a layer is the same for all clients of a round, so integer sums are exact in any order.
//
// To add a codec: one file in transport/ and one line in make_codec.
#pragma once

#include "core/model/schema.hpp"
#include "core/rng.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace dither {

struct CodecOptions;
class Expectation;

/// The largest step of a grid: every code, below 2^31, times its step is finite.
inline constexpr float kLargestGridStep = 0x1p96F;

/// The step of each layer's grid: values are integer multiples of it. In (0, kLargestGridStep].
using GridSteps = std::span<const float>;

/// What both ends know of a payload before it is made; nothing of it travels in the payload. What a codec does not need
/// it ignores.
struct Terms {
    GridSteps steps{};                         ///< one a layer, for codecs that need steps
    StreamKey key{};                           ///< of the encoder's random numbers: the decoder draws the same ones
    const Expectation* expectation = nullptr;  ///< how large the values are likely to be; nullptr: not known
};

/// Takes one update's integers, chunk by chunk, in order.
class IntegerSink {
public:
    virtual ~IntegerSink() = default;
    /// values at flat positions offset .. offset + codes.size() - 1 of layer `layer` are codes * unit(layer).
    virtual void add(std::size_t layer, std::size_t offset, std::span<const std::int32_t> codes) = 0;
    virtual void add(std::size_t layer, std::size_t offset, std::span<const std::int64_t> codes) = 0;
};

/// Immutable after construction; may be shared by threads.
class Codec {
public:
    virtual ~Codec() = default;

    virtual std::string_view name() const = 0;
    /// Appends nothing but the payload to `out`, which is overwritten: at most 4 bytes a parameter and 64 a layer.
    /// Throws TrainingError if a value is not finite, or beyond what the codec can say (grid: 2^31 steps). Steps that
    /// are no grid are a defect of the caller.
    virtual void encode(std::span<const float> values, const Terms& terms, std::vector<std::byte>& out) const = 0;
    /// Throws FormatError unless terms.steps are a grid and `payload` is exactly a payload of this codec and schema on
    /// these terms; spends no memory that the payload asks for.
    virtual void decode(std::span<const std::byte> payload, const Terms& terms, std::span<float> values) const = 0;
    /// No |code| of a layer is above its entry of `largest` (one entry a layer), after the same checks as decode: what
    /// overflow is judged by before anything is added. Returns the squared norm of what the payload decodes to, the
    /// same on every machine.
    virtual double validate(std::span<const std::byte> payload, const Terms& terms,
                            std::span<std::uint64_t> largest) const = 0;
    /// Decodes a payload that has passed validate() into integers.
    virtual void accumulate(std::span<const std::byte> payload, const Terms& terms, IntegerSink& sink) const = 0;
    /// What one integer of layer `layer` is worth: the same for all payloads on these steps.
    virtual double unit(std::size_t layer, GridSteps steps) const = 0;
    /// True if steps matter: the controller then chooses them.
    virtual bool needs_steps() const = 0;
    /// True if E[decoded] is not the value: who encodes again and again keeps what was lost and adds it the next time
    /// (error feedback: Seide et al. 2014; Karimireddy et al. 2019).
    virtual bool is_biased() const = 0;
};

/// The kinds, with formulas and bytes: README.md, "Payloads". Unbiased are raw, grid, qsgd, terngrad, eden and trellis
/// (and fp16 and bf16 but for 2^-11 and 2^-9 of a value). Grids and trellis take fewer bits, or err less, with an
/// expectation; grid (coder "context"), eden and trellis decode with the encoder's key only. The schema
/// is borrowed. Throws InputError on an unknown kind, and on a rate that a kind does not have.
std::unique_ptr<Codec> make_codec(const CodecOptions& options, const Schema& schema);

/// Whether what `codec` loses is added to what it encodes next: options.feedback says so, or leaves it to the codec.
bool feeds_back(const CodecOptions& options, const Codec& codec);

}  // namespace dither
