// What is left of a trained model for inference: weights as packed codes of few bits, the scales that give codes their
// values, and the few fp32 constants that the layers between the products need (prepare, train, convert: Jacob et al.,
// "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018).
//
// A converted model says the same as Model::forward under the plan and with the ranges that it was converted with, bit
// for bit (core/inference/integer_network.hpp). Its file is as large as its bits; core/inference/README.md has every
// byte.
#pragma once

#include "core/compute/backend.hpp"
#include "core/data/dataset.hpp"
#include "core/tensor.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace dither {

class Model;
struct PrecisionPlan;

/// Activations as unsigned codes: x~ = scale * (code - zero_point), where
/// code = clamp(round(x / scale) + zero_point, lowest, 2^bits - 1), ties to even.
struct ActivationGrid {
    float scale = 1;
    int bits = 8;                 ///< 2 .. 8
    std::int32_t zero_point = 0;  ///< lowest .. 2^bits - 1
    std::int32_t lowest = 0;      ///< 0, or 1 where the codes are symmetric around 2^(bits - 1)

    std::int32_t highest() const { return (1 << bits) - 1; }
    bool operator==(const ActivationGrid&) const = default;
};

/// y = (sum over x~ * w~) + bias: a convolution, or a linear layer as the 1x1 convolution of a 1x1 image, which takes
/// an image as flat features. w~ = scale[channel] * code, codes of `bits` bits in -(2^(bits-1) - 1) .. 2^(bits-1) - 1.
struct ProductOperation {
    std::string name;     ///< of the layer in the schema: "conv1", "fc2"
    bool linear = false;  ///< gives features, not an image
    ConvGeometry geometry;
    int bits = 8;                       ///< of a weight, 2 .. 8
    std::vector<std::uint8_t> weights;  ///< packed codes (pack_codes), [kernel, kernel, in / groups, out]
    std::vector<float> scales;          ///< [out channels]
    std::vector<float> bias;            ///< [out channels]; empty: none
    ActivationGrid grid;                ///< of x

    std::size_t weight_count() const;
    bool operator==(const ProductOperation&) const = default;
};

/// Batch norm with its statistics folded in: y = (x - mean) * scale + shift, each rounded to fp32, by channel.
struct AffineOperation {
    std::string name;
    std::vector<float> mean;
    std::vector<float> scale;
    std::vector<float> shift;

    bool operator==(const AffineOperation&) const = default;
};

/// y = min(max(x, low), high): ReLU is 0 and infinity.
struct ClampOperation {
    float low = 0;
    float high = 0;

    bool operator==(const ClampOperation&) const = default;
};

struct TanhOperation {
    bool operator==(const TanhOperation&) const = default;
};

/// Pools as in core/layers/pool.hpp.
struct PoolOperation {
    bool mean = false;  ///< else the maximum
    std::int64_t kernel_height = 2;
    std::int64_t kernel_width = 2;
    std::int64_t stride = 2;
    std::int64_t padding = 0;
    bool flat = false;  ///< one window; the result is features: the global pool

    bool operator==(const PoolOperation&) const = default;
};

/// y = x + another value: a residual block.
struct AddOperation {
    std::uint32_t other = 0;  ///< a value, as Step::input

    bool operator==(const AddOperation&) const = default;
};

using Operation =
    std::variant<ProductOperation, AffineOperation, ClampOperation, TanhOperation, PoolOperation, AddOperation>;

/// Value 0 is the sample; step i makes value i + 1 of an earlier one. The last value is the output.
struct Step {
    std::uint32_t input = 0;
    Operation operation;

    bool operator==(const Step&) const = default;
};

/// Of a model.
inline constexpr std::size_t kMaxSteps = 1 << 16;

/// A plain value; copyable.
struct IntegerModel {
    std::string name;                     ///< of the model; free text
    std::string quantization;             ///< in words, for people: "W8A8"
    Shape sample;                         ///< one item, batch extent 1
    int outputs = 0;                      ///< classes, or regression outputs
    std::vector<ChannelScaling> scaling;  ///< what makes a pixel an input, by channel or one for all; empty: unknown
    std::vector<Step> steps;              ///< in the order of execution, 1 .. kMaxSteps

    std::size_t weight_count() const;  ///< of all products
    std::size_t weight_bits() const;   ///< that they take: the sum of count * bits
    double macs() const;               ///< multiply-accumulates of one sample
    bool operator==(const IntegerModel&) const = default;
};

/// Converts a model whose ranges are known: after calibrate(), or, with learned ranges, after any quantized pass.
/// Learns nothing. Whether activations have negative values, by which the observer lsq chooses its codes, is what the
/// last pass saw. Not between a forward pass and its backward pass. The caller may set name and scaling of the result.
/// Throws InputError that names layer and reason where there is no integer form: forward bits other than 2 .. 8 or of a
/// float format, affine or per_sample or per_group weights, per_channel or per_sample or per_group activations,
/// stochastic rounding, ranges that nobody learnt, batch norm with statistics of the batch, group norm.
IntegerModel convert(Model& model, const PrecisionPlan& plan);

/// The shape of every value, one item, batch extent 1: [0] is the sample's. Throws FormatError where a step does not
/// fit its input or holds what it must not; a model that passes can be run.
std::vector<Shape> check(const IntegerModel& model);

/// The file, little-endian: core/inference/README.md. Throws FormatError as check() does.
std::vector<std::byte> serialize(const IntegerModel& model);
/// Throws FormatError that says what is wrong on anything but what serialize() writes.
IntegerModel deserialize_integer_model(std::span<const std::byte> bytes);

/// Signed codes of `bits` bits, one after the other from the lowest bit of the first byte, in two's complement.
std::vector<std::uint8_t> pack_codes(std::span<const std::int8_t> codes, int bits);
/// The inverse; `packed` has ceil(codes.size() * bits / 8) bytes.
void unpack_codes(std::span<const std::uint8_t> packed, int bits, std::span<std::int8_t> codes);

}  // namespace dither
